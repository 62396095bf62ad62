"""How a run is ended from outside: by Ctrl-C, at a moment that leaves whole lines behind, or because nobody reads on."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

_held = False
_pending = False


class ReaderGone(Exception):
    """Whoever read our output has closed it: the run ends quietly."""


def install() -> None:
    """Let SIGINT raise KeyboardInterrupt, but not in the middle of a line that is `held`."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, _interrupt)


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


def _interrupt(signum: int, frame: FrameType | None) -> None:
    global _pending
    if _held and not _pending:
        _pending = True
        return
    raise KeyboardInterrupt
