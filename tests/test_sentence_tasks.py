"""Pairs of a picture and its answer: what each task shows, and that they are those which the bundled model was trained on."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

from visiontk.media import sentence_tasks
from visiontk.media.sentence_tasks import (
    SentenceTask,
    blacked_out,
    edges,
    grey,
    hole,
    painted,
    palette,
    patches,
    rotated,
    squared,
    squared_map,
)
from visiontk.tiny import world
from visiontk.training import lvm_world

Pixels = npt.NDArray[np.uint8]


@pytest.fixture(scope="module")
def photo(photos: Path) -> Image.Image:
    return squared(Image.open(photos / "chelsea.png"), 256)


def pixels(image: Image.Image | None) -> Pixels:
    assert image is not None and image.mode == "RGB"
    return np.asarray(image)


def test_a_picture_becomes_a_square_without_its_aspect() -> None:
    wide = Image.new("RGBA", (40, 10), (200, 0, 0, 255))
    wide.paste((0, 0, 200, 255), (20, 0, 40, 10))
    found = pixels(squared(wide, 16))
    assert found.shape == (16, 16, 3)
    assert found[8, 3].tolist() == [200, 0, 0] and found[8, 12].tolist() == [0, 0, 200]


def test_maps_of_objects_keep_their_numbers() -> None:
    objects = np.zeros((6, 9), np.uint16)
    objects[:, 3:6], objects[3:, 6:] = 7, 300
    found = squared_map(objects, 3)
    assert found.tolist() == [[0, 7, 0], [0, 7, 300], [0, 7, 300]]
    assert found.dtype == np.uint16
    assert np.array_equal(squared_map(objects, 36)[::6, ::4], objects)


def test_grey_is_the_luma_that_the_bundled_model_learned() -> None:
    colours = np.random.default_rng(1).integers(0, 256, (300, 300, 3), np.uint8)
    found = pixels(grey(Image.fromarray(colours)))
    theirs = lvm_world.grey(torch.from_numpy(colours).permute(2, 0, 1)).permute(1, 2, 0).numpy()
    assert np.array_equal(found, theirs)
    assert np.abs(found[..., 0] - colours @ np.array([0.2989, 0.587, 0.114])).max() <= 0.501


def test_the_first_colours_of_masks_are_those_that_the_bundled_model_learned() -> None:
    learned = ("red", "yellow", "green", "blue", "purple", "black", "white")
    assert tuple(world.COLOURS[name] for name in learned) == sentence_tasks.MASK_COLOURS


def lines_of(picture: Image.Image) -> npt.NDArray[np.bool_]:
    found = pixels(edges(picture))
    assert set(np.unique(found)) <= {0, 255}
    assert np.array_equal(found[..., 0], found[..., 1]) and np.array_equal(found[..., 0], found[..., 2])
    return found[..., 0] > 0


def test_edges_are_lines_of_a_pixel_where_the_picture_changes() -> None:
    picture = Image.new("RGB", (64, 48), (30, 30, 30))
    picture.paste((220, 220, 220), (16, 12, 48, 36))
    lines = lines_of(picture)
    assert lines.shape == (48, 64)
    assert np.flatnonzero(lines[24]).tolist() == [16, 48] and np.flatnonzero(lines[:, 30]).tolist() == [12, 36]
    assert not lines[:11].any() and not lines[38:].any() and not lines[16:32, 18:46].any()
    assert not lines_of(Image.new("RGB", (64, 48), (90, 10, 200))).any()


def test_edges_of_a_disc_are_its_circle() -> None:
    y, x = np.mgrid[:100, :100] - 49.5
    disc = Image.fromarray(((np.hypot(x, y) < 30) * np.uint8(200))[..., None].repeat(3, 2))
    rows, columns = np.nonzero(lines_of(disc))
    away, turn = np.hypot(columns - 49.5, rows - 49.5), np.degrees(np.arctan2(rows - 49.5, columns - 49.5))
    assert np.abs(away - 30).max() < 1.6
    assert np.histogram(turn, bins=72, range=(-180, 180))[0].min() >= 1  # closed: something in every 5 degrees
    assert len(rows) < 1.2 * 2 * math.pi * 30


def test_a_faint_edge_counts_where_it_goes_on_from_a_strong_one() -> None:
    fading = np.zeros((60, 120, 3), np.uint8)
    fading[30:] = np.linspace(120, 40, 120)[:, None]
    lines = lines_of(Image.fromarray(fading))
    assert lines[30].all() and lines.sum() == 120
    fading[30:, :100] = 40
    assert not lines_of(Image.fromarray(fading)).any()  # as faint as its end, and nothing strong


def test_edges_of_a_photo_are_few_and_thin(photo: Image.Image) -> None:
    lines = lines_of(photo)
    assert 0.02 < lines.mean() < 0.15
    solid = lines[:-1, :-1] & lines[1:, :-1] & lines[:-1, 1:] & lines[1:, 1:]
    assert solid.sum() < 0.01 * lines.sum()


@pytest.mark.parametrize("side", [16, 64, 256])
def test_a_hole_is_a_square_of_a_tenth_to_a_half_anywhere_in_the_picture(side: int) -> None:
    holes = np.array([hole(side, np.random.default_rng(seed)) for seed in range(2000)])
    left, top, right, bottom = holes.T
    assert np.array_equal(right - left, bottom - top)
    assert (left >= 0).all() and (top >= 0).all() and (right <= side).all() and (bottom <= side).all()
    sides = right - left
    assert sides.min() == round(0.1 * side) and sides.max() == round(0.5 * side)
    assert left.min() == top.min() == 0 and right.max() == bottom.max() == side
    assert abs(sides.mean() / side - 0.3) < 0.02 and abs((left + right).mean() / (2 * side) - 0.5) < 0.02


def test_patches_are_a_tenth_to_a_half_of_64() -> None:
    counts = set()
    for seed in range(1000):
        boxes = patches(256, np.random.default_rng(seed))
        counts.add(len(boxes))
        assert len(set(boxes)) == len(boxes)
        for left, top, right, bottom in boxes:
            assert left % 32 == top % 32 == 0 and (right - left, bottom - top) == (32, 32) and max(right, bottom) <= 256
    assert min(counts) == 6 and max(counts) == 32
    assert {(right - left) for left, _, right, _ in patches(64, np.random.default_rng(0))} == {8}
    covered = np.zeros((60, 60), int)  # not a multiple of 8: still no gaps and no overlaps
    limits = [round(number * 60 / 8) for number in range(9)]
    for left, top, right, bottom in patches(60, np.random.default_rng(3)):
        assert {left, top, right, bottom} <= set(limits)
        covered[top:bottom, left:right] += 1
    assert covered.max() == 1


def test_inpainting_hides_what_the_boxes_hold_and_nothing_else(photo: Image.Image) -> None:
    found, whole = pixels(blacked_out(photo, [(10, 20, 40, 50), (100, 0, 256, 8)])), pixels(photo)
    hidden = np.zeros((256, 256), bool)
    hidden[20:50, 10:40] = hidden[:8, 100:] = True
    assert not found[hidden].any() and np.array_equal(found[~hidden], whole[~hidden])


def test_places_hang_on_the_seed_and_the_pictures_number_alone(photo: Image.Image) -> None:
    task, other = SentenceTask("inpaint", seed=5), Image.new("RGB", photo.size, "white")
    shown = pixels(task.pair(photo, 3)[0])
    hidden = ~pixels(task.pair(other, 3)[0]).any(-1)
    assert hidden.any() and not shown[hidden].any()
    assert np.array_equal(shown, pixels(SentenceTask("inpaint", seed=5).pair(photo, 3)[0]))
    assert not np.array_equal(shown, pixels(task.pair(photo, 4)[0]))
    assert not np.array_equal(shown, pixels(SentenceTask("inpaint", seed=6).pair(photo, 3)[0]))


def test_rotation_is_counter_clockwise_and_exact_by_quarters(photo: Image.Image) -> None:
    whole = pixels(photo)
    assert np.array_equal(pixels(rotated(photo, 90)), np.rot90(whole))
    assert np.array_equal(pixels(rotated(photo, -90)), np.rot90(whole, -1))
    assert np.array_equal(pixels(rotated(photo, 180)), whole[::-1, ::-1])
    slanted = pixels(rotated(photo, 30))
    assert slanted.shape == whole.shape and not slanted[0, 0].any() and not slanted[-1, -1].any()
    dot = Image.new("RGB", (201, 201))
    dot.paste((255, 255, 255), (158, 98, 163, 103))  # 60 to the right of the middle
    rows, columns = np.nonzero(pixels(rotated(dot, 30))[..., 0] > 127)
    assert (
        abs(rows.mean() - (100 - 60 * math.sin(math.radians(30)))) < 1 and abs(columns.mean() - (100 + 60 * math.cos(math.radians(30)))) < 1
    )


def test_palettes_are_drawn_and_their_colours_are_far_from_each_other() -> None:
    most = sentence_tasks.most_things()
    assert most >= 30
    for seed in range(5):
        for things in (1, 6, most):
            colours = palette(things, seed)
            assert len(colours) == 1 + things
            assert min(math.dist(one, other) for one in colours for other in colours if one != other) >= 50
            assert len(set(colours)) == len(colours)
    assert palette(3, 4) == palette(6, 4)[:4]
    assert len({tuple(palette(1, seed)) for seed in range(100)}) > 20
    assert set(palette(6, 9)) == set(sentence_tasks.MASK_COLOURS)


def test_masks_are_painted_in_the_palettes_colours() -> None:
    objects = np.array([[0, 1, 2], [3, 4, 0], [0, 0, 300]], np.uint16)
    colours = [(1, 1, 1), (10, 0, 0), (0, 20, 0), (0, 0, 30)]
    found = pixels(painted(objects, colours))
    assert found.tolist() == [
        [[1, 1, 1], [10, 0, 0], [0, 20, 0]],
        [[0, 0, 30], [10, 0, 0], [1, 1, 1]],  # the fourth begins again at the first
        [[1, 1, 1], [1, 1, 1], [0, 20, 0]],  # and 300 is the fifth
    ]
    classes = pixels(painted(np.array([[15, 44, 0], [44, 7, 9]], np.uint8), colours, [15, 44]))
    assert classes.tolist() == [
        [[10, 0, 0], [0, 20, 0], [1, 1, 1]],
        [[0, 20, 0], [0, 0, 30], [10, 0, 0]],  # 7 and 9 come behind those that are named
    ]
    alike = pixels(painted(objects, colours[:2]))
    assert np.array_equal((alike == (10, 0, 0)).all(-1), objects > 0)


def test_each_task_shows_its_question_and_its_answer(photo: Image.Image) -> None:
    whole = pixels(photo)
    shown, answer = SentenceTask("grayscale").pair(photo, 0)
    assert np.array_equal(pixels(shown), pixels(grey(photo))) and np.array_equal(pixels(answer), whole)
    shown, answer = SentenceTask("edges").pair(photo, 0)
    assert np.array_equal(pixels(shown), whole) and np.array_equal(pixels(answer), pixels(edges(photo)))
    shown, answer = SentenceTask("inpaint").pair(photo, 0)
    hidden = (pixels(shown) != whole).any(-1)
    rows, columns = np.flatnonzero(hidden.any(1)), np.flatnonzero(hidden.any(0))
    assert np.array_equal(pixels(answer), whole) and 0.09 * 256 < np.ptp(rows) < 0.51 * 256 and abs(np.ptp(rows) - np.ptp(columns)) <= 1
    shown, answer = SentenceTask("inpaint", patches=True).pair(photo, 0)
    black = [(pixels(shown)[row : row + 32, column : column + 32] == 0).all() for row in range(0, 256, 32) for column in range(0, 256, 32)]
    assert 6 <= sum(black) <= 32 and np.array_equal(pixels(answer), whole)
    shown, answer = SentenceTask("rotate", angle=180).pair(photo, 0)
    assert np.array_equal(pixels(shown), whole) and np.array_equal(pixels(answer), whole[::-1, ::-1])
    objects = np.zeros((256, 256), np.uint8)
    objects[:100] = 1
    shown, answer = SentenceTask("segment", palette=((0, 0, 9), (9, 0, 0))).pair(photo, 0, objects)
    assert np.array_equal(pixels(shown), whole) and pixels(answer)[[0, 99, 100], 0].tolist() == [[9, 0, 0], [9, 0, 0], [0, 0, 9]]
    assert SentenceTask("segment", palette=((0, 0, 9), (9, 0, 0))).pair(photo, 0)[1] is None
