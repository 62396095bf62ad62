"""Training step by step: the lines of metrics, the checkpoints, going on after a stop. What is trained is a `Trained`.

What a step computes must be a function of its number and of the state alone; then a run comes to the same end however often it was stopped.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from visiontk.errors import UsageError
from visiontk.runtime import Started

from . import checkpoint
from .checkpoint import Folder
from .identity import identity
from .loop import Hold, Listener

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

LINES, SAVE_EVERY = 200, 200


class Trained(Protocol):
    """What is trained."""

    def advance(self, step: int) -> Mapping[str, float]:
        """One update of the weights, counted from 0. Gives the values that a line holds the mean of, one of them ``loss``.

        It must leave the weights alone where the loss is not finite.
        """
        ...

    def rate(self, step: int) -> float:
        """The learning rate of a step."""
        ...

    def state(self) -> dict[str, Any]: ...

    def restore(self, state: dict[str, Any]) -> None: ...


def claim(plan: DataclassInstance, task: str, started: Started, out: Path, *, overwrite: bool, **more: str) -> Folder:
    """Take the folder for this run, once it is known that it can begin.

    ``more``: what it depends on besides, such as the contents of a file that the plan only names.

    Raises:
        UsageError, OutputError: as `Folder.claim`.
    """
    folder = Folder(out)
    folder.claim({**identity(plan, started), **more, "task": task}, overwrite=overwrite)
    return folder


class Run:
    """A run of ``steps`` steps in a folder.

    Attributes:
        step: how many are done.
        seconds: of computing, over all stops.
    """

    def __init__(self, trained: Trained, steps: int, folder: Folder, listener: Listener, hold: Hold = nullcontext) -> None:
        self.trained, self.steps, self.folder, self.listener, self.hold = trained, steps, folder, listener, hold
        self.log_every = max(1, min(50, steps // LINES))
        self.step, self.seconds = 0, 0.0
        self._offset = 0
        self._window: dict[str, float] = {}  # sums since the last line
        self._counted: tuple[int, float] = (0, 0.0)  # steps and seconds in them

    def train(self) -> None:
        """To the end, from where the folder's checkpoint stands. Ctrl-C saves and passes on.

        Raises:
            UsageError: the loss is not finite.
        """
        self._restore()
        self.listener.begin(self.steps, self.step)
        try:
            while self.step < self.steps:
                with self.hold():  # with its line, which would be lost where the step is saved as done
                    self._advance()
                    if self.step % self.log_every == 0:
                        self._log()
                if self.step % SAVE_EVERY == 0:
                    with self.hold():
                        self._save()
                self.listener.step(self.step)
        except KeyboardInterrupt:
            self._save()
            raise
        with self.hold():
            self._save()

    def _advance(self) -> None:
        begun = time.perf_counter()
        found = self.trained.advance(self.step)
        if not math.isfinite(found["loss"]):
            raise UsageError(
                f"the loss is not finite at step {self.step}, the run has diverged; start anew with a lower learning rate than "
                f"{self.trained.rate(self.step):g}"
            )
        if self._window and self._window.keys() != found.keys():  # steps of another kind begin, and a line tells of one kind
            self._log()
        self.step += 1
        spent = time.perf_counter() - begun
        self.seconds += spent
        for name, value in found.items():
            self._window[name] = self._window.get(name, 0.0) + value
        self._counted = self._counted[0] + 1, self._counted[1] + spent

    def _log(self) -> None:
        steps, seconds = self._counted
        found = {name: float(f"{value / steps:.6g}") for name, value in self._window.items()}
        found |= {"lr": float(f"{self.trained.rate(self.step - 1):.6g}"), "steps_per_s": round(steps / max(seconds, 1e-9), 3)}
        line = {"step": self.step, "train": found}
        self.listener.metrics(line)
        self._offset = self.folder.append(line)
        self._window, self._counted = {}, (0, 0.0)

    def _save(self) -> None:
        state = {"trained": self.trained.state(), "step": self.step, "seconds": self.seconds, "metrics": self._offset}
        checkpoint.save(self.folder.last, {**state, "window": self._window, "counted": self._counted})

    def _restore(self) -> None:
        state = checkpoint.read(self.folder.last)
        if state is not None:
            with checkpoint.taking_back(self.folder.last):
                self.trained.restore(state["trained"])
                self.step, self.seconds, self._offset = state["step"], state["seconds"], state["metrics"]
                self._window, self._counted = state["window"], state["counted"]
        self.folder.rewind(self._offset)
