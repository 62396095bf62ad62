"""The published VQGAN: its configuration, and the names and shapes of its tensors."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

Shapes = dict[str, tuple[int, ...]]

PUBLIC = {
    "_class_name": "VQGANModel",
    "resolution": 256,
    "num_channels": 3,
    "hidden_channels": 128,
    "channel_mult": [1, 2, 2, 4, 6],
    "num_res_blocks": 2,
    "attn_resolutions": [],
    "no_attn_mid_block": True,
    "z_channels": 64,
    "num_embeddings": 8192,
    "quantized_embed_dim": 64,
    "resample_with_conv": True,
}
SMALL = PUBLIC | {
    "resolution": 16,
    "hidden_channels": 32,
    "channel_mult": [1, 2, 2],
    "num_res_blocks": 1,
    "z_channels": 6,
    "num_embeddings": 24,
    "quantized_embed_dim": 5,
}


def original(config: dict[str, Any]) -> Shapes:
    """Names and shapes of the tensors of open-muse's VQGANModel, written down from its modules one by one."""
    found: Shapes = {}
    hidden, factors, blocks = config["hidden_channels"], config["channel_mult"], config["num_res_blocks"]
    latent, embedded, channels = config["z_channels"], config["quantized_embed_dim"], config["num_channels"]

    def convolution(name: str, into: int, out: int, side: int = 3) -> None:
        found[f"{name}.weight"], found[f"{name}.bias"] = (out, into, side, side), (out,)

    def norm(name: str, width: int) -> None:
        found[f"{name}.weight"], found[f"{name}.bias"] = (width,), (width,)

    def block(name: str, into: int, out: int) -> None:
        norm(f"{name}.norm1", into)
        convolution(f"{name}.conv1", into, out)
        norm(f"{name}.norm2", out)
        convolution(f"{name}.conv2", out, out)
        if into != out:
            convolution(f"{name}.nin_shortcut", into, out, 1)

    widths = [hidden * factor for factor in factors]
    convolution("encoder.conv_in", channels, hidden)
    into = hidden
    for level, width in enumerate(widths):
        for place in range(blocks):
            block(f"encoder.down.{level}.block.{place}", into, width)
            into = width
        if level < len(widths) - 1:
            convolution(f"encoder.down.{level}.downsample.conv", width, width)
    for side in ("encoder", "decoder"):
        block(f"{side}.mid.block_1", widths[-1], widths[-1])
        block(f"{side}.mid.block_2", widths[-1], widths[-1])
    norm("encoder.norm_out", widths[-1])
    convolution("encoder.conv_out", widths[-1], latent)
    convolution("decoder.conv_in", latent, widths[-1])
    into = widths[-1]
    for level in reversed(range(len(widths))):
        for place in range(blocks + 1):
            block(f"decoder.up.{level}.block.{place}", into, widths[level])
            into = widths[level]
        if level > 0:
            convolution(f"decoder.up.{level}.upsample.conv", into, into)
    norm("decoder.norm_out", hidden)
    convolution("decoder.conv_out", hidden, channels)
    found["quantize.embedding.weight"] = (config["num_embeddings"], embedded)
    convolution("quant_conv", latent, embedded, 1)
    convolution("post_quant_conv", embedded, latent, 1)
    return found


def tensors(config: dict[str, Any], seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=generator) * 0.2 for name, shape in original(config).items()}
