"""How different two pictures look to a network: LPIPS without its learned weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def feature_maps(network: Any, pixels: Tensor) -> list[Tensor]:
    """Features (N, C, H, W) of every stage or block of one of timm's networks, of normalised pixels (N, channels, height, width).

    Raises:
        AttributeError: the architecture does not give them.
    """
    with torch.inference_mode():
        return list(network.forward_intermediates(pixels, intermediates_only=True))


def perceptual_distance(first: Sequence[Tensor], second: Sequence[Tensor]) -> Tensor:
    """Half the squared distance of the features at each place, brought to length 1: float32 (N,), from 0 (alike) to 2.

    It is 1 - cosine, averaged over places, then over layers; Zhang et al. with all weights 1 have twice that, and the sum of the layers.

    Source: Zhang et al., The Unreasonable Effectiveness of Deep Features as a Perceptual Metric, 2018, equation 1.

    Args:
        first, second: maps (N, C, H, W) of each layer, as `feature_maps` gives them.
    """
    layers = [(_directions(one) - _directions(other)).square().sum(1).mean((1, 2)) / 2 for one, other in zip(first, second, strict=True)]
    return torch.stack(layers).mean(0)


def _directions(maps: Tensor) -> Tensor:
    return torch.nn.functional.normalize(maps.float(), dim=1)
