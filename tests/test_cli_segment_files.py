"""The files of `visiontk segment`: each kind read back by the library that others read it with, and compared with known masks."""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from tests.films import SOUND_RATE, save_film
from tests.terminals import draw

if TYPE_CHECKING:
    from tests.conftest import ColourTracker, OnTerminal, Record, Result, Run

RED, BLUE, GROUND = (220, 40, 40), (40, 60, 220), (20, 20, 20)
WIDTH, HEIGHT = 80, 48
FRAMES = 6
DUMB = {"TERM": "dumb"}  # a terminal that draws no bars
POINTS = ["-p", "point:15,15", "-p", "point:55,30#4"]


def truth(frame: int = 0) -> dict[int, Any]:
    """Masks (H, W) by id: a red square that moves to the right, and a blue one that is hidden on the frames 2 and 3."""
    masks = {1: np.zeros((HEIGHT, WIDTH), bool), 4: np.zeros((HEIGHT, WIDTH), bool)}
    masks[1][10:22, 10 + frame : 22 + frame] = True
    masks[4][26:36, 50:66] = frame not in (2, 3)
    return masks


def picture(frame: int = 0) -> Image.Image:
    pixels = np.full((HEIGHT, WIDTH, 3), GROUND, np.uint8)
    for mask, colour in zip(truth(frame).values(), (RED, BLUE), strict=True):
        pixels[mask] = colour
    return Image.fromarray(pixels)


def save_clip(path: str, frames: int = FRAMES, times: list[int] | None = None, sound: np.ndarray[Any, Any] | None = None) -> str:
    """The frames as a video, as `save_film` makes it."""
    return save_film(path, (picture(number % FRAMES) for number in range(frames)), times=times, sound=sound)


def load(path: str | Path) -> Any:
    with Image.open(path) as image:
        return np.asarray(image)


def video(path: str | Path) -> tuple[list[float], list[Any], int]:
    """Times and frames of a video that plays to its end, and its audio packets."""
    import av

    with av.open(str(path)) as container:
        frames = [(float(frame.time or 0), frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]
    with av.open(str(path)) as container:
        sound = sum(packet.size > 0 for packet in container.demux(audio=0)) if container.streams.audio else 0
    return [time for time, _ in frames], [frame for _, frame in frames], sound


def files(result: Result) -> list[Record]:
    assert result.code == 0, result.stderr
    return [record["segment"]["files"] for record in result.records]


def names(folder: str) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in Path(folder).rglob("*") if path.is_file())


ALL = "overlay,masks,binary,coco,yolo,cutout,npz"


def test_every_kind_of_a_picture(run: Run, trackers: list[ColourTracker]) -> None:
    picture().save("a.png")
    (made,) = files(run("segment", "a.png", *POINTS, "--save", ALL, "-o", "out"))
    assert made == {
        "overlay": "out/a-overlay.png",
        "masks": "out/a-masks.png",
        "binary": ["out/a-binary-1.png", "out/a-binary-4.png"],
        "cutout": ["out/a-cutout-1.png", "out/a-cutout-4.png"],
        "yolo": "out/a-yolo.txt",
        "npz": "out/a-masks.npz",
        "coco": "out/coco.json",
    }
    assert names("out") == sorted(
        str(Path(path).relative_to("out")) for paths in made.values() for path in (paths if isinstance(paths, list) else [paths])
    )
    masks = truth()
    np.testing.assert_array_equal(load(made["masks"]), masks[1] * 1 + masks[4] * 4)
    assert Image.open(made["masks"]).mode == "P"
    for path, mask in zip(made["binary"], masks.values(), strict=True):
        np.testing.assert_array_equal(load(path), mask * np.uint8(255))
    for path, colour, size in zip(made["cutout"], (RED, BLUE), ((12, 12), (10, 16)), strict=True):
        np.testing.assert_array_equal(load(path), np.full((*size, 4), (*colour, 255)))
    drawn, plain = load(made["overlay"]).astype(int), np.asarray(picture()).astype(int)
    assert drawn.shape == plain.shape
    changed = np.abs(drawn - plain).sum(-1) > 0
    assert changed[masks[1] | masks[4]].mean() > 0.95 and changed[40:, :40].sum() == 0
    with np.load(made["npz"], allow_pickle=False) as arrays:
        assert sorted(arrays) == ["ids", "masks", "scores"]
        np.testing.assert_array_equal(arrays["masks"], np.stack([*masks.values()]))
        assert (arrays["masks"].dtype, arrays["ids"].tolist(), arrays["scores"].tolist()) == (np.bool_, [1, 4], [1.0, 1.0])
    lines = [line.split() for line in Path(made["yolo"]).read_text().splitlines()]
    assert [line[0] for line in lines] == ["0", "3"]
    for line, mask in zip(lines, masks.values(), strict=True):
        x, y = np.array(line[1:], float).reshape(-1, 2).T * [[WIDTH], [HEIGHT]]
        rows, columns = mask.nonzero()
        assert [x.min(), x.max(), y.min(), y.max()] == pytest.approx(
            [columns.min(), columns.max() + 1, rows.min(), rows.max() + 1], abs=0.01
        )


def test_a_picture_does_not_go_into_a_file_that_is_named_as_a_video(run: Run, trackers: list[ColourTracker]) -> None:
    picture().save("a.png")
    for name, save, types in (("a.mp4", "overlay", ".png"), ("a.jpg", "masks,npz", ".png or .npz"), ("{stem}.tif", "coco", ".json")):
        made = run("segment", "a.png", *POINTS, "-o", name, "--save", save)
        kinds, given = save.replace(",", ", "), name[-4:]
        wrong = f"a.png is a picture, and what is saved of it ({kinds}) is no {given} file; name one that ends in {types}, or a folder"
        assert made.code == 2 and wrong in made.stderr
    assert [path.name for path in Path().iterdir()] == ["a.png"]


def test_the_overlay_of_an_animation_lasts_as_long(run: Run, trackers: list[ColourTracker]) -> None:
    picture().save("a.gif", save_all=True, append_images=[picture(1), picture(2)], duration=2000)
    assert run("segment", "a.gif", *POINTS, "-o", "a.mp4").code == 0
    from visiontk.media.video import probe

    assert probe("a.mp4").duration == pytest.approx(6)


def test_coco_as_pycocotools_reads_it(run: Run, trackers: list[ColourTracker], capsys: pytest.CaptureFixture[str]) -> None:
    from pycocotools.coco import COCO

    picture().save("a.png")
    run("segment", "a.png", save_clip("clip.mp4"), *POINTS, "--save", "coco", "-o", "set.json")
    coco = COCO("set.json")
    capsys.readouterr()
    images = coco.loadImgs(coco.getImgIds())
    assert [(image["file_name"], image.get("frame"), image["width"], image["height"]) for image in images] == [
        ("a.png", None, WIDTH, HEIGHT),
        *[("clip.mp4", number, WIDTH, HEIGHT) for number in range(FRAMES)],
    ]
    assert [category["id"] for category in coco.loadCats(coco.getCatIds())] == [1, 4]
    for image, frame in zip(images, [0, *range(FRAMES)], strict=True):
        found = {one["category_id"]: one for one in coco.loadAnns(coco.getAnnIds(imgIds=[image["id"]]))}
        assert found.keys() == {number for number, mask in truth(frame).items() if mask.any()}
        for number, one in found.items():
            np.testing.assert_array_equal(coco.annToMask(one), truth(frame)[number])
            rows, columns = truth(frame)[number].nonzero()
            assert one["bbox"] == [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]
            assert one["area"] == truth(frame)[number].sum()
    templated = run("segment", "a.png", *POINTS, "--save", "coco,masks", "-o", "by/{kind}/{stem}-{kind}")
    assert templated.code == 0 and sorted(map(str, Path("by").rglob("*.*"))) == ["by/coco/run-coco.json", "by/masks/a-masks.png"]
    empty = run("segment", "gone.png", "--save", "coco", "-o", "none.json")
    assert empty.code == 3 and json.loads(Path("none.json").read_text()) == {"annotations": [], "images": [], "categories": []}


def test_every_kind_of_a_video(run: Run, trackers: list[ColourTracker]) -> None:
    made = files(run("segment", save_clip("clip.mp4"), *POINTS, "--save", ALL, "-o", "out"))
    assert made[5] == {
        "overlay": "out/clip-overlay.mp4",
        "masks": "out/clip/00005.png",
        "binary": ["out/clip/001/00005.png", "out/clip/004/00005.png"],
        "cutout": ["out/clip-cutout/001/00005.png", "out/clip-cutout/004/00005.png"],
        "yolo": "out/clip-yolo/00005.txt",
        "npz": "out/clip-masks.npz",
        "coco": "out/coco.json",
    }
    assert made[2]["cutout"] == ["out/clip-cutout/001/00002.png"], "what is hidden cannot be cut out"
    for frame in range(FRAMES):
        masks = truth(frame)
        np.testing.assert_array_equal(load(made[frame]["masks"]), masks[1] * 1 + masks[4] * 4)
        for path, mask in zip(made[frame]["binary"], masks.values(), strict=True):
            np.testing.assert_array_equal(load(path), mask * np.uint8(255))
    with np.load(made[0]["npz"], allow_pickle=False) as arrays:
        rows = [(frame, number) for frame in range(FRAMES) for number in (1, 4)]
        assert list(zip(arrays["frames"].tolist(), arrays["ids"].tolist(), strict=True)) == rows
        np.testing.assert_array_equal(arrays["masks"], np.stack([truth(frame)[number] for frame, number in rows]))
        assert arrays["scores"].tolist() == [float(truth(frame)[number].any()) for frame, number in rows]
    times, frames, _ = video(made[0]["overlay"])
    assert times == pytest.approx([number / 10 for number in range(FRAMES)])
    assert frames[0].shape == (HEIGHT, WIDTH, 3)
    for frame, drawn in enumerate(frames):
        change = np.abs(drawn.astype(int) - np.asarray(picture(frame))).sum(-1)
        assert change[truth(frame)[1]].mean() > 60 > change[40:, :40].mean(), "drawn on, and elsewhere as it was"


def test_arrays_of_a_video_without_objects_have_frames_all_the_same(run: Run, trackers: list[ColourTracker]) -> None:
    record = {"path": save_clip("clip.mp4"), "prompts": []}
    run("segment", "--save", "npz", "-o", "none.npz", stdin=json.dumps(record).encode())
    with np.load("none.npz", allow_pickle=False) as arrays:
        assert {name: arrays[name].shape for name in arrays.files} == {
            "masks": (0, HEIGHT, WIDTH),
            "ids": (0,),
            "scores": (0,),
            "frames": (0,),
        }


def test_the_metric_reads_both_layouts(run: Run, trackers: list[ColourTracker]) -> None:
    for kind in ("masks", "binary"):
        run("segment", save_clip("clip.mp4"), *POINTS, "--save", kind, "-o", kind)
    Path("truth/clip").mkdir(parents=True)
    for frame in range(FRAMES):
        masks = truth(frame)
        Image.fromarray((masks[1] * 1 + masks[4] * 4).astype(np.uint8)).save(f"truth/clip/{frame:05d}.png")
    for kind in ("masks", "binary"):
        result = run("eval", "segment", kind, "truth", "--protocol", "sav")
        assert result.code == 0, result.stderr
        assert {record["J&F"] for record in result.records} == {1.0}
    for kind in ("masks", "binary"):  # before an object's first prompt there is nothing of it
        run("segment", "clip.mp4", "-p", "point:55,30@4#4", "--save", kind, "-o", f"late-{kind}")
    assert names("late-binary") == ["clip/004/00004.png", "clip/004/00005.png"]
    late = [run("eval", "segment", f"late-{kind}", "truth", "--protocol", "sav") for kind in ("masks", "binary")]
    assert [result.code for result in late] == [0, 0] and late[0].records == late[1].records
    for frame in range(FRAMES):
        Path(f"truth/clip/{frame:05d}.png").rename(f"truth/clip/{frame:04d}.png")
    none = run("eval", "segment", "late-binary", "truth", "--protocol", "sav")
    assert none.code == 2 and "PRED and GT have no frame of clip in common" in none.error


def test_the_metric_reads_a_truth_that_is_laid_out_and_numbered_as_sav_is(run: Run, trackers: list[ColourTracker]) -> None:
    for frame in range(FRAMES):
        for number, mask in enumerate(truth(frame).values()):
            Path(f"truth/clip/{number:03d}").mkdir(parents=True, exist_ok=True)
            Image.fromarray(mask * np.uint8(255)).save(f"truth/clip/{number:03d}/{frame:05d}.png")
    prompts = [part for number in (0, 1) for part in ("-p", f"mask:truth/clip/{number:03d}/00000.png")]
    made = run("segment", save_clip("clip.mp4"), *prompts, "--save", "masks", "-o", "maps")
    assert run("segment", "clip.mp4", *prompts, "--save", "binary", "-o", "folders").code == made.code == 0
    Path("lines.jsonl").write_bytes(made.stdout)
    for predicted in ("maps", "folders", "lines.jsonl"):
        records = run("eval", "segment", predicted, "truth/clip").records
        found = [(record["protocol"], record.get("object"), record["J&F"]) for record in records]
        assert found == [("sav", 0, 1), ("sav", 1, 1), ("sav", None, 1)]


def test_an_overlay_of_a_part_has_the_sound_of_that_part(run: Run, trackers: list[ColourTracker]) -> None:
    import av

    times = np.arange(2 * SOUND_RATE) / SOUND_RATE
    save_clip("clip.mp4", 20, sound=np.where((times >= 0.9) & (times < 1.1), np.sin(2 * np.pi * 880 * times) / 2, 0).astype(np.float32))
    for name, options, loud, length in (
        ("a.mp4", ["--start", "5", "--end", "12"], (0.4, 0.6), 0.8),
        ("b.mp4", ["--start", "3"], (0.6, 0.8), 1.7),
        ("c.mp4", ["--end", "12"], (0.9, 1.1), 1.3),
    ):
        assert run("segment", "clip.mp4", *POINTS, *options, "-o", name).code == 0
        with av.open(name) as container:
            heard: list[Any] = []
            for frame in container.decode(audio=0):
                assert frame.time is not None
                heard.append(frame.time + np.flatnonzero(np.abs(frame.to_ndarray()[0]) > 0.25) / frame.sample_rate)
            found = np.concatenate(heard)
            assert (found.min(), found.max()) == pytest.approx(loud, abs=0.04), name
            [sound] = container.streams.audio
            assert float(sound.duration * sound.time_base) == pytest.approx(length, abs=0.1), name  # type: ignore[operator]


def test_an_overlay_keeps_times_and_sound(run: Run, trackers: list[ColourTracker]) -> None:
    save_clip("clip.mp4", times=[0, 1, 2, 6, 7, 12], sound=np.zeros(SOUND_RATE, np.float32))
    run("segment", "clip.mp4", *POINTS, "-o", "whole.mp4")
    times, _, sound = video("whole.mp4")
    assert times == pytest.approx([0, 0.1, 0.2, 0.6, 0.7, 1.2], abs=1e-3)
    assert sound >= video("clip.mp4")[2] - 1 > 0, "a codec's run-up may be left out"
    run("segment", "clip.mp4", *POINTS, "--start", "3", "-o", "part.mp4")
    assert video("part.mp4")[0] == pytest.approx([0, 0.1, 0.6], abs=1e-3)


@pytest.mark.parametrize("turn", [90, 270])
def test_a_portrait_in_ten_bits_at_a_varying_rate_comes_out_upright_and_on_time(run: Run, trackers: list[ColourTracker], turn: int) -> None:
    times = [0, 1, 2, 5, 6, 9]
    stored = [picture(number).rotate(-turn, expand=True) for number in range(FRAMES)]  # the player turns it back, anticlockwise
    save_film("a.mp4", stored, times=times, pix_fmt="yuv444p10le", rotation=turn)
    result = run("segment", "a.mp4", *POINTS, "--save", "overlay,masks", "-o", "out")
    made = files(result)
    assert [record["time"] for record in result.records] == pytest.approx([time / 10 for time in times], abs=0.01)
    for number, one in enumerate(made):
        masks = truth(number)
        np.testing.assert_array_equal(load(one["masks"]), masks[1] * 1 + masks[4] * 4)
    shown, frames, _ = video("out/a-overlay.mp4")
    assert shown == pytest.approx([time / 10 for time in times], abs=0.01)
    assert {frame.shape for frame in frames} == {(HEIGHT, WIDTH, 3)}
    ground = np.ones((HEIGHT, WIDTH), bool)
    ground[8:40, 8:70] = False
    assert np.abs(frames[0][ground].astype(int) - GROUND).max() <= 12, "what no mask covers is where it was"


def test_frames_in_files_keep_their_names(run: Run, trackers: list[ColourTracker]) -> None:
    Path("in/bear").mkdir(parents=True)
    for number in range(3):
        picture(number).save(f"in/bear/f_{number + 7:04d}.png")
    made = files(run("segment", "in", *POINTS, "--save", "overlay,masks", "-o", "out"))
    assert [one["masks"] for one in made] == [f"out/bear/f_{number + 7:04d}.png" for number in range(3)]
    assert video("out/bear-overlay.mp4")[0] == pytest.approx([0, 1 / 24, 2 / 24], abs=1e-3)
    os.chdir("in/bear")
    assert files(run("segment", ".", "-o", "../../here"))[0] == {"overlay": "../../here/bear-overlay.mp4"}


def test_names_templates_and_one_file(run: Run, trackers: list[ColourTracker]) -> None:
    picture().save("a.png")
    picture().save("b.png")
    assert [one["masks"] for one in files(run("segment", "a.png", "b.png", *POINTS, "--save", "masks", "-o", "m/{stem}.png"))] == [
        "m/a.png",
        "m/b.png",
    ]
    assert files(run("segment", "a.png", "-p", "point:15,15", "--save", "cutout", "-o", "red.png")) == [{"cutout": ["red.png"]}]
    assert files(run("segment", "a.png", *POINTS, "--save", "masks")) == [{"masks": "visiontk-out/a-masks.png"}]
    assert files(run("segment", "a.png", *POINTS, "--save", "masks", "-o", "BIG.PNG")) == [{"masks": "BIG.PNG"}]
    assert files(run("segment", "a.png", *POINTS, "--save", "masks", "-o", "{stem}-t.PNG")) == [{"masks": "a-t.PNG"}]


BOTH = [f"q-binary-{number}.png" for number in (1, 4)]


@pytest.mark.parametrize(
    ("save", "out", "made"),
    [
        ("masks,overlay", "s/q.png", {"overlay": "s/q.png", "masks": "s/q-masks.png"}),
        ("masks,npz,yolo", "q.png", {"masks": "q.png", "yolo": "q-yolo.txt", "npz": "q-masks.npz"}),
        ("masks,npz,yolo", "q.txt", {"masks": "q-masks.png", "yolo": "q.txt", "npz": "q-masks.npz"}),
        ("binary", "q.png", {"binary": BOTH}),
        ("binary,masks", "q.png", {"masks": "q-masks.png", "binary": BOTH}),
        ("cutout,overlay", "Q.PNG", {"overlay": "Q.PNG", "cutout": ["Q-cutout-1.PNG", "Q-cutout-4.PNG"]}),
        ("overlay,coco", "q.png", {"overlay": "q.png", "coco": "q-coco.json"}),
        ("overlay,coco", "q.json", {"overlay": "q-overlay.png", "coco": "q.json"}),
        ("npz,overlay,yolo", "r/{stem}", {"overlay": "r/a.png", "yolo": "r/a-yolo.txt", "npz": "r/a-masks.npz"}),
        ("binary", "r/{stem}.png", {"binary": ["r/a-binary-1.png", "r/a-binary-4.png"]}),
        ("overlay,cutout", "r/{stem}/", {"overlay": "r/a/overlay.png", "cutout": ["r/a/cutout-1.png", "r/a/cutout-4.png"]}),
    ],
)
def test_a_name_for_one_file_is_the_overlay_s_or_what_alone_has_its_suffix(
    run: Run, trackers: list[ColourTracker], save: str, out: str, made: Record
) -> None:
    """All else has its kind and its object behind it."""
    picture().save("a.png")
    assert files(run("segment", "a.png", *POINTS, "--save", save, "-o", out)) == [made]


def test_a_second_picture_of_one_name_is_told_from_a_second_object(run: Run, trackers: list[ColourTracker]) -> None:
    for name in ("a.png", "b.png"):
        picture().save(name)
    arguments = ["segment", "a.png", "b.png", *POINTS, "--save", "binary,overlay", "-o", "q.png"]
    arguments += ["--overwrite", "--resume", "lines.jsonl"]
    assert run(*arguments).code == 0
    lines = Path("lines.jsonl").read_bytes().splitlines(keepends=True)
    second = {"overlay": "q-2.png", "binary": ["q-binary-1-2.png", "q-binary-4-2.png"]}
    assert [json.loads(line)["segment"]["files"] for line in lines] == [{"overlay": "q.png", "binary": BOTH}, second]
    Path("lines.jsonl").write_bytes(lines[0])
    assert run(*arguments).code == 0, "as a run that was not stopped"
    assert json.loads(Path("lines.jsonl").read_bytes().splitlines()[1])["segment"]["files"] == second


def test_the_only_file_says_which_object_it_shows_where_another_is_hidden(
    run: Run, trackers: list[ColourTracker], tracker_class: type[ColourTracker], monkeypatch: pytest.MonkeyPatch
) -> None:
    look = tracker_class.image

    def hiding(self: ColourTracker, *arguments: Any) -> list[Any]:
        first, other = look(self, *arguments)
        return [replace(first, mask=first.mask & False), other]

    picture().save("a.png")
    monkeypatch.setattr(tracker_class, "image", hiding)
    assert files(run("segment", "a.png", *POINTS, "--save", "cutout", "-o", "q.png")) == [{"cutout": ["q-cutout-4.png"]}]


def test_folders_of_a_video_beside_its_overlay_say_their_kind(run: Run, trackers: list[ColourTracker]) -> None:
    save_clip("clip.mp4", 2)
    arguments = ["segment", "clip.mp4", *POINTS, "--save"]
    made = files(run(*arguments, ALL, "-o", "q.mp4"))
    assert made[1] == {
        "overlay": "q.mp4",
        "masks": "q-masks/00001.png",
        "binary": ["q-binary/001/00001.png", "q-binary/004/00001.png"],
        "cutout": ["q-cutout/001/00001.png", "q-cutout/004/00001.png"],
        "yolo": "q-yolo/00001.txt",
        "npz": "q-masks.npz",
        "coco": "q-coco.json",
    }
    fewer = files(run("segment", "clip.mp4", "-p", "point:15,15", "--save", "overlay,cutout", "-o", "q.mp4", "--overwrite"))
    assert fewer[1] == {"overlay": "q.mp4", "cutout": ["q-cutout/001/00001.png"]}
    assert names("q-cutout") == ["001/00000.png", "001/00001.png"], "of the object that there was before nothing is left"
    assert files(run(*arguments, "overlay,npz", "-o", "p.npz"))[1] == {"overlay": "p-overlay.mp4", "npz": "p.npz"}
    assert files(run(*arguments, "overlay,masks,yolo", "-o", "v/{stem}"))[1] == {
        "overlay": "v/clip.mp4",
        "masks": "v/clip/00001.png",
        "yolo": "v/clip-yolo/00001.txt",
    }
    assert files(run(*arguments, "yolo", "-o", "y/{stem}/"))[1] == {"yolo": "y/clip/00001.txt"}


def test_folders_beside_an_overlay_keep_their_names_when_a_run_goes_on(run: Run, trackers: list[ColourTracker]) -> None:
    save_clip("clip.mp4", 4)
    arguments = ["segment", "clip.mp4", *POINTS, "--save", "overlay,masks,cutout", "-o", "o/q.mp4", "--resume", "lines.jsonl"]
    assert run(*arguments).code == 0
    lines, made = Path("lines.jsonl").read_bytes().splitlines(keepends=True), names("o")
    Path("lines.jsonl").write_bytes(b"".join(lines[:2]))
    assert run(*arguments).code == 0 and names("o") == made
    again = Path("lines.jsonl").read_bytes().splitlines()
    assert [json.loads(line)["segment"]["files"] for line in again] == [json.loads(line)["segment"]["files"] for line in lines]


def test_a_video_has_no_number_of_a_frame(run: Run, trackers: list[ColourTracker]) -> None:
    """That of a picture is its line's, and a video is tracked as a whole."""
    save_clip("clip.mp4", 2)
    arguments = ["segment", *POINTS, "--save", "masks", "-o", "v/{stem}-{frame}"]
    refused = run(*arguments, "clip.mp4")
    assert (refused.code, trackers) == (2, []) and "a video has no {frame}" in refused.error and "leave that out" in refused.error
    (record,) = run(*arguments, stdin=b"clip.mp4").records
    assert "a video has no {frame}" in record["segment"]["error"]["message"]
    made = files(run(*arguments, stdin=b'{"path": "clip.mp4", "frame": 1}'))
    assert made == [{"masks": "v/clip-1.png"}] and not Path("v/clip-0").exists()


def test_an_empty_field_makes_no_name_at_the_root(run: Run, trackers: list[ColourTracker]) -> None:
    """A picture of this folder has no parent, and a video's masks in two layouts no kind of their own."""
    picture().save("a.png")
    assert files(run("segment", "a.png", *POINTS, "--save", "masks", "-o", "{parent}/p/{stem}.png")) == [{"masks": "p/a.png"}]
    made = files(run("segment", save_clip("clip.mp4"), *POINTS, "--save", "masks,overlay", "-o", "{kind}/{stem}"))
    assert made[0] == {"overlay": "overlay/clip.mp4", "masks": "masks/clip/00000.png"}


def test_what_exists_is_left_alone(run: Run, trackers: list[ColourTracker]) -> None:
    picture().save("a.png")
    picture().save("b.png")
    save_clip("clip.mp4")
    arguments = ["segment", "a.png", "clip.mp4", *POINTS, "--save", "masks,overlay", "-o", "out"]
    assert run(*arguments).code == 0
    before = {name: (Path("out") / name).read_bytes() for name in names("out")}
    again = run(*arguments[:1], "b.png", *arguments[1:])
    assert again.code == 3
    assert [(record["path"], record["segment"].get("error", {}).get("kind")) for record in again.records] == [
        ("b.png", None),
        ("a.png", "exists"),
        ("clip.mp4", "exists"),
    ]
    assert "--overwrite" in again.records[1]["segment"]["error"]["message"]
    assert {name: (Path("out") / name).read_bytes() for name in before} == before
    Path("out/a-masks.png").write_bytes(b"old")
    assert run(*arguments, "--overwrite").code == 0
    assert Path("out/a-masks.png").read_bytes() == before["a-masks.png"]
    coco = ["segment", "a.png", "--save", "coco", "-o", "coco.json"]
    assert run(*coco).code == 0
    refused = run(*coco)
    assert refused.code == 2 and "coco.json exists" in refused.error


FOLDERS = ["--save", "masks,binary,cutout,yolo", "-o", "out"]


def test_a_folder_of_frames_is_replaced_as_a_whole(run: Run, trackers: list[ColourTracker]) -> None:
    """Frames and objects of a longer run are gone after a shorter one, and nothing else is."""
    save_clip("clip.mp4")
    assert run("segment", "clip.mp4", *POINTS, *FOLDERS).code == 0
    own = {"out/clip/00004.png": "mask", "out/clip/004/00005.png": "object", "out/clip-yolo/00003.txt": "label"}
    assert all(Path(path).exists() for path in own)
    strange = {
        "out/clip/notes.png": b"a note",
        "out/clip/00077.png": b"no picture at all",
        "out/clip/00004 copy.png": Path("out/clip/00004.png").read_bytes(),
        "out/clip/001/78.png": Path("out/clip/001/00004.png").read_bytes(),
        "out/clip/old/00004.png": Path("out/clip/00004.png").read_bytes(),
        "out/clip-yolo/00005.txt": b"0 0.5 0.5 0.6 0.5 0.6 0.6\n",
        "out/clip-yolo/classes.txt": b"",
    }
    for path, data in strange.items():
        Path(path).parent.mkdir(exist_ok=True)
        Path(path).write_bytes(data)
    Image.fromarray(np.zeros((HEIGHT, WIDTH), np.uint8)).save("out/clip/00079.png")  # as another program writes a mask
    stopped = run("segment", "clip.mp4", "-p", "point:15,15", "-p", "point:15,15@5#2", "--end", "4", *FOLDERS, "--overwrite")
    assert stopped.code == 2 and all(Path(path).exists() for path in own), "an error removes nothing"
    assert run("segment", "clip.mp4", "-p", "point:15,15", "--end", "2", *FOLDERS, "--overwrite").code == 0
    made = [f"{number:05d}" for number in range(3)]
    wanted = [f"clip/{name}.png" for name in made] + [f"clip/001/{name}.png" for name in made]
    wanted += [f"clip-cutout/001/{name}.png" for name in made] + [f"clip-yolo/{name}.txt" for name in made]
    assert names("out") == sorted([*wanted, "clip/00079.png", *(path.removeprefix("out/") for path in strange)])
    assert {path: Path(path).read_bytes() for path in strange} == strange
    assert not Path("out/clip/004").exists() and not Path("out/clip-cutout/004").exists()


def test_frames_in_files_of_an_earlier_run_are_known_by_their_beginning(run: Run, trackers: list[ColourTracker]) -> None:
    Path("in/bear").mkdir(parents=True)
    for number in range(4):
        picture(number).save(f"in/bear/f{number}.png")
    assert run("segment", "in", *POINTS, "--save", "masks", "-o", "out").code == 0
    for other in ("g3", "00003"):
        Path(f"out/bear/{other}.png").write_bytes(Path("out/bear/f3.png").read_bytes())
    assert run("segment", "in", *POINTS, "--end", "1", "--save", "masks", "-o", "out", "--overwrite").code == 0
    assert names("out") == ["bear/00003.png", "bear/f0.png", "bear/f1.png", "bear/g3.png"]


def test_a_picture_s_objects_are_replaced_as_a_whole(run: Run, trackers: list[ColourTracker]) -> None:
    picture().save("a.png")
    picture().save("a-1.png")
    Path("in").mkdir()
    picture().save("in/a.png")
    arguments = ["segment", "a-1.png", "a.png", "--save", "binary,cutout", "-o", "out"]
    assert run(*arguments, *POINTS).code == 0
    before = names("out")
    assert [name for name in before if "-4" in name] == ["a-1-binary-4.png", "a-1-cutout-4.png", "a-binary-4.png", "a-cutout-4.png"]
    Image.fromarray(np.zeros((HEIGHT, WIDTH), np.uint8)).save("out/a-binary-7.png")  # as another program writes a mask
    for strange in ("a-binary-04.png", "a-binary-4-2.png", "b-binary-4.png"):
        Path("out", strange).write_bytes(Path("out/a-binary-4.png").read_bytes())
    kept = {"a-binary-7.png", "a-binary-04.png", "a-binary-4-2.png", "b-binary-4.png"}
    assert run("segment", "a.png", "-p", "point:900,9", *arguments[3:], "--overwrite").code == 3
    assert set(names("out")) == {*before, *kept}, "an error removes nothing"
    assert run("segment", "in/a.png", "a.png", "-p", "point:15,15", *arguments[3:], "--overwrite").code == 0
    twice = {"a-binary-1-2.png", "a-cutout-1-2.png"}
    assert set(names("out")) == {*before, *kept, *twice} - {"a-binary-4.png", "a-cutout-4.png"}, "of the one that was made again"
    assert run("segment", "a.png", "--prompts", "none.json", *arguments[3:], "--overwrite").code == 2
    Path("none.json").write_text("[]")
    assert run("segment", "a-1.png", "--prompts", "none.json", *arguments[3:], "--overwrite").code == 0
    assert not [name for name in names("out") if name.startswith("a-1-")], "all of them, where there is no object at all"


@pytest.mark.parametrize(("out", "stem"), [("r/q.png", "r/q"), ("r/{stem}.png", "r/a"), ("r/{stem}", "r/a")])
def test_a_picture_s_objects_under_one_name_are_replaced_as_a_whole(run: Run, trackers: list[ColourTracker], out: str, stem: str) -> None:
    picture().save("a.png")
    arguments = ["segment", "a.png", "--save", "cutout", "-o", out, "--overwrite"]
    several = [f"{stem}-cutout-1.png", f"{stem}-cutout-4.png"]
    assert files(run(*arguments, *POINTS)) == [{"cutout": several}]
    assert files(run(*arguments, "-p", "point:15,15")) == [{"cutout": [f"{stem}.png"]}]
    assert names(".") == ["a.png", f"{stem}.png"]
    assert files(run(*arguments, *POINTS)) == [{"cutout": several}]
    assert names(".") == ["a.png", *several], "the one of the run before would pass for a third"
    Image.fromarray(np.zeros((HEIGHT, WIDTH), np.uint8)).save(f"{stem}.png")  # as another program writes a mask
    assert run(*arguments, *POINTS).code == 0 and names(".") == ["a.png", *several, f"{stem}.png"]


def test_a_cutout_that_is_read_is_not_removed(run: Run, trackers: list[ColourTracker]) -> None:
    picture().save("a.png")
    assert run("segment", "a.png", "-p", "point:15,15", "--save", "binary", "-o", "q.png").code == 0
    assert run("segment", "q.png", *POINTS, "--save", "binary", "-o", "q.png", "--overwrite").code == 0
    assert names(".") == ["a.png", *BOTH, "q.png"]


def test_a_run_that_goes_on_removes_no_file_of_its_first_part(run: Run, trackers: list[ColourTracker]) -> None:
    for name in ("x/a.png", "y/a.png"):
        Path(name).parent.mkdir()
        picture().save(name)
    arguments = ["segment", "x/a.png", "y/a.png", *POINTS, "--save", "binary", "-o", "out", "--overwrite", "--resume", "lines.jsonl"]
    assert run(*arguments).code == 0
    made = names("out")
    lines = Path("lines.jsonl").read_bytes().splitlines(keepends=True)
    Path("lines.jsonl").write_bytes(lines[0])
    assert run(*arguments).code == 0
    assert names("out") == made == ["a-binary-1-2.png", "a-binary-1.png", "a-binary-4-2.png", "a-binary-4.png"]


def test_masks_say_what_made_them(run: Run, trackers: list[ColourTracker]) -> None:
    run("segment", save_clip("clip.mp4", 1), *POINTS, *FOLDERS)
    for path in Path("out").rglob("*.png"):
        assert Image.open(path).info["Software"] == "visiontk"


@pytest.mark.parametrize(
    ("kinds", "out", "cure"),
    [
        ("overlay", "x.png", "name a file that ends in .mp4, or a folder"),
        ("overlay", "films/{stem}.png", "name a file that ends in .mp4, or a folder"),
        ("overlay,npz", "x.gif", "name a file that ends in .mp4 or .npz, or a folder"),
        ("masks", "x.png", "name a folder, with a / at its end"),
    ],
)
def test_a_picture_s_name_for_a_video_is_refused(run: Run, trackers: list[ColourTracker], kinds: str, out: str, cure: str) -> None:
    save_clip("clip.mp4")
    refused = run("segment", "clip.mp4", *POINTS, "--save", kinds, "-o", out)
    assert (refused.code, refused.stdout, trackers) == (2, b"", []), "before the model is loaded"
    assert f"-o {out}: what is saved of a video" in refused.error and refused.error.endswith(cure)
    Path("in").mkdir()
    for number in range(2):
        picture(number).save(f"in/{number}.png")
    picture().save("a.gif", save_all=True, append_images=[picture(1)])
    for late in ("in", "a.gif"):
        refused = run("segment", late, *POINTS, "--save", kinds, "-o", out)
        assert refused.code == 2 and refused.error.endswith(cure)
    assert sorted(path.name for path in Path().iterdir() if not path.name.startswith(".")) == ["a.gif", "clip.mp4", "in"]


def test_names_that_fit_not_all_inputs_are_refused_before_any_is_tracked(run: Run, trackers: list[ColourTracker]) -> None:
    save_clip("clip.mp4", 2)
    Path("in").mkdir()
    for name in ("a.png", "in/b.png", "in/c7.png"):
        picture().save(name)
    for late in (["a.png"], ["in"], ["in/*.png"], ["gone.png", "a.png"]):
        refused = run("segment", "clip.mp4", *late, *POINTS, "-o", "u/out.mp4")
        assert (refused.code, refused.stdout, trackers) == (2, b"", []), late
        assert "is a picture, and what is saved of it (overlay) is no .mp4 file" in refused.error
    assert not Path("u").exists()
    Path("in/c7.png").rename("in/b7.png")
    Path("in/b.png").rename("in/b6.png")
    assert run("segment", "in", *POINTS, "-o", "u/out.mp4").code == 0, "the frames of a video are no pictures"


def test_a_name_that_does_not_fit_a_line_of_the_pipe_is_that_line_s_error(run: Run, trackers: list[ColourTracker]) -> None:
    picture().save("a.png")
    save_clip("clip.mp4", 2)
    for out, wrong in (("u/out.mp4", "a.png"), ("u/out.png", "clip.mp4")):
        result = run("segment", *POINTS, "-o", out, stdin=b"a.png\nclip.mp4\na.png\n")
        assert result.code == 3 and len(result.records) == (4 if wrong == "a.png" else 3)
        failed = [record for record in result.records if "error" in record["segment"]]
        assert {record["path"] for record in failed} == {wrong} and {record["segment"]["error"]["kind"] for record in failed} == {"refused"}
        assert "a folder" in failed[0]["segment"]["error"]["message"]
    assert names("u") == ["out-2.png", "out.mp4", "out.png"]


def test_one_overlay_on_the_output(run: Run, trackers: list[ColourTracker]) -> None:
    picture().save("a.png")
    result = run("segment", "a.png", *POINTS, "-o", "-")
    Path("out.png").write_bytes(result.stdout)
    assert result.code == 0 and load("out.png").shape == (HEIGHT, WIDTH, 3)
    result = run("segment", save_clip("clip.mp4"), *POINTS, "-o", "-")
    Path("out.mp4").write_bytes(result.stdout)
    assert result.code == 0 and len(video("out.mp4")[0]) == FRAMES
    for form in ("jsonl", "csv"):
        both = run("segment", "a.png", *POINTS, "-o", "-", "--format", form)
        assert (both.code, both.stdout) == (2, b"") and f"and --format {form} the lines; leave one of them out" in both.error
    two = run("segment", "a.png", "a.png", *POINTS, "-o", "-")
    assert two.code == 2 and "room for one" in two.error
    two = run("segment", "clip.mp4", "clip.mp4", *POINTS, "-o", "-")
    assert (two.code, two.stdout) == (2, b"") and "room for one video, and there are 2" in two.error


def test_a_terminal_gets_an_overlay_and_a_contact_sheet(tiny_sam2: Path, on_terminal: OnTerminal) -> None:
    save_clip("clip.mp4", 30)
    arguments = ["segment", "clip.mp4", "-p", "point:15,15", "-m", str(tiny_sam2)]
    drawn = on_terminal(*arguments, TERM="dumb")
    assert "frame 29" in drawn and re.search(r"30 frames in [\d.]+ s, [\d.]+ a second", drawn)
    assert "an overlay is in visiontk-out/clip-overlay.mp4" in drawn
    assert "a contact sheet is in visiontk-out/contact-sheet.jpg" in drawn
    assert names("visiontk-out") == ["clip-overlay.mp4", "contact-sheet.jpg"]
    width, height = Image.open("visiontk-out/contact-sheet.jpg").size
    assert width > 3 * 320 and height > 2 * 192, "twelve of the frames"
    assert len(video("visiontk-out/clip-overlay.mp4")[0]) == 30
    drawn = on_terminal(*arguments, TERM="xterm-256color")
    assert "contact-sheet-2.jpg" in drawn, "asked for by nobody, so put aside and no error"
    assert re.search(r"\d+/30", drawn) and re.search(r"[\d.]+ frames/s", drawn), "progress"
    assert names("visiontk-out") == ["clip-overlay-2.mp4", "clip-overlay.mp4", "contact-sheet-2.jpg", "contact-sheet.jpg"]


def test_a_terminal_is_told_where_each_kind_of_file_is(tiny_sam2: Path, on_terminal: OnTerminal) -> None:
    save_clip("clip.mp4", 3)
    drawn = on_terminal("segment", "clip.mp4", *POINTS, "-m", str(tiny_sam2), "--save", "masks,npz,yolo,coco", "-o", "out/", TERM="dumb")
    told = [line.removeprefix("visiontk: ") for line in drawn.replace("\r", "").splitlines() if " in out/" in line]
    assert told == [
        "masks are in out/clip/",
        "COCO annotations are in out/coco.json",
        "YOLO labels are in out/clip-yolo/",
        "arrays of masks are in out/clip-masks.npz",
        "a contact sheet is in out/contact-sheet.jpg",
    ]


def test_a_single_picture_has_no_contact_sheet_and_many_one_line_for_each_kind(tiny_sam2: Path, on_terminal: OnTerminal) -> None:
    Path("in").mkdir()
    for name in "abcd":
        picture().save(f"in/{name}.png")
    arguments = [*POINTS, "-m", str(tiny_sam2), "--save", "binary,overlay", "-o", "out/"]
    drawn = on_terminal("segment", "in/a.png", *arguments, TERM="dumb")
    assert "an overlay is in out/a-overlay.png" in drawn and "binary masks are in out/a-binary-*.png" in drawn
    assert "contact" not in drawn and names("out") == ["a-binary-1.png", "a-binary-4.png", "a-overlay.png"]
    drawn = on_terminal("segment", "in", *arguments, "--overwrite", TERM="dumb")
    assert drawn.count("overlays are in out/") == drawn.count("binary masks are in out/") == drawn.count("contact sheet is in") == 1
    assert "an overlay is" not in drawn and "out/a-binary" not in drawn


def test_a_person_whose_lines_go_into_a_file_is_told_where_the_overlay_is(tiny_sam2: Path) -> None:
    save_clip("clip.mp4", 2)
    lines = Path("masks.jsonl")
    code, drawn = draw("segment", "clip.mp4", *POINTS, "-m", str(tiny_sam2), "-o", "overlay.mp4", lines=lines, environment=DUMB)
    assert code == 0 and "an overlay is in overlay.mp4" in drawn
    assert len(lines.read_bytes().splitlines()) == 2


def test_pictures_of_one_name_with_other_objects_are_told_of_as_well(tiny_sam2: Path) -> None:
    """The second picture's first object has the first one's name and gets a number, its second one has a name of its own."""
    for folder in "ab":
        Path(folder).mkdir()
        picture().save(f"{folder}/q.png")
    asked = [[{"object": number, "points": [[15, 15]]} for number in numbers] for numbers in ((1,), (1, 4))]
    records = [{"path": f"{folder}/q.png", "prompts": prompts} for folder, prompts in zip("ab", asked, strict=True)]
    Path("in.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    code, drawn = draw("segment", "-", "-m", str(tiny_sam2), "--save", "binary", "-o", "out/", source=Path("in.jsonl"), environment=DUMB)
    assert code == 0, drawn
    assert names("out") == ["contact-sheet.jpg", "q-binary-1-2.png", "q-binary-1.png", "q-binary-4.png"]
    assert "a binary mask is in out/q-binary-1.png" in drawn and "binary masks are in out/q-binary-*.png" in drawn


def test_what_stands_behind_the_last_dot_of_a_folder_is_its_name(run: Run, trackers: list[ColourTracker]) -> None:
    names = ["2024.01.05", "2024.01.06", "other/2024.01.06"]
    for name in names:
        Path(name).mkdir(parents=True)
        for number in range(3):
            picture(number).save(f"{name}/{number:05d}.png")
    assert run("segment", *names, *POINTS, "--save", "masks,npz", "-o", "out/").code == 0
    made = sorted(path.name for path in Path("out").iterdir())
    assert [name for name in made if "npz" not in name] == ["2024.01.05", "2024.01.06", "2024.01.06-2"]
    assert [name for name in made if "npz" in name] == ["2024.01.05-masks.npz", "2024.01.06-masks-2.npz", "2024.01.06-masks.npz"]
    measured = run("eval", "segment", "out/2024.01.05", "out/2024.01.05")
    assert measured.code == 0 and measured.records[-1]["J&F"] == 1
