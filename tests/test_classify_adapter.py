"""The classifier in Python: preprocessing, answers, and what it says of itself, against timm computed independently."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from timm.data import create_transform, resolve_data_config

import visiontk
from visiontk.adapters.classify import Classifier
from visiontk.errors import ItemError, UsageError

CPU = visiontk.Runtime(device="cpu", dtype="fp32")


@pytest.fixture(scope="module")
def lite() -> Classifier:
    return visiontk.load("classify", "efficientnet-lite0", CPU)


@pytest.fixture(scope="module")
def photos() -> list[Image.Image]:
    folder = Path(__file__).parent.parent / "examples" / "photos"
    return [Image.open(path).convert("RGB") for path in sorted(folder.iterdir())]


def test_the_package_imports_neither_torch_nor_numpy() -> None:
    code = "import sys, visiontk; print(sorted({'torch', 'numpy', 'timm', 'PIL'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "[]\n"


def test_preprocessing_is_timms_own(lite: Classifier, photos: list[Image.Image]) -> None:
    transform = create_transform(**resolve_data_config(model=lite.model), is_training=False)
    for photo in photos:
        ours = lite.normalise([lite.prepare(photo)])[0]
        torch.testing.assert_close(ours, transform(photo), rtol=0, atol=2e-6)


@pytest.mark.parametrize(("crop_mode", "interpolation"), [("center", "bilinear"), ("squash", "bicubic"), ("border", "bicubic")])
def test_the_models_own_crop_and_interpolation_decide(crop_mode: str, interpolation: str, photos: list[Image.Image]) -> None:
    overlay = {"crop_mode": crop_mode, "interpolation": interpolation, "crop_pct": 0.9, "mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 0.6)}
    model = timm.create_model("test_vit", pretrained_cfg_overlay=overlay).eval()
    classifier = Classifier(model, CPU.start(), name="m", revision="r", labels=[str(n) for n in range(1000)])
    transform = create_transform(**resolve_data_config(model=model), is_training=False)
    torch.testing.assert_close(classifier.normalise([classifier.prepare(photos[2])])[0], transform(photos[2]), rtol=0, atol=2e-6)


def test_answers_are_the_softmax_of_timms_model_best_first(lite: Classifier, photos: list[Image.Image]) -> None:
    folder = Path(visiontk.__file__).parent / "weights" / "efficientnet-lite0"
    model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    transform = create_transform(**resolve_data_config(model=model), is_training=False)
    for photo, found in zip(photos, lite.predict(photos, top_k=3), strict=True):
        with torch.inference_mode():
            scores, order = model(transform(photo)[None]).softmax(-1)[0].topk(3)
        assert [label.index for label in found.labels] == order.tolist()
        assert [label.score for label in found.labels] == pytest.approx(scores.tolist(), abs=2e-5)


def test_the_example_photos_are_what_they_are(lite: Classifier, photos: list[Image.Image]) -> None:
    best = [found.labels[0].label for found in lite.predict(photos)]
    assert best == ["tripod", "tiger cat", "espresso", "football helmet", "missile"]


def test_threshold_and_top_k(lite: Classifier, photos: list[Image.Image]) -> None:
    assert [len(found.labels) for found in lite.predict(photos, top_k=5, threshold=0.3)] == [1, 2, 1, 1, 0]
    assert len(lite.predict(photos[:1], top_k=10_000)[0].labels) == 1000


def test_five_crops_are_the_corners_and_the_middle(lite: Classifier) -> None:
    classifier = Classifier(lite.model, CPU.start(), name="m", revision="r", labels=lite.labels, tta="five-crop")
    picture = Image.new("RGB", (256, 256))
    for left, top, colour in ((0, 0, (255, 0, 0)), (128, 0, (0, 255, 0)), (0, 128, (0, 0, 255)), (128, 128, (255, 255, 255))):
        picture.paste(colour, (left, top, left + 128, top + 128))
    views = classifier.prepare(picture)
    assert views.shape == (5, 3, 224, 224)
    # Each corner crop is mostly of its own quarter's colour: 128 of 224 pixels a side.
    assert [view[:, 112, 112].tolist() for view in views[:4]] == [[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]]
    # The middle one sees all four quarters, the same share of each.
    corners = [views[4][:, row, column].tolist() for row in (10, 213) for column in (10, 213)]
    assert corners == [[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]]


def test_numbers_that_are_not_finite_fail_the_image_and_not_the_run(photos: list[Image.Image]) -> None:
    model = timm.create_model("test_vit").eval()
    classifier = Classifier(model, CPU.start(), name="m", revision="r", labels=[str(n) for n in range(1000)])
    whole = classifier._both

    def poisoned(pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        logits, features = whole(pixels)
        logits[1] = float("nan")
        return logits, features

    classifier._forward = poisoned
    found = classifier.predict_prepared([classifier.prepare(photo) for photo in photos[:3]])
    assert [isinstance(answer, ItemError) for answer in found] == [False, True, False]
    assert isinstance(found[1], ItemError) and found[1].kind == "not_finite" and "--dtype fp32" in found[1].message


def test_the_part_of_an_image_that_the_model_sees(lite: Classifier) -> None:
    # 224 of 256: the middle 7/8 of the shorter side.
    picture = Image.fromarray(np.arange(400 * 800 * 3, dtype=np.uint32).astype(np.uint8).reshape(400, 800, 3))
    seen = lite.seen(picture)
    assert seen.size == (350, 350)
    np.testing.assert_array_equal(np.asarray(seen), np.asarray(picture)[25:375, 225:575])


def test_a_picture_of_extreme_shape_does_not_fill_the_memory(lite: Classifier) -> None:
    assert lite.prepare(Image.new("RGB", (1, 20_000), (10, 20, 30)))[0, :, 100, 100].tolist() == [10, 20, 30]


def test_grey_models_get_grey_pictures(photos: list[Image.Image]) -> None:
    model = timm.create_model("test_vit", in_chans=1).eval()
    config: Any = model.pretrained_cfg
    config.update(input_size=(1, 160, 160), mean=(0.5,), std=(0.5,))
    classifier = Classifier(model, CPU.start(), name="m", revision="r", labels=[str(n) for n in range(1000)])
    assert classifier.prepare(photos[1]).shape == (1, 1, 160, 160)
    assert len(classifier.predict(photos[:1])[0].labels) == 5


def test_an_unknown_task() -> None:
    with pytest.raises(UsageError, match="no task 'paint'"):
        visiontk.load("paint")  # type: ignore[call-overload]
