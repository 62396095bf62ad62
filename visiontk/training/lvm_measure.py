"""How good a large vision model is at the tiny world, through the code that `visiontk lvm-continue` runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from visiontk.runtime import Runtime
from visiontk.tiny.files import picture

from .lvm_world import BACKGROUNDS, FRAMES, sentences

if TYPE_CHECKING:
    from visiontk.adapters.lvm import VisualSentenceModel

SEED = 50_000  # no training run renders from this seed
_MOST_NATS = 700.0  # of which there is an exponential
_BATCH = 32  # sentences that are continued at once
AHEAD = 4  # frames that are made of a clip
CONTEXTS = 1, 2, 4, 8, FRAMES - 1  # frames before the last one


@dataclass(frozen=True)
class Counts:
    """How many sentences: whose frames are reconstructed, that are continued (of each task), that are scored."""

    coded: int = 64
    continued: int = 128
    scored: int = 64


def measure(model: str, runtime: Runtime, counts: Counts | None = None) -> dict[str, dict[str, float]]:
    """On sentences of 16 frames that no training run has seen, all made greedily:

    ``reconstruction``: ``psnr``, peak signal-to-noise ratio of the VQGAN in dB, the mean over the frames of sentences of all kinds, and of
    some of them; ``pooled`` is that of the mean squared error over all frames, in which the worst of them count most; ``codes`` is how many
    are used.
    ``next frame``: mean squared error over the pixels where things are or have just been, of the 16th frame of clips (``error``), of the
    15th instead (``repeated``), and of the 15th as the VQGAN shows it (``repeated_coded``); ``factor`` is ``repeated / error``, and
    ``coded_factor`` is ``repeated_coded / error``: more than 1 only where the model knows what moves, as both are blurred alike.
    ``next frame before photos``: likewise of clips with photos behind the things.
    ``frames ahead``: by their number, how many times the error of a frame that is made the last one given has, where things are or
    were in the former, over clips of which `AHEAD` frames are made. ``frames ahead, coded``: likewise, the last one as the VQGAN shows it.
    ``mask analogies``: seven pairs and a query; pixels of the answer count as what the nearest of the palette's two colours stands for.
    Intersection over union of ``things`` and ``background``, summed over all answers, and their mean ``miou``.
    ``colour analogies``, ``inpainting``: likewise; mean squared error over the pixels in which the query is not what it should become, of
    the answer (``error``), of the query itself (``asked``), and of the true answer as the VQGAN shows it (``coded``).
    ``perplexity of clips`` and ``of answers``: of the codes of a frame, by the number of frames before it.
    ``perplexity of last frames``: likewise, but of the same frames, the last ones of clips, of which only so many frames before are given.
    """
    from visiontk.adapters.lvm import load

    counts = counts or Counts()
    loaded = load(model, runtime)
    ahead, coded = _frames_ahead(loaded, counts.continued)
    clips, pairs = (_encoded(loaded, SEED + seed, counts.scored, kind) for seed, kind in ((3, "clip"), (4, "mask")))
    return {
        "reconstruction": _reconstruction(loaded, counts.coded),
        "next frame": _next_frame(loaded, counts.continued),
        "next frame before photos": _next_frame(loaded, counts.continued, ("photo",)),
        "frames ahead": ahead,
        "frames ahead, coded": coded,
        "mask analogies": _masks(loaded, counts.continued),
        "colour analogies": _answers(loaded, counts.continued, "colour"),
        "inpainting": _answers(loaded, counts.continued, "inpaint"),
        "perplexity of clips": _perplexity(loaded, clips, range(FRAMES)),
        "perplexity of answers": _perplexity(loaded, pairs, range(1, FRAMES, 2)),
        "perplexity of last frames": _last_frames(loaded, clips),
    }


def pictures(frames: Tensor) -> list[Image.Image]:
    """uint8 (T, 3, S, S) as PIL images."""
    return [picture(frame) for frame in frames]


def tensor(images: Sequence[Image.Image]) -> Tensor:
    """PIL images of one size as uint8 (T, 3, S, S)."""
    return torch.from_numpy(np.stack([np.asarray(image) for image in images])).permute(0, 3, 1, 2)


def continued(model: VisualSentenceModel, prompts: Sequence[Tensor], count: int) -> Tensor:
    """uint8 (B, count, 3, S, S): what follows each of the prompts uint8 (T, 3, S, S), made greedily."""
    from visiontk.adapters.lvm import Sampling

    made = []
    for first in range(0, len(prompts), _BATCH):
        some = [model.encode(pictures(prompt)) for prompt in prompts[first : first + _BATCH]]
        rounds = list(model.continue_(some, count, Sampling(greedy=True)))
        made.append(torch.stack([tensor([frame.image for frame in frames]) for frames in rounds], dim=1))
    return torch.cat(made)


def psnr(error: Tensor) -> float:
    """dB, the mean over frames, of mean squared errors of values from 0 to 255, one for each."""
    return float((10 * (255**2 / error.double().clamp(min=1e-9)).log10()).mean())


def area_error(made: Tensor, truth: Tensor, area: Tensor) -> float:
    """Mean squared error, values from 0 to 1, of uint8 (B, 3, S, S) over the pixels of ``area``, bool (B, S, S)."""
    squared = ((made.float() - truth.float()) / 255).square().mean(1)
    return float(squared[area].mean())


def things_of(answers: Tensor, palettes: Tensor) -> Tensor:
    """bool (B, S, S): where uint8 (B, 3, S, S) is nearer to the second colour of uint8 (B, 2, 3) than to the first."""
    distances = (answers[:, None].float() - palettes[:, :, :, None, None].float()).square().sum(2)
    return distances[:, 1] < distances[:, 0]


def iou(found: Tensor, truth: Tensor) -> float:
    """Intersection over union of bool masks, each summed over all."""
    return float((found & truth).sum() / (found | truth).sum().clamp(min=1))


def _reconstruction(model: VisualSentenceModel, count: int) -> dict[str, float]:
    drawn = sentences(SEED, range(count), model.image_size)
    codes = model.encode(pictures(drawn.frames.flatten(0, 1)))
    error = (tensor(model.decode(codes)).float() - drawn.frames.flatten(0, 1)).square().mean((1, 2, 3)).view(drawn.frames.shape[:2])
    found = {"psnr": psnr(error), "pooled": psnr(error.mean()), "codes": float(codes.flatten().bincount().count_nonzero())}
    clips, masks = (torch.tensor([kind == name for kind in drawn.kinds]) for name in ("clip", "mask"))
    for name, chosen in (("clips", error[clips]), ("pictures", error[~clips, ::2]), ("masks", error[masks, 1::2])):
        if chosen.numel():
            found[name] = psnr(chosen)
    return _rounded(found)


def _next_frame(model: VisualSentenceModel, count: int, backgrounds: Sequence[str] = BACKGROUNDS) -> dict[str, float]:
    drawn = sentences(SEED + 1, range(count), model.image_size, kind="clip", backgrounds=backgrounds)
    made = continued(model, list(drawn.frames[:, :-1]), 1)[:, 0]
    before, truth = drawn.frames[:, -2], drawn.frames[:, -1]
    coded = tensor(model.decode(model.encode(pictures(before))))
    area = drawn.masks[:, -2] | drawn.masks[:, -1]
    found = {name: area_error(image, truth, area) for name, image in (("error", made), ("repeated", before), ("repeated_coded", coded))}
    least = max(found["error"], 1e-9)
    return _rounded({**found, "factor": found["repeated"] / least, "coded_factor": found["repeated_coded"] / least})


def _frames_ahead(model: VisualSentenceModel, count: int) -> tuple[dict[str, float], dict[str, float]]:
    """By number of frames, how many times the error of the frame that is made the last given one has, and it as the VQGAN shows it."""
    drawn = sentences(SEED + 6, range(count), model.image_size, kind="clip")
    given, truth = drawn.frames[:, :-AHEAD], drawn.frames[:, -AHEAD:]
    made, last = continued(model, list(given), AHEAD), given[:, -1]
    coded = tensor(model.decode(model.encode(pictures(last))))
    found: tuple[dict[str, float], dict[str, float]] = {}, {}
    for number in range(AHEAD):
        area = drawn.masks[:, -AHEAD - 1] | drawn.masks[:, number - AHEAD]
        error = area_error(made[:, number], truth[:, number], area)
        for factors, image in zip(found, (last, coded), strict=True):
            factors[str(number + 1)] = area_error(image, truth[:, number], area) / max(error, 1e-9)
    return _rounded(found[0]), _rounded(found[1])


def _masks(model: VisualSentenceModel, count: int) -> dict[str, float]:
    drawn = sentences(SEED + 2, range(count), model.image_size, kind="mask")
    found = things_of(continued(model, list(drawn.frames[:, :-1]), 1)[:, 0], drawn.palettes)
    truth = drawn.masks[:, -1]
    things, background = iou(found, truth), iou(~found, ~truth)
    return _rounded({"miou": (things + background) / 2, "things": things, "background": background})


def _answers(model: VisualSentenceModel, count: int, kind: str) -> dict[str, float]:
    drawn = sentences(SEED + 7, range(count), model.image_size, kind=kind)
    asked, truth = drawn.frames[:, -2], drawn.frames[:, -1]
    made = continued(model, list(drawn.frames[:, :-1]), 1)[:, 0]
    coded = tensor(model.decode(model.encode(pictures(truth))))
    area = (asked != truth).any(1)
    return _rounded({name: area_error(image, truth, area) for name, image in (("error", made), ("asked", asked), ("coded", coded))})


def _encoded(model: VisualSentenceModel, seed: int, count: int, kind: str) -> list[Tensor]:
    """Sentences of one kind, each int64 (T, tokens)."""
    return [model.encode(pictures(frames)) for frames in sentences(seed, range(count), model.image_size, kind=kind).frames]


def _perplexity(model: VisualSentenceModel, coded: Sequence[Tensor], numbers: Sequence[int]) -> dict[str, float]:
    """By the number of frames before."""
    means = torch.stack([model.score(codes) for codes in coded]).nanmean(dim=(0, 2))
    return _rounded({str(number): _exp(means[number]) for number in numbers})


def _last_frames(model: VisualSentenceModel, coded: Sequence[Tensor]) -> dict[str, float]:
    """By the number of frames before that are given."""
    means = {number: torch.stack([model.score(codes[-number - 1 :])[-1] for codes in coded]).mean() for number in CONTEXTS}
    return _rounded({str(number): _exp(mean) for number, mean in means.items()})


def _exp(nats: Tensor) -> float:
    return math.exp(min(float(nats), _MOST_NATS))


def _rounded(found: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in found.items()}
