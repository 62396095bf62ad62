"""The shapes of the paper: the LLaMAs from 300M to 7B parameters, and the VQGAN before them.

Bai et al. 2023, "Sequential Modeling Enables Scalable Learning for Large Vision Models", arXiv 2312.00785, and EasyLM/models/llama of its
code.
"""

from __future__ import annotations

from typing import Any

CODES = 8192
VOCABULARY = 8292  # and a hundred tokens that are never used
CONTEXT = 4096

# Hidden, intermediate, layers, heads.
SHAPES: dict[str, tuple[int, int, int, int]] = {
    "300m": (1024, 2688, 22, 8),
    "600m": (1536, 4096, 22, 16),
    "1b": (2048, 5504, 22, 16),
    "3b": (3200, 8640, 26, 32),
    "7b": (4096, 11008, 32, 32),
}

# diffusers' VQModel for open-muse's VQGANModel of hidden_channels 128, channel_mult (1, 2, 2, 4, 6) and no attention.
VQGAN: dict[str, Any] = {
    "_class_name": "VQModel",
    "in_channels": 3,
    "out_channels": 3,
    "down_block_types": ["DownEncoderBlock2D"] * 5,
    "up_block_types": ["UpDecoderBlock2D"] * 5,
    "block_out_channels": [128, 256, 256, 512, 768],
    "layers_per_block": 2,
    "latent_channels": 64,
    "vq_embed_dim": 64,
    "num_vq_embeddings": CODES,
    "mid_block_add_attention": False,
    "lookup_from_codebook": True,
    "norm_num_groups": 32,
    "sample_size": 256,
}


def llama(size: str) -> dict[str, Any]:
    """The arguments of transformers' LlamaConfig for a size of `SHAPES`. There are no special tokens: token 2 is a code like any other."""
    hidden, intermediate, layers, heads = SHAPES[size]
    return {
        "vocab_size": VOCABULARY,
        "hidden_size": hidden,
        "intermediate_size": intermediate,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": heads,
        "max_position_embeddings": CONTEXT,
        "rms_norm_eps": 1e-6,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
        "tie_word_embeddings": False,
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": None,
    }
