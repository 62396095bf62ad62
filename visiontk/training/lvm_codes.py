"""The codebook while it is learned: codes are the running means of the latents that took them (van den Oord et al. 2017, arXiv 1711.00937,
appendix A.1), and codes that nothing takes begin anew where the error is large."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

DECAY = 0.97
LEAST, ANEW = 0.03, 0.15  # takers a step, on average: codes with fewer begin anew, as if they had so many
ROUNDS, SETTLING, TAKERS = 15, 4, 3  # of k-means at the start; in all but the last, codes with fewer takers begin anew
_CHUNK = 8192  # latents at once


class Codebook:
    """Keeps ``quantize.embedding`` of a ``VQModel``.

    Attributes:
        counts: float32 (codes), running mean of how many latents of a step take a code.
        sums: float32 (codes, d), likewise of their sum.
    """

    def __init__(self, vqgan: Any) -> None:
        self.weight: Tensor = vqgan.quantize.embedding.weight
        self.weight.requires_grad_(False)
        self.counts = torch.ones(len(self.weight), device=self.weight.device)
        self.sums = self.weight.detach().clone()

    def begin(self, latents: Tensor, takers: float) -> None:
        """k-means of ``latents`` (N, d), of which a step will have ``takers``."""
        codes = self.weight
        count = min(len(latents), len(codes))
        codes[:count] = _spread(latents, count)
        for number in range(ROUNDS):
            taken = nearest(latents, codes)
            counts, sums = self._taken(latents, taken)
            there = counts > 0
            codes[there] = sums[there] / counts[there, None]
            idle = (counts < TAKERS).nonzero().flatten()[: len(latents) // 8]
            if number < ROUNDS - SETTLING and len(idle):
                codes[idle] = latents[self._far(latents, taken, len(idle))]
        counts, _ = self._taken(latents, nearest(latents, codes))
        self.counts = (counts * (takers / len(latents))).clamp(min=ANEW)
        self.sums = codes * self.counts[:, None]

    @torch.no_grad()
    def update(self, latents: Tensor, taken: Tensor) -> int:
        """Move the codes to ``latents`` (N, d) that took those of ``taken`` (N). Returns how many begin anew."""
        counts, sums = self._taken(latents, taken)
        self.counts.lerp_(counts, 1 - DECAY)
        self.sums.lerp_(sums, 1 - DECAY)
        idle = (self.counts < LEAST).nonzero().flatten()
        self.weight.copy_(self.sums / self.counts[:, None].clamp(min=1e-6))
        if len(idle):
            idle = idle[: len(latents) // 8]
            found = latents[self._far(latents, taken, len(idle))]
            self.weight[idle], self.sums[idle], self.counts[idle] = found, found * ANEW, ANEW
        return len(idle)

    def state(self) -> dict[str, Tensor]:
        return {"counts": self.counts, "sums": self.sums}

    def restore(self, state: dict[str, Tensor]) -> None:
        self.counts, self.sums = (state[name].to(self.weight.device) for name in ("counts", "sums"))

    def _taken(self, latents: Tensor, taken: Tensor) -> tuple[Tensor, Tensor]:
        counts, sums = torch.zeros_like(self.counts), torch.zeros_like(self.weight)
        for some, of_some in zip(torch.split(latents, _CHUNK), torch.split(taken, _CHUNK), strict=True):
            chosen = functional.one_hot(of_some, len(self.weight)).to(latents.dtype)
            counts, sums = counts + chosen.sum(0), sums + chosen.T @ some
        return counts, sums

    def _far(self, latents: Tensor, taken: Tensor, count: int) -> Tensor:
        """``count`` of the latents, by chance, rather those that are far from their codes."""
        return torch.multinomial((latents - self.weight[taken]).square().sum(-1) + 1e-9, count)


def nearest(latents: Tensor, codes: Tensor) -> Tensor:
    """int64 (N): the code that is nearest to each of ``latents`` (N, d)."""
    return torch.cat([torch.cdist(some, codes).argmin(1) for some in torch.split(latents, _CHUNK)])


def _spread(latents: Tensor, count: int) -> Tensor:
    """``count`` of the latents, more of those that are far from the mean of all: as k-means++ would, in one go."""
    weights = (latents - latents.mean(0)).square().sum(-1)
    return latents[torch.multinomial(weights + 1e-9, count)]
