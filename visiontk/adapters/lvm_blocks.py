"""Tokens through the blocks of a LLaMA: the sums of transformers' blocks, in fewer and larger products.

Token by token the time goes into reading matrices, and next into everything that surrounds seven small products a block. Here queries, keys
and values are one product, gate and up another, and what comes out is theirs up to rounding
(transformers/models/llama/modeling_llama.py).

Where a matrix meets a few vectors, as a batch of candidates needs it, a CPU's linear layer takes up to twice as long as for one, which goes
as fast as memory gives the matrix. In fp32 it is faster to have oneDNN order the matrix beforehand (for one vector: that costs the others
little, and one nothing), in bf16 to multiply the matrix by the vectors and not the vectors by the matrix.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from .lvm_cache import KeysValues, attention

FEW = 8


class Block:
    """Runs what a ``LlamaDecoderLayer`` runs.

    The layer cannot be run any more: its matrices are taken over, and nothing is kept twice.
    """

    def __init__(self, layer: Any, number: int) -> None:
        attend, mlp = layer.self_attn, layer.mlp
        self._number, self._width, self._scaling = number, attend.head_dim, attend.scaling
        projections = (attend.q_proj, attend.k_proj, attend.v_proj)
        self._heads = [projection.out_features // attend.head_dim for projection in projections]
        self._read, self._gated = Matrix(projections), Matrix((mlp.gate_proj, mlp.up_proj))
        self._wrote, self._down = Matrix((attend.o_proj,)), Matrix((mlp.down_proj,))
        self._activation = mlp.act_fn
        self._before, self._between = layer.input_layernorm, layer.post_attention_layernorm

    def __call__(self, hidden: Tensor, rotation: tuple[Tensor, Tensor], cache: KeysValues | None, prefix: KeysValues | None) -> Tensor:
        """(rows, n, hidden) to the same; several tokens see each other causally, and nothing else.

        Args:
            rotation: cosines and sines of the tokens' places, (1, n, width of a head).
            cache: gets their keys and values; empty where there are several.
            prefix: as of `visiontk.adapters.lvm_cache.attention`, for one token of each row.
        """
        rows, count, _ = hidden.shape
        queries, keys, _ = self._heads
        read = self._read(normalise(hidden, self._before)).view(rows, count, sum(self._heads), self._width).transpose(1, 2)
        turned = _rotate(read[:, : queries + keys], *rotation)
        seen: tuple[Tensor, ...] = turned[:, queries:], read[:, queries + keys :]
        if cache is not None:
            seen = cache.update(seen[0], seen[1], self._number)
        if count == 1:
            found = attention(turned[:, :queries], seen[0], seen[1], self._number, self._scaling, prefix)
        else:
            if queries > keys:  # each of several queries has its own copy; not every device knows enable_gqa
                seen = tuple(some.repeat_interleave(queries // keys, dim=1) for some in seen)
            found = functional.scaled_dot_product_attention(turned[:, :queries], seen[0], seen[1], is_causal=True, scale=self._scaling)
        hidden = hidden + self._wrote(found.transpose(1, 2).reshape(rows, count, -1))
        gate, up = self._gated(normalise(hidden, self._between)).chunk(2, dim=-1)
        return hidden + self._down(self._activation(gate) * up)


def normalise(hidden: Tensor, norm: Any) -> Tensor:
    """What a ``LlamaRMSNorm`` makes of (..., hidden): in fp32, and so the weight's type."""
    exact = hidden.float()
    square = exact.square().sum(-1, keepdim=True) / hidden.shape[-1]  # `mean` takes several times as long
    scaled: Tensor = norm.weight * (exact * torch.rsqrt(square + norm.variance_epsilon)).to(hidden.dtype)
    return scaled


class Matrix:
    """Linear layers of one input as one, taken over from them: (..., in) to (..., out of all)."""

    def __init__(self, layers: Sequence[nn.Linear]) -> None:
        weights, biases = [layer.weight.detach() for layer in layers], [layer.bias for layer in layers if layer.bias is not None]
        joined = weights[0] if len(weights) == 1 else torch.cat(weights)
        assert len(biases) in (0, len(layers)), "all of them have a bias, or none has"
        self._bias = torch.cat([bias.detach() for bias in biases]) if biases else None
        self._packed = _can_pack(joined)
        self._weight = torch.ops.mkldnn._reorder_linear_weight(joined, 1) if self._packed else joined
        for layer in layers:  # of which the shape stays
            layer.weight = nn.Parameter(torch.empty_like(layer.weight, device="meta"), requires_grad=False)

    def __call__(self, vectors: Tensor) -> Tensor:
        flat = vectors.reshape(-1, vectors.shape[-1])
        if self._packed:
            product: Tensor = torch.ops.mkldnn._linear_pointwise(flat, self._weight, self._bias, "none", [], "")
        elif self._bias is None and flat.device.type == "cpu" and flat.dtype == torch.bfloat16 and 2 <= len(flat) <= FEW:
            product = torch.mm(self._weight, flat.T).T
        else:
            product = functional.linear(flat, self._weight, self._bias)
        return product.reshape(*vectors.shape[:-1], -1)


def _can_pack(weight: Tensor) -> bool:
    """Whether oneDNN is there, and may have the matrix in its own order."""
    there = torch._C._has_mkldnn and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")
    return there and weight.device.type == "cpu" and weight.dtype == torch.float32


def _rotate(heads: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Rotary places (Su et al. 2021, arXiv 2104.09864), the halves of a head as pairs, as transformers has it."""
    first, second = heads.chunk(2, dim=-1)
    return heads * cosines + torch.cat([-second, first], dim=-1) * sines
