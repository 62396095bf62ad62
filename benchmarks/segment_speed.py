"""Frames a second from a folder of JPEGs to masks at full size: SAM 2's own predictor, and ours."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
from PIL import Image

from visiontk.adapters.segment import ObjectPrompt, Segmenter, load
from visiontk.runtime import Runtime

from . import segment_material as material
from . import segment_official as official
from .report import Table, doing, middle, ratios, spread, target

POINTS = [(128.0, 128.0), (64.0, 64.0), (192.0, 192.0)]
Contender = Callable[[], tuple[float, int]]  # seconds to the first mask, and frames


def table(runtime: Runtime, count: int | None, rounds: int) -> Table:
    """One and three objects with the bundled model, one object with SAM 2.1's smallest shape at 1024 pixels."""
    rows: list[list[str]] = []
    for name, model, objects in (
        (material.TINY, material.TINY, 1),
        (material.TINY, material.TINY, 3),
        (material.LARGE, str(material.large_model()), 1),
    ):
        segmenter = load(model, runtime)
        device = segmenter.runtime.device.type
        frames = count or (100 if name == material.TINY else 4 if device == "cpu" else 200)
        rows += _rows(f"{name}, {objects} object{'s' * (objects > 1)}", segmenter, model, objects, frames, rounds)
    columns = ["", "official, frames/s", "lowest to highest", "visiontk, frames/s", "lowest to highest", "times as fast", "target"]
    columns += ["first mask: official, s", "visiontk, s"]
    notes = [
        f"JPEGs of {material.SIZE}x{material.SIZE}, from the files to masks at full size, {rounds} rounds by turns; "
        f"{segmenter.runtime.dtype_name} on {device}. The official predictor reads all frames before it begins."
    ]
    return Table("Video segmentation, against sam2's SAM2VideoPredictor", columns, rows, notes)


def _rows(title: str, segmenter: Segmenter, model: str, objects: int, frames: int, rounds: int) -> Iterator[list[str]]:
    doing(f"{title}: 2 ways, {rounds} rounds of {frames} frames")
    folder = material.frames(frames)
    made = official.predictor(model, str(segmenter.runtime.device))
    contenders: list[Contender] = [
        partial(official.track, made, folder, POINTS[:objects], segmenter.runtime.dtype),
        partial(_ours, segmenter, folder, POINTS[:objects]),
    ]
    warm = material.frames(2)
    official.track(made, warm, POINTS[:1], segmenter.runtime.dtype)
    _ours(segmenter, warm, POINTS[:1])
    rates: list[list[float]] = [[], []]
    firsts: list[list[float]] = [[], []]
    for _ in range(rounds):
        for place, contender in enumerate(contenders):
            begun = time.perf_counter()
            first, done = contender()
            rates[place].append(done / (time.perf_counter() - begun))
            firsts[place].append(first)
    found = ratios(rates[1], rates[0])
    yield [
        title,
        *(cell for values in rates for cell in (middle(values, 2), spread(values, 2))),
        f"{torch.tensor(found).median():.2f} x",
        target(found, least=1.0),
        *(middle(values, 2) for values in firsts),
    ]


def _ours(segmenter: Segmenter, folder: Path, points: list[tuple[float, float]]) -> tuple[float, int]:
    begun, first, count = time.perf_counter(), 0.0, 0
    prompts = [ObjectPrompt(number, 0, (point,), (1,)) for number, point in enumerate(points, 1)]
    for _ in segmenter.video(_read(folder), prompts):
        first = first or time.perf_counter() - begun
        count += 1
    return first, count


def _read(folder: Path) -> Iterator[tuple[int, Image.Image]]:
    for number, path in enumerate(sorted(folder.iterdir())):
        yield number, Image.open(path).convert("RGB")
