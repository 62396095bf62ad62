"""Going on with a run that was stopped: which items a file of records already holds."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .errors import ItemError, OutputError, UsageError
from .records import Item, Record, decode, encode

Note = Callable[[bytes, Record], None]
# What file systems answer that have no locks; NFS may have them for files that are open for writing alone.
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EINVAL, errno.ENOSYS, errno.EBADF)


@dataclass
class Held:
    """What a file holds.

    Attributes:
        counts: how many lines there are of each item, by `identity`.
        left: those of them that have not met their item yet.
        taken: how many have.
        model: name and revision of the model that wrote them; None where no line names one.
        prompts: what the command line asked for, as the first line that says it has it.
        options: what its other options were that decide the answers, as the first answer has them.
        files: artefacts that the lines name.
        goes_on: whether there is such a file, if only an empty one.
        written: when the last line was written, as `os.stat` has it; of an empty file, when it was made. Where a torn line came after it,
            when what it names was, and 0 where that is nothing: what is in the way of the torn line's item was made for it.
        identify: 16 bytes that tell items apart.
    """

    counts: Counter[bytes] = field(default_factory=Counter)
    left: Counter[bytes] = field(default_factory=Counter)
    taken: int = 0
    model: tuple[str, str] | None = None
    prompts: list[str] | None = None
    options: Record = field(default_factory=dict)
    files: set[str] = field(default_factory=set)
    goes_on: bool = False
    written: float = 0.0
    identify: Callable[[Record], bytes] = field(default_factory=lambda: identity)

    def skip(self, items: Iterable[Item[Any]]) -> Iterator[Item[Any]]:
        """Leave out as many of each item as the file holds: an input that comes twice is answered twice, before and after a stop."""
        return (item for item in items if not self.take(item.record))

    def has(self, record: Record) -> bool:
        """Whether there is a line of this item that has not met its item yet."""
        return self.left[self.identify(record)] > 0

    def met(self, record: Record) -> int:
        """How many lines of this item have met their item."""
        key = self.identify(record)
        return self.counts[key] - self.left[key]

    def take(self, record: Record) -> bool:
        """Whether there is one, and this is its item."""
        key = self.identify(record)
        found = self.left[key] > 0
        if found:
            self.left[key] -= 1
            self.taken += 1
        return found


def identity(record: Record) -> bytes:
    """16 bytes that tell items apart: path and frame, the text of a line that is no record, or else the whole line."""
    keys = ("path", "frame") if "path" in record else ("input",) if "input" in record else tuple(record)
    return fingerprint({key: record[key] for key in keys if key in record})


def fingerprint(about: Record) -> bytes:
    """16 bytes of what an item is known by."""
    return hashlib.blake2b(encode(about), digest_size=16).digest()


def read_held(file: Path, stage: str, identify: Callable[[Record], bytes] = identity, note: Note | None = None) -> Held:
    """Read what ``file`` holds of the stage named ``stage``, and cut off a torn last line, so that appending goes on at a line's start.

    A file that does not exist holds nothing. Nothing is cut before every whole line has been read as a record of this stage, so a file that
    was named by mistake is left as it is. ``identify`` is for commands whose items are not told apart by path and frame; ``note`` is told
    what each line is known by, and the line.

    Raises:
        UsageError: the file is not one that this stage wrote, or another run is writing to it.
        OutputError: the file cannot be read or repaired.
    """
    held = Held(identify=identify)
    whole = 0
    try:
        status = file.stat()
        if not stat.S_ISREG(status.st_mode):  # a pipe holds nothing, and a device like /dev/full would never end
            return held
        held.goes_on, held.written = True, status.st_mtime
        last = b""
        with file.open("rb") as lines:
            claim(lines.fileno(), file)  # until it is read
            for number, line in enumerate(lines, 1):
                if not line.endswith(b"\n"):
                    _check_torn(line, stage, file, first=not whole)
                    break
                _hold(held, line, stage, f"{file} line {number}", note)
                whole += len(line)
                last = line
        if file.stat().st_size > whole:
            os.truncate(file, whole)
            held.written = _when_made(last, stage)  # the torn line was begun after the files that it would have named
            os.utime(file, (status.st_atime, held.written))  # or it would be lost for a run after this one
    except FileNotFoundError:
        return held
    except OSError as error:
        raise OutputError(f"cannot resume from {file}: {error.strerror}; name a file that can be read and written") from error
    return held


def claim(descriptor: int, file: Path) -> None:
    """Keep other runs from writing to a file as long as it is open here: of two that go on with it each item would have two lines.

    Raises:
        UsageError: another run has it open.
    """
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise UsageError(f"another run is writing to {file}; wait until it ends, or name another file") from error
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise


def _hold(held: Held, line: bytes, stage: str, where: str, note: Note | None = None) -> None:
    try:
        record = decode(line)
    except ItemError as error:
        raise UsageError(f"{where} is no record ({error.message}); --resume takes the file of records that this command wrote") from error
    value = record.get(stage)
    if record.get("path", "-") != "-" or stage in record:  # others pass through the command as they are
        if not isinstance(value, dict):
            raise UsageError(f'{where} has no "{stage}"; --resume takes the file of records that this command wrote (see also --as)')
        if held.model is None and "model" in value:
            held.model = str(value["model"]), str(value.get("revision"))
            held.options = value["options"] if isinstance(value.get("options"), dict) else {}
        if held.prompts is None and isinstance(value.get("prompts"), list):
            held.prompts = [str(text) for text in value["prompts"]]
        held.files.update(files_of(value))
    # Failed lines count as held: trying them again would make two lines of one item.
    key = held.identify(record)
    held.counts[key] += 1
    held.left[key] += 1
    if note is not None:
        note(key, record)


def files_of(value: Record) -> Iterator[str]:
    """The artefacts that a stage names: ``{"picture": FILE}``, ``{"cutout": [FILE, FILE]}``."""
    for result in (result for name, result in value.items() if name != "options"):
        for found in result.values() if isinstance(result, dict) else ():
            yield from (file for file in (found if isinstance(found, list) else [found]) if isinstance(file, str))


def _when_made(line: bytes, stage: str) -> float:
    """When the newest of the artefacts was written that a line names; 0 where it names none that is there."""
    value = decode(line).get(stage) if line else None
    times = [os.stat(name).st_mtime for name in files_of(value) if os.path.exists(name)] if isinstance(value, dict) else []  # noqa: PTH110, PTH116
    return max(times, default=0.0)


def _check_torn(line: bytes, stage: str, file: Path, *, first: bool) -> None:
    """Raise UsageError where the last line, which has no end and would be cut off, is not one that this stage was writing."""
    where = f"{file}, in its last line,"
    try:
        record = decode(line)
    except ItemError as error:
        if b'{"'.startswith(line[:2]):
            return
        raise UsageError(f"{where} holds no record; --resume takes the file of records that this command wrote") from error
    if first and stage not in record:
        raise UsageError(f'{where} has no "{stage}"; --resume takes the file of records that this command wrote (see also --as)')
    _hold(Held(), line, stage, where)
