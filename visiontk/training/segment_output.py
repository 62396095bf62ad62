"""The folder that a run of ``visiontk train segment`` leaves behind: SAM 2's configuration, weights, a card and the curves."""

from __future__ import annotations

import platform
from importlib import resources
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from visiontk.adapters.segment import locate
from visiontk.adapters.segment_weights import find_config, read_config, read_weights, untrained
from visiontk.artefacts import write
from visiontk.errors import OutputError
from visiontk.runtime import Started

from .curves import plot, read_metrics
from .output import device_name
from .segment_plan import ENCODER_IMAGES, SegmentPlan

CONFIG, WEIGHTS = "config.yaml", "model.safetensors"
VISIBLE_AT_FIRST = 3.0  # bias of the object score: a model that takes nothing to be visible learns no shapes
LOOKING = 3.0  # how much larger than by default the weights are by which prompts and places of the picture find each other
_PACKAGES = ("visiontk", "sam2", "torch")


def config_file(plan: SegmentPlan) -> Path:
    """The YAML that describes the model. Raises ModelUnavailable where ``plan.model`` cannot be had."""
    if plan.config is not None:
        return Path(plan.config)
    if plan.model is not None:
        return find_config(locate(plan.model).weights)
    return Path(str(resources.files("visiontk").joinpath("weights", "tiny-sam2", CONFIG)))


def build(plan: SegmentPlan) -> Any:
    """The ``SAM2Base`` that is trained: with the weights of ``plan.model``, or with random ones, seeded by the caller.

    With both a model and a configuration, those of the model's weights count whose name and shape the configuration has.

    Raises ModelUnavailable for a model that cannot be had, or a configuration that makes none.
    """
    file = config_file(plan)
    model: Any = untrained(read_config(file), str(file))
    with torch.no_grad():
        model.sam_mask_decoder.pred_obj_score_head.layers[-1].bias.fill_(VISIBLE_AT_FIRST)
        _look_where_prompted(model.sam_mask_decoder.transformer)
    if plan.model is not None:
        model.load_state_dict({**model.state_dict(), **_taken_over(model, plan.model)})
    return model


def _taken_over(model: nn.Module, start: str) -> dict[str, torch.Tensor]:
    """The weights of a trained model that fit: all of them where it has the same configuration."""
    shapes = {name: value.shape for name, value in model.state_dict().items()}
    weights = read_weights(locate(start).weights)
    return {name: value for name, value in weights.items() if value.shape == shapes.get(name)}


def _look_where_prompted(transformer: Any) -> None:
    """Let prompts and picture attend to each other by position from the first step.

    With equal projections of queries and keys their product is largest where their position encodings are alike.
    """
    attentions = [transformer.final_attn_token_to_image]
    attentions += [part for layer in transformer.layers for part in (layer.cross_attn_token_to_image, layer.cross_attn_image_to_token)]
    for attention in attentions:
        nn.init.normal_(attention.q_proj.weight, std=LOOKING / (3 * attention.q_proj.in_features) ** 0.5)
        attention.k_proj.weight.copy_(attention.q_proj.weight)
        attention.q_proj.bias.zero_()
        attention.k_proj.bias.zero_()


def write_model(network: nn.Module, plan: SegmentPlan, folder: Path) -> None:
    """Weights and configuration, each whole or not at all, the configuration last. Raises OutputError."""
    from safetensors.torch import save

    dtype = torch.float16 if plan.half else torch.float32
    state = {name: value.detach().to("cpu", dtype).contiguous().clone() for name, value in network.state_dict().items()}
    text = config_file(plan).read_bytes()
    write(folder / WEIGHTS, lambda file: file.write(save(state, {"format": "pt"})))
    write(folder / CONFIG, lambda file: file.write(text))


def write_report(folder: Path, plan: SegmentPlan, figures: dict[str, Any], *, seconds: float, started: Started) -> None:
    """README.md and curves.png. Raises OutputError."""
    figure = plot(read_metrics(folder / "metrics.jsonl"), "SAM 2 on the tiny world", "iou")
    write(folder / "curves.png", lambda file: figure.savefig(file, format="png"))
    parameters = sum(value.numel() for value in _weights(folder).values())
    text = card(str(folder), plan, figures, parameters=parameters, seconds=seconds, device=device_name(started.device))
    write(folder / "README.md", lambda file: file.write(text.encode("utf-8", "surrogateescape")))


def card(name: str, plan: SegmentPlan, figures: dict[str, Any], *, parameters: int, seconds: float, device: str) -> str:
    """README.md, with the front matter that the hub reads."""
    rows = "\n".join(f"| {measured} | {values['training']:.3f} | {values['held_out']:.3f} |" for measured, values in figures.items())
    versions = ", ".join(f"{package} {version(package)}" for package in _PACKAGES)
    start = "from nothing" if plan.model is None else f"on from {plan.model}"
    return f"""---
library_name: sam2
pipeline_tag: mask-generation
tags: [image-segmentation, video-segmentation, sam2, visiontk]
---
# {name}

SAM 2: the classes of the package sam2, {parameters / 1e6:.2f} M parameters in {"fp16" if plan.half else "fp32"}, trained {start} on the
drawn things of visiontk's tiny world.

    visiontk segment VIDEO --model {name} --prompt point

**How good.** Measured on freshly rendered pictures and clips, on the weights in this folder, in the styles of drawing that it was trained
on and in one that it never saw:

| | training styles | held-out style |
|---|---|---|
{rows}

J is the intersection over union of a mask, F the agreement of its outline, J&F their mean (DAVIS 2017, without the first and the last
frame); the click is on the pixel of the object that is nearest to its middle.

**How it was made.** AdamW, {_course(plan)};
learning rate {plan.lr:g} with {plan.warmup} steps of linear warm-up, then half a cosine to 0; moving average of the weights {plan.ema:g}.
Prompts are points, boxes and masks, with correction clicks where the answer is wrong; the losses are those of the SAM 2 paper.

    {plan.command(name)}

Seed {plan.seed}; {seconds / 60:.0f} minutes on {device}.
{versions}, Python {platform.python_version()}.

![curves](curves.png)
"""


def _course(plan: SegmentPlan) -> str:
    """The steps, in their order."""
    encoder, pictures = plan.encoder_steps, plan.pictures_alone
    clips = plan.steps - encoder - pictures
    parts = [
        f"{encoder} of the encoder alone over {ENCODER_IMAGES * plan.images} pictures each" if encoder else "",
        f"{pictures} over {plan.images} pictures each" if pictures else "",
        f"{clips}, two in three of them over {plan.clips} clips of {plan.frames} frames" if clips else "",
    ]
    return f"{plan.steps} steps: " + ", then ".join(part for part in parts if part)


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    try:
        return load_file(folder / WEIGHTS)
    except OSError as error:
        raise OutputError(f"{folder / WEIGHTS} cannot be read ({error.strerror or error}); run it again") from error
