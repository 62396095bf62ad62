"""Frames a second from JPEGs to masks at full size, by SAM 2's own predictor and by ours, and those of the command from an MP4 to lines."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
from PIL import Image

from visiontk.adapters.segment import ObjectPrompt, Segmenter, load
from visiontk.runtime import Runtime

from . import children
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
    columns += ["first mask: official, s", "visiontk, s", "`visiontk segment`, MP4 to lines, frames/s", "lowest to highest"]
    notes = [
        f"JPEGs of {material.SIZE}x{material.SIZE}, from the files to masks at full size, {rounds} rounds by turns; "
        f"{segmenter.runtime.dtype_name} on {device}. The official predictor reads all frames before it begins. "
        "The command is a process of its own, with a film of the same frames, from its first line to its last: the first frame, "
        "which the other columns count, is not in it."
    ]
    return Table("Video segmentation, against sam2's SAM2VideoPredictor", columns, rows, notes)


def _rows(title: str, segmenter: Segmenter, model: str, objects: int, frames: int, rounds: int) -> Iterator[list[str]]:
    doing(f"{title}: 3 ways, {rounds} rounds of {frames} frames")
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
    commands: list[float] = []
    for _ in range(rounds):
        for place, contender in enumerate(contenders):
            begun = time.perf_counter()
            first, done = contender()
            rates[place].append(done / (time.perf_counter() - begun))
            firsts[place].append(first)
        commands.append(_command(segmenter, model, material.video(frames), POINTS[:objects]))
    found = ratios(rates[1], rates[0])
    yield [
        title,
        *(cell for values in rates for cell in (middle(values, 2), spread(values, 2))),
        f"{torch.tensor(found).median():.2f} x",
        target(found, least=1.0),
        *(middle(values, 2) for values in firsts),
        middle(commands, 2),
        spread(commands, 2),
    ]


def _ours(segmenter: Segmenter, folder: Path, points: list[tuple[float, float]]) -> tuple[float, int]:
    begun, first, count = time.perf_counter(), 0.0, 0
    prompts = [ObjectPrompt(number, 0, (point,), (1,)) for number, point in enumerate(points, 1)]
    for _ in segmenter.video(_read(folder), prompts):
        first = first or time.perf_counter() - begun
        count += 1
    return first, count


def _command(segmenter: Segmenter, model: str, video: Path, points: list[tuple[float, float]]) -> float:
    """Lines a second of ``visiontk segment`` on a pipe."""
    runtime = segmenter.runtime
    prompts = [f"--prompt=point:{x:g},{y:g}#{number}" for number, (x, y) in enumerate(points, 1)]
    command = [children.VISIONTK, "segment", str(video), "--model", model, *prompts]
    command += ["--device", str(runtime.device), "--dtype", runtime.dtype_name, "--threads", str(torch.get_num_threads()), "--quiet"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout
        times = [time.perf_counter() for _ in process.stdout]
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}")
    if len(times) < 2:
        raise RuntimeError("a speed takes two frames")
    return (len(times) - 1) / (times[-1] - times[0])


def _read(folder: Path) -> Iterator[tuple[int, Image.Image]]:
    for number, path in enumerate(sorted(folder.iterdir())):
        yield number, Image.open(path).convert("RGB")
