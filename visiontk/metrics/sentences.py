"""Figures of visual sentences, after Bai et al. 2023 (arXiv 2312.00785): perplexity by the frames of context, and answers to pairs.

``lvm-perplexity``: the perplexity of the codes of a frame, given the true frames before it and its own true codes so far: the exponential
of the mean negative log-likelihood over all codes of all sentences with so many frames before. A first frame's first code is given nothing
and does not count. It hangs on the VQGAN, so compare it between models that share one. ``mean_perplexity`` is the mean over sentences of
theirs, as in the paper's code (ytongbai/LVM, evaluation/vqlm_demo/eval_perplexity.py), where the 100 unused tokens have a share, too.

``lvm-pairs``: the picture that a model makes after pairs and a query, against the true answer, both as squares of the model's side. Masks:
each pixel counts as what the nearest colour of the palette stands for, then the IoU of each thing of each true mask, averaged over all
of them. Other pictures: mean squared error of values from 0 to 1, and a distance of deep features.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .protocols import image_ious
from .regions import split

_MOST_NATS = math.log(sys.float_info.max)
PERPLEXITY, PAIRS = "lvm-perplexity", "lvm-pairs"

Pixels = NDArray[np.uint8]  # (H, W, 3)
Colours = Sequence[Sequence[int]]


@dataclass
class Costs:
    """Negative log-likelihoods in nats, summed.

    Attributes:
        frames, tokens: over how many.
    """

    total: float = 0.0
    frames: int = 0
    tokens: int = 0

    def add(self, costs: NDArray[np.floating[Any]]) -> None:
        """One frame more: (tokens,), NaN where a token has none."""
        known = ~np.isnan(costs)
        self.total += float(costs[known].sum(dtype=np.float64))
        self.tokens += int(known.sum())
        self.frames += 1

    def join(self, other: Costs) -> None:
        self.total += other.total
        self.frames += other.frames
        self.tokens += other.tokens

    @property
    def mean(self) -> float:
        """Nats per token; NaN where there are none."""
        return self.total / self.tokens if self.tokens else math.nan

    @property
    def perplexity(self) -> float:
        """Infinite for more than some 709 nats per token, which float64 cannot hold the exponential of."""
        return math.exp(self.mean) if not self.mean > _MOST_NATS else math.inf


@dataclass
class ByContext:
    """Costs by the number of frames before."""

    costs: dict[int, Costs] = field(default_factory=dict)

    def add(self, sentence: NDArray[np.floating[Any]]) -> None:
        """One sentence more: (frames, tokens)."""
        for context, row in enumerate(sentence):
            self.costs.setdefault(context, Costs()).add(row)

    def __iter__(self) -> Iterator[tuple[int, Costs]]:
        return iter(sorted(self.costs.items()))

    def whole(self) -> Costs:
        """Over all frames."""
        found = Costs()
        for costs in self.costs.values():
            found.join(costs)
        return found


def colour_map(picture: Pixels, palette: Colours) -> NDArray[np.intp]:
    """The index (H, W) of the palette's colour that is nearest, Euclidean in RGB, to each pixel; of equally near ones the first."""
    pixels = picture.astype(np.int64)
    distances = [((pixels - np.asarray(colour, np.int64)) ** 2).sum(-1) for colour in palette]
    nearest: NDArray[np.intp] = np.argmin(distances, axis=0)
    return nearest


def mask_ious(predicted: NDArray[np.intp], truth: NDArray[np.intp]) -> list[float]:
    """The IoU of each thing that the true map (H, W) has, 0 being background."""
    return list(image_ious(split(predicted), split(truth)).values())


def squared_error(predicted: Pixels, truth: Pixels) -> float:
    """Mean squared error of values from 0 to 1."""
    return float((((predicted.astype(np.float64) - truth) / 255) ** 2).mean())
