"""`visiontk train generate`."""

from __future__ import annotations

from typing import Annotated

import typer

from visiontk import settings

from . import interrupts, options, train_options
from .train_view import shown


def generate(
    data: train_options.TinyData,
    out: train_options.Out = None,
    model: Annotated[
        str | None, typer.Option("--model", "-m", metavar="NAME", help="Go on from this model, which a run of this command made.")
    ] = None,
    steps: Annotated[int, typer.Option("--steps", metavar="N", min=1, help="Updates of the U-Net and the text encoder.")] = 10_000,
    vae_steps: Annotated[
        int | None,
        typer.Option("--vae-steps", metavar="N", min=0, help="Before them, updates of the autoencoder. Default: 1500; 0 with --model."),
    ] = None,
    words_steps: Annotated[
        int | None,
        typer.Option(
            "--words-steps", metavar="N", min=0, help="Then, of the text encoder: what captions name. Default: 300; 0 with --model."
        ),
    ] = None,
    size: Annotated[int, typer.Option("--size", metavar="N", min=32, help="Side of the pictures in pixels, a multiple of 16.")] = 64,
    pictures: Annotated[
        int | None,
        typer.Option(
            "--pictures",
            metavar="N",
            min=1,
            help="Learn from N pictures again and again, which spares rendering and encoding. Default: new ones at every step.",
        ),
    ] = None,
    batch: Annotated[int, typer.Option("--batch", "-b", metavar="N", min=1, help="Pictures per step.")] = 32,
    vae_batch: Annotated[int, typer.Option("--vae-batch", metavar="N", min=1, help="Likewise, of the autoencoder.")] = 8,
    lr: train_options.LearningRate = 1.5e-3,
    vae_lr: Annotated[float, typer.Option("--vae-lr", metavar="X", min=0.0, help="Likewise, of the autoencoder.")] = 1e-3,
    weight_decay: Annotated[
        float, typer.Option("--weight-decay", metavar="X", min=0.0, help="Of the autoencoder, and of the words; the U-Net has none.")
    ] = 0.01,
    warmup: train_options.Warmup = 100,
    clip: train_options.Clip = 1.0,
    ema: train_options.Ema = 0.998,
    drop: Annotated[float, typer.Option("--drop", metavar="X", min=0.0, max=1.0, help="Share of captions left out, for guidance.")] = 0.1,
    calm_after: Annotated[
        int | None,
        typer.Option("--calm-after", metavar="N", min=0, help="After N steps, things stand upright in the middle, in one style."),
    ] = None,
    half: train_options.Half = False,
    overwrite: train_options.Overwrite = False,
    device: options.Device = None,
    dtype: options.Dtype = None,
    seed: options.Seed = None,
    threads: options.Threads = None,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> int:
    """Train a small Stable Diffusion on the bundled world, from nothing or from one that is there.

    First its autoencoder, then the words, then the U-Net together with the text encoder. DIR becomes a pipeline that
    `visiontk generate --model DIR --steps 20 --guidance 1.5` and diffusers run, with a card of figures, a sheet of samples and a plot of
    its loss. The same command again goes on where it was stopped, to the same result.

    \b
    visiontk train generate tiny --steps 5600 --pictures 16384 --calm-after 0 -o my-diffusion     about an hour
    visiontk train generate tiny --steps 50000 -b 128 --device cuda -o longer
    visiontk train generate tiny --model my-diffusion --steps 2000 -o further
    """
    folder = train_options.folder(out)
    runtime = options.runtime(settings.read(), device, dtype, None, None, seed, threads)

    from visiontk.training.generate_plan import GeneratePlan

    plan = GeneratePlan(
        data=data,
        model=model,
        steps=steps,
        vae_steps=vae_steps,
        words_steps=words_steps,
        size=size,
        pictures=pictures,
        batch=batch,
        vae_batch=vae_batch,
        lr=lr,
        vae_lr=vae_lr,
        weight_decay=weight_decay,
        warmup=warmup,
        clip=clip,
        ema=ema,
        drop=drop,
        calm_after=calm_after,
        half=half,
        seed=runtime.seed,
    )
    plan.check()

    from visiontk.training.generate_run import run

    return shown(lambda view: run(plan, runtime, folder, view, overwrite=overwrite, hold=interrupts.held), folder, quiet=quiet)
