"""Seconds a picture of large pipelines on a GPU, eager and compiled: ours, and a bare pipeline."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch

import visiontk
from visiontk.adapters.generate_types import Generated, Request
from visiontk.runtime import Runtime, Started
from visiontk.training.generate_words import captions

from . import generate_bare as bare
from . import generate_material as material
from . import generate_shapes as shapes
from .report import Table, doing, middle, ratios, spread

# What is built, side in pixels, steps, guidance: as the published models are used.
SHAPES: dict[str, tuple[Callable[[int], Any], int, int, float]] = {"sdxl": (shapes.sdxl, 1024, 30, 5.0), "sd3": (shapes.sd3, 1024, 28, 4.5)}
PROMPT = "a dog on a blue background"
Draw = Callable[[int], object]  # one picture from a seed


def table(runtime: Runtime, name: str, pictures: int, scale: int) -> Table:
    """One picture at a time; ``scale`` divides the shape."""
    build, side, steps, guidance = SHAPES[name]
    side = side // scale
    given: Any = {"steps": steps, "guidance": guidance, "size": side}
    started = runtime.start()
    model = _model(name, build, scale)
    rows: list[list[str]] = []
    for compiled in (False, True):
        doing(f"{name}, {'compiled' if compiled else 'eager'}: 2 ways, {pictures} pictures")
        ways: dict[str, Callable[[], Draw]] = {
            "visiontk": partial(_ours, model, replace(runtime, compile=compiled, batch_size=1), **given),
            "bare pipeline": partial(_bare, model, started, compiled=compiled, **given),
        }
        rows += _rows("compiled" if compiled else "eager", ways, pictures)
    columns = ["", "seconds a picture", "lowest to highest", "visiontk against it", "first picture, s", "peak GPU memory"]
    note = (
        f"Random weights, {started.dtype_name}, {side}x{side} pixels, {steps} steps, guidance {guidance:g}, one picture at a time; "
        f"{pictures} by turns after the first, whose seconds have the compiling in them. Compiled means the blocks that repeat. "
        "Memory is that of one pipeline with its weights."
    )
    return Table(f"Large pipelines: the shape of {name}", columns, rows, [note])


def _rows(how: str, ways: dict[str, Callable[[], Draw]], pictures: int) -> list[list[str]]:
    draws, firsts, peaks = [], [], []
    for load in ways.values():
        before = _memory(reset=True)
        draws.append(load())
        firsts.append(_timed(draws[-1], 0))
        peaks.append(_memory() - before)
    seconds: list[list[float]] = [[] for _ in draws]
    for seed in range(1, pictures + 1):
        for values, draw in zip(seconds, draws, strict=True):
            values.append(_timed(draw, seed))
    draws.clear()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    against = ["", f"{median(ratios(*seconds)):.3f} x"]
    return [
        [
            f"{name}, {how}",
            middle(values, 2),
            spread(values, 2),
            ratio,
            f"{first:.1f}",
            f"{peak:.1f} GiB" if torch.cuda.is_available() else "",
        ]
        for name, values, ratio, first, peak in zip(ways, seconds, against, firsts, peaks, strict=True)
    ]


def _model(name: str, build: Callable[[int], Any], scale: int) -> Path:
    def make() -> Any:
        captions()  # are rendered for the tokenizer, in fp32 and on the CPU
        torch.set_default_dtype(torch.bfloat16)
        try:
            with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
                return build(scale)
        finally:
            torch.set_default_dtype(torch.float32)

    return material.saved(f"{name}, random weights{f', a {scale}th' if scale > 1 else ''}", make)


def _ours(model: Path, runtime: Runtime, *, steps: int, guidance: float, size: int) -> Draw:
    generator = visiontk.load("generate", str(model), runtime)

    def draw(seed: int) -> object:
        (made,) = generator.generate([Request(PROMPT, seed, steps=steps, guidance=guidance, size=(size, size))])
        if not isinstance(made, Generated):
            raise RuntimeError(f"no picture: {made}")
        return made

    return draw


def _bare(model: Path, started: Started, *, compiled: bool, steps: int, guidance: float, size: int) -> Draw:
    pipeline = bare.load(str(model), started.dtype, str(started.device))
    if compiled:
        network: Any = getattr(pipeline, "transformer", None) or pipeline.unet
        network.compile_repeated_blocks(fullgraph=True)

    def draw(seed: int) -> object:
        chance = torch.Generator("cpu").manual_seed(seed)
        found = pipeline(PROMPT, num_inference_steps=steps, guidance_scale=guidance, width=size, height=size, generator=chance)
        return found.images[0]

    return draw


def _timed(draw: Draw, seed: int) -> float:
    begun = time.perf_counter()
    draw(seed)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - begun


def _memory(*, reset: bool = False) -> float:
    """GiB on the GPU: what is held now, with ``reset``; else the most since then."""
    if not torch.cuda.is_available():
        return 0.0
    if reset:
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated() / 2**30
    return torch.cuda.max_memory_allocated() / 2**30
