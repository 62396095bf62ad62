"""From nothing to the first picture: `visiontk generate`, and a minimal script."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from statistics import median

from visiontk.runtime import Runtime

from . import children
from . import generate_material as material
from .material import BENCH
from .report import Table, doing, middle, ratios, spread

PROMPT = "a dog on a blue background"
# diffusers' own first example, with a folder instead of a hub id, and a seed.
MINIMAL = f"""\
import sys

import torch
from diffusers import AutoPipelineForText2Image

folder, dtype, device, steps, out = sys.argv[1:]
pipeline = AutoPipelineForText2Image.from_pretrained(folder, dtype=getattr(torch, dtype), local_files_only=True).to(device)
chance = torch.Generator("cpu").manual_seed(0)
image = pipeline(
    {PROMPT!r},
    num_inference_steps=int(steps),
    guidance_scale={material.GUIDANCE},
    width={material.SIZE},
    height={material.SIZE},
    generator=chance,
).images[0]
image.save(out)
"""


def table(runtime: Runtime, steps: int, rounds: int) -> Table:
    """Both as processes of their own, by turns."""
    started, model = runtime.start(), material.tiny_model()
    script = BENCH / "minimal_generate.py"
    script.parent.mkdir(exist_ok=True)
    script.write_text(MINIMAL, "utf-8")
    dtype, device = str(started.dtype).removeprefix("torch."), str(started.device)
    with tempfile.TemporaryDirectory() as folder:
        given = material.command(model, started.dtype_name, device, 1, steps=steps)
        ways = {
            "`visiontk generate PROMPT -o ONE.png`": [
                children.VISIONTK,
                *given,
                PROMPT,
                "--seed",
                "0",
                "-o",
                str(Path(folder) / "ours.png"),
            ],
            "a minimal diffusers script": [
                sys.executable,
                str(script),
                str(model),
                dtype,
                device,
                str(steps),
                str(Path(folder) / "bare.png"),
            ],
        }
        doing(f"first picture: {len(ways)} ways, {rounds} rounds")
        for command in ways.values():
            children.run(command)  # the files come from the disk this once
        used: dict[str, list[children.Usage]] = {name: [] for name in ways}
        for _ in range(rounds):
            for name, command in ways.items():
                used[name].append(children.run(command))
    walls = {name: [usage.wall_s for usage in values] for name, values in used.items()}
    cpus = {name: [usage.cpu_s for usage in values] for name, values in used.items()}
    ours, minimal = ways
    rows = [[name, middle(walls[name], 2), spread(walls[name], 2), middle(cpus[name], 2), spread(cpus[name], 2), ""] for name in ways]
    both = [median(ratios(values[ours], values[minimal])) for values in (walls, cpus)]
    rows[0][-1] = f"{both[0]:.2f} x the seconds, {both[1]:.2f} x the CPU seconds"
    columns = ["", "seconds", "lowest to highest", "CPU seconds", "lowest to highest", "against the minimal script"]
    note = (
        f"Whole processes by `os.wait4`, {steps} steps, {started.dtype_name} on {started.device.type}, {rounds} rounds by turns; medians."
    )
    return Table("From nothing to the first picture", columns, rows, [note])
