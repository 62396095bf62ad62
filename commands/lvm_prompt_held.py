"""What a stopped run of `visiontk lvm-prompt` left: the lines of queries that have their sentences."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from visiontk import resume
from visiontk.artefacts import holds
from visiontk.errors import UsageError
from visiontk.records import Record

from .lvm_prompt_lines import KEY

if TYPE_CHECKING:
    from visiontk.media.sentence_tasks import SentenceTask


class HeldSentences:
    """The lines of ``--resume FILE``, or none.

    Attributes:
        lines: what `resume.read_held` says of them.
    """

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._first: Record | None = None
        self._values: dict[bytes, deque[Record]] = defaultdict(deque)
        self.lines = resume.read_held(file, KEY, note=self._note) if file else resume.Held()

    def take(self, record: Record) -> Record | None:
        """What the line of this query says, ``{}`` where it failed; None where it has no line that another has not taken."""
        values = self._values.get(self.lines.identify(record))
        return (values.popleft() if values else {}) if self.lines.take(record) else None

    def take_failed(self, record: Record) -> bool:
        """Whether this query has another line, which says that it failed, and no other has taken it."""
        values = self._values.get(self.lines.identify(record))
        if not values or {} not in values:
            return False
        values.remove({})
        return self.lines.take(record)

    def same_task(self, task: SentenceTask) -> None:
        """Raise UsageError where ``--resume`` would put sentences of two tasks into one file."""
        now: Record = {"task": task.name, "seed": task.seed}
        now |= {"angle": task.angle} if task.name == "rotate" else {}
        now |= {"palette": [list(colour) for colour in task.palette]} if task.palette else {}
        first = self._first or {}
        for name in ("task", "seed", "angle", "palette"):
            if first and first.get(name) != now.get(name):
                before, this = first.get(name, "none"), now.get(name, "none")
                raise UsageError(f"{self._file} was written with the {name} {before}, and this run has {this}; {_CURE}")

    def same_pairs(self, planned: Sequence[tuple[Path, bytes]]) -> None:
        """Raise UsageError where its sentences have other pairs than those that are to be written, in name or in content."""
        if self._first is None:
            return
        others = self._first["frames"][:-1] != [str(path) for path, _ in planned]
        if others or any(path.exists() and not holds(path, data) for path, data in planned):
            raise UsageError(f"{self._file} was written with other pairs than this run has; {_CURE}")

    def _note(self, key: bytes, record: Record) -> None:
        value = record.get(KEY)
        made: Record = value if isinstance(value, dict) and isinstance(value.get("frames"), list) else {}
        self._values[key].append(made)
        self._first = self._first or made or None


_CURE = "give the same as then, or name a new file"
