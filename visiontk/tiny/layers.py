"""Sprites on a canvas: each turned, scaled and placed, then laid over the others from the back to the front."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional

from .sprites import CELL

VISIBLE = 0.5  # an object owns a pixel where it makes up more than half of it, so masks never overlap


@dataclass(frozen=True)
class Pose:
    """Where sprites stand; all tensors (N, T): N sprites in T frames.

    Attributes:
        x, y: the middle, as shares of the canvas.
        scale: the side of the sprite's cell as a share of the canvas.
        angle: radians, clockwise.
        flip: -1.0 where mirrored left to right, else 1.0.
    """

    x: torch.Tensor
    y: torch.Tensor
    scale: torch.Tensor
    angle: torch.Tensor
    flip: torch.Tensor

    def at(self, frames: range) -> Pose:
        """Some of the frames."""
        chosen = slice(frames.start, frames.stop, frames.step)
        return Pose(*(value[:, chosen] for value in (self.x, self.y, self.scale, self.angle, self.flip)))


@dataclass(frozen=True)
class Composite:
    """Layers laid over a background.

    Attributes:
        images: float32 (B, T, 3, S, S).
        alphas: float32 (B, T, O, S, S): each layer's own opacity, as if nothing stood before it.
        masks: bool (B, T, O, S, S): where each layer makes up more than half of the pixel; disjoint.
    """

    images: torch.Tensor
    alphas: torch.Tensor
    masks: torch.Tensor


def place(textures: torch.Tensor, pose: Pose, size: int) -> torch.Tensor:
    """float32 (N, T, 4, S, S), RGB multiplied by alpha: ``textures`` (N, 4, 64, 64) on an empty canvas of ``size`` pixels.

    Written out by element, not as a matrix product, whose last bits may depend on the batch.
    """
    places = (torch.arange(size, device=textures.device) + 0.5) / size
    dx = places.view(1, 1, 1, size) - pose.x[..., None, None]
    dy = places.view(1, 1, size, 1) - pose.y[..., None, None]
    reach = (2 / pose.scale.clamp(min=1e-4))[..., None, None]
    cosine, sine = pose.angle.cos()[..., None, None] * reach, pose.angle.sin()[..., None, None] * reach
    u = (dx * cosine + dy * sine) * pose.flip[..., None, None]
    v = dy * cosine - dx * sine
    count, frames = pose.x.shape
    # The frames stand below each other in one tall grid, so that a texture is not copied for each of them.
    grid = torch.stack([u, v], dim=-1).reshape(count, frames * size, size, 2)
    sampled = functional.grid_sample(textures, grid, padding_mode="zeros", align_corners=False)
    return sampled.view(count, 4, frames, size, size).transpose(1, 2)


def composite(background: torch.Tensor, layers: torch.Tensor) -> Composite:
    """Lay ``layers`` (B, O, T, 4, S, S), the rearmost first, over ``background`` (B, 3, S, S)."""
    frames = layers.shape[2]
    images = background[:, None].expand(-1, frames, -1, -1, -1)
    alphas = layers[:, :, :, 3].transpose(1, 2)
    for layer in layers.unbind(1):
        images = images * (1 - layer[:, :, 3:]) + layer[:, :, :3]
    through = torch.ones_like(alphas[:, :, 0])
    masks = []
    for alpha in reversed(alphas.unbind(2)):
        masks.append(alpha * through > VISIBLE)
        through = through * (1 - alpha)
    return Composite(images, alphas, torch.stack(masks[::-1], dim=2))


def pick_textures(levels: torch.Tensor, styles: torch.Tensor, labels: torch.Tensor, scale: torch.Tensor, size: int) -> torch.Tensor:
    """The textures (N, 4, 64, 64) of things, out of `visiontk.tiny.sprites.textures`: the soft ones where drawn at less than half size."""
    soft = (scale * size < CELL / 2).long()
    return levels[soft, styles, labels.clamp(min=0)]


def to_bytes(images: torch.Tensor) -> torch.Tensor:
    """uint8 of floats in [0, 1]."""
    return (images * 255).round().clamp(0, 255).to(torch.uint8)
