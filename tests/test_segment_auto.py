"""Everything in a picture and in a video: the official generator's masks, and what is tracked already is not found again."""

from __future__ import annotations

import copy
import functools
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from PIL import Image
from sam2.automatic_mask_generator import SAM2AutomaticMaskGenerator

from visiontk.adapters.segment import Auto, Everything, ObjectMask, ObjectPrompt, Segmenter
from visiontk.adapters.segment_auto import unknown
from visiontk.adapters.segment_network import Network
from visiontk.runtime import Runtime

WIDTH, HEIGHT = 96, 64
CONFIG = Path(__file__).parent / "data" / "random-sam2.yaml"
# With random weights all boxes are much the same: only without suppression by boxes are there many masks to compare.
KNOBS = Everything(points_per_side=3, min_iou=0.2, min_stability=0.3, box_nms=1.0)


@functools.cache
def built() -> Any:
    """SAM2Base with random weights, its logits scaled up so that its masks are stable."""
    torch.manual_seed(3)
    model = instantiate(OmegaConf.load(CONFIG).model).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
        for head in model.sam_mask_decoder.output_hypernetworks_mlps:
            head.layers[-1].weight.mul_(30)
        model.sam_mask_decoder.pred_obj_score_head.layers[-1].bias.fill_(2.0)
    return model


@pytest.fixture
def segmenter() -> Segmenter:
    network = Network(copy.deepcopy(built()), Runtime(device="cpu", dtype="fp32").start())
    return Segmenter(network, name="random", revision="0", knobs=KNOBS)


@pytest.fixture(scope="module")
def image() -> Image.Image:
    random = np.random.default_rng(0)
    blurred = Image.fromarray(random.integers(0, 255, (8, 12, 3), dtype=np.uint8)).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
    blurred.paste((255, 40, 20), (10, 30, 28, 48))
    return blurred


@pytest.mark.parametrize(("crop_layers", "several"), [(0, True), (1, True), (0, False)])
def test_masks_are_the_official_generators_by_falling_area(
    crop_layers: int, several: bool, segmenter: Segmenter, image: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segmenter.network.model, "multimask_output_in_sam", several)
    knobs = Everything(**{**vars(KNOBS), "crop_layers": crop_layers, "min_iou": 0.2 if several else 0.0})
    found = segmenter.everything(image, knobs)
    with warnings.catch_warnings(action="ignore"):
        generator = SAM2AutomaticMaskGenerator(
            copy.deepcopy(built()),
            points_per_side=3,
            pred_iou_thresh=knobs.min_iou,
            stability_score_thresh=0.3,
            box_nms_thresh=1.0,
            crop_n_layers=crop_layers,
            multimask_output=several,
        )
    generator.predictor._bb_feat_sizes = [(32, 32), (16, 16), (8, 8)]
    wanted = generator.generate(np.asarray(image))
    wanted.sort(key=lambda one: -one["area"])
    assert len({one["area"] for one in wanted}) > (0 if crop_layers else 5)
    assert [one.object_id for one in found] == list(range(1, len(wanted) + 1))
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(one.mask, other["segmentation"])
        assert one.iou == pytest.approx(other["predicted_iou"]) and one.score == 1
        assert one.mask.shape == (HEIGHT, WIDTH) and one.mask.dtype == np.bool_ and one.mask.flags.c_contiguous


def test_in_bf16_the_masks_are_those_of_fp32_nearly(image: Image.Image) -> None:
    found = []
    for dtype in ("fp32", "bf16"):
        segmenter = Segmenter(Network(copy.deepcopy(built()), Runtime(device="cpu", dtype=dtype).start()), name="random", revision="0")
        found.append(segmenter.everything(image, Everything(points_per_side=3, min_iou=0, min_stability=0, box_nms=1.0)))
    exact, rounded = found
    assert len(exact) == len(rounded) == 27, "three for each click"
    assert np.mean([(one.mask == other.mask).mean() for one, other in zip(exact, rounded, strict=True)]) > 0.95
    assert any((one.mask != other.mask).any() for one, other in zip(exact, rounded, strict=True)), "it is not fp32 after all"


def test_small_masks_are_left_out(segmenter: Segmenter, image: Image.Image) -> None:
    areas = [int(one.mask.sum()) for one in segmenter.everything(image)]
    least = areas[len(areas) // 2]
    assert areas[0] > least > areas[-1]
    found = segmenter.everything(image, Everything(**{**vars(KNOBS), "min_area": least}))
    assert [int(one.mask.sum()) for one in found] == [area for area in areas if area >= least]


@pytest.mark.parametrize("crop_layers", [0, 1])
def test_a_picture_in_which_nothing_is_found(crop_layers: int, segmenter: Segmenter, image: Image.Image) -> None:
    assert segmenter.everything(image, Everything(points_per_side=2, min_iou=1.0, crop_layers=crop_layers)) == []


@pytest.mark.parametrize("size", [(1, 1), (2, 300)])
def test_pictures_of_any_shape(size: tuple[int, int], segmenter: Segmenter) -> None:
    found = segmenter.everything(Image.new("RGB", size), Everything(points_per_side=2, min_iou=0, min_stability=0))
    assert all(one.mask.shape == size[::-1] for one in found)


def test_large_pictures_take_few_clicks_at_once(segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch) -> None:
    batches: list[int] = []
    whole = SAM2AutomaticMaskGenerator._process_batch

    def counted(self: Any, points: Any, *arguments: Any, **options: Any) -> Any:
        batches.append(len(points))
        return whole(self, points, *arguments, **options)

    monkeypatch.setattr(SAM2AutomaticMaskGenerator, "_process_batch", counted)
    monkeypatch.setattr("visiontk.adapters.segment_auto._NUMBERS_AT_ONCE", 3 * 400 * 300 * 5)
    segmenter.everything(Image.new("RGB", (400, 300)), Everything(points_per_side=3))
    assert batches == [5, 4]


def square(object_id: int, left: int, right: int, *, height: int = 10) -> ObjectMask:
    mask = np.zeros((20, 60), dtype=np.bool_)
    mask[5 : 5 + height, left:right] = True
    return ObjectMask(object_id, mask, 0.9, 1.0)


def test_what_overlaps_with_a_tracked_object_by_half_is_that_object() -> None:
    # 20 columns against the tracked 20: shifted by s they share 20 - s of 20 + s, so the IoU is 1/2 up to s = 6.67.
    tracked = [square(1, 10, 30), square(2, 0, 0)]
    found = [square(11, 16, 36), square(12, 17, 37), square(13, 40, 50), square(14, 10, 30, height=5), square(15, 10, 30, height=4)]
    assert [one.object_id for one in unknown(found, tracked)] == [12, 13, 15]
    assert unknown(found, []) == found
    assert unknown([], tracked) == []


PICTURES = [Image.new("RGB", (60, 20), (10 * index, 0, 0)) for index in range(7)]
FRESH = [square(1, 10, 30), square(2, 40, 50)]


@pytest.fixture
def searched(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Which pictures were searched for everything. The first shows one thing, the others show two."""
    pictures: list[int] = []

    def everything(network: Network, image: Image.Image, features: object, knobs: Everything) -> list[ObjectMask]:
        pictures.append(PICTURES.index(image))
        assert knobs is KNOBS
        return FRESH[: 1 if pictures[-1] == 0 else 2]

    monkeypatch.setattr("visiontk.adapters.segment.everything", everything)
    return pictures


def test_a_video_is_tracked_from_everything_in_its_first_frame(segmenter: Segmenter, searched: list[int]) -> None:
    results = list(segmenter.video(enumerate(PICTURES[:3]), [], auto=Auto()))
    wanted = list(segmenter.video(enumerate(PICTURES[:3]), [ObjectPrompt(1, mask=FRESH[0].mask)]))
    assert searched == [0]
    for result, other in zip(results, wanted, strict=True):
        assert [one.object_id for one in result.objects] == [1]
        np.testing.assert_array_equal(result.objects[0].mask, other.objects[0].mask)


def test_later_frames_are_searched_for_what_is_not_tracked(
    segmenter: Segmenter, searched: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("visiontk.adapters.segment.unknown", lambda found, tracked: found[len(tracked) :])
    results = list(segmenter.video(enumerate(PICTURES), [], auto=Auto(every=3)))
    assert searched == [0, 3, 6]
    assert [[one.object_id for one in result.objects] for result in results] == [[1]] * 3 + [[1, 2]] * 4


def test_prompts_keep_their_numbers_and_what_they_show_is_not_found_again(segmenter: Segmenter, searched: list[int]) -> None:
    prompts = [ObjectPrompt(7, 1, mask=FRESH[1].mask), ObjectPrompt(9, 2, mask=square(0, 2, 9).mask)]
    results = list(segmenter.video(list(enumerate(PICTURES))[1:3], prompts, auto=Auto(KNOBS)))
    assert searched == [1]
    assert [[one.object_id for one in result.objects] for result in results] == [[7, 10], [7, 9, 10]]
