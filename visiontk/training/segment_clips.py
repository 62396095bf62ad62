"""Pictures and clips of the tiny world as SAM 2 is trained on them: frames, and the masks of a few objects in every frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from visiontk.adapters.segment_network import MEAN, STD
from visiontk.tiny import world
from visiontk.tiny.draws import Draws

from .tiny_data import STRONG

LEAST_PIXELS = 1 / 500  # of the first frame: less of a thing is nothing to click on
MOST = 3  # things in a clip
LENGTH, STRIDES = 24, 3  # frames of the clips that are taken from, and the most from one frame that is taken to the next
_COLOURED = world.Augment(**STRONG)


@dataclass(frozen=True)
class ClipBatch:
    """B clips of T frames, and N objects of them, each of which is seen in its clip's first frame.

    Attributes:
        frames: uint8 (T, B, 3, S, S).
        masks: bool (T, N, S, S), the visible pixels; empty where the object is hidden.
        clip_of: int64 (N), the clip that an object belongs to.
        things: uint8 (T, B, S, S): 0 is background, and each object of the clip, chosen or not, has a number of its own.
        kinds: uint8 (T, B, S, S): 0 is background, and what is there is its class id and one more.
    """

    frames: Tensor
    masks: Tensor
    clip_of: Tensor
    things: Tensor
    kinds: Tensor

    def to(self, device: torch.device) -> ClipBatch:
        return ClipBatch(*(getattr(self, field.name).to(device) for field in fields(self)))


def render_batch(seed: int, indices: Sequence[int], frames: int, size: int, most: int, *, dyed: bool) -> ClipBatch:
    """Clips, with up to ``most`` objects of each that are seen in the first frame, the frontmost first.

    They are of longer clips, from anywhere, since things turn and hide as those go on, and of every frame or every second or third. There
    are two or three things, or one to three where ``frames`` is 1: one thing alone is soon followed. Where ``dyed`` they have varied
    colours, and single frames are no clips' but pictures of one to four things, which overlap less.
    """
    augment = _COLOURED if dyed else None
    if dyed and frames == 1:
        scenes = world.render_scenes(seed, indices, size=size, objects=(1, 4), augment=augment)
        return _chosen(scenes.images[None], scenes.masks.transpose(0, 1)[None], scenes.labels, most)
    length = max(LENGTH, frames)
    stride = 1 + int(Draws(seed, indices[:1], "stride").choose(min(STRIDES, (length - 1) // max(frames - 1, 1))))
    start = int(Draws(seed, indices[:1], "window").choose(length - (frames - 1) * stride))
    shown = range(start, start + (frames - 1) * stride + 1, stride)
    least = 1 if frames == 1 else 2
    clips = world.render_clips(seed, indices, length, size=size, objects=(least, MOST), augment=augment, shown=shown)
    numbers = torch.arange(1, clips.labels.shape[1] + 1)
    masks = clips.index_masks.permute(1, 0, 2, 3)[:, None] == numbers[:, None, None, None]
    return _chosen(clips.frames.transpose(0, 1), masks, clips.labels, most)


def normalise(frames: Tensor) -> Tensor:
    """uint8 (..., 3, S, S) to the floats that SAM 2 takes."""
    mean, std = (torch.tensor(values, device=frames.device).view(3, 1, 1) for values in (MEAN, STD))
    return (frames.float() / 255 - mean) / std


def _chosen(frames: Tensor, masks: Tensor, labels: Tensor, most: int) -> ClipBatch:
    """``masks`` (T, O, B, S, S) and ``labels`` (B, O), the rearmost object first; -1 where there is none."""
    seen = masks[0].flatten(2).float().mean(-1) >= LEAST_PIXELS  # (O, B)
    rank = seen.flip(0).cumsum(0).flip(0)  # 1 for the frontmost that is seen
    objects, clips = (seen & (rank <= most)).nonzero(as_tuple=True)
    numbers = torch.arange(1, masks.shape[1] + 1)[:, None, None, None]
    kinds = (labels.T + 1)[:, :, None, None]
    things, kinds = ((masks * values.to(torch.uint8)).sum(1, dtype=torch.uint8) for values in (numbers, kinds))
    return ClipBatch(frames, masks[:, objects, clips], clips, things, kinds)
