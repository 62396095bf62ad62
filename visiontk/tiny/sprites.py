"""The things of the world and their drawings, read from the sheets that `scripts/build_sprites.py` makes."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

import numpy as np
import torch
from PIL import Image
from torch.nn import functional

from visiontk.errors import UsageError

STYLES = ("noto", "fluent", "twemoji")
TRAIN_STYLES = ("noto", "fluent")
HELD_OUT_STYLE = "twemoji"
CELL, COLUMNS = 64, 10


@dataclass(frozen=True)
class Thing:
    """One class.

    Attributes:
        name: in plain English, lower case, without article: ``traffic light``.
        group: ``animals``, ``food``, ``vehicles``, ``nature`` or ``objects``.
        codepoint: of the emoji, hexadecimal.
        article: ``a``, ``an``, ``a pair of`` and the like.
        colour: a name of `visiontk.tiny.colours.COLOURS`, where the thing is of that one colour in every style; else None.
    """

    name: str
    group: str
    codepoint: str
    article: str
    colour: str | None = None


@cache
def things() -> tuple[Thing, ...]:
    """All things; a class id is a place in this tuple."""
    text = resources.files("visiontk").joinpath("tiny", "sprites", "names.toml").read_text("utf-8")
    return tuple(Thing(**entry) for entry in tomllib.loads(text)["things"])


def names() -> list[str]:
    """The names of all things in the order of their class ids."""
    return [thing.name for thing in things()]


def check_styles(styles: Sequence[str]) -> tuple[str, ...]:
    """The styles as a tuple. Raises UsageError for none, and for one that does not exist."""
    for style in styles:
        if style not in STYLES:
            raise UsageError(f"there is no style {style!r}; use {', '.join(STYLES)}")
    if not styles:
        raise UsageError(f"there is no style to draw in; use {', '.join(STYLES)}")
    return tuple(styles)


def sprite(name: str, style: str) -> Image.Image:
    """One drawing: RGBA, 64 x 64. Raises UsageError for a name or style that does not exist."""
    if name not in names():
        raise UsageError(f"there is no thing {name!r} in the tiny world; visiontk.tiny.world.names() lists them")
    return Image.fromarray(_cells(check_styles([style])[0])[names().index(name)])


@cache
def textures(styles: tuple[str, ...], device: torch.device) -> torch.Tensor:
    """float32 (2, styles, things, 4, 64, 64), RGB multiplied by alpha, in [0, 1].

    The second level is averaged over 2 x 2 pixels and brought back to full size: drawings of less than half their size are sampled from
    it, which keeps them from aliasing.
    """
    cells = np.stack([_cells(style) for style in check_styles(styles)])
    straight = torch.from_numpy(cells).permute(0, 1, 4, 2, 3).float() / 255
    sharp = torch.cat([straight[:, :, :3] * straight[:, :, 3:], straight[:, :, 3:]], dim=2)
    flat = sharp.flatten(0, 1)
    soft = functional.interpolate(functional.avg_pool2d(flat, 2), scale_factor=2.0, mode="bilinear", align_corners=False)
    return torch.stack([sharp, soft.view_as(sharp)]).to(device)


@cache
def _cells(style: str) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """uint8 (things, 64, 64, 4) of one sheet."""
    with resources.files("visiontk").joinpath("tiny", "sprites", f"{style}.webp").open("rb") as file:
        sheet = np.asarray(Image.open(file).convert("RGBA"))
    rows = sheet.shape[0] // CELL
    cells = sheet.reshape(rows, CELL, COLUMNS, CELL, 4).swapaxes(1, 2).reshape(-1, CELL, CELL, 4)
    return np.ascontiguousarray(cells[: len(things())])
