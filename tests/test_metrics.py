"""J, F and the protocols give the figures of the code that the benchmarks are published with.

`data/metrics_figures.json` holds what davis2017-evaluation (commit ac7c43f) and `sav_dataset/utils/sav_benchmark.py` of
facebookresearch/sam2 (commit 7e1596c) say of the masks in `data/metrics_masks.npz`, uint8 (frames, H, W) with object numbers, with
opencv 5.0 and scikit-image 0.26:

    frames        J and F of every object in every frame: db_eval_iou, db_eval_boundary
    davis2017     mean, recall and decay of J and then of F of each object: DAVISEvaluation, semi-supervised; and their means
    sav           J and F of each object, and the mean of J&F, J and F: benchmark() over folders of maps; divided by 100
    sav-folders   the same over a folder of binary masks for each object
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from visiontk.metrics.boundaries import boundary, boundary_f, dilate
from visiontk.metrics.protocols import Davis2017, Sav, Track, between, davis_objects, image_ious, over_objects, statistics
from visiontk.metrics.regions import Mask, jaccard, split

DATA = Path(__file__).parent / "data"
MASKS = np.load(DATA / "metrics_masks.npz")
FIGURES: dict[str, Any] = json.loads((DATA / "metrics_figures.json").read_text("utf-8"))
SCENES = sorted(FIGURES["frames"])
EXACT = 1e-12

Maps = npt.NDArray[np.uint8]


def scene(name: str) -> tuple[Maps, Maps]:
    """Truth and prediction."""
    return MASKS[f"{name}/gt"], MASKS[f"{name}/pred"]


def disk(size: int, row: float, column: float, radius: float) -> Mask:
    rows, columns = np.mgrid[:size, :size]
    found: Mask = (rows - row) ** 2 + (columns - column) ** 2 <= radius**2
    return found


@pytest.mark.parametrize("name", SCENES)
def test_j_and_f_of_every_frame_are_those_of_davis2017_evaluation(name: str) -> None:
    truth, predicted = scene(name)
    for number, wanted in FIGURES["frames"][name].items():
        pairs = [(predicted[frame] == int(number), truth[frame] == int(number)) for frame in range(len(truth))]
        assert [[jaccard(*pair), boundary_f(*pair)] for pair in pairs] == [pytest.approx(figures, abs=EXACT) for figures in wanted]


@pytest.mark.parametrize("name", sorted(FIGURES["davis2017"]["objects"]))
def test_the_davis_protocol_gives_the_figures_of_davis2017_evaluation(name: str) -> None:
    found = {str(number): figures for number, figures in davis(*scene(name)).items()}
    assert found == {number: pytest.approx(figures, abs=EXACT) for number, figures in FIGURES["davis2017"]["objects"][name].items()}


def test_the_mean_of_the_davis_protocol_is_over_all_objects_of_all_videos() -> None:
    found = [figures for name in FIGURES["davis2017"]["objects"] for figures in davis(*scene(name)).values()]
    assert np.mean(found, axis=0).tolist() == pytest.approx(FIGURES["davis2017"]["mean"], abs=EXACT)


@pytest.mark.parametrize("name", sorted(FIGURES["sav"]["objects"]))
def test_the_sav_protocol_gives_the_figures_of_metas_benchmark(name: str) -> None:
    truth, predicted = scene(name)
    found = {str(number): [np.mean(track.j), np.mean(track.f)] for number, track in sav(truth, predicted).items()}
    assert found == {number: pytest.approx(figures, abs=EXACT) for number, figures in FIGURES["sav"]["objects"][name].items()}


def test_an_object_that_appears_half_way_tells_the_protocols_apart() -> None:
    truth = [{}, {}, {}, {}, {1: np.ones((4, 4), bool)}, {1: np.ones((4, 4), bool)}]
    missed: list[dict[int, Mask]] = [{}] * 6
    ours, theirs = Davis2017([1]), Sav()
    for guess, true in zip(between(missed), between(truth), strict=True):
        ours.add(guess, true)
        theirs.add(guess, true)
    assert ours.tracks()[1].j == [1, 1, 1, 0]
    assert theirs.tracks()[1].j == [0]


def test_the_sav_protocol_counts_an_object_from_a_wrong_prediction_on() -> None:
    mask, empty = np.eye(3, dtype=bool), np.zeros((3, 3), bool)
    evaluation = Sav()
    for guess, true in [(empty, empty), (mask, empty), (empty, empty), (mask, mask)]:
        evaluation.add({5: guess}, {5: true})
    assert evaluation.tracks()[5].j == [0, 1, 1]


def test_the_davis_protocol_refuses_objects_that_the_first_frame_lacks() -> None:
    evaluation = Davis2017(davis_objects(np.array([[0, 1, 3], [255, 0, 0]], np.uint8)))
    evaluation.add({7: np.zeros((2, 3), bool)}, {})
    assert list(evaluation.tracks()) == [1, 2, 3]
    with pytest.raises(ValueError, match="object 4 is predicted"):
        evaluation.add({4: np.ones((2, 3), bool)}, {})


EMPTY, FULL = np.zeros((6, 8), bool), np.ones((6, 8), bool)
ONE = EMPTY.copy()
ONE[2, 3] = True


@pytest.mark.parametrize(
    ("predicted", "truth", "j", "f"),
    [
        (EMPTY, EMPTY, 1, 1),
        (EMPTY, ONE, 0, 0),
        (ONE, EMPTY, 0, 0),
        (ONE, ONE, 1, 1),
        (FULL, FULL, 1, 1),
        (FULL, ONE, 1 / 48, 0),
        (FULL, EMPTY, 0, 1),  # a mask that fills the picture has no boundary, and neither has an empty one
    ],
)
def test_empty_and_full_masks(predicted: Mask, truth: Mask, j: float, f: float) -> None:
    assert (jaccard(predicted, truth), boundary_f(predicted, truth)) == (j, f)


def test_a_missing_mask_is_an_empty_one() -> None:
    track = Track()
    for pair in [(None, None), (ONE, None), (None, ONE)]:
        track.add(*pair)
    assert (track.j, track.f) == ([1, 0, 0], [1, 0, 0])


@pytest.mark.parametrize("measure", [jaccard, boundary_f])
def test_masks_of_different_sizes_are_refused(measure: Any) -> None:
    with pytest.raises(ValueError, match="shapes"):
        measure(np.zeros((4, 5), bool), np.zeros((5, 4), bool))


def test_a_boundary_runs_along_both_sides_of_the_edge_above_and_to_the_left() -> None:
    mask = np.zeros((5, 5), bool)
    mask[2:4, 2:4] = True
    assert boundary(mask).astype(int).tolist() == [
        [0, 0, 0, 0, 0],
        [0, 1, 1, 1, 0],
        [0, 1, 0, 1, 0],
        [0, 1, 1, 1, 0],
        [0, 0, 0, 0, 0],
    ]


@pytest.mark.parametrize("radius", [0, 1, 2, 3, 7, 40])
@pytest.mark.parametrize("shape", [(1, 1), (1, 30), (30, 1), (23, 37), (5, 90)])
def test_dilation_reaches_all_within_the_radius_and_no_more(radius: int, shape: tuple[int, int]) -> None:
    random = np.random.default_rng(radius)
    for share in (0.0, 0.01, 0.2):
        mask = random.random(shape) < share
        points = np.argwhere(mask)
        places = np.argwhere(np.ones(shape, bool))
        squares = ((places[:, None] - points[None]) ** 2).sum(2)
        wanted = (squares <= radius**2).any(1).reshape(shape)
        assert (dilate(mask, radius) == wanted).all()


def test_the_tolerance_is_a_share_of_the_diagonal_rounded_up() -> None:
    # 0.008 of a diagonal of 1000 is 8 pixels: the edges of a square meet when they are 5 apart, and miss when they are 9 apart.
    truth = np.zeros((600, 800), bool)
    truth[100:400, 200:500] = True
    moved = [np.roll(truth, (by, by), (0, 1)) for by in (5, 9)]
    assert boundary_f(moved[0], truth) == 1
    assert boundary_f(moved[1], truth) < 0.1
    assert boundary_f(moved[1], truth, tolerance=0.013) == 1


def test_decay_compares_the_first_quarter_with_the_last() -> None:
    assert statistics([1.0, 0.8, 0.6, 0.4]).decay == pytest.approx(0.9 - 0.5)
    assert statistics([0.25]) == statistics([0.25, 0.25, 0.25])


def test_decay_does_not_wrap_around_in_long_videos() -> None:
    # Falling from 1 to 0 over 1001 frames: the quarters are frames 0 to 250 and 750 to 1000, with means 0.875 and 0.125. In eight bits
    # the last would go from 238 to 232, which is no frame at all.
    assert statistics(np.linspace(1, 0, 1001).tolist()).decay == pytest.approx(0.75)


def test_recall_is_the_share_of_frames_above_one_half() -> None:
    assert statistics([0.5, 0.51, 0.2, 0.9]).recall == 0.5


def test_a_video_with_more_objects_weighs_more() -> None:
    mean = over_objects([statistics([1.0]), statistics([1.0]), statistics([0.0])])
    assert (mean.mean, mean.recall, mean.decay) == pytest.approx((2 / 3, 2 / 3, 0))


def test_ious_of_an_image_are_those_of_pycocotools() -> None:
    coco = pytest.importorskip("pycocotools.mask")
    truth, predicted = (maps[2] for maps in scene("several"))
    found = image_ious(split(predicted), split(truth))
    assert sorted(found) == [1, 2, 3]
    for number, iou in found.items():
        ours, theirs = (coco.encode(np.asfortranarray(maps == number, np.uint8)) for maps in (predicted, truth))
        assert iou == pytest.approx(coco.iou([ours], [theirs], [0])[0][0])


def test_only_objects_of_the_truth_count_in_an_image() -> None:
    mask = np.eye(3, dtype=bool)
    assert image_ious({2: mask, 3: mask}, {1: mask, 2: mask, 4: ~np.ones((3, 3), bool)}) == {1: 0, 2: 1}


def test_255_beside_others_is_void_in_an_image() -> None:
    truth, predicted = np.array([[1, 1, 255, 0, 255]]), np.array([[1, 2, 1, 0, 255]])
    assert image_ious(split(predicted), split(truth)) == {1: 0.5}
    assert image_ious({255: predicted == 1}, {255: truth == 1}) == {255: 1 / 3}, "alone it is an object"


def test_masks_of_an_index_map() -> None:
    found = split(np.array([[0, 2], [300, 2]], np.uint16))
    assert {number: mask.tolist() for number, mask in found.items()} == {
        2: [[False, True], [False, True]],
        300: [[False, False], [True, False]],
    }


def davis(truth: Maps, predicted: Maps) -> dict[int, list[float]]:
    """Mean, recall and decay of J and then of F of each object."""
    evaluation = Davis2017(davis_objects(truth[0]))
    for guess, true in between(list(zip(predicted, truth, strict=True))):
        evaluation.add(split(guess), split(true))
    found = {}
    for number, track in evaluation.tracks().items():
        j, f = statistics(track.j), statistics(track.f)
        found[number] = [j.mean, j.recall, j.decay, f.mean, f.recall, f.decay]
    return found


def sav(truth: Maps, predicted: Maps) -> dict[int, Track]:
    evaluation = Sav()
    for guess, true in between(list(zip(predicted, truth, strict=True))):
        evaluation.add(split(guess), split(true))
    return evaluation.tracks()


def test_f_falls_as_the_outline_moves_away() -> None:
    truth = disk(256, 128, 128, 60)
    figures = [boundary_f(disk(256, 128, 128 + by, 60), truth) for by in (0, 3, 6, 12, 200)]
    assert figures[0] == 1
    assert figures == sorted(figures, reverse=True)
    assert figures[-1] == 0
    assert not any(math.isnan(figure) for figure in figures)
