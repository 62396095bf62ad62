"""An LVM written anew as one folder of safetensors: names mapped, shapes checked, and what was written compared with what was read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image as PillowImage
from PIL.Image import Image
from torch import Tensor

from . import lvm_copy, lvm_public, lvm_weights
from .generate_quiet import quiet
from .lvm_pictures import Pictures

PICTURES = 8
Told = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Converted:
    """What a conversion came to.

    Attributes:
        tensors: of both networks; all were read again and are the same to the bit.
        size: bytes of their files.
        pictures, codes: so many were encoded before and after, with the same codes.
        different: codes among them.
    """

    tensors: int
    size: int
    pictures: int
    codes: int
    different: int


def convert(llama: Path, vqgan: Path, out: Path, told: Told | None = None) -> Converted:
    """Write an LVM folder from the two public ones, which are read without running code. One file of weights is in memory at a time.

    Args:
        llama: transformers' LlamaForCausalLM, ``.bin`` or safetensors; the type of its weights stays.
        vqgan: open-muse's VQGANModel, or diffusers' VQModel; its weights become float32.
        out: gets ``vqgan/`` and ``llama/``; it must not exist or be empty.
        told: called with what is done now, how many bytes of the weights are done, and how many there are.

    Raises:
        ModelUnavailable: what is there is no LVM, or the two do not fit each other.
        OSError: it cannot be written, or what was written reads otherwise.
    """
    config, tensors = lvm_public.read_vqgan(vqgan, str(vqgan))
    before = lvm_weights.build_vqgan(config, tensors, str(vqgan))
    language = lvm_copy.find(llama)
    lvm_weights.check(before, language, str(llama))
    progress = _Progress(told, sum(tensor.nbytes for tensor in tensors.values()), sum(file.stat().st_size for file in language.files))
    progress.vqgan()
    codes = _write_vqgan(before, out / "vqgan")
    progress.llama(0)
    count = lvm_copy.write(language, out / "llama", progress.llama)
    size = sum(file.stat().st_size for file in out.rglob("*.safetensors"))
    return Converted(len(tensors) + count, size, len(codes), codes.numel(), len({*codes.flatten().tolist()}))


def _write_vqgan(vqgan: Any, out: Path) -> Tensor:
    """Write it, read it again, and return the codes that both find in the same pictures: int64 (N, tokens). Raises OSError."""
    with quiet(), lvm_copy.as_os_error():
        vqgan.save_pretrained(out, safe_serialization=True)
        lvm_copy.compare(vqgan.state_dict(), out / "diffusion_pytorch_model.safetensors")
    again = lvm_weights.build_vqgan(*lvm_public.read_vqgan(out, str(out)), str(out))
    before, after = (Pictures(network, torch.device("cpu")).encode(pictures(PICTURES)) for network in (vqgan, again))
    if not torch.equal(before, after):
        raise OSError("the VQGAN that was written finds other codes in pictures than the one that was read")
    return before


def pictures(count: int) -> list[Image]:
    """Pictures for comparing two VQGANs, from smooth to rough, the same each time."""
    chance = np.random.default_rng(0)
    sides = [2 ** (2 + number % 6) for number in range(count)]
    small = [PillowImage.fromarray(chance.integers(0, 256, (side, side, 3), dtype=np.uint8)) for side in sides]
    return [picture.resize((128, 128), PillowImage.Resampling.BICUBIC) for picture in small]


class _Progress:
    """What is done of the bytes of both networks."""

    def __init__(self, told: Told | None, vqgan: int, llama: int) -> None:
        self._told, self._vqgan, self._total, self._done = told, vqgan, vqgan + llama, 0

    def vqgan(self) -> None:
        if self._told:
            self._told("VQGAN", 0, self._total)

    def llama(self, size: int) -> None:
        """So many bytes more are done."""
        self._done += size
        if self._told:
            self._told("LLaMA", self._vqgan + self._done, self._total)
