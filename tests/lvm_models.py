"""Tiny LVMs with random weights, as diffusers and transformers save them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from visiontk.adapters import lvm_sizes
from visiontk.adapters.generate_quiet import importing, quiet

SIDE, LEVELS = 16, 3  # 4 x 4 tokens a frame
TOKENS = (SIDE >> (LEVELS - 1)) ** 2


def vqgan_config(codes: int = 24) -> dict[str, Any]:
    """The arguments of a VQModel of the public one's kind, for pictures of 16 x 16."""
    return {
        "down_block_types": ["DownEncoderBlock2D"] * LEVELS,
        "up_block_types": ["UpDecoderBlock2D"] * LEVELS,
        "block_out_channels": [4, 8, 8],
        "layers_per_block": 1,
        "latent_channels": 4,
        "vq_embed_dim": 4,
        "num_vq_embeddings": codes,
        "mid_block_add_attention": False,
        "lookup_from_codebook": True,
        "norm_num_groups": 2,
        "sample_size": SIDE,
    }


def make_lvm(
    folder: Path,
    *,
    seed: int = 7,
    codes: int = 24,
    vocabulary: int = 32,
    frames: int = 6,
    heads: int = 4,
    kv_heads: int = 4,
    eos: int | None = None,
) -> Path:
    """A folder with ``vqgan/`` and ``llama/``. 0.2 MB.

    Args:
        frames: that fit into the context.
        kv_heads: heads of keys and values; the public models have as many as of queries.
        eos: a token that the configuration calls the end, as the public one's does by default.
    """
    import torch

    with importing():
        from diffusers import VQModel
        from transformers import LlamaConfig, LlamaForCausalLM

    state = torch.random.get_rng_state()
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        max_position_embeddings=frames * TOKENS,
        bos_token_id=None,
        eos_token_id=eos,
        pad_token_id=None,
    )
    vqgan, llama = VQModel(**vqgan_config(codes)), LlamaForCausalLM(config)
    with torch.no_grad():  # as they are initialised they hardly depend on what they are given
        for parameter in (*vqgan.parameters(), *llama.parameters()):
            parameter.add_(0.15 * torch.randn_like(parameter))
        vqgan.quantize.embedding.weight.copy_(torch.randn(codes, 4))
    with quiet():
        vqgan.save_pretrained(folder / "vqgan")
        llama.save_pretrained(folder / "llama")
    torch.random.set_rng_state(state)
    return folder


def shrink_300m(monkeypatch: pytest.MonkeyPatch) -> None:
    """The smallest size of the paper becomes one that runs at once: still 256 pixels, 256 tokens and 8,192 codes."""
    monkeypatch.setitem(lvm_sizes.SHAPES, "300m", (16, 32, 2, 2))
    small = {"down_block_types": ["DownEncoderBlock2D"] * 5, "block_out_channels": [4] * 5, "norm_num_groups": 2, "layers_per_block": 1}
    monkeypatch.setattr(lvm_sizes, "VQGAN", lvm_sizes.VQGAN | small)
