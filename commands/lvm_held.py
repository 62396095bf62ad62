"""What a stopped run of `visiontk lvm-continue` left: lines, and the files that they name."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from visiontk import resume
from visiontk.records import Record

from .lvm_prompt_lines import KEY

# What an image is made from. Its file's name is not part of it.
_MADE_FROM = ("sentence", "number", "candidate", "seed", "greedy", "temperature", "top_k", "top_p", "quantize")


@dataclass(frozen=True)
class Files:
    """Those that one line names."""

    image: Path
    strip: Path | None
    animation: Path | None


class HeldImages:
    """The lines of ``--resume FILE``, or none. It is true where there are some.

    Attributes:
        lines: what `resume.read_held` says of them.
        taken: all files that they name.
    """

    def __init__(self, file: Path | None, stage: str) -> None:
        identify = _identify(stage)
        self._stage = stage
        self._files: dict[bytes, deque[Files]] = defaultdict(deque)
        self.taken: set[Path] = set()
        self.lines = resume.read_held(file, stage, identify, self._note) if file else resume.Held(identify=identify)

    def __bool__(self) -> bool:
        return bool(self.lines.counts)

    def take_failed(self, record: Record) -> bool:
        """Whether there is a line of this failed item, or of a line that passed through, that has not met its item yet."""
        return self.lines.take({**record, self._stage: {"error": {}}} if "path" in record or "input" in record else record)

    def take(self, made_from: Record) -> Files | None:
        """The files of an image that was made from this, or None. They are given out once for each line."""
        record = {self._stage: made_from}
        files = self._files.get(self.lines.identify(record))
        return files.popleft() if files and self.lines.take(record) else None

    def _note(self, key: bytes, record: Record) -> None:
        value = record.get(self._stage)
        if not isinstance(value, dict) or "error" in value or "path" not in record:
            return
        strip, animation = (Path(value[key]) if isinstance(value.get(key), str) else None for key in ("strip", "animation"))
        files = Files(Path(record["path"]), strip, animation)
        self._files[key].append(files)
        self.taken |= {path for path in (files.image, strip, animation) if path is not None}


def _identify(stage: str) -> Callable[[Record], bytes]:
    """For `resume.read_held`: an image is known by what it is made from, a failed sentence by its line and the pictures in it."""

    def of(record: Record) -> bytes:
        value = record.get(stage)
        if not isinstance(value, dict):
            return resume.identity(record)
        if "error" in value:
            about: dict[str, Any] = {"asked": {key: record[key] for key in ("path", "frame", "input") if key in record}}
            if isinstance(record.get(KEY), dict):
                about["frames"] = record[KEY].get("frames")
        else:
            about = {key: value[key] for key in _MADE_FROM if value.get(key) is not None}
        return resume.fingerprint(about)

    return of
