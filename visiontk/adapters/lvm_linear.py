"""Matrices times a few vectors on a CPU, as a batch of candidates needs it at each token.

For one vector BLAS reads a matrix as fast as memory gives it. For two to eight it packs the matrix as if for many, which takes two to
three times as long. In blocks of some hundred rows, which stay in the cache, the packing costs half of that.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

FEW = 8
LARGEST, SMALLEST = 384, 64


class FewRows(nn.Linear):
    """A linear layer without bias that multiplies 2 to 8 vectors in blocks, and others as `torch.nn.Linear` does.

    It shares its weight with the layer that it is made of.
    """

    def __init__(self, layer: nn.Linear, block: int) -> None:
        super().__init__(layer.in_features, layer.out_features, bias=False, device="meta")
        self.weight, self._block = layer.weight, block

    def forward(self, input: Tensor) -> Tensor:
        vectors = input.reshape(-1, self.in_features)
        count = len(vectors)
        if not 2 <= count <= FEW:
            return super().forward(input)
        blocks = self.weight.view(-1, self._block, self.in_features)
        if count in (3, 4):  # which side the matrix is on decides which kernel BLAS takes: the faster one, measured
            product = torch.bmm(blocks, vectors.T.expand(len(blocks), -1, -1)).flatten(0, 1).T
        else:
            product = torch.bmm(vectors.expand(len(blocks), -1, -1), blocks.mT).transpose(0, 1).flatten(1)
        return product.reshape(*input.shape[:-1], self.out_features)


def block_rows(rows: int) -> int | None:
    """Into blocks of how many rows a matrix is cut: the most that divide it; None where none do."""
    return next((size for size in range(min(LARGEST, rows // 2), SMALLEST - 1, -1) if rows % size == 0), None)


def speed_up(llama: Any) -> None:
    """Put `FewRows` in the place of all float32 matrices on a CPU that can be cut into blocks."""
    for module in list(llama.modules()):
        for name, layer in list(module.named_children()):
            if type(layer) is not nn.Linear or layer.bias is not None or layer.weight.device.type != "cpu":
                continue
            block = block_rows(layer.out_features)
            if layer.weight.dtype == torch.float32 and block is not None:
                setattr(module, name, FewRows(layer, block))
