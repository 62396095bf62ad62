"""What training reads: folders, JSON lines, the bundled world."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from visiontk.errors import UsageError
from visiontk.training.examples import read_examples, split_by_class
from visiontk.training.pictures import Files

CONFIG = {
    "input_size": (3, 16, 16),
    "mean": (0.5,) * 3,
    "std": (0.5,) * 3,
    "interpolation": "bilinear",
    "crop_pct": 1.0,
    "crop_mode": "center",
}


def picture(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (20, 24, 3), dtype=np.uint8)).save(path)
    return path


def test_a_folder_of_classes_is_split_by_class(tmp_path: Path) -> None:
    for number in range(20):
        picture(tmp_path / "data" / "cat" / f"{number}.png")
    for number in range(5):
        picture(tmp_path / "data" / "dog" / "deeper" / f"{number}.png")
    (tmp_path / "data" / "cat" / "notes.txt").write_text("no image")
    (tmp_path / "data" / ".hidden").mkdir()
    found = read_examples(str(tmp_path / "data"), 0.1, seed=1)
    assert found.classes == ["cat", "dog"]
    assert [sum(label == k for _, label in found.val) for k in (0, 1)] == [2, 1]
    assert [sum(label == k for _, label in found.train) for k in (0, 1)] == [18, 4]
    assert not set(found.train) & set(found.val)
    assert all(Path(path).relative_to(tmp_path / "data").parts[0] == found.classes[label] for path, label in found.train + found.val)
    assert read_examples(str(tmp_path / "data"), 0.1, seed=1) == found
    assert read_examples(str(tmp_path / "data"), 0.1, seed=2).val != found.val


def test_a_folder_with_train_and_val_keeps_its_split(tmp_path: Path) -> None:
    for split, count in (("train", 3), ("val", 2)):
        for name in ("a", "b"):
            for number in range(count):
                picture(tmp_path / split / name / f"{number}.png")
    found = read_examples(str(tmp_path), 0.1, seed=0)
    assert (len(found.train), len(found.val)) == (6, 4)
    assert all("/val/" in path for path, _ in found.val)


def tree(root: Path, *names: str, each: int = 4) -> Path:
    """Folders of pictures."""
    for name in names:
        for number in range(each):
            picture(root / name / f"{number}.png")
    return root


def test_a_class_by_the_name_of_train_is_a_class(tmp_path: Path) -> None:
    data = tree(tmp_path / "vehicles", "bus", "car", "train")
    found = read_examples(str(data), 0.25, seed=0)
    assert found.classes == ["bus", "car", "train"] and (len(found.train), len(found.val)) == (9, 3) and found.warnings == ()


@pytest.mark.parametrize("val", ["val", "validation", "valid"])
def test_validation_goes_by_three_names_and_what_is_left_over_is_said(tmp_path: Path, val: str) -> None:
    data = tree(tmp_path / "data", "train/a", "train/b", f"{val}/a", f"{val}/b", "test/a", "test/b")
    found = read_examples(str(data), 0.1, seed=0)
    assert {Path(path).relative_to(data).parts[0] for path, _ in found.val} == {val}
    assert {Path(path).relative_to(data).parts[0] for path, _ in found.train} == {"train"}
    assert (len(found.train), len(found.val)) == (8, 8) and found.classes == ["a", "b"] and found.origin == "its own train and val"
    assert found.warnings == (f"{data}/test is not used, only {data}/train and {data}/{val}",)


@pytest.mark.parametrize("beside", [(), ("test/a", "test/b")])
def test_train_alone_is_shared_out(tmp_path: Path, beside: tuple[str, ...]) -> None:
    data = tree(tmp_path / "data", "train/a", "train/b", *beside)
    found = read_examples(str(data), 0.25, seed=3)
    assert (len(found.train), len(found.val)) == (6, 2) and found.origin == "a share of 0.25 for val, drawn with seed 3"
    assert all("/train/" in path for path, _ in found.train + found.val)
    assert found.warnings == ((f"{data}/test is not used, only {data}/train",) if beside else ())


def test_a_split_that_is_not_sorted_by_class_is_not_taken_for_classes(tmp_path: Path) -> None:
    data = tree(tmp_path / "data", "train", "val")
    with pytest.raises(UsageError, match="train is not sorted by class"):
        read_examples(str(data), 0.1, seed=0)


@pytest.mark.parametrize(("split", "sizes"), [("validation", (4, 4)), ("valid", (4, 4)), ("train", (6, 2))])
def test_lines_that_all_say_train_are_shared_out(tmp_path: Path, split: str, sizes: tuple[int, int]) -> None:
    lines = [{"path": f"{n}.png", "label": "ab"[n % 2], "split": split if n < 4 else "train"} for n in range(8)]
    (tmp_path / "all.jsonl").write_text("\n".join(map(json.dumps, lines)))
    found = read_examples("all.jsonl", 0.25, seed=0)
    assert (len(found.train), len(found.val)) == sizes
    assert found.origin.startswith("a share" if split == "train" else "its own")


def test_lines_of_json_name_files_beside_them_or_here(tmp_path: Path) -> None:
    lists = tmp_path / "lists"
    picture(lists / "x.png")
    picture(tmp_path / "here.png")  # the tests run in tmp_path
    lines = [
        {"path": "x.png", "label": "b", "split": "train", "more": 1},
        {"path": "here.png", "label": 7, "split": "train"},
        {"path": "x.png", "label": "b", "split": "val"},
    ]
    (lists / "all.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n\n")
    found = read_examples(str(lists / "all.jsonl"), 0.1, seed=0)
    assert found.classes == ["7", "b"]
    assert found.train == [(str(lists / "x.png"), 1), ("here.png", 0)]
    assert found.val == [(str(lists / "x.png"), 1)]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "line 2"),
        ("[1]", "line 2"),
        ('{"path": "a"}', "line 2"),
        ('{"path": "a", "label": "x", "split": "test"}', "train or val"),
        ("", "1 class;"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, line: str, words: str) -> None:
    (tmp_path / "a.jsonl").write_text('{"path": "a", "label": "x"}\n' + line + "\n")
    with pytest.raises(UsageError, match=words):
        read_examples("a.jsonl", 0.1, seed=0)


def test_folders_that_cannot_be_trained_on_say_why(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no folder or file"):
        read_examples("nowhere", 0.1, 0)
    picture(tmp_path / "data" / "a" / "1.png")
    with pytest.raises(UsageError, match="1 class;"):
        read_examples("data", 0.1, 0)
    (tmp_path / "data" / "b").mkdir()
    with pytest.raises(UsageError, match="data/b holds no images"):
        read_examples("data", 0.1, 0)
    picture(tmp_path / "data" / "b" / "1.png")
    with pytest.raises(UsageError, match="validate"):
        read_examples("data", 0.1, 0)


def test_a_class_of_one_image_stays_in_training() -> None:
    train, val = split_by_class([("a", 0), ("b", 0), ("c", 1)], 0.5, seed=0)
    assert ("c", 1) in train and len(val) == 1


def test_a_picture_is_a_function_of_its_key(tmp_path: Path) -> None:
    for name in ("a", "b"):
        for number in range(4):
            picture(tmp_path / name / f"{number}.png", seed=number)
    source = Files("data", read_examples(str(tmp_path), 0.25, seed=0))
    pictures = source.pictures("train", CONFIG, augment="strong", seed=5)
    batch = pictures.batch([(0, 0), (0, 1), (1, 0)])
    assert batch.images.shape == (3, 3, 16, 16) and batch.images.dtype == torch.uint8
    assert torch.equal(pictures.batch([(0, 1)]).images[0], batch.images[1])
    assert not torch.equal(batch.images[0], batch.images[2])
    state = torch.get_rng_state()
    pictures.batch([(2, 2)])
    assert torch.equal(state, torch.get_rng_state())


def test_unreadable_images_are_replaced_in_training_and_left_out_in_measuring(tmp_path: Path) -> None:
    for name in ("a", "b"):
        for number in range(2):
            picture(tmp_path / "train" / name / f"{number}.png")
            picture(tmp_path / "val" / name / f"{number}.png")
    for broken in ("train/a/1.png", "val/a/1.png"):
        (tmp_path / broken).write_bytes(b"\x89PNG\r\n\x1a\n not a picture")
    source = Files("data", read_examples(str(tmp_path), 0.1, seed=0))
    train = source.pictures("train", CONFIG, augment="light", seed=0).batch([(0, 0), (0, 1), (0, 2)])
    assert train.labels.tolist() == [0, 1, 1]  # the next one, under its own label
    assert len(train.unreadable) == 1 and "train/a/1.png" in train.unreadable[0]
    val = source.pictures("val", CONFIG, augment="none", seed=0).batch([(0, k) for k in range(4)])
    assert val.labels.tolist() == [0, 1, 1] and len(val.unreadable) == 1


def test_the_tiny_world_never_shows_in_training_what_it_is_measured_on() -> None:
    from visiontk.tiny import world
    from visiontk.training.tiny_data import EPOCH, MEASURED_SEED, TinyWorld

    source = TinyWorld()
    assert source.measured == ["val", "held_out"] and source.classes == world.names()
    config = {"input_size": (3, 32, 32)}
    train = source.pictures("train", config, augment="strong", seed=0)
    batch = train.batch([(0, 5), (1, 5)])
    assert len(train) == EPOCH and batch.images.shape == (2, 3, 32, 32)
    assert torch.equal(train.batch([(1, 5)]).images[0], batch.images[1])
    assert not torch.equal(batch.images[0], batch.images[1])
    val = source.pictures("val", config, augment="none", seed=0).batch([(0, 3)])
    assert torch.equal(val.images, source.pictures("val", config, augment="none", seed=9).batch([(0, 3)]).images)
    wanted = world.render_scenes(MEASURED_SEED, [3], size=32, styles=(world.HELD_OUT_STYLE,))
    held_out = source.pictures("held_out", config, augment="none", seed=0).batch([(0, 3)])
    assert torch.equal(held_out.images, wanted.images) and held_out.labels.tolist() == wanted.labels[:, 0].tolist()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"label": None}, 'line 2: "label" is text or a number and not null'),
        ({"label": ["a"]}, 'line 2: "label" is text or a number'),
        ({"label": "a", "frame": 3}, "line 2: frames of videos and animations are not trained on"),
    ],
)
def test_lines_without_a_label_or_of_a_frame_are_refused(tmp_path: Path, line: dict[str, object], message: str) -> None:
    path = str(picture(tmp_path / "a.png"))
    lines = [{"path": path, "label": 1}, {"path": path, **line}]
    (tmp_path / "list.jsonl").write_text("\n".join(map(json.dumps, lines)))
    with pytest.raises(UsageError, match=message):
        read_examples(str(tmp_path / "list.jsonl"), 0.1, 0)


def test_a_path_that_no_file_can_have_is_an_unreadable_image(tmp_path: Path) -> None:
    lines = [{"path": "x" * 300, "label": label} for label in ("a", "b", "a", "b")]
    (tmp_path / "list.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert len(read_examples(str(tmp_path / "list.jsonl"), 0.5, 0).train) == 2
