"""What the benchmarks run on: photos in two sizes, links to small ones, and models with random weights. Made once, in ``.bench/``."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from .report import doing

ROOT = Path(__file__).parent.parent
BENCH = ROOT / ".bench"
BUNDLED = "efficientnet-lite0"
BUNDLED_WEIGHTS = ROOT / "visiontk" / "weights" / BUNDLED / "model.safetensors"
QUALITY = 90
GRAIN = 6.0  # standard deviation of the grain, in levels of 255; 4000x3000 pixels of it make a JPEG of 3 MB, as a phone's are


def photos() -> list[str]:
    """1,000 JPEGs of 500x375."""
    return made("photos-500x375", lambda folder: _make_photos(folder, 1000, (500, 375), seed=1))


def large_photos() -> list[str]:
    """50 JPEGs of 4000x3000. They are enlarged, so they are smooth, and a quarter of the size that a camera's files have."""
    return made("photos-4000x3000", lambda folder: _make_photos(folder, 50, (4000, 3000), seed=2))


def grainy_photos() -> list[str]:
    """10 JPEGs of 4000x3000 with a camera's grain: there is as much to read in them as in a camera's files."""
    return made("photos-4000x3000-grain", lambda folder: _make_photos(folder, 10, (4000, 3000), seed=2, grain=True))


def links(count: int) -> list[str]:
    """So many paths, each a symbolic link to one of five small JPEGs; all in one folder."""
    targets = made("photos-160x120", lambda folder: _make_photos(folder, 5, (160, 120), seed=3))

    def make(folder: Path) -> None:
        for number in range(count):
            (folder / f"{number:06}.jpg").symlink_to(targets[number % len(targets)])

    return made(f"links-{count}", make)


def model_folder(architecture: str) -> Path:
    """A timm model folder with seeded random weights. Speed does not depend on the values, and no hub is needed."""

    def make(folder: Path) -> None:
        import timm
        import torch

        torch.manual_seed(0)
        timm.models.save_for_hf(timm.create_model(architecture, pretrained=False), str(folder), safe_serialization=True)

    made(architecture, make)
    return BENCH / architecture


def made(name: str, make: Callable[[Path], None]) -> list[str]:
    """The files of a folder, which appears under its name only when it is whole."""
    folder = BENCH / name
    if not folder.exists():
        doing(f"making {folder.relative_to(ROOT)}")
        unfinished = BENCH / f"{name}.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        make(unfinished)
        unfinished.rename(folder)
    return sorted(str(path) for path in folder.iterdir())


def _make_photos(folder: Path, count: int, size: tuple[int, int], seed: int, *, grain: bool = False) -> None:
    """Crops of the example photos: mirrored or not, lighter or darker, resized, as JPEG."""
    chance = random.Random(seed)
    originals = [Image.open(path).convert("RGB") for path in sorted((ROOT / "examples" / "photos").iterdir())]
    for number in range(count):
        photo = _crop(originals[number % len(originals)], size, chance).resize(size, Image.Resampling.BICUBIC)
        photo = ImageOps.mirror(photo) if chance.random() < 0.5 else photo
        photo = ImageEnhance.Brightness(photo).enhance(chance.uniform(0.7, 1.3))
        photo = _add_grain(photo, chance) if grain else photo
        photo.save(folder / f"{number:04}.jpg", quality=QUALITY)


def _crop(photo: Image.Image, size: tuple[int, int], chance: random.Random) -> Image.Image:
    """A part of the photo, 70 to 100 % as large as the shape of ``size`` allows."""
    scale = min(photo.width / size[0], photo.height / size[1]) * chance.uniform(0.7, 1.0)
    width, height = round(size[0] * scale), round(size[1] * scale)
    left, top = chance.randint(0, photo.width - width), chance.randint(0, photo.height - height)
    return photo.crop((left, top, left + width, top + height))


def _add_grain(photo: Image.Image, chance: random.Random) -> Image.Image:
    sheet = _grain_sheet()
    left, top = chance.randrange(sheet.shape[1] - photo.width), chance.randrange(sheet.shape[0] - photo.height)
    grain = sheet[top : top + photo.height, left : left + photo.width, None]
    return Image.fromarray(np.clip(np.asarray(photo, np.int16) + grain, 0, 255).astype(np.uint8))


@cache
def _grain_sheet() -> np.ndarray[tuple[int, int], np.dtype[np.int16]]:
    return np.random.default_rng(0).normal(0.0, GRAIN, (3200, 4200)).round().astype(np.int16)
