"""The few-shot probe of the ViT paper (section 4.1, arXiv 2010.11929): how good frozen features are, from a few images of each class.

Least squares from features to targets of plus and minus one, in closed form, as in big_vision's ``evaluators/fewshot_lsr.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

BIAS = 100.0  # the constant feature: so large that its weight is hardly regularised
L2 = 2.0**10
SEEDS = 3
SHOTS = (1, 5, 10, 25)


def ridge(features: Tensor, labels: Tensor, classes: int, l2: float = L2) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and deviation of the features, and the weights (D + 1, classes) for standardised features with the bias behind them.

    With N images and D features the smaller of two equal forms is solved, by the eigenvalues of a symmetric matrix:
    (X'X + l2 I)^-1 X'Y where N >= D, else X' (XX' + l2 I)^-1 Y.

    Args:
        features: (N, D); computed in float64.
        labels: int64 (N).
    """
    x = features.double()
    mean, std = x.mean(0), x.std(0, correction=0) + 1e-5
    x = _standardise(x, mean, std)
    y = 2.0 * torch.nn.functional.one_hot(labels, classes).double() - 1.0
    if len(x) >= x.shape[1]:
        eigenvalues, basis = torch.linalg.eigh(x.T @ x)
        left, right = basis, basis.T @ (x.T @ y)
    else:
        eigenvalues, basis = torch.linalg.eigh(x @ x.T)
        left, right = x.T @ basis, basis.T @ y
    return mean, std, (left / (eigenvalues + l2)) @ right


def accuracy(solved: tuple[Tensor, Tensor, Tensor], features: Tensor, labels: Tensor) -> float:
    """Share of the images (N, D) whose largest output is their class."""
    mean, std, weights = solved
    outputs = _standardise(features.double(), mean, std) @ weights
    return float((outputs.argmax(1) == labels).double().mean())


def draw(labels: Tensor, classes: int, shots: int, seed: int) -> Tensor:
    """Places of up to ``shots`` images of each class; fewer shots draw a part of what more draw."""
    generator = np.random.default_rng(seed)
    numbers: NDArray[np.int64] = labels.numpy()
    chosen = [generator.permutation(np.flatnonzero(numbers == label))[:shots] for label in range(classes)]
    return torch.from_numpy(np.concatenate(chosen))


def few_shot(
    train: tuple[Tensor, Tensor], measured: dict[str, tuple[Tensor, Tensor]], classes: int, shots: Sequence[int] = SHOTS
) -> dict[str, dict[str, Any]]:
    """Accuracies by split and shots: the mean over `SEEDS` draws, and each.

    Args:
        train: features (N, D) and labels (N) that the shots are drawn from.
        measured: the same for each split that is measured.
    """
    found: dict[str, dict[str, Any]] = {name: {} for name in measured}
    for count in shots:
        drawn = [draw(train[1], classes, count, seed) for seed in range(SEEDS)]
        solved = [ridge(train[0][places], train[1][places], classes) for places in drawn]
        for name, (features, labels) in measured.items():
            each = [round(accuracy(weights, features, labels), 6) for weights in solved]
            found[name][str(count)] = {"accuracy": round(sum(each) / len(each), 6), "each": each}
    return found


def _standardise(features: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    scaled = (features - mean) / std
    return torch.cat([scaled, scaled.new_full((len(scaled), 1), BIAS)], dim=1)
