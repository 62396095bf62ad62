"""What stands behind the things: plain colours, gradients, textures and pieces of photos."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

import numpy as np
import torch
from PIL import Image
from torch.nn import functional

from visiontk.errors import UsageError

from .captions import with_article
from .colours import NAMES, palette
from .draws import Draws

KINDS = ("plain", "gradient", "texture", "photo")
_JITTER = 0.03  # of a named colour, each channel either way
_OCTAVES = (3, 6, 12)


@dataclass(frozen=True)
class Backgrounds:
    """Backgrounds of a batch.

    Attributes:
        images: float32 (B, 3, S, S) in [0, 1].
        kinds: one of `KINDS` for each.
        colours: the colour's name for each, where it is plain; else None.
        phrases: for captions: ``a blue background``.
    """

    images: torch.Tensor
    kinds: list[str]
    colours: list[str | None]
    phrases: list[str]


def render_backgrounds(
    seed: int, indices: Sequence[int], size: int, kinds: Sequence[str], avoid: torch.Tensor, device: torch.device
) -> Backgrounds:
    """Backgrounds of items. ``avoid``, bool (B, 11), are the named colours that the things in front have.

    Raises:
        UsageError: a kind that does not exist.
    """
    for kind in kinds:
        if kind not in KINDS:
            raise UsageError(f"there is no background {kind!r}; use {', '.join(KINDS)}")
    chosen = Draws(seed, indices, "background kind").choose(len(kinds)).tolist()
    result = Backgrounds(
        torch.empty(len(indices), 3, size, size, device=device), [""] * len(indices), [None] * len(indices), [""] * len(indices)
    )
    for number, kind in enumerate(kinds):
        places = [place for place, choice in enumerate(chosen) if choice == number]
        if not places:
            continue
        draws = Draws(seed, [indices[place] for place in places], f"background {kind}", device)
        images, named, phrases = _PAINTERS[kind](draws, size, avoid[places])
        result.images[places] = images
        for place, name, phrase in zip(places, named, phrases, strict=True):
            result.kinds[place], result.colours[place], result.phrases[place] = kind, name, phrase
    return result


Painted = tuple[torch.Tensor, Sequence[str | None], list[str]]


def _plain(draws: Draws, size: int, avoid: torch.Tensor) -> Painted:
    (first, _), (names, _) = _two_colours(draws, avoid)
    return first.expand(-1, -1, size, size), names, [with_article(f"{name} background") for name in names]


def _gradient(draws: Draws, size: int, avoid: torch.Tensor) -> Painted:
    (first, second), (names, others) = _two_colours(draws, avoid)
    share = (_ramp(draws, size) * 0.7 + 0.5).clamp(0, 1)
    phrases = [f"a background from {name} to {other}" for name, other in zip(names, others, strict=True)]
    return first + (second - first) * share, [None] * len(names), phrases


def _texture(draws: Draws, size: int, avoid: torch.Tensor) -> Painted:
    (first, second), (names, others) = _two_colours(draws, avoid)
    which = draws.choose(3)
    periods = draws.between(3, 9)[:, None, None, None]
    slanted, straight = _ramp(draws, size), _pixel_grid(size, draws.device)
    stripes = _square_wave(slanted * periods, size)
    columns, rows = (_square_wave(axis * periods, size) for axis in straight)
    checks = columns * rows + (1 - columns) * (1 - rows)
    shares = torch.where(
        (which == 0)[:, None, None, None], stripes, torch.where((which == 1)[:, None, None, None], checks, _noise(draws, size))
    )
    words = [("striped", "checked", "mottled")[number] for number in which.tolist()]
    phrases = [f"a {word} {name} and {other} background" for word, name, other in zip(words, names, others, strict=True)]
    return first + (second - first) * shares, [None] * len(names), phrases


def _photo(draws: Draws, size: int, avoid: torch.Tensor) -> Painted:
    """A random piece of a random photo, at least half of its sides, sometimes mirrored."""
    crops = _photos(draws.device)
    zoom = draws.between(0.5, 1.0)[:, None, None]
    shift = draws.between(-1, 1, 2)[:, :, None, None] * (1 - zoom[:, None])
    flip = torch.where(draws.chance(0.5), -1.0, 1.0)[:, None, None]
    columns, rows = (axis[0] * 2 for axis in _pixel_grid(size, draws.device))
    across, down = (columns * zoom + shift[:, 0]) * flip, rows * zoom + shift[:, 1]
    grid = torch.stack([across.expand(-1, size, size), down.expand(-1, size, size)], dim=-1)
    images = functional.grid_sample(crops[draws.choose(len(crops))], grid, padding_mode="border", align_corners=False)
    return images, [None] * len(draws), ["a photo background"] * len(draws)


_PAINTERS: dict[str, Callable[[Draws, int, torch.Tensor], Painted]] = {
    "plain": _plain,
    "gradient": _gradient,
    "texture": _texture,
    "photo": _photo,
}


def _two_colours(draws: Draws, avoid: torch.Tensor) -> tuple[tuple[torch.Tensor, torch.Tensor], tuple[list[str], list[str]]]:
    """Two different colours for each item, near named ones that are not to be avoided: (B, 3, 1, 1) each, and their names."""
    ranks = draws.uniform(len(NAMES)) + avoid.to(draws.device) * 2.0
    order = ranks.argsort(dim=1)[:, :2]
    values = (palette(draws.device)[order] + draws.between(-_JITTER, _JITTER, 2, 3)).clamp(0, 1)
    first, second = ([NAMES[number] for number in order[:, place].tolist()] for place in (0, 1))
    return (values[:, 0, :, None, None], values[:, 1, :, None, None]), (first, second)


def _pixel_grid(size: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Horizontal (1, 1, 1, S) and vertical (1, 1, S, 1) places of pixel centres, from -0.5 to 0.5."""
    places = (torch.arange(size, device=device) + 0.5) / size - 0.5
    return places.view(1, 1, 1, size), places.view(1, 1, size, 1)


def _ramp(draws: Draws, size: int) -> torch.Tensor:
    """(B, 1, S, S) from about -0.7 to 0.7 along a random direction."""
    angle = draws.between(0, 2 * math.pi)[:, None, None, None]
    columns, rows = _pixel_grid(size, draws.device)
    return columns * angle.cos() + rows * angle.sin()


def _square_wave(phase: torch.Tensor, size: int) -> torch.Tensor:
    """0 or 1, half a period each, with edges about two pixels wide."""
    return ((phase * 2 * math.pi).sin() * (size / 16) + 0.5).clamp(0, 1)


def _noise(draws: Draws, size: int) -> torch.Tensor:
    """(B, 1, S, S) in [0, 1]: value noise of three octaves."""
    total = torch.zeros(len(draws), 1, size, size, device=draws.device)
    for octave, cells in enumerate(_OCTAVES):
        values = draws.uniform(1, cells, cells)
        total = total + functional.interpolate(values, size=(size, size), mode="bilinear", align_corners=False) / 2**octave
    return ((total / 1.75 - 0.5) * 2.5 + 0.5).clamp(0, 1)


@cache
def _photos(device: torch.device) -> torch.Tensor:
    """float32 (N, 3, 128, 128) in [0, 1]: the crops that come with the package."""
    folder = resources.files("visiontk").joinpath("tiny", "backgrounds")
    crops = []
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if entry.name.endswith(".jpg"):
            with entry.open("rb") as file:
                crops.append(np.asarray(Image.open(file).convert("RGB")))
    return (torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).float() / 255).to(device)
