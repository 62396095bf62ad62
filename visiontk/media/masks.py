"""Masks of objects: COCO run lengths, boxes, indexed and binary PNGs, outlines and cut-outs.

A mask is a bool array (H, W). An index map is an unsigned array (H, W) of the id of the object at each pixel, 0 where there is none.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import Image, PngImagePlugin
from pycocotools import mask as coco

from visiontk.errors import ItemError
from visiontk.media.colour import bit_depth
from visiontk.media.images import MAX_PIXELS
from visiontk.media.quiet import ignore_pillow_warnings

Mask = npt.NDArray[np.bool_]
MAX_ID = 0xFFFF  # what a 16-bit PNG holds

_LOSSLESS = ("PNG", "TIFF", "BMP", "GIF")  # compression with loss would put colours between the objects that mean nothing
_MAX_COLOURS = 1024  # a mask with more is a photo given by mistake
_MADE_BY, _NAME = "Software", "visiontk"  # a keyword of the PNG standard, 11.3.3.2
_MAX_DIGITS = 7  # of 5 bits each, in one run length: enough for MAX_PIXELS, and no overflow


def encode_rle(mask: Mask) -> dict[str, Any]:
    """``mask`` as compressed COCO RLE: ``{"size": [height, width], "counts": str}``, its runs column by column, the first one of zeros."""
    # Compared with 0, because Pillow hands out bools that are 255 inside.
    encoded = coco.encode(np.asfortranarray(mask).view(np.uint8) != 0)
    return {"size": [int(side) for side in mask.shape], "counts": encoded["counts"].decode("ascii")}


def decode_rle(value: object) -> Mask:
    """The mask of COCO RLE, compressed (``counts`` a string) or not (a list of run lengths).

    Written here and not left to pycocotools, which reads past the end of a string that is cut short and fills up what the runs leave out.

    Raises ``ItemError`` (``bad_record``) for what is no RLE, or one whose runs do not add up to its size.
    """
    height, width = _rle_size(value)
    assert isinstance(value, dict)
    text = value.get("counts")
    if isinstance(text, str):
        runs = _decompress(text)
    elif isinstance(text, list) and all(isinstance(run, int) and 0 <= run <= MAX_PIXELS for run in text):
        runs = np.array(text, dtype=np.int64)
    else:
        raise _no_rle("its counts are neither a string nor a list of whole numbers")
    pixels = height * width
    if runs.min(initial=0) < 0 or runs.max(initial=0) > pixels or int(runs.sum()) != pixels:
        raise _no_rle(f"its runs do not add up to {height} x {width} pixels")
    flat = np.repeat(np.arange(runs.size) % 2 == 1, runs)
    return np.ascontiguousarray(flat.reshape(width, height).T)


def _rle_size(value: object) -> tuple[int, int]:
    size = value.get("size") if isinstance(value, dict) else None
    if not isinstance(size, list | tuple) or len(size) != 2 or not all(type(side) is int and side > 0 for side in size):
        raise _no_rle('it is not of the form {"size": [height, width], "counts": "..."}')
    if size[0] * size[1] > MAX_PIXELS:
        raise _no_rle(f"it has {size[1]}x{size[0]} pixels, over the limit of {MAX_PIXELS:,}")
    return size[0], size[1]


def _decompress(text: str) -> npt.NDArray[np.int64]:
    """Run lengths of compressed counts; cocoapi, ``rleFrString`` in common/maskApi.c.

    A number is written in digits of 5 bits, lowest first, each as the character 48 + digit, + 32 where more follow; the highest bit of its
    last digit is the sign. From the fourth number on, each is the difference to the one two before it.
    """
    if not text:
        return np.zeros(0, dtype=np.int64)
    codes = np.array([-1]) if not text.isascii() else np.frombuffer(text.encode("ascii"), np.uint8).astype(np.int64) - 48
    if codes.min() < 0 or codes.max() > 63 or codes[-1] & 32:
        raise _no_rle("its counts are not compressed run lengths")
    last = np.flatnonzero(codes & 32 == 0)
    lengths = np.diff(last, prepend=-1)
    if lengths.max() > _MAX_DIGITS:
        raise _no_rle("its counts are not compressed run lengths")
    first = last - lengths + 1
    place = np.arange(codes.size) - np.repeat(first, lengths)
    numbers = np.add.reduceat((codes & 31) << 5 * place, first)
    numbers -= np.where(codes[last] & 16, 1 << 5 * lengths, 0)
    for start in (1, 2):
        numbers[start::2] = np.cumsum(numbers[start::2])
    return numbers


def _no_rle(reason: str) -> ItemError:
    return ItemError("bad_record", f"a mask is no COCO RLE: {reason}")


def area(mask: Mask) -> int:
    """Pixels that are set."""
    return int(np.count_nonzero(mask))


def box_of(mask: Mask) -> list[float] | None:
    """``[x0, y0, x1, y1]`` in pixels around what is set, right and bottom edge exclusive; None where nothing is."""
    rows = np.flatnonzero(mask.any(axis=1))
    if not rows.size:
        return None
    top, bottom = int(rows[0]), int(rows[-1]) + 1
    columns = np.flatnonzero(mask[top:bottom].any(axis=0))
    return [float(columns[0]), float(top), float(columns[-1] + 1), float(bottom)]


def read_index_map(path: str | Path) -> npt.NDArray[np.uint16]:
    """The index map (H, W) in an image file without loss (PNG, TIFF, BMP, GIF).

    Palette and grey images give their values as they are (a binary mask of 0 and 255: 0 and 255; one bit: also). In a colour image each
    colour but black gets an index from 1 on, in the order of its appearance row by row. Transparent pixels are 0.

    Raises ``ItemError``: ``missing``, ``unreadable``, ``not_an_image``, ``broken``, ``too_large``.
    """
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError as error:
        raise ItemError("missing", f"there is no mask {path}; name a PNG, from the current folder on") from error
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise ItemError("unreadable", f"the mask {path} cannot be read: {reason}") from error
    ignore_pillow_warnings()
    try:
        picture = Image.open(io.BytesIO(data), formats=_LOSSLESS)
    except (Image.DecompressionBombError, MemoryError) as error:
        raise ItemError("too_large", f"the mask {path} is too large to decode") from error
    except Exception as error:  # hostile bytes
        raise ItemError("not_an_image", f"the mask {path} is no image without loss; save it as PNG") from error
    if picture.width * picture.height > MAX_PIXELS:
        raise ItemError("too_large", f"the mask {path} has {picture.width}x{picture.height} pixels, over the limit of {MAX_PIXELS:,}")
    try:
        found = _indices(picture, bit_depth(picture, data))
    except Exception as error:  # as above
        raise ItemError("broken", f"the mask {path} is damaged ({error})") from error
    if found is None:
        raise ItemError("broken", f"the mask {path} has over {_MAX_COLOURS:,} colours, so it is no mask; give it one colour per object")
    return found


def _indices(picture: Image.Image, depth: int) -> npt.NDArray[np.uint16] | None:
    """The index map of a picture of any mode, or None where it has too many colours."""
    if picture.mode in ("LA", "PA"):
        values = np.asarray(picture)
        return np.where(values[..., 1] > 0, values[..., 0], 0).astype(np.uint16)
    if picture.mode == "1":
        return np.asarray(picture.convert("L")).astype(np.uint16)
    if picture.mode == "L" and depth < 8:  # Pillow has stretched 2 and 4 bits to 8
        return np.asarray(picture).astype(np.uint16) // np.uint16(255 // ((1 << depth) - 1))
    if picture.mode in ("P", "L") or picture.mode.startswith("I"):
        whole = np.asarray(picture)
        if whole.min() < 0 or whole.max() > MAX_ID:
            raise ValueError(f"its values go from {whole.min()} to {whole.max()}")
        return whole.astype(np.uint16)
    return _number_colours(np.asarray(picture.convert("RGBA")))


def _number_colours(rgba: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint16] | None:
    packed = np.ascontiguousarray(rgba).view("<u4").ravel()
    packed = np.where(packed >> 24, packed & 0xFFFFFF, 0)
    # Sorting millions of pixels is slow, and a mask has few runs of one colour.
    starts = np.concatenate([[0], np.flatnonzero(packed[1:] != packed[:-1]) + 1])
    colours, first, which = np.unique(packed[starts], return_index=True, return_inverse=True)
    if colours.size > _MAX_COLOURS:
        return None
    indices = np.zeros(colours.size, np.uint16)
    in_order = [number for number in np.argsort(first) if colours[number]]
    indices[in_order] = np.arange(1, len(in_order) + 1)
    return np.repeat(indices[which], np.diff(starts, append=packed.size)).reshape(rgba.shape[:2])


def index_map(masks: Sequence[tuple[int, Mask]], shape: tuple[int, int]) -> npt.NDArray[np.uint8] | npt.NDArray[np.uint16]:
    """Pairs of an id (1 to 65,535) and its mask as one map of ``shape`` (H, W), later ones over earlier; uint16 where an id is over 255."""
    largest = max((number for number, _ in masks), default=0)
    if largest > MAX_ID or min((number for number, _ in masks), default=1) < 1:
        raise ValueError(f"ids must be from 1 to {MAX_ID:,}")
    found: Any = np.zeros(shape, np.uint8 if largest <= 0xFF else np.uint16)
    for number, mask in masks:
        np.copyto(found, number, where=mask, casting="unsafe")
    return found  # type: ignore[no-any-return]


def write_indexed_png(file: BinaryIO, map: npt.NDArray[np.uint8] | npt.NDArray[np.uint16]) -> None:
    """An index map as DAVIS has it: a palette PNG with the Pascal VOC colours; with ids over 255, a grey one of 16 bits."""
    if map.max(initial=0) > 0xFF:
        write_png(file, Image.fromarray(map.astype(np.uint16)))
        return
    image = Image.fromarray(map.astype(np.uint8))
    image.putpalette(voc_palette().tobytes())
    write_png(file, image)


def write_png(file: BinaryIO, image: Image.Image) -> None:
    """A PNG that says what made it, for `is_own_png`."""
    about = PngImagePlugin.PngInfo()
    about.add_text(_MADE_BY, _NAME)
    image.save(file, format="PNG", pnginfo=about)


def is_own_png(path: Path) -> bool:
    """Whether `write_png` made the file."""
    ignore_pillow_warnings()
    try:
        with Image.open(path, formats=["PNG"]) as image:
            return image.info.get(_MADE_BY) == _NAME
    except Exception:  # noqa: BLE001  hostile bytes; whatever it is, it is not ours
        return False


def voc_palette() -> npt.NDArray[np.uint8]:
    """Colours (256, 3), uint8, after ``VOClabelcolormap`` of the VOC devkit: each channel takes every third bit of the index, reversed."""
    index = np.arange(256)
    palette = np.zeros((256, 3), np.uint8)
    for bit in range(8):
        for channel in range(3):
            palette[:, channel] |= ((index >> (3 * bit + channel) & 1) << (7 - bit)).astype(np.uint8)
    return palette


def write_binary_png(file: BinaryIO, mask: Mask) -> None:
    """``mask`` as a grey PNG of 0 and 255."""
    write_png(file, Image.fromarray(mask.astype(np.uint8) * np.uint8(255)))


def polygons(mask: Mask) -> list[list[tuple[float, float]]]:
    """The outer outlines of ``mask`` as (x, y) in pixels, where the pixel in column i covers x from i to i + 1; the largest first.

    Each has three points or more, the last not the first one again. Corners are cut by half a pixel, so every pixel centre lies on the side
    where it belongs; holes are left out, as the formats that take polygons cannot say them.
    """
    from contourpy import FillType, contour_generator

    box = box_of(mask)
    if box is None:
        return []
    x0, y0, x1, y1 = (int(edge) for edge in box)
    padded = np.pad(mask[y0:y1, x0:x1], 1).astype(np.float32)
    found: Any = contour_generator(z=padded, fill_type=FillType.OuterOffset).filled(0.5, 2.0)
    # The padding has moved centres by one pixel, and a centre stands half a pixel from its pixel's edge.
    move = np.array([x0 - 0.5, y0 - 0.5])
    outlines = [_without_collinear(points[: offsets[1] - 1]) + move for points, offsets in zip(*found, strict=True)]
    outlines.sort(key=_polygon_area, reverse=True)
    return [[(float(x), float(y)) for x, y in outline] for outline in outlines]


def _without_collinear(points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """A closed outline (N, 2) without the points that lie between their neighbours."""
    before, after = points - np.roll(points, 1, axis=0), np.roll(points, -1, axis=0) - points
    turns: npt.NDArray[np.float64] = points[before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]]
    return turns


def _polygon_area(points: npt.NDArray[np.float64]) -> float:
    x, y = points.T
    return float(abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2)


def cutout(image: Image.Image, mask: Mask) -> Image.Image:
    """What ``mask`` covers of ``image`` (RGB), as RGBA cropped to the mask's box; transparent pixels are black.

    Raises ``ValueError`` for a mask of another size, or an empty one.
    """
    box = box_of(mask)
    if box is None or mask.shape != (image.height, image.width):
        raise ValueError(f"a cut-out of {image.width}x{image.height} pixels needs a mask of that size that is not empty")
    x0, y0, x1, y1 = (int(edge) for edge in box)
    inside = mask[y0:y1, x0:x1, None]
    pixels = np.asarray(image.crop((x0, y0, x1, y1)).convert("RGB"))
    return Image.fromarray(np.concatenate([pixels * inside, inside * np.uint8(255)], axis=2))
