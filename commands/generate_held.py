"""What a stopped run of `visiontk generate` left: lines, and the files that they name."""

from __future__ import annotations

import os
from collections import defaultdict, deque
from collections.abc import Callable
from pathlib import Path

from visiontk import resume
from visiontk.errors import ItemError, UsageError
from visiontk.records import Record, decode

from . import generate_record


class HeldPictures:
    """The lines of ``--resume FILE``, or none. It is true where there are some.

    Attributes:
        goes_on: whether there is such a file, if only an empty one.
        files, previews: the pictures that they name.
        made: what the first of them says of its picture; None where there is none.
        lines: what `resume.read_held` says of them.
    """

    def __init__(self, file: Path | None, stage: str) -> None:
        self._identify: Callable[[Record], bytes] = generate_record.identify(stage)
        self._paths: dict[bytes, deque[str]] = defaultdict(deque)
        self._stage = stage
        self.goes_on = file is not None and os.path.exists(file)  # noqa: PTH110  Path.exists raises for names that no file can have
        self.made: Record | None = None
        self.previews: set[Path] = set()
        self.lines = resume.read_held(file, stage, self._identify, self._note) if file else resume.Held(identify=self._identify)
        self.files = {Path(path) for paths in self._paths.values() for path in paths}

    def __bool__(self) -> bool:
        return bool(self.lines.counts)

    def take(self, record: Record) -> bool:
        """Whether there is a line of this item that has not met its item yet; if so, it has now."""
        return self.lines.take(record)

    def take_picture(self, record: Record) -> str | None:
        """Likewise of a picture that was made: its file, or None."""
        if not self.take(record):
            return None
        paths = self._paths[self._identify(record)]
        return paths.popleft() if paths else ""

    def made_same(self, path: Path, record: Record) -> bool:
        """Whether the file says that it was made from what the record says. Raises ItemError where it says nothing."""
        from visiontk.media import embedded, files

        text = embedded.read(files.read(str(path)))
        try:
            value = decode(text.encode("utf-8", "surrogatepass"))
        except ItemError:
            return False
        return self._identify({self._stage: value}) == self._identify(record)

    def same_numbers(self, dtype: str, variant: str | None, file: Path | None) -> None:
        """Raise UsageError where the run would go on in another type of numbers, or with another variant of the weights."""
        if self.made is None:
            return
        for option, before, now in (("dtype", self.made.get("dtype", dtype), dtype), ("variant", self.made.get("variant"), variant)):
            if before != now:
                way = f"give --{option} {before}" if before else f"leave out --{option}"
                told = f"{file} was written with {option} {before or 'none'} and this run has {now or 'none'}"
                raise UsageError(f"{told}; {way}, or name a new file")

    def _note(self, key: bytes, record: Record) -> None:
        if "path" in record and "error" not in record.get(self._stage, {"error": {}}):
            self._paths[key].append(record["path"])
            self.made = self.made or record[self._stage]
            self.previews |= {Path(path) for path in record[self._stage].get("previews", ())}
