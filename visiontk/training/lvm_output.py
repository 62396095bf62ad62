"""The folder that a run of ``visiontk train lvm`` leaves behind: the two networks, a card, curves and film strips."""

from __future__ import annotations

import platform
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from visiontk.artefacts import write
from visiontk.errors import OutputError
from visiontk.runtime import Runtime, Started

from .curves import read_metrics
from .learner import MUON
from .lvm_learn import UNFORETOLD, Parts
from .lvm_measure import SEED, continued, pictures
from .lvm_plan import LvmPlan
from .lvm_world import FRAMES, sentences
from .output import device_name

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL.Image import Image

# Sentences of the film strips: their kind, how many, frames that are made.
STRIPS = (("clip", 4, 4), ("mask", 4, 1), ("colour", 2, 1), ("inpaint", 2, 1))
COLUMNS = FRAMES + 1
SEEN, MADE, TRUE = (255, 255, 255), (214, 40, 40), (60, 150, 70)  # colours around the frames
_PACKAGES = ("visiontk", "diffusers", "transformers", "torch")


def write_model(parts: Parts, folder: Path, *, half: bool = False) -> None:
    """The files of both networks in fp32, each whole or not at all; ``half`` rounds the LLaMA's weights to fp16. Raises OutputError."""
    try:
        with tempfile.TemporaryDirectory(prefix=".model.", dir=folder) as made:
            parts.vqgan.save_pretrained(Path(made) / "vqgan", safe_serialization=True)
            parts.llama.to(dtype=torch.float16 if half else torch.float32).save_pretrained(Path(made) / "llama")
            for file in sorted(path for path in Path(made).rglob("*") if path.is_file()):
                data = file.read_bytes()
                write(folder / file.relative_to(made), lambda out, data=data: out.write(data))  # type: ignore[misc]
    except OSError as error:
        raise OutputError(f"cannot write the model to {folder} ({error.strerror or error}); make room and run it again") from error


def write_report(folder: Path, plan: LvmPlan, figures: dict[str, Any], *, seconds: float, started: Started) -> None:
    """README.md, curves.png and samples.png. Raises OutputError."""
    figure = curves(read_metrics(folder / "metrics.jsonl"), figures, plan.picture_steps)
    write(folder / "curves.png", lambda file: figure.savefig(file, format="png"))
    sheet = strips(str(folder.resolve()))
    write(folder / "samples.png", lambda file: sheet.save(file, format="PNG"))
    text = card(str(folder), plan, figures, seconds=seconds, device=device_name(started.device), dtype=started.dtype_name)
    write(folder / "README.md", lambda file: file.write(text.encode("utf-8", "surrogateescape")))


def curves(lines: Sequence[dict[str, Any]], figures: dict[str, Any], first: int) -> Figure:
    """Quality of the VQGAN and loss of the LLaMA by step, where they had any, and perplexity by the number of frames before."""
    from matplotlib.figure import Figure

    of_vqgan = [(line["step"], line["train"]["psnr"]) for line in lines if "psnr" in line["train"]]
    of_llama = [(line["step"] - first, line["train"]["loss"]) for line in lines if "psnr" not in line["train"]]
    courses = [("PSNR of the VQGAN in dB", of_vqgan), ("Loss of the LLaMA", of_llama)]
    courses = [(label, points) for label, points in courses if points]
    figure = Figure(figsize=(4.0 * (len(courses) + 1), 3.6), dpi=120, layout="constrained")
    *axes, right = figure.subplots(1, len(courses) + 1, squeeze=False)[0]
    for axis, (label, points) in zip(axes, courses, strict=True):
        axis.plot(*zip(*points, strict=True), linewidth=1)
        axis.set(xlabel="Step", ylabel=label)
    for name, label in (
        ("perplexity of clips", "clips"),
        ("perplexity of last frames", "last frames of these, fewer given"),
        ("perplexity of answers", "masks of mask analogies"),
    ):
        numbers = [int(number) for number in figures[name]]
        right.plot(numbers, list(figures[name].values()), marker="o", markersize=3, linewidth=1, label=label)
    right.set(xlabel="Frames before", ylabel="Perplexity of a code", yscale="log")
    right.legend(fontsize=8)
    for axis in (*axes, right):
        axis.grid(alpha=0.3)
    return figure


def strips(model: str) -> Image:
    """Sentences in rows: in white what was given, in red what was made of it, in green what it was to be."""
    from PIL import ImageOps

    from visiontk.adapters.lvm import load
    from visiontk.media.draw import grid

    loaded = load(model, Runtime(device="cpu", dtype="fp32"))
    images: list[Image] = []
    for kind, count, made in STRIPS:
        drawn = sentences(SEED + 5, range(count), loaded.image_size, kind=kind)
        given = COLUMNS - 2 * made
        found = continued(loaded, list(drawn.frames[:, :given]), made)
        for truth, answer in zip(drawn.frames, found, strict=True):
            for colour, frames in ((SEEN, truth[:given]), (MADE, answer), (TRUE, truth[given : given + made])):
                images += [ImageOps.expand(image, 2, colour) for image in pictures(frames)]
    return grid(images, COLUMNS)


def card(name: str, plan: LvmPlan, figures: dict[str, Any], *, seconds: float, device: str, dtype: str) -> str:
    """README.md, with the front matter that the hub reads."""
    versions = ", ".join(f"{package} {version(package)}" for package in _PACKAGES)
    start = f"on from {plan.model}" if plan.model else "from nothing"
    coded, following, photos, masks = (
        figures[task] for task in ("reconstruction", "next frame", "next frame before photos", "mask analogies")
    )
    colours, hidden = figures["colour analogies"], figures["inpainting"]
    clips, answers, last = (figures[f"perplexity of {what}"] for what in ("clips", "answers", "last frames"))
    ahead, shown = figures["frames ahead"], figures["frames ahead, coded"]
    return f"""---
library_name: transformers
pipeline_tag: image-to-image
tags: [large-vision-model, visual-sentences, vqgan, llama, visiontk]
---
# {name}

A small large vision model: a VQGAN (`vqgan/`, diffusers' `VQModel`; 64 x 64 pixels, 64 tokens a frame, {plan.codes} codes) in fp32 and a
LLaMA (`llama/`; a context of {FRAMES} frames) in {"fp16" if plan.half else "fp32"}, trained {start} on visual sentences
of visiontk's tiny world: clips, and pairs of a picture and its mask, its colours, or what a black square hides.

    visiontk lvm-continue FRAMES... -n 4 --model {name}

![samples](samples.png)

Sentences on which it was not trained: framed in red what the model makes (greedily) of the frames in white, in green what was to come.

**How good.** On fresh sentences, {FRAMES} frames each:

| | |
|---|---|
| reconstruction by the VQGAN, PSNR, mean over frames | {coded["psnr"]:.2f} dB, {coded["codes"]:.0f} of {plan.codes} codes in use |
| the same, of the mean squared error over all frames | {coded["pooled"]:.2f} dB |
| next frame of a clip, MSE where things are or were | {following["error"]:.4f} |
| the frame before instead | {following["repeated"]:.4f}: {following["factor"]:.2f} times the error |
| the frame before instead, as the VQGAN shows it | {following["repeated_coded"]:.4f}: {following["coded_factor"]:.2f} times |
| next frame and the frame before, with photos behind | {photos["error"]:.4f}, {photos["repeated"]:.4f}: {photos["factor"]:.2f} times |
| 1 to {len(ahead)} frames ahead, against the last one that is given | {", ".join(f"{factor:.2f}" for factor in ahead.values())} times |
| the same, against that one as the VQGAN shows it | {", ".join(f"{factor:.2f}" for factor in shown.values())} times |
| mask analogies, seven pairs and a query, mIoU | {masks["miou"]:.3f} (things {masks["things"]:.3f}, background {masks["background"]:.3f}) |
| the colours of a grey picture, likewise, MSE | {colours["error"]:.4f} |
| the grey picture instead; the true one as the VQGAN shows it | {colours["asked"]:.4f}; {colours["coded"]:.4f} |
| what a black square hides, likewise, MSE | {hidden["error"]:.4f} |
| the black square instead; the true one as the VQGAN shows it | {hidden["asked"]:.4f}; {hidden["coded"]:.4f} |
| perplexity of a clip's frame after 1 and after 15 frames | {clips["1"]:.2f}, {clips["15"]:.2f} |
| perplexity of a clip's last frame, given {", ".join(last)} frames before it | {", ".join(f"{value:.2f}" for value in last.values())} |
| perplexity of a mask, the first and the eighth | {answers["1"]:.2f}, {answers["15"]:.2f} |

It knows drawings of the hundred things of the world, one or two to a picture, before plain, striped, checked, mottled and graded
backgrounds{_photos(plan)}. Masks show all things in one colour, and the background in another.

**How it was made.** {_begun(plan)}{_continued(plan)} Each with {plan.warmup} steps of linear warm-up, at most a tenth of its own,
then half a cosine to 0; moving average of the weights {plan.ema:g}.

    {plan.command(name, dtype)}

Seed {plan.seed}; {seconds / 60:.0f} minutes on {device}.
{versions}, Python {platform.python_version()}.

![curves](curves.png)
"""


def _photos(plan: LvmPlan) -> str:
    """Whether its LLaMA has met any in this run; of a model whose LLaMA was not trained here that is not known."""
    if not plan.model:
        return ", and no photos"
    return "; its LLaMA has met photos behind them too, as blurred as the codes show them" if plan.steps else ""


def _begun(plan: LvmPlan) -> str:
    """What was there, or was learned, before the steps of the LLaMA."""
    rate = f"by AdamW, learning rate {plan.vqgan_lr:g}"
    refined = f" {plan.decoder_steps} steps of {plan.vqgan_batch} pictures for its decoder alone {rate}." if plan.decoder_steps else ""
    if plan.model:
        return f"Both networks are those of {plan.model}.{refined}"
    if plan.vqgan:
        return f"The VQGAN is that of {plan.vqgan}.{refined}"
    learned = f"{plan.vqgan_steps} steps of {plan.vqgan_batch} pictures {rate}"
    return f"""The VQGAN first, from principal components of 8 x 8 pixels and k-means of these: {learned},
for the mean of their decibels, no adversary, codes that are running means.{refined}"""


def _continued(plan: LvmPlan) -> str:
    """The steps of the LLaMA, if there were any."""
    if not plan.steps:
        return ""
    whose = "Its LLaMA was trained further" if plan.model else "Then the LLaMA on its codes"
    optimiser = f"its hidden matrices by Muon at {MUON:g} times that, all else by NAdamW"
    weights = f"What is drawn by chance, the first frame of a clip and the pictures of pairs, weighs {UNFORETOLD:g} in its loss."
    return f" {whose}, {plan.steps} steps of {plan.batch} sentences, learning rate {plan.lr:g}, {optimiser}. {weights}"
