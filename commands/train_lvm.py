"""`visiontk train lvm`."""

from __future__ import annotations

from typing import Annotated

import typer

from visiontk import settings

from . import interrupts, options, train_options
from .train_view import shown


def lvm(
    data: train_options.TinyData,
    out: train_options.Out = None,
    model: Annotated[
        str,
        typer.Option(
            "--model",
            "-m",
            metavar="NAME",
            help="Go on with the LLaMA of this model, on its own VQGAN.",
            show_default=False,
            autocompletion=options.complete_lvms,
        ),
    ] = "",
    steps: Annotated[int, typer.Option("--steps", metavar="N", min=0, help="Updates of the LLaMA.")] = 2400,
    vqgan_steps: Annotated[
        int | None, typer.Option("--vqgan-steps", metavar="N", min=0, help="Before them, updates of the VQGAN. Default: 10000.")
    ] = None,
    decoder_steps: Annotated[
        int, typer.Option("--decoder-steps", metavar="N", min=0, help="After these, updates of its decoder alone; codes stay as they are.")
    ] = 0,
    vqgan: Annotated[
        str,
        typer.Option(
            "--vqgan",
            metavar="NAME",
            help="Train none, but take that of a model, or one alone.",
            show_default=False,
            autocompletion=options.complete_lvms,
        ),
    ] = "",
    codes: Annotated[int, typer.Option("--codes", metavar="N", help="Codes of the VQGAN.")] = 1024,
    batch: Annotated[int, typer.Option("--batch", "-b", metavar="N", min=1, help="Sentences of 16 frames per step.")] = 4,
    vqgan_batch: Annotated[int, typer.Option("--vqgan-batch", metavar="N", min=2, help="Pictures per step of the VQGAN.")] = 8,
    lr: train_options.LearningRate = 2e-3,
    vqgan_lr: Annotated[float, typer.Option("--vqgan-lr", metavar="X", min=0.0, help="Likewise, of the VQGAN.")] = 1e-3,
    weight_decay: train_options.WeightDecay = 0.01,
    warmup: train_options.Warmup = 100,
    clip: train_options.Clip = 1.0,
    ema: train_options.Ema = 0.99,
    half: train_options.Half = False,
    overwrite: train_options.Overwrite = False,
    device: options.Device = None,
    dtype: options.Dtype = None,
    seed: options.Seed = None,
    threads: options.Threads = None,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> int:
    """Train a small large vision model on visual sentences of the bundled world, from nothing or from one that is there.

    First its VQGAN, which makes 64 tokens of a frame, then the LLaMA that continues sentences of 16 frames. DIR becomes a model that
    `visiontk.load("lvm", DIR)` reads, with a card of figures, film strips and plots. The same command again goes on where it was stopped,
    to the same result.

    \b
    visiontk train lvm tiny -o my-lvm                                       about an hour on two cores
    visiontk train lvm tiny --vqgan-steps 20000 --steps 20000 -b 32 --device cuda -o longer
    visiontk train lvm tiny --model my-lvm --steps 2000 --lr 0.0005 -o further
    visiontk train lvm tiny --model my-lvm --steps 0 --decoder-steps 2000 -o sharper     the same codes, decoded better
    """
    folder = train_options.folder(out)
    runtime = options.runtime(settings.read(), device, dtype, None, None, seed, threads)

    from visiontk.training.lvm_plan import LvmPlan

    plan = LvmPlan(
        data=data,
        model=model,
        steps=steps,
        vqgan_steps=(0 if vqgan or model else LvmPlan.vqgan_steps) if vqgan_steps is None else vqgan_steps,
        decoder_steps=decoder_steps,
        vqgan=vqgan,
        codes=codes,
        batch=batch,
        vqgan_batch=vqgan_batch,
        lr=lr,
        vqgan_lr=vqgan_lr,
        weight_decay=weight_decay,
        warmup=warmup,
        clip=clip,
        ema=ema,
        half=half,
        seed=runtime.seed,
    )
    plan.check()

    from visiontk.training.lvm_run import run

    return shown(lambda view: run(plan, runtime, folder, view, overwrite=overwrite, hold=interrupts.held), folder, quiet=quiet)
