"""Pictures on their way into a pipeline and out of it: resizing, latents to pixels, and keeping what a mask leaves alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image as pillow
from PIL.Image import Image

from .generate_types import Request

Floats = npt.NDArray[np.floating[Any]]


def init(request: Request) -> Image:
    """The image to start from, RGB, at the size that is wanted."""
    assert request.init is not None and request.size is not None
    image = request.init.convert("RGB")
    return image if image.size == request.size else image.resize(request.size, pillow.Resampling.LANCZOS)


def mask(request: Request) -> Image:
    """What is painted anew, white on black (mode L), at the size that is wanted: pixels of which at least half is masked."""
    assert request.mask is not None and request.size is not None
    image = pillow.fromarray(np.where(request.mask, np.uint8(255), np.uint8(0)))
    if image.size == request.size:
        return image
    return image.resize(request.size, pillow.Resampling.BOX).point(lambda level: 255 if level >= 128 else 0)


def finish(picture: Image, request: Request) -> Image:
    """With the pixels of ``init`` wherever there is a mask and it is not set."""
    if request.mask is None:
        return picture
    return pillow.composite(picture, init(request), mask(request))


def to_images(pixels: Floats) -> list[Image]:
    """float (N, H, W, 3) in [0, 1] to RGB, rounded as diffusers does."""
    return [pillow.fromarray((one * 255).round().astype(np.uint8)) for one in pixels]


@torch.no_grad()
def decode(pipeline: Any, latents: torch.Tensor, requests: Sequence[Request]) -> list[Image]:
    """Latents in the middle of denoising as pictures, noise and all, by what the pipeline does at its end."""
    size = requests[0].size
    assert size is not None
    vae = pipeline.vae
    upcast = vae.dtype == torch.float16 and bool(vae.config.get("force_upcast"))
    if upcast:  # the decoder of SDXL overflows in fp16
        vae.to(dtype=torch.float32)
    decoded = vae.decode(_unpack(pipeline, latents, size).to(vae.dtype), return_dict=False)[0]
    if upcast:
        vae.to(dtype=torch.float16)
    decoded = decoded[:, :, 0] if decoded.ndim == 5 else decoded
    pixels = (decoded.float() / 2 + 0.5).nan_to_num().clamp(0, 1).permute(0, 2, 3, 1).cpu().numpy()
    return [finish(image, request) for image, request in zip(to_images(pixels), requests, strict=True)]


def _unpack(pipeline: Any, latents: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Latents of any pipeline as its VAE takes them: unpacked from a sequence, and no longer normalised."""
    config, (width, height) = pipeline.vae.config, size
    if latents.ndim == 3 and hasattr(pipeline, "_unpatchify_latents"):  # FLUX.2: the sequence runs row by row, batch norm on top
        batch, _, channels = latents.shape
        grid = latents.transpose(1, 2).reshape(batch, channels, height // (pipeline.vae_scale_factor * 2), -1)
        norm = pipeline.vae.bn
        scale = torch.sqrt(norm.running_var.view(1, -1, 1, 1) + config.batch_norm_eps).to(grid)
        return pipeline._unpatchify_latents(grid * scale + norm.running_mean.view(1, -1, 1, 1).to(grid))  # type: ignore[no-any-return]
    if latents.ndim == 3:
        latents = pipeline._unpack_latents(latents, height, width, pipeline.vae_scale_factor)
    mean, std = (config.get(name) for name in ("latents_mean", "latents_std"))
    factor = config.get("scaling_factor") or 1.0
    if mean is not None and std is not None:
        shape = (1, -1, *([1] * (latents.ndim - 2)))
        return latents * torch.tensor(std).view(shape).to(latents) / factor + torch.tensor(mean).view(shape).to(latents)
    return latents / factor + (config.get("shift_factor") or 0.0)
