"""What is learned from: visual sentences of the tiny world, as Bai et al. 2023 (arXiv 2312.00785, section 3) make theirs of data sets.

A sentence is a clip, or pairs of a picture and its answer: the mask of its things, its colours, or what a black square hides.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from visiontk.media.sentence_tasks import LUMA, MASK_COLOURS, SQUARE
from visiontk.tiny import world
from visiontk.tiny.draws import Draws

FRAMES = 16  # of a whole sentence
KINDS = ("clip", "mask", "colour", "inpaint")
SHARES = (0.4, 0.3, 0.15, 0.15)
STRIDES = (1, 2, 4)  # frames of a clip from one that is shown to the next
# Plain ones most of the time: 64 tokens have no room for photos, and these would fill the codebook.
BACKGROUNDS = ("plain", "plain", "plain", "plain", "gradient", "texture")
# A LLaMA that goes on learning meets photos all the same, as blurred as the codes show them: clips that anyone renders have them. A new one
# does not, as in its first hour they would be a quarter of what it sees, and hardly anything can be said of their codes.
WITH_PHOTOS = (*BACKGROUNDS, "photo", "photo")
OBJECTS = (1, 2)
_RARELY = 0.1  # things that leave or hide, of which nothing can be foretold


@dataclass(frozen=True)
class Sentences:
    """B sentences of T frames.

    Attributes:
        frames: uint8 (B, T, 3, S, S). In pairs the even ones, from 0, are pictures, and each is followed by its answer.
        masks: bool (B, T, S, S): where things are seen in the frame, or in the picture that it answers.
        kinds: B of `KINDS`.
        palettes: uint8 (B, 2, 3): what colours the background and the things have in the answers of ``mask``; else zeros.
        strides: int64 (B) of `STRIDES` for clips, else 1.
    """

    frames: Tensor
    masks: Tensor
    kinds: list[str]
    palettes: Tensor
    strides: Tensor

    def __len__(self) -> int:
        return len(self.frames)


def sentences(
    seed: int,
    indices: Sequence[int],
    size: int,
    frames: int = FRAMES,
    kind: str | None = None,
    backgrounds: Sequence[str] = BACKGROUNDS,
) -> Sentences:
    """Render sentences; one is named by its seed and index.

    Args:
        frames: T, even.
        kind: of all of them; None draws them by their `SHARES`.
        backgrounds: kinds of the world's, of which each picture has one, or the whole clip.
    """
    indices = list(indices)
    share = Draws(seed, indices, "sentence kind").uniform()
    edges = torch.tensor(SHARES).cumsum(0)[:-1]
    kinds = [kind or KINDS[int(number)] for number in torch.bucketize(share, edges, right=True)]
    result = Sentences(
        torch.empty(len(indices), frames, 3, size, size, dtype=torch.uint8),
        torch.empty(len(indices), frames, size, size, dtype=torch.bool),
        kinds,
        torch.zeros(len(indices), 2, 3, dtype=torch.uint8),
        torch.ones(len(indices), dtype=torch.long),
    )
    for name in KINDS:
        places = [place for place, found in enumerate(kinds) if found == name]
        if places and name == "clip":
            _clips(result, places, seed, [indices[place] for place in places], backgrounds)
        elif places:
            _pairs(result, places, seed, [indices[place] for place in places], backgrounds, _ANSWERS[name])
    return result


def foretold(drawn: Sentences) -> Tensor:
    """bool (B, T): the frames of which those before say something, which are all of a clip but the first, and the answers of pairs."""
    number = torch.arange(drawn.frames.shape[1])
    clip = torch.tensor([kind == "clip" for kind in drawn.kinds])
    return torch.where(clip[:, None], number > 0, number % 2 == 1)


def grey(images: Tensor) -> Tensor:
    """uint8 (..., 3, H, W): the luma of ``images`` in all three channels."""
    weights = torch.tensor(LUMA)[:, None, None]
    luma = (images.float() * weights).sum(-3, keepdim=True).round_().clamp_(0, 255)
    return luma.to(torch.uint8).expand(images.shape)


def _clips(result: Sentences, places: list[int], seed: int, indices: list[int], backgrounds: Sequence[str]) -> None:
    frames, size = result.frames.shape[1], result.frames.shape[-1]
    strides = torch.tensor(STRIDES)[Draws(seed, indices, "stride").choose(len(STRIDES))]
    result.strides[places] = strides
    for stride in STRIDES:
        chosen = [number for number, found in enumerate(strides.tolist()) if found == stride]
        if not chosen:
            continue
        clips = world.render_clips(
            seed,
            [indices[number] for number in chosen],
            (frames - 1) * stride + 1,
            size=size,
            objects=OBJECTS,
            backgrounds=backgrounds,
            leaves=_RARELY,
            passes=_RARELY,
        )
        where = [places[number] for number in chosen]
        result.frames[where] = clips.frames[:, ::stride]
        result.masks[where] = clips.index_masks[:, ::stride] > 0


Answers = Callable[[Sentences, list[int], Tensor, Tensor, Draws], tuple[Tensor, Tensor]]


def _pairs(result: Sentences, places: list[int], seed: int, indices: list[int], backgrounds: Sequence[str], answer: Answers) -> None:
    frames, size = result.frames.shape[1], result.frames.shape[-1]
    pairs = frames // 2
    numbers = [index * FRAMES + pair for index in indices for pair in range(pairs)]
    scenes = world.render_scenes(seed, numbers, size=size, objects=OBJECTS, backgrounds=backgrounds)
    images = scenes.images.view(len(indices), pairs, 3, size, size)
    masks = scenes.masks.any(1).view(len(indices), pairs, size, size)
    first, second = answer(result, places, images, masks, Draws(seed, indices, "answers"))
    result.frames[places] = torch.stack([first, second], dim=2).flatten(1, 2)
    result.masks[places] = masks.repeat_interleave(2, dim=1)


def _masked(result: Sentences, places: list[int], images: Tensor, masks: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
    """Answers in two colours that are the same all through a sentence."""
    colours = torch.tensor(MASK_COLOURS, dtype=torch.uint8)
    palettes = colours[draws.uniform(len(MASK_COLOURS)).argsort(dim=1)[:, :2]]
    result.palettes[places] = palettes
    behind, things = palettes[:, :, None, :, None, None].unbind(1)
    return images, torch.where(masks[:, :, None], things, behind)


def _coloured(result: Sentences, places: list[int], images: Tensor, masks: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
    return grey(images), images


def _inpainted(result: Sentences, places: list[int], images: Tensor, masks: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
    """A black square anywhere."""
    _, pairs, _, size, _ = images.shape
    side = (draws.between(*SQUARE, pairs) * size).round()
    low = (draws.uniform(pairs, 2) * (size - side[..., None] + 1)).floor()
    pixels = torch.arange(size)
    rows, columns = ((pixels >= low[..., i, None]) & (pixels < (low[..., i] + side)[..., None]) for i in (0, 1))
    hidden = rows[..., :, None] & columns[..., None, :]
    return images.masked_fill(hidden[:, :, None], 0), images


_ANSWERS: dict[str, Answers] = {"mask": _masked, "colour": _coloured, "inpaint": _inpainted}
