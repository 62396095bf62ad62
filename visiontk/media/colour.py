"""Any picture that Pillow decodes, in any of its modes, as 8-bit RGB: alpha over white, no clipping of deeper greys."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

WHITE = (255, 255, 255)
_BITS_PER_SAMPLE = 258  # TIFF tag


def to_rgb(image: Image.Image, *, depth: int = 8) -> Image.Image:
    """A new RGB image with the pixels of ``image``, and no metadata.

    ``depth`` is the bits per sample in the file (``bit_depth``), which Pillow's modes do not tell. Transparent pixels show white. Greys of
    9 to 16 bits are scaled to 8 by their full range (16 bits: divided by 257, rounded), where ``Image.convert`` would clip them at 255.
    Floats in [0, 1] are multiplied by 255, other floats and 32-bit integers stretched from their minimum to their maximum; NaN is 0.

    Raises ``ValueError`` or ``OSError`` as Pillow does for a mode that it cannot convert.
    """
    image.load()
    transparent = _transparent_pixels(image, depth)
    if image.mode.startswith("I"):
        rgb = _grey(_integers_to_8bit(np.asarray(image), depth))
    elif image.mode == "F":
        rgb = _grey(_stretch(np.asarray(image)))
    elif transparent is None and image.has_transparency_data:
        rgb = _over_white(image)
    else:
        rgb = image.convert("RGB")
    if transparent is not None:
        rgb.paste(WHITE, mask=Image.fromarray(transparent))
    # What is in info no longer holds: an orientation left there would be applied a second time by the next library.
    rgb.info.clear()
    return rgb


def bit_depth(image: Image.Image, data: bytes) -> int:
    """Bits per sample of the file ``data`` that ``image`` was opened from, 8 where the format does not matter for the colours."""
    if image.format == "PNG":
        return data[24]  # IHDR is always first: width at 16, height at 20, then the depth
    if image.format == "TIFF":
        tags: Any = getattr(image, "tag_v2", {})
        return int(tags.get(_BITS_PER_SAMPLE, (8,))[0])
    # Pillow scales every PGM deeper than 8 bits to 16, into mode I.
    return 16 if image.format == "PPM" and image.mode == "I" else 8


def _grey(values: npt.NDArray[np.uint8]) -> Image.Image:
    return Image.fromarray(values).convert("RGB")


def _over_white(image: Image.Image) -> Image.Image:
    # La is LA premultiplied; Pillow converts it to its plain form alone.
    rgba = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
    rgb = Image.new("RGB", image.size, WHITE)
    rgb.paste(rgba, mask=rgba.getchannel("A"))
    return rgb


def _transparent_pixels(image: Image.Image, depth: int) -> npt.NDArray[np.bool_] | None:
    """Where one grey or colour was declared transparent (PNG's tRNS on images without a palette): bool (H, W), or None."""
    key = image.info.get("transparency")
    if isinstance(key, int) and image.mode in ("L", "I;16"):
        # Pillow widens samples of 1, 2 and 4 bits to 8, but hands the key as it is in the file.
        wide = key * 255 // ((1 << depth) - 1) if depth < 8 else key
        found: npt.NDArray[np.bool_] = np.asarray(image) == wide
        return found
    if isinstance(key, int) and image.mode == "1":
        bilevel: npt.NDArray[np.bool_] = np.asarray(image) == bool(key)
        return bilevel
    if isinstance(key, tuple) and image.mode == "RGB":
        # Of 16-bit RGB Pillow keeps the high bytes.
        colour = np.array([sample >> 8 if depth == 16 else sample for sample in key])
        matches: npt.NDArray[np.bool_] = (np.asarray(image) == colour).all(axis=2)
        return matches
    return None


def _integers_to_8bit(values: npt.NDArray[Any], depth: int) -> npt.NDArray[np.uint8]:
    """Greys of integer dtype (H, W), of ``depth`` bits or, where that is 32, of as many as the values need."""
    if not 8 < depth <= 16:
        peak = int(values.max(initial=0))
        if peak > 0xFFFF:
            return _stretch(values)
        depth = 16 if peak > 0xFF else 8
    top = (1 << depth) - 1
    levels = np.clip(values, 0, top).astype(np.uint32)
    scaled: npt.NDArray[np.uint8] = ((levels * 255 + top // 2) // top).astype(np.uint8)
    return scaled


def _stretch(values: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Floats or wide integers (H, W) to 0..255: by 255 where all are in [0, 1], else from their finite minimum to their finite maximum."""
    with np.errstate(invalid="ignore"):  # a signalling NaN would warn; it becomes a quiet one
        levels = values.astype(np.float64)
    levels[np.isnan(levels)] = 0.0
    finite = levels[np.isfinite(levels)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    if low >= 0.0 and high <= 1.0:
        low, high = 0.0, 1.0
    levels = (np.clip(levels, low, high) - low) / ((high - low) or 1.0)
    return np.rint(levels * 255).astype(np.uint8)
