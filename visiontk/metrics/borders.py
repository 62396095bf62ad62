"""What colour a picture has where its subject ends."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_LEAST = 2  # pixels
_SHARE = 32  # of the shorter side


def border_colour(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The median colour (3,) of a border as wide as 1/32 of the shorter side, 2 pixels at least, of ``pixels`` (H, W, 3).

    Each channel has its own median, so what touches less than half of the border does not count.
    """
    width = max(_LEAST, min(pixels.shape[:2]) // _SHARE)
    edge = np.ones(pixels.shape[:2], np.bool_)
    edge[width:-width, width:-width] = False
    middle: NDArray[np.uint8] = np.median(pixels[edge], axis=0).round().astype(np.uint8)
    return middle
