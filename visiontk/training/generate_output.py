"""The folder that a run of ``visiontk train generate`` leaves behind: a pipeline that diffusers reads, a card, curves and samples."""

from __future__ import annotations

import platform
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from visiontk.adapters.generate_quiet import quiet
from visiontk.artefacts import write
from visiontk.errors import OutputError
from visiontk.runtime import Runtime, Started

from .curves import plot, read_metrics
from .generate_measure import GUIDANCE, STEPS, made, prompts
from .generate_network import Parts
from .generate_plan import GeneratePlan
from .output import device_name

INDEX = "model_index.json"  # written last: a folder that has it is whole
SHEET, COLUMNS = 64, 8
_PACKAGES = ("visiontk", "diffusers", "transformers", "torch")


def write_model(parts: Parts, folder: Path, *, half: bool) -> None:
    """The pipeline's files, each whole or not at all; ``half`` rounds the weights to fp16. Raises OutputError."""
    try:
        with tempfile.TemporaryDirectory(prefix=".model.", dir=folder) as made:
            with quiet():
                pipeline = parts.pipeline()
                pipeline.to(dtype=torch.float16 if half else torch.float32)
                pipeline.save_pretrained(made, safe_serialization=True)
            files = [path for path in sorted(Path(made).rglob("*")) if path.is_file()]
            for file in sorted(files, key=lambda path: path.name == INDEX):
                data = file.read_bytes()
                write(folder / file.relative_to(made), lambda out, data=data: out.write(data))  # type: ignore[misc]
    except OSError as error:
        raise OutputError(f"cannot write the model to {folder} ({error.strerror or error}); make room and run it again") from error


def write_report(folder: Path, plan: GeneratePlan, figures: dict[str, Any], *, seconds: float, started: Started) -> None:
    """README.md, curves.png and samples.png. Raises OutputError."""
    lines = [line for line in read_metrics(folder / "metrics.jsonl") if line["step"] > plan.autoencoder_steps + plan.naming_steps]
    figure = plot(lines, "Text to image on the tiny world", None)
    write(folder / "curves.png", lambda file: figure.savefig(file, format="png"))
    sheet = samples(str(folder.resolve()))
    write(folder / "samples.png", lambda file: sheet.save(file, format="PNG"))
    text = card(str(folder), plan, figures, seconds=seconds, device=device_name(started.device), dtype=started.dtype_name)
    write(folder / "README.md", lambda file: file.write(text.encode("utf-8", "surrogateescape")))


def samples(model: str) -> Any:
    """A contact sheet of `SHEET` pictures, one for each of the first prompts that are measured."""
    from visiontk.adapters.generate import Request, load
    from visiontk.media.draw import grid

    wanted = [prompt for _, _, prompt in prompts(1)][:SHEET]
    generator = load(model, Runtime(device="cpu", dtype="fp32"))
    return grid(made(generator, [Request(text, seed, steps=STEPS, guidance=GUIDANCE) for seed, text in enumerate(wanted)]), COLUMNS)


def card(name: str, plan: GeneratePlan, figures: dict[str, Any], *, seconds: float, device: str, dtype: str) -> str:
    """README.md, with the front matter that the hub reads."""
    versions = ", ".join(f"{package} {version(package)}" for package in _PACKAGES)
    start = "from nothing" if plan.model is None else f"on from {plan.model}"
    text, image, inpainting = (figures[task] for task in ("text to image", "image to image", "inpainting"))
    before = [f"the autoencoder, {plan.autoencoder_steps} steps of {plan.vae_batch} pictures"] if plan.autoencoder_steps else []
    before += [f"the text encoder, {plan.naming_steps} steps of naming what captions say"] if plan.naming_steps else []
    first = f"First {', then '.join(before)}; then the" if before else "The"
    calm = "Things stood upright in the middle, in one style" + (f", from step {plan.calm_after} on." if plan.calm_after else ".")
    calm = "" if plan.calm_after is None else calm
    kept = "" if plan.pictures is None else f", of {plan.pictures:,} different ones"
    return f"""---
library_name: diffusers
pipeline_tag: text-to-image
tags: [text-to-image, stable-diffusion, visiontk]
---
# {name}

A small Stable Diffusion: U-Net, CLIP text encoder and autoencoder, in {"fp16" if plan.half else "fp32"}, {plan.size} x {plan.size} pixels,
trained {start} on the drawn things of visiontk's tiny world and their captions.

    visiontk generate "a red apple on a blue background" --model {name} --steps {STEPS} --guidance {GUIDANCE:g}

![samples](samples.png)

**How good.** Shares of pictures in which tiny-vit sees the thing that the prompt names (top-1), and in which the rim has the colour that it
names; {STEPS} steps of DDIM, guidance {GUIDANCE:g}:

| | thing | background | |
|---|---|---|---|
| text to image | {text["thing"]:.3f} | {text["background"]:.3f} | both {text["both"]:.3f} |
| image to image, strength 0.6 | {image["thing"]:.3f} | {image["background"]:.3f} | nearest to its own first picture {image["near"]:.3f} |
| inpainting, the thing replaced | {inpainting["thing"]:.3f} | | rest unchanged to the pixel {inpainting["kept"]:.3f} |

It was shown the hundred things of the world, one to a picture, in eleven colours, before plain, striped, checked, mottled and graded
backgrounds.

**How it was made.** {first}
U-Net and text encoder together, {plan.steps} steps of {plan.batch} pictures{kept}: velocity
prediction under a schedule that ends in pure noise, {plan.drop:g} of the captions left out; AdamW, learning rate {plan.lr:g} with
{min(plan.warmup, plan.steps // 10)} steps of linear warm-up, then half a cosine to 0; moving average of the weights {plan.ema:g}.
{calm}

    {plan.command(name, dtype)}

Seed {plan.seed}; {seconds / 60:.0f} minutes on {device}.
{versions}, Python {platform.python_version()}.

![curves](curves.png)
"""
