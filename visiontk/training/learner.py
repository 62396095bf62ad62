"""A network that learns, with a moving average of its weights: what the trainings that go step by step have in common."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from visiontk.runtime import Started

from .recipe import learning_rate

MUON, MUON_BETAS = 3.0, (0.9, 0.98)
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
    Parameters of which ``by_muon`` says so learn by Muon (Jordan et al. 2024, kellerjordan.github.io/posts/muon) at `MUON` times the rate,
    where steps are as large as AdamW's at the same (Liu et al. 2025, arXiv 2502.16982, section 2.2), and the others by NAdamW.
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
        from timm.optim import Muon, param_groups_weight_decay
        from timm.utils import ModelEmaV3

        self.network = network.to(device).train()
        self.average: Any = ModelEmaV3(self.network, decay=plan.ema, use_warmup=True)
        groups: Any = param_groups_weight_decay(self.network, plan.weight_decay) if lr_scale is None else _scaled(self.network, lr_scale)
        self.optimiser: torch.optim.Optimizer
        if by_muon is None:
            self.optimiser = torch.optim.AdamW(groups, lr=lr, fused=True)
        else:
            self.optimiser = Muon(_apart(self.network, groups, by_muon), lr=lr, nesterov=True, betas=MUON_BETAS)
        self.clip, self.lr, self.steps, self.warmup = plan.clip, lr, steps, min(plan.warmup, steps // 10)

    def rate(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        return learning_rate(step, self)

    def update(self, loss: Tensor, step: int) -> None:
        """One update, unless the loss is not finite."""
        if not math.isfinite(float(loss.detach())):
            return
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate(step) * group.get("lr_scale", 1.0)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.network.parameters(), self.clip)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.average.update(self.network, step=step + 1)

    def state(self) -> dict[str, Any]:
        average = self.average.module.state_dict()
        return {"network": self.network.state_dict(), "average": average, "optimiser": self.optimiser.state_dict()}

    def restore(self, state: dict[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        self.average.module.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])


def _apart(network: nn.Module, groups: list[dict[str, Any]], by_muon: Callable[[str, Tensor], bool]) -> list[dict[str, Any]]:
    """The groups, from each those taken out that learn by Muon."""
    chosen = {parameter for name, parameter in network.named_parameters() if by_muon(name, parameter)}
    made: list[dict[str, Any]] = []
    for group in groups:
        made.append({**group, "params": [one for one in group["params"] if one in chosen], "lr_scale": MUON})
        made.append({**group, "params": [one for one in group["params"] if one not in chosen], "use_fallback": True})
    return [group for group in made if group["params"]]


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
