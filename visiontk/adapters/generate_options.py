"""Which options a pipeline has, what they are where nobody says, and what a request comes to. No option is ignored in silence."""

from __future__ import annotations

import inspect
import math
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

from visiontk.catalog import Entry
from visiontk.errors import UsageError

from .generate_types import Request

MAX_SEED = 2**64 - 1


@dataclass(frozen=True)
class Options:
    """What one pipeline, of one task, takes.

    Attributes:
        parameters: of its call, by name, with their defaults; None for those that have none.
        guidance_name: the parameter that classifier-free guidance goes by; None where the model has no guidance.
        embedded: the scale is an input of the network, so any value of it counts.
        threshold: guidance above this runs the network a second time, with the negative prompt.
        negative: a negative prompt can have an effect.
        layers: of the text encoder that ``clip_skip`` counts in; 0 where it has none.
        multiple: sizes in pixels are multiples of this.
        size: what it makes by default.
        most_steps: what the sampler was trained with.
    """

    parameters: dict[str, Any]
    guidance_name: str | None
    embedded: bool
    threshold: float
    negative: bool
    layers: int
    multiple: int
    size: tuple[int, int]
    most_steps: int

    @property
    def batches_images(self) -> bool:
        """Whether a list of images is one for each prompt; where there is no strength they are references for one picture."""
        return "strength" in self.parameters


def options(pipeline: Any) -> Options:
    """Read them off a pipeline."""
    signature = inspect.signature(type(pipeline).__call__).parameters
    parameters = {name: None if one.default is inspect.Parameter.empty else one.default for name, one in signature.items()}
    name, embedded = _guidance(pipeline, parameters)
    twice = name is not None and (name == "true_cfg_scale" or _guided(pipeline, 1000.0))
    threshold = 0.0 if twice and name == "guidance_scale" and _guided(pipeline, 0.5) else 1.0
    text = getattr(pipeline, "text_encoder", None)
    layers = int(getattr(text.config, "num_hidden_layers", 0)) if "clip_skip" in parameters and text is not None else 0
    multiple = _multiple(pipeline)
    return Options(
        parameters=parameters,
        guidance_name=name,
        embedded=embedded,
        threshold=threshold,
        negative=twice and "negative_prompt" in parameters,
        layers=layers,
        multiple=multiple,
        size=_size(pipeline, multiple),
        most_steps=int(pipeline.scheduler.config.get("num_train_timesteps") or 1000),
    )


def resolve(request: Request, has: Options, entry: Entry | None, schedulers: Collection[str], scheduler: str, name: str) -> Request:
    """A request with every option that the model has filled in.

    Args:
        has: of the pipeline for the request's task.
        entry: the catalog's, whose defaults go before the pipeline's own.
        schedulers: those that the model can use; ``scheduler`` is its own.
        name: of the model, for messages.

    Raises:
        UsageError: an option that the model ignores, or a value that makes no sense.
    """
    _check_inputs(request)
    strength = _strength(request, has, name)
    steps = _or(request.steps, entry.steps if entry else None, has.parameters.get("num_inference_steps"), 50)
    if not 1 <= steps <= has.most_steps:
        raise UsageError(f"{steps} steps make no sense; {name} takes 1 to {has.most_steps}")
    if strength is not None and int(steps * strength) < 1:
        raise UsageError(f"strength {strength:g} of {steps} steps is less than one step; give more of either")
    guidance = _guidance_scale(request, has, entry, name)
    chosen = scheduler if request.scheduler is None else request.scheduler
    if chosen not in schedulers:
        raise UsageError(f"{name} has no scheduler {chosen!r}; use {', '.join(schedulers)}")
    if request.clip_skip is not None:
        if not has.layers:
            raise UsageError(f"{name} ignores clip skip, as its text encoder is no CLIP; leave it out")
        if not 0 <= request.clip_skip < has.layers:
            raise UsageError(f"clip skip {request.clip_skip} makes no sense; {name} takes 0 to {has.layers - 1}")
    return replace(
        request,
        negative=_negative(request, has, guidance, name),
        steps=steps,
        guidance=guidance,
        size=_wanted_size(request, has, entry, name),
        scheduler=chosen,
        clip_skip=request.clip_skip or None,  # 0 leaves none out, as where nobody says
        strength=strength,
    )


def _check_inputs(request: Request) -> None:
    if not request.prompt.strip():
        raise UsageError("the prompt is empty; say what the image should show")
    if not 0 <= request.seed <= MAX_SEED:
        raise UsageError(f"seed {request.seed} makes no sense; use 0 to {MAX_SEED}")
    if request.mask is None:
        return
    if request.init is None:
        raise UsageError("there is a mask but no image to paint in; give an init image too")
    height, width = request.mask.shape
    if (width, height) != request.init.size:
        sizes = f"{width} x {height} and the init image {request.init.width} x {request.init.height}"
        raise UsageError(f"the mask is {sizes}; they must be of one size")
    if not request.mask.any():
        raise UsageError("the mask covers nothing, so there is nothing to paint; give another")


def _strength(request: Request, has: Options, name: str) -> float | None:
    if request.strength is not None and request.init is None:
        raise UsageError("strength says how much of an init image is changed, and there is none; give one, or leave strength out")
    if request.init is None:
        return None
    if "strength" not in has.parameters:
        if request.strength is not None:
            raise UsageError(f"{name} ignores strength, as it takes the init image for a reference; leave it out")
        return None
    strength = float(_or(request.strength, has.parameters["strength"], 0.8))
    if not 0 < strength <= 1:
        raise UsageError(f"strength {strength:g} makes no sense; use a number above 0, up to 1")
    return strength


def _guidance_scale(request: Request, has: Options, entry: Entry | None, name: str) -> float | None:
    if has.guidance_name is None:
        if request.guidance is not None:
            raise UsageError(f"{name} ignores guidance, as it was distilled to do without; leave it out")
        return None
    guidance = float(_or(request.guidance, entry.guidance if entry else None, has.parameters[has.guidance_name], 1.0))
    if not (math.isfinite(guidance) and guidance >= 0):
        raise UsageError(f"guidance {guidance:g} makes no sense; use a number from 0 on")
    return guidance


def _negative(request: Request, has: Options, guidance: float | None, name: str) -> str | None:
    runs = has.negative and guidance is not None and guidance > has.threshold
    if request.negative is not None and not has.negative:
        raise UsageError(f"{name} ignores a negative prompt; leave it out")
    if request.negative is not None and not runs:
        raise UsageError(f"{name} ignores a negative prompt at guidance {guidance:g}; leave it out, or give more than {has.threshold:g}")
    if request.negative is None and runs and has.guidance_name == "true_cfg_scale":
        return " "  # such pipelines run no guidance without one, and this is what the authors of Qwen-Image say to give
    return request.negative


def _wanted_size(request: Request, has: Options, entry: Entry | None, name: str) -> tuple[int, int]:
    many = has.multiple
    if request.size is None and request.init is not None:
        width, height = (max(many, side // many * many) for side in request.init.size)
        return width, height
    width, height = request.size or (entry.size if entry and entry.size else has.size)
    if width < many or height < many or width % many or height % many:
        near = " x ".join(str(max(many, round(side / many) * many)) for side in (width, height))
        raise UsageError(f"{name} cannot make {width} x {height} pixels; sides are multiples of {many}, so use {near}")
    return width, height


def _guidance(pipeline: Any, parameters: dict[str, Any]) -> tuple[str | None, bool]:
    """The name of the parameter for guidance, and whether the network takes the scale for an input."""
    if "true_cfg_scale" in parameters and parameters.get("guidance_scale") is None:
        return "true_cfg_scale", False
    if "guidance_scale" not in parameters:
        return None, False
    unet, transformer = getattr(pipeline, "unet", None), getattr(pipeline, "transformer", None)
    if unet is not None and unet.config.get("time_cond_proj_dim") is not None:
        return "guidance_scale", True
    embeds = None if transformer is None else transformer.config.get("guidance_embeds")
    if embeds:
        return "guidance_scale", True
    asked = hasattr(type(pipeline), "do_classifier_free_guidance")
    return ("guidance_scale", False) if (_guided(pipeline, 1000.0) if asked else embeds is None) else (None, False)


def _guided(pipeline: Any, scale: float) -> bool:
    """Whether a pipeline runs its network twice at this scale: asked of the pipeline itself, which knows what distillation left."""
    if not hasattr(type(pipeline), "do_classifier_free_guidance"):
        transformer = getattr(pipeline, "transformer", None)
        return scale > 1 and (transformer is None or transformer.config.get("guidance_embeds") is None)
    pipeline._guidance_scale = scale
    return bool(pipeline.do_classifier_free_guidance)


def _multiple(pipeline: Any) -> int:
    """In pixels: what the VAE and the patches ask for, and 8, which most pipelines insist on."""
    factor = int(getattr(pipeline, "vae_scale_factor", 8))
    processor = getattr(pipeline, "image_processor", None)
    transformer = getattr(pipeline, "transformer", None)
    patch = transformer.config.get("patch_size") if transformer is not None else 1
    processed = int(processor.config.get("vae_scale_factor", factor)) if processor is not None else factor
    return math.lcm(8, processed, factor * patch if isinstance(patch, int) else factor)


def _size(pipeline: Any, multiple: int) -> tuple[int, int]:
    """Width and height that the network was trained for."""
    network: Any = getattr(pipeline, "transformer", None) or pipeline.unet
    sample = getattr(pipeline, "default_sample_size", None) or network.config.get("sample_size")
    if sample is None:
        return 1024, 1024
    rows, columns = (sample, sample) if isinstance(sample, int) else sample
    factor = pipeline.vae_scale_factor
    return max(multiple, columns * factor // multiple * multiple), max(multiple, rows * factor // multiple * multiple)


def _or(*values: Any) -> Any:
    """The first that is not None."""
    return next(value for value in values if value is not None)
