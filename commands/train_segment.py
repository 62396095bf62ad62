"""`visiontk train segment`."""

from __future__ import annotations

from typing import Annotated

import typer

from visiontk import settings

from . import interrupts, options, train_options
from .train_view import shown


def segment(
    data: train_options.TinyData,
    out: train_options.Out = None,
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", metavar="NAME", help="Go on from this trained model.", autocompletion=options.complete_segmenters),
    ] = None,
    config: Annotated[
        str | None,
        typer.Option("--config", metavar="FILE", help="Its make, as YAML of sam2's format. Default: that of --model, or of tiny-sam2."),
    ] = None,
    steps: Annotated[int, typer.Option("--steps", metavar="N", min=1, help="Updates of the weights.")] = 5500,
    encoder_steps: Annotated[
        int | None,
        typer.Option(
            "--encoder-steps",
            metavar="N",
            min=0,
            help="The first N of them teach the encoder alone what is where. Default: two in five, and none with --model.",
        ),
    ] = None,
    image_steps: Annotated[
        int | None,
        typer.Option("--image-steps", metavar="N", min=0, help="The next N learn from pictures alone. Default: a third of the others."),
    ] = None,
    images: Annotated[int, typer.Option("--images", metavar="N", min=1, help="Pictures per step.")] = 8,
    clips: Annotated[int, typer.Option("--clips", metavar="N", min=1, help="Clips per step.")] = 4,
    frames: Annotated[int, typer.Option("--frames", metavar="N", min=2, help="Frames per clip.")] = 6,
    objects: Annotated[int, typer.Option("--objects", metavar="N", min=1, max=4, help="At most so many objects of each.")] = 3,
    clicks: Annotated[int, typer.Option("--clicks", metavar="N", min=0, help="Correction clicks on a picture, at most.")] = 1,
    lr: train_options.LearningRate = 2e-3,
    weight_decay: train_options.WeightDecay = 0.05,
    warmup: train_options.Warmup = 100,
    clip: train_options.Clip = 1.0,
    ema: train_options.Ema = 0.998,
    half: train_options.Half = False,
    overwrite: train_options.Overwrite = False,
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
    visiontk train segment tiny --model my-sam2 --image-steps 0 --lr 0.0008 -o further
    visiontk train segment tiny --model my-sam2 --config wider.yaml -o wider    from those of its weights that fit
    visiontk train segment tiny --encoder-steps 0 -o prompted    prompts from the first step
    """
    folder = train_options.folder(out)
    runtime = options.runtime(settings.read(), device, dtype, None, None, seed, threads)

    from visiontk.training.segment_plan import SegmentPlan

    plan = SegmentPlan(
        data=data,
        model=model,
        config=config,
        steps=steps,
        encoder_steps=encoder_steps,
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

    return shown(lambda view: run(plan, runtime, folder, view, overwrite=overwrite, hold=interrupts.held), folder, quiet=quiet)
