"""The tokenizer of the bundled sequential model: pictures to an eighth of the sides in codes of one codebook, and back.

It is diffusers' ``VQModel`` (the autoencoder of VQGAN, Esser et al. 2021, arXiv 2012.09841), and learns without an adversary.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

FACTOR = 8  # pixels of a side to one code
WIDTHS = (16, 32, 64, 128)
LATENTS = 16
CONSTANT = 4.0  # of the two channels that hold the size of what is normalised
# Where SiLU is straightest (its second derivative is 0), what it is there and how steep.
_STRAIGHT = 2.3994
_VALUE, _SLOPE = _STRAIGHT / (1 + math.exp(-_STRAIGHT)), 1.0998
_DETAIL = 3 + 2  # first of the channels with details, after the colours and the constants


def new_vqgan(size: int, codes: int) -> Any:
    """With random weights, seeded by the caller, for pictures of ``size`` pixels a side.

    From random weights an autoencoder first finds brightness, much later one colour, then the other, and group normalisation makes it
    harder. So this one starts as something that works: all residual branches give nothing; means of 2 x 2 pixels go down and, with the
    differences that they lose (Haar wavelets), into the latents; the decoder enlarges the means. The normalisation before the last layers
    is over one group, in which two constant channels outweigh the picture, and the activation after it stands where it is straight.
    """
    from diffusers import VQModel

    made: Any = VQModel(
        down_block_types=("DownEncoderBlock2D",) * len(WIDTHS),
        up_block_types=("UpDecoderBlock2D",) * len(WIDTHS),
        block_out_channels=WIDTHS,
        layers_per_block=1,
        latent_channels=LATENTS,
        sample_size=size,
        num_vq_embeddings=codes,
        norm_num_groups=1,
        vq_embed_dim=LATENTS,
        mid_block_add_attention=False,
        lookup_from_codebook=True,
    )
    with torch.no_grad():
        _start(made)
    return made


def _start(made: Any) -> None:
    for block in made.modules():
        if type(block).__name__ == "ResnetBlock2D":
            block.conv2.weight.zero_()
            block.conv2.bias.zero_()
            if block.conv_shortcut is not None:
                _pass(block.conv_shortcut, torch.ones(1), block.in_channels)
    encoder, decoder = made.encoder, made.decoder
    for half in (encoder, decoder):
        _pass(half.conv_in, torch.tensor([0.0, 1.0, 0.0]), 3)
        half.conv_in.weight[3:5] = 0
        half.conv_in.bias[3], half.conv_in.bias[4] = CONSTANT, -CONSTANT
    # Pixels are from 0 to 1, and from -1 to 1 within.
    encoder.conv_in.weight[:3] *= 2
    encoder.conv_in.bias[:3] = -1
    details = _DETAIL
    for block in encoder.down_blocks:
        for down in block.downsamplers or ():
            _pass(down.conv, torch.tensor([0.5, 0.5, 0.0]), down.conv.in_channels)
            details = _take_details(down.conv, details)
    for block in decoder.up_blocks:
        for up in block.upsamplers or ():
            _pass(up.conv, torch.tensor([0.25, 0.5, 0.25]), up.conv.in_channels)
    _straight_out(encoder, [0, 1, 2, *range(details - 9, details)])
    _straight_out(decoder, [0, 1, 2])
    decoder.conv_out.weight *= 0.5
    decoder.conv_out.bias.mul_(0.5).add_(0.5)
    for conv in (made.quant_conv, made.post_quant_conv):
        _pass(conv, torch.ones(1), LATENTS)


def _pass(conv: nn.Conv2d, taps: Tensor, channels: int) -> None:
    """The first ``channels`` go through, as many as fit; others keep their random weights but see as little."""
    conv.weight.mul_(0.5)
    conv.weight[:channels] = 0
    if conv.bias is not None:
        conv.bias.zero_()
    for channel in range(min(channels, conv.out_channels)):
        conv.weight[channel, channel] = torch.outer(taps, taps)


def _take_details(conv: nn.Conv2d, first: int) -> int:
    """Differences of the colours, which the means lose, go into nine channels from ``first``; returns the first that is free then."""
    mean, difference = torch.tensor([0.5, 0.5, 0.0]), torch.tensor([0.5, -0.5, 0.0])
    for rows, columns in ((mean, difference), (difference, mean), (difference, difference)):
        for colour in range(3):
            conv.weight[first] = 0
            conv.weight[first, colour] = torch.outer(rows, columns)
            first += 1
    return first


def _straight_out(half: Any, channels: list[int]) -> None:
    """What is in ``channels`` comes out nearly as it is, in order; further outputs keep their random weights."""
    norm, conv = half.conv_norm_out, half.conv_out
    norm.weight.fill_(CONSTANT * math.sqrt(2 / norm.num_channels))
    norm.bias.fill_(_STRAIGHT)
    conv.weight.mul_(0.1)
    conv.bias.zero_()
    for number, channel in enumerate(channels):
        conv.weight[number] = 0
        conv.weight[number, channel, 1, 1] = 1 / _SLOPE
        conv.bias[number] = -_VALUE / _SLOPE
