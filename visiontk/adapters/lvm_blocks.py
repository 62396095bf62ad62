"""One token of each row through the blocks of a LLaMA: the sums of transformers' blocks, in fewer and larger products.

Token by token the time goes into reading matrices, and next into everything that surrounds seven small products a block. Here queries, keys
and values are one product, gate and up another, and what comes out is theirs up to rounding
(transformers/models/llama/modeling_llama.py).

On a CPU the order counts where a matrix meets a few vectors, as a batch of candidates needs it. For one vector BLAS reads a matrix as
fast as memory gives it. Vectors times the matrix, as a linear layer has it, take three times as long for two to eight of them; the matrix
times the vectors takes little more than for one, if their number is a power of two.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .lvm_cache import KeysValues, attention

FEW = 8


class Block:
    """Runs what a ``LlamaDecoderLayer`` runs, for one token of each row.

    The layer stays usable: its weights become parts of the larger matrices, and nothing is kept twice.
    """

    def __init__(self, layer: Any, number: int) -> None:
        attend, mlp = layer.self_attn, layer.mlp
        self._number, self._width, self._scaling = number, attend.head_dim, attend.scaling
        projections = (attend.q_proj, attend.k_proj, attend.v_proj)
        self._heads = [projection.out_features // attend.head_dim for projection in projections]
        self._read, self._gated = _Matrix(projections), _Matrix((mlp.gate_proj, mlp.up_proj))
        self._wrote, self._down = _Matrix((attend.o_proj,)), _Matrix((mlp.down_proj,))
        self._activation = mlp.act_fn
        self._before, self._between = layer.input_layernorm, layer.post_attention_layernorm

    def __call__(self, hidden: Tensor, rotation: tuple[Tensor, Tensor], cache: KeysValues, prefix: KeysValues | None) -> Tensor:
        """(rows, hidden) to the same.

        Args:
            rotation: cosines and sines of the token's place, (1, 1, width of a head).
            cache: gets the token's keys and values.
            prefix: as of `visiontk.adapters.lvm_cache.attention`.
        """
        queries, keys, _ = self._heads
        read = self._read(normalise(hidden, self._before)).view(len(hidden), sum(self._heads), 1, self._width)
        turned = _rotate(read[:, : queries + keys], *rotation)
        seen = cache.update(turned[:, queries:], read[:, queries + keys :], self._number)
        found = attention(turned[:, :queries], *seen, self._number, self._scaling, prefix)
        hidden = hidden + self._wrote(found.reshape(len(hidden), -1))
        gate, up = self._gated(normalise(hidden, self._between)).chunk(2, dim=-1)
        return hidden + self._down(self._activation(gate) * up)


def normalise(hidden: Tensor, norm: Any) -> Tensor:
    """What a ``LlamaRMSNorm`` makes of (rows, hidden): in fp32, and so the weight's type."""
    exact = hidden.float()
    square = exact.square().sum(-1, keepdim=True) / hidden.shape[-1]  # `mean` takes several times as long
    scaled: Tensor = norm.weight * (exact * torch.rsqrt(square + norm.variance_epsilon)).to(hidden.dtype)
    return scaled


def times(vectors: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """A linear layer: (rows, in) with a weight (out, in) gives (rows, out)."""
    count = len(vectors)
    if not (2 <= count <= FEW and bias is None and weight.device.type == "cpu" and weight.dtype == torch.float32):
        return nn.functional.linear(vectors, weight, bias)
    more = (1 << (count - 1).bit_length()) - count
    return torch.mm(weight, nn.functional.pad(vectors, (0, 0, 0, more)).T).T[:count]


class _Matrix:
    """Linear layers of one input, as one."""

    def __init__(self, layers: Sequence[nn.Linear]) -> None:
        self._weight, self._bias = _joined(layers, "weight"), _joined(layers, "bias")

    def __call__(self, vectors: Tensor) -> Tensor:
        assert self._weight is not None, "a linear layer has a weight"
        return times(vectors, self._weight, self._bias)


@torch.no_grad()
def _joined(layers: Sequence[nn.Linear], name: str) -> Tensor | None:
    """The layers' parameters of a name one behind the other; the layers then hold views of it. None where they have none."""
    parts: list[Tensor | None] = [getattr(layer, name) for layer in layers]
    there = [part.detach() for part in parts if part is not None]
    if len(there) < len(layers):
        return None
    if len(there) == 1:
        return there[0]
    whole = torch.cat(there)
    for layer, part in zip(layers, torch.split(whole, [len(part) for part in there]), strict=True):
        setattr(layer, name, nn.Parameter(part, requires_grad=False))
    return whole


def _rotate(heads: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Rotary places (Su et al. 2021, arXiv 2104.09864), the halves of a head as pairs, as transformers has it."""
    first, second = heads.chunk(2, dim=-1)
    return heads * cosines + torch.cat([-second, first], dim=-1) * sines
