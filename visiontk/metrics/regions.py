"""Region similarity: how much two masks overlap."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]


def jaccard(predicted: Mask, truth: Mask) -> float:
    """J, the Jaccard index (intersection over union) of two masks (H, W), in [0, 1]; 1 where both are empty.

    Source: Perazzi et al., A Benchmark Dataset and Evaluation Methodology for Video Object Segmentation (DAVIS 2016), section 5;
    ``db_eval_iou`` of davis2017-evaluation.

    Raises:
        ValueError: the masks differ in shape.
    """
    check_shapes(predicted, truth)
    union = np.count_nonzero(predicted | truth)
    return np.count_nonzero(predicted & truth) / union if union else 1.0


def check_shapes(predicted: Mask, truth: Mask) -> None:
    """Raise ValueError unless both are masks (H, W) of one size."""
    if predicted.shape != truth.shape or truth.ndim != 2:
        raise ValueError(f"the masks have the shapes {predicted.shape} and {truth.shape}, and not one (height, width)")


def split(index_map: NDArray[np.integer[Any]]) -> dict[int, Mask]:
    """The mask (H, W) of each index but 0 in a map of object numbers (H, W), by number."""
    present = np.flatnonzero(np.bincount(index_map.ravel()))
    return {int(number): index_map == number for number in present if number}
