"""`visiontk tiny render`: ordinary files that others read back to the same pictures and masks."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from visiontk.errors import OutputError, UsageError
from visiontk.tiny import world
from visiontk.tiny.files import palette, write_clips, write_images


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metadata.jsonl").read_text("utf-8").splitlines()]


def hashes(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*") if path.is_file()}


def pixels(path: Path) -> torch.Tensor:
    return torch.from_numpy(np.array(Image.open(path)))


def test_images_load_as_an_image_folder(tmp_path: Path) -> None:
    datasets = pytest.importorskip("torchvision.datasets")
    records = list(write_images(tmp_path, 70, seed=3, size=48))
    scenes = world.render_scenes(3, 70, size=48)
    loaded = datasets.ImageFolder(str(tmp_path))
    assert len(loaded) == 70
    by_path = {path: loaded.classes[target] for path, target in loaded.samples}
    for index, record in enumerate(records):
        label = world.names()[int(scenes.labels[index, 0])]
        assert by_path[record["path"]] == label == record["tiny"]["objects"][0]["label"]
        assert torch.equal(pixels(Path(record["path"])).permute(2, 0, 1), scenes.images[index])
        assert record["tiny"]["text"] == scenes.captions[index]
        assert record["tiny"]["objects"][0]["box"] == scenes.boxes[index, 0].tolist()


def test_metadata_stands_beside_the_files(tmp_path: Path) -> None:
    records = list(write_images(tmp_path, 5))
    described = lines(tmp_path)
    assert [str(tmp_path / line.pop("file_name")) for line in described] == [record["path"] for record in records]
    assert described == [record["tiny"] for record in records]


def test_several_objects_come_with_masks(tmp_path: Path) -> None:
    records = list(write_images(tmp_path, 6, seed=1, size=64, objects=(1, 3), styles=["twemoji"]))
    scenes = world.render_scenes(1, 6, size=64, objects=(1, 3), styles=["twemoji"])
    for index, (record, line) in enumerate(zip(records, lines(tmp_path), strict=True)):
        indices = pixels(tmp_path / line["mask"])
        assert torch.equal(indices, world.index_map(scenes.masks[index]))
        assert len(record["tiny"]["objects"]) == int((scenes.labels[index] >= 0).sum())
        for number, thing in enumerate(line["objects"]):
            assert world.boxes_of(indices == number + 1).tolist() == thing["box"]
            assert thing["style"] == "twemoji"


def test_clips_read_back_to_the_same_masks(tmp_path: Path) -> None:
    records = list(write_clips(tmp_path, 3, seed=2, frames=7, size=64, objects=(1, 3)))
    for index, line in enumerate(lines(tmp_path)):
        clip = world.render_clip(2, index, 7, size=64, objects=(1, 3))
        frames = sorted((tmp_path / line["file_name"]).iterdir())
        annotations = sorted((tmp_path / line["masks"]).iterdir())
        assert records[index]["path"] == str(tmp_path / "JPEGImages" / f"{index + 1:06d}")
        assert [path.name for path in frames] == [f"{number:05d}.jpg" for number in range(7)]
        assert [path.stem for path in annotations] == [path.stem for path in frames]
        assert torch.equal(torch.stack([pixels(path) for path in annotations]), clip.index_masks)
        read = torch.stack([pixels(path) for path in frames]).permute(0, 3, 1, 2)
        assert (read.float() - clip.frames.float()).abs().mean() < 3
        assert [mover["label"] for mover in line["objects"]] == [world.names()[label] for label in clip.labels.tolist()]
        assert [mover["boxes"] for mover in line["objects"]] == clip.boxes.transpose(0, 1).tolist()


def test_annotations_have_the_palette_of_davis(tmp_path: Path) -> None:
    list(write_clips(tmp_path, 1, frames=1))
    image = Image.open(tmp_path / "Annotations" / "000001" / "00000.png")
    colours = image.getpalette()
    assert image.mode == "P" and colours is not None
    assert colours[:12] == [0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0]  # background, and the first three objects, in every DAVIS file
    assert len({tuple(palette()[start : start + 3]) for start in range(0, 768, 3)}) == 256


def test_the_same_seed_gives_the_same_bytes(run: Any, tmp_path: Path) -> None:
    for kind in ("images", "clips"):
        for name in ("a", "b"):
            assert run("tiny", "render", kind, "-n", "3", "-o", tmp_path / kind / name, "--seed", "9").code == 0
        assert hashes(tmp_path / kind / "a") == hashes(tmp_path / kind / "b") != {}


def test_options_reach_the_renderer(run: Any, tmp_path: Path) -> None:
    result = run("tiny", "render", "images", "-n", "4", "-o", "x", "--size", "80", "--style", "fluent", "--objects", "2", "--seed", "5")
    assert result.code == 0 and result.stderr == ""
    for record in result.records:
        assert Image.open(record["path"]).size == (80, 80)
        assert [thing["style"] for thing in record["tiny"]["objects"]] == ["fluent", "fluent"]
        assert record["tiny"]["seed"] == 5
    result = run("tiny", "render", "clips", "-n", "1", "-o", "y", "--frames", "3", "--size", "40", "--objects", "1")
    assert len(list(Path(result.records[0]["path"]).iterdir())) == 3
    assert Image.open("y/Annotations/000001/00002.png").size == (40, 40)


def test_records_go_on_into_classify(run: Any, classify: Any) -> None:
    images = run("tiny", "render", "images", "-n", "2", "-o", "images")
    answered = classify(stdin=images.stdout).records
    assert [record["path"] for record in answered] == [record["path"] for record in images.records]
    assert all(record["classify"]["labels"] and record["tiny"]["text"] for record in answered)
    clips = run("tiny", "render", "clips", "-n", "1", "-o", "clips", "--frames", "3")
    answered = classify(stdin=clips.stdout).records
    assert [Path(record["path"]).name for record in answered] == ["00000.jpg", "00001.jpg", "00002.jpg"]


@pytest.mark.parametrize("kind", ["images", "clips"])
def test_nothing_is_overwritten_unasked(run: Any, kind: str) -> None:
    Path("out").mkdir()
    Path("out/mine.txt").write_text("mine")
    refused = run("tiny", "render", kind, "-n", "1", "-o", "out")
    assert refused.code == 2 and "out is not empty; pass --overwrite" in refused.error and refused.stdout == b""
    assert hashes(Path("out")).keys() == {"mine.txt"}
    assert run("tiny", "render", kind, "-n", "1", "-o", "out", "--overwrite").code == 0
    assert Path("out/mine.txt").read_text() == "mine"


@pytest.mark.parametrize("objects", [1, 2])
def test_images_are_not_mixed_with_those_of_an_earlier_rendering(tmp_path: Path, objects: int) -> None:
    out = tmp_path / "out"
    list(write_images(out, 9, seed=1, objects=objects))
    mine = ["mine.png", "images/mine.png", "masks/mine.png", "apple/000042.png"]
    for name in mine:
        (out / name).parent.mkdir(exist_ok=True)
        (out / name).write_bytes(b"mine")
    list(write_images(out, 3, seed=2, overwrite=True))
    list(write_images(tmp_path / "new", 3, seed=2))
    assert hashes(out) == hashes(tmp_path / "new") | {name: hashlib.sha256(b"mine").hexdigest() for name in mine}
    assert all(any(folder.iterdir()) for folder in out.iterdir() if folder.is_dir())  # none is left empty


def test_clips_are_not_mixed_with_those_of_an_earlier_rendering(tmp_path: Path) -> None:
    out = tmp_path / "out"
    list(write_clips(out, 3, seed=1, frames=5, size=32))
    mine = ["JPEGImages/000001/00009.jpg", "JPEGImages/000009/00000.jpg", "Annotations/000002/notes.txt"]
    for name in mine:
        (out / name).parent.mkdir(exist_ok=True)
        (out / name).write_bytes(b"mine")
    list(write_clips(out, 1, seed=2, frames=2, size=32, overwrite=True))
    list(write_clips(tmp_path / "new", 1, seed=2, frames=2, size=32))
    assert hashes(out) == hashes(tmp_path / "new") | {name: hashlib.sha256(b"mine").hexdigest() for name in mine}


def test_files_that_a_strangers_metadata_lists_stay(tmp_path: Path) -> None:
    """The name is common: Hugging Face's image folders have such a file as well."""
    out = tmp_path / "out"
    out.mkdir()
    kept = ["photo.png", "apple/000001.png", "../outside.png", "cat/holiday.png"]
    for name in kept:
        (out / name).parent.mkdir(exist_ok=True)
        (out / name).write_bytes(b"mine")
    ours = {"seed": 0, "index": 0, "objects": []}
    entries = [{"file_name": "apple/000001.png"}, *({**ours, "file_name": name} for name in kept if name != "apple/000001.png")]
    (out / "metadata.jsonl").write_text("\n".join([*map(json.dumps, entries), "[1]", '{"torn": ']))
    list(write_clips(out, 1, frames=1, size=32, overwrite=True))
    assert all((out / name).read_bytes() == b"mine" for name in kept)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--style", "pixel"], "there is no style 'pixel'; use noto, fluent, twemoji"),
        (["--objects", "many"], "--objects is 'many'; use a number"),
        (["--objects", "3-1"], "3 to 1 objects cannot be placed"),
        (["--objects", "0"], "0 to 0 objects cannot be placed"),
        (["--size", "4"], "--size"),
        (["-n", "0"], "-n"),
    ],
)
def test_wrong_options_are_named(run: Any, arguments: list[str], message: str) -> None:
    for kind in ("images", "clips"):
        result = run("tiny", "render", kind, "-o", "out", *arguments)
        assert result.code == 2 and message in result.error
        assert not Path("out").exists()


def test_clips_hold_three_things_at_most(run: Any) -> None:
    result = run("tiny", "render", "clips", "-o", "out", "--objects", "4")
    assert result.code == 2 and "4 objects are too many for a clip" in result.error and not Path("out").exists()


def test_a_folder_is_needed(run: Any) -> None:
    assert run("tiny", "render", "images").code == 2


def test_a_file_in_the_way_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises((OutputError, UsageError), match="file"):
        next(write_images(tmp_path / "file", 1))


def test_a_stopped_run_leaves_whole_lines(tmp_path: Path) -> None:
    records = write_images(tmp_path, 100)
    for _ in range(3):
        next(records)
    records.close()  # type: ignore[attr-defined]
    described = lines(tmp_path)
    assert len(described) == 3 and all((tmp_path / line["file_name"]).is_file() for line in described)


def test_a_clip_that_is_stopped_leaves_no_frames_that_no_line_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from visiontk.tiny import files

    save, saved = files._save, [0]

    def stop(path: Path, image: Image.Image, **options: Any) -> None:
        saved[0] += 1
        if saved[0] == 20:
            raise KeyboardInterrupt
        save(path, image, **options)

    monkeypatch.setattr(files, "_save", stop)
    with pytest.raises(KeyboardInterrupt):
        list(write_clips(tmp_path, 2, frames=6))
    assert [line["file_name"] for line in lines(tmp_path)] == ["JPEGImages/000001"]
    assert sorted(path.name for path in tmp_path.rglob("0*") if path.is_dir()) == ["000001", "000001"]


def test_what_is_rendered_in_parts_is_what_is_rendered_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder, pixels in (("whole", 2**22), ("parts", 64 * 64 * 4)):
        monkeypatch.setattr("visiontk.tiny.files._PIXELS", pixels)
        list(write_clips(tmp_path / folder / "clips", 2, frames=11))
        list(write_images(tmp_path / folder / "images", 9, objects=3))
    assert hashes(tmp_path / "whole") == hashes(tmp_path / "parts")
