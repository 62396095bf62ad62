"""What is learned from: pictures of one thing each before something calm, and their captions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from visiontk.tiny import world

if TYPE_CHECKING:
    from visiontk.tiny.scenes import Scenes

# Plain ones most of the time: their colour is in the caption and shall be right. Pieces of photos are beyond so small a model.
BACKGROUNDS = ("plain", "plain", "plain", "plain", "gradient", "texture")
CALM_STYLE = "fluent"
TINTED = 0.15  # share of the things that are dyed in a colour that the caption names


def scenes(seed: int, indices: Sequence[int], size: int, *, calm: bool = False) -> Scenes:
    """Pictures in the training styles, anywhere and at any angle; or, ``calm``, upright in the middle and in one style."""
    styles, augment = (CALM_STYLE,) if calm else world.TRAIN_STYLES, world.Augment(tint=TINTED)
    return world.render_scenes(seed, indices, size=size, styles=styles, backgrounds=BACKGROUNDS, augment=augment, calm=calm)


def pixels(images: Tensor) -> Tensor:
    """uint8 (B, 3, S, S) to float32 from -1 to 1, as the autoencoder takes them."""
    return images.float().div_(127.5).sub_(1)
