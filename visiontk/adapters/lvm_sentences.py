"""Continuing visual sentences frame by frame, several at once, within the context that the model has."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .lvm_cache import KeysValues
from .lvm_decoding import Decoder
from .lvm_sampling import choose, draws
from .lvm_types import Sampling


@dataclass(frozen=True)
class Made:
    """One frame of every row.

    Attributes:
        tokens: int64 (rows, frame_tokens).
        nll: float32 (rows, frame_tokens), nats under the model's own distribution over the codes.
        context: the frames that it was conditioned on.
    """

    tokens: Tensor
    nll: Tensor
    context: range


class Continuation:
    """Sentences of one length and their candidates, as the rows of one batch: those of the first sentence, then of the second, and so on.

    The prompt is read once for each sentence. Its keys and values lie in memory once too, but for a compiled decoder, whose cache holds
    them for each candidate. When the context is full the oldest quarter of the frames is dropped at once and the rest read anew, so that
    this happens every few frames and not at each.
    """

    def __init__(self, decoder: Decoder, prompts: Tensor, count: int, sampling: Sampling) -> None:
        """``prompts`` is int64 (sentences, frames, frame_tokens); ``count`` frames will be asked for."""
        self._decoder, self._sampling = decoder, sampling
        sentences, frames, self._tokens = prompts.shape
        self._rows = sentences * sampling.candidates
        self._most = decoder.context // self._tokens
        self._kept = max(1, self._most * 3 // 4)
        self._begin = max(0, frames - (self._most - 1))  # the first frame that is seen
        self._wanted = frames + count
        self._seen = prompts.to(decoder.device)[:, self._begin :]  # (sentences, then rows; frames, frame_tokens)
        self._prefix: KeysValues | None = None
        self._cache: KeysValues | None = None
        self._last: Tensor | None = None  # chosen, but not read yet

    def next(self, number: int) -> Made:
        """Make the next frame, ``number`` counted from 0."""
        if self._cache is not None and self._seen.shape[1] == self._most:
            self._begin += self._most - self._kept
            self._seen = self._seen[:, -self._kept :]
            self.close()
        context = range(self._begin, self._begin + self._seen.shape[1])
        chances = draws(self._sampling, number, self._tokens).to(self._decoder.device)
        chances = chances.repeat(1, self._rows // self._sampling.candidates)
        logits = self._start() if self._cache is None or self._last is None else self._step(self._last)
        tokens: list[Tensor] = []
        costs: list[Tensor] = []
        for place in range(self._tokens):
            if place > 0:
                logits = self._step(tokens[-1])
            token = choose(logits, chances[place], self._sampling)
            costs.append(nn.functional.cross_entropy(logits.float(), token, reduction="none"))
            tokens.append(token)
        made, self._last = torch.stack(tokens, dim=1), tokens[-1]
        self._seen = torch.cat([self._seen, made[:, None]], dim=1)
        return Made(made, torch.stack(costs, dim=1), context)

    def close(self) -> None:
        """Let go of the caches."""
        if self._cache is not None:
            self._decoder.give_back(self._cache)
        self._cache = self._prefix = None

    def _start(self) -> Tensor:
        """Read all frames that are seen. Returns the logits of the first new token, (rows, codes)."""
        prompt = self._seen.flatten(1)
        again = self._rows // len(prompt)  # candidates of the same prompt; 1 once they have gone their own ways
        self._seen = self._seen.repeat_interleave(again, dim=0)
        room = min(self._most, self._wanted - self._begin) * self._tokens
        if again == 1:
            self._cache = self._decoder.cache(self._rows, room)
            return self._decoder.prefill(prompt, self._cache)
        if self._decoder.compiled:
            self._cache = self._decoder.cache(self._rows, room)
            logits = self._decoder.prefill(prompt, self._cache.each(again))
            self._cache.spread(again, prompt.shape[1])
        else:
            self._prefix = self._decoder.cache(len(prompt), prompt.shape[1])
            self._cache = self._decoder.cache(self._rows, room - prompt.shape[1])
            logits = self._decoder.prefill(prompt, self._prefix)
        return logits.repeat_interleave(again, dim=0)

    def _step(self, tokens: Tensor) -> Tensor:
        assert self._cache is not None, "a frame begins with the prompt"
        return self._decoder.step(tokens, self._cache, self._prefix)
