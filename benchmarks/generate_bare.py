"""A bare pipeline loop: diffusers' auto pipeline on a folder, pictures saved by PIL, and nothing else.

As a program, for its peak memory: ``python -m benchmarks.generate_bare FOLDER PROMPTS.jsonl OUT DTYPE DEVICE BATCH STEPS GUIDANCE SIZE``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

Orders = Sequence[tuple[str, int]]


def load(folder: str, dtype: torch.dtype, device: str) -> Any:
    """The pipeline, silent."""
    from diffusers import AutoPipelineForText2Image, logging
    from transformers.utils import logging as transformers_logging

    for one in (logging, transformers_logging):
        one.disable_progress_bar()
        one.set_verbosity_error()
    pipeline: Any = AutoPipelineForText2Image.from_pretrained(folder, dtype=dtype, local_files_only=True).to(device)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def draw(pipeline: Any, orders: Orders, out: Path, *, batch: int, steps: int, guidance: float, size: int) -> None:
    """Pictures of all prompts, ``batch`` at once, each from its own seed; saved as PNG."""
    options = {"num_inference_steps": steps, "guidance_scale": guidance, "width": size, "height": size}
    for start in range(0, len(orders), batch):
        some = orders[start : start + batch]
        chance = [torch.Generator("cpu").manual_seed(seed) for _, seed in some]
        images = pipeline(prompt=[prompt for prompt, _ in some], generator=chance, **options).images
        for (_, seed), image in zip(some, images, strict=True):
            image.save(out / f"{seed:05}.png")


def _main(folder: str, prompts: str, out: str, dtype: str, device: str, batch: str, steps: str, guidance: str, size: str) -> None:
    torch.set_num_threads(1)
    lines = [json.loads(line) for line in Path(prompts).read_text("utf-8").splitlines()]
    orders = [(line["prompt"], line["seed"]) for line in lines]
    Path(out).mkdir(parents=True, exist_ok=True)
    pipeline = load(folder, getattr(torch, dtype), device)
    draw(pipeline, orders, Path(out), batch=int(batch), steps=int(steps), guidance=float(guidance), size=int(size))


if __name__ == "__main__":
    _main(*sys.argv[1:])
