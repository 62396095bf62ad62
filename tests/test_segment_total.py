"""Where the progress of `visiontk segment` ends: how many frames inputs come to, and how many of them are done."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from commands import segment_prompts
from commands.console import Report
from commands.segment_total import count_frames
from tests.test_cli_segment import FRAMES, picture, red_at, save_animation, save_clip, save_frames
from visiontk import sources

if TYPE_CHECKING:
    from tests.conftest import ColourTracker, Run


def total(*names: str, sequence: bool | None = None, start: int = 0, end: int | None = None, prompts: tuple[str, ...] = ()) -> int | None:
    """What a run of these options would come to."""
    asked = segment_prompts.read(prompts, None, segment_prompts.Span("forward", start, end))
    return count_frames(names, sources.Reading(sequence=sequence), asked.lines)


def test_a_folder_of_frames_is_cut_by_the_span() -> None:
    save_frames("in")
    assert total("in") == FRAMES
    assert total("in", start=2, end=5) == 4
    assert total("in", start=2) == FRAMES - 2
    assert total("in", start=2, end=99) == FRAMES - 2
    assert total("in", start=99) == 1, "the error"
    assert total("in", "in", end=2) == 6


def test_pictures_are_counted_one_by_one_where_they_are_no_video() -> None:
    save_frames("in")
    save_frames("photos", ["cat.png", "dog.png", "owl.png"])
    assert total("in", sequence=False, start=2, end=5) == FRAMES
    assert total("photos", start=2, end=5) == 3
    assert total("photos", sequence=True, start=1) == 2
    assert total("photos/cat.png", "photos/dog.png", "photos/owl.png", sequence=True, start=1) == 2
    Image.new("RGB", (30, 20)).save("in/00004.png")
    assert total("in", start=2, end=5) == FRAMES, "of two sizes"


def test_a_pattern_is_counted_as_it_is_taken() -> None:
    save_frames("f")
    assert total("f/%05d.png") == FRAMES
    assert total("f/%05d.png", start=2, end=5) == 4
    assert total("f/*.png", start=2, end=5) == FRAMES
    assert total("f/*.png", start=2, end=5, sequence=True) == 4
    assert total("f/g%05d.png") == 1, "the error"


def test_videos_and_animations_are_cut_by_the_span() -> None:
    Path("in").mkdir()
    save_clip("in/clip.mp4")
    for name in ("a.gif", "b.webp", "c.apng"):
        assert total(save_animation(f"in/{name}", 6)) == 6
        assert total(f"in/{name}", start=2, end=3) == 2
    picture(0).save("in/still.webp")
    Path("in/broken.gif").write_bytes(b"no picture")
    assert total("in/still.webp", "in/broken.gif", start=2, end=3) == 2
    assert total("in", end=2) == 4 * 3 + 2


def test_a_video_too_short_for_a_prompt_is_one_error() -> None:
    save_frames("in")
    assert total("in", prompts=(f"point@{FRAMES - 1}",)) == FRAMES
    assert total("in", prompts=(f"point@{FRAMES}",)) == 1


def test_what_only_reading_tells_has_no_total() -> None:
    save_frames("in")
    os.mkfifo("pipe.png")
    os.mkfifo("pipe")
    for name in ("-", "https://example.com/a.png", "pipe", "pipe.png", "pip*", "/dev/null"):
        assert total("in", name) is None, name
    assert total("in", "gone.png", "gone.mp4", "gone") == FRAMES + 3, "three errors"


@pytest.fixture
def bars(monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, float | None]]:
    """Where the bar of each run ended, and at what it should: as on a terminal."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    ended: list[tuple[float, float | None]] = []

    class Watched(Report):
        def __init__(self, noun: str, **options: Any) -> None:
            stderr, sys.stderr = sys.stderr, Terminal()
            super().__init__(noun, **options)
            sys.stderr = stderr
            self.expected = options["count"]

        def __exit__(self, *_: object) -> None:
            super().__exit__()
            assert self.progress
            ended.append((self.progress.tasks[0].completed, self.expected()))

    monkeypatch.setattr("visiontk.commands.segment.Report", Watched)
    return ended


def test_the_bar_ends_at_what_is_tracked(run: Run, trackers: list[ColourTracker], bars: list[tuple[float, float | None]]) -> None:
    save_frames("in")
    save_clip("clip.mp4")
    picture(6).save("a.png")
    run("segment", "in", "clip.mp4", "a.png", "--start", "2", "--end", "5")
    run("segment", "in", "clip.mp4", "--direction", "backward", "-p", red_at(7))
    run("segment", "in", "--direction", "both", "-p", red_at(7))
    assert bars == [(9, 9), (16, 16), (FRAMES, FRAMES)]


def test_the_bar_counts_what_a_stopped_run_has_answered(
    run: Run, trackers: list[ColourTracker], bars: list[tuple[float, float | None]]
) -> None:
    save_frames("in")
    save_clip("clip.mp4")
    picture(6).save("a.png")
    lines = run("segment", "a.png", "in", "clip.mp4", "-p", "point:9,13").stdout.splitlines(keepends=True)
    Path("other.png").write_bytes(Path("a.png").read_bytes())
    other = run("segment", "other.png", "-p", "point:9,13").stdout
    Path("out.jsonl").write_bytes(other + b"".join(lines[:8]))
    bars.clear()
    assert run("segment", "a.png", "in", "clip.mp4", "-p", "point:9,13", "--resume", "out.jsonl").code == 0
    assert bars == [(1 + 2 * FRAMES, 1 + 2 * FRAMES)], "without those of other inputs"
