"""The language model of the bundled sequential model: a small LLaMA over the codes of the VQGAN, without end or other special tokens.

Bai et al. 2023 (arXiv 2312.00785) let billions of tokens teach theirs what a frame is. In an hour there are millions, so this one starts
with what is known of sentences beforehand:

- An embedding begins as the code's own latent, so that codes that look alike are alike.
- Heads of the first layers look at fixed distances: the same place one and two frames ago, its neighbours, the place above. With a constant
  channel in every embedding, a query and a key that depend on it alone have a product that depends on their distance alone, as rotary
  embeddings turn them against each other (Su et al. 2021, arXiv 2104.09864, equation 16): a sum of ``cos(theta_i * (distance - wanted))``.
- What such a head sees it copies to channels of its own, and the last layer starts by repeating the frame before.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

WIDTH, INNER, LAYERS, HEADS = 256, 704, 6, 4
FRAMES = 16  # of the context
THETA = 10_000.0
CONSTANT, LEAST = 6.0, 0.3  # size of the constant channel of an embedding, and the least of a random one
HEARD = 0.5  # size of what heads copy, over the latents
SHARP, BLUR = 60.0, 0.2  # logit of a head at its distance; what remains there of its random weights
REPEAT = 0.1  # how sure the frame before is repeated, for each squared unit of latents


def distances(side: int) -> tuple[tuple[int, ...], ...]:
    """Where the heads of the first layers look: tokens back from the one that is to come."""
    frame = side * side
    return (frame, frame + 1, 2 * frame, side), (frame - side, frame + side, frame - 1, 3 * frame)


def new_llama(side: int, codes: Tensor) -> Any:
    """Seeded by the caller, for frames of ``side`` x ``side`` tokens.

    Args:
        codes: the codebook, float (codes, d).
    """
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(codes),
        hidden_size=WIDTH,
        intermediate_size=INNER,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        max_position_embeddings=FRAMES * side * side,
        rope_parameters={"rope_type": "default", "rope_theta": THETA},
        rms_norm_eps=1e-6,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
    )
    made: Any = LlamaForCausalLM(config)
    with torch.no_grad():
        start(made, side, codes)
    return made


def is_hidden(name: str, parameter: Tensor) -> bool:
    """Whether a parameter of a LLaMA is a matrix between embedding and logits."""
    return parameter.ndim == 2 and name.startswith("model.layers.")


@torch.no_grad()
def start(made: Any, side: int, codes: Tensor) -> None:
    """Put what is known beforehand into a LLaMA with random weights."""
    latents = _standard(codes.to(made.lm_head.weight))
    size = latents.shape[1]
    own = slice(1, 1 + size)
    first = 1 + size  # of the channels that heads copy to
    norm = _embed(made.model.embed_tokens.weight, latents, first + size * sum(map(len, distances(side))))
    for layer in made.model.layers:
        for matrix in (layer.self_attn.o_proj.weight, layer.mlp.down_proj.weight):
            matrix.mul_((2 * LAYERS) ** -0.5)
    for layer, wanted in zip(made.model.layers, distances(side), strict=False):
        for head, distance in enumerate(wanted):
            _look(layer.self_attn, head, distance - 1, norm)
            _copy(layer.self_attn, head, own, slice(first, first + size), norm)
            first += size
    _repeat(made.lm_head.weight, slice(1 + size, 1 + 2 * size), latents)


def _embed(embedding: Tensor, latents: Tensor, free: int) -> Tensor:
    """The constant, the latents, nothing up to channel ``free``, and random numbers. Returns what the first normalisation divides by.

    The random part is as large as makes all embeddings equally large, or else a head would prefer small ones to its distance.
    """
    embedding.zero_()
    embedding[:, 0] = CONSTANT
    embedding[:, 1 : 1 + latents.shape[1]] = latents
    rest = torch.randn_like(embedding[:, free:])
    squared = latents.square().sum(1)
    wanted = squared.max() + LEAST**2 * rest.shape[1] - squared
    embedding[:, free:] = rest * (wanted / rest.square().sum(1)).sqrt()[:, None]
    return embedding.square().mean().sqrt()


def _look(attention: Any, head: int, distance: int, norm: Tensor) -> None:
    """Let a head attend ``distance`` tokens back from the one that it is at."""
    rows, half = _rows(head), WIDTH // HEADS // 2
    turns = THETA ** (-torch.arange(half) / half) * distance
    size = (SHARP / half * (2 * half) ** 0.5) ** 0.5 * norm / CONSTANT
    for matrix in (attention.q_proj.weight, attention.k_proj.weight):
        matrix[rows] *= BLUR
    attention.q_proj.weight[rows, 0] = torch.cat([size * torch.ones(half), torch.zeros(half)])
    attention.k_proj.weight[rows, 0] = torch.cat([size * turns.cos(), size * turns.sin()])


def _copy(attention: Any, head: int, source: slice, target: slice, norm: Tensor) -> None:
    """Let a head add the ``source`` channels of what it sees to the ``target`` channels of where it is."""
    rows = _rows(head)
    size = source.stop - source.start
    attention.v_proj.weight[rows] = 0
    attention.v_proj.weight[rows][:size, source] = torch.eye(size)
    attention.o_proj.weight[:, rows] = 0
    attention.o_proj.weight[target, rows][:, :size] = torch.eye(size) * (HEARD * norm)


def _repeat(head: Tensor, source: slice, latents: Tensor) -> None:
    """Logits fall with the squared distance between a code's latent and what is in the ``source`` channels."""
    nn.init.normal_(head, std=0.005)
    head[:, source] = REPEAT / HEARD * latents
    head[:, 0] = -REPEAT * latents.square().sum(1) / 2 / CONSTANT


def _standard(codes: Tensor) -> Tensor:
    """The codes with a mean of 0 and, over all channels together, a variance of 1: their distances keep their order."""
    centred = codes - codes.mean(0)
    return centred / centred.square().mean().sqrt().clamp(min=1e-6)


def _rows(head: int) -> slice:
    return slice(head * (WIDTH // HEADS), (head + 1) * (WIDTH // HEADS))
