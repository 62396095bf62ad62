"""Boundary accuracy: how well the outlines of two masks lie on each other."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from .regions import Mask, check_shapes

TOLERANCE = 0.008  # of the picture's diagonal


def boundary_f(predicted: Mask, truth: Mask, tolerance: float = TOLERANCE) -> float:
    """F, the harmonic mean of precision and recall of the boundary pixels of two masks (H, W), in [0, 1].

    A boundary pixel is matched when the other mask has one within ``ceil(tolerance * diagonal)`` pixels. No boundary in either mask gives 1
    (a mask that fills the picture has none), none in one of them 0.

    Source: Perazzi et al., A Benchmark Dataset and Evaluation Methodology for Video Object Segmentation (DAVIS 2016), section 5;
    ``db_eval_boundary`` of davis2017-evaluation.

    Raises:
        ValueError: the masks differ in shape.
    """
    check_shapes(predicted, truth)
    radius = math.ceil(tolerance * math.hypot(*truth.shape))
    ours, theirs = boundary(predicted), boundary(truth)
    found, wanted = np.count_nonzero(ours), np.count_nonzero(theirs)
    if not found or not wanted:
        return float(found == wanted)
    precision = _near(ours, theirs, radius) / found
    recall = _near(theirs, ours, radius) / wanted
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def boundary(mask: Mask) -> Mask:
    """The pixels (H, W) at which the boundary of a mask runs.

    A pixel is on the boundary when it differs from its neighbour to the right, below, or below to the right; in the last row only the right
    one counts, in the last column only the one below. This is ``_seg2bmap`` of davis2017-evaluation, from the Berkeley segmentation
    benchmark (Martin, 2003).
    """
    found = np.zeros(mask.shape, np.bool_)
    here = mask[:-1, :-1]
    found[:-1, :-1] = (here ^ mask[:-1, 1:]) | (here ^ mask[1:, :-1]) | (here ^ mask[1:, 1:])
    found[-1, :-1] = mask[-1, :-1] ^ mask[-1, 1:]
    found[:-1, -1] = mask[:-1, -1] ^ mask[1:, -1]
    return found


def dilate(mask: Mask, radius: int) -> Mask:
    """Every pixel (H, W) that has one of the mask within ``radius``, by Euclidean distance between centres.

    One pass along the rows gives each pixel's distance to the mask in its own row; a pixel is reached when that distance is at most the
    half width of the disk, in a row of the disk. Small integers keep both passes a few milliseconds for a megapixel.
    """
    far = radius + 1
    distance = np.where(mask, 0, far).astype(np.min_scalar_type(3 * far))
    step = 1
    while step <= radius:  # after steps of 1, 2, 4 ... distances up to their sum are known
        spread = distance + distance.dtype.type(step)
        np.minimum(distance[:, step:], spread[:, :-step], out=distance[:, step:])
        np.minimum(distance[:, :-step], spread[:, step:], out=distance[:, :-step])
        step *= 2
    reached = distance <= radius
    for offset in range(1, min(radius, len(mask) - 1) + 1):
        inside = distance <= math.isqrt(radius**2 - offset**2)
        reached[offset:] |= inside[:-offset]
        reached[:-offset] |= inside[offset:]
    return reached


def _near(points: Mask, others: Mask, radius: int) -> int:
    """How many of ``points`` (H, W) have one of ``others``, which has some, within ``radius``."""
    window = _stretch(np.any(others, axis=1), radius), _stretch(np.any(others, axis=0), radius)
    return int(np.count_nonzero(points[window] & dilate(others[window], radius)))


def _stretch(present: NDArray[np.bool_], margin: int) -> slice:
    """From the first to the last that is set, with a margin on both sides."""
    places = np.flatnonzero(present)
    return slice(max(0, int(places[0]) - margin), int(places[-1]) + margin + 1)
