"""Masks and prompts drawn over pictures, and contact sheets."""

from __future__ import annotations

from itertools import combinations, pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from visiontk.media.masks import Mask, voc_palette
from visiontk.media.overlay import COLOURS, colour, contact_sheet, overlay

GREY = (100, 110, 120)
GREEN, RED, WHITE = (0, 190, 80), (225, 35, 45), (255, 255, 255)


def disc(width: int, height: int, x: float, y: float, radius: float) -> Mask:
    rows, columns = np.mgrid[:height, :width]
    found: Mask = np.hypot(columns + 0.5 - x, rows + 0.5 - y) < radius
    return found


def grey(width: int, height: int) -> Image.Image:
    return Image.new("RGB", (width, height), GREY)


def pixels(image: Image.Image) -> npt.NDArray[np.int64]:
    return np.asarray(image).astype(np.int64)


def where(image: Image.Image, wanted: tuple[int, int, int]) -> npt.NDArray[np.bool_]:
    found: npt.NDArray[np.bool_] = (np.asarray(image) == wanted).all(axis=2)
    return found


def tinted(number: int) -> npt.NDArray[np.float64]:
    """What the fill of an object makes of grey."""
    return 0.55 * np.array(GREY) + 0.45 * np.array(colour(number))


# --- colours


def test_colours_differ_and_come_again() -> None:
    assert colour(1) == (230, 159, 0)
    assert len(set(COLOURS)) == len(COLOURS) == 255
    assert (0, 0, 0) not in COLOURS
    assert colour(256) == colour(1) and colour(300) == colour(45)
    assert all(np.abs(np.subtract(one, other)).max() > 60 for one, other in pairwise(COLOURS))


def test_the_first_colours_stay_apart_for_the_colour_blind() -> None:
    # Machado, Oliveira and Fernandes, IEEE Trans. Vis. Comp. Graph. 15 (6), 2009: protanopia and deuteranopia, on linear RGB.
    protan = np.array([[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]])
    deutan = np.array([[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]])

    def nearest(palette: Any, matrix: npt.NDArray[np.float64]) -> float:
        linear = (np.array(palette) / 255) ** 2.2
        seen = np.clip(linear @ matrix.T, 0, 1) ** (1 / 2.2) * 255
        return min(float(np.linalg.norm(one - other)) for one, other in combinations(seen, 2))

    for matrix in (protan, deutan):
        assert nearest(COLOURS[:8], matrix) > 40
        assert nearest(COLOURS[:8], matrix) > 1.5 * nearest(voc_palette()[1:9], matrix)


# --- masks


def test_fill_outline_and_rim() -> None:
    image, mask = grey(400, 300), disc(400, 300, 200, 150, 90)
    drawn = overlay(image, [(2, mask)])
    assert (drawn.mode, drawn.size) == ("RGB", (400, 300)) and image == grey(400, 300)
    found = pixels(drawn)
    assert np.abs(found[200, 200] - tinted(2)).max() <= 1  # off the tag in the middle
    rows, columns = np.mgrid[:300, :400]
    distance = np.hypot(columns + 0.5 - 200, rows + 0.5 - 150)
    assert where(drawn, colour(2))[(distance < 89.9) & (distance > 89.3)].all()
    assert not where(drawn, colour(2))[(distance < 86) & (distance > 30)].any()
    assert not where(drawn, colour(2))[~mask].any()
    assert where(drawn, GREY)[distance > 92].all()
    assert found[(distance > 90.1) & (distance < 90.6)].mean() < 90  # the rim is dark


def test_holes_are_holes() -> None:
    mask = disc(400, 300, 200, 150, 120) & ~disc(400, 300, 200, 150, 60)
    drawn = overlay(grey(400, 300), [(1, mask)])
    assert where(drawn, GREY)[disc(400, 300, 200, 150, 50)].mean() > 0.9
    assert where(drawn, colour(1))[disc(400, 300, 200, 150, 64) & mask].any()


def test_an_outline_runs_along_the_border_of_the_picture() -> None:
    drawn = overlay(grey(300, 200), [(3, np.ones((200, 300), bool))])
    for edge in (drawn.crop((0, 0, 300, 1)), drawn.crop((0, 199, 300, 200)), drawn.crop((0, 0, 1, 200)), drawn.crop((299, 0, 300, 200))):
        assert where(edge, colour(3)).all()


def test_lines_go_with_the_size_of_the_picture() -> None:
    def line(scale: int) -> int:
        width, height = 100 * scale, 60 * scale
        drawn = overlay(grey(width, height), [(1, disc(width, height, width / 2, height / 2, 25 * scale))])
        row = where(drawn, colour(1))[height // 2, : width // 3]
        assert row.any()
        return int(row.sum())

    thickness = [line(scale) for scale in (1, 5, 12, 24)]
    assert thickness == sorted(thickness) and thickness[0] == 1 and 4 <= thickness[-1] <= 8


def test_empty_masks_show_nothing() -> None:
    image = grey(64, 48)
    assert overlay(image, [(1, np.zeros((48, 64), bool)), (2, np.zeros((48, 64), bool))]) == image
    assert overlay(image, []) == image
    assert overlay(Image.new("L", (64, 48), 7), []) == Image.new("RGB", (64, 48), (7, 7, 7))


def test_masks_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match="64x48 pixels over a picture of 48x64"):
        overlay(grey(48, 64), [(1, np.ones((48, 64), bool))])


@pytest.mark.parametrize("size", [(1, 1), (2, 5), (8, 8), (64, 64), (2000, 3)])
def test_any_size_of_picture_and_object(size: tuple[int, int]) -> None:
    width, height = size
    masks = [(number, np.ones((height, width), bool)) for number in (1, 300)]
    masks += [(65535, disc(width, height, width, height, 1.5))]
    drawn = overlay(grey(width, height), masks, points=[(0, 0, True), (width, height, False)], boxes=[(0, 0, width, height)])
    assert drawn.size == size


# --- tags


def test_the_tag_stands_inside_a_large_object() -> None:
    # A C-shaped object: its box's middle is not part of it.
    mask = disc(600, 600, 300, 300, 280) & ~disc(600, 600, 340, 300, 200)
    plain, tagged = grey(600, 600), overlay(grey(600, 600), [(5, mask)])
    white = where(tagged, WHITE)
    rows, columns = np.nonzero(white)
    assert white.any() and mask[round(rows.mean()), round(columns.mean())]
    assert not where(plain, WHITE).any()


@pytest.mark.parametrize(("x", "y", "above"), [(200, 150, True), (200, 8, False), (6, 6, False), (394, 294, True)])
def test_the_tag_stands_beside_a_small_object_and_inside_the_picture(x: int, y: int, above: bool) -> None:
    mask = disc(400, 300, x, y, 7)
    drawn = overlay(grey(400, 300), [(1, mask)])
    core = disc(400, 300, x, y, 4)
    assert np.abs(pixels(drawn)[core] - tinted(1)).max() <= 1
    rows, columns = np.nonzero(where(drawn, colour(1)) & ~disc(400, 300, x, y, 9))
    assert rows.size > 50 and (rows.mean() < y) == above
    assert abs(columns.mean() - x) < 15


def test_tags_lie_over_all_fills() -> None:
    first, second = disc(400, 300, 150, 150, 100), disc(400, 300, 160, 150, 110)
    drawn = overlay(grey(400, 300), [(1, first), (4, second)])
    alone = overlay(grey(400, 300), [(4, second)])
    inner = disc(400, 300, 150, 150, 8)
    assert where(drawn, colour(4))[inner].sum() == where(alone, colour(4))[inner].sum() > 0


# --- prompts


def test_points_are_green_and_red_dots_with_a_white_rim() -> None:
    drawn = overlay(grey(500, 400), [], points=[(100, 80, True), (300.4, 200.2, False)])
    assert drawn.getpixel((100, 80)) == GREEN and drawn.getpixel((300, 200)) == RED
    for x, y in ((100, 80), (300, 200)):
        ring = pixels(drawn)[y, x + 2 : x + 9]
        assert (ring.min(axis=1) > 200).any() and tuple(ring[-1]) == GREY
    assert np.abs(np.argwhere(where(drawn, GREEN)).mean(axis=0) - (79.5, 99.5)).max() <= 0.75


def test_boxes_are_frames_on_the_edges() -> None:
    drawn = overlay(grey(500, 400), [], boxes=[(50, 60, 200, 300)])
    green = where(drawn, GREEN)
    rows, columns = np.nonzero(green)
    assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == (50, 60, 200, 300)
    assert green[60, 50:200].all() and green[60:300, 199].all() and not green[70:290, 60:190].any()
    assert where(drawn, GREY)[70:290, 60:190].all()


# --- contact sheets


def test_a_tall_strip_is_no_wider_and_at_most_four_times_as_tall_as_a_cell() -> None:
    strip = Image.new("RGB", (100, 25_000), (200, 0, 0))
    sheet = contact_sheet([strip, strip], ["a", "b"], columns=2, width=100)
    assert 200 < sheet.width < 260 and 400 < sheet.height < 460
    found = (pixels(sheet) == (200, 0, 0)).all(-1)
    assert found.sum() == 2 * 2 * 400, "two strips of 2 x 400"


def test_pictures_stand_in_rows_with_their_captions() -> None:
    pictures = [Image.new("RGB", (200, 100), (250, 0, number)) for number in range(5)]
    sheet = contact_sheet(pictures, [f"frame {number}" for number in range(5)], columns=2, width=100)
    red = where(sheet, (250, 0, 3))
    rows, columns = np.nonzero(red)
    assert (columns.max() - columns.min() + 1, rows.max() - rows.min() + 1) == (100, 50)
    assert [tuple(np.argwhere(where(sheet, (250, 0, number)))[0] // 60) for number in range(5)] == [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0)]
    below = pixels(sheet)[rows.max() + 1 : rows.max() + 18, columns.min() : columns.max()]
    assert below.min() < 80 and below.max() == 255


def test_long_captions_are_cut() -> None:
    plain = Image.new("RGB", (100, 20), (250, 0, 0))
    sheet = pixels(contact_sheet([plain, plain], ["a long name " * 9, ""], columns=2, width=100))
    left, right = sheet[30:, :107], sheet[30:, 107:]
    assert left.min() < 80 and right.min() == 255
    short = pixels(contact_sheet([plain, plain], ["line\none", ""], columns=2, width=100))
    assert short.shape == sheet.shape


def test_captions_in_other_alphabets() -> None:
    plain = Image.new("RGB", (100, 20), (250, 0, 0))
    sheets = [np.asarray(contact_sheet([plain], [caption], width=100)) for caption in ("ä", "ж", "λ")]
    assert all((one != other).any() for one, other in combinations(sheets, 2))  # not the box that stands for what is missing


@pytest.mark.parametrize(("count", "size"), [(1, (320, 240)), (6, (320, 180)), (12, (100, 100)), (9, (100, 300))])
def test_sheets_are_wider_than_high_by_default(count: int, size: tuple[int, int]) -> None:
    sheet = contact_sheet([grey(*size)] * count, [""] * count)
    assert 0.7 < sheet.width / sheet.height < 3
    assert where(sheet, GREY).sum() == count * 320 * round(size[1] * 320 / size[0])


def test_sheets_of_nothing_are_refused() -> None:
    empty: list[str] = []
    for images in ([], [grey(4, 4)]):
        with pytest.raises(ValueError, match="contact sheet"):
            contact_sheet(images, empty)
