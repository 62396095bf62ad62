"""The folder that a run of ``visiontk train segment`` leaves behind: SAM 2's configuration, weights, a card and the curves."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from importlib import resources
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from visiontk.adapters.segment import locate
from visiontk.adapters.segment_weights import check_fit, find_config, read_config, read_weights, untrained
from visiontk.artefacts import write
from visiontk.errors import OutputError, UsageError
from visiontk.runtime import Started

from .curves import plot, read_metrics
from .learner import MUON
from .output import device_name
from .segment_loss import DICE, FOCAL
from .segment_measure import CLIPS, FRAMES, LEAST_PIXELS, PICTURES
from .segment_plan import ENCODER_IMAGES, SegmentPlan

CONFIG, WEIGHTS = "config.yaml", "model.safetensors"
VISIBLE_AT_FIRST = 3.0  # bias of the object score: a model that takes nothing to be visible learns no shapes
LOOKING = 3.0  # how much larger than by default the weights are by which prompts and places of the picture find each other
_PACKAGES = ("visiontk", "sam2", "torch")


@dataclass(frozen=True)
class Built:
    """A model before its training.

    Attributes:
        model: a ``SAM2Base``.
        config: the file that describes it.
        taken: the share of its parameters that are those of the plan's model.
    """

    model: Any
    config: bytes
    taken: float


def config_file(plan: SegmentPlan) -> Path:
    """The YAML that describes the model. Raises UsageError, ModelUnavailable where there is none."""
    if plan.config is not None:
        if not Path(plan.config).is_file():
            raise UsageError(f"there is no file {plan.config}; name one of sam2's format")
        return Path(plan.config)
    if plan.model is not None:
        return find_config(locate(plan.model).weights)
    return Path(str(resources.files("visiontk").joinpath("weights", "tiny-sam2", CONFIG)))


def build(plan: SegmentPlan) -> Built:
    """The model that is trained: with the weights of ``plan.model``, or with random ones, seeded by the caller.

    With both a model and a configuration, those of the model's weights count whose name and shape the configuration has.

    Raises:
        ModelUnavailable: a model that cannot be had or does not fit its own configuration, or a configuration that makes none.
        UsageError: nothing of the model's encoder fits the configuration.
    """
    file = config_file(plan)
    model: Any = untrained(read_config(file), str(file))
    with torch.no_grad():
        if model.pred_obj_scores:
            *_, last = [layer for layer in model.sam_mask_decoder.pred_obj_score_head.modules() if isinstance(layer, nn.Linear)]
            last.bias.fill_(VISIBLE_AT_FIRST)
        _look_where_prompted(model.sam_mask_decoder.transformer)
    taken = 0.0 if plan.model is None else _take_over(model, plan.model, file, whole=plan.config is None)
    return Built(model, file.read_bytes(), taken)


def _take_over(model: nn.Module, start: str, file: Path, *, whole: bool) -> float:
    """Give the model those weights of a trained one that fit, or with ``whole`` all of them. Returns the share that it has from there."""
    weights, wanted = read_weights(locate(start).weights), model.state_dict()
    if whole:
        check_fit(model, weights, start)
    fitting = {name: value for name, value in weights.items() if name in wanted and value.shape == wanted[name].shape}
    if not any(name.startswith("image_encoder.trunk.blocks.") for name in fitting):
        raise UsageError(f"nothing of the encoder of {start} fits the model that {file} describes; leave --model out")
    model.load_state_dict({**wanted, **fitting})
    share: float = sum(value.numel() for value in fitting.values()) / sum(value.numel() for value in wanted.values())
    return share


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


def write_model(network: nn.Module, config: bytes, folder: Path, *, half: bool) -> None:
    """Weights and configuration, each whole or not at all, the configuration last. Raises OutputError."""
    from safetensors.torch import save

    dtype = torch.float16 if half else torch.float32
    state = {name: value.detach().to("cpu", dtype).contiguous().clone() for name, value in network.state_dict().items()}
    write(folder / WEIGHTS, lambda file: file.write(save(state, {"format": "pt"})))
    write(folder / CONFIG, lambda file: file.write(config))


def write_report(folder: Path, plan: SegmentPlan, figures: dict[str, Any], *, taken: float, seconds: float, started: Started) -> None:
    """README.md and curves.png. ``taken`` as of `Built`. Raises OutputError."""
    figure = plot(read_metrics(folder / "metrics.jsonl"), "SAM 2 on the tiny world", "iou")
    write(folder / "curves.png", lambda file: figure.savefig(file, format="png"))
    parameters = sum(value.numel() for value in _weights(folder).values())
    device = device_name(started.device)
    text = card(str(folder), plan, figures, taken=taken, parameters=parameters, seconds=seconds, device=device, dtype=started.dtype_name)
    write(folder / "README.md", lambda file: file.write(text.encode("utf-8", "surrogateescape")))


def card(
    name: str, plan: SegmentPlan, figures: dict[str, Any], *, taken: float, parameters: int, seconds: float, device: str, dtype: str
) -> str:
    """README.md, with the front matter that the hub reads."""
    rows = "\n".join(f"| {measured} | {values['training']:.3f} | {values['held_out']:.3f} |" for measured, values in figures.items())
    versions = ", ".join(f"{package} {version(package)}" for package in _PACKAGES)
    warmup = min(plan.warmup, (plan.steps - plan.heads_alone) // 10)  # as `Learner` has it
    start = "from nothing" if plan.model is None else f"on from {plan.model}"
    if plan.model is not None and plan.config is not None:
        start += f", whose weights {taken:.0%} of its own were at first,"
    return f"""---
library_name: sam2
pipeline_tag: mask-generation
tags: [image-segmentation, video-segmentation, sam2, visiontk]
---
# {name}

SAM 2: the classes of the package sam2, {parameters / 1e6:.2f} M parameters in {"fp16" if plan.half else "fp32"}, trained {start} on the
drawn things of visiontk's tiny world.

    visiontk segment VIDEO --model {name} --prompt point

**How good.** Measured with the weights in this folder on {PICTURES} fresh pictures and {CLIPS} fresh clips of {FRAMES} frames,
in the styles of drawing that it was trained on and in one that it never saw:

| | training styles | held-out style |
|---|---|---|
{rows}

J is the intersection over union of a mask, F the agreement of its outline, J&F their mean (DAVIS 2017, without the first and the last
frame); the click is on the pixel of the object that is nearest to its middle. Things of fewer than {LEAST_PIXELS} pixels, in clips on the
first frame, are not asked for.

**How it was made.** {_course(plan)};
learning rate {plan.lr:g} with {warmup} steps of linear warm-up, then half a cosine to 0; the matrices of its layers by Muon at
{MUON:g} times that, all else by NAdamW; moving average of the weights {plan.ema:g}.
Prompts are points, boxes and masks, with correction clicks where the answer is wrong. The losses are those of the SAM 2 paper,
but for focal and dice, {FOCAL:g} to {DICE:g} where it has 20 to 1; beside them the encoder and the memory attention are asked
questions of their own, by heads that are thrown away in the end.

    {plan.command(name, dtype)}

Seed {plan.seed}; {seconds / 60:.0f} minutes on {device}.
{versions}, Python {platform.python_version()}.

![curves](curves.png)
"""


def _course(plan: SegmentPlan) -> str:
    """The steps, in their order."""
    heads, encoder, pictures = plan.heads_alone, plan.encoder_alone, plan.pictures_alone
    clips = plan.steps - heads - encoder - pictures
    parts = [
        f"{heads} of the heads alone that help the encoder" if heads else "",
        f"{encoder} of the encoder and what enlarges its map alone over {ENCODER_IMAGES * plan.images} pictures each" if encoder else "",
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
