"""How a drawing may be varied before it is placed: colours, outline, flatness."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional

from .colours import NAMES, palette
from .draws import Draws

_LUMA = (0.299, 0.587, 0.114)  # Rec. 601
_OUTLINE_WIDTHS = (3, 5)  # of the max-pooling window: one or two pixels on each side
_VISIBLE_TURN = 0.04  # a hue that is turned by less keeps its name


@dataclass(frozen=True)
class Augment:
    """Ranges and probabilities, each drawn anew for every object; the default leaves drawings as they are.

    Attributes:
        hue: the hue is turned by up to so many turns either way (0.5 is everything).
        saturation, contrast, brightness: factors from 1 - x to 1 + x for the first two, an offset of up to x either way for the last.
        grey: probability that the drawing loses its colours.
        tint: probability that it is dyed in a named colour, which its caption then names.
        flat: probability that its shades are reduced to a few flat ones.
        outline: probability of a line of one or two pixels around it.
        share: probability that a drawing is varied at all.
    """

    hue: float = 0.0
    saturation: float = 0.0
    contrast: float = 0.0
    brightness: float = 0.0
    grey: float = 0.0
    tint: float = 0.0
    flat: float = 0.0
    outline: float = 0.0
    share: float = 1.0


@dataclass(frozen=True)
class Looks:
    """Textures after augmentation.

    Attributes:
        textures: float32 (N, 4, 64, 64), RGB multiplied by alpha.
        recoloured: bool (N), the drawing's own colour no longer holds.
        tints: int64 (N), the colour it was dyed in, or -1.
    """

    textures: torch.Tensor
    recoloured: torch.Tensor
    tints: torch.Tensor


def vary(textures: torch.Tensor, augment: Augment, draws: Draws, per_item: int) -> Looks:
    """Vary ``textures`` (B * per_item, 4, 64, 64), of which ``per_item`` in a row belong to one item of ``draws``."""

    def spread(low: float, high: float) -> torch.Tensor:
        return draws.between(low, high, per_item).flatten()

    def some(probability: float) -> torch.Tensor:
        return draws.chance(probability, per_item).flatten()

    turns = spread(-augment.hue, augment.hue)
    dyed, greyed, flattened, outlined = (some(p) for p in (augment.tint, augment.grey, augment.flat, augment.outline))
    tints = torch.where(dyed, draws.choose(len(NAMES), per_item).flatten(), -1)
    alpha = textures[:, 3:]
    colours = textures[:, :3] / alpha.clamp(min=1 / 255)
    if augment.hue:
        colours = turn_hue(colours, turns)
    if augment.saturation or augment.grey:
        factors = torch.where(greyed, 0.0, spread(1 - augment.saturation, 1 + augment.saturation))
        luma = _luma(colours)
        colours = luma + (colours - luma) * factors[:, None, None, None]
    if augment.contrast or augment.brightness:
        gain, offset = spread(1 - augment.contrast, 1 + augment.contrast), spread(-augment.brightness, augment.brightness)
        colours = 0.5 + (colours - 0.5) * gain[:, None, None, None] + offset[:, None, None, None]
    if augment.tint:
        colours = torch.where(dyed[:, None, None, None], dye(colours, palette(colours.device)[tints.clamp(min=0)]), colours)
    if augment.flat:
        steps = torch.floor(spread(3, 6))[:, None, None, None]
        colours = torch.where(flattened[:, None, None, None], (colours * steps).round() / steps, colours)
    colours = colours.clamp(0, 1)
    if augment.outline:
        colours, alpha = _outline(colours, alpha, outlined, some(0.5), some(0.6), draws.uniform(per_item, 3).flatten(0, 1))
    recoloured = (turns.abs() > _VISIBLE_TURN) | greyed | dyed
    varied = torch.cat([colours * alpha, alpha], dim=1)
    if augment.share < 1:
        chosen = some(augment.share)
        varied = torch.where(chosen[:, None, None, None], varied, textures)
        recoloured, tints = recoloured & chosen, torch.where(chosen, tints, -1)
    return Looks(varied, recoloured, tints)


def as_they_are(textures: torch.Tensor) -> Looks:
    """``textures`` that were not varied."""
    nothing = torch.zeros(len(textures), dtype=torch.bool, device=textures.device)
    return Looks(textures, nothing, torch.full_like(nothing, -1, dtype=torch.long))


def turn_hue(colours: torch.Tensor, turns: torch.Tensor) -> torch.Tensor:
    """``colours`` (N, 3, H, W) with their chroma turned in the YIQ plane by ``turns`` (N); the luma stays."""
    red, green, blue = colours.unbind(1)
    y = _luma(colours)[:, 0]
    i = 0.5959 * red - 0.2746 * green - 0.3213 * blue
    q = 0.2115 * red - 0.5227 * green + 0.3112 * blue
    angle = (turns * (2 * torch.pi))[:, None, None]
    cosine, sine = angle.cos(), angle.sin()
    i, q = i * cosine - q * sine, i * sine + q * cosine
    return torch.stack([y + 0.956 * i + 0.619 * q, y - 0.272 * i - 0.647 * q, y - 1.106 * i + 1.703 * q], dim=1)


def dye(colours: torch.Tensor, tint: torch.Tensor) -> torch.Tensor:
    """``colours`` (N, 3, H, W) in shades of ``tint`` (N, 3): darker for dark pixels, up to a quarter on the way to white for light ones."""
    luma = _luma(colours)
    own = tint[:, :, None, None]
    return torch.where(luma < 0.5, own * (0.4 + 1.2 * luma), own + (1 - own) * (luma - 0.5) * 0.5)


def _luma(colours: torch.Tensor) -> torch.Tensor:
    red, green, blue = colours[:, :1], colours[:, 1:2], colours[:, 2:]
    return _LUMA[0] * red + _LUMA[1] * green + _LUMA[2] * blue


def _outline(
    colours: torch.Tensor, alpha: torch.Tensor, outlined: torch.Tensor, wide: torch.Tensor, plain: torch.Tensor, other: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """A line behind the drawing, as far as its dilated alpha goes: black or white where ``plain``, else of colour ``other`` (N, 3)."""
    narrow, broad = (functional.max_pool2d(alpha, width, stride=1, padding=width // 2) for width in _OUTLINE_WIDTHS)
    grown = torch.where(wide[:, None, None, None], broad, narrow)
    line = torch.where(plain[:, None], (other[:, :1] > 0.5).float().expand_as(other), other)[:, :, None, None]
    under = grown * (1 - alpha)
    merged = alpha + under
    mixed = (colours * alpha + line * under) / merged.clamp(min=1 / 255)
    chosen = outlined[:, None, None, None]
    return torch.where(chosen, mixed, colours), torch.where(chosen, merged, alpha)
