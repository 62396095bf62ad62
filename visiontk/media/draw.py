"""Pictures of results: a heat map over an image, and several images in a grid."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

# Seventeen evenly spaced colours of "inferno" by Nathaniel Smith and Stefan van der Walt (matplotlib's _cm_listed.py, CC0); in between
# they are interpolated, at most 7 of 255 off the original.
_INFERNO = np.array(
    [
        (0, 0, 4),
        (11, 7, 36),
        (33, 12, 74),
        (60, 9, 101),
        (87, 16, 109),
        (112, 25, 110),
        (137, 34, 106),
        (163, 43, 97),
        (187, 55, 85),
        (209, 70, 68),
        (227, 89, 50),
        (241, 113, 30),
        (249, 141, 10),
        (252, 171, 15),
        (249, 202, 50),
        (242, 232, 101),
        (252, 255, 164),
    ],
    dtype=np.float32,
)
_MAX_ALPHA = 0.75  # of the hottest pixel: a quarter of the picture still shows through


def overlay_heatmap(image: Image.Image, heat: npt.NDArray[Any]) -> Image.Image:
    """``image`` (RGB) with ``heat`` (h, w), float of any range, laid over it as colours; a new RGB image of the size of ``image``.

    The heat is brought to [0, 1] (negative values lift the whole map, NaN and infinities count as its minimum, the maximum becomes 1),
    then resized bilinearly. The opacity grows with the heat: cold pixels keep their colour, the hottest take three quarters of the map's.

    Raises ``ValueError`` where ``heat`` is not two-dimensional or empty.
    """
    if heat.ndim != 2 or not heat.size:
        raise ValueError(f"heat must be of shape (h, w), not {heat.shape}")
    levels = np.asarray(Image.fromarray(_normalise(heat)).resize(image.size, Image.Resampling.BILINEAR))
    levels = np.clip(levels, 0.0, 1.0)
    alpha = _MAX_ALPHA * levels[..., None]
    pixels = np.asarray(image.convert("RGB"), dtype=np.float32)
    return Image.fromarray(np.rint(pixels * (1 - alpha) + inferno(levels) * alpha).astype(np.uint8))


def inferno(levels: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Colours (..., 3), float32 in [0, 255], for ``levels`` (...) in [0, 1]: black, purple, orange, pale yellow."""
    position = np.linspace(0.0, 1.0, len(_INFERNO))
    channels = [np.interp(levels, position, _INFERNO[:, channel]) for channel in range(3)]
    return np.stack(channels, axis=-1).astype(np.float32)


def grid(images: Sequence[Image.Image], columns: int, *, pad: int = 2, background: tuple[int, int, int] = (255, 255, 255)) -> Image.Image:
    """``images`` in rows of ``columns``, with ``pad`` pixels of ``background`` between and around them, as one RGB image.

    Every cell is as large as the largest image; smaller ones stand in the middle of theirs. Raises ``ValueError`` for no images, fewer than
    one column or a negative pad.
    """
    if not images or columns < 1 or pad < 0:
        raise ValueError("a grid needs an image, a column and a pad that is not negative")
    width, height = max(image.width for image in images), max(image.height for image in images)
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    sheet = Image.new("RGB", (pad + columns * (width + pad), pad + rows * (height + pad)), background)
    for number, image in enumerate(images):
        row, column = divmod(number, columns)
        left = pad + column * (width + pad) + (width - image.width) // 2
        top = pad + row * (height + pad) + (height - image.height) // 2
        sheet.paste(image.convert("RGB"), (left, top))
    return sheet


def _normalise(heat: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Float32 in [0, 1] with maximum 1, or all 0 where nothing is hot."""
    values = heat.astype(np.float64)
    finite = np.isfinite(values)
    low = float(values[finite].min()) if finite.any() else 0.0
    values = np.where(finite, values, low) - min(low, 0.0)
    peak = float(values.max())
    scaled: npt.NDArray[np.float32] = (values / peak if peak > 0 else np.zeros_like(values)).astype(np.float32)
    return scaled
