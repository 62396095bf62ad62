"""Edges by Canny's method, with numpy: smoothed, sharpest across their direction, and strong or joined to what is strong.

FFmpeg's filter ``edgedetect``, which PyAV brings, loses the edges of flat drawings: where a step lies between two pixels both are equally
steep, and it drops both.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Lines = npt.NDArray[np.bool_]

SIGMA = 1.4  # pixels
WEAK, STRONG = 0.2, 0.4  # of Sobel's gradient of values from 0 to 1, in which a sharp step from 0 to 1 has 4 before smoothing

# From a pixel to the next one across its edge, by the gradient's direction in eighths of a turn.
_ACROSS = ((0, 1), (1, 1), (1, 0), (1, -1))


def canny(luma: npt.NDArray[np.uint8]) -> Lines:
    """Where the edges of a grey picture (H, W) are, one pixel wide.

    Source: Canny, A Computational Approach to Edge Detection, 1986, with directions in eighths of a turn. Of two pixels that are equally
    steep the right or lower one counts.
    """
    smooth = _smoothed(luma.astype(np.float32) / np.float32(255))
    down, right = _sobel(smooth, 0), _sobel(smooth, 1)
    steepness = np.hypot(down, right)
    sharpest = _sharpest(steepness, down, right)
    return _joined(sharpest & (steepness >= STRONG), sharpest & (steepness >= WEAK))


def _smoothed(values: Floats) -> Floats:
    """By a Gaussian; beyond its border the picture goes on as at the border."""
    reach = round(3 * SIGMA)
    weights = np.exp(-((np.arange(-reach, reach + 1) / SIGMA) ** 2) / 2)
    for _ in range(2):
        padded = np.pad(values, ((reach, reach), (0, 0)), mode="edge")
        values = np.einsum("ijk,k->ij", np.lib.stride_tricks.sliding_window_view(padded, len(weights), axis=0), weights / weights.sum()).T
    return values.astype(np.float32)


def _sobel(values: Floats, axis: int) -> Floats:
    """The derivative along an axis, smoothed across it."""
    padded = np.pad(np.moveaxis(values, axis, 0), 1, mode="edge")
    slope = padded[2:] - padded[:-2]
    return np.moveaxis(slope[:, :-2] + 2 * slope[:, 1:-1] + slope[:, 2:], 0, axis)


def _sharpest(steepness: Floats, down: Floats, right: Floats) -> Lines:
    """Pixels that are steeper than the next one across the edge on the one side, and not less steep than that on the other."""
    eighths = np.rint(np.arctan2(down, right) / (np.pi / 4)).astype(np.int64) % 4
    padded = np.pad(steepness, 1)
    height, width = steepness.shape
    found = np.zeros(steepness.shape, np.bool_)
    for number, (y, x) in enumerate(_ACROSS):
        ahead, behind = (padded[1 + sign * y : 1 + sign * y + height, 1 + sign * x : 1 + sign * x + width] for sign in (1, -1))
        found |= (eighths == number) & _steeper(steepness, ahead) & ~_steeper(behind, steepness)
    return found


def _steeper(one: Floats, other: Floats) -> Lines:
    """By more than rounding."""
    found: Lines = one > other + 1e-5
    return found


def _joined(strong: Lines, weak: Lines) -> Lines:
    """The strong pixels, and of the weak ones those that touch them, directly or through other weak ones."""
    open_, stride = np.pad(weak & ~strong, 1).ravel(), strong.shape[1] + 2
    found = np.pad(strong, 1).ravel()
    around = np.array([-stride - 1, -stride, -stride + 1, -1, 1, stride - 1, stride, stride + 1])
    front = np.flatnonzero(found)
    while front.size:
        near = (front[:, None] + around).ravel()
        front = np.unique(near[open_[near]])
        open_[front], found[front] = False, True
    return found.reshape(-1, stride)[1:-1, 1:-1]
