"""Runs of training that go step by step, in small, and stopped as Ctrl-C stops them."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

from visiontk.training.checkpoint import Folder
from visiontk.training.loop import Hold
from visiontk.training.steps import Run, Trained


class _Told:
    def __init__(self, stop_after: int | None) -> None:
        self._stop_after = stop_after

    def begin(self, steps: int, done: int, what: str = "") -> None: ...

    def step(self, step: int) -> None:
        if step == self._stop_after:
            raise KeyboardInterrupt

    def metrics(self, line: dict[str, Any]) -> None: ...

    def warn(self, message: str) -> None: ...


def course(training: Trained, steps: int, folder: Path, stop_after: int | None = None, hold: Hold = nullcontext) -> Run:
    """To the end, from where ``folder`` stands, or stopped as Ctrl-C does after so many steps. ``hold`` as `Run` takes it."""
    folder.mkdir(exist_ok=True)
    run = Run(training, steps, Folder(folder), _Told(stop_after), hold)
    run.train()
    return run
