"""What the text encoder learns before the U-Net does: to say what a caption names.

Without it the denoiser has to find out from noisy pictures which words make a difference; with it, its end tokens differ for every thing
and colour from the first step. In short trials that was about half of the way to a fixed vector for each thing instead of text. The heads
are thrown away.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from visiontk.tiny import world

if TYPE_CHECKING:
    from visiontk.tiny.scenes import Scenes


class Naming(nn.Module):
    """A text encoder with a head for the thing, one for its colour and one for the background's."""

    def __init__(self, text_encoder: Any) -> None:
        super().__init__()
        width = text_encoder.config.hidden_size
        self.text_encoder = text_encoder
        self.heads = nn.ModuleList([nn.Linear(width, len(world.names())), *(nn.Linear(width, len(world.COLOURS) + 1) for _ in range(2))])

    def loss(self, tokens: Tensor, wanted: Sequence[Tensor], end: int) -> tuple[Tensor, Tensor]:
        """Cross-entropy of all heads at every end token, the padding among them, and the share of things that are named right.

        Args:
            tokens: int64 (B, T), of captions.
            wanted: as `named` gives them.
            end: the id of the end token.
        """
        last = tokens == end
        states = self.text_encoder(tokens).last_hidden_state[last]
        times = last.sum(1)
        guesses = [head(states).float() for head in self.heads]
        truths = [answer.repeat_interleave(times) for answer in wanted]
        loss = torch.stack([functional.cross_entropy(guess, truth) for guess, truth in zip(guesses, truths, strict=True)]).sum()
        return loss, (guesses[0].detach().argmax(1) == truths[0]).float().mean()


def named(drawn: Scenes) -> list[Tensor]:
    """int64 (B) each, of pictures of one thing: the thing, its named colour, the background's; one past the last where there is none."""
    numbers = {colour: number for number, colour in enumerate(world.COLOURS)}
    none = len(numbers)
    colours = [numbers.get(row[0] or "", none) for row in drawn.colours]
    behind = [numbers.get(colour or "", none) for colour in drawn.background_colours]
    return [drawn.labels[:, 0], torch.tensor(colours), torch.tensor(behind)]
