"""Matrices times a few vectors on a CPU, as a batch of candidates needs it at each token.

For one vector BLAS reads a matrix as fast as memory gives it. Vectors times the matrix, as a linear layer has it, take three times as long
for two to eight of them; the matrix times the vectors takes little more than for one, if their number is a power of two.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

FEW = 8


class FewRows(nn.Linear):
    """A linear layer without bias that multiplies its matrix by 2 to 8 vectors, and others as `torch.nn.Linear` does.

    It shares its weight with the layer that it is made of.
    """

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__(layer.in_features, layer.out_features, bias=False, device="meta")
        self.weight = layer.weight

    def forward(self, input: Tensor) -> Tensor:
        vectors = input.reshape(-1, self.in_features)
        count = len(vectors)
        if not 2 <= count <= FEW:
            return super().forward(input)
        more = (1 << (count - 1).bit_length()) - count
        product = torch.mm(self.weight, nn.functional.pad(vectors, (0, 0, 0, more)).T).T[:count]
        return product.reshape(*input.shape[:-1], self.out_features)


def speed_up(llama: Any) -> None:
    """Put `FewRows` in the place of all float32 matrices on a CPU."""
    for module in list(llama.modules()):
        for name, layer in list(module.named_children()):
            if (
                type(layer) is nn.Linear
                and layer.bias is None
                and layer.weight.device.type == "cpu"
                and layer.weight.dtype == torch.float32
            ):
                setattr(module, name, FewRows(layer))
