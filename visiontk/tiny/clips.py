"""Clips: things that move, turn, grow and shrink, bounce off the borders, pass behind each other, leave and come back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from visiontk.errors import UsageError

from .backgrounds import KINDS, render_backgrounds
from .captions import listed, noun
from .draws import Draws
from .layers import VISIBLE, Pose, composite, pick_textures, place, to_bytes
from .looks import Augment, as_they_are, vary
from .masks import boxes_of, index_map
from .scenes import avoided, check_objects, draw_labels, own_colours
from .sprites import TRAIN_STYLES, check_styles, textures

MAX_FRAMES, MAX_MOVERS = 10_000, 3
_OUTSIDE = 0.45  # how far beyond the border, as a share of the canvas, the middle of a thing goes that leaves
_PIXELS_AT_ONCE = 2**20  # of all layers; more frames are rendered one part after another
_LONGEST_WAY = 60  # frames until it is back
_LEAVES, _PASSES = 0.3, 0.3  # shares of the clips in which one thing leaves, or passes behind the front one


@dataclass(frozen=True)
class Clip:
    """One clip of T frames with O objects; the same fields as `Clips` without the first dimension.

    Attributes:
        frames: uint8 (T, 3, S, S).
        index_masks: uint8 (T, S, S): 0 is background, object o is o + 1; where it is hidden it has no pixels.
        labels: int64 (O), class ids. A later object is always before an earlier one.
        boxes: float32 (T, O, 4), xyxy in pixels; zeros where the object is hidden.
        visible: float32 (T, O), the visible share of what the object would cover if nothing stood before it and the canvas had no border.
        caption: ``a dog and a car on a blue background``.
    """

    frames: torch.Tensor
    index_masks: torch.Tensor
    labels: torch.Tensor
    boxes: torch.Tensor
    visible: torch.Tensor
    caption: str


@dataclass(frozen=True)
class Clips:
    """B clips of T frames with up to O objects, the rearmost first; a clip with fewer has the label -1 and no pixels for the rest.

    Attributes:
        frames: uint8 (B, T, 3, S, S).
        index_masks: uint8 (B, T, S, S).
        labels: int64 (B, O).
        boxes: float32 (B, T, O, 4).
        visible: float32 (B, T, O).
        captions: B sentences.
    """

    frames: torch.Tensor
    index_masks: torch.Tensor
    labels: torch.Tensor
    boxes: torch.Tensor
    visible: torch.Tensor
    captions: list[str]

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> Clip:
        count = int((self.labels[index] >= 0).sum())
        return Clip(
            self.frames[index],
            self.index_masks[index],
            self.labels[index, :count],
            self.boxes[index, :, :count],
            self.visible[index, :, :count],
            self.captions[index],
        )


def render_clip(seed: int, index: int, frames: int = 24, **options: object) -> Clip:
    """One clip; ``options`` as in `render_clips`."""
    return render_clips(seed, [index], frames, **options)[0]  # type: ignore[arg-type]


def render_clips(
    seed: int,
    indices: int | Sequence[int],
    frames: int = 24,
    *,
    size: int = 64,
    objects: int | tuple[int, int] = (1, 3),
    styles: Sequence[str] = TRAIN_STYLES,
    backgrounds: Sequence[str] = KINDS,
    leaves: float = _LEAVES,
    passes: float = _PASSES,
    augment: Augment | None = None,
    shown: range | None = None,
    device: torch.device | str = "cpu",
) -> Clips:
    """Render clips of the tiny world. The background stands still; each object keeps its drawing and its place in the order of depth.

    Args:
        seed, indices, size, styles, backgrounds, device: as in `visiontk.tiny.scenes.render_scenes`.
        frames: T.
        objects: 1 to 3, or the least and the most.
        leaves: probability that the rearmost thing moves out of the picture and returns.
        passes: probability that it goes behind a larger thing, in clips with two or more.
        augment: how drawings are varied, each for the whole of its clip; None leaves them as they are.
        shown: render these of the T frames alone.

    Raises:
        UsageError: as there, and for a number of frames or objects out of range.
    """
    indices = list(range(indices)) if isinstance(indices, int) else list(indices)
    device, styles = torch.device(device), check_styles(styles)
    low, high = check_clip(size, objects, frames)
    counts = low + Draws(seed, indices, "clip count", device).choose(high - low + 1)
    there = torch.arange(high, device=device) < counts[:, None]
    labels = torch.where(there, draw_labels(seed, indices, high, device), -1)
    chosen_styles = Draws(seed, indices, "clip style", device).choose(len(styles), high)

    pose = _motion(Draws(seed, indices, "motion", device), counts, high, frames, leaves, passes)
    mean_scale = pose.scale.mean(-1).flatten()
    picked = pick_textures(textures(styles, device), chosen_styles.flatten(), labels.flatten(), mean_scale, size)
    looks = vary(picked, augment, Draws(seed, indices, "clip looks", device), high) if augment else as_they_are(picked)
    named = own_colours(labels, looks)
    behind = render_backgrounds(seed, indices, size, backgrounds, avoided(named), device)
    shown = range(frames) if shown is None else shown
    step = max(1, _PIXELS_AT_ONCE // (len(indices) * high * size**2))
    some = [shown[start : start + step] for start in range(0, len(shown), step)]
    parts = [_render_part(looks.textures, pose.at(times), behind.images, there, size) for times in some]
    pictures, index_masks, boxes, visible = (torch.cat(values, dim=1) for values in zip(*parts, strict=True))
    captions = [_caption(row, colours, phrase) for row, colours, phrase in zip(labels.tolist(), named, behind.phrases, strict=True)]
    return Clips(pictures, index_masks, labels, boxes, visible, captions)


def check_clip(size: int, objects: int | tuple[int, int], frames: int) -> tuple[int, int]:
    """The least and the most objects. Raises UsageError where they, the size or the number of frames are out of range."""
    low, high = check_objects(size, objects)
    if high > MAX_MOVERS:
        raise UsageError(f"{high} objects are too many for a clip; use 1 to {MAX_MOVERS}")
    if not 1 <= frames <= MAX_FRAMES:
        raise UsageError(f"{frames} frames are out of range; use 1 to {MAX_FRAMES}")
    return low, high


def _render_part(
    picked: torch.Tensor, pose: Pose, background: torch.Tensor, there: torch.Tensor, size: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Frames, index masks, boxes and visible shares for some of the frames, as in `Clips`."""
    count, most = there.shape
    layers = place(picked, pose, size).view(count, most, -1, 4, size, size) * there[:, :, None, None, None, None]
    result = composite(background, layers)
    covers = (picked[:, 3] > VISIBLE).float().mean((-1, -2)).view(count, 1, most)
    whole = covers * (pose.scale.view(count, most, -1).transpose(1, 2) * size).square()
    visible = (result.masks.sum((-1, -2)) / whole.clamp(min=1)).clamp(max=1.0)
    return to_bytes(result.images), index_map(result.masks), boxes_of(result.masks), visible


def _motion(draws: Draws, counts: torch.Tensor, most: int, frames: int, leaves: float, passes: float) -> Pose:
    """Poses (B * most, T). Speeds are shares of the canvas a frame; a path is a straight line folded at the borders."""
    time = torch.arange(frames, device=draws.device, dtype=torch.float32)
    passing = draws.chance(passes) & (counts > 1)
    leaving = draws.chance(leaves) & ~passing
    base = _sizes(draws.between(0.3, 0.5, most), passing, counts - 1)
    heading, speed = draws.between(0, 2 * math.pi, most), draws.between(0.008, 0.04, most)
    velocity = torch.stack([heading.cos(), heading.sin()], dim=-1) * speed[..., None]
    low = base[..., None] / 2
    origin = low + draws.uniform(most, 2) * (1 - 2 * low)
    path = _fold(origin[:, :, None] + velocity[:, :, None] * time[:, None], low[..., None])
    path = _pass_behind(path, velocity, low, time, passing, counts - 1)
    path = _leave(path, draws, time, leaving)
    swell, rate, phase = draws.between(0, 0.25, most), draws.between(0.03, 0.15, most), draws.between(0, 2 * math.pi, most)
    scale = base[..., None] * (1 + swell[..., None] * (rate[..., None] * time + phase[..., None]).sin())
    angle = draws.between(-0.5, 0.5, most)[..., None] + draws.between(-0.08, 0.08, most)[..., None] * time
    flip = torch.where(draws.chance(0.5, most), -1.0, 1.0)[..., None].expand(-1, -1, frames)
    return Pose(*(value.reshape(-1, frames) for value in (path[..., 0], path[..., 1], scale, angle, flip)))


def _sizes(base: torch.Tensor, passing: torch.Tensor, front: torch.Tensor) -> torch.Tensor:
    """``base`` (B, O), with the front one large and the rear one small in the clips where the one passes behind the other."""
    number = torch.arange(base.shape[1], device=base.device)
    large = passing[:, None] & (number == front[:, None])
    small = passing[:, None] & (number == 0)
    return torch.where(large, 0.5 + 0.4 * base, torch.where(small, 0.16 + 0.2 * base, base))


def _pass_behind(
    path: torch.Tensor, velocity: torch.Tensor, low: torch.Tensor, time: torch.Tensor, passing: torch.Tensor, front: torch.Tensor
) -> torch.Tensor:
    """``path`` (B, O, T, 2), where half-way the rear thing stands behind the front one, if ``passing``; it is quick enough to get away."""
    half = (len(time) - 1) / 2
    meeting = path[torch.arange(len(path), device=path.device), front, int(half)]
    speed = velocity[:, 0].norm(dim=-1, keepdim=True)
    quick = velocity[:, 0] / speed * speed.clamp(min=0.5 / max(half, 1.0))
    behind = _fold(meeting[:, None] + quick[:, None] * (time - half)[:, None], low[:, :1])
    rear = torch.where(passing[:, None, None], behind, path[:, 0])
    return torch.cat([rear[:, None], path[:, 1:]], dim=1)


def _leave(path: torch.Tensor, draws: Draws, time: torch.Tensor, leaving: torch.Tensor) -> torch.Tensor:
    """``path`` (B, O, T, 2), where the rear thing goes out at one of the four sides and comes back, if ``leaving``, again and again."""
    inside, side = draws.between(0.25, 0.75)[:, None], draws.choose(4)
    outside = torch.where(side % 2 == 0, -_OUTSIDE, 1 + _OUTSIDE)[:, None]
    cycle = max(min(len(time) - 1, _LONGEST_WAY), 1)
    away = 1 - (torch.remainder(time / cycle, 1.0) * 2 - 1).abs()
    line = inside + (outside - inside) * away
    axis = torch.stack([side < 2, side >= 2], dim=-1)
    rear = torch.where((leaving[:, None] & axis)[:, None], line[..., None], path[:, 0])
    return torch.cat([rear[:, None], path[:, 1:]], dim=1)


def _fold(path: torch.Tensor, low: torch.Tensor) -> torch.Tensor:
    """A straight path reflected at ``low`` and ``1 - low`` as often as it takes: a triangle wave."""
    span = 1 - 2 * low
    phase = torch.remainder((path - low) / span, 2.0)
    return low + span * (1 - (phase - 1).abs())


def _caption(labels: list[int], colours: list[str | None], background: str) -> str:
    nouns = [noun(label, colour) for label, colour in zip(labels, colours, strict=False)]
    return f"{listed(nouns)} on {background}"
