"""The eleven basic colours by name."""

from __future__ import annotations

import torch

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (214, 40, 40),
    "orange": (240, 135, 30),
    "yellow": (248, 212, 60),
    "green": (60, 150, 70),
    "blue": (45, 105, 215),
    "purple": (125, 65, 180),
    "pink": (245, 150, 190),
    "brown": (120, 75, 45),
    "grey": (135, 135, 135),
    "black": (25, 25, 25),
    "white": (245, 245, 245),
}
NAMES = tuple(COLOURS)


def palette(device: torch.device | str = "cpu") -> torch.Tensor:
    """float32 (11, 3) in [0, 1], in the order of `NAMES`."""
    return torch.tensor(list(COLOURS.values()), dtype=torch.float32, device=device) / 255


def nearest_colour(pixels: torch.Tensor) -> list[str]:
    """The names of the colours that are nearest (Euclidean, in RGB) to ``pixels`` (N, 3), uint8 or floats in [0, 1]."""
    values = pixels.float() / 255 if pixels.dtype == torch.uint8 else pixels.float()
    distances = (values[:, None] - palette(values.device)[None]).square().sum(-1)
    return [NAMES[number] for number in distances.argmin(-1).tolist()]
