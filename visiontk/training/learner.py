"""A network that learns, with a moving average of its weights: what the trainings that go step by step have in common."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from visiontk.runtime import Started

from .muon import Muon
from .recipe import learning_rate

MUON = 3.0  # its rate, in others'
NADAM_BETAS, NADAM_EPS = (0.9, 0.98), 1e-7
_AMP = (torch.bfloat16, torch.float16)


class Asked(Protocol):
    """What a learner reads of a plan."""

    @property
    def weight_decay(self) -> float: ...
    @property
    def warmup(self) -> int: ...
    @property
    def clip(self) -> float: ...
    @property
    def ema(self) -> float: ...


class Learner:
    """What is trained.

    Attributes:
        network: fp32.
        average: the moving average of its weights, the same kind of module in ``average.module``.
        lr: the highest learning rate, reached after ``warmup`` of ``steps`` steps, at most a tenth of them.

    It learns by AdamW. With ``lr_scale`` the rate of each parameter is multiplied by what that gives for its name, and nothing is decayed.
    Parameters of which ``by_muon`` says so learn by Muon at `MUON` times the rate, and the others by NAdamW.
    """

    def __init__(
        self,
        network: nn.Module,
        plan: Asked,
        device: torch.device,
        *,
        lr: float,
        steps: int,
        lr_scale: Callable[[str, Tensor], float] | None = None,
        by_muon: Callable[[str, Tensor], bool] | None = None,
    ) -> None:
        from timm.optim import NAdamW, param_groups_weight_decay
        from timm.utils import ModelEmaV3

        self.network = network.to(device).train()
        self.average: Any = ModelEmaV3(self.network, decay=plan.ema, use_warmup=True)
        groups: Any = param_groups_weight_decay(self.network, plan.weight_decay) if lr_scale is None else _scaled(self.network, lr_scale)
        self.optimisers: list[torch.optim.Optimizer]
        if by_muon is None:
            self.optimisers = [torch.optim.AdamW(groups, lr=lr, fused=True)]
        else:
            matrices, others = _apart(self.network, groups, by_muon)
            self.optimisers = [Muon(matrices, lr=lr), NAdamW(others, lr=lr, betas=NADAM_BETAS, eps=NADAM_EPS)]
        self.clip, self.lr, self.steps, self.warmup = plan.clip, lr, steps, min(plan.warmup, steps // 10)

    def rate(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        return learning_rate(step, self)

    def update(self, loss: Tensor, step: int) -> None:
        """One update, unless the loss is not finite."""
        if not math.isfinite(float(loss.detach())):
            return
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.network.parameters(), self.clip)
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = self.rate(step) * group.get("lr_scale", 1.0)
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        self.average.update(self.network, step=step + 1)

    def state(self) -> dict[str, Any]:
        average = self.average.module.state_dict()
        optimisers = [optimiser.state_dict() for optimiser in self.optimisers]
        return {"network": self.network.state_dict(), "average": average, "optimisers": optimisers}

    def restore(self, state: dict[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        self.average.module.load_state_dict(state["average"])
        for optimiser, held in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(held)


_Groups = list[dict[str, Any]]


def _apart(network: nn.Module, groups: _Groups, by_muon: Callable[[str, Tensor], bool]) -> tuple[_Groups, _Groups]:
    """The groups of what learns by Muon, and of all else."""
    chosen = {parameter for name, parameter in network.named_parameters() if by_muon(name, parameter)}
    matrices = [{**group, "params": [one for one in group["params"] if one in chosen], "lr_scale": MUON} for group in groups]
    others = [{**group, "params": [one for one in group["params"] if one not in chosen]} for group in groups]
    return [group for group in matrices if group["params"]], [group for group in others if group["params"]]


def _scaled(network: nn.Module, lr_scale: Callable[[str, Tensor], float]) -> list[dict[str, Any]]:
    """One group for each scale."""
    groups: dict[float, list[Tensor]] = {}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            groups.setdefault(lr_scale(name, parameter), []).append(parameter)
    return [{"params": group, "lr_scale": scale, "weight_decay": 0.0} for scale, group in groups.items()]


def autocast(started: Started) -> AbstractContextManager[Any]:
    """Mixed precision where the runtime's type is not fp32."""
    return torch.autocast(started.device.type, started.dtype) if started.dtype in _AMP else nullcontext()
