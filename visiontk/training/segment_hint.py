"""Helps for a model that starts from nothing: its parts are also asked directly what the masks ask of all of them together.

The encoder is asked, for each place of the picture, whether a thing is there, which of the world's it is, and where its middle is; and of
two places of each thing, what else belongs to it: what a click asks, without the layers between. Prompts say something about one object at
a time; these questions are about all at once and need none of the decoder but what enlarges the map. A model that learns to answer them has
the features that prompts pick from, and by which a thing is told from another in the next frame. The memory attention is asked, for each
place of a frame, how much of it is covered by the object that is remembered. The heads that answer are thrown away in the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from .segment_loss import dice

MOST_THINGS = 4
WAYS = 5.0  # weight of the ways, which are fractions of the picture
KIND, WHOLE, REMEMBERED = 1.0, 4.0, 2.0  # weights of the questions which thing it is, what else belongs to it, and to the memory
ASKED = 2  # places of each thing from which the rest of it is asked


class Hint(nn.Module):
    """The heads.

    From the encoder's maps come a logit of "a thing is here" and the way to its middle, in shares of the picture; from the last of them,
    logits of which thing it is, and at a place what picks the thing that it belongs to from the enlarged map that masks are made of; from
    the features into which the memory was read, a logit of "the object is here".
    """

    def __init__(self, channels: Sequence[int], kinds: int) -> None:
        super().__init__()
        self.head = nn.Sequential(nn.Conv2d(sum(channels), 64, 1), nn.GELU(), nn.Conv2d(64, 3, 1))
        self.kind = nn.Conv2d(channels[-1], kinds, 1)
        self.pick = nn.Sequential(nn.Linear(channels[-1], 64), nn.GELU(), nn.Linear(64, channels[-1] // 8))
        self.memory = nn.Conv2d(channels[-1], 1, 1)

    def memory_loss(self, features: Tensor, target: Tensor) -> Tensor:
        """Cross-entropy of the logit with the share of each place that the object covers.

        Args:
            features: float (N, channels, height, width).
            target: bool (N, S, S).
        """
        height, width = features.shape[-2:]
        covered = functional.adaptive_avg_pool2d(target[:, None].float(), (height, width))
        loss: Tensor = REMEMBERED * functional.binary_cross_entropy_with_logits(self.memory(features).float(), covered)
        return loss

    def loss(self, maps: Sequence[Tensor], enlarged: Tensor, things: Tensor, kinds: Tensor) -> Tensor:
        """Cross-entropy of the logits, L1 of the ways, and cross-entropy and dice of the wholes. Places are drawn by torch's generator.

        Args:
            maps: float (N, channels, height, width) each, from fine to coarse.
            enlarged: what `enlarge` makes of them.
            things, kinds: uint8 (N, S, S), as of `ClipBatch`.
        """
        size = maps[0].shape[-2:]
        large = [functional.interpolate(value.float(), size, mode="bilinear", align_corners=False) for value in maps]
        found = self.head(torch.cat(large, dim=1))
        there, ways = _targets(_middles(things, size[-1]))
        visible = functional.binary_cross_entropy_with_logits(found[:, 0], there.float())
        error = (found[:, 1:] - ways).abs().sum(1)
        loss: Tensor = visible + WAYS * (error * there).sum() / there.sum().clamp(min=1) + KIND * self._kind_loss(maps[-1], kinds)
        return loss + WHOLE * self._whole_loss(maps[-1], enlarged, things)

    @torch.no_grad()
    def known(self, coarse: Tensor, kinds: Tensor) -> float:
        """Of the places where a thing is, the share at which the likeliest answer is the right one. Arguments as of `loss`."""
        wanted = _asked(kinds, coarse)
        there = wanted >= 0
        return float((self.kind(coarse).argmax(1) == wanted)[there].float().mean()) if there.any() else 1.0

    def _whole_loss(self, coarse: Tensor, enlarged: Tensor, things: Tensor) -> Tensor:
        numbers = torch.arange(1, MOST_THINGS + 1, device=things.device)[:, None, None]
        masks = (things[:, None] == numbers).flatten(2).float()  # (N, things, S * S)
        seen = masks.any(-1).repeat_interleave(ASKED, 1)
        # Where a thing is not, something has to be drawn all the same.
        drawn = torch.multinomial(masks.flatten(0, 1) + 1e-9, ASKED, replacement=True).view(len(things), -1)
        side = things.shape[-1]
        places = torch.stack([drawn % side, drawn // side], dim=-1).add(0.5).mul(2 / side).sub(1)
        found = functional.grid_sample(coarse.float(), places[:, None], align_corners=False)[:, :, 0].transpose(1, 2)
        logits = (self.pick(found) @ enlarged.flatten(2)).float()
        wanted = (_middles(things, enlarged.shape[-1])[:, None] == numbers).flatten(2).float().repeat_interleave(ASKED, 1)
        unsure = functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none").mean(-1)
        loss: Tensor = ((unsure + dice(logits, wanted)) * seen).sum() / seen.sum().clamp(min=1)
        return loss

    def _kind_loss(self, coarse: Tensor, kinds: Tensor) -> Tensor:
        wanted = _asked(kinds, coarse)
        loss: Tensor = functional.cross_entropy(self.kind(coarse).float(), wanted, ignore_index=-1, reduction="sum")
        return loss / (wanted >= 0).sum().clamp(min=1)


def enlarge(model: Any, maps: Sequence[Tensor]) -> Tensor:
    """The last of a ``SAM2Base``'s maps at four times its size, (N, channels / 8, 4 height, 4 width), by its mask decoder's own layers."""
    decoder = model.sam_mask_decoder
    if not decoder.use_high_res_features:
        enlarged: Tensor = decoder.output_upscaling(maps[-1])
        return enlarged
    first, normalise, activate, second, activate_last = decoder.output_upscaling
    finest, finer, coarse = maps
    added: Tensor = activate_last(second(activate(normalise(first(coarse) + finer))) + finest)
    return added


def _asked(kinds: Tensor, coarse: Tensor) -> Tensor:
    """The class at each place of a map, int64 (N, height, width); -1 where no thing is."""
    return _middles(kinds, coarse.shape[-1]).long() - 1


def _middles(values: Tensor, side: int) -> Tensor:
    """Of (N, S, S) those in the middles of ``side`` x ``side`` places."""
    step = values.shape[-1] // side
    return values[:, step // 2 :: step, step // 2 :: step]


def _targets(things: Tensor) -> tuple[Tensor, Tensor]:
    """Where a thing is, bool (N, H, W), and the way (x, y) to its middle, float (N, 2, H, W)."""
    count, height, width = things.shape
    x = ((torch.arange(width, device=things.device) + 0.5) / width).expand(count, height, width)
    y = ((torch.arange(height, device=things.device) + 0.5) / height)[:, None].expand(count, height, width)
    ways = torch.zeros(count, 2, height, width, device=things.device)
    for number in range(1, MOST_THINGS + 1):
        mask = (things == number).float()
        area = mask.sum((1, 2)).clamp(min=1)
        for axis, place in enumerate((x, y)):
            middle = (mask * place).sum((1, 2)) / area
            ways[:, axis] += mask * (middle[:, None, None] - place)
    return things > 0, ways
