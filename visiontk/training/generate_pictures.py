"""The pictures that the U-Net learns from: new ones at every step, or a number of them that is seen again and again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from .generate_world import pixels, scenes, told

# Pictures are encoded in these, whatever is asked for, so that a run that was stopped comes to the same latents to the bit.
BLOCK = 16


def rendered(encode: Callable[[Tensor], Tensor], seed: int, indices: Sequence[int], size: int, *, calm: bool) -> tuple[Tensor, list[str]]:
    """Latents float32 (B, C, s, s), and the captions. ``encode`` takes float32 (B, 3, S, S) from -1 to 1."""
    drawn = scenes(seed, indices, size, calm=calm)
    with torch.no_grad():
        return encode(pixels(drawn.images)), told(drawn, seed, indices)


class Kept:
    """``count`` pictures, each rendered and encoded when it is first asked for: on a CPU this costs a third as much as learning from it."""

    def __init__(self, encode: Callable[[Tensor], Tensor], seed: int, count: int, size: int, *, calm: bool) -> None:
        self._make = partial(rendered, encode, seed, size=size, calm=calm)
        self._count = count
        self._blocks: dict[int, tuple[Tensor, list[str]]] = {}

    def draw(self, batch: int) -> tuple[Tensor, list[str]]:
        """``batch`` of them by chance, of torch's own generator."""
        picked = [divmod(index, BLOCK) for index in torch.randint(self._count, (batch,)).tolist()]
        for block, _ in picked:
            if block not in self._blocks:
                self._blocks[block] = self._make(range(block * BLOCK, min((block + 1) * BLOCK, self._count)))
        latents = torch.stack([self._blocks[block][0][place] for block, place in picked])
        return latents, [self._blocks[block][1][place] for block, place in picked]
