"""What the benchmarks of text to image run on: the bundled pipeline, or its shape with random weights; large shapes; prompts."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from .material import BENCH, ROOT, made

BUNDLED = ROOT / "visiontk" / "weights" / "tiny-diffusion"
SIZE, GUIDANCE = 64, 4.0


def tiny_model() -> Path:
    """The folder of the bundled pipeline; where it is missing, one of its shape. Speed does not depend on the values."""
    if (BUNDLED / "model_index.json").is_file():
        return BUNDLED

    def build() -> Any:
        from visiontk.training.generate_network import new_parts

        return new_parts(SIZE).pipeline()

    return saved("tiny-diffusion, random weights", build)


def saved(name: str, build: Callable[[], Any]) -> Path:
    """The folder of a pipeline with seeded random weights."""

    def make(folder: Path) -> None:
        import torch

        torch.manual_seed(0)
        build().save_pretrained(folder, safe_serialization=True)

    made(name, make)
    return BENCH / name


def orders(count: int) -> list[tuple[str, int]]:
    """Prompts of the tiny world, each with a seed."""
    from visiontk.tiny import world

    return list(zip(world.render_scenes(11, count, size=16).captions, range(count), strict=True))


def order_file(count: int) -> Path:
    """The same as JSON lines."""

    def make(folder: Path) -> None:
        lines = [json.dumps({"prompt": prompt, "seed": seed}) + "\n" for prompt, seed in orders(count)]
        (folder / "prompts.jsonl").write_text("".join(lines), "utf-8")

    return Path(made(f"prompts-{count}", make)[0])


def command(model: Path, dtype: str, device: str, batch: int, *, steps: int, guidance: float = GUIDANCE, size: int = SIZE) -> Sequence[str]:
    """`visiontk generate` with everything that a bare loop is given; prompts and ``-o`` follow."""
    how = ["--model", str(model), "--dtype", dtype, "--device", device, "--batch-size", str(batch)]
    what = ["--steps", str(steps), "--guidance", str(guidance), "--size", f"{size}x{size}"]
    return ["generate", "--quiet", "--overwrite", "--format", "jsonl", *how, *what]
