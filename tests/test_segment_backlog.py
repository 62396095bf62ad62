"""What waits on disk for the way back is bounded, and what is found does not depend on it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.test_cli_segment import BLUE_LATE, FRAMES, red_at, save_animation, save_clip, save_frames
from visiontk.media import spool

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import ColourTracker, Run
    from visiontk.media.video import VideoFrame


@pytest.fixture
def most(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many frames waited at once, at each that was kept."""
    counts: list[int] = []
    keep = spool.FrameSpool.keep

    def watched(self: spool.FrameSpool, frame: VideoFrame) -> None:
        keep(self, frame)
        counts.append(len(self))

    monkeypatch.setattr(spool.FrameSpool, "keep", watched)
    return counts


def cutouts() -> dict[str, bytes]:
    return {path.as_posix(): path.read_bytes() for path in Path("out").rglob("*.png")}


@pytest.mark.parametrize("direction", ["backward", "both"])
@pytest.mark.parametrize("name", ["clip.mp4", "in", "moves.gif"])
def test_a_file_is_read_again_and_the_lines_are_the_same(
    run: Run, trackers: list[ColourTracker], most: list[int], monkeypatch: pytest.MonkeyPatch, direction: str, name: str
) -> None:
    save_clip("clip.mp4")
    save_frames("in")
    save_animation("moves.gif", FRAMES)
    arguments = ("-p", f"{red_at(7)}#1", "-p", f"{BLUE_LATE}#2", "--direction", direction, "--start", "1")
    wanted = run("segment", name, *arguments, "-o", "out/", "--save", "cutout", "--overwrite")
    made = cutouts()
    assert wanted.code == 0 and len(made) > 7 and max(most) > 7
    most.clear()
    monkeypatch.setattr(spool, "ROOM", 1)
    found = run("segment", name, *arguments, "-o", "out/", "--save", "cutout", "--overwrite")
    assert max(most) == 1
    assert [record["segment"]["objects"] for record in found.records] == [record["segment"]["objects"] for record in wanted.records]
    assert cutouts() == made


def test_frames_that_lines_name_are_read_again_while_they_are_read_ahead(
    run: Run, trackers: list[ColourTracker], most: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    save_clip("clip.mp4", 60)
    lines = "".join(f'{{"path": "clip.mp4", "frame": {number}}}\n' for number in range(60)).encode()
    arguments = ("segment", "--sequence", "-p", red_at(30), "--direction", "both")
    wanted = run(*arguments, stdin=lines)
    most.clear()
    monkeypatch.setattr(spool, "ROOM", 1)
    found = run(*arguments, stdin=lines)
    assert (found.code, len(found.records), max(most)) == (0, 60, 1)
    assert [record["segment"]["objects"] for record in found.records] == [record["segment"]["objects"] for record in wanted.records]


def test_through_a_pipe_no_more_frames_wait_and_the_lines_are_those_of_the_file(
    run: Run, trackers: list[ColourTracker], most: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool, "ROOM", 1)
    arguments = ("-p", red_at(7), "--direction", "backward")
    wanted = run("segment", save_clip("clip.mp4"), *arguments)
    most.clear()
    found = run("segment", "-", *arguments, stdin=Path("clip.mp4").read_bytes())
    assert [record["frame"] for record in found.records] == list(range(8)) and max(most) == 1
    assert [record["segment"]["objects"] for record in found.records] == [record["segment"]["objects"] for record in wanted.records]


def test_both_ways_the_rest_of_the_file_follows_what_was_read_again(
    run: Run, trackers: list[ColourTracker], most: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("segment", save_clip("clip.mp4", 40), "-p", red_at(20), "--direction", "both")
    wanted = run(*arguments)
    most.clear()
    monkeypatch.setattr(spool, "ROOM", 1)
    found = run(*arguments)
    assert [record["frame"] for record in found.records] == list(range(40)) and max(most) == 1
    assert [record["segment"]["objects"] for record in found.records] == [record["segment"]["objects"] for record in wanted.records]


@pytest.mark.parametrize(("direction", "way"), [("backward", "falling"), ("backward", "rising"), ("both", "falling"), ("both", "rising")])
def test_a_file_that_is_cut_while_it_is_tracked_is_told(
    run: Run, trackers: list[ColourTracker], monkeypatch: pytest.MonkeyPatch, direction: str, way: str
) -> None:
    save_frames("in")
    monkeypatch.setattr(spool, "ROOM", 1)
    read = getattr(spool.Backlog, way)

    def cut(self: spool.Backlog, number: int) -> Iterator[VideoFrame]:
        Path("in/00004.png").unlink()
        return read(self, number)  # type: ignore[no-any-return]

    monkeypatch.setattr(spool.Backlog, way, cut)
    found = run("segment", "in", "-p", red_at(7), "--direction", direction)
    assert found.code == 3 and "there is no such file" in found.stderr
