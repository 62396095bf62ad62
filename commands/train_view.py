"""What `visiontk train` shows while it goes: a live line on a terminal, JSON lines on a pipe."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import interrupts
from .console import NAME, printable, say

if TYPE_CHECKING:
    from rich.live import Live
    from rich.progress import Progress


def shown(train: Callable[[View], dict[str, Any]], out: Path, *, quiet: bool) -> int:
    """Run a training under its view, and show what it came to; Ctrl-C says how to go on."""
    with View(quiet=quiet) as view:
        try:
            result = train(view)
        except KeyboardInterrupt:
            view.stop()
            say(f"interrupted; go on with the same command, {out} holds the state")
            raise
    view.result(result)
    return 0


class View:
    """A live line on a terminal's stderr; metrics as JSON lines on a stdout that is none."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._lines = not sys.stdout.isatty()
        self._figures: dict[str, str] = {}
        self._progress: Progress | None = None
        if not quiet and sys.stderr is not None and sys.stderr.isatty():
            self._progress, self._live = _progress(self._under)
            self._task = self._progress.add_task("starting", total=None)

    def __enter__(self) -> View:
        if self._progress:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        if self._progress:
            self._live.stop()

    def begin(self, steps: int, done: int, what: str = "") -> None:
        if done and not self._quiet and not (what and done == steps):
            self._say(f"{f'the {what} ' if what else ''}goes on from step {done} of {steps}")
        if self._progress:
            self._progress.reset(self._task, total=steps, completed=done, description=what)

    def step(self, step: int) -> None:
        if self._progress:
            self._progress.update(self._task, completed=step)

    def metrics(self, line: dict[str, Any]) -> None:
        if self._lines:
            with interrupts.held():
                sys.stdout.write(json.dumps(line) + "\n")
                sys.stdout.flush()
        for name, values in line.items():
            if isinstance(values, dict):
                shown = [f"{label} {values[key]:{form}}" for key, (label, form) in _SHOWN.items() if key in values]
                self._figures[name] = f"{name:<9} {'   '.join(shown)}"

    def _under(self) -> str:
        return "\n".join(self._figures.values())

    def warn(self, message: str) -> None:
        if not self._quiet:
            self._say(f"warning: {message}")

    def result(self, result: dict[str, Any]) -> None:
        """The last line: where the output is and what it came to."""
        if not result:  # a process that helps another
            return
        if self._lines:
            sys.stdout.write(json.dumps(result) + "\n")
            return
        for name, found in result.get("figures", {}).items():
            if "accuracy" in found:
                sys.stdout.write(f"{name:<9} accuracy {found['accuracy']:.4f}  loss {found['loss']:.4f}  {found['images']} images\n")
            else:
                sys.stdout.write(f"{name:<26} {'   '.join(f'{split} {value:.4f}' for split, value in found.items())}\n")
        for name, shots in result.get("few_shot", {}).items():
            for count, found in shots.items():
                sys.stdout.write(f"{name:<9} {count:>3} per class  accuracy {found['accuracy']:.4f}\n")
        sys.stdout.write(f"{result['output']}\n")

    def _say(self, message: str) -> None:
        if self._progress:
            from rich.text import Text

            self._progress.console.print(Text(f"{NAME}: {printable(message)}"), soft_wrap=True)
        else:
            say(message)


_SHOWN = {
    "loss": ("loss", ".4f"),
    "accuracy": ("accuracy", ".4f"),
    "iou": ("IoU", ".4f"),
    "images_per_s": ("images/s", ".0f"),
    "steps_per_s": ("steps/s", ".2f"),
    "lr": ("lr", ".2g"),
}


def _progress(under: Callable[[], str]) -> tuple[Progress, Live]:
    """A bar of steps, time gone and time left, and the latest figures under it."""
    from rich.console import Console, Group
    from rich.live import Live
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.text import Text

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(30), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    progress = Progress(*columns, console=console)
    live = Live(console=console, transient=True, refresh_per_second=4, get_renderable=lambda: Group(progress, Text(under())))
    return progress, live
