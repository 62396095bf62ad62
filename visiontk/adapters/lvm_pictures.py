"""Pictures to tokens and back: the VQGAN, always in float32, as bf16 is off by up to 0.16 of the full scale."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from PIL import Image as PillowImage
from PIL.Image import Image
from torch import Tensor

from visiontk.media.sentence_tasks import squared

from .lvm_weights import frame_tokens

# Pictures of 256 x 256 at once, by the kind of device.
PIXELS = {"cuda": 64 * 256**2, "mps": 8 * 256**2, "cpu": 4 * 256**2}


class Pictures:
    """A VQGAN on its device.

    Attributes:
        size: side in pixels of what it sees and makes.
        tokens: of one picture.
        codes: how many different ones there are.
    """

    def __init__(self, vqgan: Any, device: torch.device) -> None:
        self.vqgan, self.device = vqgan.to(device), device
        self.size, self.codes = int(vqgan.config.sample_size), int(vqgan.config.num_vq_embeddings)
        self.tokens = frame_tokens(vqgan)
        self._batch = max(1, PIXELS.get(device.type, PIXELS["cpu"]) // self.size**2)

    @torch.inference_mode()
    def encode(self, images: Sequence[Image]) -> Tensor:
        """The codes of pictures, int64 (N, tokens) in raster order, on the CPU.

        Each is resized to a square without keeping its aspect, bicubic, and is [0, 1], as LVM's evaluation does it.
        """
        found = [torch.empty(0, self.tokens, dtype=torch.int64)]
        for start in range(0, len(images), self._batch):
            pixels = torch.stack([self._pixels(image) for image in images[start : start + self._batch]]).to(self.device)
            with self._whole_float32():
                latents = self.vqgan.encode(pixels).latents
                _, _, (_, _, codes) = self.vqgan.quantize(latents)
            found.append(codes.reshape(len(pixels), -1).cpu())
        return torch.cat(found)

    @torch.inference_mode()
    def decode(self, tokens: Tensor) -> list[Image]:
        """The pictures, RGB, of codes int64 (N, tokens)."""
        side = int(self.tokens**0.5)
        images: list[Image] = []
        for some in torch.split(tokens, self._batch):
            with self._whole_float32():
                entries = self.vqgan.quantize.get_codebook_entry(some.to(self.device), (len(some), side, side, -1))
                pixels = self.vqgan.decoder(self.vqgan.post_quant_conv(entries))
            levels = (pixels.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
            images += [PillowImage.fromarray(picture) for picture in levels]
        return images

    def _whole_float32(self) -> AbstractContextManager[None]:
        """On NVIDIA GPUs torch's convolutions round their inputs to TF32 by default, and some codes would be others than a CPU's."""
        return torch.backends.cudnn.flags(enabled=True, allow_tf32=False) if self.device.type == "cuda" else nullcontext()

    def fit(self, image: Image) -> Image:
        """The square that is encoded; of what is one already, a copy."""
        return squared(image, self.size)

    def _pixels(self, image: Image) -> Tensor:
        """float32 (3, size, size) in [0, 1]."""
        return torch.from_numpy(np.asarray(self.fit(image), dtype=np.float32) / 255).permute(2, 0, 1)
