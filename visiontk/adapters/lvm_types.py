"""What is asked of a large vision model, and what it gives."""

from __future__ import annotations

import math
from dataclasses import dataclass

from PIL.Image import Image
from torch import Tensor

from visiontk.errors import UsageError


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen. The order is transformers': temperature, then ``top_k``, then ``top_p``.

    Attributes:
        temperature: the logits are divided by it.
        top_k: only so many of the likeliest codes; None for all.
        top_p: only the likeliest codes that together have this probability; None for all.
        greedy: always the likeliest code; the rest is then of no account.
        seed: of the draws. A candidate's draws depend on the seed, its number and the frame, and on nothing that is made beside it.
        candidates: so many continuations of each sentence.
        first_candidate: the number of the first of them, where a batch was split.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    greedy: bool = False
    seed: int = 0
    candidates: int = 1
    first_candidate: int = 0

    def told(self) -> dict[str, float | int | bool]:
        """What decides the tokens, as records say it: ``greedy``, or temperature, top_k, top_p and seed as far as they are given."""
        if self.greedy:
            return {"greedy": True}
        options = {name: getattr(self, name) for name in ("temperature", "top_k", "top_p", "seed")}
        return {name: option for name, option in options.items() if option is not None}

    def check(self) -> None:
        """Raises UsageError for values that make no sense."""
        if not (math.isfinite(self.temperature) and self.temperature > 0):
            raise UsageError(f"the temperature is {self.temperature:g}; use a number above 0, or greedy for the likeliest token")
        if self.top_k is not None and self.top_k < 1:
            raise UsageError(f"top-k is {self.top_k}; use a whole number from 1 on")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise UsageError(f"top-p is {self.top_p:g}; use a number above 0, up to 1")
        if self.candidates < 1 or self.first_candidate < 0:
            raise UsageError(
                f"{self.candidates} candidates from number {self.first_candidate} on make no sense; use at least one, from 0 on"
            )
        if self.seed < 0:
            raise UsageError(f"the seed is {self.seed}; use a whole number from 0 on")


@dataclass(frozen=True)
class Frame:
    """One generated frame.

    Attributes:
        tokens: int64 (frame_tokens,), the codes in raster order, on the CPU.
        image: RGB, image_size squared.
        nll: mean negative log-likelihood in nats per token, under the model's own distribution over the codes: no temperature, no top-k.
            NaN where the model gave NaN or infinity: tokens and image mean nothing then, nor does what follows them.
        context: which frames it was conditioned on, counted from 0 through the prompt and then the generated ones.
        sentence: which of the sentences it continues, from 0.
        candidate: the number of the continuation.
        number: among the generated, from 0.
    """

    tokens: Tensor
    image: Image
    nll: float
    context: tuple[int, ...]
    sentence: int
    candidate: int
    number: int
