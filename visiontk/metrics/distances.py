"""How far two sets of pictures lie apart, by the features that a network has of them: arrays (pictures, features).

Arrays are read in pieces and counted in float64, so they may be memory-mapped files of float32.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Features = NDArray[np.floating[Any]]
Floats = NDArray[np.float64]

_ROWS = 4096  # of a piece
_LEAST_SUBSETS = 10


@dataclass(frozen=True)
class Gaussian:
    """A set of features as a normal distribution.

    Attributes:
        mean: float64 (D,).
        factor: float64 (at most D, D): the covariance is ``factor.T @ factor``.
        count: how many pictures it stands for.
    """

    mean: Floats
    factor: Floats
    count: int

    @property
    def is_singular(self) -> bool:
        """Whether there are too few pictures for a covariance of full rank, however they look."""
        return self.count <= len(self.mean)


@dataclass(frozen=True)
class KernelDistance:
    """A kernel distance, an estimate that may fall below 0.

    Attributes:
        value: the mean over the subsets.
        error: its standard error; None where there was but one subset.
        subsets, size: how many subsets there were, and of how many pictures of either side.
    """

    value: float
    error: float | None
    subsets: int
    size: int


def gaussian(features: Features) -> Gaussian:
    """The mean and unbiased covariance of ``features`` (N, D), N at least 2.

    The covariance is kept as the triangle of a QR decomposition, piece by piece: nothing is squared, so it loses no digits.

    Raises:
        ValueError: there are fewer than two rows.
    """
    count, width = features.shape
    if count < 2:
        raise ValueError("the covariance of fewer than two pictures is not defined")
    mean = np.sum([piece.sum(0) for piece in _pieces(features)], axis=0) / count
    factor = np.empty((0, width))
    for piece in _pieces(features):
        factor = np.asarray(np.linalg.qr(np.concatenate([factor, piece - mean]), mode="r"))
    return Gaussian(mean, factor / np.sqrt(count - 1), count)


def frechet_distance(first: Gaussian, second: Gaussian) -> float:
    """The squared Fréchet distance of two normal distributions, ``|m1 - m2|^2 + Tr(C1 + C2 - 2 (C1 C2)^(1/2))``.

    With ``C = F^T F`` the trace of the root is the sum of the singular values of ``F1 F2^T``, which are real and not negative even where
    the covariances are singular. The usual way, over the eigenvalues or the root of the product ``C1 C2``, needs care there.

    Source: Heusel et al., GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium, 2017, equation 6.
    """
    means = np.sum((first.mean - second.mean) ** 2)
    traces = np.sum(first.factor**2) + np.sum(second.factor**2)
    root = np.linalg.svd(first.factor @ second.factor.T, compute_uv=False).sum()
    return max(0.0, float(means + traces - 2 * root))  # rounding may bring equal sets below 0


def kernel_distance(first: Features, second: Features, *, seed: int = 0, size: int = 1000, subsets: int = 100) -> KernelDistance:
    """The squared maximum mean discrepancy of two sets of features (N, D) and (M, D), averaged over random subsets.

    Subsets share no picture, so that their values are independent and their spread gives a standard error; other tools draw them anew from
    all pictures, which has the same mean. There are at least ten where the pictures suffice, of at most ``size`` each.

    Source: Binkowski et al., Demystifying MMD GANs, 2018, section 4.

    Raises:
        ValueError: a set has fewer than two rows.
    """
    fewest = min(len(first), len(second))
    size = min(size, max(2, fewest // _LEAST_SUBSETS))
    subsets = min(subsets, fewest // size)
    if subsets < 1:
        raise ValueError("the kernel distance needs two pictures of each set")
    chance = np.random.default_rng(seed)
    drawn = [chance.permutation(len(one))[: subsets * size].reshape(subsets, size) for one in (first, second)]
    values = [squared_mmd(np.asarray(first[ours]), np.asarray(second[theirs])) for ours, theirs in zip(*drawn, strict=True)]
    error = float(np.std(values, ddof=1) / np.sqrt(subsets)) if subsets > 1 else None
    return KernelDistance(float(np.mean(values)), error, subsets, size)


def squared_mmd(first: Features, second: Features) -> float:
    """The unbiased estimate of MMD^2 under the kernel ``(x.y / D + 1)^3`` for features (N, D) and (M, D).

    Source: Binkowski et al. 2018, equation 4; the estimate is that of Gretton et al., A Kernel Two-Sample Test, 2012, lemma 6.
    """
    x, y = (np.asarray(one, np.float64) for one in (first, second))
    return _mean_of_pairs(x) + _mean_of_pairs(y) - 2 * float(_kernel(x, y).mean())


def _mean_of_pairs(x: Floats) -> float:
    """The mean of the kernel over all pairs of different rows."""
    values = _kernel(x, x)
    return float(values.sum() - values.trace()) / (len(x) * (len(x) - 1))


def _kernel(x: Floats, y: Floats) -> Floats:
    values: Floats = (x @ y.T / x.shape[1] + 1) ** 3
    return values


def _pieces(features: Features) -> Iterator[Floats]:
    for start in range(0, len(features), _ROWS):
        yield np.asarray(features[start : start + _ROWS], np.float64)
