"""From a model folder and prompts to PNG files, end to end: `visiontk generate`, and a bare pipeline loop."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from statistics import median

import numpy as np
from PIL import Image

from visiontk.runtime import Runtime, Started

from . import generate_bare as bare
from . import generate_material as material
from .report import Table, doing, middle, ratios, spread, target

OURS, OURS_SINGLY = "visiontk generate, in batches", "visiontk generate, one at a time"
BARE, BARE_SINGLY = "bare loop, in batches", "bare loop, one at a time"
Contender = Callable[[Path], None]  # writes pictures into a folder
LEAST = 1.02


def table(runtime: Runtime, count: int, steps: int, rounds: int) -> Table:
    """``count`` pictures with the bundled model's shape; the model is loaded anew in each round, by both sides."""
    started, model = runtime.start(), material.tiny_model()
    batch = runtime.batch_size or 8
    contenders = {
        OURS: _ours(model, started, batch, count, steps),
        BARE: _bare(model, started, batch, count, steps),
        OURS_SINGLY: _ours(model, started, 1, count, steps),
        BARE_SINGLY: _bare(model, started, 1, count, steps),
    }
    doing(f"text to image: {len(contenders)} ways, {rounds} rounds of {count} pictures")
    with tempfile.TemporaryDirectory() as folder:
        places = {name: Path(folder) / str(number) for number, name in enumerate(contenders)}
        _measure({OURS: _ours(model, started, batch, batch, 2), BARE: _bare(model, started, batch, batch, 2)}, places, 1)  # warm
        seconds = _measure(contenders, places, rounds)
        equal, total = _equal(places[OURS], places[BARE])
    return Table(
        f"Text to image, {started.dtype_name} on {started.device.type}, batches of {batch}",
        ["", f"seconds for {count}", "lowest to highest", "visiontk in batches against it", "target"],
        [_row(name, seconds) for name in contenders],
        [
            f"{model.name}, {material.SIZE}x{material.SIZE} pixels, {steps} steps, guidance {material.GUIDANCE:g}; {rounds} rounds by "
            "turns, from the model's folder to PNG files, imports apart; medians of the rounds and of their ratios.",
            f"In batches both make the same pictures: {equal} of {total} are equal to the bit.",
            f"One at a time takes visiontk {median(ratios(seconds[OURS_SINGLY], seconds[OURS])):.2f} times as long as in batches, "
            f"and the bare loop {median(ratios(seconds[BARE_SINGLY], seconds[BARE])):.2f} times.",
        ],
    )


def _row(name: str, seconds: dict[str, list[float]]) -> list[str]:
    found = ratios(seconds[OURS], seconds[name])
    against = "" if name == OURS else f"{median(found):.3f} x"
    return [name, middle(seconds[name], 2), spread(seconds[name], 2), against, target(found, most=LEAST) if name == BARE else ""]


def _measure(contenders: dict[str, Contender], places: dict[str, Path], rounds: int) -> dict[str, list[float]]:
    """Seconds per round. By turns, A B C A B C, so that a machine that is slow for a while is slow for all."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, contender in contenders.items():
            shutil.rmtree(places[name], ignore_errors=True)
            places[name].mkdir()
            begun = time.perf_counter()
            contender(places[name])
            seconds[name].append(time.perf_counter() - begun)
    return seconds


def _bare(model: Path, started: Started, batch: int, count: int, steps: int) -> Contender:
    orders = material.orders(count)

    def contender(out: Path) -> None:
        pipeline = bare.load(str(model), started.dtype, str(started.device))
        bare.draw(pipeline, orders, out, batch=batch, steps=steps, guidance=material.GUIDANCE, size=material.SIZE)

    return contender


def _ours(model: Path, started: Started, batch: int, count: int, steps: int) -> Contender:
    """The command itself, in this process: what it does from its arguments to its exit code."""
    (entry,) = metadata.entry_points(group="console_scripts", name="visiontk")
    run: Callable[[list[str]], int] = entry.load()
    given = material.command(model, started.dtype_name, str(started.device), batch, steps=steps)
    prompts = material.order_file(count)

    def contender(out: Path) -> None:
        with _output_to(out / "lines.jsonl"):
            code = run([*given, "--prompts", str(prompts), "-o", f"{out}/"])
        if code:
            raise RuntimeError(f"visiontk generate ended with {code}")

    return contender


def _equal(ours: Path, theirs: Path) -> tuple[int, int]:
    """How many pictures are equal, of how many."""
    found: Sequence[dict[str, dict[str, int]]] = [json.loads(line) for line in (ours / "lines.jsonl").read_text("utf-8").splitlines()]
    pairs = [(str(line["path"]), theirs / f"{line['generate']['seed']:05}.png") for line in found]
    return sum(np.array_equal(np.asarray(Image.open(one)), np.asarray(Image.open(other))) for one, other in pairs), len(pairs)


@contextmanager
def _output_to(file: Path) -> Iterator[None]:
    """The descriptor of the output, which the command writes to itself."""
    sys.stdout.flush()
    saved = os.dup(1)
    try:
        with file.open("wb") as opened:
            os.dup2(opened.fileno(), 1)
        yield
    finally:
        sys.stdout.flush()
        os.dup2(saved, 1)
        os.close(saved)
