"""The optimiser Muon, for matrices."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

MOMENTUM = 0.95
# Of the polynomials of Newton-Schulz iterations, leloykun.github.io/ponder/muon-opt-coeffs; timm's default too.
QUINTIC = [
    (4.0848, -6.8946, 2.9270),
    (3.9505, -6.3029, 2.6377),
    (3.7418, -5.5913, 2.3037),
    (2.8769, -3.1427, 1.2046),
    (2.8366, -3.0525, 1.2012),
]


class Muon(torch.optim.Optimizer):
    """Momentum, of which each update takes the nearest orthogonal matrix (Jordan et al. 2024, kellerjordan.github.io/posts/muon).

    The arithmetic is timm's. Its own optimiser with it counts in bf16 and one matrix at a time, and on a CPU without units for bf16 that
    takes several times as long as all else of a step.

    Args:
        groups: of matrices on one device, as torch's optimisers take them.
        lr: steps are as large as AdamW's at the same rate (Liu et al. 2025, arXiv 2502.16982, section 2.2).
        weight_decay: decoupled.
    """

    def __init__(self, groups: Iterable[dict[str, Any]], *, lr: float, weight_decay: float = 0.0) -> None:
        super().__init__(groups, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        for group in self.param_groups:
            alike: dict[torch.Size, list[Tensor]] = {}
            for one in group["params"]:
                if one.grad is not None:
                    alike.setdefault(one.shape, []).append(one)
            for parameters in alike.values():
                self._move(parameters, group["lr"], group["weight_decay"])

    def _move(self, parameters: list[Tensor], lr: float, weight_decay: float) -> None:
        """One update of matrices of one shape."""
        from timm.optim.muon import get_lr_scale

        updates = _orthogonal(torch.stack([self._update(one) for one in parameters]))
        scale = get_lr_scale(updates.shape)
        for one, update in zip(parameters, updates, strict=True):
            one.mul_(1 - lr * weight_decay).sub_(update, alpha=lr * scale)

    def _update(self, parameter: Tensor) -> Tensor:
        """Nesterov's, of the gradient and its running mean."""
        assert parameter.grad is not None
        state = self.state[parameter]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        mean = state["momentum_buffer"].lerp_(parameter.grad, 1 - MOMENTUM)
        return parameter.grad.lerp(mean, MOMENTUM)


def _orthogonal(matrices: Tensor) -> Tensor:
    """Of matrices of shape (n, rows, columns), the nearest orthogonal ones, roughly: singular values near 1."""
    from timm.optim.muon import zeropower_via_newtonschulz

    dtype = torch.float32 if matrices.device.type == "cpu" else torch.bfloat16
    return zeropower_via_newtonschulz(matrices, len(QUINTIC), QUINTIC, dtype=dtype)
