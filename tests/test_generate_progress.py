"""What a person sees while `visiontk generate` works: a bar over the images, one over the steps of the batch, and the time left."""

from __future__ import annotations

import io
import os
import pty
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from commands.generate_progress import GenerateReport
from tests.conftest import _redirected
from visiontk.adapters.generate_types import Step
from visiontk.records import Item
from visiontk.stream import Outcome, Stats

if TYPE_CHECKING:
    from rich.progress import Progress

pytestmark = pytest.mark.usefixtures("generators_loaded_once")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def report(monkeypatch: pytest.MonkeyPatch) -> GenerateReport:
    """Of four images, on a terminal that is not drawn on."""
    monkeypatch.setattr("sys.stderr", Terminal())
    made = GenerateReport(quiet=False, count=lambda: None, on_stdout=False)
    made._total(4)
    return made


def bars(report: GenerateReport) -> list[tuple[str, float, float | None, bool]]:
    progress: Progress | None = report.progress
    assert progress is not None
    return [(task.description, task.completed, task.total, task.visible) for task in progress.tasks]


def step(done: int, places: tuple[int, ...], steps: int = 4) -> Step:
    return Step(done, steps, places, list)


def test_images_in_the_making_count_in_part(report: GenerateReport) -> None:
    assert bars(report) == [("images", 0, 4, True), ("steps", 0, None, False)]
    report.begin()
    report.step(step(1, (0, 1)))
    assert bars(report) == [("images", 0.5, 4, True), ("steps of 2", 1, 4, True)]
    report.step(step(4, (0, 1)))
    report.step(step(1, (2,), steps=2))  # others of the batch, with options of their own
    assert bars(report) == [("images", 2.5, 4, True), ("steps", 1, 2, True)]
    stats = Stats()
    for number in range(3):
        report.advance(Outcome(Item({"path": f"{number}.png"}, lambda: None), result=None), stats)
    assert bars(report)[0] == ("images", 3, 4, True)
    report.begin()
    report.step(step(1, (0,)))
    report.step(step(2, (0,)))
    assert bars(report) == [("images", 3.5, 4, True), ("steps", 2, 4, True)]


def on_terminal(main: Callable[[list[str]], int], *arguments: str) -> str:
    """All that one run draws on a terminal of 100 columns, without its codes."""
    master, terminal = pty.openpty()
    drawn: list[bytes] = []

    def read() -> None:
        while True:
            try:
                part = os.read(master, 65536)
            except OSError:  # how Linux says that nobody holds the terminal any more
                return
            if not part:
                return
            drawn.append(part)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    with _redirected(None, Path("lines.jsonl"), Path(os.ttyname(terminal))):
        code = main(list(arguments))
    os.close(terminal)
    reader.join(10)
    os.close(master)
    assert code == 0
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", b"".join(drawn).decode()).replace("\r", "\n")


def test_a_terminal_has_both_bars_with_their_time_left(
    main: Callable[[list[str]], int], pipeline: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TERM", "xterm-256color")
    arguments = ("generate", "a car", "-n", "3", "-b", "1", "--steps", "8", "-m", str(pipeline))
    plain = on_terminal(main, *arguments, "--threads", "1")
    assert re.search(r"images +[━╸╺ ]+ +[0-3](\.\d+)?/3 .*\d:\d\d:\d\d (\d|-):(\d\d|--):(\d\d|--)", plain), plain
    assert re.search(r"steps +[━╸╺ ]+ +[1-9]/[89] .*\d:\d\d:\d\d (\d|-):(\d\d|--):(\d\d|--)", plain), plain
    assert re.search(r"visiontk: 3 images in [\d.]+ s, [\d.]+ a second", plain)
    assert Path("lines.jsonl").read_bytes().count(b"\n") == 3, "and the lines go their own way"
    quiet = on_terminal(main, *arguments, "--overwrite", "-q")
    assert quiet == ""
