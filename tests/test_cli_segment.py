"""`visiontk segment` through the entry point: which frames and prompts reach the model, and what comes out, on clips of known masks."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import jsonschema
import numpy as np
import pytest
from PIL import Image

from tests.films import LOSSLESS, save_film
from visiontk.media import spool
from visiontk.media.spool import Backlog
from visiontk.media.video import VideoFrame, probe

if TYPE_CHECKING:
    from tests.conftest import ColourTracker, Record, Run, Valid

RED, BLUE, GROUND = (220, 40, 40), (40, 60, 220), (20, 20, 20)
SIZE = WIDTH, HEIGHT = 80, 48
FRAMES = 12
HIDDEN = (8, 9)  # frames without the red square
LATE = 5  # the blue square's first frame


def box(name: str, frame: int) -> list[float] | None:
    """Where a square is on a frame of the clip."""
    if name == "red":
        return None if frame in HIDDEN else [4.0 + 2 * frame, 8, 16.0 + 2 * frame, 20]
    return [50, 28, 70, 40] if frame >= LATE else None


def picture(frame: int) -> Image.Image:
    """Frame ``frame`` of the clip: a red square that moves to the right and is hidden for a while, a blue one that comes late and stays."""
    image = Image.new("RGB", SIZE, GROUND)
    for name, colour in (("red", RED), ("blue", BLUE)):
        if place := box(name, frame):
            image.paste(colour, tuple(int(edge) for edge in place))  # type: ignore[arg-type]
    return image


def save_clip(
    path: str | Path, frames: int = FRAMES, *, times: Sequence[int] | None = None, pix_fmt: str = "yuv444p", rotation: int = 0
) -> str:
    """The clip as a video, as `save_film` makes it."""
    return save_film(path, (picture(number % FRAMES) for number in range(frames)), times=times, pix_fmt=pix_fmt, rotation=rotation)


def save_frames(folder: str, names: Sequence[str] | None = None) -> str:
    Path(folder).mkdir(parents=True)
    for number, name in enumerate(names or [f"{number:05d}.png" for number in range(FRAMES)]):
        picture(number).save(f"{folder}/{name}")
    return folder


def save_animation(path: str, frames: int) -> str:
    first, *others = [picture(number) for number in range(frames)]
    first.save(path, save_all=True, append_images=others, duration=100)
    return path


def red_at(frame: int) -> str:
    """A prompt on the red square."""
    place = box("red", frame)
    assert place
    return f"point:{place[0] + 5},{place[1] + 5}@{frame}"


BLUE_LATE = f"point:60,34@{LATE}"


def boxes(record: Record) -> dict[int, list[float] | None]:
    """The boxes of a line's objects by id."""
    return {one["id"]: one["box"] for one in record["segment"]["objects"]}


def decode(one: Record) -> Any:
    from pycocotools import mask

    return mask.decode({"size": one["rle"]["size"], "counts": one["rle"]["counts"].encode()}).astype(bool)


def error(record: Record) -> tuple[str, str]:
    value = record["segment"]
    assert value.keys() == {"error"}
    return value["error"]["kind"], value["error"]["message"]


# What people do first


def test_a_point_is_the_middle_and_the_default(run: Run, trackers: list[ColourTracker], valid: Valid) -> None:
    image = Image.new("RGB", (50, 40), GROUND)
    image.paste(RED, (20, 15, 31, 26))
    image.save("a.png")
    records = [*valid(run("segment", "a.png")), *valid(run("segment", "a.png", "--prompt", "point"))]
    truth = np.zeros((40, 50), bool)
    truth[15:26, 20:31] = True
    for record in records:
        assert list(record) == ["path", "segment"]
        value = record["segment"]
        assert list(value) == ["model", "revision", "prompts", "objects", "seconds"]
        assert (value["model"], value["revision"], value["prompts"]) == ("colours", "sha256:0", ["point"])
        (one,) = value["objects"]
        assert list(one) == ["id", "rle", "box", "area", "score", "iou"]
        assert (one["id"], one["box"], one["area"], one["score"], one["iou"]) == (1, [20, 15, 31, 26], 121, 1.0, 0.75)
        np.testing.assert_array_equal(decode(one), truth)
    assert not Path("visiontk-out").exists(), "no files in a pipe"


def test_verbose_says_what_runs_where_and_how_fast(run: Run, trackers: list[ColourTracker]) -> None:
    said = run("segment", save_clip("clip.mp4"), "-p", red_at(0), "-v").stderr
    assert "colours sha256:0 on cpu" in said and re.search(rf"{FRAMES} frames in \d+\.\d s, \d+\.\d a second", said), said
    assert "a second" not in run("segment", "clip.mp4", "-p", red_at(0)).stderr


def test_a_video_gives_a_line_for_each_frame(run: Run, trackers: list[ColourTracker], valid: Valid) -> None:
    records = valid(run("segment", save_clip("clip.mp4"), "-p", red_at(0)))
    assert [list(record) for record in records] == [["path", "frame", "time", "segment"]] * FRAMES
    assert [(record["frame"], record["time"]) for record in records] == [(number, number / 10) for number in range(FRAMES)]
    assert [boxes(record) for record in records] == [{1: box("red", number)} for number in range(FRAMES)]
    for number in HIDDEN:
        (one,) = records[number]["segment"]["objects"]
        assert (one["area"], one["box"], one["score"]) == (0, None, 0.0)
        assert one["rle"]["size"] == [HEIGHT, WIDTH] and not decode(one).any()


def test_a_point_without_a_place_is_the_middle_of_the_first_frame_and_the_default(run: Run, trackers: list[ColourTracker]) -> None:
    save_clip("clip.mp4")
    for arguments in (["-p", "point"], []):
        assert run("segment", "clip.mp4", *arguments).records[0]["segment"]["prompts"] == ["point"]
        (video,) = trackers[-1].asked
        (prompt,) = video["prompts"]
        assert (prompt.object_id, prompt.frame, prompt.points, prompt.labels) == (1, 0, ((WIDTH / 2, HEIGHT / 2),), (1,))
        assert (prompt.box, prompt.mask) == (None, None)


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_a_turned_video_is_segmented_as_it_is_shown(rotation: int, run: Run, trackers: list[ColourTracker], valid: Valid) -> None:
    def turned(frame: int) -> list[float] | None:
        if (place := box("red", frame)) is None:
            return None
        for quarter in range(rotation // 90):
            across = SIZE[quarter % 2]  # how wide the picture is before this quarter turn
            place = [place[1], across - place[2], place[3], across - place[0]]
        return place

    first = turned(0)
    assert first
    point = f"point:{first[0] + 5},{first[1] + 5}"
    result = run("segment", save_clip("turned.mp4", rotation=rotation), "-p", point, "-o", "overlay.mp4")
    records = valid(result)
    assert [boxes(record) for record in records] == [{1: turned(number)} for number in range(FRAMES)]
    upright = SIZE if rotation == 180 else SIZE[::-1]
    assert {tuple(one["rle"]["size"]) for record in records for one in record["segment"]["objects"]} == {upright[::-1]}
    found = probe("overlay.mp4")
    assert (found.width, found.height, found.frames_estimate) == (*upright, FRAMES)


def test_a_portrait_of_odd_sides(run: Run, trackers: list[ColourTracker], valid: Valid) -> None:
    """Masks are of just that size. H.264 has even sides alone, so the overlay repeats the last column and row."""
    place = (7, 60, 22, 97)
    with av.open("odd.mkv", "w") as container:
        stream: Any = container.add_stream("ffv1", rate=10)
        stream.width, stream.height, stream.pix_fmt = 51, 97, "bgr0"
        for _ in range(3):
            image = Image.new("RGB", (51, 97), GROUND)
            image.paste(RED, place)
            container.mux(stream.encode(av.VideoFrame.from_image(image)))  # type: ignore[no-untyped-call]
        container.mux(stream.encode())
    records = valid(run("segment", "odd.mkv", "-p", "point:10,96", "--save", "overlay,masks", "-o", "out"))
    assert [boxes(record) for record in records] == [{1: [*place]}] * 3
    assert {tuple(one["rle"]["size"]) for record in records for one in record["segment"]["objects"]} == {(97, 51)}
    assert Image.open("out/odd/00002.png").size == (51, 97)
    assert (probe("out/odd-overlay.mp4").width, probe("out/odd-overlay.mp4").height) == (52, 98)


def test_ten_bits_and_frames_at_odd_times(run: Run, trackers: list[ColourTracker], valid: Valid) -> None:
    times = [0, 1, 5, 6, 7, 11, 12, 20, 21, 22, 23, 40]
    name = save_clip("deep.mkv", times=times, pix_fmt="yuv444p10le")
    records = valid(run("segment", name, "-p", red_at(0), "-o", "overlay.mp4"))
    assert [boxes(record) for record in records] == [{1: box("red", number)} for number in range(FRAMES)]
    assert [record["time"] for record in records] == [time / 10 for time in times]
    with av.open("overlay.mp4") as shown:
        assert [round(float(frame.time), 3) for frame in shown.decode(video=0)] == [time / 10 for time in times]


def test_the_real_model_answers_as_its_adapter_does(run: Run, tiny_sam2: Path, bunny: Path, valid: Valid) -> None:
    import visiontk
    from visiontk.adapters.segment import ObjectPrompt
    from visiontk.media.video import read_frames

    arguments = ["--dtype", "fp32", "--end", "5", "-p", "point:100,200", "-p", "box:25%,25%,75%,75%@3#7"]
    records = valid(run("segment", bunny, "-m", tiny_sam2, *arguments))
    segmenter = visiontk.load("segment", str(tiny_sam2), visiontk.Runtime(dtype="fp32", device="cpu"))
    frames = [(frame.index, frame.image) for frame, _ in zip(read_frames(str(bunny)), range(6), strict=False)]
    prompts = [ObjectPrompt(1, 0, ((100.0, 200.0),), (1,)), ObjectPrompt(7, 3, box=(160.0, 90.0, 480.0, 270.0))]
    for record, wanted in zip(records, segmenter.video(frames, prompts), strict=True):
        assert record["segment"]["revision"] == segmenter.revision and segmenter.revision.startswith("sha256:")
        assert [one["id"] for one in record["segment"]["objects"]] == [one.object_id for one in wanted.objects]
        for ours, theirs in zip(record["segment"]["objects"], wanted.objects, strict=True):
            assert (decode(ours) != theirs.mask).mean() < 1e-3
            assert (ours["iou"], ours["score"]) == pytest.approx((theirs.iou, theirs.score), abs=1e-3)
    assert [len(record["segment"]["objects"]) for record in records] == [1, 1, 1, 2, 2, 2]


# Prompts


def test_objects_and_corrections_take_effect_on_their_frames(run: Run, trackers: list[ColourTracker]) -> None:
    arguments = ["-p", f"{red_at(0)}#3", "-p", BLUE_LATE, "-p", "point:-40,40@7#3"]
    records = run("segment", save_clip("clip.mp4"), *arguments).records
    assert [list(boxes(record)) for record in records] == [[3]] * LATE + [[1, 3]] * (FRAMES - LATE)
    assert boxes(records[-1]) == {1: box("blue", 11), 3: box("red", 11)}
    assert records[0]["segment"]["prompts"] == arguments[1::2]
    (video,) = trackers[-1].asked
    said = {(prompt.object_id, prompt.frame): (prompt.points, prompt.labels) for prompt in video["prompts"]}
    assert said == {(3, 0): (((9.0, 13.0),), (1,)), (1, LATE): (((60.0, 34.0),), (1,)), (3, 7): (((40.0, 40.0),), (0,))}


def test_percent_boxes_and_several_points(run: Run, trackers: list[ColourTracker]) -> None:
    picture(6).save("a.png")
    result = run("segment", "a.png", "-p", "box:50%,50%,100%,100%#2", "-p", "point:25%,25%+30,12-0,0")
    assert boxes(result.records[0]) == {1: box("red", 6), 2: box("blue", 6)}
    point, rectangle = trackers[-1].asked[0]
    assert (point.points, point.labels) == (((20.0, 12.0), (30.0, 12.0), (0.0, 0.0)), (1, 1, 0))
    assert rectangle.box == (40.0, 24.0, 80.0, 48.0)


def test_masks_binary_and_indexed(run: Run, trackers: list[ColourTracker]) -> None:
    picture(6).save("a.png")
    both = np.zeros((HEIGHT, WIDTH), np.uint8)
    both[8:20, 16:28], both[28:40, 50:70] = 2, 5
    Image.fromarray(both).save("both.png")
    Image.fromarray((both == 5).astype(np.uint8) * np.uint8(255)).save("blue.png")
    assert boxes(run("segment", "a.png", "-p", "mask:both.png").records[0]) == {2: box("red", 6), 5: box("blue", 6)}
    assert boxes(run("segment", "a.png", "-p", "mask:blue.png").records[0]) == {1: box("blue", 6)}
    assert boxes(run("segment", "a.png", "-p", "mask:blue.png#9").records[0]) == {9: box("blue", 6)}
    np.testing.assert_array_equal(trackers[-1].asked[0][0].mask, both == 5)
    Image.fromarray(both[:-1]).save("small.png")
    kind, message = error(run("segment", "a.png", "-p", "mask:small.png").records[0])
    assert kind == "bad_prompt" and "80x47" in message and "80x48" in message
    Image.new("L", SIZE).save("none.png")
    for text in ("mask:none.png", "mask:none.png#3"):
        empty = run("segment", "a.png", "-p", text)
        assert (empty.code, empty.error) == (2, "the mask none.png is empty; give one that shows something")


def test_masks_that_number_no_objects_or_lack_the_one_asked_for(run: Run, trackers: list[ColourTracker], valid: Valid) -> None:
    picture(6).save("a.png")
    both = np.zeros((HEIGHT, WIDTH), np.uint8)
    both[8:20, 16:28], both[28:40, 50:70] = 2, 7
    Image.fromarray(both).save("two.png")
    assert boxes(run("segment", "a.png", "-p", "mask:two.png#7").records[0]) == {7: box("blue", 6)}
    Image.fromarray(np.resize(np.arange(100, dtype=np.uint8), (HEIGHT, WIDTH))).save("soft.png")
    Image.fromarray(((both > 0) * 255).astype(np.uint8)).resize((40, 24)).resize((WIDTH, HEIGHT), Image.Resampling.BOX).save("edges.png")
    for mask, message in (
        ("two.png#5", "two.png has 2, 7"),
        ("soft.png", "100 different values"),
        ("soft.png#3", "threshold it first"),
        ("edges.png", "threshold it first"),
    ):
        refused = run("segment", "a.png", "-p", f"mask:{mask}")
        assert refused.code == 2 and message in refused.error
        file, _, number = mask.partition("#")
        own = {"path": "a.png", "prompts": [{"mask": file, **({"object": int(number)} if number else {})}]}
        (record,) = valid(run("segment", stdin=json.dumps(own).encode()), 3)
        assert error(record)[0] == "bad_prompt" and message in error(record)[1]


def test_void_in_a_palette_is_no_object(run: Run, trackers: list[ColourTracker]) -> None:
    """255, as DAVIS and VOC have it around objects. In a map of 16 bits it is a number like others."""
    picture(6).save("a.png")
    both = np.zeros((HEIGHT, WIDTH), np.uint8)
    both[4:24, 12:32], both[8:20, 16:28] = 255, 3
    palette = Image.fromarray(both, "P")
    palette.putpalette([0, 0, 0] * 255 + [255, 255, 255])
    palette.save("void.png")
    Image.fromarray(both.astype(np.uint16)).save("many.png")
    assert boxes(run("segment", "a.png", "-p", "mask:void.png").records[0]) == {3: box("red", 6)}
    run("segment", "a.png", "-p", "mask:void.png#1")
    np.testing.assert_array_equal(trackers[-1].asked[0][0].mask, both == 3)
    run("segment", "a.png", "-p", "mask:many.png")
    assert [prompt.object_id for prompt in trackers[-1].asked[0]] == [3, 255]


@pytest.mark.parametrize("direction", ["forward", "backward", "both"])
def test_a_record_whose_prompts_are_none_has_no_objects(run: Run, trackers: list[ColourTracker], valid: Valid, direction: str) -> None:
    picture(6).save("a.png")
    given = [{"path": path, "prompts": []} for path in ("a.png", save_clip("clip.mkv"))]
    arguments = ["segment", "--direction", direction, "--save", "overlay", "-o", "out"]
    stdin = "".join(json.dumps(record) + "\n" for record in given).encode()
    result = run(*arguments, stdin=stdin)
    records = valid(result)
    assert [(record["path"], record["segment"]["objects"]) for record in records] == [("a.png", []), *[("clip.mkv", [])] * FRAMES]
    assert [record["frame"] for record in records[1:]] == list(range(FRAMES))
    lines = result.stdout.splitlines(keepends=True)
    for keep in (4, len(lines)):
        Path("out.jsonl").write_bytes(b"".join(lines[:keep]))
        assert run(*arguments, "--resume", "out.jsonl", stdin=stdin).code == 0
        assert len(Path("out.jsonl").read_bytes().splitlines()) == len(lines)
    cut = run("segment", "--direction", direction, "--start", "2", "--end", "5", stdin=json.dumps(given[1]).encode())
    assert [record["frame"] for record in valid(cut)] == [2, 3, 4, 5]


def test_prompts_from_a_file(run: Run, trackers: list[ColourTracker]) -> None:
    entries: list[Record] = [{"object": 4, "points": [[9, 13]]}, {"object": 2, "frame": LATE, "box": ["60%", 30, 68, 39]}]
    Path("p.json").write_text(json.dumps(entries))
    records = run("segment", save_clip("clip.mp4"), "--prompts", "p.json").records
    assert boxes(records[-1]) == {2: box("blue", 11), 4: box("red", 11)}
    assert records[0]["segment"]["prompts"] == ["p.json"]
    both = run("segment", "clip.mp4", "--prompts", "p.json", "-p", "point:0,0").records[-1]
    assert list(boxes(both)) == [1, 2, 4] and both["segment"]["prompts"] == ["point:0,0", "p.json"]


def test_a_records_own_prompts_come_first(run: Run, trackers: list[ColourTracker], schema: Record) -> None:
    picture(6).save("a.png")
    lines: list[Record] = [
        {"path": "a.png", "n": 1, "prompts": [{"object": 3, "box": [50, 28, 70, 40]}], "z": None},
        {"path": "a.png", "n": 2},
        {"path": save_clip("clip.mp4"), "n": 3, "prompts": [{"points": [[60, 34]], "frame": LATE}]},
        {"path": "a.png", "frame": 0, "n": 4, "prompts": [{"points": [[999, 1]]}]},
        {"path": "a.png", "n": 5, "prompts": "here"},
    ]
    result = run("segment", "-p", "point:20,10", stdin=b"".join(json.dumps(line).encode() + b"\n" for line in lines))
    records = result.records
    for record in records[:-1]:
        jsonschema.validate(record, schema)
    assert [record["n"] for record in records] == [1, 2, *[3] * FRAMES, 4, 5]
    assert list(records[0]) == ["path", "n", "prompts", "z", "segment"]
    assert boxes(records[0]) == {3: box("blue", 6)} and "prompts" not in records[0]["segment"]
    assert boxes(records[1]) == {1: box("red", 6)} and records[1]["segment"]["prompts"] == ["point:20,10"]
    assert [boxes(record) for record in records[2:-2]] == [{}] * LATE + [{1: box("blue", LATE)}] * (FRAMES - LATE)
    assert [error(record)[0] for record in records[-2:]] == ["bad_prompt", "bad_prompt"]


def test_everything_in_a_picture(run: Run, trackers: list[ColourTracker]) -> None:
    picture(6).save("a.png")
    assert boxes(run("segment", "a.png", "-p", "auto").records[0]) == {1: box("red", 6), 2: box("blue", 6)}
    knobs = ["--points-per-side", "7", "--min-iou", "0.5", "--min-stability", "0.6", "--min-area", "200"]
    knobs += ["--box-nms", "0.9", "--crop-layers", "1"]
    assert boxes(run("segment", "a.png", "-p", "auto", *knobs).records[0]) == {1: box("blue", 6)}
    (given,) = trackers[-1].asked
    assert (given.points_per_side, given.min_iou, given.min_stability, given.min_area) == (7, 0.5, 0.6, 200)
    assert (given.box_nms, given.crop_layers) == (0.9, 1)
    beside = run("segment", "a.png", "-p", "auto", "-p", "point:60,34#5").records[0]
    assert boxes(beside) == {5: box("blue", 6), 6: box("red", 6)}, "what was prompted is not found again"


def test_everything_in_a_video(run: Run, trackers: list[ColourTracker]) -> None:
    save_clip("clip.mp4")
    assert [list(boxes(record)) for record in run("segment", "clip.mp4", "-p", "auto").records] == [[1]] * FRAMES
    again = run("segment", "clip.mp4", "-p", "auto", "--auto-every", "4").records
    assert [list(boxes(record)) for record in again] == [[1]] * 8 + [[1, 2]] * 4
    later = run("segment", "clip.mp4", "-p", "auto@6").records
    assert [boxes(record) for record in later[5:7]] == [{}, {1: box("red", 6), 2: box("blue", 6)}]
    both = run("segment", "clip.mp4", "-p", "auto@6", "--direction", "both").records
    assert boxes(both[0]) == {1: box("red", 0), 2: None}


def test_the_help_names_every_form_of_prompt_and_can_be_taken_at_its_word(run: Run) -> None:
    from visiontk import prompts

    shown = run("segment", "--help").stdout.decode()
    examples = [line for line in shown.splitlines() if re.match(r"  (.* \| )?visiontk segment ", line)]
    written = re.findall(r" (?:-p|--prompt) (\S+)", "\n".join(examples))
    assert len(written) >= 6
    table, _, _ = shown.partition("Prompts: ")[2].partition("Without @FRAME")
    forms = re.findall(r"^    (\S+)  ", table, re.MULTILINE)
    assert set(re.split(", | or ", prompts.FORMS)) <= set(forms)
    numbers = [re.sub(r"\b[XY]([01]?)\b", r"1\1", form) for form in forms]  # X0 < X1
    for text in [*written, *numbers]:
        read = prompts.read(text)
        kind = "points" if text.startswith("point") else text.partition(":")[0].partition("@")[0]
        assert getattr(read, kind), text


def test_the_help_names_every_kind_of_file(run: Run) -> None:
    kinds = sorted(import_module("visiontk.commands.segment_names").Kind)
    shown = run("segment", "--help").stdout.decode()
    files, _, _ = shown.partition("Files, by --save")[2].partition("\n\n")
    assert sorted(re.findall(r"^    (\w+)  ", files, re.MULTILINE)) == kinds
    listed = re.search(r"Files to write: ([^.]*)\.", shown)
    assert listed and sorted(re.split(r",\s+", listed[1])) == kinds


def test_what_is_compiled_is_what_the_help_says(run: Run, tiny_sam2: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    compiled: list[str] = []

    def note(function: Any, **_: Any) -> Any:
        compiled.append(type(function.__self__).__name__)
        return function

    monkeypatch.setattr(torch, "compile", note)
    picture(0).save("a.png")
    assert run("segment", "a.png", "-m", tiny_sam2, "--compile").code == 0
    assert compiled == ["ImageEncoder"]
    assert "torch.compile the image encoder, and nothing else" in " ".join(run("segment", "--help").stdout.decode().split())


# Which way


def test_before_the_first_prompt_there_are_no_objects(run: Run, trackers: list[ColourTracker]) -> None:
    records = run("segment", save_clip("clip.mp4"), "-p", red_at(3)).records
    assert [boxes(record) for record in records] == [{}] * 3 + [{1: box("red", number)} for number in range(3, FRAMES)]


def test_backward(run: Run, trackers: list[ColourTracker], valid: Valid) -> None:
    records = valid(run("segment", save_clip("clip.mp4"), "-p", red_at(7), "--direction", "backward"))
    assert [record["frame"] for record in records] == list(range(8))
    assert [record["time"] for record in records] == [number / 10 for number in range(8)]
    assert [boxes(record) for record in records] == [{1: box("red", number)} for number in range(8)]
    (video,) = trackers[-1].asked
    assert (video["frames"], video["reverse"], video["length"]) == (list(range(7, -1, -1)), True, FRAMES)
    part = run("segment", "clip.mp4", "-p", "point:25,13", "--direction", "backward", "--start", "2", "--end", "7").records
    assert [(record["frame"], boxes(record)) for record in part] == [(number, {1: box("red", number)}) for number in range(2, 8)]


def test_both_ways_each_object_from_its_own_first_prompt(run: Run, trackers: list[ColourTracker]) -> None:
    arguments = ["-p", f"{red_at(3)}#1", "-p", f"{red_at(10)}#1", "-p", f"{BLUE_LATE}#2", "--direction", "both"]
    records = run("segment", save_clip("clip.mp4"), *arguments).records
    assert [boxes(record) for record in records] == [{1: box("red", number), 2: box("blue", number)} for number in range(FRAMES)]
    back, forth = trackers[-1].asked
    assert (back["reverse"], back["frames"]) == (True, [5, 4, 3, 2, 1, 0])
    assert [(prompt.object_id, prompt.frame) for prompt in back["prompts"]] in ([(1, 3), (2, 5)], [(2, 5), (1, 3)])
    assert (forth["reverse"], forth["frames"]) == (False, list(range(3, FRAMES)))
    assert [(prompt.object_id, prompt.frame) for prompt in forth["prompts"]] == [(1, 3), (2, 5), (1, 10)]


def test_the_way_back_through_a_pipe_keeps_its_bytes_and_few_frames(
    run: Run, trackers: list[ColourTracker], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With room for no more than one frame at once; a file that is redirected can be read again as it is."""
    data = Path(save_clip("clip.mkv")).read_bytes()
    waiting, keep = set[int](), Backlog.keep

    def counted(kept: Backlog, frame: VideoFrame) -> None:
        keep(kept, frame)
        waiting.add(len(kept))

    monkeypatch.setattr(spool, "ROOM", 1)
    monkeypatch.setattr(Backlog, "keep", counted)
    arguments = ["-p", f"{red_at(7)}#1", "-p", f"{BLUE_LATE}#2"]
    for direction in ("backward", "both"):
        wanted = run("segment", "clip.mkv", *arguments, "--direction", direction).records
        piped = run("segment", "-", *arguments, "--direction", direction, stdin=data).records
        for record in [*piped, *wanted]:
            del record["segment"]["seconds"]
        assert piped == [{**record, "path": "-"} for record in wanted]
        assert len(piped) == {"backward": 8, "both": FRAMES}[direction]
    assert waiting == {1}


def test_from_frame_to_frame(run: Run, trackers: list[ColourTracker]) -> None:
    records = run("segment", save_clip("clip.mp4"), "--start", "4", "--end", "7", "-p", "point:20,13").records
    assert [(record["frame"], boxes(record)) for record in records] == [(number, {1: box("red", number)}) for number in range(4, 8)]
    assert trackers[-1].asked[0]["frames"] == [4, 5, 6, 7]
    assert trackers[-1].asked[0]["prompts"][0].frame == 4, "a prompt without a frame is on the first one"
    assert [record["frame"] for record in run("segment", "clip.mp4", "--start", "10").records] == [10, 11]


# Inputs


def test_pictures_of_a_folder_are_a_video_where_they_are_numbered(run: Run, trackers: list[ColourTracker], valid: Valid) -> None:
    save_frames("in/a")
    save_frames("in/b", ["x 10.png", "x 9.png", "x 8.png"])
    save_frames("in/c", ["one.png", "two.png"])
    save_clip("in/c/clip.mp4")
    records = valid(run("segment", "in", "-p", "point:9,13"))
    paths = [record["path"] for record in records]
    assert paths[:FRAMES] == [f"in/a/{number:05d}.png" for number in range(FRAMES)]
    assert paths[FRAMES : FRAMES + 3] == ["in/b/x 8.png", "in/b/x 9.png", "in/b/x 10.png"], "in the order of their numbers"
    assert paths[FRAMES + 3 :] == [*["in/c/clip.mp4"] * FRAMES, "in/c/one.png", "in/c/two.png"]
    assert [record["segment"].get("frame") for record in records[:FRAMES]] == list(range(FRAMES))
    assert all("frame" not in record for record in records[:FRAMES]), "each file is read as a picture by the next stage"
    assert [boxes(record) for record in records[:FRAMES]] == [{1: box("red", number)} for number in range(FRAMES)]
    assert [len(call["frames"]) for call in trackers[-1].asked if isinstance(call, dict)] == [FRAMES, 3, FRAMES]


def test_numbered_animations_of_a_folder_are_a_video_each(run: Run, trackers: list[ColourTracker], valid: Valid) -> None:
    Path("in").mkdir()
    for number in range(2):
        first, *rest = [picture(frame) for frame in range(4)]
        first.save(f"in/clip_{number}.gif", save_all=True, append_images=rest, duration=100)
    for options in ([], ["--sequence"], ["--no-sequence"]):
        records = valid(run("segment", "in", "-p", "point:9,13", *options))
        found = [(record["path"], record["frame"]) for record in records]
        assert found == [(f"in/clip_{number}.gif", frame) for number in range(2) for frame in range(4)]
    save_frames("row")
    Path("in/clip_0.gif").rename("row/preview.gif")
    for options in ([], ["--sequence"]):
        paths = [record["path"] for record in valid(run("segment", "row", "-p", "point:9,13", *options))]
        assert paths == [f"row/{number:05d}.png" for number in range(FRAMES)] + ["row/preview.gif"] * 4, "beside the frames of another"


def test_masks_beside_the_frames_of_a_set_like_davis_are_no_input(run: Run, trackers: list[ColourTracker], valid: Valid) -> None:
    save_frames("set/JPEGImages/1")
    save_frames("set/Annotations/1")
    save_frames("other/Annotations")
    records = valid(run("segment", "set", "-p", "point:9,13"))
    assert [record["path"] for record in records] == [f"set/JPEGImages/1/{number:05d}.png" for number in range(FRAMES)]
    assert len(run("segment", "set/Annotations", "-p", "point:9,13").records) == FRAMES, "named, they are"
    assert len(run("segment", "other", "-p", "point:9,13").records) == FRAMES, "alone, they are pictures like others"


def test_sequence_or_not_by_order(run: Run, trackers: list[ColourTracker]) -> None:
    save_frames("in", ["b2.png", "b10.png", "c.png"])

    def calls(*arguments: str, stdin: bytes | None = None) -> list[Any]:
        result = run("segment", *arguments, stdin=stdin)
        assert result.code == 0, result.stderr
        return [call["frames"] if isinstance(call, dict) else "picture" for call in trackers[-1].asked]

    assert calls("in") == ["picture"] * 3
    assert calls("in", "--sequence") == [[0, 1, 2]]
    assert calls("in/b2.png", "in/c.png", "--sequence") == [[0, 1]]
    assert calls("in/b2.png", "in/c.png") == ["picture"] * 2
    assert [Path(record["path"]).name for record in run("segment", "in/*.png", "--sequence").records] == ["b2.png", "b10.png", "c.png"]
    assert calls("--sequence", stdin=b"in/c.png\nin/b2.png\n") == [[0, 1]]
    save_frames("video")
    assert calls("video", "--no-sequence") == ["picture"] * FRAMES


def test_a_folder_that_is_taken_as_one_video_is_said_to_be(run: Run, trackers: list[ColourTracker]) -> None:
    save_frames("in/a")
    save_frames("in/b", ["one.png", "two.png"])
    said = "visiontk: in/a is taken as one video of 12 frames; --no-sequence takes its pictures one by one\n"
    assert run("segment", "in").stderr == said
    for arguments in (["-q"], ["--sequence"], ["--no-sequence"]):
        assert run("segment", "in", *arguments).stderr == "", "where it was ordered there is nothing to say"


def test_sizes_are_those_of_upright_pictures(run: Run, trackers: list[ColourTracker]) -> None:
    """A camera held upright writes the same frames as one held level, and says so in the EXIF data."""
    Path("in").mkdir()
    picture(0).save("in/0.jpg")
    turned = Image.Exif()
    turned[0x0112] = 6
    picture(1).transpose(Image.Transpose.ROTATE_90).save("in/1.jpg", exif=turned)
    result = run("segment", "in")
    assert "one video of 2 frames" in result.stderr and len(result.records) == 2
    assert [call["frames"] for call in trackers[-1].asked] == [[0, 1]]


@pytest.mark.parametrize("form", ["gif", "webp"])
def test_a_moving_picture_is_a_video(run: Run, trackers: list[ColourTracker], valid: Valid, form: str) -> None:
    first, *rest = [picture(number) for number in range(4)]
    first.save(f"a.{form}", save_all=True, append_images=rest, duration=[100, 250, 40, 70], lossless=True)
    records = valid(run("segment", f"a.{form}", "-p", "point:9,13"))
    assert [(record["frame"], record["time"]) for record in records] == [(0, 0.0), (1, 0.1), (2, 0.35), (3, 0.39)]
    assert [boxes(record) for record in records] == [{1: box("red", number)} for number in range(4)]
    (piped,) = {tuple(map(str, map(boxes, run("segment", "-p", "point:9,13", stdin=Path(f"a.{form}").read_bytes()).records)))}
    assert piped == tuple(map(str, map(boxes, records)))


def test_bytes_of_a_video_or_an_image_in_the_pipe(run: Run, trackers: list[ColourTracker], valid: Valid) -> None:
    for name in ("clip.mkv", "clip.avi"):
        records = valid(run("segment", "-", "-p", red_at(0), stdin=Path(save_clip(name)).read_bytes()))
        assert [(record["path"], record["frame"]) for record in records] == [("-", number) for number in range(FRAMES)]
        assert boxes(records[-1]) == {1: box("red", 11)}
    picture(6).save("a.png")
    (record,) = valid(run("segment", "-p", "point:60,34", stdin=Path("a.png").read_bytes()))
    assert (record["path"], boxes(record)) == ("-", {1: box("blue", 6)})
    nothing = run("segment", "-", "-o", "none.mp4", stdin=b"")  # as of a decoder that failed
    assert (nothing.code, nothing.stdout, Path("none.mp4").exists()) == (0, b"", False)
    assert "nothing came through the pipe" in nothing.stderr


def test_a_camera(run: Run, trackers: list[ColourTracker], monkeypatch: pytest.MonkeyPatch) -> None:
    """FFmpeg's test picture in the place of a camera."""
    import av

    from visiontk.media import video

    opened: list[Any] = []
    real = av.open

    def fake(file: Any, *arguments: Any, **options: Any) -> Any:
        opened.append((file, options.get("format")))
        return real("testsrc=size=64x48:rate=5", format="lavfi")

    monkeypatch.setattr(video, "is_camera", lambda path: path == "/dev/video0")
    monkeypatch.setattr(av, "open", fake)
    records = run("segment", "/dev/video0", "--end", "8").records
    assert [(record["path"], record["frame"], record["time"]) for record in records] == [
        ("/dev/video0", number, number / 5) for number in range(9)
    ]
    assert opened == [("/dev/video0", "v4l2")]


def test_devices_are_not_read_as_files(run: Run, trackers: list[ColourTracker]) -> None:
    (record,) = run("segment", "/dev/zero").records
    assert error(record) == ("unreadable", "a device and not a file")


def test_other_lines_pass_through_and_stages_chain(run: Run, trackers: list[ColourTracker], valid: Valid) -> None:
    picture(6).save("a.png")
    first = run("segment", "-p", "point:60,34", stdin=b'{"input": "x"}\na.png\n{"path": 3}\n')
    passed, good, bad = valid(first, 3)
    assert passed == {"input": "x"} and error(bad)[0] == "bad_record"
    second = run("segment", "--as", "again", "-p", "point:60,34", stdin=json.dumps(good).encode())
    assert second.records[0]["again"]["objects"] == good["segment"]["objects"]
    refused = run("segment", stdin=json.dumps(good).encode())
    assert refused.code == 2 and "--as" in refused.error
    refused = run("segment", "--sequence", stdin=json.dumps(good).encode())
    assert refused.code == 2 and "--as" in refused.error
    frames = run("segment", save_clip("clip.mp4"), "-p", red_at(0)).stdout
    again = run("segment", "--as", "again", "-p", "point:60,34", stdin=frames).records
    assert [(record["frame"], [one["box"] for one in record["again"]["objects"]]) for record in again[-2:]] == [
        (10, [box("blue", 10)]),
        (11, [box("blue", 11)]),
    ], "frames in a pipe are single pictures"


def test_masks_in_prompts_may_be_run_length_encoded(run: Run, trackers: list[ColourTracker]) -> None:
    picture(6).save("a.png")
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[28:40, 50:70] = 255
    Image.fromarray(mask).save("blue.png")
    [named] = run("segment", "a.png", "-p", "mask:blue.png").records
    rle = named["segment"]["objects"][0]["rle"]
    Path("p.json").write_text(json.dumps([{"mask": rle, "object": 3}]))
    [given] = run("segment", "a.png", "--prompts", "p.json").records
    assert boxes(given) == {3: box("blue", 6)}
    [prompt] = trackers[-1].asked[0]
    np.testing.assert_array_equal(prompt.mask, decode(named["segment"]["objects"][0]))
    piped = {"path": "a.png", "prompts": [{"mask": rle}]}
    assert boxes(run("segment", stdin=json.dumps(piped).encode()).records[0]) == {1: box("blue", 6)}
    height, width = rle["size"]
    for wrong, said in (
        ({"size": [height + 1, width], "counts": rle["counts"]}, "is no COCO RLE"),
        ({"size": [2, 2], "counts": "4"}, "empty"),
        ({"size": [2, 2], "counts": "04"}, "is a mask of 2x2 pixels, and the picture has"),
        ({"size": [height, width], "counts": "~~"}, "is no COCO RLE"),
    ):
        Path("p.json").write_text(json.dumps([{"mask": wrong}]))
        result = run("segment", "a.png", "--prompts", "p.json")
        told = result.error if result.code == 2 else error(result.records[0])[1]
        assert "entry 1 of p.json" in told and said in told, told


# Forms of output


def test_a_row_for_each_object_and_frame(run: Run, trackers: list[ColourTracker]) -> None:
    save_clip("clip.mp4")
    arguments = ["-p", f"{red_at(0)}#2", "-p", BLUE_LATE, "clip.mp4", "gone.png"]
    for form, delimiter in (("csv", ","), ("tsv", "\t")):
        result = run("segment", *arguments, "--format", form)
        rows = list(csv.DictReader(io.StringIO(result.stdout.decode(), newline=""), delimiter=delimiter))
        assert len(rows) == FRAMES + FRAMES - LATE + 1
        hidden = [row for row in rows if row["frame"] == "8" and row["id"] == "2"]
        assert [(row["area"], row["x0"], row["score"]) for row in hidden] == [("0", "", "0.0")]
        last = rows[-2]
        assert [last[name] for name in ("path", "frame", "time", "id", "area")] == ["clip.mp4", "11", "1.1", "2", "144"]
        assert [float(last[name]) for name in ("x0", "y0", "x1", "y1")] == box("red", 11)
        assert decode({"rle": {"size": [int(last["height"]), int(last["width"])], "counts": last["counts"]}}).sum() == 144
        assert (rows[-1]["path"], rows[-1]["error"]) == ("gone.png", "there is no such file")


def test_frames_that_are_pictures_have_their_numbers_in_rows_and_in_the_view(run: Run, trackers: list[ColourTracker]) -> None:
    save_frames("in", ["00007.png", "00008.png", "00009.png"])
    rows = csv.DictReader(io.StringIO(run("segment", "in", "-p", red_at(1), "--format", "csv").stdout.decode(), newline=""))
    assert [(row["path"], row["frame"], row["id"]) for row in rows] == [
        ("in/00007.png", "0", ""),
        ("in/00008.png", "1", "1"),
        ("in/00009.png", "2", "1"),
    ]
    text = run("segment", "in", "-p", red_at(1), "--format", "table").stdout.decode()
    assert [line.split("  ")[:2] for line in text.splitlines()[:2]] == [["in/00007.png", "frame 0"], ["in/00008.png", "frame 1"]]


def test_the_view_for_people(run: Run, trackers: list[ColourTracker]) -> None:
    text = run("segment", save_clip("clip.mp4"), "gone.png", "-p", red_at(1), "--format", "table").stdout.decode()
    picture(6).save("a.png")
    shown = run("segment", "a.png", "-p", "point:20,10", "--format", "table", "-o", "out").stdout.decode()
    assert shown.strip().endswith("1.00  → out/a-overlay.png")
    lines = [line.strip() for line in text.splitlines()]
    assert lines[0] == "clip.mp4  frame 0  0.00 s  no objects"
    assert lines[1] == f"clip.mp4  frame 1  0.10 s  #1 {144 / (WIDTH * HEIGHT):.1%} 1.00"
    assert lines[8] == "clip.mp4  frame 8  0.80 s  #1 hidden"
    assert lines[-1] == "gone.png  there is no such file"


# Wrong input


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-p", "pont"], ["pont", "point:X,Y"]),
        (["-p", "box:5,5,2,9"], ["box:5,5,2,9"]),
        (["-p", "box:1,1,5,5#1", "-p", "box:2,2,6,6#1"], ["box:1,1,5,5#1", "box:2,2,6,6#1"]),
        (["-p", "mask:gone.png"], ["gone.png"]),
        (["-p", "mask:gone.png#2"], ["gone.png"]),
        (["--prompts", "gone.json"], ["gone.json"]),
        (["--prompts", "a.png"], ["a.png", "JSON"]),
        (["-p", "point@3", "--start", "5"], ["point@3", "--start"]),
        (["--direction", "backward"], ["the first frame", "@FRAME", "--end"]),
        (["--direction", "backward", "-p", "point:1,1", "-p", "box:1,1,9,9"], ["the first frame", "@FRAME", "--end"]),
        (["--direction", "backward", "--start", "3", "-p", "point:1,1"], ["frame 3, where --start is", "@FRAME", "--end"]),
        (["-p", "point:-5,5"], ["point:-5,5", "where object 1 is not", "add a point on it"]),
        (["-p", "point:5,5#1", "-p", "point:-5,5@3#2"], ["point:-5,5@3#2", "where object 2 is not"]),
        (["-p", "point:-5,5@0#1", "-p", "point:5,5@3#1"], ["point:-5,5@0#1", "where object 1 is not"]),
        (["-p", "point:5,5@0#1", "-p", "point:-5,5@3#1", "--direction", "backward"], ["point:-5,5@3#1", "where object 1 is not"]),
        (["-p", "point@9", "--end", "5"], ["point@9", "--end"]),
        (["--start", "5", "--end", "4"], ["--end 4"]),
        (["-p", "auto@9", "-p", "point@3"], ["auto starts the tracking; give no prompts on earlier frames"]),
        (["-p", "auto@2", "-p", "auto@5", "-p", "auto@9"], ["auto", "on the frames 2, 5, 9", "give it once", "--auto-every 3"]),
        (["-p", "auto@0", "-p", "auto@3", "--direction", "both"], ["auto", "with --direction none on other frames"]),
        (["-p", "auto", "--auto-every", "2", "--direction", "both"], ["--auto-every"]),
        (["--auto-every", "2"], ["--auto-every", "auto"]),
        (["--min-iou", "0.5"], ["--min-iou", "auto"]),
        (["--save", "overlay,film"], ["film", "overlay, masks"]),
        (["--save", "masks", "-o", "-"], ["-o -"]),
        (["--save", "coco", "--resume", "x.jsonl"], ["--save coco makes one file of the whole run", "--resume", "leave one of them out"]),
        (["-o", "x.mkv"], [".mp4"]),
        (["-o", "{nothing}"], ["{stem}"]),
        (["--format", "xml"], ["xml"]),
        (["--direction", "up"], ["up"]),
        (["--start", "-1"], ["--start"]),
    ],
)
def test_usage_errors_come_before_the_model_is_loaded(
    run: Run, trackers: list[ColourTracker], arguments: list[str], words: list[str]
) -> None:
    picture(0).save("a.png")
    result = run("segment", "a.png", *arguments)
    assert (result.code, result.stdout, trackers) == (2, b"", [])
    assert all(word in result.error for word in words), result.error
    assert not Path("x.jsonl").exists()


def test_a_correction_that_names_no_object_is_told_to(run: Run, trackers: list[ColourTracker]) -> None:
    picture(0).save("a.png")
    on, beside = "point:9,13", "point:-60,30"
    cure = ", or end it with #1 to correct object 1"
    assert run("segment", "a.png", "-p", on, "-p", f"{beside}@3").error == (
        f'the prompt "{beside}@3" says where object 2 is not, and nothing says where it is; add a point on it, as in point:X,Y-X,Y{cure}'
    )
    assert run("segment", "a.png", "-p", f"{on}@5", "-p", f"{beside}@3", "--direction", "backward").error.endswith(cure)
    Path("p.json").write_text(json.dumps([{"points": [[60, 30]], "labels": [0], "frame": 3}]))
    said = run("segment", "a.png", "-p", f"{on}#7", "--prompts", "p.json").error
    assert said.endswith(', or give it "object": 7 to correct object 7')
    for other in ([f"{beside}@3"], [f"{on}@5", f"{beside}@3"], [on, f"{beside}@3#2"]):
        said = run("segment", "a.png", *(word for prompt in other for word in ("-p", prompt))).error
        assert said.endswith("as in point:X,Y-X,Y"), "there is none to be corrected, or another was meant"


def test_backward_from_the_first_frame_in_a_pipe(run: Run, trackers: list[ColourTracker], valid: Valid) -> None:
    """Lines may have prompts of their own, and so it is wrong only where one has not."""
    save_clip("clip.mp4")
    given = {"path": "clip.mp4", "prompts": [{"points": [[19, 13]], "frame": 5}]}
    arguments = ["segment", "--direction", "backward"]
    assert len(valid(run(*arguments, stdin=json.dumps(given).encode()))) == 6
    refused = run(*arguments, stdin=json.dumps(given).encode() + b"\nclip.mp4\n")
    assert refused.code == 2 and "@FRAME" in refused.error and len(refused.records) == 6


def test_a_detectors_box_may_reach_over_the_edge(run: Run, trackers: list[ColourTracker]) -> None:
    picture(6).save("a.png")
    over = [-0.25, 8, WIDTH + 3, HEIGHT + 0.5]
    (record,) = run("segment", stdin=json.dumps({"path": "a.png", "prompts": [{"box": over}]}).encode()).records
    assert "objects" in record["segment"] and record["prompts"] == [{"box": over}]
    assert trackers[-1].asked[0][0].box == (0, 8, WIDTH, HEIGHT)
    for box in ([-9, 1, -2, 9], [WIDTH, 1, WIDTH + 9, 9]):
        (record,) = run("segment", stdin=json.dumps({"path": "a.png", "prompts": [{"box": box}]}).encode()).records
        assert error(record)[0] == "bad_prompt" and "lies outside the picture, which is 80x48" in error(record)[1]
    Path("p.json").write_text(json.dumps([{"box": [0, 8, WIDTH + 3, HEIGHT]}]))
    for own in (["-p", f"box:0,8,{WIDTH + 3},{HEIGHT}"], ["--prompts", "p.json"]):
        (record,) = run("segment", "a.png", *own).records
        assert error(record)[0] == "bad_prompt" and "lies outside the picture" in error(record)[1], "what a person wrote is not bent"


def test_a_records_prompts_on_its_own_frame_and_on_none_are_one_objects(run: Run, trackers: list[ColourTracker], valid: Valid) -> None:
    save_clip("clip.mp4")
    given = {
        "path": "clip.mp4",
        "frame": 3,
        "prompts": [{"object": 1, "box": [1, 1, 40, 40]}, {"object": 1, "frame": 3, "points": [[20, 20]]}],
    }
    (record,) = valid(run("segment", stdin=json.dumps(given).encode()))
    assert [one["id"] for one in record["segment"]["objects"]] == [1]
    (asked,) = trackers[-1].asked[0]
    assert asked.box == (1, 1, 40, 40) and asked.points == ((20, 20),)
    given["prompts"][1] = {"object": 1, "frame": 3, "box": [2, 2, 9, 9]}  # type: ignore[index]
    (record,) = valid(run("segment", stdin=json.dumps(given).encode()), 3)
    assert error(record)[0] == "bad_prompt" and "two boxes" in error(record)[1]


def test_a_point_beside_an_object_on_a_pictures_frame_and_one_on_it_on_none_are_one_prompt(
    run: Run, trackers: list[ColourTracker], valid: Valid
) -> None:
    save_clip("clip.mkv")
    on, beside = {"object": 1, "frame": 3, "points": [[14, 12]]}, {"object": 1, "points": [[60, 40]], "labels": [0]}
    record = {"path": "clip.mkv", "frame": 3, "prompts": [beside, on]}
    [found] = valid(run("segment", stdin=json.dumps(record).encode()))
    assert boxes(found) == {1: box("red", 3)}


def test_what_is_found_beside_the_last_number_takes_free_ones(run: Run, trackers: list[ColourTracker], valid: Valid) -> None:
    picture(LATE).save("a.png")
    [found] = valid(run("segment", "a.png", "-p", f"{red_at(LATE).split('@')[0]}#65535", "-p", "auto", "--save", "masks", "-o", "out/"))
    assert boxes(found) == {65535: box("red", LATE), 1: box("blue", LATE)}


def test_a_record_that_says_only_where_an_object_is_not(run: Run, trackers: list[ColourTracker], valid: Valid) -> None:
    picture(6).save("a.png")
    given = {"path": "a.png", "prompts": [{"object": 4, "points": [[9, 9]], "labels": [0]}]}
    (record,) = valid(run("segment", stdin=json.dumps(given).encode()), 3)
    assert error(record)[0] == "bad_prompt" and "where object 4 is not" in error(record)[1]


def test_prompts_that_do_not_fit_one_picture_of_many_are_its_error(run: Run, trackers: list[ColourTracker], valid: Valid) -> None:
    Image.new("RGB", (30, 30), RED).save("small.png")
    picture(6).save("large.png")
    save_clip("clip.mp4")
    records = valid(run("segment", "small.png", "large.png", "clip.mp4", "-p", "point:60,34@0"), 3)
    assert [record["path"] for record in records] == ["small.png", "large.png", *["clip.mp4"] * FRAMES]
    kind, message = error(records[0])
    assert kind == "bad_prompt" and "30x30" in message and "point:60,34@0" in message
    assert boxes(records[1]) == {1: box("blue", 6)}
    outside = valid(run("segment", "clip.mp4", "small.png", "-p", "point:31,90"), 3)
    assert [(record["path"], "frame" in record, error(record)[0]) for record in outside] == [
        ("clip.mp4", False, "bad_prompt"),
        ("small.png", False, "bad_prompt"),
    ]
    for name in ("large.png", "clip.mp4"):
        *_, last = run("segment", name, "-p", "point:5,5@60").records
        kind, message = error(last)
        assert kind == "no_frame" and "frame 60" in message


def test_a_prompt_past_the_end(run: Run, trackers: list[ColourTracker], valid: Valid) -> None:
    """It fails before the first frame is tracked, and where only decoding tells the length, after the last one."""
    save_clip("clip.mp4")
    save_animation("a.gif", 6)
    told = (
        'a prompt is on frame 40, and the last one is {}; use an earlier frame: @FRAME, "frame" in JSON, or --end with --direction backward'
    )
    for name, frame in (("clip.mp4", 11), ("a.gif", 5)):
        for direction in ("forward", "backward", "both"):
            (only,) = valid(run("segment", name, "-p", red_at(0), "-p", "point:5,5@40", "--direction", direction), 3)
            assert (only["path"], "frame" in only, error(only)) == (name, False, ("no_frame", told.format(frame)))
        (late,) = run("segment", name, "--start", "40").records
        assert error(late) == ("no_frame", "the video ends before frame 40; choose another --start")
    assert not any(tracker.asked for tracker in trackers)
    save_clip("clip.mkv")
    *records, last = valid(run("segment", "-", "-p", red_at(0), "-p", "point:5,5@40", stdin=Path("clip.mkv").read_bytes()), 3)
    assert [boxes(record) for record in records] == [{1: box("red", number)} for number in range(FRAMES)]
    assert (last["frame"], error(last)) == (FRAMES, ("no_frame", told.format(11)))
    (late,) = run("segment", "-", "--start", "40", stdin=Path("clip.mkv").read_bytes()).records
    assert error(late) == ("no_frame", "the video ends before frame 40; choose another --start")


def test_frames_of_a_folder_count_from_0_whatever_their_names_say(run: Run, trackers: list[ColourTracker], valid: Valid) -> None:
    save_frames("in", [f"{number:05d}.png" for number in range(10, 16)])
    for arguments in (["in"], ["in/%05d.png"], [*(f"in/{number:05d}.png" for number in range(10, 16)), "--sequence"]):
        (only,) = valid(run("segment", *arguments, "-p", "point@10"), 3)
        assert (only["path"], error(only)) == (
            "in",
            (
                "no_frame",
                "a prompt is on frame 10, and the last one is 5, as frames count from 0 whatever their names say; "
                'use an earlier frame: @FRAME, "frame" in JSON, or --end with --direction backward',
            ),
        )
        (only,) = valid(run("segment", *arguments, "--start", "10"), 3)
        told = "the video ends before frame 10, as frames count from 0 whatever their names say; choose another --start"
        assert error(only) == ("no_frame", told)
    assert not any(tracker.asked for tracker in trackers)


@pytest.mark.parametrize("direction", ["forward", "both"])
def test_a_video_that_breaks_in_the_middle(run: Run, trackers: list[ColourTracker], valid: Valid, direction: str) -> None:
    save_clip("whole.mkv", 60)
    data = Path("whole.mkv").read_bytes()
    Path("clip.mkv").write_bytes(data[: len(data) * 2 // 3])
    picture(6).save("z.png")
    *frames, broken, other = valid(run("segment", "clip.mkv", "z.png", "-p", "point:9,13@0", "--direction", direction), 3)
    assert other["path"] == "z.png" and "objects" in other["segment"], "the next input is unharmed"
    assert 20 < len(frames) < 60
    assert [boxes(record) for record in frames] == [{1: box("red", number % FRAMES)} for number in range(len(frames))]
    assert broken["frame"] == len(frames) and error(broken)[0] == "broken"
    (only,) = valid(run("segment", "clip.mkv", "-p", "point:9,13@59", "--direction", "backward"), 3)
    assert error(only)[0] == "broken"
    enough = valid(run("segment", "clip.mkv", "-p", "point:9,13", "--end", "2", "--direction", "backward"))
    assert [record["frame"] for record in enough] == [0, 1, 2], "what lies behind the frames in question is not looked at"


def test_what_is_no_video_or_has_no_frames(run: Run, trackers: list[ColourTracker], valid: Valid, photos: Path) -> None:
    import wave

    with wave.open("sound.wav", "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(bytes(8000))
    shutil.copy("sound.wav", "sound.mp4")
    Path("noise.mp4").write_bytes(bytes(range(256)) * 20)
    Path("empty.mp4").write_bytes(b"")
    Path("short.mp4").write_bytes(Path(save_clip("clip.mp4")).read_bytes()[:200])
    Path("hollow").mkdir()
    names = ["sound.mp4", "noise.mp4", "empty.mp4", "short.mp4", "gone.mp4", "hollow"]
    for direction in ("forward", "backward"):
        records = valid(run("segment", *names, "--direction", direction, "--end", "3"), 3)
        assert [record["path"] for record in records] == names
        assert [error(record)[0] for record in records] == ["broken"] * 4 + ["missing", "no_images"]


def test_frames_of_two_sizes(run: Run, trackers: list[ColourTracker], valid: Valid) -> None:
    """Pictures of different sizes are no video; where it is ordered all the same, it ends at the first odd one."""
    save_frames("in")
    Image.new("RGB", (30, 20)).save("in/00004.png")
    Path("in/00008.png").write_bytes(b"no picture")
    result = run("segment", "in", "-p", "point:9,13")
    records = valid(result, 3)
    assert [record["path"] for record in records] == [f"in/{number:05d}.png" for number in range(FRAMES)]
    assert [(record["path"], error(record)[0]) for record in records if "error" in record["segment"]] == [("in/00008.png", "not_an_image")]
    assert trackers[-1].asked and all(isinstance(call, list) for call in trackers[-1].asked), "each a picture for itself"
    said = "visiontk: in: the pictures are numbered like a video's but differ in size (80x48 and 30x20), so each is taken for itself"
    assert said in result.stderr.splitlines()
    *frames, other = valid(run("segment", "in", "-p", "point:9,13", "--sequence"), 3)
    assert len(frames) == 4 and other["path"] == "in/00004.png"
    kind, message = error(other)
    assert kind == "broken" and "30x20" in message and "80x48" in message and "one by one with --no-sequence" in message
    picture(4).save("in/00004.png")
    *frames, other = run("segment", "in", "-p", "point:9,13").records
    assert (len(frames), other["path"], error(other)[0]) == (8, "in/00008.png", "not_an_image")


def test_a_video_that_changes_its_size_cannot_be_taken_in_pictures(run: Run, trackers: list[ColourTracker], valid: Valid) -> None:
    for name, size in (("a.ts", SIZE), ("b.ts", (64, 32))):
        pictures = [picture(number).resize(size) for number in range(4)]
        save_film(name, pictures, format="mpegts", options={"preset": "ultrafast", "g": "1", "bf": "0"}, pix_fmt="yuv420p")
    Path("c.ts").write_bytes(Path("a.ts").read_bytes() + Path("b.ts").read_bytes())
    *frames, other = valid(run("segment", "c.ts", "-p", "point:9,13"), 3)
    assert len(frames) >= 3 and "error" not in frames[-1]["segment"]
    assert error(other) == ("broken", "the frame has 64x32 pixels and the first one 80x48; encode it anew at one size")


def test_a_video_of_no_frames_at_all(run: Run, trackers: list[ColourTracker], valid: Valid) -> None:
    with av.open("empty.avi", "w") as container:
        stream: Any = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        container.start_encoding()
    picture(6).save("z.png")
    empty, other = valid(run("segment", "empty.avi", "z.png", "-p", "point:20,10"), 3)
    assert error(empty) == ("broken", "no frame of the video can be decoded") and boxes(other) == {1: box("red", 6)}


@pytest.fixture
def decoded_on(monkeypatch: pytest.MonkeyPatch) -> list[threading.Thread]:
    """The thread of each frame that was decoded."""
    from visiontk.media import decoder

    threads: list[threading.Thread] = []
    convert = decoder.to_image

    def noted(frame: Any) -> Any:
        threads.append(threading.current_thread())
        return convert(frame)

    monkeypatch.setattr("visiontk.media.video.to_image", noted)
    return threads


def test_frames_are_decoded_on_another_thread(run: Run, trackers: list[ColourTracker], decoded_on: list[threading.Thread]) -> None:
    assert len(run("segment", save_clip("clip.mkv"), "-p", "point:9,13").records) == FRAMES
    assert len(decoded_on) == FRAMES and threading.main_thread() not in decoded_on


def test_sixteen_frames_are_decoded_while_the_model_has_not_answered_the_first(
    run: Run,
    trackers: list[ColourTracker],
    tracker_class: type[ColourTracker],
    decoded_on: list[threading.Thread],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ahead: list[int] = []
    track = tracker_class.video

    def slow(self: ColourTracker, *arguments: Any, **options: Any) -> Iterator[Any]:
        deadline = time.monotonic() + 10
        while len(decoded_on) < 18 and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.2)  # in which more could be
        ahead.append(len(decoded_on))
        yield from track(self, *arguments, **options)

    monkeypatch.setattr(tracker_class, "video", slow)
    assert len(run("segment", save_clip("clip.mkv", 40), "-p", "point:9,13").records) == 40
    assert ahead == [18], "the first one, 16 that wait, and one in the hand of who decodes"


def test_a_file_that_ends_before_its_index_is_told_to_be_cut(run: Run, trackers: list[ColourTracker], valid: Valid) -> None:
    whole = Path(save_clip("clip.mp4")).read_bytes()
    assert whole.rindex(b"moov") > len(whole) // 2
    for keep in (200, len(whole) // 3, whole.rindex(b"moov") - 8):
        Path("cut.mp4").write_bytes(whole[:keep])
        (only,) = valid(run("segment", "cut.mp4", "-p", "point:9,13"), 3)
        assert error(only)[0] == "broken"
        if keep < whole.rindex(b"moov") - 8:
            assert error(only)[1] == "the file ends before what says how to read it; get a whole copy of it"


# Memory


@pytest.mark.parametrize(("direction", "lines", "tracked"), [("forward", 300, 95), ("backward", 206, 206), ("both", 300, 206 + 95)])
def test_memory_does_not_grow_with_the_video(run: Run, trackers: list[ColourTracker], direction: str, lines: int, tracked: int) -> None:
    save_clip("long.mp4", 300)
    result = run("segment", "long.mp4", "-p", "point:60,34@205", "--direction", direction, "--save", "overlay,npz,coco", "-o", "out")
    assert len(result.records) == lines
    (*_, tracker) = trackers
    counts = [len(call["frames"]) for call in tracker.asked]
    assert sum(counts) == tracked and len(tracker.alive) == sum(count // 20 for count in counts)
    assert max(tracker.alive) <= 40, "16 decoded ahead, 16 that the model reads ahead, and some on their way"


# What comes through pipes


@pytest.mark.parametrize("format", ["nut", "h264"])
def test_bare_streams_are_told_by_their_first_bytes(run: Run, trackers: list[ColourTracker], valid: Valid, format: str) -> None:
    save_film(f"a.{format}", map(picture, range(4)), format=format, options={**LOSSLESS, "bf": "0"})
    data = Path(f"a.{format}").read_bytes()
    shutil.copy(f"a.{format}", "without-suffix")
    for records in (valid(run("segment", "-p", red_at(0), stdin=data)), valid(run("segment", "without-suffix", "-p", red_at(0)))):
        assert [record["frame"] for record in records] == [0, 1, 2, 3]
        assert [boxes(record)[1] for record in records] == [box("red", number) for number in range(4)]


def test_an_mp4_whose_index_is_at_its_end_cannot_come_through_a_pipe(run: Run, trackers: list[ColourTracker]) -> None:
    import os

    save_clip("a.mp4", 400)
    data = Path("a.mp4").read_bytes()
    at = data.index(b"mdat") + 4
    data = data[: at - 8] + (int.from_bytes(data[at - 8 : at - 4]) + 2**20).to_bytes(4) + b"mdat" + bytes(2**20) + data[at:]
    os.mkfifo("pipe.mp4")
    writer = threading.Thread(target=lambda: feed("pipe.mp4", data), daemon=True)
    writer.start()
    result = run("segment", "pipe.mp4", "-p", red_at(0))
    writer.join(10)
    assert (
        result.code == 3 and "an MP4 may have its index at its end" in result.stderr and "name the file, or send Matroska" in result.stderr
    )


def feed(path: str, data: bytes) -> None:
    import contextlib

    with contextlib.suppress(BrokenPipeError), Path(path).open("wb") as pipe:
        pipe.write(data)


def test_a_named_pipe_is_read_as_it_comes(run: Run, trackers: list[ColourTracker], valid: Valid) -> None:
    import os

    save_clip("a.mkv")
    picture(0).save("a.png")
    for data, frames in ((Path("a.mkv").read_bytes(), list(range(FRAMES))), (Path("a.png").read_bytes(), [None])):
        os.mkfifo("pipe")
        writer = threading.Thread(target=feed, args=("pipe", data), daemon=True)
        writer.start()
        records = valid(run("segment", "pipe", "-p", red_at(0)))
        writer.join(10)
        Path("pipe").unlink()
        assert [(record["path"], record.get("frame")) for record in records] == [("pipe", frame) for frame in frames]
        assert boxes(records[0])[1] == box("red", 0)


# Rows of pictures


def send(lines: list[dict[str, Any]]) -> bytes:
    return "\n".join(map(json.dumps, lines)).encode()


def test_frames_that_an_earlier_stage_named_are_tracked_as_one_sequence(run: Run, trackers: list[ColourTracker], valid: Valid) -> None:
    """Each line keeps what it says; the overlay is that of the video."""
    save_clip("clip.mp4", 6)
    lines = [{"path": "clip.mp4", "frame": number, "time": number / 10, "seen": number} for number in (1, 3, 4, 5)]
    records = valid(run("segment", "--sequence", "-p", "point:13,13", "-o", "out/", stdin=send(lines)))
    assert [{key: value for key, value in record.items() if key != "segment"} for record in records] == lines
    assert [boxes(record)[1] for record in records] == [box("red", number) for number in (1, 3, 4, 5)]
    assert len(trackers[-1].asked) == 1 and [path.name for path in Path("out").iterdir()] == ["clip-overlay.mp4"]
    refused = valid(run("segment", "-p", "point:13,13", "-o", "one.mp4", stdin=send(lines)), 3)
    assert all("the line is of one frame of clip.mp4" in error(record)[1] for record in refused)
    assert "name clip.mp4 itself to track through it, take --sequence, or" in error(refused[0])[1]


@pytest.mark.parametrize("frame", [0, 6])
def test_a_prompt_of_a_line_may_name_the_frame_that_the_line_is_of(
    run: Run, trackers: list[ColourTracker], valid: Valid, frame: int
) -> None:
    lines: list[dict[str, Any]] = [{"path": save_clip("clip.mp4"), "frame": number} for number in range(4, FRAMES)]
    lines[2]["prompts"] = [{"frame": frame, "points": [[60, 34]]}]
    records = valid(run("segment", "--sequence", stdin=send(lines)))
    assert [record["frame"] for record in records if boxes(record)] == list(range(6, FRAMES))


def test_what_is_about_no_picture_does_not_end_a_sequence(run: Run, trackers: list[ColourTracker]) -> None:
    lines: list[dict[str, Any]] = [{"path": save_clip("clip.mp4"), "frame": number} for number in range(6)]
    between = send(lines[:3]) + b'\n{"note": 1}\n{"path": \n' + send(lines[3:])
    result = run("segment", "--sequence", "-p", red_at(0), stdin=between)
    found = {record.get("frame"): record for record in result.records}
    assert result.code == 3 and len(trackers[-1].asked) == 1
    assert [boxes(found[number]) for number in range(6)] == [{1: box("red", number)} for number in range(6)]
    assert {"note": 1} in result.records and any("input" in record for record in result.records)


def test_frames_of_an_animation_that_lines_name_are_tracked_as_one_sequence(run: Run, trackers: list[ColourTracker], valid: Valid) -> None:
    lines: list[dict[str, Any]] = [{"path": save_animation("a.gif", 8), "frame": number} for number in (1, 2, 4, 7)]
    records = valid(run("segment", "--sequence", "-p", "point:13,13", stdin=send(lines)))
    assert len(trackers[-1].asked) == 1 and [record["frame"] for record in records] == [1, 2, 4, 7]
    assert [boxes(record)[1] for record in records] == [box("red", number) for number in (1, 2, 4, 7)]


def test_the_overlay_of_frames_of_a_video_has_their_times(run: Run, trackers: list[ColourTracker]) -> None:
    from visiontk.media.video import read_frames

    lines = [{"path": save_clip("clip.mp4"), "frame": number} for number in range(0, FRAMES, 2)]
    assert run("segment", "--sequence", "-p", red_at(0), "-o", "overlay.mp4", stdin=send(lines)).code == 0
    assert [frame.time for frame in read_frames("overlay.mp4")] == pytest.approx([number / 10 for number in range(0, FRAMES, 2)], abs=1e-3)


def test_lines_of_a_sequence_that_breaks_keep_what_an_earlier_stage_found(run: Run, trackers: list[ColourTracker], valid: Valid) -> None:
    for number in range(4):
        picture(number).save(f"{number}.png")
    Path("2.png").write_bytes(Path("2.png").read_bytes()[:100])
    lines = [{"path": f"{number}.png", "seen": number} for number in range(4)]
    for prompt, good in (("point:9,13", 2), ("point:900,900", 0)):
        records = valid(run("segment", "--sequence", "-p", prompt, stdin=send(lines)), 3)
        assert [(record["path"], record["seen"]) for record in records] == [(line["path"], line["seen"]) for line in lines]
        assert ["error" in record["segment"] for record in records] == [number >= good for number in range(4)]
    assert len(valid(run("segment", "--sequence", "-p", "point:9,13", "--end", "2", stdin=send(lines)), 3)) == 3
    bare = valid(run("segment", "--sequence", "-p", "point:9,13", stdin=b"0.png\n1.png\n2.png\n3.png\n"), 3)
    assert [record["path"] for record in bare] == ["0.png", "1.png", "2.png"], "nothing stands in them that could be lost"


def test_prompts_of_the_command_line_are_not_for_a_sequence_with_its_own(run: Run, trackers: list[ColourTracker]) -> None:
    for number in range(3):
        picture(number).save(f"{number}.png")
    lines: list[dict[str, Any]] = [{"path": f"{number}.png"} for number in range(3)]
    lines[1]["prompts"] = [{"object": 1, "frame": 0, "points": [[13, 13]]}]
    said = run("segment", "--sequence", "-p", "point:40,5", stdin=send(lines))
    assert [list(boxes(record)) for record in said.records] == [[], [1], [1]]
    assert "lines of it have prompts of their own, so that --prompt and --prompts are left out" in said.stderr
    assert "left out" not in run("segment", "--sequence", stdin=send(lines)).stderr
    lines[2]["prompts"] = [{"object": 2, "box": [1]}]
    [*_, wrong] = run("segment", "--sequence", stdin=send(lines)).records
    assert 'entry 1 of the prompts of 2.png" has a "box" that is none' in error(wrong)[1]


def test_frame_0_in_a_line_about_one_picture_is_that_picture(run: Run, trackers: list[ColourTracker], valid: Valid) -> None:
    """So lines mean the same one by one and in a sequence."""
    for number in range(3):
        picture(number).save(f"{number}.png")
    lines = [{"path": f"{number}.png", "prompts": [{"object": 1, "frame": 0, "box": box("red", number)}]} for number in range(3)]
    alone, joined = (valid(run("segment", *options, stdin=send(lines))) for options in ([], ["--sequence"]))
    assert list(map(boxes, alone)) == list(map(boxes, joined)) == [{1: box("red", number)} for number in range(3)]


def test_each_line_of_a_sequence_may_have_prompts(run: Run, trackers: list[ColourTracker], valid: Valid) -> None:
    save_frames("in")
    lines: list[Record] = [{"path": f"in/{number:05d}.png"} for number in range(FRAMES)]
    lines[0]["prompts"] = [{"object": 1, "points": [[9, 13]], "labels": [1]}]
    lines[LATE]["prompts"] = [{"object": 2, "points": [[60, 34]], "labels": [1]}]
    records = valid(run("segment", "-", "--sequence", stdin="\n".join(map(json.dumps, lines)).encode()))
    assert [sorted(boxes(record)) for record in records] == [[1]] * LATE + [[1, 2]] * (FRAMES - LATE)
    assert boxes(records[LATE])[2] == box("blue", LATE)
    assert [number for number, record in enumerate(records) if "prompts" in record] == [0, LATE], "each line keeps its own"
    part = valid(run("segment", "-", "--sequence", "--start", "2", stdin="\n".join(map(json.dumps, lines)).encode()))
    assert [sorted(boxes(record)) for record in part] == [[]] * (LATE - 2) + [[2]] * (FRAMES - LATE), "each on its own frame"
    del lines[LATE]["prompts"]
    part = valid(run("segment", "-", "--sequence", "--start", "2", stdin="\n".join(map(json.dumps, lines)).encode()))
    assert [boxes(record) for record in part] == [{}] * (FRAMES - 2), "that of a frame before --start moves to no other"


def test_prompts_on_lines_of_a_sequence_that_are_not_tracked_are_told(run: Run, trackers: list[ColourTracker]) -> None:
    save_frames("in")
    lines: list[Record] = [{"path": f"in/{number:05d}.png"} for number in range(FRAMES)]
    for number in (0, LATE, 11):
        lines[number]["prompts"] = [{"object": 1, "points": [[60, 34]]}]
    lines[1]["prompts"] = []

    def warnings(*arguments: str) -> list[str]:
        return [line for line in run("segment", "-", "--sequence", *arguments, stdin=send(lines)).stderr.splitlines() if "warning" in line]

    assert warnings() == []
    assert warnings("--start", "2") == [
        "visiontk: warning: in: the prompts of the line on frame 0 are left out, as frames 2 to the last are tracked; see --start and --end"
    ]
    assert warnings("--start", "2", "--end", "10") == [
        "visiontk: warning: in: the prompts of 2 lines, on the frames 0, 11, are left out, as frames 2 to 10 are tracked; "
        "see --start and --end"
    ]
    assert warnings("--start", "2", "--quiet") == []


def test_pictures_that_are_named_out_of_order_are_told(run: Run, trackers: list[ColourTracker]) -> None:
    save_frames("in", ["f1.png", "f2.png", "f10.png"])
    names = [f"in/{name}.png" for name in ("f1", "f10", "f2")]
    told = "visiontk: the pictures come as they are named, not by their numbers; quote a pattern to have it sorted"
    assert told in run("segment", *names, "--sequence", "-p", "point").stderr.splitlines()
    assert told not in run("segment", *sorted(names, key=len), "--sequence", "-p", "point").stderr
    assert told not in run("segment", "in/*.png", "--sequence", "-p", "point").stderr


def test_a_pattern_of_ffmpeg_is_one_video(run: Run, trackers: list[ColourTracker], valid: Valid) -> None:
    save_frames("in", [f"f{number:02d}.png" for number in range(8, 14)])
    picture(0).save("in/f1x.png")
    for pattern in ("in/f%02d.png", "in/f%d.png"):
        records = valid(run("segment", pattern, "-p", red_at(0)))
        assert [record["path"] for record in records] == [f"in/f{number:02d}.png" for number in range(8, 14)]
        assert boxes(records[-1])[1] == box("red", 5)
    alone = valid(run("segment", "in/f%02d.png", "-p", "point:9,13", "--no-sequence"))
    assert all("frame" not in record["segment"] for record in alone) and len(alone) == 6
    shutil.copytree("in", "s [1]")
    two = valid(run("segment", "s [1]//f%02d.png", "in/f%02d.png", "-p", red_at(0)))
    assert [record["path"] for record in two[::6]] == ["s [1]/f08.png", "in/f08.png"], "each a video for itself"
    assert boxes(two[6]) == boxes(two[0])
    gone = run("segment", "in/g%02d.png", "-p", "point")
    assert gone.code == 3 and "no file matches this pattern" in gone.stderr
