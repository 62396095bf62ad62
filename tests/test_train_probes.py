"""The probes, against independent computations."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from visiontk.training import fewshot
from visiontk.training.probe import logistic_regression


def blobs(classes: int, each: int, dimensions: int, noise: float, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(classes, dimensions))
    labels = np.repeat(np.arange(classes), each)
    features = centres[labels] * 3 + 5 + noise * generator.normal(size=(len(labels), dimensions))
    return torch.from_numpy(features).float(), torch.from_numpy(labels)


@pytest.mark.parametrize(("each", "dimensions"), [(40, 12), (3, 50)])  # more images than features, and fewer
def test_the_few_shot_solution_is_the_ridge_regression_of_numpy(each: int, dimensions: int) -> None:
    features, labels = blobs(4, each, dimensions, noise=2.0)
    mean, std, weights = fewshot.ridge(features, labels, 4)
    x = features.numpy().astype(np.float64)
    x = (x - x.mean(0)) / (x.std(0) + 1e-5)
    x = np.hstack([x, np.full((len(x), 1), 100.0)])
    y = np.where(np.arange(4)[None] == labels.numpy()[:, None], 1.0, -1.0)
    # Ridge as least squares with the penalty as further rows: no normal equations, no eigenvalues.
    rows = np.vstack([x, np.sqrt(1024.0) * np.eye(x.shape[1])])
    wanted = np.linalg.lstsq(rows, np.vstack([y, np.zeros((x.shape[1], 4))]), rcond=None)[0]
    np.testing.assert_allclose(weights.numpy(), wanted, rtol=1e-7, atol=1e-10)
    test, truth = blobs(4, 100, dimensions, noise=2.0, seed=1)
    z = np.hstack([(test.numpy() - mean.numpy()) / std.numpy(), np.full((len(test), 1), 100.0)])
    assert fewshot.accuracy((mean, std, weights), test, truth) == pytest.approx((np.argmax(z @ wanted, 1) == truth.numpy()).mean())


def test_more_shots_contain_fewer_shots() -> None:
    labels = torch.tensor([0, 1, 2] * 10)
    one, five = fewshot.draw(labels, 3, 1, seed=2), fewshot.draw(labels, 3, 5, seed=2)
    assert labels[one].tolist() == [0, 1, 2]
    assert labels[five].bincount().tolist() == [5, 5, 5] and set(one.tolist()) <= set(five.tolist())
    assert len(fewshot.draw(labels, 3, 99, seed=0)) == 30


def test_logistic_regression_separates_what_can_be_separated() -> None:
    features, labels = blobs(5, 30, 8, noise=0.3)
    weights, biases = logistic_regression(features, labels, 5, 1e-3)
    assert ((features @ weights.T + biases).argmax(1) == labels).all()


def test_logistic_regression_is_at_the_minimum() -> None:
    features, labels = blobs(3, 50, 6, noise=6.0)  # they overlap, so the minimum is in the middle of nowhere special
    weights, biases = logistic_regression(features, labels, 3, 1e-2)
    std = features.double().std(0, correction=0) + 1e-5
    x = ((features.double() - features.double().mean(0)) / std).numpy()
    w = (weights.double() * std).numpy()
    b = (biases.double() + weights.double() @ features.double().mean(0)).numpy()
    scores = np.exp(x @ w.T + b)
    gap = scores / scores.sum(1, keepdims=True) - np.eye(3)[labels.numpy()]
    np.testing.assert_allclose(gap.T @ x / len(x) + 1e-2 * w, 0, atol=1e-5)  # the gradient, written out by hand
    np.testing.assert_allclose(gap.mean(0), 0, atol=1e-5)
