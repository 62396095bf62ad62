"""`visiontk classify` and the small commands, through the entry point: values against timm, not against ourselves."""

from __future__ import annotations

import ast
import csv
import io
import json
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import numpy as np
import pytest
import torch
from PIL import Image

if TYPE_CHECKING:
    from tests.conftest import OnTerminal, Record, Run, TinyModel, Valid

COMMIT = "0123456789abcdef0123456789abcdef01234567"
COMMANDS = [["classify"], ["inspect"], ["doctor"], ["schema"], *(["models", name] for name in ("list", "show", "pull", "rm"))]


def every_command(run: Run, *group: str) -> list[list[str]]:
    """All that can be called, groups gone through, as the overviews list them."""
    _, _, listed = run(*group, "--help").stdout.decode().partition("Commands:\n")
    names = re.findall(r"^  ([a-z-]+)  ", listed, re.MULTILINE)
    return [found for name in names for found in every_command(run, *group, name)] or [[*group]]


def best(record: Record, key: str = "classify") -> str:
    return str(record[key]["labels"][0]["label"])


def softmax(logits: Any) -> Any:
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


def scores(record: Record, key: str = "classify") -> dict[int, float]:
    return {label["index"]: label["score"] for label in record[key]["labels"]}


def put(path: Path, source: Path) -> Path:
    """A link to a photo under another name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(source)
    return path


# What people do first


def test_the_example_photos(run: Run, photos: Path, valid: Valid) -> None:
    records = valid(run("classify", photos, "-m", "efficientnet-lite0", "--dtype", "fp32"))
    named = {Path(record["path"]).name: record for record in records}
    assert list(named) == ["camera.png", "chelsea.png", "coffee.jpg", "helmet.jpg", "rocket.jpg"]
    assert {name: best(record) for name, record in named.items()} == {
        "camera.png": "tripod",
        "chelsea.png": "tiger cat",
        "coffee.jpg": "espresso",
        "helmet.jpg": "football helmet",
        "rocket.jpg": "missile",
    }
    assert named["chelsea.png"]["classify"]["labels"][0]["score"] == pytest.approx(0.39, abs=0.02)
    assert named["chelsea.png"]["classify"]["revision"].startswith("sha256:")


def test_no_model_and_nothing_cached_runs_the_bundled_one_and_says_so(run: Run, photos: Path, hub_cache: Path) -> None:
    result = run("classify", stdin=f"{photos}/coffee.jpg\n{photos}/camera.png\n".encode())
    assert [best(record) for record in result.records] == ["espresso", "tripod"]
    assert {record["classify"]["model"] for record in result.records} == {"efficientnet-lite0"}
    assert result.stderr.startswith("visiontk: warning: vit-base ")
    assert "efficientnet-lite0" in result.stderr and result.stderr.count("\n") == 1
    assert run("classify", "-q", photos / "coffee.jpg").stderr == ""


# Pipes of records


def test_unknown_keys_stay_in_order_and_stages_chain(classify: Run, photos: Path, valid: Valid) -> None:
    line = {"zeta": [1, {"a": None}], "path": str(photos / "coffee.jpg"), "ümlaut": "ж🎈", "alpha": 1.50}
    first = classify(stdin=json.dumps(line).encode() + b"\n")
    second = classify("--as", "again", "--top-k", "1", stdin=first.stdout)
    (record,) = valid(second)
    assert list(record) == ["zeta", "path", "ümlaut", "alpha", "classify", "again"]
    assert {key: record[key] for key in line} == line
    assert record["classify"] == first.records[0]["classify"]
    assert record["again"]["labels"] == record["classify"]["labels"][:1]


def test_results_of_an_earlier_stage_are_not_overwritten_but_errors_are(classify: Run, photos: Path) -> None:
    path = str(photos / "coffee.jpg")
    done = classify(path).stdout
    refused = classify(stdin=done)
    assert refused.code == 2
    assert refused.stdout == b""
    assert '"classify"' in refused.error and "--as" in refused.error
    failed = {"path": path, "classify": {"error": {"kind": "missing", "message": "it was not there then"}}, "note": 1}
    (record,) = classify(stdin=json.dumps(failed).encode()).records
    assert list(record) == ["path", "classify", "note"]
    assert record["classify"]["labels"] == json.loads(done)["classify"]["labels"]


def test_lines_without_a_path_pass_through_and_bad_lines_say_so(classify: Run, photos: Path, valid: Valid) -> None:
    path = str(photos / "coffee.jpg")
    lines = [b'{"generate": {"error": {"kind": "refused", "message": "no"}}, "n": 1}', path.encode(), b'{"path": 7}', b'{"path": "x"', b""]
    result = classify(stdin=b"\n".join(lines) + b"\n")
    passed, good, number, torn = valid(result, 3)
    assert passed == json.loads(lines[0])
    assert best(good).startswith("thing")
    assert [number["input"], torn["input"]] == ['{"path": 7}', '{"path": "x"']
    assert [line["classify"]["error"]["kind"] for line in (number, torn)] == ["bad_record", "bad_record"]
    assert "1 lines without a path were passed through" in result.stderr


def test_names_separated_by_nul(classify: Run, tmp_path: Path, photos: Path) -> None:
    names = ["a\nb.png", "{c}.png", " d .png"]
    for name in names:
        put(tmp_path / name, photos / "camera.png")
    result = classify("-0", stdin=b"\0".join(name.encode() for name in names))
    assert [record["path"] for record in result.records] == names
    assert len({best(record) for record in result.records}) == 1


def test_names_from_a_list_that_was_made_on_windows(classify: Run, photos: Path, tmp_path: Path) -> None:
    put(tmp_path / "a.png", photos / "camera.png")
    put(tmp_path / "b.png\r", photos / "camera.png")
    result = classify(stdin=b"a.png\r\nb.png\r\ngone.png\r\n")
    assert [record["path"] for record in result.records] == ["a.png", "b.png\r", "gone.png"] and result.code == 3


def test_bytes_of_an_image_in_the_pipe(classify: Run, photos: Path, valid: Valid) -> None:
    for name in ("coffee.jpg", "camera.png"):
        (piped,) = valid(classify(stdin=(photos / name).read_bytes()))
        (named,) = classify(photos / name).records
        assert piped["path"] == "-"
        assert piped["classify"]["labels"] == named["classify"]["labels"]
    (in_place,) = classify("-", stdin=(photos / "camera.png").read_bytes()).records
    assert in_place["classify"]["labels"] == named["classify"]["labels"]


def test_a_pipe_through_which_nothing_comes_is_told_and_no_failure(classify: Run) -> None:
    nothing = classify("-", stdin=b"")
    assert (nothing.code, nothing.stdout) == (0, b"")
    assert "visiontk: nothing came through the pipe, so there is nothing to do\n" in nothing.stderr
    assert "nothing came" not in classify("-", "-q", stdin=b"").stderr


# Inputs


def test_folders_and_globs(classify: Run, tmp_path: Path, photos: Path) -> None:
    for name in ("in/b/2.jpg", "in/b/1.JPG", "in/a.jpeg", "in/.hidden/x.jpg", "in/.x.jpg"):
        put(tmp_path / name, photos / "coffee.jpg")
    (tmp_path / "in" / "notes.txt").write_text("no image")

    def paths(*arguments: str) -> list[str]:
        return [record["path"] for record in classify(*arguments).records]

    assert paths("in") == ["in/a.jpeg", "in/b/1.JPG", "in/b/2.jpg"]
    assert paths("in/*/*.jpg") == ["in/b/2.jpg"]
    assert paths("in/**/*.jp*g", "in/b/1.JPG") == ["in/a.jpeg", "in/b/2.jpg", "in/b/1.JPG"]
    put(tmp_path / "in" / "[1].jpg", photos / "coffee.jpg")
    assert paths("in/[1].jpg") == ["in/[1].jpg"]
    nothing = classify("in/*.tif")
    assert nothing.code == 3
    assert nothing.records == [{"path": "in/*.tif", "classify": {"error": {"kind": "missing", "message": "no file matches this pattern"}}}]


def test_video_frames_and_reading_them_again(classify: Run, bunny: Path, valid: Valid) -> None:
    import av

    with av.open(str(bunny)) as container:
        times = [float(frame.time or 0) for frame in container.decode(video=0)]
    # Sums differ in the last digit with the batch's size, which a slow pipe leaves part-filled.
    every = valid(classify(bunny, "--every", "25", "-b", "1"))
    assert [record["frame"] for record in every] == list(range(0, len(times), 25))
    assert [record["time"] for record in every] == pytest.approx([times[index] for index in range(0, len(times), 25)], abs=1e-5)
    wanted = [next(i for i, time in enumerate(times) if time >= second / 2 - 1e-3) for second in range(int(2 * times[-1]) + 1)]
    assert [record["frame"] for record in valid(classify(bunny, "--fps", "2"))] == wanted

    lines = b"".join(json.dumps(record).encode() + b"\n" for record in every)
    again = valid(classify("--as", "again", "-b", "1", stdin=lines))
    assert [record["again"]["labels"] for record in again] == [record["classify"]["labels"] for record in every]
    assert [(record["frame"], record["time"]) for record in again] == [(record["frame"], record["time"]) for record in every]
    beyond = classify(stdin=json.dumps({"path": str(bunny), "frame": len(times)}).encode())
    assert (beyond.code, beyond.records[0]["classify"]["error"]["kind"]) == (3, "no_frame")
    assert classify(bunny, "--every", "2", "--fps", "1").code == 2


def test_bytes_of_a_video_in_the_pipe(classify: Run, bunny: Path, valid: Valid) -> None:
    named = valid(classify(bunny, "--every", "50", "-b", "1"))
    for arguments in ([], ["-"]):
        piped = valid(classify(*arguments, "--every", "50", "-b", "1", stdin=bunny.read_bytes()))
        assert {record["path"] for record in piped} == {"-"}
        assert [(record["frame"], record["time"]) for record in piped] == [(record["frame"], record["time"]) for record in named]
        assert [record["classify"]["labels"] for record in piped] == [record["classify"]["labels"] for record in named]
    half = valid(classify("--every", "50", stdin=bunny.read_bytes()[:200_000]), 3)
    assert half[-1]["classify"]["error"]["kind"] == "broken"


def test_frames_of_an_animation_are_chosen_as_those_of_a_video(classify: Run, tmp_path: Path) -> None:
    images = [Image.new("RGB", (32, 32), (40 * number, 0, 0)) for number in range(6)]
    for form in ("gif", "png", "tiff"):
        images[0].save(f"a.{form}", save_all=True, append_images=images[1:], duration=200)

    def frames(*arguments: str) -> list[int | None]:
        return [record.get("frame") for record in classify("--all-frames", *arguments).records]

    for name in ("a.gif", "a.png"):
        assert frames(name) == [0, 1, 2, 3, 4, 5]
        assert frames(name, "--every", "2") == [0, 2, 4]
        assert frames(name, "--fps", "2.5") == [0, 2, 4]
        [first] = classify(name, "--every", "2").records
        assert "frame" not in first
    assert frames("a.tiff", "--every", "2") == [0, 1, 2, 3, 4, 5], "pages are no frames of a film"


def test_all_frames_of_a_gif(classify: Run, tiny_model: TinyModel) -> None:
    colours = [(250, 0, 0), (0, 250, 0), (0, 0, 250)]
    images = [Image.new("RGB", (32, 32), colour) for colour in colours]
    images[0].save("a.gif", save_all=True, append_images=images[1:])
    wanted = tiny_model.logits(*images)
    (first,) = classify("a.gif", "--logits").records
    assert "frame" not in first
    np.testing.assert_allclose(first["classify"]["logits"], wanted[0], atol=1e-4)
    frames = classify("a.gif", "--all-frames", "--logits")
    assert [record["frame"] for record in frames.records] == [0, 1, 2]
    np.testing.assert_allclose([record["classify"]["logits"] for record in frames.records], wanted, atol=1e-4)
    assert [record["time"] for record in frames.records] == [0, 0.1, 0.2]
    chained = classify("--as", "b", "--logits", stdin=frames.stdout).records
    np.testing.assert_allclose([record["b"]["logits"] for record in chained], wanted, atol=1e-4)


# Numbers, against timm


def test_logits_scores_and_features_are_timms(classify: Run, photos: Path, tiny_model: TinyModel, valid: Valid) -> None:
    paths = [photos / "chelsea.png", photos / "camera.png"]
    images = [Image.open(path).convert("RGB") for path in paths]
    logits, features = tiny_model.logits(*images), tiny_model.features(*images)
    records = valid(classify(*paths, "--logits", "--embed", "-k", "10"))
    for record, wanted, pooled in zip(records, logits, features, strict=True):
        value = record["classify"]
        np.testing.assert_allclose(value["logits"], wanted, atol=2e-4)
        np.testing.assert_allclose(value["embedding"], pooled, atol=2e-4)
        found = scores(record)
        np.testing.assert_allclose([found[index] for index in range(10)], softmax(np.array(value["logits"])), atol=1e-5)
        assert [label["score"] for label in value["labels"]] == sorted(found.values(), reverse=True)
        assert [label["label"] for label in value["labels"]] == [f"thing {label['index']}" for label in value["labels"]]


def test_preprocessing_is_timms_to_the_last_bit(tiny_model: TinyModel, photos: Path) -> None:
    import visiontk

    _, transform = tiny_model.network()
    classifier = visiontk.load("classify", str(tiny_model.folder), visiontk.Runtime(dtype="fp32", device="cpu"))
    for name in ("chelsea.png", "camera.png"):
        image = Image.open(photos / name).convert("RGB")
        ours = classifier.normalise([classifier.prepare(image)])[0]
        np.testing.assert_allclose(ours.numpy(), transform(image).numpy(), rtol=0, atol=2e-6)


def test_flip_is_the_mean_of_both_softmaxes(classify: Run, photos: Path, tiny_model: TinyModel, valid: Valid) -> None:
    image = Image.open(photos / "chelsea.png").convert("RGB")
    network, transform = tiny_model.network()
    pixels = transform(image)
    import torch

    with torch.inference_mode():
        both = network(torch.stack([pixels, pixels.flip(-1)])).numpy()
    (record,) = valid(classify(photos / "chelsea.png", "--tta", "flip", "-k", "10", "--logits"))
    assert record["classify"]["tta"] == "flip"
    assert np.abs(both[0] - both[1]).max() > 0.1
    np.testing.assert_allclose([scores(record)[index] for index in range(10)], softmax(both).mean(0), atol=1e-4)
    np.testing.assert_allclose(record["classify"]["logits"], both.mean(0), atol=2e-4)


def test_five_crops(classify: Run, photos: Path, tiny_model: TinyModel, valid: Valid) -> None:
    import torch
    from torchvision.transforms import functional

    network, transform = tiny_model.network()
    image = Image.open(photos / "chelsea.png").convert("RGB")
    size = network.pretrained_cfg["input_size"][1]
    resized = functional.resize(image, [max(transform.transforms[0].size, round(size / 0.875))], transform.transforms[0].interpolation)
    normalise = transform.transforms[-1]
    crops = torch.stack([normalise(functional.to_tensor(crop)) for crop in functional.five_crop(resized, [size, size])])
    with torch.inference_mode():
        wanted = softmax(network(crops).numpy()).mean(0)
    (record,) = valid(classify(photos / "chelsea.png", "--tta", "five-crop", "-k", "10"))
    np.testing.assert_allclose([scores(record)[index] for index in range(10)], wanted, atol=1e-4)


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_features_in_one_file(classify: Run, photos: Path, tiny_model: TinyModel, bunny: Path, valid: Valid, suffix: str) -> None:
    paths = [str(photos / "chelsea.png"), "nowhere.png", str(photos / "camera.png")]
    result = classify(*paths, bunny, "--every", "100", "--embed", "-o", f"new/features{suffix}")
    records = valid(result, 3)
    if suffix == ".npz":
        with np.load(f"new/features{suffix}", allow_pickle=False) as file:
            features, frames, held = file["features"], file["frames"], [bytes(path).decode() for path in file["paths"]]
    else:
        from safetensors.numpy import load_file

        tensors = load_file(f"new/features{suffix}")
        features, frames = tensors["features"], tensors["frames"]
        held = [bytes(path).rstrip(b"\0").decode() for path in tensors["paths"]]
    good = [record for record in records if "error" not in record["classify"]]
    assert [record["classify"]["embedding"] for record in good] == [
        {"file": f"new/features{suffix}", "row": row} for row in range(len(features))
    ]
    assert held == [record["path"] for record in good]
    assert frames.tolist() == [record.get("frame", -1) for record in good]
    wanted = tiny_model.features(*(Image.open(path) for path in (paths[0], paths[2])))
    np.testing.assert_allclose(features[:2], wanted, atol=2e-4)
    again = classify(paths[0], "--embed", "-o", f"new/features{suffix}")
    assert (again.code, again.stdout) == (2, b"")
    assert "--overwrite" in again.error
    assert classify(paths[0], "--embed", "-o", f"new/features{suffix}", "--overwrite").code == 0
    assert sorted(path.name for path in Path("new").iterdir()) == [f"features{suffix}"]


def test_top_k_and_threshold(classify: Run, photos: Path, valid: Valid) -> None:
    (ten,) = valid(classify(photos / "camera.png", "-k", "99"))
    assert len(ten["classify"]["labels"]) == 10
    (two,) = valid(classify(photos / "camera.png", "--top-k", "2"))
    assert two["classify"]["labels"] == ten["classify"]["labels"][:2]
    (some,) = valid(classify(photos / "camera.png", "-k", "10", "--threshold", "0.1"))
    assert some["classify"]["labels"] == [label for label in ten["classify"]["labels"] if label["score"] >= 0.1] != []
    assert some["classify"]["threshold"] == 0.1
    for wrong in (
        ["--top-k", "0"],
        ["--threshold", "1.1"],
        ["--threshold", "nan"],
        ["--format", "xml"],
        ["--batch-size", "0"],
        ["--tta", "x"],
    ):
        refused = classify(photos / "camera.png", *wrong)
        assert (refused.code, refused.stdout) == (2, b""), wrong
        assert refused.error


def test_labels_from_a_file(classify: Run, photos: Path) -> None:
    names = [f"name {index}, ж" for index in range(10)]
    Path("labels.txt").write_text("\n".join(names) + "\n", "utf-8")
    Path("list.json").write_text(json.dumps(names), "utf-8")
    Path("object.json").write_text(json.dumps({str(index): name for index, name in enumerate(names)}), "utf-8")
    for file in ("labels.txt", "list.json", "object.json"):
        labels = classify(photos / "camera.png", "--labels", file).records[0]["classify"]["labels"]
        assert [label["label"] for label in labels] == [names[label["index"]] for label in labels]
    Path("nine.txt").write_text("\n".join(names[:9]), "utf-8")
    wrong = classify(photos / "camera.png", "--labels", "nine.txt")
    assert wrong.code == 2
    assert "9" in wrong.error and "10" in wrong.error
    assert classify(photos / "camera.png", "--labels", "none.txt").code == 2


# Forms of output


@pytest.mark.parametrize(("form", "delimiter"), [("csv", ","), ("tsv", "\t")])
def test_tables_of_values_read_back(classify: Run, tmp_path: Path, photos: Path, form: str, delimiter: str) -> None:
    names = ['a "b".png', "c\nd.png", "e\tf.png", "g,h.png", "i\rj.png", "ж🎈.png", "nowhere.png"]
    for name in names[:-1]:
        put(tmp_path / name, photos / "camera.png")
    result = classify(*names, "--format", form, "-k", "2")
    assert result.code == 3
    rows = list(csv.DictReader(io.StringIO(result.stdout.decode(), newline=""), delimiter=delimiter))
    wanted = classify(names[0], "-k", "2").records[0]["classify"]["labels"]
    assert [row["path"] for row in rows] == [name for name in names[:-1] for _ in range(2)] + names[-1:]
    for row, label in zip(rows[:2], wanted, strict=True):
        assert (row["label"], int(row["index"]), float(row["score"])) == (label["label"], label["index"], label["score"])
    assert [row["rank"] for row in rows[:2]] == ["1", "2"]
    assert rows[-1]["error"] == "there is no such file"


def test_the_view_for_people(classify: Run, photos: Path) -> None:
    result = classify(photos / "camera.png", "nowhere\x1b2J.png", "--format", "table", "-k", "1")
    text = result.stdout.decode()
    label = classify(photos / "camera.png").records[0]["classify"]["labels"][0]
    assert f"{photos}/camera.png" in text.replace("\n", "")
    assert label["label"] in text and f"{label['score']:.1%}" in text and "█" in text
    assert "there is no such file" in text
    assert "\x1b" not in text + result.stderr


# Attention


def test_attention_pictures_and_arrays(classify: Run, tmp_path: Path, photos: Path, valid: Valid) -> None:
    photo = put(tmp_path / "x.png", photos / "camera.png")
    put(tmp_path / "y" / "x.png", photos / "coffee.jpg")
    records = valid(classify("--attention", "x.png", "y/x.png"))  # without a value before a file name
    for record, stem in zip(records, ("x-attention", "x-attention-2"), strict=True):
        value = record["classify"]["attention"]
        assert value == {"kind": "rollout", "picture": f"visiontk-out/{stem}.png", "array": f"visiontk-out/{stem}.npy"}
        heat = np.load(value["array"])
        assert heat.dtype == np.float32 and heat.ndim == 2
        assert heat.sum() == pytest.approx(1, abs=1e-5) and heat.min() >= 0
        with Image.open(value["picture"]) as picture:
            picture.load()
            assert picture.format == "PNG" and min(picture.size) > 100
    assert not np.allclose(np.load("visiontk-out/x-attention.npy"), np.load("visiontk-out/x-attention-2.npy"))

    (heads,) = valid(classify("x.png", "--attention", "heads", "-o", "h/{parent}{stem}.v1"))
    array = np.load(heads["classify"]["attention"]["array"])
    assert heads["classify"]["attention"]["kind"] == "heads" and array.ndim == 3
    np.testing.assert_allclose(array.sum((1, 2)), 1, atol=1e-5)

    before = {path: path.read_bytes() for path in Path("visiontk-out").iterdir()}
    refused = classify(photo.name, photos / "coffee.jpg", "--attention=rollout")
    first, second = valid(refused, 3)
    assert first["classify"]["error"]["kind"] == "exists" and "--overwrite" in first["classify"]["error"]["message"]
    assert "attention" in second["classify"]
    assert {path: path.read_bytes() for path in before} == before
    assert classify("-q", photo.name, "--attention").stderr == ""
    assert classify(photos / "chelsea.png", "--attention", "-o", "visiontk-out").code == 0
    Path("visiontk-out/x-attention.npy").write_bytes(b"old")
    assert classify(photo.name, "--attention", "--overwrite").code == 0
    assert Path("visiontk-out/x-attention.npy").read_bytes() == before[Path("visiontk-out/x-attention.npy")]


def test_names_of_artefacts(classify: Run, tmp_path: Path, photos: Path) -> None:
    for name in ("a.b.png", "a.c.png", "n" * 250 + ".png"):
        put(tmp_path / name, photos / "camera.png")
    records = classify("a.b.png", "a.c.png", "--attention", "-o", "{stem}.png").records
    assert [record["classify"]["error"]["kind"] for record in records] == ["exists", "exists"]
    records = classify("a.b.png", "a.c.png", "a.b.png", "--attention", "-o", "o/{stem}.png").records
    assert [record["classify"]["attention"]["array"] for record in records] == ["o/a.b.npy", "o/a.c.npy", "o/a.b-2.npy"]
    assert classify("n" * 250 + ".png", "--attention").code == 0
    assert classify("-q", "--attention", stdin=(photos / "camera.png").read_bytes()).records[0]["classify"]["attention"]["picture"] == (
        "visiontk-out/stdin-attention.png"
    )
    wrong = classify("a.b.png", "--attention", "-o", "{nothing}")
    assert (wrong.code, "{stem}" in wrong.error) == (2, True)


def test_the_output_has_room_for_one_attention_picture(classify: Run, photos: Path) -> None:
    one = classify(photos / "camera.png", "--attention", "-o", "-")
    with Image.open(io.BytesIO(one.stdout)) as picture:
        assert (one.code, picture.format) == (0, "PNG")
    several = classify(photos / "camera.png", photos / "coffee.jpg", "--attention", "-o", "-")
    assert (several.code, several.stdout) == (2, b"")
    assert "-o - has room for one image, and there are several inputs" in several.error


def test_tables_say_where_the_artefacts_are(classify: Run, photos: Path) -> None:
    drawn = classify(photos / "camera.png", "--attention", "--format", "csv", "-o", "seen/")
    assert (drawn.code, "attention, pictures and arrays: seen/" in drawn.stderr) == (0, True)
    embedded = classify(photos / "camera.png", "--embed", "--format", "table", "-o", "features.npz")
    assert (embedded.code, "features: features.npz" in embedded.stderr) == (0, True)
    assert "seen" not in classify(photos / "camera.png", "--attention", "-o", "seen/", "--overwrite").stderr, "JSON lines name their files"


def test_attention_equals_a_vision_transformer_in_numpy(classify: Run, photos: Path, tiny_model: TinyModel) -> None:
    import torch

    from tests.test_attention import numpy_rollout, numpy_vit
    from visiontk.media.draw import overlay_heatmap

    network, transform = tiny_model.network()
    names = [photos / "chelsea.png", photos / "camera.png"]
    images = [Image.open(name).convert("RGB") for name in names]
    maps = numpy_vit(network, torch.stack([transform(image) for image in images]))
    rollout, heads = numpy_rollout(maps)[:, 0, 1:], maps[-1][:, :, 0, 1:]
    grid = network.patch_embed.grid_size
    for kind, wanted in (("rollout", rollout), ("heads", heads)):
        assert np.abs(wanted[0] - wanted[1]).max() > 1e-3, "two pictures must be told apart"
        records = classify(*names, "--attention", kind, "-o", f"{kind}/").records
        for record, one in zip(records, wanted / wanted.sum(-1, keepdims=True), strict=True):
            got = np.load(record["classify"]["attention"]["array"])
            np.testing.assert_allclose(got, one.reshape(*one.shape[:-1], *grid), atol=1e-4)
    # The shorter side becomes `scale` pixels, of which the model takes the middle 64.
    image, scale = images[0], transform.transforms[0].size
    side = 64 / scale * min(image.size)
    left, top = (image.width - side) / 2, (image.height - side) / 2
    seen = image.crop((round(left), round(top), round(left + side), round(top + side)))
    with Image.open("rollout/chelsea-attention.png") as picture:
        np.testing.assert_array_equal(picture, overlay_heatmap(seen, np.load("rollout/chelsea-attention.npy")))


def test_a_model_without_attention_or_class_token_is_refused_before_any_work(run: Run, tiny_convnet: TinyModel, photos: Path) -> None:
    from tests.conftest import _save_tiny

    without_token = _save_tiny(Path("vit").absolute(), "test_vit", img_size=64, class_token=False, global_pool="avg").folder
    for folder, kind, reason in (
        (tiny_convnet.folder, "rollout", "test_resnet"),
        (tiny_convnet.folder, "heads", "test_resnet"),
        (without_token, "rollout", "class token"),
    ):
        result = run("classify", "nowhere.png", "-m", folder, "--attention", kind)
        assert (result.code, result.stdout, result.stderr.count("\n")) == (2, b"", 1)
        assert reason in result.error
    assert not Path("visiontk-out").exists()
    assert run("classify", photos / "camera.png", "-m", without_token, "--attention", "heads").code == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ["--attention", "--tta", "flip"],
        ["-o", "x"],
        ["--embed", "-o", "x.txt"],
        ["--embed", "-o", "x.npz", "--resume", "y.jsonl"],
        ["--resume", "y.jsonl", "--format", "csv"],
        ["--logits", "--format", "table"],
        ["--embed", "--format", "csv"],
        ["--fps", "inf"],
        ["--as", "frame"],
    ],
)
def test_options_that_exclude_each_other(classify: Run, photos: Path, arguments: list[str]) -> None:
    result = classify(photos / "camera.png", *arguments)
    assert (result.code, result.stdout) == (2, b"")
    assert result.error
    assert sorted(Path().iterdir()) == []


# Where models come from


def cache_model(cache: Path, repo: str, source: Path) -> None:
    """What huggingface_hub leaves behind after a download."""
    folder = cache / ("models--" + repo.replace("/", "--"))
    shutil.copytree(source, folder / "snapshots" / COMMIT)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(COMMIT)


def test_a_cached_catalog_model(run: Run, tiny_model: TinyModel, hub_cache: Path, photos: Path, valid: Valid) -> None:
    from visiontk import catalog

    repo = catalog.recommended("classify").id
    cache_model(hub_cache, repo, tiny_model.folder)
    for arguments, name in (([], "vit-base"), (["-m", "vit-base"], "vit-base"), (["-m", repo], repo), (["-m", f"hf-hub:{repo}"], repo)):
        result = run("classify", photos / "coffee.jpg", *arguments)
        (record,) = valid(result)
        assert result.stderr == ""
        assert (record["classify"]["model"], record["classify"]["revision"]) == (name, COMMIT)
        assert best(record).startswith("thing ")
    shown = run("models", "show", "vit-base")
    assert json.loads(shown.stdout)["revision"] == COMMIT
    listed = {entry["name"]: entry for entry in run("models", "list").records}
    assert [name for name, entry in listed.items() if entry["cached"]] == ["vit-base"]
    assert all(entry["licence"] and entry["figure"] and entry["source"] for entry in listed.values())
    models, defaults = run("doctor").stdout.decode().split("what runs by default")
    assert re.search(rf"^  vit-base +cached, {COMMIT[:12]}$", models, re.MULTILINE) and re.search(
        r"^  vit-large +not cached$", models, re.MULTILINE
    )
    assert re.search(r"^  classify +vit-base \(ImageNet-1k top-1 86.20 %\)$", defaults, re.MULTILINE)
    assert run("models", "rm", "vit-base").code == 0
    assert run("models", "rm", "vit-base").code == 4
    assert run("classify", photos / "coffee.jpg", "-m", "vit-base").code == 4


def test_a_named_model_never_falls_back(run: Run, hub_cache: Path, photos: Path) -> None:
    for name, hint in (
        ("vit-base", "visiontk models pull"),
        ("vit-bsae", "did you mean vit-base?"),
        ("timm/nothing", "visiontk models pull timm/nothing"),
        ("./nowhere", "check the path"),
    ):
        result = run("classify", photos / "coffee.jpg", "-m", name)
        assert (result.code, result.stdout) == (4, b""), name
        assert hint in result.error
    assert run("models", "show", "efficientnet-lite0").code == 0
    assert run("models", "show", "vit-bsae").code == 4
    assert run("models", "rm", "efficientnet-lite0").code == 2
    assert run("models", "list", "--task", "cooking").code == 2


def test_settings_and_their_precedence(run: Run, tiny_model: TinyModel, tiny_convnet: TinyModel, photos: Path, monkeypatch: Any) -> None:
    def model(*arguments: str) -> str:
        (record,) = run("classify", photos / "coffee.jpg", *arguments).records
        return str(record["classify"]["model"])

    user = Path(".config/visiontk/visiontk.toml")
    user.parent.mkdir(parents=True)
    user.write_text(f'[model]\nclassify = "{tiny_convnet.folder}"\n')
    assert model() == str(tiny_convnet.folder)
    Path("visiontk.toml").write_text(f'[model]\nclassify = "{tiny_model.folder}"\n')
    assert model() == str(tiny_model.folder)
    monkeypatch.setenv("VISIONTK_MODEL_CLASSIFY", "efficientnet-lite0")
    assert model() == "efficientnet-lite0"
    assert model("-m", str(tiny_convnet.folder)) == str(tiny_convnet.folder)
    shown = run("doctor")
    assert shown.code == 0
    assert "efficientnet-lite0 (environment VISIONTK_MODEL_CLASSIFY)" in shown.stdout.decode()
    Path("visiontk.toml").write_text('colour = "red"\n')
    wrong = run("classify", photos / "coffee.jpg")
    assert wrong.code == 2 and '"colour"' in wrong.error


def test_doctor_says_what_is_amiss(run: Run, monkeypatch: pytest.MonkeyPatch, hub_cache: Path) -> None:
    well = run("doctor")
    assert (well.code, well.stderr) == (0, "")
    assert well.stdout.endswith(b"all is well\n")
    assert b"efficientnet-lite0" in well.stdout
    versions = well.stdout.decode().split("devices\n")[0]
    for package in ("torch", "timm", "sam2", "diffusers", "transformers", "numpy"):
        assert re.search(rf"^  {package} +{re.escape(metadata.version(package))}$", versions, re.MULTILINE), package
    shown = well.stdout.decode()
    for line in (
        r"python +\d+\.\d+\.\d+ on \w+ \w+",
        r"cpu +\d+ cores, \d+ threads, .*bf16 (fast|slow)",
        r"memory +\d+ GiB, \d+ GiB free",
        r"seed +0 \(default\)",
        r"runs on +\S+, (fp32|bf16)",
        r"hub +offline or does not answer",
        r"efficientnet-lite0 +bundled",
        r"classify +efficientnet-lite0 \(.*\), as vit-base is not cached and the hub does not answer",
        r"lvm +tiny-lvm \(.*\), as lvm-7b is not cached .*",
    ):
        assert re.search(rf"^  {line}$", shown, re.MULTILINE), line
    wrong = [("VISIONTK_DEVICE", "cuda:99"), ("VISIONTK_DVICE", "cpu")]
    wrong += [("VISIONTK_MODEL_CLASSIFY", name) for name in ("vit-base", "nonsense", "models/gone", "./gone", "resnet18")]
    wrong += [("VISIONTK_MODEL_SEGMENT", "tiny-vit"), ("VISIONTK_MODEL_LVM", "org/name")]
    for name, value in wrong:
        with monkeypatch.context() as context:
            context.setenv(name, value)
            amiss = run("doctor")
        assert amiss.code == 1
        assert b"problem: " in amiss.stdout and b"all is well" not in amiss.stdout


def test_a_catalog_model_of_a_variant_is_found_in_the_cache_by_that(run: Run, hub_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from visiontk import hub

    asked: dict[str, str | None] = {}

    def cached(repo: str, layout: object = None, variant: str | None = None) -> None:
        asked[repo] = variant

    monkeypatch.setattr(hub, "cached", cached)
    for command in (["doctor"], ["models", "list"]):
        asked.clear()
        run(*command)
        assert (asked["stabilityai/stable-diffusion-xl-base-1.0"], asked["timm/tiny_vit_5m_224.dist_in22k_ft_in1k"]) == ("fp16", None)


def test_the_catalog_on_a_terminal(on_terminal: OnTerminal) -> None:
    drawn = on_terminal("models", "list", "--task", "classify", COLUMNS="200", TERM="xterm-256color", NO_COLOR="1")
    shown = re.sub(r"\x1b\[[0-9;]*m", "", drawn)
    [base] = [line for line in shown.splitlines() if line.startswith(" vit-base")]
    assert re.split(r"\s{2,}", base.strip()) == [
        "vit-base",
        "classify",
        "86.6 M",
        "346 MB",
        "Apache-2.0",
        "no",
        "ImageNet-1k top-1 86.20 %",
    ]
    assert "on disk" in shown and "bundled" in shown


# The command line itself


def test_verbose_says_which_model_runs_where_and_how_fast(classify: Run, tiny_model: TinyModel, photos: Path) -> None:
    names = (photos / "camera.png", photos / "coffee.jpg")
    plain = classify(*names, "--device", "cpu")
    assert (plain.code, plain.stderr) == (0, "")
    said = classify(*names, "--device", "cpu", "--dtype", "bf16", "-b", "3", "-v")
    introduced, summed = said.stderr.splitlines()
    revision = plain.records[0]["classify"]["revision"]
    assert introduced == f"visiontk: {tiny_model.folder} {revision} on cpu, bf16, batches of 3"
    assert re.fullmatch(r"visiontk: 2 images in \d+\.\d s, \d+\.\d a second", summed)
    assert [record["path"] for record in said.records] == [str(name) for name in names]


def test_debug_adds_the_traceback_to_the_one_line(classify: Run, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without = classify(photos / "camera.png", "--device", "cuda:99")
    assert (without.code, without.stdout, without.stderr.count("\n")) == (5, b"", 1)
    assert without.error.startswith("there is no device cuda:99 ")
    debugged = classify(photos / "camera.png", "--device", "cuda:99", "--debug")
    assert (debugged.code, debugged.stdout) == (5, b"")
    *trace, line = debugged.stderr.splitlines()
    assert line == without.stderr.strip()
    assert trace[0] == "Traceback (most recent call last):" and trace[-1].startswith("visiontk.errors.DeviceError: there is no device")

    def fails(*_: object) -> None:
        raise KeyError("a slip of ours")

    monkeypatch.setattr("visiontk.adapters.classify.Classifier.prepare", fails)
    bug = classify(photos / "camera.png")
    assert (bug.code, bug.stderr.count("\n")) == (1, 1)
    assert bug.error == "KeyError: 'a slip of ours'; this is a bug, run again with --debug and report what it prints"
    again = classify(photos / "camera.png", "--debug")
    assert again.code == 1 and "in fails" in again.stderr and again.stderr.splitlines()[-1] == bug.stderr.strip()


def test_every_command_takes_the_debug_that_a_bug_asks_for(run: Run) -> None:
    assert len(every_command(run)) > len(COMMANDS)
    for command in every_command(run):
        assert "--debug" in run(*command, "--help").stdout.decode(), command


def test_schema_and_version(run: Run, schema: Record) -> None:
    import visiontk

    printed = run("schema")
    assert json.loads(printed.stdout) == schema
    jsonschema.Draft202012Validator.check_schema(schema)
    assert run("--version").stdout.decode() == f"visiontk {visiontk.__version__}\n"


def test_help_has_an_example(run: Run) -> None:
    commands = every_command(run)
    assert [command for command in COMMANDS if command not in commands] == []
    for command in commands:
        result = run(*command, "--help")
        assert (result.code, result.stderr) == (0, "")
        lines = [line.strip() for line in result.stdout.decode().splitlines()]
        assert any(line.startswith("visiontk " + " ".join(command)) for line in lines), command


def test_a_command_line_that_is_wrong(run: Run) -> None:
    for arguments, hint in ((["clasify"], "No such command"), (["classify", "--modle", "x"], "No such option"), (["inspect"], "MODEL")):
        result = run(*arguments)
        assert (result.code, result.stdout) == (2, b"")
        assert hint in result.error
    for group in ([], ["models"]):
        result = run(*group)
        assert (result.code, result.stdout) == (2, b"")
        assert result.stderr.startswith("Usage: ")


def test_help_imports_neither_torch_nor_numpy() -> None:
    program = """
import sys
from importlib import metadata
(entry,) = metadata.entry_points(group="console_scripts", name="visiontk")
main = entry.load()
for arguments in (["--help"], ["classify", "--help"], ["--version"], ["schema"]):
    assert main(arguments) == 0
print([name for name in ("torch", "numpy", "timm", "PIL", "rich.console", "huggingface_hub") if name in sys.modules], file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stderr == "[]\n"


def test_the_list_of_commands_imports_little_beside_typer() -> None:
    """It is what a shell with completion runs again and again."""
    program = """
import sys
from importlib import metadata
(entry,) = metadata.entry_points(group="console_scripts", name="visiontk")
before = {name for name in sys.modules if name.startswith("json")}
assert entry.load()(["--help"]) == 0
print({name for name in sys.modules if name.startswith(("json", "rich", "visiontk."))} - before, file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    ours = ("app", "console", "interrupts", "subcommands")
    wanted = {"visiontk.errors", "visiontk.commands", *(f"visiontk.commands.{name}" for name in ours)}
    assert ast.literal_eval(done.stderr) == wanted


@pytest.mark.parametrize("out", ["heat.jpg", "run.v2"])
def test_attention_is_written_as_png(classify: Run, photos: Path, out: str) -> None:
    result = classify(photos / "coffee.jpg", "--attention", "-o", out)
    assert result.code == 2 and "are PNG" in result.error


def test_with_compilation_a_smaller_batch_is_padded_to_no_larger_one(tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    from visiontk.adapters.classify import load
    from visiontk.runtime import Runtime

    monkeypatch.setattr(torch, "compile", lambda whole: whole)
    classifier = load(str(tiny_model.folder), Runtime(device="cpu", dtype="fp32", compile=True, batch_size=8))
    whole, passes = classifier._both, list[int]()

    def small(pixels: torch.Tensor) -> Any:
        passes.append(len(pixels))
        if len(pixels) > 4:
            raise torch.OutOfMemoryError("full")
        return whole(pixels)

    classifier._forward = small
    images = [classifier.prepare(Image.new("RGB", (64, 64), (40 * place, 0, 0))) for place in range(8)]
    assert len(classifier.predict_prepared(images[:1])) == 1
    assert passes == [8, 4], "one image alone fits, whatever it was padded to"
    assert len(classifier.predict_prepared(images)) == 8
    assert passes == [8, 4, 4, 4]


@pytest.mark.parametrize("command", ["classify", "segment"])
def test_a_device_too_small_for_the_model_is_no_bug(run: Run, photos: Path, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    def full(self: Any, *_: Any, **__: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch.nn.Module, "to", full)
    result = run(command, photos / "coffee.jpg", "-m", "tiny-sam2" if command == "segment" else "tiny-vit")
    assert result.code == 5 and result.error == "the device is out of memory; choose a smaller model or --device cpu"
