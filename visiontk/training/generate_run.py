"""One run of ``visiontk train generate``, and the finished folder."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from visiontk.adapters.generate_quiet import importing
from visiontk.errors import UsageError
from visiontk.runtime import Runtime, memory_errors

from .chance import derive, seed_everything
from .generate_learn import Training
from .generate_measure import measure
from .generate_network import Parts, new_parts, read_parts
from .generate_output import write_model, write_report
from .generate_plan import FACTOR, GeneratePlan
from .loop import Hold, Listener
from .steps import Run, claim


def run(
    plan: GeneratePlan, runtime: Runtime, out: Path, listener: Listener, *, overwrite: bool = False, hold: Hold = nullcontext
) -> dict[str, Any]:
    """Train a text-to-image model on the tiny world, or go on training it, and write the folder ``out``.

    Args:
        plan: what to do; ``plan.seed`` counts and not the runtime's.
        runtime: where; under autocast where its dtype is not fp32. The weights that are trained are always fp32.
        overwrite: take the folder from another run.
        hold: puts Ctrl-C off while an update is half done.

    Returns:
        ``output``, ``step``, ``seconds``, ``figures``.

    Raises:
        VisiontkError: with a message that says what to do.
    """
    plan.check()
    started = replace(runtime, seed=plan.seed).start()
    seed_everything(derive(plan.seed, "weights"))
    training = Training(plan, started, build(plan))
    folder = claim(plan, "generate", started, out, overwrite=overwrite)
    course = Run(training, plan.autoencoder_steps + plan.naming_steps + plan.steps, folder, listener, hold)
    with memory_errors("use a smaller --batch or --vae-batch, or --device cpu"):
        course.train()
    parts = training.finished()
    write_model(parts, out, half=plan.half)
    with torch.no_grad():
        figures = measure(str(out.resolve()), replace(runtime, compile=False))  # "-o NAME" may be a catalog name as well
    write_report(out, plan, figures, seconds=course.seconds, started=started)
    return {"output": str(out), "step": course.step, "seconds": round(course.seconds, 1), "figures": figures}


def build(plan: GeneratePlan) -> Parts:
    """The model that is trained: that of ``plan.model``, or one with random weights.

    Raises:
        ModelUnavailable: it cannot be had or read.
        UsageError: it is no model of this training, or for pictures of another size.
    """
    if plan.model is None:
        with importing():
            return new_parts(plan.size)
    from visiontk.adapters.generate import locate
    from visiontk.adapters.generate_weights import guarded

    location = locate(plan.model)
    if location.folder is None:
        raise UsageError(f"{plan.model} is one file; name the folder of a model that `visiontk train generate` made")
    folder = str(location.folder)
    parts: Parts = guarded(plan.model, lambda: read_parts(folder))
    if type(parts.vae).__name__ != "AutoencoderTiny" or parts.scheduler.config.prediction_type != "v_prediction":
        raise UsageError(f"{plan.model} is of another kind than `visiontk train generate` makes; name one that it made")
    size = int(parts.unet.config.sample_size) * FACTOR
    if size != plan.size:
        raise UsageError(f"{plan.model} makes pictures of {size} pixels, and {plan.size} were asked for; give --size {size}")
    return parts
