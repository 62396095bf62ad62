"""Frozen features, computed once, and the linear probe on them: multinomial logistic regression."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from visiontk.errors import UsageError

from .measure import batches
from .network import head
from .pictures import Pictures

ITERATIONS = 500


def features_of(
    network: nn.Module,
    normalise: Callable[[Tensor], Tensor],
    pictures: Pictures,
    accelerator: Any,
    workers: int,
    tell: Callable[[int], None],
) -> tuple[Tensor, Tensor, list[str]]:
    """Pooled features before the head, float32 (N, D), and labels (N), on the CPU; and why other pictures could not be read.

    ``tell(n)`` is called with the number of pictures of each batch.
    """
    network.eval()
    body: Any = network
    features, labels, unreadable = list[Tensor](), list[Tensor](), list[str]()
    with torch.inference_mode(), accelerator.autocast():
        for batch in batches(pictures, workers):
            unreadable += batch.unreadable
            if len(batch.labels):
                maps = body.forward_features(normalise(batch.images.to(accelerator.device)))
                features.append(body.forward_head(maps, pre_logits=True).float().cpu())
                labels.append(batch.labels)
            tell(len(batch.labels))
    if not labels:
        raise UsageError(f"none of the images can be read ({unreadable[0]}); name others")
    return torch.cat(features), torch.cat(labels), unreadable


def logistic_regression(features: Tensor, labels: Tensor, classes: int, l2: float) -> tuple[Tensor, Tensor]:
    """Weights (classes, D) and biases (classes) for the features as they are.

    The mean cross-entropy plus ``l2 / 2`` times the squared weights, over standardised features in float64, minimised by L-BFGS with a
    strong-Wolfe line search; the standardising is then folded into the weights. The problem is convex, so there is nothing to seed.
    """
    x = features.double()
    mean, std = x.mean(0), x.std(0, correction=0) + 1e-5
    x = (x - mean) / std
    weights = torch.zeros(classes, x.shape[1], dtype=torch.float64, requires_grad=True)
    biases = torch.zeros(classes, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS(
        [weights, biases], max_iter=ITERATIONS, tolerance_grad=1e-6, tolerance_change=1e-10, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = functional.cross_entropy(x @ weights.T + biases, labels) + l2 / 2 * weights.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimiser.step(closure)  # type: ignore[no-untyped-call]
    scaled = weights.detach() / std
    return scaled.float(), (biases.detach() - scaled @ mean).float()


def set_head(network: nn.Module, weights: Tensor, biases: Tensor) -> None:
    """Put a linear probe where the network's head was."""
    last = check_head(network)
    with torch.no_grad():
        last.weight.copy_(weights)
        last.bias.copy_(biases)


def check_head(network: nn.Module) -> nn.Linear:
    """The head, where a linear probe can take its place. Raises UsageError where it cannot."""
    last = head(network)
    if not isinstance(last, nn.Linear) or last.bias is None:
        raise UsageError("the head of this architecture is no linear layer with biases, which a linear probe needs; name another model")
    return last
