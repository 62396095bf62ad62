"""Reading the two networks of an LVM, or making them at random, and whether they fit each other."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from visiontk.errors import ModelUnavailable, UsageError, first_line

from . import lvm_public, lvm_sizes
from .generate_quiet import importing, quiet
from .lvm_files import Files
from .weights_file import StateDict

QUANTIZE = ("int8",)
_MOST_UNUSED = 2  # times as many tokens as codes; the public model has a hundred more than its 8,192


def read(found: Files, dtype: torch.dtype, name: str, vqgan_of: str | None = None) -> tuple[Any, Any]:
    """VQGAN (fp32) and LLaMA (of the dtype) on the CPU, in evaluation mode, checked against each other. Raises ModelUnavailable.

    ``name`` and ``vqgan_of``, where the VQGAN is of another, are for messages.
    """
    seen = vqgan_of or name
    vqgan = build_vqgan(*lvm_public.read_vqgan(found.vqgan, seen), seen)
    llama = read_llama(found.llama, dtype, name, found.shards)
    check(vqgan, llama, name, vqgan_of)
    return vqgan, llama


def build_vqgan(config: dict[str, Any], tensors: StateDict, name: str) -> Any:
    """A ``VQModel`` with its weights. Raises ModelUnavailable where the two do not fit."""
    with importing():
        from diffusers import VQModel

    def build() -> Any:
        with torch.device("meta"):
            return VQModel.from_config(config)

    vqgan = _guarded(name, "VQGAN", build)
    for key, wanted in vqgan.state_dict().items():
        if key not in tensors:
            raise ModelUnavailable(f"the VQGAN of {name} does not fit its configuration ({key} is missing); fetch it again")
        if tensors[key].shape != wanted.shape:
            shapes = f"{key} has the shape {list(tensors[key].shape)} and not {list(wanted.shape)}"
            raise ModelUnavailable(f"the VQGAN of {name} does not fit its configuration ({shapes}); fetch it again")
    unknown = next((key for key in tensors if key not in vqgan.state_dict()), None)
    if unknown is not None:
        raise ModelUnavailable(f"the VQGAN of {name} does not fit its configuration ({unknown} is unknown); fetch it again")
    vqgan.load_state_dict(tensors, assign=True)
    return vqgan.eval().requires_grad_(False)


def read_llama(folder: Path, dtype: torch.dtype | str, name: str, shards: list[Path] | None = None) -> Any:
    """A ``LlamaForCausalLM``. Raises ModelUnavailable where a file is missing, broken or of another model."""
    with importing():
        from transformers import LlamaForCausalLM

    config = llama_config(folder, name)

    def build() -> Any:
        with quiet():
            safe = None if shards is None else shards[0].suffix == ".safetensors"
            return LlamaForCausalLM.from_pretrained(
                folder, config=config, dtype=dtype, local_files_only=True, use_safetensors=safe, output_loading_info=True
            )

    llama, told = _guarded(name, "LLaMA", build)
    missing = sorted(told["missing_keys"])
    if missing:
        raise ModelUnavailable(f"the LLaMA of {name} lacks {len(missing)} tensors, {missing[0]} among them; fetch the model again")
    unknown = next((key for key in sorted(told["unexpected_keys"]) if not _is_told_twice(key, config)), None)
    if unknown is not None:
        raise ModelUnavailable(f"the LLaMA of {name} does not fit its configuration ({unknown} is unknown); fetch it again")
    return llama.eval().requires_grad_(False)


def _is_told_twice(key: str, config: Any) -> bool:
    """Whether a tensor only says what the configuration says: the rotations' frequencies, and a head that is the embedding."""
    return key.endswith(".rotary_emb.inv_freq") or (config.tie_word_embeddings and key == "lm_head.weight")


def llama_config(folder: Path, name: str) -> Any:
    """The ``LlamaConfig`` of a folder, without special tokens: its default end, 2, is a code. Raises ModelUnavailable."""
    with importing():
        from transformers import LlamaConfig

    config = lvm_public.read_config(folder / "config.json")
    if config.get("model_type") != "llama":
        raise ModelUnavailable(f"the language model of {name} is a {config.get('model_type')} and no llama; name another model")
    scaled = config.get("rope_scaling") or config.get("rope_parameters")
    if isinstance(scaled, dict) and "longrope" in (scaled.get("rope_type"), scaled.get("type")):
        raise ModelUnavailable(f"{name} turns by longrope, whose angles change with the length, which is not done here; name another model")

    def build() -> Any:
        with quiet():
            made = LlamaConfig.from_dict(config)
        made.eos_token_id = made.bos_token_id = made.pad_token_id = None
        return made

    return _guarded(name, "LLaMA", build)


def random(size: str, dtype: torch.dtype, seed: int) -> tuple[Any, Any]:
    """A VQGAN of the public shape and a LLaMA of a size of the paper with random weights, for measuring. Raises UsageError."""
    with importing():
        from diffusers import VQModel
        from transformers import LlamaConfig, LlamaForCausalLM

    if size not in lvm_sizes.SHAPES:
        raise UsageError(f"there is no size {size!r}; use {', '.join(lvm_sizes.SHAPES)}")
    state = torch.random.get_rng_state()
    torch.manual_seed(seed)
    with quiet():
        vqgan = VQModel.from_config(lvm_sizes.VQGAN)
        llama = LlamaForCausalLM._from_config(LlamaConfig(**lvm_sizes.llama(size)), dtype=dtype)
    torch.random.set_rng_state(state)
    return vqgan.eval().requires_grad_(False), llama.eval().requires_grad_(False)


def check(vqgan: Any, llama: Any, name: str, vqgan_of: str | None = None) -> None:
    """Raises ModelUnavailable where the two networks do not belong together."""
    settings, seen = vqgan.config, vqgan_of or name
    if (settings.in_channels, settings.out_channels) != (3, 3) or settings.norm_type != "group":
        kind = f"{settings.in_channels} channels in, {settings.out_channels} out, norm_type {settings.norm_type!r:.40}"
        raise ModelUnavailable(f"the VQGAN of {seen} is of another kind ({kind}); name one of RGB pictures with norm_type group")
    codes, vocabulary = int(vqgan.config.num_vq_embeddings), int(llama.config.vocab_size)
    if vocabulary < codes:
        raise ModelUnavailable(f"the VQGAN of {seen} has {codes} codes, more than the {vocabulary} tokens of the LLaMA; name two that fit")
    if vocabulary > _MOST_UNUSED * codes:
        raise ModelUnavailable(
            f"the VQGAN of {seen} has {codes} codes and the LLaMA {vocabulary} tokens, which are of something else; name two that fit"
        )
    if frame_tokens(vqgan) < 2:
        raise ModelUnavailable(f"the VQGAN of {seen} has one token a frame, which nothing could be told of; name another")
    context, tokens = int(llama.config.max_position_embeddings), frame_tokens(vqgan)
    if context < 2 * tokens:
        message = f"the context of {name} is {context} tokens, too short for a frame to see and a frame to make of {tokens} tokens each"
        raise ModelUnavailable(f"{message}; name another model")


def frame_tokens(vqgan: Any) -> int:
    """Tokens of one frame. Raises ModelUnavailable where the configuration gives none."""
    size, factor = vqgan.config.sample_size, 2 ** (len(vqgan.config.block_out_channels) - 1)
    if type(size) is not int or size < factor or size % factor:
        raise ModelUnavailable(f"the VQGAN's sample_size is {size!r:.40}, no multiple of {factor} pixels; mend its config.json")
    side: int = size // factor
    return side * side


def keep_codes(llama: Any, codes: int) -> None:
    """Leave out the rows of the last layer that stand for no code: nothing is ever computed for them."""
    head = llama.lm_head
    assert math.prod(head.weight.shape) > 0 and head.bias is None, "a LLaMA's head is a matrix"
    made = nn.Linear(head.in_features, codes, bias=False, device="meta")
    made.weight = nn.Parameter(head.weight[:codes], requires_grad=False)
    llama.lm_head = made


def check_quantize(quantize: str | None) -> None:
    """Raises UsageError for what is no way to quantize, or lacks its package."""
    if quantize is not None and quantize not in QUANTIZE:
        raise UsageError(f"quantization {quantize!r} is unknown; use {', '.join(QUANTIZE)}")
    if quantize is not None and importlib.util.find_spec("torchao") is None:
        raise UsageError(f"quantization to {quantize} needs the package torchao; install visiontk[quantize]")


def to_int8(llama: Any) -> None:
    """The weights of all matrices in 8 bits, one scale for each row; they are multiplied in the model's own type."""
    with importing():
        from torchao.quantization import Int8WeightOnlyConfig, quantize_

    with quiet():
        quantize_(llama, Int8WeightOnlyConfig())


def _guarded(name: str, part: str, build: Callable[[], Any]) -> Any:
    try:
        return build()
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # configurations and weights of all kinds reach all of diffusers' and transformers' constructors
        raise ModelUnavailable(
            f"the {part} of {name} cannot be read ({first_line(error)[:300]}); fetch it again, or name another"
        ) from error
