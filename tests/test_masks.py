"""Masks: run lengths as COCO has them, boxes, PNGs with indices, outlines, cut-outs."""

from __future__ import annotations

import io
import json
import random
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image, ImageDraw
from pycocotools import mask as coco

from visiontk.errors import ItemError
from visiontk.media import masks
from visiontk.media.masks import Mask, box_of, cutout, decode_rle, encode_rle, index_map, polygons, read_index_map

# pycocotools' own decoder speaks numpy 1.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

any_mask = arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, max_side=24))


def drawn(*rows: str) -> Mask:
    """A mask from a picture of it in ``.`` and ``#``."""
    return np.array([[pixel == "#" for pixel in row] for row in rows])


def blob(seed: int, size: int = 120) -> Mask:
    """A few overlapping ellipses: at least 100 pixels, without holes."""
    draw, image = random.Random(seed), Image.new("1", (size, size))
    for _ in range(3):
        x, y = draw.uniform(0.3, 0.7) * size, draw.uniform(0.3, 0.7) * size
        a, b = draw.uniform(0.1, 0.45) * size, draw.uniform(0.1, 0.45) * size
        ImageDraw.Draw(image).ellipse((x - a, y - b, x + a, y + b), fill=1)
    return np.array(image)


# --- run lengths


def test_runs_go_down_the_columns_and_begin_with_zeros() -> None:
    mask = drawn(
        ".##.",
        "..#.",
    )
    # Down the columns: 00 10 11 00, so 2 zeros, 1 one, 1 zero, 2 ones, 2 zeros. Small numbers are written as the character 48 + n, from
    # the fourth on as the difference to the one two before: 2, 1, 1, 2 - 1, 2 - 1.
    assert encode_rle(mask) == {"size": [2, 4], "counts": "21111"}
    assert (decode_rle({"size": [2, 4], "counts": [2, 1, 1, 2, 2]}) == mask).all()


def test_a_mask_that_begins_set_has_a_first_run_of_none() -> None:
    assert encode_rle(np.ones((2, 2), bool)) == {"size": [2, 2], "counts": "04"}
    assert encode_rle(np.zeros((3, 1), bool)) == {"size": [3, 1], "counts": "3"}


def test_long_and_negative_numbers() -> None:
    # 1,000,000 = 30 * 32^3 + 16 * 32^2 + 18 * 32 + 0, lowest digit first, each but the last with 32 added; its highest bit (16) would be
    # read as a sign, so a zero follows.
    assert encode_rle(np.zeros((1000, 1000), bool))["counts"] == "".join(chr(48 + digit) for digit in (32, 18 + 32, 16 + 32, 30 + 32, 0))
    # 5, 9, 1, 1: the fourth is 1 - 9 = -8 = 24 - 32, one digit with its sign bit set.
    assert decode_rle({"size": [16, 1], "counts": "591" + chr(48 + 24)})[:, 0].tolist() == [False] * 5 + [True] * 9 + [False, True]


@given(any_mask)
def test_round_trip_and_agreement_with_pycocotools(mask: Mask) -> None:
    value = json.loads(json.dumps(encode_rle(mask)))
    assert value["size"] == list(mask.shape)
    assert (coco.decode(value) == mask).all()
    decoded = decode_rle(value)
    assert decoded.dtype == np.bool_ and decoded.flags.c_contiguous and (decoded == mask).all()


def test_large_masks_agree_with_pycocotools() -> None:
    mask = blob(1, 1080)
    mask[200:220, 5:900] ^= np.random.default_rng(0).random((20, 895)) < 0.3
    value = encode_rle(mask)
    assert value == {"size": [1080, 1080], "counts": coco.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()}
    assert (decode_rle(value) == mask).all()
    assert masks.area(mask) == coco.area(value) == mask.sum()
    left, top, width, height = coco.toBbox(value)
    assert box_of(mask) == [left, top, left + width, top + height]


BAD_RLE: list[Any] = [
    None,
    [],
    {},
    {"size": [2, 2]},
    {"counts": "4"},
    {"size": [2], "counts": "4"},
    {"size": [2, 2, 1], "counts": "4"},
    {"size": [-2, -2], "counts": "4"},
    {"size": [0, 5], "counts": ""},
    {"size": ["2", 2], "counts": "4"},
    {"size": [2.0, 2], "counts": "4"},
    {"size": [True, 4], "counts": "4"},
    {"size": [2, 2], "counts": 4},
    {"size": [2, 2], "counts": b"4"},
    {"size": [2, 2], "counts": ""},  # too few pixels
    {"size": [2, 2], "counts": "3"},
    {"size": [2, 2], "counts": "5"},  # too many
    {"size": [2, 2], "counts": "P"},  # cut off after a digit that says more follow
    {"size": [2, 2], "counts": "~"},
    {"size": [2, 2], "counts": " 4"},
    {"size": [2, 2], "counts": "é"},
    {"size": [2, 2], "counts": "o" * 20 + "0"},  # a number of 100 bits
    {"size": [2, 2], "counts": "@4"},  # -16 zeros
    {"size": [2, 2], "counts": [8, -4]},
    {"size": [2, 2], "counts": [2, 2.0]},
    {"size": [2, 2], "counts": [1 << 80]},
    {"size": [100_000, 100_000], "counts": [10_000_000_000]},
]


@pytest.mark.parametrize("value", BAD_RLE, ids=str)
def test_what_is_no_rle_is_refused(value: Any) -> None:
    with pytest.raises(ItemError, match="no COCO RLE") as caught:
        decode_rle(value)
    assert caught.value.kind == "bad_record"


@given(st.text(alphabet=st.characters(min_codepoint=40, max_codepoint=120), max_size=30))
def test_any_text_is_a_mask_or_an_error(counts: str) -> None:
    try:
        assert decode_rle({"size": [7, 5], "counts": counts}).shape == (7, 5)
    except ItemError as error:
        assert error.kind == "bad_record"


# --- boxes


def test_a_box_ends_after_the_last_pixel() -> None:
    assert box_of(drawn("....", ".##.", "..#.", "....")) == [1.0, 1.0, 3.0, 3.0]
    assert box_of(drawn("#")) == [0.0, 0.0, 1.0, 1.0]
    assert box_of(drawn("...", "...")) is None
    assert box_of(np.zeros((0, 4), bool)) is None
    assert all(type(edge) is float for edge in box_of(drawn("#")) or [])


@given(any_mask)
def test_a_box_holds_the_mask_and_no_row_more(mask: Mask) -> None:
    box = box_of(mask)
    y, x = np.nonzero(mask)
    assert box == ([x.min(), y.min(), x.max() + 1, y.max() + 1] if x.size else None)


# --- index maps


def saved(image: Image.Image, **options: Any) -> str:
    image.save("mask.png", **options)
    return "mask.png"


def test_palette_images_give_their_indices() -> None:
    wanted = np.array([[0, 7, 7], [255, 1, 0]], np.uint8)
    image = Image.fromarray(wanted)
    image.putpalette([9, 9, 9] * 256)  # what colours they have does not matter
    for options in ({}, {"transparency": 7}):
        found = read_index_map(saved(image, **options))
        assert found.dtype == np.uint16 and (found == wanted).all()


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_palette_images_of_few_bits(bits: int) -> None:
    wanted = (np.arange(12, dtype=np.uint8) % (1 << bits)).reshape(3, 4)
    image = Image.fromarray(wanted)
    image.putpalette([9, 9, 9] * (1 << bits))
    assert (read_index_map(saved(image, bits=bits)) == wanted).all()


def grey_png(rows: list[bytes], width: int, depth: int) -> str:
    """A grey PNG of 1, 2 or 4 bits, which Pillow cannot write."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, len(rows), depth, 0, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows)))
    Path("grey.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + data + chunk(b"IEND", b""))
    return "grey.png"


def test_grey_images_give_their_values() -> None:
    wanted: npt.NDArray[Any] = np.array([[0, 3], [200, 255]], np.uint8)
    assert (read_index_map(saved(Image.fromarray(wanted))) == wanted).all()
    assert (read_index_map(saved(Image.fromarray(wanted.astype(np.uint16) * 257))) == wanted.astype(np.uint16) * 257).all()
    assert read_index_map(grey_png([b"\x01\x2f", b"\x00\x30"], 4, 4)).tolist() == [[0, 1, 2, 15], [0, 0, 3, 0]]
    assert read_index_map(grey_png([b"\x1b"], 4, 2)).tolist() == [[0, 1, 2, 3]]


def test_binary_images_give_0_and_255() -> None:
    mask = drawn("#..", ".##")
    assert (read_index_map(saved(Image.fromarray(mask))) == mask * 255).all()
    buffer = io.BytesIO()
    masks.write_binary_png(buffer, mask)
    Path("binary.png").write_bytes(buffer.getvalue())
    assert (read_index_map("binary.png") == mask * 255).all()
    with Image.open("binary.png") as written:
        assert written.mode == "L"


def test_colours_are_numbered_as_they_appear() -> None:
    colours = np.array([[(0, 0, 0), (9, 0, 0), (0, 0, 1)], [(0, 0, 1), (9, 0, 0), (255, 255, 255)]], np.uint8)
    assert read_index_map(saved(Image.fromarray(colours))).tolist() == [[0, 1, 2], [2, 1, 3]]


def test_transparent_pixels_are_background() -> None:
    colours = np.array([[(5, 5, 5, 0), (0, 0, 0, 255)], [(5, 5, 5, 255), (1, 2, 3, 0)]], np.uint8)
    assert read_index_map(saved(Image.fromarray(colours))).tolist() == [[0, 0], [1, 0]]
    greys = np.array([[(5, 0), (7, 255)]], np.uint8)
    assert read_index_map(saved(Image.fromarray(greys, mode="LA"))).tolist() == [[0, 7]]


def text_file(name: str) -> None:
    Path(name).write_text("no picture")


def cut_png(name: str) -> None:
    Image.effect_noise((64, 64), 50).save(name)
    Path(name).write_bytes(Path(name).read_bytes()[:800])


def jpeg(name: str) -> None:
    Image.new("L", (64, 64)).save(name, format="JPEG")


def photo(name: str) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(name)


def huge_values(name: str) -> None:
    Image.fromarray(np.full((4, 4), 70_000, np.int32)).save(name, format="TIFF")


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (None, "missing", "no mask"),
        (Path.mkdir, "unreadable", "cannot be read"),
        (text_file, "not_an_image", "save it as PNG"),
        (jpeg, "not_an_image", "save it as PNG"),
        (cut_png, "broken", "damaged"),
        (photo, "broken", "one colour per object"),
        (huge_values, "broken", "70000"),
    ],
)
def test_files_that_hold_no_mask(make: Callable[[Any], None] | None, kind: str, message: str) -> None:
    if make:
        make(Path("m.png"))
    with pytest.raises(ItemError, match=message) as caught:
        read_index_map("m.png")
    assert caught.value.kind == kind and "m.png" in caught.value.message


def test_later_masks_cover_earlier_ones() -> None:
    first, second = drawn("##.", "##."), drawn(".##", "...")
    found = index_map([(1, first), (255, second)], (2, 3))
    assert found.dtype == np.uint8 and found.tolist() == [[1, 255, 255], [1, 1, 0]]
    found = index_map([(300, second), (1, first)], (2, 3))
    assert found.dtype == np.uint16 and found.tolist() == [[1, 1, 300], [1, 1, 0]]
    assert index_map([], (2, 3)).tolist() == [[0, 0, 0], [0, 0, 0]]


@pytest.mark.parametrize("number", [0, -1, 65536])
def test_ids_that_no_map_can_hold(number: int) -> None:
    with pytest.raises(ValueError, match="ids"):
        index_map([(number, drawn("#"))], (1, 1))


def test_indexed_pngs_have_the_palette_of_davis() -> None:
    # The first colours of the Pascal VOC map as its development kit lists them.
    wanted = [(0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128), (128, 0, 128), (0, 128, 128), (128, 128, 128), (64, 0, 0)]
    assert [tuple(colour) for colour in masks.voc_palette()[:9].tolist()] == wanted
    assert masks.voc_palette()[255].tolist() == [224, 224, 192]
    ids = np.array([[0, 1, 2], [3, 255, 0]], np.uint8)
    buffer = io.BytesIO()
    masks.write_indexed_png(buffer, ids)
    Path("ids.png").write_bytes(buffer.getvalue())
    with Image.open("ids.png") as image:
        assert image.mode == "P" and (np.asarray(image) == ids).all()
        assert image.convert("RGB").getpixel((1, 0)) == (128, 0, 0)
    assert (read_index_map("ids.png") == ids).all()


def test_more_than_255_objects_take_16_bits() -> None:
    ids = np.array([[0, 65535], [256, 1]], np.uint16)
    buffer = io.BytesIO()
    masks.write_indexed_png(buffer, ids)
    Path("ids.png").write_bytes(buffer.getvalue())
    with Image.open("ids.png") as image:
        assert image.mode == "I;16"
    assert (read_index_map("ids.png") == ids).all()


# --- outlines


def inside(outline: list[tuple[float, float]], shape: tuple[int, ...]) -> Mask:
    """Which pixel centres lie in a polygon, by the even-odd rule: an edge counts where a ray to the right of the centre crosses it."""
    y, x = np.mgrid[: shape[0], : shape[1]] + 0.5
    found = np.zeros(shape, bool)
    for (x0, y0), (x1, y1) in zip(outline, outline[1:] + outline[:1], strict=True):
        if y0 != y1:
            found ^= ((y0 <= y) != (y1 <= y)) & (x < x0 + (y - y0) * (x1 - x0) / (y1 - y0))
    return found


def test_the_outline_of_a_rectangle() -> None:
    (outline,) = polygons(drawn("....", ".##.", ".##.", ".##.", "...."))
    # Its edges run along the pixels' edges, and the corners are cut from the middle of one pixel's side to the next's.
    assert sorted(outline) == [(1, 1.5), (1, 3.5), (1.5, 1), (1.5, 4), (2.5, 1), (2.5, 4), (3, 1.5), (3, 3.5)]


@pytest.mark.parametrize("seed", range(8))
def test_outlines_give_the_mask_back(seed: int) -> None:
    mask = blob(seed)
    (outline,) = polygons(mask)
    assert (inside(outline, mask.shape) == mask).all()
    # Other programs have other rules for pixels on the edge.
    rle = coco.frPyObjects([[number for point in outline for number in point]], *mask.shape)
    by_coco = coco.decode(rle)[..., 0].astype(bool)
    assert (by_coco & mask).sum() / (by_coco | mask).sum() > 0.97


@given(any_mask)
def test_outlines_hold_every_pixel_and_fill_holes_alone(mask: Mask) -> None:
    outlines = polygons(mask)
    covered = np.zeros(mask.shape, bool)
    for outline in outlines:
        assert len(outline) >= 3 and outline[0] != outline[-1]
        assert all(0 <= x <= mask.shape[1] and 0 <= y <= mask.shape[0] for x, y in outline)
        covered |= inside(outline, mask.shape)
    assert (covered >= mask).all()
    if not mask.any():
        assert outlines == []


def test_pieces_come_largest_first_and_holes_are_left_out() -> None:
    mask = np.zeros((40, 60), bool)
    mask[2:5, 2:5] = True
    mask[10:38, 10:50] = True
    mask[15:30, 15:40] = False
    outlines = polygons(mask)
    assert [inside(outline, mask.shape).sum() for outline in outlines] == [28 * 40, 9]
    assert all(len(outline) == 8 for outline in outlines)  # no points along the straight edges


def test_an_outline_at_the_border_stays_in_the_picture() -> None:
    (outline,) = polygons(np.ones((4, 6), bool))
    assert {x for x, _ in outline} == {0, 0.5, 5.5, 6} and {y for _, y in outline} == {0, 0.5, 3.5, 4}


# --- cut-outs


def test_a_cutout_is_cropped_and_transparent_outside() -> None:
    pixels = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3) + np.uint8(1)
    mask = drawn(".....", "..#..", "..##.", ".....")
    found = cutout(Image.fromarray(pixels), mask)
    assert (found.mode, found.size) == ("RGBA", (2, 2))
    assert np.asarray(found).tolist() == [
        [[*pixels[1, 2].tolist(), 255], [0, 0, 0, 0]],
        [[*pixels[2, 2].tolist(), 255], [*pixels[2, 3].tolist(), 255]],
    ]


def test_cutouts_of_nothing_or_of_another_size_are_refused() -> None:
    image = Image.new("RGB", (3, 2))
    for mask in (np.zeros((2, 3), bool), np.ones((3, 2), bool)):
        with pytest.raises(ValueError, match="3x2"):
            cutout(image, mask)
