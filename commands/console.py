"""What a run says beside its results: progress, warnings and the summary, all on stderr."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from rich.progress import Progress

    from visiontk.runtime import Started
    from visiontk.stream import Outcome, Stats

NAME = "visiontk"
MOST_FAILURES = 10


def say(message: str, kind: str | None = None) -> None:
    """One line on stderr: ``visiontk: message`` or ``visiontk: kind: message``. Line breaks in names are made visible."""
    text = f"{NAME}: {kind}: {message}" if kind else f"{NAME}: {message}"
    line = printable(text) + "\n"
    with contextlib.suppress(OSError, AttributeError):  # a full disk or a closed stderr must not end the run
        sys.stderr.write(line.encode(sys.stderr.encoding or "utf-8", "backslashreplace").decode(sys.stderr.encoding or "utf-8"))
        sys.stderr.flush()


def warner(*, quiet: bool) -> Callable[[str], None]:
    """What is told warnings: stderr, or with ``--quiet`` nobody."""
    return (lambda message: None) if quiet else (lambda message: say(message, "warning"))


class Loaded(Protocol):
    """What every loaded model says of itself."""

    @property
    def name(self) -> str: ...
    @property
    def revision(self) -> str: ...
    @property
    def warning(self) -> str | None: ...
    @property
    def runtime(self) -> Started: ...


def introduce(model: Loaded, more: str = "", *, quiet: bool, verbose: bool) -> None:
    """The model's warning, and with ``--verbose`` which it is and where it runs, and ``more``."""
    if model.warning:
        warner(quiet=quiet)(model.warning)
    if verbose:
        say(f"{model.name} {model.revision} on {model.runtime.device}, {model.runtime.dtype_name}{more}")


def printable(text: str) -> str:
    """Text fit for one line of a terminal: control characters, which a hostile file name may hold, and undecodable bytes as escapes."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape", "surrogatepass").decode() for char in text)


class Report:
    """Progress and summary of one run.

    The bar shows only on a terminal, and the summary's speed too, unless ``verbose``. Failed items are named as they come, the first few of
    them; their lines say why as well.

    ``count`` gives how many items there are, and ``held`` how many of those that came so far have been answered by a stopped run.
    """

    def __init__(
        self,
        noun: str,
        *,
        quiet: bool,
        count: Callable[[], int | None] | None = None,
        held: Callable[[], int] = lambda: 0,
        on_stdout: bool = False,
        verbose: bool = False,
    ) -> None:
        self._noun, self._quiet, self._verbose = noun, quiet, verbose
        self._held, self._shown = held, 0
        self._progress: Progress | None = None
        if not quiet and sys.stderr is not None and sys.stderr.isatty():
            self._progress = _progress(noun, on_stdout=on_stdout)
            self._task = self._progress.add_task("", total=None)
            if count is not None:
                # Counting ten million files takes a while, and the first answer must not wait for it.
                threading.Thread(target=lambda: self._total(count()), daemon=True).start()

    def __enter__(self) -> Report:
        if self._progress:
            self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._progress:
            self._progress.stop()

    @property
    def progress(self) -> Progress | None:
        return self._progress

    def advance(self, outcome: Outcome[Any], stats: Stats) -> None:
        """One item is done."""
        if outcome.error is not None and not self._quiet and stats.failed <= MOST_FAILURES:
            more = "; further failures are in the lines alone" if stats.failed == MOST_FAILURES else ""
            self._print(f"{outcome.item.where}: {outcome.error.message}{more}")
        if self._progress:
            held = self._held()
            self._progress.advance(self._task, 1 + held - self._shown)
            self._shown = held

    def summary(self, stats: Stats) -> None:
        """The closing lines: what failed or passed through, whether memory ran out; how many and how fast."""
        if self._quiet:
            return
        self.speed(stats)
        if stats.halved:
            say(
                f"memory ran out, so the batch size was halved to {stats.batch_size}; start with --batch-size {stats.batch_size}", "warning"
            )
        if stats.passed_through:
            say(f"{stats.passed_through} lines without a path were passed through", "warning")
        if stats.failed:
            say(f"{stats.failed} of {stats.items} {self._noun} failed; their lines say why", "warning")

    def speed(self, stats: Stats) -> None:
        """How many and how fast, on a terminal and where ``verbose``."""
        elapsed = time.perf_counter() - stats.started
        if stats.items and not self._quiet and (self._progress or self._verbose):
            noun = self._noun.removesuffix("s") if stats.items == 1 else self._noun
            say(f"{stats.items} {noun} in {elapsed:.1f} s, {stats.items / max(elapsed, 1e-9):.1f} a second")

    def _total(self, total: int | None) -> None:
        if self._progress and total is not None:
            self._progress.update(self._task, total=total)

    def _print(self, message: str) -> None:
        if self._progress:
            from rich.text import Text

            self._progress.console.print(Text(f"{NAME}: warning: {printable(message)}", style="yellow"), soft_wrap=True)
        else:
            say(message, "warning")


def _progress(noun: str, *, on_stdout: bool) -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TimeElapsedColumn, TimeRemainingColumn
    from rich.text import Text

    class Speed(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text("" if task.speed is None else f"{task.speed:.1f} {noun}/s")

    # Where the results go to the same terminal, one console must write both, or they overwrite each other.
    console = Console(stderr=not on_stdout)
    return Progress(BarColumn(), MofNCompleteColumn(), Speed(), TimeElapsedColumn(), TimeRemainingColumn(), console=console, transient=True)
