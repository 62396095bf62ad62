"""Keys and values of what was read, in memory that is allocated once: nothing grows, nothing is copied from token to token.

transformers' blocks hand their new keys and values to ``update`` and attend to what it returns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor
from torch.nn import functional

from .generate_quiet import importing

with importing():
    from transformers import AttentionInterface, LlamaConfig
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

ATTENTION = "visiontk_shared_prefix"


@dataclass(frozen=True)
class Shape:
    """What a cache has to know of a LLaMA."""

    layers: int
    heads: int
    width: int
    dtype: torch.dtype
    device: torch.device

    @classmethod
    def of(cls, config: LlamaConfig, dtype: torch.dtype, device: torch.device) -> Shape:
        heads = config.num_key_value_heads or config.num_attention_heads
        width = config.head_dim or config.hidden_size // config.num_attention_heads
        return cls(config.num_hidden_layers, heads, width, dtype, device)

    def bytes(self, rows: int, positions: int) -> int:
        """Memory of a cache."""
        return 2 * self.layers * rows * self.heads * positions * self.width * self.dtype.itemsize


class KeysValues:
    """A cache whose filled part alone is looked at; for running without compilation.

    Attributes:
        keys, values: of each layer, (rows, heads, capacity, width).
        length: positions that are filled.
    """

    def __init__(self, keys: list[Tensor], values: list[Tensor]) -> None:
        self.keys, self.values, self.length = keys, values, 0

    @classmethod
    def empty(cls, shape: Shape, rows: int, capacity: int) -> Self:
        size = (rows, shape.heads, capacity, shape.width)
        keys, values = ([torch.zeros(size, dtype=shape.dtype, device=shape.device) for _ in range(shape.layers)] for _ in range(2))
        return cls(keys, values)

    @property
    def rows(self) -> int:
        return self.keys[0].shape[0]

    def update(self, keys: Tensor, values: Tensor, layer: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Write (rows, heads, new, width) behind what is there, and return all that is filled, as views."""
        end = self.length + keys.shape[2]
        self.keys[layer][:, :, self.length : end] = keys
        self.values[layer][:, :, self.length : end] = values
        return self.keys[layer][:, :, :end], self.values[layer][:, :, :end]

    def each(self, step: int) -> KeysValues:
        """Every so many rows, the first among them, in the same memory."""
        return KeysValues([tensor[::step] for tensor in self.keys], [tensor[::step] for tensor in self.values])

    def spread(self, step: int, length: int) -> None:
        """Give the other rows what `each` of the first ones holds in its first ``length`` positions."""
        for tensor in (*self.keys, *self.values):
            filled = tensor[:, :, :length].view(-1, step, *tensor.shape[1:2], length, tensor.shape[3])
            filled[:, 1:] = filled[:, :1]
        self.length = length


class FixedKeysValues(KeysValues):
    """A cache that is looked at whole, under a mask, and whose position is a tensor: every step is the same graph, to be compiled."""

    def __init__(self, keys: list[Tensor], values: list[Tensor]) -> None:
        super().__init__(keys, values)
        self.position: Tensor | None = None
        for tensor in (*keys, *values):
            torch._dynamo.mark_static_address(tensor)  # or CUDA graphs copy the cache at each step

    @torch.inference_mode()
    def clear(self) -> None:
        """Make it empty, in the same memory. A NaN of the sentence before would come through the mask: it is 0 times NaN."""
        self.length = 0
        for tensor in (*self.keys, *self.values):
            tensor.zero_()

    def update(self, keys: Tensor, values: Tensor, layer: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        if self.position is None:
            return super().update(keys, values, layer)
        self.keys[layer].index_copy_(2, self.position, keys)
        self.values[layer].index_copy_(2, self.position, values)
        return self.keys[layer], self.values[layer]


def attend(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    prefix: KeysValues | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """`attention` as transformers' blocks call it; also for several tokens without a prefix. Gives (rows, n, query heads, width)."""
    if prefix is None or query.shape[2] > 1:
        output, _ = sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **options)
        return output, None
    layer: Any = module.layer_idx
    return attention(query, key, value, layer, scaling, prefix).transpose(1, 2), None


def attention(query: Tensor, key: Tensor, value: Tensor, layer: int, scaling: float, prefix: KeysValues | None) -> Tensor:
    """Attention of one new token of each row to its own keys and to a prefix that several rows share.

    The prefix lies in memory once for each sentence, so that it is also read once for all candidates.

    Args:
        query: (rows, query heads, 1, width); the candidates of a sentence are neighbours.
        key, value: (rows, heads, own, width).
        prefix: of the sentences, filled up to its ``length``; without one it is plain scaled_dot_product_attention.

    Returns:
        (rows, query heads, 1, width).
    """
    rows, query_heads, _, width = query.shape
    heads = key.shape[1]
    if prefix is None:  # of one token, the queries that share keys are as good as several tokens; not every device knows enable_gqa
        grouped = query.reshape(rows, heads, query_heads // heads, width)
        return functional.scaled_dot_product_attention(grouped, key, value, scale=scaling).reshape(query.shape)
    sentences = prefix.keys[layer].shape[0]
    group, candidates = query_heads // heads, rows // sentences
    shared_keys, shared_values = (both[layer][:, :, : prefix.length] for both in (prefix.keys, prefix.values))
    # The candidates of a sentence look at the prefix as if they were so many tokens.
    own = query.reshape(rows, heads, group, width)
    shared = own.reshape(sentences, candidates, heads, group, width).transpose(1, 2).reshape(sentences, heads, candidates * group, width)
    from_shared, shared_size = _attended(shared, shared_keys, shared_values, scaling)
    from_own, own_size = _attended(own, key, value, scaling)
    from_shared = from_shared.reshape(sentences, heads, candidates, group, width).transpose(1, 2).reshape(own.shape)
    shared_size = shared_size.reshape(sentences, heads, candidates, group).transpose(1, 2).reshape(own_size.shape)
    share = torch.sigmoid(shared_size - own_size)[..., None]  # of the softmax over both that lies in the prefix
    output = torch.lerp(from_own.float(), from_shared.float(), share)
    return output.to(query.dtype).reshape(rows, query_heads, 1, width)


def _attended(query: Tensor, key: Tensor, value: Tensor, scaling: float) -> tuple[Tensor, Tensor]:
    """Attention, and the logarithm of the sum that its softmax divides by, fp32: (B, heads, n, width) and (B, heads, n)."""
    if query.device.type == "cpu":  # in one pass, and with sums in fp32; it wants the widths of heads in one piece and does not ask
        in_one_pass = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
        found: tuple[Tensor, Tensor] = in_one_pass(query.contiguous(), key, value, scale=scaling)
        return found
    return _attended_in_steps(query, key, value, scaling)


def _attended_in_steps(query: Tensor, key: Tensor, value: Tensor, scaling: float) -> tuple[Tensor, Tensor]:
    """The same on any device."""
    scores = (query * scaling) @ key.mT
    return scores.softmax(-1, dtype=torch.float32).to(query.dtype) @ value, scores.float().logsumexp(-1)


AttentionInterface.register(ATTENTION, attend)
