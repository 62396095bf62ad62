"""Masks and prompts drawn over a picture, and several pictures on one sheet. Sizes of lines and letters go with the picture's."""

from __future__ import annotations

import colorsys
import math
from collections.abc import Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from visiontk.media.draw import grid
from visiontk.media.masks import Mask, box_of

Colour = tuple[int, int, int]

# The palette of Okabe and Ito (Wong, Nature Methods 8, 441, 2011) without black, and Tol's wine red: eight
# men in a hundred tell red from green badly, and in the map of Pascal VOC the first two objects are a dark red and a dark green, hard to
# see over a photo besides. Indexed PNGs keep that map.
_FIRST: tuple[Colour, ...] = (
    (230, 159, 0),  # orange
    (86, 180, 233),  # sky blue
    (0, 158, 115),  # bluish green
    (240, 228, 66),  # yellow
    (0, 114, 178),  # blue
    (213, 94, 0),  # vermillion
    (204, 121, 167),  # reddish purple
    (136, 34, 85),  # wine
)


def _further(number: int) -> Colour:
    """A colour for each number: hues a golden section apart, so that neighbours differ, in turns light and dark."""
    red, green, blue = colorsys.hls_to_rgb(number * 0.618034 % 1, (0.55, 0.4, 0.7)[number % 3], (0.85, 0.7)[number % 2])
    return round(255 * red), round(255 * green), round(255 * blue)


COLOURS: tuple[Colour, ...] = (*_FIRST, *(_further(number) for number in range(len(_FIRST), 255)))

_ALPHA = 0.45  # of the fill: the texture of the picture stays visible
_WHITE: Colour = (255, 255, 255)
_INK: Colour = (20, 20, 20)
_POSITIVE: Colour = (0, 190, 80)
_NEGATIVE: Colour = (225, 35, 45)
_SMOOTH = 4  # dots and tags are drawn this many times as large and scaled down


def colour(object_id: int) -> Colour:
    """Red, green and blue of an object, from id 1 on; after 255 ids they come again."""
    return COLOURS[(object_id - 1) % len(COLOURS)]


def overlay(
    image: Image.Image,
    masks: Sequence[tuple[int, Mask]],
    *,
    points: Sequence[tuple[float, float, bool]] = (),
    boxes: Sequence[tuple[float, float, float, float]] = (),
) -> Image.Image:
    """``image`` (RGB) with objects and prompts over it, as a new RGB image.

    Each mask (id, bool (H, W) of the picture's size) is filled half transparent, outlined, and numbered on a small tag; empty ones show
    nothing. ``points`` (x, y, positive) in pixels become green or red dots, ``boxes`` (x0, y0, x1, y1) frames.

    Raises ``ValueError`` for a mask of another size.
    """
    picture = image.convert("RGB") if image.mode != "RGB" else image.copy()
    unit = _unit(picture)
    shown = []
    for number, mask in masks:
        if mask.shape != (picture.height, picture.width):
            raise ValueError(f"a mask of {mask.shape[1]}x{mask.shape[0]} pixels over a picture of {picture.width}x{picture.height}")
        box = box_of(mask)
        if box is not None:
            x0, y0, x1, y1 = (int(edge) for edge in box)
            inside = mask[y0:y1, x0:x1]
            shown.append((number, inside, (x0, y0)))
            picture.paste(colour(number), (x0, y0, x1, y1), Image.fromarray(inside * np.uint8(round(255 * _ALPHA))))
    if shown:
        pixels = np.array(picture)
        for number, inside, corner in shown:
            _outline(pixels, inside, corner, colour(number), unit)
        picture = Image.fromarray(pixels)
    for number, inside, corner in shown:
        _tag(picture, number, inside, corner, unit)
    for frame in boxes:
        _frame(picture, frame, unit)
    for x, y, positive in points:
        _dot(picture, x, y, _POSITIVE if positive else _NEGATIVE, unit)
    return picture


def contact_sheet(images: Sequence[Image.Image], captions: Sequence[str], columns: int | None = None, width: int = 320) -> Image.Image:
    """``images``, each scaled to ``width`` pixels, or a tall one to four times as many in height, and with its caption under it, in rows of
    ``columns`` (default: a sheet about 3:2).

    Captions too long for the width are cut with an ellipsis. Raises ``ValueError`` for no images, or another number of captions.
    """
    if not images or len(images) != len(captions):
        raise ValueError("a contact sheet needs an image, and a caption for each")
    small = [image.convert("RGB").resize(_fitted(image, width, 4 * width)) for image in images]
    height = max(image.height for image in small)
    font = lettering(max(11, width // 24))
    band = round(font.size * 1.7)
    if columns is None:
        columns = max(1, round(math.sqrt(1.5 * len(images) * (height + band) / width)))
    cells = []
    for image, caption in zip(small, captions, strict=True):
        cell = Image.new("RGB", (width, height + band), _WHITE)
        cell.paste(image, ((width - image.width) // 2, height - image.height))
        ImageDraw.Draw(cell).text((2, height + band / 2), shortened(caption, font, width - 4), fill=_INK, font=font, anchor="lm")
        cells.append(cell)
    return grid(cells, columns, pad=max(6, width // 32))


# --- the parts


def _fitted(image: Image.Image, width: int, height: int) -> tuple[int, int]:
    """The size of a picture as large as fits."""
    scale = min(width / image.width, height / image.height)
    return max(1, round(image.width * scale)), max(1, round(image.height * scale))


def _unit(picture: Image.Image) -> float:
    """How large things are drawn: 1 for a picture of 500 pixels, twice that for four times as many pixels, never below 0.5."""
    return max(0.5, math.sqrt(picture.width * picture.height) / 430)


def _outline(pixels: npt.NDArray[np.uint8], inside: Mask, corner: tuple[int, int], tint: Colour, unit: float) -> None:
    """Draw the outline of a mask, of which ``inside`` is what lies in its box at ``corner``, into ``pixels`` (H, W, 3).

    A line within the mask, and around it a thin dark rim that sets it off where the picture has the object's own colour.
    """
    line, rim = max(1, round(1.4 * unit**0.8)), max(1, round(0.6 * unit))
    margin = rim + 1
    padded = np.pad(inside, margin)
    flat, stride = padded.view(np.uint8).ravel(), padded.shape[1]
    edge = np.flatnonzero(padded & ~_core(padded))
    inner = _layers(flat, stride, edge, line - 1, among=1)
    outer = _layers(flat, stride, edge, rim, among=0)[edge.size :]
    left, top = corner[0] - margin, corner[1] - margin
    rows, columns = outer // stride + top, outer % stride + left
    seen = (rows >= 0) & (rows < pixels.shape[0]) & (columns >= 0) & (columns < pixels.shape[1])
    around = rows[seen], columns[seen]
    pixels[around] = np.rint(pixels[around] * (1 - _ALPHA) + np.array(_INK) * _ALPHA).astype(np.uint8)
    pixels[inner // stride + top, inner % stride + left] = tint


def _core(mask: Mask) -> Mask:
    """The pixels of a mask whose four neighbours are set too; none at the array's rim."""
    core = np.zeros_like(mask)
    within = core[1:-1, 1:-1]
    np.logical_and(mask[:-2, 1:-1], mask[2:, 1:-1], out=within)
    within &= mask[1:-1, :-2]
    within &= mask[1:-1, 2:]
    within &= mask[1:-1, 1:-1]
    return core


def _layers(flat: npt.NDArray[np.uint8], stride: int, layer: npt.NDArray[np.intp], count: int, *, among: int) -> npt.NDArray[np.intp]:
    """``layer`` and the ``count`` layers of pixels next to it that have the value ``among``, as indices into ``flat``, where they become 2.

    It follows the edge, which has few pixels, and so is cheaper than filters over the whole mask.
    """
    cross = np.array([-stride, -1, 1, stride])
    square = np.concatenate([cross, cross[[0, 0, 3, 3]] + np.array([-1, 1, -1, 1])])
    layers = [layer]
    flat[layer] = 2
    for turn in range(count):
        near = (layer[:, None] + (square if turn % 2 else cross)).ravel()  # in turns: nearly round
        near = near[flat[near] == among]
        flat[near] = 2
        layer = np.unique(near)
        layers.append(layer)
    return np.concatenate(layers)


def _tag(picture: Image.Image, number: int, inside: Mask, corner: tuple[int, int], unit: float) -> None:
    stamp = _tag_stamp(str(number), colour(number), max(7, round(10.5 * unit)))
    height, width = inside.shape
    x, y = _middle(inside)
    if min(width, height) < 2.5 * stamp.height:  # it would hide the object: above it, or where there is no room, below
        x, y = width / 2, -0.75 * stamp.height
        if corner[1] + y < stamp.height / 2:
            y = height + 0.75 * stamp.height
    left = min(max(0, round(corner[0] + x - stamp.width / 2)), max(0, picture.width - stamp.width))
    top = min(max(0, round(corner[1] + y - stamp.height / 2)), max(0, picture.height - stamp.height))
    picture.paste(stamp, (left, top), stamp)


def _middle(inside: Mask) -> tuple[float, float]:
    """A pixel of the mask (x, y) near its middle: of the row that halves its area, the middle of the longest run."""
    rows = np.cumsum(np.count_nonzero(inside, axis=1))
    y = int(np.searchsorted(rows, rows[-1] / 2))
    edges = np.flatnonzero(np.diff(inside[y].astype(np.int8), prepend=0, append=0))
    starts, ends = edges[::2], edges[1::2]
    longest = int(np.argmax(ends - starts))
    return float(starts[longest] + ends[longest]) / 2, y + 0.5


@lru_cache(maxsize=512)
def _tag_stamp(text: str, tint: Colour, size: int) -> Image.Image:
    """A rounded tag with a number, RGBA."""
    font = lettering(size * _SMOOTH, bold=True)
    pad = 0.42 * font.size
    width = max(font.getlength(text) + 1.5 * pad, 1.35 * font.size)
    height = 1.35 * font.size
    big = Image.new("RGBA", (round(width), round(height)))
    pen = ImageDraw.Draw(big)
    rim = size * _SMOOTH // 11 if size > 8 else 0
    pen.rounded_rectangle((0, 0, big.width - 1, big.height - 1), radius=height * 0.32, fill=(*tint, 255), outline=(*_WHITE, 255), width=rim)
    pen.text((big.width / 2, big.height / 2), text, fill=(*_ink_on(tint), 255), font=font, anchor="mm")
    return _scaled_down(big)


def _ink_on(tint: Colour) -> Colour:
    red, green, blue = tint
    return _INK if 0.299 * red + 0.587 * green + 0.114 * blue > 130 else _WHITE


def _dot(picture: Image.Image, x: float, y: float, tint: Colour, unit: float) -> None:
    stamp = _dot_stamp(tint, max(2.5, 5.0 * unit))
    picture.paste(stamp, (round(x - stamp.width / 2), round(y - stamp.height / 2)), stamp)


@lru_cache(maxsize=64)
def _dot_stamp(tint: Colour, radius: float) -> Image.Image:
    """A dot with a white rim, RGBA."""
    side = 2 * math.ceil(radius) + 1
    big = Image.new("RGBA", (side * _SMOOTH, side * _SMOOTH))
    pen, middle = ImageDraw.Draw(big), side * _SMOOTH / 2
    for part, fill in ((1.0, _WHITE), (0.72, tint)):
        reach = radius * part * _SMOOTH
        pen.ellipse((middle - reach, middle - reach, middle + reach, middle + reach), fill=(*fill, 255))
    return _scaled_down(big)


def _frame(picture: Image.Image, box: tuple[float, float, float, float], unit: float) -> None:
    """A box's frame: a green line between two thin white ones."""
    line, rim = max(1, round(1.6 * unit)), max(1, round(0.6 * unit)) if unit > 0.6 else 0
    x0, y0, x1, y1 = (round(edge) for edge in box)
    pen = ImageDraw.Draw(picture)
    for inset, width, tint in ((-rim, line + 2 * rim, _WHITE), (0, line, _POSITIVE)):
        edges = (max(0, x0 + inset), max(0, y0 + inset), min(picture.width, x1 - inset) - 1, min(picture.height, y1 - inset) - 1)
        if edges[0] <= edges[2] and edges[1] <= edges[3]:
            pen.rectangle(edges, outline=tint, width=width)


def _scaled_down(big: Image.Image) -> Image.Image:
    return big.resize((math.ceil(big.width / _SMOOTH), math.ceil(big.height / _SMOOTH)), Image.Resampling.BOX)


@lru_cache(maxsize=64)
def lettering(size: float, *, bold: bool = False) -> Any:
    """DejaVu Sans as matplotlib brings it, which has most alphabets; without it the font in Pillow, which has English only."""
    found = find_spec("matplotlib")  # not imported: that takes longer than all the drawing
    folder = Path(found.origin or "").parent if found else Path()
    try:
        return ImageFont.truetype(folder / "mpl-data" / "fonts" / "ttf" / f"DejaVuSans{'-Bold' * bold}.ttf", size)
    except OSError:
        return ImageFont.load_default(size)


def shortened(text: str, font: Any, width: float) -> str:
    text = " ".join(text.split())
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"
