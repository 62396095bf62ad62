"""Runs of `visiontk segment` that are stopped, go on, or never end: no line is lost or comes twice, and what is written can be used."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from tests.films import LOSSLESS, SOUND_RATE, save_film, taken_ahead

if TYPE_CHECKING:
    from tests.conftest import ColourTracker, DiskOf, Record, Run

VISIONTK = str(Path(sys.executable).with_name("visiontk"))
FRAMES = 30
RED = "point:10,10@0"


def picture(frame: int) -> Image.Image:
    pixels = np.full((48, 64, 3), 20, np.uint8)
    pixels[6:16, 4 + frame : 14 + frame] = (220, 40, 40)
    return Image.fromarray(pixels)


def save_clip(path: str, frames: int = FRAMES) -> str:
    return save_film(path, (picture(number % 40) for number in range(frames)), options={**LOSSLESS, "bf": "0"})


def read(file: str | Path) -> list[Record]:
    data = Path(file).read_bytes()
    assert data == b"" or data.endswith(b"\n")
    return [json.loads(line) for line in data.splitlines()]


def about(records: list[Record]) -> list[tuple[Any, ...]]:
    """What lines say, but for the time that each took and the places of files."""
    return [
        (record["path"], record.get("frame"), [(one["id"], one["box"]) for one in record["segment"].get("objects", [])])
        for record in records
    ]


def tree(folder: str) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(Path(folder).rglob("*.*"))}


def frames_of(path: str | Path) -> int:
    import av

    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


def alike(made: bytes, wanted: bytes) -> bool:
    """Whether files are equal, or films of the same frames: x264 rounds now and then differently from the same pictures.

    Of films a few pixels of a frame may differ by much. A square that is where it was a frame before differs in twenty, its outline aside.
    """
    if made[4:8] != b"ftyp":
        return made == wanted
    import io

    from visiontk.media.video import read_frames

    films = [list(read_frames(io.BytesIO(data))) for data in (made, wanted)]
    pixels = [np.stack([np.asarray(frame.image, int) for frame in film]) for film in films]
    times = [[frame.time for frame in film] for film in films]
    others = (np.abs(pixels[0] - pixels[1]).max(-1) > 16).sum((1, 2))
    return times[0] == times[1] and int(others.max()) <= 8


def mix() -> list[str]:
    """Pictures, and videos in containers that say and that do not say how many frames they hold."""
    for number in range(2):
        picture(number).save(f"{number}.png")
    Path("in").mkdir()
    for number in range(4):
        picture(number).save(f"in/{number:05d}.png")
    return ["0.png", save_clip("a.mp4", 6), save_clip("b.mkv", 5), "in", "gone.png", "1.png"]


# Going on


def test_a_file_cut_anywhere_goes_on_to_the_same_lines(run: Run, trackers: list[ColourTracker]) -> None:
    names = mix()
    wanted = run("segment", *names, "-p", RED).records
    lines = [json.dumps(record).encode() + b"\n" for record in wanted]
    for keep in (0, 1, 3, 7, 9, 12, 14, 16, 17, len(lines)):
        Path("out.jsonl").write_bytes(b"".join(lines[:keep]) + (lines[keep][:20] if keep < len(lines) else b""))
        result = run("segment", *names, "-p", RED, "--resume", "out.jsonl")
        assert result.code in (0, 3), result.stderr
        assert about(read("out.jsonl")) == about(wanted), keep
    assert trackers[-1].asked == [], "what FILE holds whole is not tracked again"


def test_a_video_in_part_is_tracked_from_its_start_and_one_in_whole_not_at_all(run: Run, trackers: list[ColourTracker]) -> None:
    names = mix()
    whole = run("segment", *names, "-p", RED).stdout.splitlines(keepends=True)
    Path("out.jsonl").write_bytes(b"".join(whole[:9]))  # 0.png, a.mp4 and two frames of b.mkv
    run("segment", *names, "-p", RED, "--resume", "out.jsonl")
    assert [call["frames"] if isinstance(call, dict) else "picture" for call in trackers[-1].asked] == [
        [0, 1, 2, 3, 4],
        [0, 1, 2, 3],
        "picture",
    ]


def test_an_end_past_the_last_frame_is_the_videos_own(run: Run, trackers: list[ColourTracker]) -> None:
    arguments = ["segment", save_clip("a.mkv", 8), "-p", RED, "--end", "40", "--resume", "out.jsonl"]
    run(*arguments)
    assert run(*arguments).code == 0 and len(read("out.jsonl")) == 8
    assert len(trackers) == 2 and trackers[-1].asked == []


@pytest.mark.parametrize("kind", ["npz", "overlay"])
def test_a_file_that_no_room_was_left_for_after_the_last_line_is_made_by_going_on(
    run: Run, trackers: list[ColourTracker], monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    from visiontk.media.mask_files import MaskArrays
    from visiontk.media.video_writer import VideoWriter

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    save_clip("a.mp4", 8)
    arguments = ["segment", "a.mp4", "-p", RED, "--save", kind, "-o", "out/", "--resume", "out.jsonl"]
    with monkeypatch.context() as patch:
        patch.setattr(MaskArrays if kind == "npz" else VideoWriter, "write" if kind == "npz" else "_finish", full)
        stopped = run(*arguments)
    assert stopped.code == 6 and "No space left" in stopped.error
    lines = read("out.jsonl")
    [file] = {record["segment"]["files"][kind] for record in lines}
    assert len(lines) == 8 and not Path(file).exists()
    for tracked in (1, 0):
        assert run(*arguments).code == 0 and len(trackers[-1].asked) == tracked
        assert read("out.jsonl") == lines and (arrays_of(file) if kind == "npz" else frames_of(file)) == 8


@pytest.mark.parametrize("direction", ["backward", "both"])
def test_other_directions_go_on_too(run: Run, trackers: list[ColourTracker], direction: str) -> None:
    arguments = ["segment", save_clip("a.mkv", 8), "-p", "point:14,10@5", "--direction", direction]
    wanted = run(*arguments).stdout.splitlines(keepends=True)
    for keep in (3, len(wanted)):
        Path("out.jsonl").write_bytes(b"".join(wanted[:keep]))
        assert run(*arguments, "--resume", "out.jsonl").code == 0
        assert about(read("out.jsonl")) == about([json.loads(line) for line in wanted])
    assert trackers[-1].asked == []


def test_a_pipe_that_goes_on_says_so_and_a_camera_does_not(
    run: Run, trackers: list[ColourTracker], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["segment", "-", "-p", RED, "--resume", "out.jsonl"]
    assert "the first" not in run(*arguments, stdin=Path(save_clip("a.mkv", 3)).read_bytes()).stderr
    again = run(*arguments, stdin=Path(save_clip("b.mkv", 5)).read_bytes())
    assert "the first 3 frames of the pipe" in again.stderr and "name a new file" in again.stderr
    assert [record["frame"] for record in read("out.jsonl")] == [0, 1, 2, 3, 4]
    import av

    from visiontk.media import video

    monkeypatch.setattr(video, "is_camera", lambda path: path == "/dev/video0")
    monkeypatch.setattr(video, "_camera", lambda path: av.open("a.mkv"))
    arguments = ["segment", "/dev/video0", "-p", RED, "--resume", "camera.jsonl"]
    assert run(*arguments).code == 0
    before = Path("camera.jsonl").read_bytes()
    result = run(*arguments)
    assert result.code == 2 and "/dev/video0 is a camera" in result.error
    assert Path("camera.jsonl").read_bytes() == before


def test_a_broken_video_is_not_tried_again(run: Run, trackers: list[ColourTracker]) -> None:
    data = Path(save_clip("whole.mkv")).read_bytes()
    Path("a.mkv").write_bytes(data[: len(data) // 2])
    arguments = ["segment", "a.mkv", "-p", RED, "--resume", "out.jsonl"]
    assert run(*arguments).code == 3
    before = Path("out.jsonl").read_bytes()
    assert "error" in read("out.jsonl")[-1]["segment"]
    assert run(*arguments).code == 0 and Path("out.jsonl").read_bytes() == before
    assert trackers[-1].asked == []
    lines = before.splitlines(keepends=True)
    Path("out.jsonl").write_bytes(b"".join(lines[:-1]))
    assert run(*arguments).code == 3
    assert [list(record["segment"]) for record in read("out.jsonl")][-1] == ["error"]
    assert len(read("out.jsonl")) == len(lines)


def test_files_of_a_video_in_part_are_made_again_under_their_names(run: Run, trackers: list[ColourTracker]) -> None:
    """Two videos of one name: the second's files are ``-2`` in an undisturbed run, and so they are after a stop."""
    for folder in ("a", "b"):
        Path(folder).mkdir()
        save_clip(f"{folder}/x.mp4", 4)
    arguments = ["segment", "a/x.mp4", "b/x.mp4", "-p", RED, "--save", "overlay,masks"]

    run(*arguments, "-o", "whole", "--resume", "whole.jsonl")
    wanted = tree("whole")
    assert {"x-overlay.mp4", "x-overlay-2.mp4", "x/00003.png", "x-2/00003.png"} <= wanted.keys()
    lines = Path("whole.jsonl").read_bytes().replace(b"whole/", b"cut/").splitlines(keepends=True)
    for keep in (2, 4, 6):
        Path("cut.jsonl").write_bytes(b"".join(lines[:keep]))
        shutil.rmtree("cut", ignore_errors=True)
        Path("cut").mkdir()
        for name, data in wanted.items():
            if keep == 2 and "-2" in name:
                continue  # the second video was not begun
            if keep == 4 and name in ("x-2/00001.png", "x-2/00002.png", "x-2/00003.png"):
                continue  # it was begun, and has no line yet
            (Path("cut") / name).parent.mkdir(exist_ok=True)
            (Path("cut") / name).write_bytes(data if keep == 4 and "-2" not in name else b"half")
        if keep == 4:
            save_clip("cut/x-overlay-2.mp4", 1)
        assert run(*arguments, "-o", "cut", "--resume", "cut.jsonl").code == 0
        assert [record["segment"]["files"] for record in read("cut.jsonl")] == [json.loads(line)["segment"]["files"] for line in lines]
        made = tree("cut")
        assert made.keys() == wanted.keys()
        assert [name for name in wanted if not alike(made[name], wanted[name]) and (keep != 6 or "-2" in name)] == [], keep


def test_what_was_there_before_a_stopped_run_is_left_alone(run: Run, trackers: list[ColourTracker]) -> None:
    for name in ("a", "b"):
        save_clip(f"{name}.mp4", 3)
    Path("o/b").mkdir(parents=True)
    Path("o/b/00000.png").write_bytes(b"of another run")
    arguments = ["segment", "a.mp4", "b.mp4", "-p", RED, "--save", "masks", "-o", "o/", "--resume", "out.jsonl"]
    whole = run(*arguments)
    assert whole.code == 3 and "o/b exists" in whole.stderr
    lines = Path("out.jsonl").read_bytes().splitlines(keepends=True)
    Path("out.jsonl").write_bytes(b"".join(lines[:2]))
    again = run(*arguments)
    assert again.code == 3 and "o/b exists" in again.stderr and Path("o/b/00000.png").read_bytes() == b"of another run"
    assert [json.loads(line)["path"] for line in lines] == [record["path"] for record in read("out.jsonl")] == ["a.mp4"] * 3 + ["b.mp4"]


def test_files_of_another_run_are_in_the_way_of_a_video_without_lines(run: Run, trackers: list[ColourTracker]) -> None:
    """Also where they are newer than the lines of a run that was not stopped at all."""
    for name in ("a", "b"):
        save_clip(f"{name}.mp4", 3)
    saved = ["-p", RED, "--save", "overlay,masks,yolo", "-o", "o/"]
    assert run("segment", "a.mp4", *saved, "--resume", "out.jsonl").code == 0
    assert run("segment", "b.mp4", *saved).code == 0
    others = {path: path.read_bytes() for path in Path("o").rglob("*") if path.is_file()}
    result = run("segment", "a.mp4", "b.mp4", *saved, "--resume", "out.jsonl")
    assert result.code == 3 and "o/b-overlay.mp4 exists" in result.stderr
    assert {path: path.read_bytes() for path in Path("o").rglob("*") if path.is_file()} == others


def test_one_video_twice_has_files_of_its_own_each_time_also_after_a_stop(run: Run, trackers: list[ColourTracker]) -> None:
    save_clip("a.mp4", 6)
    saved = ["--save", "overlay,masks", "-o", "o/", "--resume", "out.jsonl"]
    asked = [{"path": "a.mp4", "prompts": [{"points": [point]}]} for point in ([10, 10], [40, 40])]
    stdin = b"".join(json.dumps(line).encode() + b"\n" for line in asked)
    assert run("segment", *saved, stdin=stdin).code == 0
    lines = Path("out.jsonl").read_bytes().splitlines(keepends=True)
    assert [json.loads(line)["segment"]["files"]["overlay"] for line in lines] == ["o/a-overlay.mp4"] * 6 + ["o/a-overlay-2.mp4"] * 6
    wanted = {path: path.read_bytes() for path in Path("o").rglob("*.*")}
    for keep in (8, 12):
        Path("out.jsonl").write_bytes(b"".join(lines[:keep]))
        Path("o/a-overlay-2.mp4").unlink()
        assert run("segment", *saved, stdin=stdin).code == 0
        assert [json.loads(line)["segment"]["files"] for line in lines] == [record["segment"]["files"] for record in read("out.jsonl")]
        assert [path for path, data in wanted.items() if not alike(path.read_bytes(), data)] == [], keep


def test_lines_of_other_prompts_are_not_gone_on_with(run: Run, trackers: list[ColourTracker]) -> None:
    save_clip("a.mp4", 6)
    picture(0).save("a.png")

    def send(prompts: list[Any] | None, path: str, *more: str) -> Any:
        line = {"path": path} | ({} if prompts is None else {"prompts": prompts})
        return run("segment", *more, "--resume", "out.jsonl", stdin=json.dumps(line).encode())

    for path, more in (("a.mp4", ["--end", "2"]), ("a.png", [])):
        Path("out.jsonl").unlink(missing_ok=True)
        assert send([{"points": [[10, 10]]}], path, *more).code == 0
        held = Path("out.jsonl").read_bytes()
        for others in ([{"points": [[40, 40]]}], None):
            assert f"{path} had other prompts in its line" in send(others, path).error
            assert Path("out.jsonl").read_bytes() == held
        assert send([{"points": [[10, 10]]}], path).code == 0
        assert len(read("out.jsonl")) == (6 if more else 1)


@pytest.mark.parametrize("flags", ["frag_keyframe+empty_moov", "frag_keyframe", ""])
def test_a_video_whose_header_counts_wrong_is_tracked_to_its_end(flags: str, run: Run, trackers: list[ColourTracker]) -> None:
    """The header of an MP4 in fragments counts the first of them, or none; that of one with an edit list counts what is not shown."""
    import av

    times = range(15) if flags else range(-5, 10)
    movflags = {"movflags": flags} if flags else None
    save_film("a.mp4", map(picture, range(15)), times=times, options={**LOSSLESS, "bf": "0", "g": "5"}, container_options=movflags)
    count = frames_of("a.mp4")
    with av.open("a.mp4") as container:
        assert count != container.streams.video[0].frames
    arguments = ["segment", "a.mp4", "-p", RED, "--resume", "out.jsonl"]
    assert run(*arguments, "--end", "6").code == 0
    for _ in range(2):
        assert run(*arguments).code == 0
        assert [record["frame"] for record in read("out.jsonl")] == list(range(count))
    assert trackers[-1].asked == [], "what is whole is not tracked again"


def test_two_videos_that_are_held_in_part_are_both_made_further(run: Run, trackers: list[ColourTracker]) -> None:
    for name in ("a", "b"):
        save_clip(f"{name}.mp4", 6)
    arguments = ["segment", "a.mp4", "b.mp4", "-p", RED, "--save", "masks", "-o", "o/", "--resume", "out.jsonl"]
    assert run(*arguments, "--end", "2").code == 0
    assert run(*arguments, "--end", "4").code == 0
    assert len(read("out.jsonl")) == 10 and len(list(Path("o").rglob("*.png"))) == 10


def test_what_is_read_is_never_written_over(run: Run, trackers: list[ColourTracker]) -> None:
    Path("bear").mkdir()
    for number in range(3):
        picture(number).save(f"bear/{number:05d}.png")
    before = {path.name: path.read_bytes() for path in Path("bear").iterdir()}
    result = run("segment", "bear", "-p", RED, "--save", "masks", "-o", "./", "--overwrite")
    assert result.code == 3 and "bear is what was read; choose another place with -o" in result.stderr
    alone = run("segment", "bear/00000.png", "-p", RED, "-o", "bear/00000.png", "--overwrite")
    assert alone.code == 3 and "bear/00000.png is what was read" in alone.stderr
    assert {path.name: path.read_bytes() for path in Path("bear").iterdir()} == before


def test_an_index_in_a_name_stays_when_a_run_goes_on(run: Run, trackers: list[ColourTracker]) -> None:
    save_clip("a.mp4", 4)
    arguments = ["segment", "a.mp4", "-p", RED, "-o", "{index}.mp4", "--resume", "out.jsonl"]
    run(*arguments)
    lines = Path("out.jsonl").read_bytes().splitlines(keepends=True)
    Path("out.jsonl").write_bytes(b"".join(lines[:2]))
    assert run(*arguments).code == 0 and {path.name for path in Path().glob("*.mp4")} == {"000000.mp4", "a.mp4"}


@pytest.mark.parametrize(
    ("prompt", "before", "now", "words"),
    [
        ("point:12,10@2", [], ["--direction", "both"], "no --direction and this run has --direction both"),
        ("point:12,10@2", ["--start", "1"], [], "--start 1 and this run has no --start"),
        ("auto", ["--min-iou", "0.3"], ["--min-iou", "0.5"], "--min-iou 0.3 and this run has --min-iou 0.5"),
    ],
)
def test_a_run_with_other_options_is_refused(
    run: Run, trackers: list[ColourTracker], prompt: str, before: list[str], now: list[str], words: str
) -> None:
    save_clip("a.mp4", 4)
    first = run("segment", "a.mp4", "-p", prompt, *before, "--resume", "out.jsonl")
    loaded = len(trackers)
    again = run("segment", "a.mp4", "-p", prompt, *now, "--resume", "out.jsonl")
    assert first.code == 0 and again.code == 2 and len(trackers) == loaded
    assert again.error == f"out.jsonl was written with {words}; give the same, or name a new file"


def test_pictures_that_were_a_video_are_not_taken_one_by_one_in_the_same_file(run: Run, trackers: list[ColourTracker]) -> None:
    Path("in").mkdir()
    for number in range(4):
        picture(number).save(f"in/{number:05d}.png")
    for before, now, was in ((["--no-sequence"], "in", "a picture for itself"), ([], "in/00003.png", "one of the frames of a video")):
        Path("out.jsonl").unlink(missing_ok=True)
        assert run("segment", "in", "-p", RED, *before, "--resume", "out.jsonl").code == 0
        held = Path("out.jsonl").read_bytes()
        again = run("segment", now, "-p", RED, "--resume", "out.jsonl")
        option = "--no-sequence" if before else "--sequence"
        cure = f"was answered as {was} in the file that --resume names; give {option}, or name a new file"
        assert again.code == 2 and again.error == f"in/0000{0 if before else 3}.png {cure}"
        assert Path("out.jsonl").read_bytes() == held
        assert run("segment", "in", "-p", RED, *before, "--resume", "out.jsonl").code == 0
    for names in (["in", "in/00003.png"], ["in/00003.png", "in"]):  # both, in one run
        Path("out.jsonl").unlink()
        for _ in range(2):
            assert run("segment", *names, "-p", RED, "--resume", "out.jsonl").code == 0
            assert len(read("out.jsonl")) == 5


def test_a_run_in_another_dtype_is_refused(run: Run, tiny_sam2: Path) -> None:
    save_clip("a.mp4", 3)
    arguments = ["segment", "a.mp4", "-p", RED, "-m", str(tiny_sam2), "--resume", "out.jsonl"]
    for before, now in (("fp32", "bf16"), ("bf16", "fp32")):
        Path("out.jsonl").unlink(missing_ok=True)
        assert run(*arguments, "--dtype", before).code == 0
        assert {record["segment"].get("options", {}).get("dtype", "fp32") for record in read("out.jsonl")} == {before}
        assert run(*arguments, "--dtype", before).code == 0
        again = run(*arguments, "--dtype", now)
        cure = f"give --dtype {before}, or name a new file"
        assert (again.code, again.error) == (2, f"out.jsonl was written in {before} and this run computes in {now}; {cure}")


def test_an_end_among_the_first_frames_changes_none_before_it(run: Run, tiny_sam2: Path) -> None:
    """The model tells short videos from longer ones, and a part is none of them."""
    save_clip("a.mp4", 20)
    base = ["segment", "a.mp4", "-m", str(tiny_sam2), "--dtype", "fp32"]
    for options in (["-p", RED], ["-p", "point:14,10@4", "--direction", "both"]):
        whole = run(*base, *options).records
        for end in (4, 8):
            part = run(*base, *options, "--end", str(end)).records
            assert [record["segment"]["objects"] for record in part] == [record["segment"]["objects"] for record in whole[: end + 1]]
    back = [run(*base, "-p", "point:14,10@8", "--direction", "backward", *end).records for end in (["--end", "8"], [])]
    assert [record["segment"]["objects"] for record in back[0]] == [record["segment"]["objects"] for record in back[1]]


def test_a_run_whose_files_of_prompts_changed_is_refused(run: Run, trackers: list[ColourTracker]) -> None:
    picture(0).save("a.png")
    Path("p.json").write_text('[{"points": [[9, 13]]}]')
    assert run("segment", "a.png", "--prompts", "p.json", "--resume", "out.jsonl").code == 0
    assert run("segment", "a.png", "--prompts", "p.json", "--resume", "out.jsonl").code == 0
    Path("p.json").write_text('[{"points": [[40, 40]]}]')
    again = run("segment", "a.png", "--prompts", "p.json", "--resume", "out.jsonl")
    assert again.code == 2 and again.error.startswith("the files of prompts hold something else than when out.jsonl was written")


def test_other_prompts_are_not_put_into_one_file(run: Run, trackers: list[ColourTracker]) -> None:
    picture(0).save("0.png")
    picture(1).save("1.png")
    assert run("segment", "0.png", "-p", RED, "--resume", "out.jsonl").code == 0
    before = Path("out.jsonl").read_bytes()
    for other in (["-p", "point:40,40"], ["-p", RED, "-p", "point:40,40"], []):
        loaded = len(trackers)
        refused = run("segment", "0.png", "1.png", *other, "--resume", "out.jsonl")
        assert refused.code == 2 and len(trackers) == loaded, "known before the model is loaded"
        assert f"out.jsonl was written with other prompts ({RED}) than this run has" in refused.error
        assert Path("out.jsonl").read_bytes() == before
    own = {"path": "1.png", "prompts": [{"points": [[10, 10]]}]}
    assert run("segment", "-p", RED, "--resume", "out.jsonl", stdin=json.dumps(own).encode()).code == 0, "prompts of a line are its own"
    assert len(read("out.jsonl")) == 2


@pytest.fixture
def stops_after(trackers: list[ColourTracker], tracker_class: type[ColourTracker], monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Its last number says after how many frames of a video Ctrl-C comes."""
    stops: list[int] = [1000]
    track = tracker_class.video

    def stopping(self: ColourTracker, *arguments: Any, **options: Any) -> Iterator[Any]:
        for number, answer in enumerate(track(self, *arguments, **options)):
            if number == stops[-1]:
                raise KeyboardInterrupt
            yield answer

    monkeypatch.setattr(tracker_class, "video", stopping)
    return stops


def arrays_of(path: str) -> int:
    with np.load(path) as arrays:
        return len(arrays["frames"])


def test_a_second_stop_leaves_what_the_first_one_saved(run: Run, trackers: list[ColourTracker], stops_after: list[int]) -> None:
    save_clip("a.mp4")
    arguments = ["segment", "a.mp4", "-p", RED, "--save", "overlay,npz", "-o", "out", "--resume", "out.jsonl"]
    saved = []
    for stop in (12, 5, 12, 17, 1000):
        stops_after.append(stop)
        assert run(*arguments).code == (0 if stop == 1000 else 130)
        saved.append((len(read("out.jsonl")), frames_of("out/a-overlay.mp4"), arrays_of("out/a-masks.npz")))
        assert not list(Path("out").glob(".*")), "no temporary files are left"
    assert saved == [(12, 12, 12)] * 3 + [(17, 17, 17), (FRAMES, FRAMES, FRAMES)]


def test_ctrl_c_while_the_overlay_is_finished_leaves_the_one_before(
    run: Run, trackers: list[ColourTracker], stops_after: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without its end an MP4 plays nowhere: it must not take the place of one that does."""
    from visiontk.media.video_writer import VideoWriter

    def impatient(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    save_clip("a.mp4")
    arguments = ["segment", "a.mp4", "-p", RED, "-o", "out.mp4", "--resume", "out.jsonl"]
    stops_after.append(6)
    assert run(*arguments).code == 130
    before = Path("out.mp4").read_bytes()
    stops_after.append(9)
    with monkeypatch.context() as patch:
        patch.setattr(VideoWriter, "_finish", impatient)
        assert run(*arguments).code == 130
    assert Path("out.mp4").read_bytes() == before and frames_of("out.mp4") == 6
    assert [path.name for path in Path().glob(".*mp4*")] == []


# Streams that never end


def test_each_line_is_written_before_the_next_frame_is_tracked(
    run: Run, trackers: list[ColourTracker], tracker_class: type[ColourTracker], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[int] = []
    track = tracker_class.video

    def watched(self: ColourTracker, *arguments: Any, **options: Any) -> Iterator[Any]:
        for answer in track(self, *arguments, **options):
            yield answer
            lines.append(len(read("out.jsonl")))

    monkeypatch.setattr(tracker_class, "video", watched)
    assert run("segment", save_clip("a.mkv"), "-p", RED, "--resume", "out.jsonl").code == 0
    assert lines == list(range(1, FRAMES + 1))


def start(*arguments: str, **streams: Any) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([VISIONTK, "segment", *arguments], env=environment, stderr=subprocess.PIPE, **streams)


def wait_for(lines: int, file: str, process: subprocess.Popen[bytes]) -> None:
    """Until a run that goes on has written so many lines."""
    deadline = time.monotonic() + 120
    while not Path(file).exists() or Path(file).read_bytes().count(b"\n") < lines:
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            pytest.fail(f"no {lines} lines, but {process.communicate()}")
        time.sleep(0.05)


def test_a_pipe_that_never_ends_is_answered_frame_by_frame(tiny_sam2: Path) -> None:
    """Each line is there before the next frame is sent, but for the sixteen that the model looks at once."""
    import av

    process = start("-", "--prompt", "point:50%,50%", "-m", str(tiny_sam2), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin and process.stdout
    with av.open(process.stdin, "w", format="matroska", options={"flush_packets": "1", "cluster_time_limit": "1"}) as container:
        stream: Any = container.add_stream("mpeg4", rate=10, options={"g": "1"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.max_b_frames = 0
        got = []
        for number in range(36):
            container.mux(stream.encode(av.VideoFrame.from_image(picture(number))))  # type: ignore[no-untyped-call]
            process.stdin.flush()
            # FFmpeg itself wants some frames before it says what a stream is.
            if number >= 26:
                got.append(json.loads(process.stdout.readline()))
        assert [record["frame"] for record in got] == list(range(10))
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 130
        assert b"interrupted after" in (process.stderr.read() if process.stderr else b"")
        process.stdout.close()


def test_a_pipe_that_does_not_wait_for_what_comes_is_read_to_its_end(tiny_sam2: Path) -> None:
    """Who starts the program may have set O_NONBLOCK on the pipe, and then nothing there is not the end."""
    data = Path(save_clip("a.mkv", 20)).read_bytes()
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    process = start("-", "-p", RED, "-m", str(tiny_sam2), stdin=reading, stdout=subprocess.PIPE)
    with os.fdopen(reading, "rb") as waiting, os.fdopen(writing, "wb", buffering=0) as pipe:
        pipe.write(data[:100])
        limit = time.monotonic() + 60
        while int.from_bytes(fcntl.ioctl(waiting, termios.FIONREAD, bytes(4)), sys.byteorder) and time.monotonic() < limit:
            time.sleep(0.05)
        time.sleep(0.3)  # it has read all that there is by now, and asks for more
        pipe.write(data[100:])
    out, told = process.communicate(timeout=60)
    assert process.returncode == 0 and len(out.splitlines()) == 20, told


# Ctrl-C and full disks


def test_ctrl_c_leaves_an_overlay_that_plays_and_lines_that_go_on(tiny_sam2: Path, run: Run) -> None:
    save_clip("long.mp4", 400)
    arguments = ["long.mp4", "-p", RED, "-m", str(tiny_sam2), "--save", "overlay,npz,masks", "-o", "out", "--resume", "out.jsonl"]
    process = start(*arguments)
    wait_for(25, "out.jsonl", process)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert stderr.decode().splitlines()[-1].startswith("visiontk: interrupted after ") and b"--resume out.jsonl" in stderr
    held = read("out.jsonl")
    assert 25 <= len(held) < 400
    assert held[0]["segment"]["files"]["overlay"] == "out/long-overlay.mp4"
    assert len(held) <= frames_of("out/long-overlay.mp4") <= len(held) + 1
    with np.load("out/long-masks.npz") as arrays:
        assert len(held) <= len(arrays["frames"]) <= len(held) + 1
    assert not [path for path in Path("out").iterdir() if path.name.startswith(".")], "no temporary files are left"
    finished = run("segment", *arguments, "--end", "60")
    assert finished.code == 0, finished.stderr
    assert [record["frame"] for record in read("out.jsonl")] == list(range(max(61, len(held))))


@pytest.mark.parametrize(("kind", "room"), [("overlay", 3000), ("masks", 150), ("npz", 200), ("coco", 300)])
def test_a_full_disk_under_the_files(run: Run, trackers: list[ColourTracker], kind: str, room: int, disk_of: DiskOf) -> None:
    save_clip("long.mp4", 120)
    with disk_of(room):
        result = run(
            "segment", "long.mp4", "-p", RED, "--save", kind, "-o", "out", "--end", "119", "--format", "csv", stdout=Path(os.devnull)
        )
    assert result.code == 6, result.stderr
    assert "cannot write" in result.error and "room" in result.error
    assert result.stderr.count("\n") == 1
    assert not list(Path("out").rglob(".*")), "nothing half written is left"


@pytest.mark.parametrize(("room", "full"), [(2000, "out/a-overlay.mp4"), (6000, "out.jsonl")])
def test_a_run_whose_disk_was_full_goes_on_to_what_an_undisturbed_one_gives(
    run: Run, trackers: list[ColourTracker], room: int, full: str, disk_of: DiskOf
) -> None:
    arguments = ["segment", save_clip("a.mp4"), "-p", RED, "--save", "overlay,npz,masks,cutout", "-o", "out", "--resume", "out.jsonl"]

    def answers() -> list[Record]:
        lines = read("out.jsonl")
        return [{**line, "segment": {**line["segment"], "seconds": None}} for line in lines]

    assert run(*arguments).code == 0
    wanted, files = answers(), tree("out")
    assert len(wanted) == FRAMES and len(files) == 2 + 2 * FRAMES
    shutil.rmtree("out")
    Path("out.jsonl").unlink()
    with disk_of(room):
        stopped = run(*arguments)
    assert stopped.code == 6 and f"{full} (File too large)" in stopped.error
    held = answers()
    assert 1 < len(held) < FRAMES and held == wanted[: len(held)]
    assert run(*arguments).code == 0
    made = tree("out")
    assert answers() == wanted and made.keys() == files.keys()
    assert [name for name in files if not alike(made[name], files[name])] == []


def noise(folder: str, frames: int = 200) -> int:
    """A folder of frames of which a film is large, with something red in them."""
    pictures = np.random.default_rng(0).integers(0, 60, (frames, 120, 160, 3), np.uint8)
    pictures[:, 6:16, 8:18] = (220, 40, 40)
    Path(folder).mkdir()
    for number, pixels in enumerate(pictures):
        Image.fromarray(pixels).save(f"{folder}/{number:05d}.png")
    return frames


@taken_ahead
def test_a_disk_that_fills_leaves_an_overlay_that_plays(run: Run, trackers: list[ColourTracker], disk_of: DiskOf) -> None:
    frames = noise("in")
    arguments = ["segment", "in", "--sequence", "-p", RED, "-o", "out/x.mp4", "--resume", "out.jsonl"]
    with disk_of(600_000):
        stopped = run(*arguments)
    assert stopped.code == 6 and stopped.stderr.count("\n") == 1 and "(File too large); make room" in stopped.error, stopped.stderr
    held = read("out.jsonl")
    assert 10 < len(held) < frames and frames_of("out/x.mp4") == len(held)
    assert [path.name for path in Path("out").iterdir()] == ["x.mp4"]
    assert run(*arguments).code == 0
    assert frames_of("out/x.mp4") == frames == len(read("out.jsonl")) and read("out.jsonl")[: len(held)] == held


@taken_ahead
def test_an_overlay_whose_last_sound_had_no_room_is_made_again(run: Run, trackers: list[ColourTracker], disk_of: DiskOf) -> None:
    """All lines are there by then, so the run that goes on would take a film that lacks its end for whole."""
    import av

    save_film("a.mp4", map(picture, range(8)), options={**LOSSLESS, "bf": "0"}, sound=np.zeros(360 * SOUND_RATE, np.float32))
    arguments = ["segment", "a.mp4", "-p", RED, "-o", "out/x.mp4", "--resume", "out.jsonl"]
    with disk_of(200_000):
        stopped = run(*arguments)
    assert stopped.code == 6 and len(read("out.jsonl")) == 8 and not list(Path("out").iterdir())
    assert run(*arguments).code == 0
    with av.open("out/x.mp4") as container:
        [sound] = container.streams.audio
        assert frames_of("out/x.mp4") == 8 and float(sound.duration * sound.time_base) > 359  # type: ignore[operator]


@taken_ahead
def test_coco_and_an_overlay_stay_where_the_disk_is_full_for_the_overlay(
    run: Run, trackers: list[ColourTracker], disk_of: DiskOf, capsys: pytest.CaptureFixture[str]
) -> None:
    from pycocotools.coco import COCO

    noise("in")
    with disk_of(600_000):
        stopped = run("segment", "in", "--sequence", "-p", RED, "--save", "overlay,coco", "-o", "out/", stdout=Path("lines.jsonl"))
    assert stopped.code == 6
    held = len(read("lines.jsonl"))
    assert frames_of("out/in-overlay.mp4") == held > 10
    coco = COCO("out/coco.json")
    assert held <= len(coco.getImgIds()) <= held + 1 and len(coco.getAnnIds()) == len(coco.getImgIds())


def test_ctrl_c_leaves_coco_of_what_was_answered(tiny_sam2: Path) -> None:
    save_clip("long.mp4", 400)
    with Path("lines.jsonl").open("wb") as lines:
        process = start("long.mp4", "-p", RED, "-m", str(tiny_sam2), "--save", "coco", "-o", "set.json", stdout=lines)
    wait_for(10, "lines.jsonl", process)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130, told
    held, coco = len(read("lines.jsonl")), json.loads(Path("set.json").read_bytes())
    assert 10 <= held <= len(coco["images"]) <= held + 1 and len(coco["annotations"]) <= len(coco["images"])


@taken_ahead
def test_a_full_disk_under_an_overlay_for_the_output_puts_nothing_on_it(run: Run, trackers: list[ColourTracker], disk_of: DiskOf) -> None:
    noise("in")
    with disk_of(600_000):
        result = run("segment", "in", "--sequence", "-p", RED, "-o", "-", stdout=Path("film.mp4"))
    assert result.code == 6 and "temporary files" in result.error and "TMPDIR" in result.error
    assert Path("film.mp4").read_bytes() == b""


def test_a_full_disk_under_lines_and_files_is_one_message(run: Run, trackers: list[ColourTracker], disk_of: DiskOf) -> None:
    """The film cannot be finished either once the lines have no room."""
    save_clip("long.mp4", 120)
    with disk_of(1000):
        result = run("segment", "long.mp4", "-p", RED, "-o", "out/x.mp4", stdout=Path("lines.jsonl"))
    assert result.code == 6 and "cannot write" in result.error and result.stderr.count("\n") == 1, result.stderr
    assert not list(Path("out").rglob("*"))


def test_a_full_disk_under_the_frames_that_wait(run: Run, trackers: list[ColourTracker], disk_of: DiskOf) -> None:
    save_clip("a.mp4")
    with disk_of(500):
        result = run("segment", "a.mp4", "-p", "point:30,10@20", "--direction", "both", stdout=Path(os.devnull))
    assert result.code == 6
    assert "TMPDIR" in result.error


def test_a_full_disk_under_an_overlay_for_the_output(
    run: Run, trackers: list[ColourTracker], monkeypatch: pytest.MonkeyPatch, disk_of: DiskOf
) -> None:
    """It is made in a temporary file first."""
    save_clip("a.mp4", 120)
    arguments = ["segment", "a.mp4", "-p", RED, "-o", "-"]
    with disk_of(3000):
        result = run(*arguments, stdout=Path(os.devnull))
    assert result.code == 6 and "temporary files" in result.error and "TMPDIR" in result.error
    assert result.stderr.count("\n") == 1

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    result = run(*arguments, stdout=Path(os.devnull))
    assert result.code == 6 and "No space left on device" in result.error and "TMPDIR" in result.error
    monkeypatch.setattr(tempfile, "gettempdir", full)
    result = run(*arguments, stdout=Path(os.devnull))
    assert result.code == 6 and result.error.startswith("cannot write temporary files (No space left"), "no folder takes any"


def test_places_that_cannot_be_written(run: Run, trackers: list[ColourTracker]) -> None:
    Path("file").write_text("not a folder")
    picture(0).save("a.png")
    for name in ("a.png", save_clip("a.mp4", 3)):
        result = run("segment", name, "-p", RED, "-o", "file/under")
        assert (result.code, result.stdout) == (6, b"")
        assert "file/under" in result.error


def test_a_reader_that_goes_away_ends_the_run_quietly(tiny_sam2: Path) -> None:
    process = start(save_clip("a.mp4", 300), "-m", str(tiny_sam2), "-p", RED, stdout=subprocess.PIPE)
    assert process.stdout and process.stderr
    assert b"a.mp4" in process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait(timeout=60) == 141
