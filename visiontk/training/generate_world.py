"""What is learned from: pictures of one thing each before something calm, and their captions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from visiontk.tiny import world
from visiontk.tiny.captions import noun
from visiontk.tiny.draws import Draws

if TYPE_CHECKING:
    from visiontk.tiny.scenes import Scenes

# Plain ones most of the time: their colour is in the caption and shall be right. Pieces of photos are beyond so small a model.
BACKGROUNDS = ("plain", "plain", "plain", "plain", "gradient", "texture")
CALM_STYLE = "fluent"
TINTED = 0.15  # share of the things that are dyed in a colour that the caption names
UNSAID = 0.5  # share of the things whose own colour the caption leaves out: "an apple" is a red one as well


def scenes(seed: int, indices: Sequence[int], size: int, *, calm: bool = False) -> Scenes:
    """Pictures in the training styles, anywhere and at any angle; or, ``calm``, upright in the middle and in one style."""
    styles, augment = (CALM_STYLE,) if calm else world.TRAIN_STYLES, world.Augment(tint=TINTED)
    return world.render_scenes(seed, indices, size=size, styles=styles, backgrounds=BACKGROUNDS, augment=augment, calm=calm)


def told(drawn: Scenes, seed: int, indices: Sequence[int]) -> list[str]:
    """The captions of `scenes` of one thing each, of which some leave out the thing's own colour."""
    unsaid = Draws(seed, indices, "colour unsaid").chance(UNSAID).tolist()
    return [
        caption.replace(noun(label, colours[0]), noun(label, None), 1)
        if left_out and colours[0] == world.things()[label].colour
        else caption
        for caption, label, colours, left_out in zip(drawn.captions, drawn.labels[:, 0].tolist(), drawn.colours, unsaid, strict=True)
    ]


def pixels(images: Tensor) -> Tensor:
    """uint8 (B, 3, S, S) to float32 from -1 to 1, as the autoencoder takes them."""
    return images.float().div_(127.5).sub_(1)
