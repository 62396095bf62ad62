"""Choosing the next token, on the device: the distribution that is left after top-k and top-p, and a draw from it by its inverse."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

from .lvm_types import Sampling

_LEAST_TEMPERATURE = torch.finfo(torch.float32).tiny


def probabilities(logits: Tensor, sampling: Sampling) -> Tensor:
    """float32 (rows, codes) of logits (rows, codes): temperature, top-k, top-p, in this order, as transformers' logits processors do it."""
    scores = logits.float()
    # Of the largest no temperature makes an infinity, and none is taken for 0, as float32 would have it of those below.
    scores = (scores - scores.amax(-1, keepdim=True)) / max(sampling.temperature, _LEAST_TEMPERATURE)
    if sampling.top_k is not None and sampling.top_k < scores.shape[-1]:
        least = scores.topk(sampling.top_k).values[..., -1:]
        scores = scores.masked_fill(scores < least, -torch.inf)
    if sampling.top_p is not None and sampling.top_p < 1:
        ascending, order = scores.sort(descending=False)
        dropped = ascending.softmax(-1).cumsum(-1) <= 1 - sampling.top_p
        dropped[..., -1] = False
        scores = scores.masked_fill(dropped.scatter(-1, order, dropped), -torch.inf)
    return scores.softmax(-1)


def choose(logits: Tensor, draws: Tensor, sampling: Sampling) -> Tensor:
    """The next token of each row: int64 (rows,).

    A draw falls on the code whose interval of the cumulative distribution holds it, so rounding in a batch, which moves the borders by
    some 1e-7, changes hardly any token.

    Args:
        logits: (rows, codes).
        draws: float32 (rows,), uniform in [0, 1).
    """
    if sampling.greedy:
        return logits.argmax(-1)
    chances = probabilities(logits, sampling)
    borders = chances.cumsum(-1)
    # The last border is 1 but for rounding. A draw that falls beyond it belongs to the last code that can be drawn at all.
    aim = draws[:, None] * borders[:, -1:]
    token = torch.searchsorted(borders, aim, right=True).squeeze(-1)
    last = chances.shape[-1] - 1 - (chances > 0).flip(-1).int().argmax(-1)
    return torch.minimum(token, last)


def draws(sampling: Sampling, frame: int, tokens: int) -> Tensor:
    """Uniform draws for one frame of each candidate, float32 (tokens, candidates), on the CPU: the same on every device."""
    numbers = range(sampling.first_candidate, sampling.first_candidate + sampling.candidates)
    rows = [torch.rand(tokens, generator=torch.Generator().manual_seed(_seed(sampling.seed, number, frame))) for number in numbers]
    return torch.stack(rows, dim=1)


def _seed(seed: int, candidate: int, frame: int) -> int:
    """63 bits that look like no other's: neighbouring seeds of torch's generator are not to be relied on."""
    digest = hashlib.blake2b(f"{seed} {candidate} {frame}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) >> 1
