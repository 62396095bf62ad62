"""The tokenizer of the bundled sequential model: pictures to an eighth of the sides in codes of one codebook, and back.

It is diffusers' ``VQModel`` (the autoencoder of VQGAN, Esser et al. 2021, arXiv 2012.09841), and learns without an adversary.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

FACTOR = 8  # pixels of a side to one code
WIDTHS = (16, 24, 48, 96)
LATENTS = 16
# Of the two channels that hold the size of what is normalised. In the encoder so large that what is seen of one place does not depend on
# the rest of the picture: things that move through it leave its tokens alone.
CONSTANT, SEEN_BY = 4.0, 32.0
# Where SiLU is straightest (its second derivative is 0), what it is there and how steep.
_STRAIGHT = 2.3994
_VALUE, _SLOPE = _STRAIGHT / (1 + math.exp(-_STRAIGHT)), 1.0998
_COLOURS, _CONSTANTS = slice(0, 3), slice(3, 5)
_DETAILS = 5  # first of the channels with details
_GAIN = 2.0  # of residual branches: what they see has a deviation well below 1
_HAAR = torch.tensor([[[1.0, 1.0], [-1.0, -1.0]], [[1.0, -1.0], [1.0, -1.0]], [[1.0, -1.0], [-1.0, 1.0]]]) / 4


def new_vqgan(size: int, codes: int) -> Any:
    """With random weights, seeded by the caller, for pictures of ``size`` pixels a side.

    From random weights an autoencoder first finds brightness, much later one colour, then the other, and group normalisation makes it
    harder. So this one starts as something that works: all residual branches give nothing; means of 2 x 2 pixels go down, and the decoder
    enlarges them. `see` adds to the latents what means leave out. Normalisations are over one group, in which two constant channels
    outweigh the picture, so that it keeps its contrast, and the activation before the last layers stands where it is straight.
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


@torch.no_grad()
def see(encoder: Any, pictures: Tensor) -> None:
    """Let an encoder that only takes means put the principal components of the rest into its latents.

    From one level to the next these are of 2 x 2 pixels: of the wavelets (Haar) of their colours, and of the details of the level before.

    Args:
        pictures: float32 (N, 3, S, S) from 0 to 1, such as it will see.
    """
    means, details = pictures * 2 - 1, pictures[:, :0]
    for conv in (block.downsamplers[0].conv for block in encoder.down_blocks if block.downsamplers):
        maps = torch.zeros(9 + 4 * details.shape[1], conv.in_channels, 2, 2, device=pictures.device)
        for colour in range(3):
            maps[3 * colour : 3 * colour + 3, colour] = _HAAR.to(pictures.device)
        for number in range(4 * details.shape[1]):
            maps[9 + number, _DETAILS + number // 4, number % 4 // 2, number % 2] = 0.5
        seen = torch.cat([means, means.new_zeros(len(means), 2, *means.shape[2:]), details], 1)
        found = nn.functional.conv2d(seen, maps[:, : seen.shape[1]], stride=2)
        kept = _principal(found)[: conv.out_channels - _DETAILS]
        conv.weight[_DETAILS:] = 0
        conv.weight[_DETAILS : _DETAILS + len(kept), :, :2, :2] = torch.einsum("kf,fcij->kcij", kept, maps)
        means, details = nn.functional.avg_pool2d(means, 2), torch.einsum("kf,bfhw->bkhw", kept, found)


def _principal(found: Tensor) -> Tensor:
    """The principal components of (B, C, H, W) over its channels, (C, C), the largest first."""
    rows = found.permute(0, 2, 3, 1).flatten(0, 2)
    vectors: Tensor = torch.linalg.eigh(rows.double().T.cov().cpu()).eigenvectors
    return vectors.flip(1).T.to(found)


def lr_scale(name: str, parameter: Tensor) -> float:
    """By what the learning rate of a parameter is multiplied: matrices as their inputs are many (Yang et al. 2022, arXiv 2203.03466), and
    less so where nothing leads around them. The encoder, which starts as good as linear ones are, goes slowly, or the codes lose it."""
    share = 1.0 if name.startswith(("decoder.", "post_quant_conv.")) else 0.1
    if parameter.ndim < 2:
        return 0.5 * share
    return share * (100 if "resnets" in name and "shortcut" not in name else 20) / parameter[0].numel()


def _start(made: Any) -> None:
    for block in made.modules():
        if type(block).__name__ == "ResnetBlock2D":
            block.conv2.weight.zero_()
            block.conv2.bias.zero_()
            block.norm1.weight.fill_(_GAIN)
            block.norm1.weight[_CONSTANTS] = 0
            if block.conv_shortcut is not None:
                _pass(block.conv_shortcut, torch.ones(1), block.in_channels)
    encoder, decoder = made.encoder, made.decoder
    for half, size in ((encoder, SEEN_BY), (decoder, CONSTANT)):
        half.conv_in.weight.mul_(0.5)
        half.conv_in.weight[: _DETAILS + LATENTS] = 0
        half.conv_in.bias.zero_()
        half.conv_in.bias[_CONSTANTS] = torch.tensor([size, -size])
        half.conv_in.weight[_COLOURS, :3, 1, 1] = torch.eye(3)
    # Pixels are from 0 to 1, and from -1 to 1 within.
    encoder.conv_in.weight[_COLOURS] *= 2
    encoder.conv_in.bias[_COLOURS] = -1
    decoder.conv_in.weight[_DETAILS : _DETAILS + LATENTS - 3, 3:, 1, 1] = torch.eye(LATENTS - 3)
    for block in encoder.down_blocks:
        for down in block.downsamplers or ():
            _pass(down.conv, torch.tensor([0.5, 0.5, 0.0]), down.conv.in_channels)
    for block in decoder.up_blocks:
        for up in block.upsamplers or ():
            _pass(up.conv, torch.tensor([0.25, 0.5, 0.25]), up.conv.in_channels)
    _straight_out(encoder, SEEN_BY, [0, 1, 2, *range(_DETAILS, _DETAILS + LATENTS - 3)])
    _straight_out(decoder, CONSTANT, [0, 1, 2])
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


def _straight_out(half: Any, constant: float, channels: list[int]) -> None:
    """What is in ``channels`` comes out nearly as it is, in order; further outputs keep their random weights."""
    norm, conv = half.conv_norm_out, half.conv_out
    norm.weight.fill_(constant * math.sqrt(2 / norm.num_channels))
    norm.bias.fill_(_STRAIGHT)
    conv.weight.mul_(0.1)
    conv.bias.zero_()
    for number, channel in enumerate(channels):
        conv.weight[number] = 0
        conv.weight[number, channel, 1, 1] = 1 / _SLOPE
        conv.bias[number] = -_VALUE / _SLOPE
