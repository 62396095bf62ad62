"""What is on the disk while a run goes on: which run it is, where it stands, and the best weights so far.

Every file is written under another name and renamed when it is whole, so a kill at any moment leaves the last one or the one before.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from visiontk.artefacts import write
from visiontk.errors import OutputError, UsageError, first_line

RUN, METRICS = "run.json", "metrics.jsonl"


@dataclass(frozen=True)
class Folder:
    """The folder of one run."""

    root: Path

    @property
    def last(self) -> Path:
        return self.root / "checkpoints" / "last.pt"

    @property
    def best(self) -> Path:
        return self.root / "checkpoints" / "best.pt"

    @property
    def metrics(self) -> Path:
        return self.root / METRICS

    def claim(self, identity: dict[str, Any], *, overwrite: bool) -> None:
        """Take the folder for the run that ``identity`` describes; if it is this run's already, the run goes on.

        Raises:
            UsageError: the folder is another run's, or holds other things.
            OutputError: it cannot be written.
        """
        identity = json.loads(json.dumps(identity))
        if self.root.exists() and not self.root.is_dir():
            raise UsageError(f"{self.root} is a file; name a folder with -o")
        held = self._held()
        if held is not None and held != identity:
            if not overwrite:
                raise UsageError(f"{self.root} holds another run ({_difference(held, identity)}); name a new folder, or pass --overwrite")
            self._clear()
        elif held is None and self.root.is_dir() and any(self.root.iterdir()) and not overwrite:
            raise UsageError(f"{self.root} is not empty and holds no run; name a new folder with -o")
        write(self.root / RUN, lambda file: file.write(json.dumps(identity, indent=2).encode() + b"\n"))
        for torn in self.root.glob("checkpoints/.*.pt.*"):  # of a run that was killed while it wrote
            torn.unlink(missing_ok=True)

    def append(self, line: dict[str, Any]) -> int:
        """Append a line of metrics; returns how long the file is then. Raises OutputError."""
        try:
            with self.metrics.open("ab") as file:
                file.write(json.dumps(line).encode() + b"\n")
                return file.tell()
        except OSError as error:
            raise OutputError(f"cannot write {self.metrics} ({error.strerror or error}); make room and run it again") from error

    def rewind(self, length: int) -> None:
        """Take back the lines of metrics that were written after the checkpoint: they are written again."""
        with self.metrics.open("ab") as file:
            file.truncate(length)

    def _held(self) -> dict[str, Any] | None:
        try:
            held = json.loads((self.root / RUN).read_text("utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise UsageError(f"{self.root / RUN} cannot be read ({first_line(error)}); name a new folder") from error
        return held if isinstance(held, dict) else {}

    def _clear(self) -> None:
        try:
            shutil.rmtree(self.root / "checkpoints", ignore_errors=True)
            self.metrics.unlink(missing_ok=True)
        except OSError as error:
            raise OutputError(f"{self.root} cannot be cleared ({error.strerror}); name another folder") from error


def save(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint. Raises OutputError."""
    write(path, lambda file: torch.save(state, file))


def read(path: Path) -> dict[str, Any] | None:
    """A checkpoint, its tensors on the CPU; None where there is none. Raises UsageError where it is broken."""
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        return None
    except Exception as error:  # a broken file can raise anything
        raise UsageError(f"{path} cannot be read ({first_line(error)}); remove it, and the run starts anew") from error
    return state


@contextmanager
def taking_back(path: Path) -> Iterator[None]:
    """Where a checkpoint meets what it is taken back into. Raises UsageError where the two do not fit, as between versions of visiontk."""
    try:
        yield
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise UsageError(f"{path} does not fit this version of visiontk; remove it, and the run starts anew") from error


def _difference(held: dict[str, Any], wanted: dict[str, Any]) -> str:
    names = [name for name in {**held, **wanted} if held.get(name) != wanted.get(name)]
    return ", ".join(f"{name} was {held.get(name)} and is {wanted.get(name)}" for name in names[:3])
