"""What a stopped run of `visiontk lvm-continue` left: lines, and the files that they name."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from visiontk import resume
from visiontk.errors import UsageError
from visiontk.records import Record

from . import running
from .lvm_prompt_lines import KEY

# What an image is made from. Its file's name is not part of it.
_MADE_FROM = ("sentence", "pairs", "number", "candidate", "seed", "greedy", "temperature", "top_k", "top_p", "quantize")
# Those of the options that all images of a file share.
_SETTINGS = ("seed", "greedy", "temperature", "top_k", "top_p", "quantize")


@dataclass(frozen=True)
class Files:
    """Those that one line names."""

    image: Path
    strip: Path | None
    animation: Path | None


class HeldImages:
    """The lines of ``--resume FILE``, or none. It is true where there are some.

    Attributes:
        resumed: whether there is a file, however much it holds.
        lines: what `resume.read_held` says of them.
        taken: all files that they name.
        settings: what the first image was made with; None where there is none.
        dtype: in which it was made; None where no line says so.
        of_pipe: whether images of what has no name, the bytes of a pipe, were taken for those of this run.
    """

    def __init__(self, file: Path | None, stage: str) -> None:
        identify = _identify(stage)
        self._stage, self.resumed = stage, file is not None
        self._files: dict[bytes, deque[Files]] = defaultdict(deque)
        self._failed: set[bytes] = set()
        self._refused: set[bytes] = set()
        self.taken: set[Path] = set()
        self.settings: Record | None = None
        self.dtype: str | None = None
        self.of_pipe = False
        self.lines = resume.read_held(file, stage, identify, self._note) if file else resume.Held(identify=identify)

    def __bool__(self) -> bool:
        return bool(self.lines.counts)

    def same_settings(self, now: Record, file: Path | None) -> None:
        """Raise UsageError where ``--resume`` would put images of other settings into one file. ``now`` is as `settings_of` has it."""
        before = self.settings
        if before is None or before == now:
            return
        changed = [name for name in (*_SETTINGS, "score", "animate") if before.get(name) != now.get(name)]
        if "greedy" in changed:  # the others go without saying
            changed = ["greedy"]
        old, new = (", ".join(_option(name, some.get(name)) for name in changed) for some in (before, now))
        raise UsageError(f"{file} was written with {old} and this run has {new}; give the same, or name a new file")

    def same_dtype(self, now: str, file: Path | None) -> None:
        """Raise UsageError where ``--resume`` would go on in another type of numbers: sentences are gone through again, to other images."""
        running.same_dtype(self.dtype, now, file)

    @property
    def left(self) -> int:
        """Lines that have met none of the run's sentences. Failed ones do not count: what could not be read may be whole now."""
        return sum(count for key, count in self.lines.left.items() if key not in self._failed)

    def take_failed(self, record: Record) -> bool:
        """Whether there is a line of this failed item, or of a line that passed through, that has not met its item yet."""
        return self.lines.take(self._as_failed(record))

    def take_lost(self, record: Record) -> bool:
        """As `take_failed`, but not for an item whose file was there: with ``--overwrite`` or at another place it may be made."""
        return self.lines.identify(self._as_failed(record)) not in self._refused and self.take_failed(record)

    def take(self, made_from: Record) -> Files | None:
        """The files of an image that was made from this, or None. They are given out once for each line."""
        record = {self._stage: made_from}
        files = self._files.get(self.lines.identify(record))
        if not files or not self.lines.take(record):
            return None
        self.of_pipe = self.of_pipe or any(str(name).partition("@")[0] == "-" for name in made_from["sentence"])
        return files.popleft()

    def _as_failed(self, record: Record) -> Record:
        return {**record, self._stage: {"error": {}}} if "path" in record or "input" in record else record

    def _note(self, key: bytes, record: Record) -> None:
        value = record.get(self._stage)
        if isinstance(value, dict) and "error" in value:
            self._failed.add(key)
            if isinstance(value["error"], dict) and value["error"].get("kind") == "exists":
                self._refused.add(key)
        if not isinstance(value, dict) or "error" in value or "path" not in record:
            return
        strip, animation = (Path(value[key]) if isinstance(value.get(key), str) else None for key in ("strip", "animation"))
        if self.settings is None:
            self.settings = settings_of(value, score="nll" in value, animate=animation.suffix[1:] if animation else None)
            self.dtype = value["dtype"] if isinstance(value.get("dtype"), str) else None
        files = Files(Path(record["path"]), strip, animation)
        self._files[key].append(files)
        self.taken |= {path for path in (files.image, strip, animation) if path is not None}


def settings_of(value: Record, *, score: bool, animate: str | None) -> Record:
    """Of what an image is made from, the options; and those of which either all lines tell or none does."""
    found: Record = {name: value[name] for name in _SETTINGS if name in value}
    return found | ({"score": True} if score else {}) | ({"animate": animate} if animate else {})


def _option(name: str, value: Any) -> str:
    option = f"--{name.replace('_', '-')}"
    return f"no {option}" if value is None else option if value is True else f"{option} {value}"


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
