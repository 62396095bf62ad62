"""Fitting a pipeline to the machine: where its parts lie, in how many bits, and compiled or not."""

from __future__ import annotations

import importlib.util
from typing import Any

import torch
from torch import nn

from visiontk.errors import DeviceError, UsageError

from .generate_quiet import importing, quiet

QUANTIZE = ("int8",)
OFFLOAD = ("model", "sequential")


def check(quantize: str | None, offload: str | None, device: torch.device) -> None:
    """Say what is not possible, before anything is read.

    Raises:
        UsageError: a word that is none, or a package is missing.
        DeviceError: there is no GPU to bring parts to.
    """
    if quantize is not None and quantize not in QUANTIZE:
        raise UsageError(f"quantization {quantize!r} is unknown; use {', '.join(QUANTIZE)}")
    if quantize is not None and importlib.util.find_spec("torchao") is None:
        raise UsageError(f"quantization to {quantize} needs the package torchao; install visiontk[quantize]")
    if offload is not None and offload not in OFFLOAD:
        raise UsageError(f"offload {offload!r} is unknown; use {' or '.join(OFFLOAD)}")
    if offload is not None and device.type == "cpu":
        raise DeviceError(f"offload {offload} keeps weights in memory until a GPU needs them, and there is no GPU; leave it out")


def denoiser(pipeline: Any) -> nn.Module:
    """The part that runs at every step."""
    part = getattr(pipeline, "transformer", None) or getattr(pipeline, "unet", None)
    assert isinstance(part, nn.Module), "a pipeline that makes images has one of them"
    return part


def to_int8(pipeline: Any) -> None:
    """Weights of the linear layers of the denoiser and the text encoders in 8 bits; they are multiplied in the model's own type.

    What was added by a LoRA stays as it is.
    """
    with importing():
        from torchao.quantization import Int8WeightOnlyConfig, quantize_

    texts = [part for name, part in pipeline.components.items() if name.startswith("text_encoder") and isinstance(part, nn.Module)]
    with quiet():
        for part in (denoiser(pipeline), *texts):
            quantize_(part, Int8WeightOnlyConfig(), lambda layer, name: isinstance(layer, nn.Linear) and "lora_" not in name)


def compile_denoiser(pipeline: Any) -> None:
    """Compile the blocks that repeat, where the architecture has such: that takes a fraction of the time of compiling the whole."""
    network: Any = denoiser(pipeline)
    if getattr(network, "_repeated_blocks", None):
        network.compile_repeated_blocks()
    else:
        network.compile()


def place(pipeline: Any, device: torch.device, offload: str | None) -> None:
    """Bring a pipeline to its device, or let its parts come there when they are needed."""
    with quiet():
        if offload == "model":
            pipeline.enable_model_cpu_offload(device=device)
        elif offload == "sequential":
            pipeline.enable_sequential_cpu_offload(device=device)
        else:
            pipeline.to(device)
