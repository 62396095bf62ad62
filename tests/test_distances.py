"""Distances of features, diversity, and what prompts name.

`data/distances_figures.json` holds what others say of the features in `data/distances.npz`, float32 (pictures, 12): torch-fidelity 0.4.0,
torchmetrics 1.9.0 and clean-fid 0.1.35, and the formula with `scipy.linalg.sqrtm` of scipy 1.17.1. The kernel distances are of one subset
with the first pictures of either side, as many as the smaller one has.

    alike    two draws of one distribution
    apart    other means, other covariances
    few      fewer pictures than features, so that both covariances are singular
    flat     features that are 0 in every picture
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from visiontk.metrics.borders import border_colour
from visiontk.metrics.distances import frechet_distance, gaussian, kernel_distance, squared_mmd
from visiontk.metrics.diversity import diversity
from visiontk.metrics.named import Names, background
from visiontk.tiny import world

DATA = Path(__file__).parent / "data"
FEATURES = np.load(DATA / "distances.npz")
FIGURES: dict[str, Any] = json.loads((DATA / "distances_figures.json").read_text("utf-8"))
SETS = sorted(FIGURES)
# Others take roots of eigenvalues of a product; where it is singular their own answers differ by 1e-9 of the value.
CLOSE = {"few": 1e-8}

Floats = npt.NDArray[np.float64]


def pair(name: str) -> tuple[Floats, Floats]:
    return FEATURES[f"{name}/a"].astype(np.float64), FEATURES[f"{name}/b"].astype(np.float64)


def frechet(first: Any, second: Any) -> float:
    return frechet_distance(gaussian(first), gaussian(second))


def draw(seed: int, *shape: int) -> Floats:
    return np.random.default_rng(seed).standard_normal(shape)


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("other", ["torch_fidelity", "torchmetrics", "clean_fid", "sqrtm"])
def test_the_frechet_distance_is_that_of_other_tools(name: str, other: str) -> None:
    assert frechet(*pair(name)) == pytest.approx(FIGURES[name]["frechet"][other], rel=CLOSE.get(name, 1e-12))


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("other", ["torch_fidelity", "torchmetrics", "clean_fid"])
def test_the_kernel_distance_of_a_subset_is_that_of_other_tools(name: str, other: str) -> None:
    first, second = pair(name)
    count = min(len(first), len(second))
    assert squared_mmd(first[:count], second[:count]) == pytest.approx(FIGURES[name]["mmd"][other], rel=1e-12)


def test_in_one_dimension_it_is_the_difference_of_means_and_of_deviations() -> None:
    first, second = draw(1, 500, 1), 3 * draw(2, 400, 1) + 2
    wanted = (first.mean() - second.mean()) ** 2 + (first.std(ddof=1) - second.std(ddof=1)) ** 2
    assert frechet(first, second) == pytest.approx(wanted, rel=1e-12)


def test_a_shift_alone_is_its_square() -> None:
    features = draw(3, 300, 7)
    assert frechet(features, features + np.arange(7)) == pytest.approx(np.sum(np.arange(7) ** 2), rel=1e-12)


@pytest.mark.parametrize("count", [2, 5, 40])
def test_equal_sets_have_no_distance_even_where_there_are_fewer_pictures_than_features(count: int) -> None:
    features = draw(4, count, 20) * 100
    assert frechet(features, features) == pytest.approx(0, abs=1e-9)
    assert gaussian(features).is_singular == (count <= 20)


def test_a_gaussian_has_the_mean_and_covariance_of_numpy_over_any_number_of_pieces() -> None:
    features = (draw(5, 10_000, 6) @ draw(6, 6, 6) + 50).astype(np.float32)
    found, exact = gaussian(features), features.astype(np.float64)
    assert found.mean == pytest.approx(exact.mean(0), rel=1e-12)
    np.testing.assert_allclose(found.factor.T @ found.factor, np.cov(exact, rowvar=False), rtol=1e-10, atol=1e-10)


def test_a_file_of_features_is_as_good_as_an_array(tmp_path: Path) -> None:
    first, second = (one.astype(np.float32) for one in pair("apart"))
    first.tofile(tmp_path / "rows")
    mapped = np.memmap(tmp_path / "rows", np.float32, "r", shape=first.shape)
    assert frechet(mapped, second) == frechet(first, second)
    assert kernel_distance(mapped, second) == kernel_distance(first, second)


def test_one_picture_has_no_covariance() -> None:
    with pytest.raises(ValueError, match="fewer than two"):
        gaussian(np.zeros((1, 3)))
    with pytest.raises(ValueError, match="two pictures"):
        kernel_distance(np.zeros((1, 3)), np.zeros((9, 3)))


def test_the_kernel_distance_is_unbiased_and_knows_its_error() -> None:
    found = [kernel_distance(draw(seed, 200, 8), draw(seed + 1000, 200, 8), seed=seed) for seed in range(200)]
    values, errors = np.array([one.value for one in found]), np.array([one.error for one in found], np.float64)
    assert abs(values.mean()) < 3 * values.std() / np.sqrt(len(values))
    assert np.sqrt(np.mean(errors**2)) == pytest.approx(values.std(), rel=0.2)
    assert {(one.subsets, one.size) for one in found} == {(10, 20)}


def test_the_kernel_distance_sees_what_differs() -> None:
    near, far = (kernel_distance(draw(1, 300, 8), draw(2, 300, 8) + shift) for shift in (0.0, 0.5))
    assert near.error is not None and far.error is not None
    assert abs(near.value) < 3 * near.error
    assert far.value > 5 * far.error


def test_its_subsets_depend_on_the_seed_alone_and_share_nothing() -> None:
    first, second = draw(1, 300, 8), draw(2, 250, 8)
    assert kernel_distance(first, second, seed=3) == kernel_distance(first, second, seed=3)
    assert kernel_distance(first, second, seed=3).value != kernel_distance(first, second, seed=4).value
    found = kernel_distance(draw(1, 10_000, 2), draw(2, 9_000, 2), size=500, subsets=7)
    assert (found.subsets, found.size) == (7, 500)


def test_few_pictures_give_smaller_subsets_and_in_the_end_no_error() -> None:
    assert (kernel_distance(draw(1, 9, 4), draw(2, 8, 4)).subsets, kernel_distance(draw(1, 9, 4), draw(2, 8, 4)).size) == (4, 2)
    found = kernel_distance(draw(1, 3, 4), draw(2, 2, 4))
    assert (found.error, found.subsets, found.size) == (None, 1, 2)


def pairwise(features: Floats, prompts: list[int], seeds: list[int]) -> float:
    """By the definition: over all pairs."""
    found: dict[int, list[float]] = {}
    for one, other in itertools.combinations(range(len(features)), 2):
        if prompts[one] == prompts[other] and seeds[one] != seeds[other]:
            x, y = features[one], features[other]
            found.setdefault(prompts[one], []).append(1 - float(x @ y / np.linalg.norm(x) / np.linalg.norm(y)))
    return float(np.mean([np.mean(distances) for distances in found.values()]))


def diverse(features: Floats, prompts: list[int], seeds: list[int]) -> list[float]:
    """The diversity, and over how many prompts."""
    return list(diversity(features, np.arange(len(features)), np.array(prompts), np.array(seeds)) or [])


def test_diversity_is_the_mean_over_pairs_of_a_prompt_and_then_over_prompts() -> None:
    features = draw(7, 12, 5)
    prompts, seeds = [4, 4, 9, 4, 9, 9, 9, 1, 2, 2, 4, 9], [0, 1, 0, 2, 1, 1, 3, 0, 5, 5, 2, 7]
    assert diverse(features, prompts, seeds) == [pytest.approx(pairwise(features, prompts, seeds), rel=1e-12), 2]


def test_diversity_of_equal_pictures_is_nothing_and_of_opposite_ones_two() -> None:
    one = np.array([[1.0, 2, 3]])
    assert diverse(np.concatenate([one, 5 * one]), [0, 0], [1, 2]) == [pytest.approx(0, abs=1e-12), 1]
    assert diverse(np.concatenate([one, -one]), [0, 0], [1, 2]) == [pytest.approx(2), 1]


def test_diversity_of_some_rows_is_that_of_these_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("visiontk.metrics.diversity._AT_ONCE", 2)
    features, rows = draw(5, 9, 4), [8, 1, 2, 4, 6, 7]
    prompts, seeds = [0, 0, 0, 0, 1, 1], [1, 1, 1, 2, 3, 4]
    found = diversity(features, np.array(rows), np.array(prompts), np.array(seeds))
    assert list(found or []) == [pytest.approx(pairwise(features[rows], prompts, seeds), rel=1e-12), 2]


def test_one_seed_a_prompt_has_no_diversity() -> None:
    assert diversity(draw(1, 4, 3), np.arange(4), np.array([0, 0, 1, 2]), np.array([8, 8, 8, 9])) is None
    assert diversity(np.empty((0, 3)), *[np.array([], np.int64)] * 3) is None


TINY = Names(world.names())


@pytest.mark.parametrize(
    ("prompt", "wanted"),
    [
        ("an apple", {"apple"}),
        ("An APPLE, please", {"apple"}),
        ("three apples on a table", {"apple"}),
        ("two buses", {"bus"}),
        ("cherries", {"cherry"}),
        ("a pair of blue jeans on a white background", {"jeans"}),
        ("a sunflower", {"sunflower"}),
        ("a wine glass", {"wine glass"}),
        ("wine glasses", {"wine glass"}),
        ("glasses", {"glasses"}),
        ("a pine-tree", {"pine tree"}),
        ("a catalogue of keyboards", set()),
        ("a dog left of a car", {"dog", "car"}),
        ("a heart and a heart", {"heart"}),
        ("", set()),
    ],
)
def test_things_are_named_by_whole_words_the_longest_first(prompt: str, wanted: set[str]) -> None:
    assert {world.names()[index] for index in TINY.find(prompt)} == wanted


def test_every_caption_of_the_world_names_its_thing_alone() -> None:
    scenes = world.render_scenes(3, 400, size=16, augment=world.Augment(tint=0.5))
    assert [TINY.find(caption) for caption in scenes.captions] == [{label} for label in scenes.labels[:, 0].tolist()]


def test_labels_have_synonyms_and_one_name_may_be_of_two() -> None:
    names = Names(["great white shark, white shark, man-eater", "tiger shark, Galeocerdo cuvieri", "crane", "crane", "orange"])
    assert names.find("a White Shark!") == names.find("a man eater") == {0}
    assert names.find("galeocerdo cuvieri and a great white shark") == {0, 1}
    assert names.find("a crane") == {2, 3}
    assert names.find("an orange") == {4}
    assert names.find("a white shark on an orange background") == {0}
    assert names.find("a white shark on a striped orange and grey background") == {0}


@pytest.mark.parametrize(
    ("prompt", "wanted"),
    [
        ("a dog on a blue background", "blue"),
        ("a dog on an Orange background, drawn", "orange"),
        ("a dog on a plain gray background", "grey"),
        ("a dog on a photo background", None),
        ("a dog on a striped red and blue background", None),
        ("a dog on a background from red to blue", None),
        ("a blue dog", None),
    ],
)
def test_the_colour_of_a_plain_background(prompt: str, wanted: str | None) -> None:
    assert background(prompt, world.COLOURS) == wanted


def test_captions_of_the_world_tell_their_plain_backgrounds() -> None:
    scenes = world.render_scenes(4, 400, size=16)
    assert [background(caption, world.COLOURS) for caption in scenes.captions] == scenes.background_colours


@pytest.mark.parametrize(("size", "objects"), [(64, 1), (64, (2, 3)), (128, 1)])
def test_the_border_tells_the_background_of_true_pictures(size: int, objects: Any) -> None:
    scenes = world.render_scenes(5, 200, size=size, objects=objects, styles=world.STYLES, backgrounds=("plain",))
    found = [border_colour(image.permute(1, 2, 0).numpy()) for image in scenes.images]
    named = world.nearest_colour(torch.from_numpy(np.stack(found)))
    assert sum(map(str.__eq__, named, map(str, scenes.background_colours))) >= 199


def test_what_touches_the_border_does_not_count_and_the_middle_never_does() -> None:
    pixels = np.full((64, 64, 3), (10, 200, 30), np.uint8)
    pixels[2:-2, 2:-2] = 255
    pixels[:, :20] = 0
    assert border_colour(pixels).tolist() == [10, 200, 30]
    assert border_colour(np.full((3, 1, 3), 7, np.uint8)).tolist() == [7, 7, 7]
