"""Progress of `visiontk generate`: a bar over the images and one over the steps of those that are made now, each with its time left."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .console import Report

if TYPE_CHECKING:
    from visiontk.adapters.generate_types import Step
    from visiontk.stream import Outcome, Stats


class GenerateReport(Report):
    """As `Report`, with the steps. Images in the making count in part, so that there is a time left before the first one is done."""

    def __init__(self, *, quiet: bool, count: Callable[[], int | None], on_stdout: bool, verbose: bool = False) -> None:
        super().__init__("images", quiet=quiet, count=count, on_stdout=on_stdout, verbose=verbose)
        self._made = 0
        self._parts: dict[tuple[int, ...], float] = {}
        if self._progress:
            self._progress.columns = _columns()
            self._progress.update(self._task, description="images")
            self._steps = self._progress.add_task("steps", total=None, visible=False)

    def begin(self) -> None:
        """A batch begins."""
        self._parts.clear()

    def step(self, step: Step) -> None:
        """A step of some of its images is done."""
        if not self._progress:
            return
        self._parts[tuple(step.places)] = len(step.places) * step.done / step.steps
        if step.done == 1:
            self._progress.reset(self._steps, total=step.steps, visible=True)
        self._progress.update(
            self._steps, completed=step.done, description=f"steps of {len(step.places)}" if len(step.places) > 1 else "steps"
        )
        self._progress.update(self._task, completed=self._made + sum(self._parts.values()))

    def advance(self, outcome: Outcome[Any], stats: Stats) -> None:
        super().advance(outcome, stats)
        self._made += 1
        if self._progress:
            self._progress.update(self._task, completed=max(self._made, self._progress.tasks[0].completed - 1))

    def warn(self, message: str) -> None:
        """A warning among the bars."""
        if not self._quiet:
            self._print(message)


def _columns() -> tuple[Any, ...]:
    from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, Task, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.text import Text

    class Speed(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text("" if not task.speed else f"{task.speed:.1f}/s" if task.speed >= 1 else f"{1 / task.speed:.1f} s each")

    return TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Speed(), TimeElapsedColumn(), TimeRemainingColumn()
