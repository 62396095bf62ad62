"""Samplers by short names: which of them a model can use, and making one without losing what the model was trained with."""

from __future__ import annotations

import inspect
from typing import Any

# Name: class of diffusers, and what sets it apart from others of the class.
DIFFUSION: dict[str, tuple[str, dict[str, Any]]] = {
    "ddim": ("DDIMScheduler", {}),
    "ddpm": ("DDPMScheduler", {}),
    "deis": ("DEISMultistepScheduler", {}),
    "dpm++": ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++", "use_karras_sigmas": False}),
    "dpm++-karras": ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++", "use_karras_sigmas": True}),
    "dpm++-sde": ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++", "use_karras_sigmas": False}),
    "dpm++-sde-karras": ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++", "use_karras_sigmas": True}),
    "dpm++-single": ("DPMSolverSinglestepScheduler", {}),
    "euler": ("EulerDiscreteScheduler", {}),
    "euler-a": ("EulerAncestralDiscreteScheduler", {}),
    "heun": ("HeunDiscreteScheduler", {}),
    "kdpm2": ("KDPM2DiscreteScheduler", {}),
    "kdpm2-a": ("KDPM2AncestralDiscreteScheduler", {}),
    "lms": ("LMSDiscreteScheduler", {}),
    "pndm": ("PNDMScheduler", {}),
    "unipc": ("UniPCMultistepScheduler", {}),
}
# Pipelines of flow matching hand their own list of noise levels to the sampler, which no other class takes from all of them.
FLOW: dict[str, tuple[str, dict[str, Any]]] = {
    "euler": ("FlowMatchEulerDiscreteScheduler", {"use_karras_sigmas": False, "use_exponential_sigmas": False}),
    "euler-exponential": ("FlowMatchEulerDiscreteScheduler", {"use_karras_sigmas": False, "use_exponential_sigmas": True}),
    "euler-karras": ("FlowMatchEulerDiscreteScheduler", {"use_karras_sigmas": True, "use_exponential_sigmas": False}),
}


def available(scheduler: Any) -> dict[str, tuple[type[Any], dict[str, Any]]]:
    """The samplers for a model that came with this one: those that diffusers calls compatible, and its own."""
    own = type(scheduler)
    compatible = {kind.__name__: kind for kind in scheduler.compatibles if "dummy" not in kind.__module__}  # which want another package
    flow = "FlowMatch" in own.__name__
    if scheduler.config.get("prediction_type") == "flow_prediction":
        compatible = {name: kind for name, kind in compatible.items() if "use_flow_sigmas" in inspect.signature(kind).parameters}
    table = FLOW if flow else DIFFUSION
    found = {name: (compatible[kind], extra) for name, (kind, extra) in table.items() if kind in compatible}
    name = own_name(scheduler)
    return dict(sorted((found if name in found else {**found, name: (own, {})}).items()))


def own_name(scheduler: Any) -> str:
    """The short name of a sampler as it is configured; for one that has none, that of its class."""
    kind = type(scheduler).__name__
    for name, (candidate, extra) in (*DIFFUSION.items(), *FLOW.items()):
        if candidate == kind and all(scheduler.config.get(key) == value for key, value in extra.items()):
            return name
    return kind.removesuffix("Scheduler").lower()


def make(scheduler: Any, name: str) -> Any:
    """A fresh sampler of that name with the noise schedule, prediction type and all else that the model's own one is configured with."""
    if name == own_name(scheduler):
        return type(scheduler).from_config(scheduler.config)
    kind, extra = available(scheduler)[name]
    return kind.from_config(scheduler.config, **extra)
