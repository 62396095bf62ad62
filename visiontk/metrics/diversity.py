"""How much pictures of one prompt differ from seed to seed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.int64]
Features = NDArray[np.floating[Any]]
_AT_ONCE = 4096  # rows


def diversity(features: Features, rows: Numbers, prompts: Numbers, seeds: Numbers) -> tuple[float, int] | None:
    """One minus the cosine of two pictures' features, averaged over pairs of one prompt and different seeds, then over the prompts.

    Args:
        features: (M, D); may be a map of a file, of which a few rows at a time are read.
        rows: (N,), those that count.
        prompts: (N,), a number for each prompt.
        seeds: (N,), a number for each seed.

    Returns:
        The mean, from 0 (all alike) to 2, and over how many prompts; None where no prompt has two seeds.
    """
    found = [_within(features, rows[places], seeds[places]) for places in _groups(prompts) if len(np.unique(seeds[places])) > 1]
    return (float(np.mean(found)), len(found)) if found else None


def _within(features: Features, rows: Numbers, seeds: Numbers) -> float:
    """Over the pairs of one prompt. The cosines of all pairs sum to the square of the sum of the directions, so no pair is formed."""
    groups = list(_groups(seeds))
    total, same = np.zeros(features.shape[1]), 0.0
    for places in groups:
        one = _sum_of_directions(features, rows[places])
        total, same = total + one, same + _square(one)
    cosines = _square(total) - same
    pairs = len(rows) ** 2 - sum(len(places) ** 2 for places in groups)
    return 1 - cosines / pairs


def _sum_of_directions(features: Features, rows: Numbers) -> NDArray[np.float64]:
    total = np.zeros(features.shape[1])
    for first in range(0, len(rows), _AT_ONCE):
        vectors = np.asarray(features[rows[first : first + _AT_ONCE]], np.float64)
        total += (vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.finfo(np.float64).tiny)).sum(0)
    return total


def _square(sums: NDArray[np.float64]) -> float:
    return float(np.sum(sums**2))


def _groups(numbers: Numbers) -> Iterator[NDArray[np.intp]]:
    """The places of each number."""
    order = np.argsort(numbers, kind="stable")
    yield from np.split(order, np.flatnonzero(np.diff(numbers[order])) + 1)
