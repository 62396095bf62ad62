"""Pictures of one or several things."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from visiontk.errors import UsageError

from .backgrounds import KINDS, Backgrounds, render_backgrounds
from .captions import caption, noun, own_colour
from .colours import NAMES
from .draws import Draws
from .layers import Composite, Pose, composite, pick_textures, place, to_bytes
from .looks import Augment, Looks, as_they_are, vary
from .masks import boxes_of
from .sprites import TRAIN_STYLES, check_styles, textures, things

MIN_SIZE, MAX_SIZE, MAX_OBJECTS = 16, 1024, 8
# Sides of the sprites' cells as shares of the canvas: one thing fills most of it, several share it.
_SCALE_ALONE, _SCALE_SHARED = (0.5, 0.95), (0.34, 0.52)
_TILT = 0.35  # radians either way
_CALM = 0.1  # share of it all that is left where things are calm


@dataclass(frozen=True)
class Scenes:
    """B pictures with up to O objects each, the rearmost first. Where a picture has fewer, the rest are labelled -1 and empty.

    Attributes:
        images: uint8 (B, 3, S, S).
        labels: int64 (B, O), class ids; -1 where there is no object.
        masks: bool (B, O, S, S), the visible pixels of each object; disjoint.
        alphas: float32 (B, O, S, S), the opacity of each object as if nothing stood before it.
        boxes: float32 (B, O, 4), xyxy in pixels: the extents of the masks.
        captions: B sentences.
        styles: int64 (B, O), places in the list of styles that were asked for.
        backgrounds: uint8 (B, 3, S, S), the pictures without their objects.
        background_kinds: B of ``plain``, ``gradient``, ``texture``, ``photo``.
        background_colours: B names of colours where plain, else None.
        colours: B lists, the name of each object's colour or None.
    """

    images: torch.Tensor
    labels: torch.Tensor
    masks: torch.Tensor
    alphas: torch.Tensor
    boxes: torch.Tensor
    captions: list[str]
    styles: torch.Tensor
    backgrounds: torch.Tensor
    background_kinds: list[str]
    background_colours: list[str | None]
    colours: list[list[str | None]]

    def __len__(self) -> int:
        return len(self.images)


def render_scenes(
    seed: int,
    indices: int | Sequence[int],
    *,
    size: int = 64,
    objects: int | tuple[int, int] = 1,
    styles: Sequence[str] = TRAIN_STYLES,
    backgrounds: Sequence[str] = KINDS,
    augment: Augment | None = None,
    labels: torch.Tensor | None = None,
    calm: bool = False,
    device: torch.device | str = "cpu",
) -> Scenes:
    """Render pictures of the tiny world.

    Args:
        seed: with an index it names a picture.
        indices: which pictures; a number N means 0 to N - 1.
        size: side in pixels.
        objects: how many, or the least and the most.
        styles: each object is drawn in one of these.
        backgrounds: kinds that may occur.
        augment: how drawings are varied; None leaves them as they are.
        labels: int64 (B, most objects), to choose the classes; else they are drawn evenly, no class twice in a picture.
        calm: a thing on its own stands nearly upright, nearly in the middle, and is not mirrored.
        device: where to render. Every device gives the same scenes, with pixels equal up to rounding.

    Raises:
        UsageError: a style or background that does not exist, a size or number of objects out of range.
    """
    indices = list(range(indices)) if isinstance(indices, int) else list(indices)
    device, styles = torch.device(device), check_styles(styles)
    low, high = check_objects(size, objects)
    counts = low + Draws(seed, indices, "count", device).choose(high - low + 1)
    there = torch.arange(high, device=device) < counts[:, None]
    drawn = draw_labels(seed, indices, high, device) if labels is None else labels.to(device)
    drawn = torch.where(there, drawn, -1)
    chosen_styles = Draws(seed, indices, "style", device).choose(len(styles), high)

    pose = _poses(Draws(seed, indices, "pose", device), counts, high)
    if calm and high == 1:
        pose = _calmed(pose)
    flat_scale = pose.scale.flatten()
    picked = pick_textures(textures(styles, device), chosen_styles.flatten(), drawn.flatten(), flat_scale, size)
    looks = vary(picked, augment, Draws(seed, indices, "looks", device), high) if augment else as_they_are(picked)
    named = own_colours(drawn, looks)
    behind = render_backgrounds(seed, indices, size, backgrounds, avoided(named), device)
    layers = place(looks.textures, pose, size).view(len(indices), high, 1, 4, size, size)
    layers = layers * there[:, :, None, None, None, None]
    result = composite(behind.images, layers)
    masks, alphas = result.masks[:, 0], result.alphas[:, 0]
    return Scenes(
        images=to_bytes(result.images[:, 0]),
        labels=drawn,
        masks=masks,
        alphas=alphas,
        boxes=boxes_of(masks),
        captions=_captions(drawn, named, pose, result, behind),
        styles=torch.where(there, chosen_styles, -1),
        backgrounds=to_bytes(behind.images),
        background_kinds=behind.kinds,
        background_colours=behind.colours,
        colours=named,
    )


def check_objects(size: int, objects: int | tuple[int, int]) -> tuple[int, int]:
    """The least and the most objects. Raises UsageError where they or the size are out of range."""
    low, high = (objects, objects) if isinstance(objects, int) else objects
    if not 1 <= low <= high <= MAX_OBJECTS:
        raise UsageError(f"{low} to {high} objects cannot be placed; use 1 to {MAX_OBJECTS}")
    if not MIN_SIZE <= size <= MAX_SIZE:
        raise UsageError(f"the size of {size} pixels is out of range; use {MIN_SIZE} to {MAX_SIZE}")
    return low, high


def draw_labels(seed: int, indices: Sequence[int], most: int, device: torch.device) -> torch.Tensor:
    """int64 (B, most): classes, none twice in a row."""
    ranks = Draws(seed, indices, "labels").uniform(len(things()))
    return ranks.argsort(dim=1)[:, :most].to(device)


def avoided(named: Sequence[Sequence[str | None]]) -> torch.Tensor:
    """bool (B, 11): the named colours that occur among the objects of each picture."""
    return torch.tensor([[name in row for name in NAMES] for row in named], dtype=torch.bool).view(-1, len(NAMES))


def own_colours(labels: torch.Tensor, looks: Looks) -> list[list[str | None]]:
    """The name of the colour of each thing that is there, or None."""
    recoloured, tints = looks.recoloured.view_as(labels).tolist(), looks.tints.view_as(labels).tolist()
    return [
        [own_colour(*values) for values in zip(row, changed, tint, strict=True) if values[0] >= 0]
        for row, changed, tint in zip(labels.tolist(), recoloured, tints, strict=True)
    ]


def _poses(draws: Draws, counts: torch.Tensor, most: int) -> Pose:
    """One object stands anywhere that it fits; several stand around the middle, turned by a random angle, some overlapping."""
    alone = (counts == 1)[:, None]
    small = 1 / (counts.float() / 3).clamp(min=1).sqrt()[:, None]
    share = draws.uniform(most)
    scale = torch.where(
        alone,
        _SCALE_ALONE[0] + (_SCALE_ALONE[1] - _SCALE_ALONE[0]) * share,
        (_SCALE_SHARED[0] + (_SCALE_SHARED[1] - _SCALE_SHARED[0]) * share) * small,
    )
    room = (1 - scale) / 2
    offset = draws.between(-1, 1, most, 2) * room[..., None]
    turn = draws.between(0, 2 * math.pi)[:, None] + torch.arange(most, device=draws.device) * (2 * math.pi) / counts[:, None]
    radius = torch.minimum(draws.between(0.12, 0.32)[:, None], room)
    x = 0.5 + torch.where(alone, offset[..., 0], turn.cos() * radius)
    y = 0.5 + torch.where(alone, offset[..., 1], turn.sin() * radius)
    angle = draws.between(-_TILT, _TILT, most)
    flip = torch.where(draws.chance(0.5, most), -1.0, 1.0)
    return Pose(*(value.reshape(-1, 1) for value in (x, y, scale, angle, flip)))


def _calmed(pose: Pose) -> Pose:
    """A tenth of the tilt and of the way from the middle, about three quarters of the canvas large, never mirrored."""
    near, size = _CALM, sum(_SCALE_ALONE) / 2
    x, y = (0.5 + (value - 0.5) * near for value in (pose.x, pose.y))
    return Pose(x, y, size + (pose.scale - size) * near, pose.angle * near, torch.ones_like(pose.flip))


def _captions(labels: torch.Tensor, named: list[list[str | None]], pose: Pose, result: Composite, behind: Backgrounds) -> list[str]:
    xs, ys = pose.x.view_as(labels).tolist(), pose.y.view_as(labels).tolist()
    whole = (result.alphas[:, 0] > 0.5).sum((-1, -2))
    covered = (1 - result.masks[:, 0].sum((-1, -2)) / whole.clamp(min=1)).tolist()
    sentences = []
    for item, colours in enumerate(named):
        nouns = [noun(label, colour) for label, colour in zip(labels[item].tolist(), colours, strict=False)]
        middles = list(zip(xs[item], ys[item], strict=True))
        sentences.append(caption(nouns, middles, covered[item], behind.phrases[item]))
    return sentences
