"""`visiontk eval generate`: what counts as right, where prompts are found, and what the distances are measured to."""

from __future__ import annotations

import csv
import io
import itertools
import json
import os
import re
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image

import visiontk
from tests.generate_models import make_pipeline
from visiontk.media import embedded
from visiontk.metrics.named import Names
from visiontk.tiny import world

if TYPE_CHECKING:
    from tests.conftest import Result, Run, TinyModel

COUNT = 24
SIX_DIGITS = 1e-5
FP32 = 2e-3  # distances of float32 features that come from batches of other sizes

Evaluate = Callable[..., "Result"]


@pytest.fixture
def evaluate(run: Run) -> Evaluate:
    def call(*arguments: str | os.PathLike[str], stdin: bytes | None = None) -> Result:
        return run("eval", "generate", *arguments, stdin=stdin)

    return call


@pytest.fixture(scope="module")
def scenes() -> world.Scenes:
    return world.render_scenes(77, COUNT, size=64)


@pytest.fixture(scope="module")
def pictures(scenes: world.Scenes) -> list[Image.Image]:
    return [Image.fromarray(image.permute(1, 2, 0).contiguous().numpy()) for image in scenes.images]


@pytest.fixture(scope="module")
def seen(pictures: list[Image.Image]) -> list[str]:
    """What tiny-vit sees, by its own interface."""
    classifier = visiontk.load("classify", "tiny-vit", visiontk.Runtime(device="cpu", dtype="fp32"))
    return [answer.labels[0].label for answer in classifier.predict(pictures, top_k=1)]


@pytest.fixture
def wanted() -> Any:
    """Counts what the tiny world should render."""
    return import_module("visiontk.commands.eval_generate_reference").Wanted(Names(world.names()))


def lines(pictures: list[Image.Image], prompts: list[str], seeds: list[int] | None = None) -> str:
    """Saved pictures and their lines, as `visiontk generate` writes them."""
    found = ""
    for number, (image, prompt) in enumerate(zip(pictures, prompts, strict=True)):
        image.save(f"{number:03}.png")
        value = {"model": "m", "prompt": prompt, "seed": seeds[number] if seeds else number}
        found += json.dumps({"path": f"{number:03}.png", "generate": value}) + "\n"
    Path("lines.jsonl").write_text(found, "utf-8")
    return found


def noise(count: int, size: int = 64) -> list[Image.Image]:
    drawn = np.random.default_rng(5).integers(0, 256, (count, size, size, 3), dtype=np.uint8)
    return [Image.fromarray(pixels) for pixels in drawn]


def test_accuracy_is_the_share_of_pictures_that_show_the_named_thing(
    evaluate: Evaluate, scenes: world.Scenes, pictures: list[Image.Image], seen: list[str]
) -> None:
    lines(pictures, scenes.captions)
    named = [world.names()[label] for label in scenes.labels[:, 0].tolist()]
    right = [one == other for one, other in zip(named, seen, strict=True)]
    *classes, totals = evaluate("lines.jsonl").records
    assert sum(right) > COUNT / 2
    assert (totals["images"], totals["named"], totals["failed"]) == (COUNT, COUNT, 0)
    assert totals["accuracy"] == pytest.approx(sum(right) / COUNT, rel=SIX_DIGITS)
    wanted = {name: [ok for ok, other in zip(right, named, strict=True) if other == name] for name in named}
    assert {line["class"]: (line["images"], line["right"]) for line in classes} == {name: (len(of), sum(of)) for name, of in wanted.items()}
    assert [line["accuracy"] for line in classes] == [pytest.approx(np.mean(wanted[line["class"]]), rel=SIX_DIGITS) for line in classes]
    assert totals["class_accuracy"] == pytest.approx(np.mean([np.mean(of) for of in wanted.values()]), rel=SIX_DIGITS)
    assert totals["classifier"]["model"] == "tiny-vit"
    assert "frechet" not in totals and "diversity" not in totals


def test_a_wrong_name_is_not_right(evaluate: Evaluate, pictures: list[Image.Image], seen: list[str]) -> None:
    wrong = [world.names()[(world.names().index(name) + 1) % 100] for name in seen]
    lines(pictures, [f"a {name}" for name in wrong])
    assert evaluate("lines.jsonl").records[-1]["accuracy"] == 0
    lines(pictures, [f"a {name}" for name in seen])
    assert evaluate("lines.jsonl").records[-1]["accuracy"] == 1


def test_prompts_that_name_none_or_several_are_left_out_and_counted(
    evaluate: Evaluate, pictures: list[Image.Image], seen: list[str]
) -> None:
    other = "dog" if seen[0] != "dog" else "cat"
    lines(pictures[:4], [f"a {seen[0]}", f"a {other} left of a {seen[0]}", "a thing", f"The {seen[3].upper()}!"])
    pictures[4].save("plain.png")
    totals = evaluate("lines.jsonl", "plain.png").records[-1]
    assert [totals[name] for name in ("images", "named", "several", "unnamed", "without_prompt")] == [5, 2, 1, 1, 1]
    assert totals["accuracy"] == 1


def test_the_colour_of_the_background(evaluate: Evaluate) -> None:
    plain = world.render_scenes(78, 12, size=64, backgrounds=("plain",))
    images = [Image.fromarray(image.permute(1, 2, 0).contiguous().numpy()) for image in plain.images]
    lines(images, plain.captions)
    totals = evaluate("lines.jsonl").records[-1]
    assert (totals["background_accuracy"], totals["backgrounds"]) == (1, 12)
    turned = [colour for colour in plain.background_colours[1:] + plain.background_colours[:1] if colour]
    lines(images, [f"a dog on a {colour} background" for colour in turned])
    kept = sum(map(str.__eq__, turned, map(str, plain.background_colours)))
    assert evaluate("lines.jsonl").records[-1]["background_accuracy"] == pytest.approx(kept / 12, rel=SIX_DIGITS)
    lines(images, ["a dog on a photo background"] * 12)
    assert "background_accuracy" not in evaluate("lines.jsonl").records[-1]


def test_lines_the_pipe_and_the_pictures_own_metadata_say_the_same(
    evaluate: Evaluate, scenes: world.Scenes, pictures: list[Image.Image]
) -> None:
    text = lines(pictures, scenes.captions)
    Path("own").mkdir()
    for number, (image, prompt) in enumerate(zip(pictures, scenes.captions, strict=True)):
        suffix = (".png", ".webp")[number % 2]
        Path(f"own/{number:03}{suffix}").write_bytes(embedded.encode(image, suffix, json.dumps({"prompt": prompt, "seed": number})))
    wanted = evaluate("lines.jsonl").records
    assert evaluate("-", stdin=text.encode()).records == evaluate(stdin=text.encode()).records == wanted
    assert evaluate("own").records == evaluate("own/*.png", "own/*.webp").records == wanted


def test_what_visiontk_generate_writes_is_understood_from_its_lines_and_from_its_files(
    evaluate: Evaluate, run: Run, tmp_path_factory: pytest.TempPathFactory
) -> None:
    model = make_pipeline(tmp_path_factory.mktemp("pipeline"))
    options = ["--model", str(model), "--steps", "1", "--dtype", "fp32", "--quiet", "-n", "2"]
    made = run("generate", "an apple on a red background", "a car", *options, "-o", "made/")
    assert made.code == 0, made.stderr
    found = evaluate("-", "--reference", "tiny", stdin=made.stdout).records
    totals = found[-1]
    assert [totals[name] for name in ("images", "named", "backgrounds", "failed")] == [4, 4, 2, 0]
    assert (totals["diversity"]["prompts"], totals["frechet"]["reference_images"]) == (2, 4)
    assert evaluate("made", "--reference", "tiny").records == found


def test_lines_with_another_key_and_those_of_the_tiny_world(
    evaluate: Evaluate, run: Run, pictures: list[Image.Image], seen: list[str]
) -> None:
    text = lines(pictures[:2], [f"a {name}" for name in seen[:2]]).replace('"generate"', '"large"')
    assert evaluate("--as", "large", stdin=text.encode()).records[-1]["accuracy"] == 1
    assert evaluate(stdin=text.encode()).records[-1]["without_prompt"] == 2
    rendered = run("tiny", "render", "images", "-n", "4", "-o", "true").stdout
    assert evaluate("--as", "tiny", stdin=rendered).records[-1]["named"] == 4


def test_a_line_for_each_image(evaluate: Evaluate, pictures: list[Image.Image], seen: list[str]) -> None:
    other = "dog" if seen[1] != "dog" else "cat"
    lines(pictures[:3], [f"a {seen[0]}", f"a {other}", "nothing on a red background"])
    found = evaluate("lines.jsonl", "--each").records
    assert found[:2] == [
        {"path": "000.png", "prompt": f"a {seen[0]}", "seed": 0, "named": seen[0], "seen": seen[0], "right": True},
        {"path": "001.png", "prompt": f"a {other}", "seed": 1, "named": other, "seen": seen[1], "right": False},
    ]
    assert (found[2]["seen"], found[2]["background"]["named"], "right" in found[2]) == (seen[2], "red", False)
    assert found[3:] == evaluate("lines.jsonl").records


def timm_frechet(first: Any, second: Any) -> float:
    """By the formula, with the symmetric form of the root."""
    means, covariances = [one.mean(0) for one in (first, second)], [np.cov(one.astype(np.float64), rowvar=False) for one in (first, second)]
    values, vectors = np.linalg.eigh(covariances[0])
    root = vectors @ np.diag(np.sqrt(values.clip(0))) @ vectors.T
    cross = np.sqrt(np.linalg.eigvalsh(root @ covariances[1] @ root).clip(0)).sum()
    return float(np.sum((means[0] - means[1]) ** 2) + sum(np.trace(one) for one in covariances) - 2 * cross)


def test_distances_are_over_pooled_features_of_the_named_timm_model(
    evaluate: Evaluate, pictures: list[Image.Image], tiny_model: TinyModel, tiny_convnet: TinyModel
) -> None:
    lines(pictures[:10], ["a thing"] * 10)
    Path("true").mkdir()
    for number, image in enumerate(pictures[10:]):
        image.save(f"true/{number}.png")
    for arguments, model in (
        (["--classifier", tiny_model.folder], tiny_model),
        (["--classifier", tiny_model.folder, "--features", tiny_convnet.folder], tiny_convnet),
    ):
        result = evaluate("lines.jsonl", "--reference", "true", *arguments)
        found = result.records[-1]["frechet"]
        first, second = (model.features(*some).astype(np.float64) for some in (pictures[:10], pictures[10:]))
        assert found["value"] == pytest.approx(timm_frechet(first, second), rel=FP32)
        assert (found["name"], found["features"]) == ("Fréchet distance", str(model.folder))
        assert (found["reference"], found["reference_images"]) == ("true", COUNT - 10)
        assert f"10 pictures are few for {first.shape[1]} features" in result.stderr


def test_the_kernel_distance_has_a_standard_error_and_its_subsets_a_seed(evaluate: Evaluate, pictures: list[Image.Image]) -> None:
    lines(noise(20), ["a thing"] * 20)
    Path("true").mkdir()
    for number, image in enumerate(pictures):
        image.save(f"true/{number}.png")
    kernels = [evaluate("lines.jsonl", "--reference", "true", "--seed", seed).records[-1]["kernel"] for seed in ("1", "1", "2")]
    assert kernels[0] == kernels[1] != kernels[2]
    assert kernels[0]["value"] > 3 * kernels[0]["error"] > 0
    assert (kernels[0]["subsets"], kernels[0]["size"]) == (10, 2)


@pytest.mark.parametrize(("architecture", "wanted"), [("inception_v3", True), ("inception_v4", False), ("vit_base_patch16_224", False)])
def test_only_an_inception_v3_has_an_fid(architecture: str, wanted: bool) -> None:
    classifier = SimpleNamespace(model=SimpleNamespace(pretrained_cfg={"architecture": architecture}))
    assert import_module("visiontk.commands.eval_generate_measure").is_inception(classifier) == wanted


def test_true_pictures_are_nearer_to_the_tiny_world_than_noise(
    evaluate: Evaluate, scenes: world.Scenes, pictures: list[Image.Image]
) -> None:
    lines(pictures, scenes.captions)
    result = evaluate("lines.jsonl", "--reference", "tiny")
    near = result.records[-1]
    assert evaluate("lines.jsonl", "--reference", "tiny").records == result.records
    assert evaluate("lines.jsonl", "--reference", "tiny", "--seed", "1").records[-1]["frechet"] != near["frechet"]
    lines(noise(COUNT), scenes.captions)
    far = evaluate("lines.jsonl", "--reference", "tiny").records[-1]
    assert near["frechet"]["reference_images"] == COUNT
    assert near["frechet"]["value"] < far["frechet"]["value"] / 2
    assert near["kernel"]["value"] < far["kernel"]["value"] / 2


def test_the_tiny_reference_has_the_things_the_backgrounds_and_the_size_of_the_prompts(wanted: Any) -> None:
    for _ in range(6):
        wanted.add("a lion on a blue background", (32, 48))
    images = [item.load() for item in wanted.render(0)]
    assert {image.size for image in images} == {(32, 32)}
    borders = [np.asarray(image)[0] for image in images]
    assert sum(len(np.unique(border, axis=0)) == 1 for border in borders) >= 4  # plain, but where the lion's mane reaches it
    assert len({image.tobytes() for image in images}) == 6
    lions = world.render_scenes(-2, 6, size=32, styles=world.TRAIN_STYLES, backgrounds=("plain",), labels=torch.full((6, 1), 2))
    assert [np.asarray(image).tolist() for image in images] == lions.images.permute(0, 2, 3, 1).tolist()


def test_what_prompts_leave_open_is_drawn_for_the_tiny_reference(wanted: Any) -> None:
    prompts = [None, "a thing", "a dog left of a cat", "a fox on a photo background", "a pig on a striped red and blue background"]
    for prompt in prompts:
        wanted.add(prompt, (64, 64))
    assert dict(wanted.counts) == {("", 64, -1): 3, ("photo", 64, -1): 1, ("texture", 64, world.names().index("pig")): 1}
    wanted.add("a background from red to blue", (5000, 2000))
    wanted.counts.subtract({("", 64, -1): 1})
    sizes = [item.load().size[0] for item in wanted.render(0)]
    assert sorted(sizes) == [64] * 4 + [1024]


def test_diversity_is_over_pairs_of_one_prompt_and_different_seeds(
    evaluate: Evaluate, pictures: list[Image.Image], tiny_model: TinyModel
) -> None:
    prompts = ["a"] * 4 + ["b"] * 3 + ["c"] * 2 + ["d"]
    seeds = [0, 1, 2, 2, 5, 6, 7, 3, 3, 4]
    lines(pictures[:10], prompts, seeds)
    features = tiny_model.features(*pictures[:10]).astype(np.float64)
    apart: dict[str, list[float]] = {}
    for one, other in itertools.combinations(range(10), 2):
        if prompts[one] == prompts[other] and seeds[one] != seeds[other]:
            cosine = features[one] @ features[other] / np.linalg.norm(features[one]) / np.linalg.norm(features[other])
            apart.setdefault(prompts[one], []).append(1 - cosine)
    assert sorted(apart) == ["a", "b"]
    found = evaluate("lines.jsonl", "--classifier", tiny_model.folder).records[-1]["diversity"]
    assert found["value"] == pytest.approx(np.mean([np.mean(values) for values in apart.values()]), rel=FP32)
    assert (found["prompts"], found["features"]) == (2, str(tiny_model.folder))


def test_equal_pictures_have_no_diversity(evaluate: Evaluate, pictures: list[Image.Image]) -> None:
    lines([pictures[0]] * 3, ["a dog"] * 3)
    assert evaluate("lines.jsonl").records[-1]["diversity"]["value"] == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize(("form", "delimiter"), [("csv", ","), ("tsv", "\t")])
def test_values_have_the_totals_in_the_row_without_a_class(
    evaluate: Evaluate, scenes: world.Scenes, pictures: list[Image.Image], form: str, delimiter: str
) -> None:
    lines(pictures, scenes.captions)
    *classes, totals = evaluate("lines.jsonl", "--reference", "tiny").records
    text = evaluate("lines.jsonl", "--reference", "tiny", "--format", form).stdout.decode()
    rows = list(csv.DictReader(io.StringIO(text), delimiter=delimiter))
    assert [(row["class"], row["images"], row["accuracy"]) for row in rows[:-1]] == [
        (line["class"], str(line["images"]), str(line["accuracy"])) for line in classes
    ]
    assert (rows[-1]["class"], rows[-1]["images"], float(rows[-1]["accuracy"])) == ("", str(COUNT), totals["accuracy"])
    assert float(rows[-1]["frechet"]) == totals["frechet"]["value"]
    assert float(rows[-1]["kernel_error"]) == totals["kernel"]["error"]


def test_values_of_each_image(evaluate: Evaluate, pictures: list[Image.Image], seen: list[str]) -> None:
    lines(pictures[:1], [f"a {seen[0]} on a red background"])
    Path("broken.png").write_bytes(b"\x89PNG\r\n\x1a\nno")
    text = evaluate("lines.jsonl", "broken.png", "--each", "--format", "csv").stdout.decode()
    image, broken, one_class, totals = csv.DictReader(io.StringIO(text))
    assert (image["path"], image["named"], image["seen"], image["right"], image["background_named"]) == (
        "000.png",
        seen[0],
        seen[0],
        "True",
        "red",
    )
    assert (broken["path"], broken["seen"]) == ("broken.png", "") and "damaged" in broken["error"]
    assert (one_class["class"], one_class["named"], one_class["right"], one_class["images"]) == (seen[0], "", "", "1")
    assert (totals["images"], totals["named"], totals["accuracy"]) == ("1", "", "1.0")


def test_a_table_in_percent_for_people(evaluate: Evaluate, pictures: list[Image.Image], seen: list[str]) -> None:
    wrong = "dog" if seen[1] != "dog" else "cat"
    lines([*pictures[:2], pictures[0]], [f"a {seen[0]}", f"a {wrong}", f"a {seen[0]}"])
    shown = evaluate("lines.jsonl", "--each", "--reference", "tiny", "--format", "table").stdout.decode()
    rows = [line.split() for line in shown.splitlines()]
    assert ["class", "images", "right,", "%"] in rows
    assert [*seen[0].split(), "2", "100.0"] in rows and [wrong, "1", "0.0"] in rows and ["all", "3", "66.7"] in rows
    assert ["001.png", wrong, *seen[1].split()] in rows
    text = " ".join(shown.split())
    assert "accuracy 66.7 %, mean of the classes 50.0 %, by tiny-vit" in text
    assert "Fréchet distance " in text and "against 3 of tiny, features of tiny-vit" in text
    assert "diversity " in text


def test_what_fails_is_named_counted_and_left_out(evaluate: Evaluate, pictures: list[Image.Image], seen: list[str]) -> None:
    text = lines(pictures[:1], [f"a {seen[0]}"])
    Path("broken.png").write_bytes(b"\x89PNG\r\n\x1a\nno")
    blocked = {"path": "000.png", "generate": {"error": {"kind": "blocked", "message": "the safety checker blocked it"}}}
    text += json.dumps(blocked) + "\n" + json.dumps({"generate": blocked["generate"]}) + "\nbroken.png\nmissing.png\n" + '{"about": 1}\n'
    result = evaluate(stdin=text.encode())
    totals = result.records[-1]
    assert result.code == 3
    assert (totals["images"], totals["failed"], totals["accuracy"]) == (1, 4, 1)
    assert "000.png: the picture was not made (the safety checker blocked it)" in result.stderr
    assert "missing.png: there is no such file" in result.stderr
    assert "4 of 6 images could not be measured" in result.stderr
    assert "1 lines without a path were left out" in result.stderr
    assert evaluate("-q", stdin=text.encode()).stderr == ""
    assert re.search(r"\d+ images in \d+\.\d s, \d+\.\d a second", evaluate("-v", stdin=text.encode()).stderr)


def test_pictures_without_prompts_have_distances_alone(evaluate: Evaluate, pictures: list[Image.Image]) -> None:
    Path("plain").mkdir()
    for number, image in enumerate(pictures[:3]):
        image.save(f"plain/{number}.png")
    result = evaluate("plain", "--reference", "tiny")
    (totals,) = result.records
    assert result.code == 0
    assert "no prompt is known, so there is no accuracy" in result.stderr
    assert "accuracy" not in totals and totals["frechet"]["value"] > 0
    (totals,) = evaluate("plain/0.png", "--reference", "tiny").records
    assert "frechet" not in totals and "kernel" not in totals


def test_what_makes_no_sense_is_said_at_once(evaluate: Evaluate, pictures: list[Image.Image]) -> None:
    lines(pictures[:1], ["a dog"])
    for arguments, code, words in (
        (["lines.jsonl", "--reference", "nowhere"], 2, "there is no nowhere; --reference takes a folder of pictures, or tiny"),
        (["none.jsonl"], 2, "cannot read none.jsonl"),
        (["missing.png"], 2, "there is no image that can be measured"),
        (["lines.jsonl", "--classifier", "tiny-vitt"], 4, "did you mean tiny-vit?"),
        (["lines.jsonl", "--features", "./nowhere"], 4, "there is no file or folder ./nowhere"),
        (["lines.jsonl", "--format", "xml"], 2, "the format 'xml' is unknown"),
    ):
        result = evaluate(*arguments)
        assert (result.code, result.stdout) == (code, b""), arguments
        assert words in result.error


def test_an_interrupt_says_that_the_totals_are_missing(
    evaluate: Evaluate, pictures: list[Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any) -> Any:
        raise KeyboardInterrupt

    lines(pictures[:2], ["a dog", "a cat"])
    monkeypatch.setattr(Names, "find", interrupted)
    result = evaluate("lines.jsonl", "--each")
    assert (result.code, result.stdout) == (130, b"")
    assert "interrupted before all images were measured; the totals are missing" in result.stderr
