"""The optimisation: optimiser, learning rate, loss."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from .plan import Plan, Schedule

MOMENTUM = 0.9


class Slope(Protocol):
    """How the learning rate goes: a `Schedule`, or part of one."""

    @property
    def lr(self) -> float: ...
    @property
    def warmup(self) -> int: ...
    @property
    def steps(self) -> int: ...


def learning_rate(step: int, schedule: Slope) -> float:
    """The rate of a step, counted from 0: up in a line for ``warmup`` steps, then down to 0 along half a cosine (ViT paper, B.1)."""
    if step < schedule.warmup:
        return schedule.lr * (step + 1) / schedule.warmup
    done = (step - schedule.warmup) / max(1, schedule.steps - schedule.warmup)
    return schedule.lr * 0.5 * (1 + math.cos(math.pi * done))


def make_optimiser(network: nn.Module, plan: Plan, schedule: Schedule) -> torch.optim.Optimizer:
    """SGD with momentum for transfer (ViT paper, appendix B.1.1), AdamW otherwise. Biases, norms and embeddings are not decayed."""
    from timm.optim import param_groups_weight_decay

    spared: Any = getattr(network, "no_weight_decay", set)()
    groups: Any = param_groups_weight_decay(network, schedule.weight_decay, no_weight_decay_list=spared)
    if plan.adamw:
        return torch.optim.AdamW(groups, lr=schedule.lr, fused=True)
    return torch.optim.SGD(groups, lr=schedule.lr, momentum=MOMENTUM)


Targets = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def make_targets(plan: Plan, classes: int) -> Targets:
    """From pixels and labels to what the loss takes: mixed in pairs with ``--mixup`` (Zhang et al. 2017, arXiv 1710.09412), else as is."""
    if not plan.mixup:
        return lambda pixels, labels: (pixels, labels)
    from timm.data import Mixup

    mix: Any = Mixup(mixup_alpha=plan.mixup, label_smoothing=plan.label_smoothing, num_classes=classes)
    return lambda pixels, labels: mix(pixels, labels)


def make_loss(plan: Plan) -> Callable[[Tensor, Tensor], Tensor]:
    """Cross-entropy. Mixed targets hold the label smoothing already."""
    smoothing = 0.0 if plan.mixup else plan.label_smoothing
    return lambda logits, targets: functional.cross_entropy(logits.float(), targets, label_smoothing=smoothing)


class Normaliser:
    """uint8 pixels to the floats that the network takes, on whatever device they are."""

    def __init__(self, config: dict[str, Any], device: torch.device) -> None:
        self._mean, self._std = (torch.tensor(config[name], device=device).view(1, -1, 1, 1) * 255 for name in ("mean", "std"))

    def __call__(self, images: Tensor) -> Tensor:
        return images.float().sub_(self._mean).div_(self._std)
