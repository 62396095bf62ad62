"""The weights of a LLaMA copied to safetensors, one file at a time: names and shapes checked, and what was written read again."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from visiontk import layouts
from visiontk.errors import ModelUnavailable, first_line

from . import lvm_files, lvm_weights, weights_file
from .generate_quiet import importing, quiet
from .weights_file import StateDict

# Old LLaMAs store the frequencies of their positions, which follow from the configuration.
_DERIVED = ".rotary_emb.inv_freq"


@dataclass(frozen=True)
class Llama:
    """A LLaMA whose weights are not read yet.

    Attributes:
        config: transformers' LlamaConfig, without special tokens.
        files: of weights.
        shapes: of each tensor, as the configuration has them.
    """

    folder: Path
    config: Any
    files: list[Path]
    shapes: dict[str, torch.Size]


def find(folder: Path) -> Llama:
    """What lies in a folder. Raises ModelUnavailable where it is no LLaMA or lacks a file."""
    with importing():
        from transformers import LlamaForCausalLM

    config = lvm_weights.llama_config(folder, str(folder))
    weights = layouts.LLAMA.find(folder)
    if weights is None:
        raise ModelUnavailable(f"{folder} has none of {', '.join(layouts.LLAMA.weights or ())}; name the folder of a LLaMA")
    with quiet(), torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in LlamaForCausalLM(config).state_dict().items()}
    return Llama(folder, config, lvm_files.Files(folder, folder, weights).shards, shapes)


def write(llama: Llama, out: Path, done: Callable[[int], None]) -> int:
    """Write its configuration and weights, and return the number of tensors. ``done`` is called with the bytes of each file.

    Raises:
        ModelUnavailable: a file is broken, or its tensors are not those of the configuration.
        OSError: it cannot be written, or reads otherwise than it was written.
    """
    out.mkdir(parents=True)
    places: dict[str, str] = {}
    for number, file in enumerate(llama.files, 1):
        name = "model.safetensors" if len(llama.files) == 1 else f"model-{number:05d}-of-{len(llama.files):05d}.safetensors"
        tensors = _checked(llama, file)
        with as_os_error():
            save_file(tensors, out / name, metadata={"format": "pt"})
            compare(tensors, out / name)
        places |= dict.fromkeys(tensors, name)
        done(file.stat().st_size)
    missing = sorted(llama.shapes.keys() - places.keys() - ({"lm_head.weight"} if llama.config.tie_word_embeddings else set()))
    if missing:
        raise ModelUnavailable(f"the LLaMA of {llama.folder} lacks {len(missing)} tensors, {missing[0]} among them; fetch the model again")
    if len(llama.files) > 1:
        size = sum((out / name).stat().st_size for name in {*places.values()})
        index = {"metadata": {"total_size": size}, "weight_map": dict(sorted(places.items()))}
        (out / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n", "utf-8")
    llama.config.architectures = ["LlamaForCausalLM"]
    llama.config.save_pretrained(out)
    return len(places)


def compare(tensors: StateDict, file: Path) -> None:
    """Raises OSError where a file of safetensors does not hold these tensors to the bit."""
    with safe_open(file, "pt") as written:
        if {*written.keys()} != {*tensors} or not all(_same(written.get_tensor(name), tensor) for name, tensor in tensors.items()):
            raise OSError(f"{file.name} reads otherwise than it was written")


@contextmanager
def as_os_error() -> Iterator[None]:
    """A full disk or a file that cannot be read, in the words of safetensors, as the OSError that it is."""
    try:
        yield
    except SafetensorError as error:
        raise OSError(first_line(error)) from error


def _same(one: Tensor, other: Tensor) -> bool:
    """To the bit, and so also where there are NaNs."""
    same = one.dtype == other.dtype and one.shape == other.shape
    return same and torch.equal(one.contiguous().view(-1).view(torch.uint8), other.contiguous().view(-1).view(torch.uint8))


def _checked(llama: Llama, file: Path) -> StateDict:
    """The tensors of one file, each with memory of its own. Raises ModelUnavailable where they are not those of the configuration."""
    found: StateDict = {}
    memory: set[int] = set()
    for name, tensor in weights_file.tensors(weights_file.read(file), file).items():
        if name.endswith(_DERIVED):
            continue
        wanted = llama.shapes.get(name)
        if wanted is None:
            raise ModelUnavailable(f"{file} has a tensor {name}, which is none of the LLaMA of its configuration; fetch it again")
        if tensor.shape != wanted or not tensor.is_floating_point():
            is_and_wanted = f"{tensor.dtype} {list(tensor.shape)} and not of floats {list(wanted)}".removeprefix("torch.")
            raise ModelUnavailable(f"the tensor {name} in {file} is {is_and_wanted}, as the configuration has it; fetch it again")
        place = tensor.untyped_storage().data_ptr()
        found[name] = tensor.clone(memory_format=torch.contiguous_format) if place in memory else tensor.contiguous()
        memory.add(place)
    return found
