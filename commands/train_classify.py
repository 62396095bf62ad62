"""`visiontk train classify`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from visiontk import settings
from visiontk.errors import UsageError

from . import interrupts, options, train_options
from .train_view import shown


class Augment(StrEnum):
    none = "none"
    light = "light"
    strong = "strong"


def classify(
    data: Annotated[
        str,
        typer.Argument(metavar="DATA", show_default=False, help="FOLDER/CLASS/*.jpg, with or without train/ and val/; a JSONL file; tiny."),
    ],
    out: train_options.Out = None,
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", metavar="NAME", help="Go on from this trained model.", autocompletion=options.complete_classifiers),
    ] = None,
    from_scratch: Annotated[str | None, typer.Option("--from-scratch", metavar="NAME", help="Train this timm architecture anew.")] = None,
    same_classes: Annotated[
        bool, typer.Option("--same-classes", help="DATA has the classes of the --model: keep its head, and go on with AdamW.")
    ] = False,
    arch_args: Annotated[
        str, typer.Option("--arch-args", metavar="A=1,B=2", help="Arguments of the architecture: patch_size=8,embed_dim=192.")
    ] = "",
    linear_probe: Annotated[
        bool, typer.Option("--linear-probe", help="Fit the head alone: logistic regression on frozen features.")
    ] = False,
    few_shot: Annotated[
        str, typer.Option("--few-shot", metavar="1,5,10,25", help="Measure frozen features with so many images per class; train nothing.")
    ] = "",
    epochs: Annotated[
        float | None, typer.Option("--epochs", metavar="N", min=0.0, help="Default: 10, and 100 from scratch.", show_default=False)
    ] = None,
    steps: Annotated[int | None, typer.Option("--steps", metavar="N", min=1, help="Updates of the weights, instead of epochs.")] = None,
    batch_size: Annotated[
        int | None, typer.Option("--batch-size", "-b", metavar="N", min=1, help="Images per update. Default: 512, or all there are.")
    ] = None,
    accumulate: Annotated[int, typer.Option("--accumulate", metavar="N", min=1, help="Take each batch in N passes, to save memory.")] = 1,
    lr: Annotated[
        float | None, typer.Option("--lr", metavar="X", min=0.0, help="Highest learning rate. Default: 0.01; from scratch 0.001*batch/512.")
    ] = None,
    weight_decay: Annotated[
        float | None, typer.Option("--weight-decay", metavar="X", min=0.0, help="Default: 0; from scratch 0.05; linear probe 0.001.")
    ] = None,
    warmup: train_options.Warmup = 500,
    clip: train_options.Clip = 1.0,
    size: Annotated[
        int | None, typer.Option("--size", metavar="N", min=8, help="Pixels of a side; position embeddings are resampled.")
    ] = None,
    augment: Annotated[Augment, typer.Option("--augment", help="light: crops and flips; strong: RandAugment besides.")] = Augment.light,
    label_smoothing: Annotated[float, typer.Option("--label-smoothing", metavar="X", min=0.0, max=0.99, help="Such as 0.1.")] = 0.0,
    mixup: Annotated[float, typer.Option("--mixup", metavar="ALPHA", min=0.0, help="Mix images in pairs, such as 0.2.")] = 0.0,
    patch_drop: Annotated[
        float,
        typer.Option("--patch-drop", metavar="X", min=0.0, max=0.95, help="Leave out this share of a ViT's patches, such as 0.5; faster."),
    ] = 0.0,
    whole_after: Annotated[
        int | None, typer.Option("--whole-after", metavar="N", min=1, help="With --patch-drop: leave out none after N steps.")
    ] = None,
    ema: Annotated[
        float | None, typer.Option("--ema", metavar="X", min=0.0, max=1.0, help="Keep a moving average of the weights, such as 0.999.")
    ] = None,
    teacher: Annotated[
        str | None,
        typer.Option("--teacher", metavar="NAME", help="Learn this model's answers, of the same classes, instead of labels."),
    ] = None,
    teacher_steps: Annotated[
        int | None,
        typer.Option("--teacher-steps", metavar="N", min=1, help="The --teacher is an architecture; train it on DATA first, for N steps."),
    ] = None,
    teacher_args: Annotated[str, typer.Option("--teacher-args", metavar="A=1,B=2", help="Arguments of the teacher's architecture.")] = "",
    val_share: Annotated[
        float,
        typer.Option("--val-share", metavar="X", min=0.0, max=0.9, help="Share of each class to validate on, where DATA has no split."),
    ] = 0.1,
    eval_every: Annotated[int | None, typer.Option("--eval-every", metavar="N", min=1, help="Steps between measurements.")] = None,
    save_every: Annotated[int | None, typer.Option("--save-every", metavar="N", min=1, help="Steps between checkpoints.")] = None,
    half: train_options.Half = False,
    workers: Annotated[
        str, typer.Option("--workers", metavar="auto|N", help="Processes that prepare images. auto: one per core with a GPU, else none.")
    ] = "auto",
    overwrite: train_options.Overwrite = False,
    device: options.Device = None,
    dtype: options.Dtype = None,
    compile: options.Compile = None,
    seed: options.Seed = None,
    threads: options.Threads = None,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> int:
    """Train a classifier on your own pictures, or measure how well a model's features fit them.

    DIR becomes a model that `visiontk classify --model DIR` runs, with a card of figures and a plot of its curves.
    The same command again goes on where it was stopped, to the same result.
    On a pipe the metrics come as JSON lines; they stand in DIR/metrics.jsonl as well.

    \b
    visiontk train classify photos/ --model vit-base -o my-vit                     the ViT paper's fine-tuning
    visiontk train classify photos/ --model vit-base --size 384 --accumulate 8 -o my-vit-384
    visiontk train classify photos/ --model efficientnet-lite0 --linear-probe -o probe
    visiontk train classify photos/ --model vit-base --few-shot 1,5,10,25 -o shots
    visiontk train classify list.jsonl --from-scratch resnet18 --epochs 100 --augment strong -o new
    visiontk train classify tiny --from-scratch vit_tiny_patch16_224 --arch-args patch_size=8 --size 64 -o tiny
    """
    folder = train_options.folder(out)
    if workers != "auto" and not workers.isdecimal():
        raise UsageError(f"workers is {workers!r}; use auto or a whole number from 0 on")
    runtime = options.runtime(settings.read(), device, dtype, compile, None, seed, threads)

    from visiontk.training.plan import Plan

    plan = Plan(
        data=data,
        model=model,
        from_scratch=from_scratch,
        same_classes=same_classes,
        arch_args=arch_args,
        linear_probe=linear_probe,
        few_shot=few_shot,
        epochs=epochs,
        steps=steps,
        batch_size=batch_size,
        accumulate=accumulate,
        lr=lr,
        weight_decay=weight_decay,
        warmup=warmup,
        clip=clip,
        size=size,
        augment=augment.value,
        label_smoothing=label_smoothing,
        mixup=mixup,
        patch_drop=patch_drop,
        whole_after=whole_after,
        ema=ema,
        teacher=teacher,
        teacher_args=teacher_args,
        teacher_steps=teacher_steps,
        val_share=val_share,
        half=half,
        eval_every=eval_every,
        save_every=save_every,
        seed=runtime.seed,
    )
    plan.check(["--compile"] if compile else [])

    from visiontk.training.run import run

    processes = None if workers == "auto" else int(workers)
    return shown(
        lambda view: run(plan, runtime, folder, view, workers=processes, overwrite=overwrite, hold=interrupts.held), folder, quiet=quiet
    )
