"""Heat maps over images, and grids of images."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from visiontk.media.draw import grid, inferno, overlay_heatmap

GREY = (100, 100, 100)


def test_colours_are_those_of_inferno() -> None:
    matplotlib = pytest.importorskip("matplotlib")
    levels = np.linspace(0, 1, 256, dtype=np.float32)
    wanted = matplotlib.colormaps["inferno"](levels)[:, :3] * 255
    assert np.abs(inferno(levels) - wanted).max() <= 7
    brightness = inferno(levels) @ np.array([0.2126, 0.7152, 0.0722])
    assert (np.diff(brightness) > 0).all()


def test_cold_keeps_the_picture_and_hot_takes_the_colour() -> None:
    heat = np.zeros((2, 2))
    heat[0, 0] = 5.0
    drawn = overlay_heatmap(Image.new("RGB", (64, 48), GREY), heat)
    assert (drawn.size, drawn.mode) == ((64, 48), "RGB")
    assert drawn.getpixel((60, 44)) == GREY
    hot = drawn.getpixel((0, 0))
    wanted = np.rint(0.25 * np.array(GREY) + 0.75 * np.array((252, 255, 164)))
    assert np.abs(np.array(hot) - wanted).max() <= 1


def test_heat_is_resized_bilinearly() -> None:
    # Two cells across eight pixels, centres at 2 and 6: half-way between them, after pixel 4, the heat is 0.5.
    drawn = np.asarray(overlay_heatmap(Image.new("RGB", (8, 1), (0, 0, 0)), np.array([[0.0, 1.0]])), dtype=float)
    level = np.clip((np.arange(8) + 0.5 - 2) / 4, 0, 1).astype(np.float32)
    assert np.abs(drawn[0] - inferno(level) * 0.75 * level[:, None]).max() <= 1


def test_only_the_relative_heat_counts() -> None:
    image = Image.new("RGB", (16, 16), GREY)
    heat = np.random.default_rng(0).random((4, 4))
    assert overlay_heatmap(image, heat) == overlay_heatmap(image, heat * 1e6)
    assert overlay_heatmap(image, heat - heat.min()) == overlay_heatmap(image, (heat - heat.max()) * 3)


@pytest.mark.parametrize("heat", [np.zeros((3, 3)), np.full((3, 3), -2.0), np.full((3, 3), np.nan), np.array([[0.0, np.nan]])])
def test_no_heat_changes_nothing(heat: npt.NDArray[np.float64]) -> None:
    image = Image.new("RGB", (9, 7), GREY)
    assert overlay_heatmap(image, heat) == image


@pytest.mark.parametrize("shape", [(3,), (1, 2, 3), (0, 4)])
def test_heat_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="shape"):
        overlay_heatmap(Image.new("RGB", (4, 4)), np.zeros(shape))


def test_grid_places_every_image() -> None:
    images = [Image.new("RGB", (4, 3), colour) for colour in ("red", "lime", "blue")]
    sheet = grid(images, 2, pad=1, background=(9, 9, 9))
    assert sheet.size == (1 + 2 * 5, 1 + 2 * 4)
    assert [sheet.getpixel(place) for place in ((1, 1), (6, 1), (1, 5), (6, 5))] == [(255, 0, 0), (0, 255, 0), (0, 0, 255), (9, 9, 9)]
    assert {sheet.getpixel((x, 0)) for x in range(11)} == {(9, 9, 9)}
    assert {sheet.getpixel((5, y)) for y in range(9)} == {(9, 9, 9)}


def test_grid_centres_smaller_images() -> None:
    sheet = grid([Image.new("RGB", (5, 5), "red"), Image.new("L", (1, 1), 7)], 8, pad=0)
    assert sheet.size == (10, 5)
    assert sheet.getpixel((7, 2)) == (7, 7, 7)
    assert sheet.getpixel((5, 0)) == (255, 255, 255)


def test_empty_grids_are_refused() -> None:
    with pytest.raises(ValueError, match="grid"):
        grid([], 2)
    with pytest.raises(ValueError, match="grid"):
        grid([Image.new("RGB", (1, 1))], 0)
