"""Attention that is quick to train with.

torch's fused attention on a CPU goes back through bf16 several times slower than the same written out: 91 ms against 16 for 64 sequences
of 65 tokens in three heads of 64, 65 against 26 for 32 of 197, on one core with AMX. In fp32, and for a thousand tokens, it is as fast or
faster.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from visiontk.runtime import Started


def unfuse(network: nn.Module, started: Started) -> None:
    """Have the attention of a timm model written out, where that is quicker to train. The function it computes stays the same."""
    if not _slow_when_fused(started):
        return
    module: Any
    for module in network.modules():
        if hasattr(module, "fused_attn"):
            module.fused_attn = False


def written_out(started: Started) -> AbstractContextManager[None]:
    """The same within this context, for any model that calls torch's attention on short sequences."""
    if not _slow_when_fused(started):
        return nullcontext()
    torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(True)  # of the CPU as well; else it multiplies in fp32
    return sdpa_kernel(SDPBackend.MATH)


def _slow_when_fused(started: Started) -> bool:
    return started.device.type == "cpu" and started.dtype is torch.bfloat16
