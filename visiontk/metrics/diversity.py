"""How much pictures of one prompt differ from seed to seed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.int64]
Features = NDArray[np.floating[Any]]


def diversity(features: Features, prompts: Numbers, seeds: Numbers) -> tuple[float, int] | None:
    """One minus the cosine of two pictures' features, averaged over pairs of one prompt and different seeds, then over the prompts.

    Args:
        features: (N, D).
        prompts: (N,), a number for each prompt.
        seeds: (N,), a number for each seed.

    Returns:
        The mean, from 0 (all alike) to 2, and over how many prompts; None where no prompt has two seeds.
    """
    found = [_within(features[rows], seeds[rows]) for rows in _groups(prompts) if len(np.unique(seeds[rows])) > 1]
    return (float(np.mean(found)), len(found)) if found else None


def _within(features: Features, seeds: Numbers) -> float:
    """Over the pairs of one prompt. The cosines of all pairs sum to the square of the sum of the directions, so no pair is formed."""
    vectors = np.asarray(features, np.float64)
    directions = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.finfo(np.float64).tiny)
    same = [directions[rows] for rows in _groups(seeds)]
    cosines = _square(directions) - sum(_square(one) for one in same)
    pairs = len(vectors) ** 2 - sum(len(one) ** 2 for one in same)
    return 1 - cosines / pairs


def _square(directions: NDArray[np.float64]) -> float:
    return float(np.sum(directions.sum(0) ** 2))


def _groups(numbers: Numbers) -> Iterator[NDArray[np.intp]]:
    """The places of each number."""
    order = np.argsort(numbers, kind="stable")
    yield from np.split(order, np.flatnonzero(np.diff(numbers[order])) + 1)
