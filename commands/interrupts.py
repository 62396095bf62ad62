"""How a run is ended from outside: by Ctrl-C and the like, at a moment that leaves whole lines behind, or because nobody reads on."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

_OTHERS = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]  # Windows has no SIGHUP
_held = False
_pending = False
_ended = signal.SIGINT


class ReaderGone(Exception):
    """Whoever read our output has closed it: the run ends quietly."""


def install() -> None:
    """Let SIGINT, SIGTERM and SIGHUP raise KeyboardInterrupt, but not in the middle of a line that is `held`. `nohup` stays in force."""
    global _ended, _pending
    _ended, _pending = signal.SIGINT, False
    if threading.current_thread() is not threading.main_thread():
        return
    signal.signal(signal.SIGINT, _interrupt)
    for signum in _OTHERS:
        if signal.getsignal(signum) is signal.SIG_DFL:
            signal.signal(signum, _interrupt)


@contextlib.contextmanager
def held() -> Iterator[None]:
    """Put Ctrl-C off until this block is done, and those around it that hold it too."""
    global _held, _pending
    before, _held = _held, True
    try:
        yield
    finally:
        _held = before
    if _pending and not before:
        _pending = False
        raise KeyboardInterrupt


def exit_code() -> int:
    """That of a run which was interrupted: 130 after Ctrl-C, 128 and the signal's number after another one."""
    return 128 + _ended


def _interrupt(signum: int, frame: FrameType | None) -> None:
    global _pending, _ended
    if signum != signal.SIGINT and _ended != signal.SIGINT:
        return
    _ended = signal.Signals(signum)
    if signum != signal.SIGINT:  # these come in pairs by themselves, and one says it all; a second Ctrl-C is a person's impatience
        for other in _OTHERS:
            signal.signal(other, signal.SIG_IGN)
    if _held and not _pending:
        _pending = True
        return
    _pending = False
    raise KeyboardInterrupt
