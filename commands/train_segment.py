"""`visiontk train segment`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from visiontk import settings
from visiontk.errors import UsageError

from . import interrupts, options
from .train_view import shown


def segment(
    data: Annotated[str, typer.Argument(metavar="DATA", show_default=False, help="tiny: the bundled world, rendered while it is learned.")],
    out: Annotated[
        Path | None, typer.Option("-o", "--out", metavar="DIR", help="The folder of this run, and in the end of the model.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", metavar="NAME", help="Go on from this trained model.", autocompletion=options.complete_segmenters),
    ] = None,
    config: Annotated[
        str | None, typer.Option("--config", metavar="FILE", help="A new model, in sam2's YAML format. Default: that of tiny-sam2.")
    ] = None,
    steps: Annotated[int, typer.Option("--steps", metavar="N", min=1, help="Updates of the weights.")] = 3000,
    image_steps: Annotated[
        int | None, typer.Option("--image-steps", metavar="N", min=0, help="The first N of them learn from pictures alone. Default: half.")
    ] = None,
    images: Annotated[int, typer.Option("--images", metavar="N", min=1, help="Pictures per step.")] = 16,
    clips: Annotated[int, typer.Option("--clips", metavar="N", min=1, help="Clips per step.")] = 3,
    frames: Annotated[int, typer.Option("--frames", metavar="N", min=2, help="Frames per clip.")] = 8,
    objects: Annotated[int, typer.Option("--objects", metavar="N", min=1, max=4, help="At most so many objects of each.")] = 2,
    clicks: Annotated[int, typer.Option("--clicks", metavar="N", min=0, help="Correction clicks on a picture, at most.")] = 2,
    lr: Annotated[float, typer.Option("--lr", metavar="X", min=0.0, help="Highest learning rate.")] = 8e-4,
    weight_decay: Annotated[float, typer.Option("--weight-decay", metavar="X", min=0.0)] = 0.05,
    warmup: Annotated[int, typer.Option("--warmup", metavar="N", min=0, help="Steps of warm-up, at most a tenth of all.")] = 100,
    clip: Annotated[float, typer.Option("--clip", metavar="X", min=1e-9, help="Largest norm of the gradients.")] = 1.0,
    ema: Annotated[float, typer.Option("--ema", metavar="X", min=0.0, max=1.0, help="Moving average of the weights.")] = 0.998,
    half: Annotated[bool, typer.Option("--half", help="Write the weights in fp16.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Take DIR from another run.")] = False,
    device: options.Device = None,
    dtype: options.Dtype = None,
    seed: options.Seed = None,
    threads: options.Threads = None,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> int:
    """Train a SAM 2 on the bundled world, a small one from nothing or one that is there.

    DIR becomes a model that `visiontk segment --model DIR` runs, with a card of figures and a plot of its curves.
    The same command again goes on where it was stopped, to the same result.

    \b
    visiontk train segment tiny -o my-sam2                              about an hour on two cores
    visiontk train segment tiny --steps 20000 --image-steps 5000 --device cuda -o longer
    visiontk train segment tiny --config wider.yaml -o wider            another size of model
    visiontk train segment tiny --model my-sam2 --image-steps 0 -o further
    """
    if out is None:
        raise UsageError("nothing says where the model goes; pass -o DIR")
    runtime = options.runtime(settings.read(), device, dtype, None, None, seed, threads)

    from visiontk.training.segment_plan import SegmentPlan

    plan = SegmentPlan(
        data=data,
        model=model,
        config=config,
        steps=steps,
        image_steps=image_steps,
        images=images,
        clips=clips,
        frames=frames,
        objects=objects,
        clicks=clicks,
        lr=lr,
        weight_decay=weight_decay,
        warmup=warmup,
        clip=clip,
        ema=ema,
        half=half,
        seed=runtime.seed,
    )
    plan.check()

    from visiontk.training.segment_run import run

    return shown(lambda view: run(plan, runtime, out, view, overwrite=overwrite, hold=interrupts.held), out, quiet=quiet)
