"""Frames a second of SAM 2.1's four shapes at 1024 pixels, eager and compiled, beside the figures that Meta has published."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image

from visiontk.adapters.segment import ObjectPrompt, Segmenter, load
from visiontk.runtime import Runtime

from . import segment_material as material
from . import segment_official as official
from .device_memory import free
from .report import Table, doing, middle, ratios, spread

# Frames a second in the README of sam2: A100, bf16, one object, every component compiled.
PUBLISHED = {"t": 91.2, "s": 84.8, "b+": 64.1, "l": 39.5}
POINT = (128.0, 128.0)
WARM = 20  # frames, on which memories and pointers come to their full number


def table(runtime: Runtime, sizes: list[str], frames: int, rounds: int) -> Table:
    """One object; the official predictor beside it on the same frames, eager."""
    rows = []
    dtype = runtime.start().dtype_name
    for size in sizes:
        folder = material.frames(frames)
        model = material.large_model(size)
        official_rates = _official(model, runtime, folder, rounds)
        for compiled in (False, True):
            doing(f"sam2.1_hiera_{size}, {'compiled' if compiled else 'eager'}: {rounds} rounds of {frames} frames")
            rates, first = _ours(model, replace(runtime, compile=compiled), folder, rounds)
            found = ratios(rates, official_rates)
            ours = [f"{first:.1f}", middle(rates, 2), spread(rates, 2), f"{torch.tensor(found).median():.2f} x", f"{PUBLISHED[size]:g}"]
            rows.append([f"sam2.1_hiera_{size}, {'compiled' if compiled else 'eager'}", middle(official_rates, 2), *ours])
    columns = ["", "official, eager, frames/s", "visiontk: warming up, s", "visiontk, frames/s", "lowest to highest"]
    columns += ["times as fast as eager", "README of sam2: A100, compiled, frames/s"]
    note = (
        f"Random weights, one object, {dtype}, from JPEGs to masks at full size, {rounds} rounds of {frames} frames. Compiled means "
        f"the image encoder; the README's figures have every component compiled. Warming up: {WARM} frames, with the compiling in it."
    )
    return Table("SAM 2.1 at 1024 pixels", columns, rows, [note])


def _official(model: Path, runtime: Runtime, folder: Path, rounds: int) -> list[float]:
    doing(f"{model.name}: the official predictor")
    started = runtime.start()
    made = official.predictor(str(model), str(started.device))
    official.track(made, material.frames(2), [POINT], started.dtype)
    rates = []
    for _ in range(rounds):
        begun = time.perf_counter()
        _, count = official.track(made, folder, [POINT], started.dtype)
        rates.append(count / (time.perf_counter() - begun))
    del made
    free()
    return rates


def _ours(model: Path, runtime: Runtime, folder: Path, rounds: int) -> tuple[list[float], float]:
    """Frames a second of each round, and the seconds of warming up."""
    segmenter = load(str(model), runtime)
    pictures = sorted(folder.iterdir())
    warming = _seconds(segmenter, pictures[:WARM])
    rates = [len(pictures) / _seconds(segmenter, pictures) for _ in range(rounds)]
    del segmenter
    free()
    return rates, warming


def _seconds(segmenter: Segmenter, pictures: Sequence[Path]) -> float:
    begun = time.perf_counter()
    frames = ((number, Image.open(path).convert("RGB")) for number, path in enumerate(pictures))
    for _ in segmenter.video(frames, [ObjectPrompt(1, 0, (POINT,), (1,))]):
        pass
    return time.perf_counter() - begun
