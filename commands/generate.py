"""`visiontk generate`."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable, Sequence
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from visiontk import loras, orders, seeds, settings, stream
from visiontk.errors import UsageError
from visiontk.orders import Defaults, Order

from . import classify_view, generate_inputs, generate_names, generate_plan, generate_record, generate_view, options, running, writers
from .console import introduce, say
from .generate_held import HeldPictures
from .generate_inputs import Broken
from .generate_making import Making
from .generate_plan import Plan
from .generate_progress import GenerateReport
from .generate_sheet import MOST, write_sheet

if TYPE_CHECKING:
    from visiontk.adapters.generate_types import Task


class Offload(StrEnum):
    model = "model"
    sequential = "sequential"


def generate(
    prompts: Annotated[
        list[str] | None, typer.Argument(metavar="PROMPT", show_default=False, help="What the images show; - for a pipe of prompts.")
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--prompts", metavar="FILE", help="More prompts: a line each, or JSON lines with options, as below.")
    ] = None,
    model: options.GenerateModel = None,
    number: Annotated[
        int | None, typer.Option("-n", metavar="N", min=1, max=10**9, help="Images per prompt, with the seeds from --seed on.")
    ] = None,
    seed: Annotated[
        str | None,
        typer.Option("--seed", metavar="LIST", help="An image of each prompt for each of these: 1,2,10-20. Default: setting seed, 0."),
    ] = None,
    negative: Annotated[str | None, typer.Option("--negative", metavar="TEXT", help="What the images should not show.")] = None,
    steps: Annotated[int | None, typer.Option("--steps", metavar="N", min=1, help="Steps of denoising. Default: the model's.")] = None,
    guidance: Annotated[
        float | None, typer.Option("--guidance", metavar="X", help="How closely the prompt is followed. Default: the model's.")
    ] = None,
    size: Annotated[str | None, typer.Option("--size", metavar="WxH", help="In pixels. Default: the init image's, or the model's.")] = None,
    scheduler: Annotated[
        str | None, typer.Option("--scheduler", metavar="NAME", help="Sampler: euler, ddim, ... Default: the model's.")
    ] = None,
    clip_skip: Annotated[
        int | None, typer.Option("--clip-skip", metavar="N", min=0, help="Leave out the last N layers of a CLIP text encoder.")
    ] = None,
    init: Annotated[
        str | None, typer.Option("--init", metavar="IMAGE", help="Change this image instead of beginning with noise; - for a pipe of them.")
    ] = None,
    strength: Annotated[
        float | None, typer.Option("--strength", metavar="X", help="How much of the init image is noise at the start: above 0 to 1.")
    ] = None,
    mask: Annotated[
        str | None,
        typer.Option("--mask", metavar="FILE|KEY[#ID]", help="Paint anew what is white, or the objects under a key of the piped record."),
    ] = None,
    sweep: Annotated[
        list[str] | None,
        typer.Option(
            "--sweep", metavar="NAME=V,V", help="An image for each value, of each combination where repeated; and a contact sheet."
        ),
    ] = None,
    lora: Annotated[
        list[str] | None, typer.Option("--lora", metavar="ID[:WEIGHT]", help="Add a LoRA: file, folder or hub id; repeatable.")
    ] = None,
    quantize: Annotated[
        str | None, typer.Option("--quantize", metavar="int8", help="Weights in 8 bits: less memory, other pixels.")
    ] = None,
    offload: Annotated[
        Offload | None, typer.Option("--offload", help="Keep weights in main memory, and bring them to the GPU by part or by layer.")
    ] = None,
    variant: Annotated[str | None, typer.Option("--variant", metavar="NAME", help="Weights files of that variant, such as fp16.")] = None,
    no_safety: Annotated[bool, typer.Option("--no-safety", help="Run without the model's own safety checker.")] = False,
    preview: Annotated[
        int | None,
        typer.Option("--preview", metavar="N", min=1, help="Every N steps, write the images as they are: NAME-preview-0005.png."),
    ] = None,
    no_metadata: Annotated[bool, typer.Option("--no-metadata", help="Do not write into the files how they were made.")] = False,
    format: options.Format = None,
    stage: options.Stage = None,
    out: options.Out = None,
    overwrite: options.Overwrite = False,
    resume: options.Resume = None,
    device: options.Device = None,
    dtype: options.Dtype = None,
    compile: options.Compile = None,
    batch_size: options.BatchSize = None,
    threads: options.Threads = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    debug: options.Debug = False,
) -> int:
    """Make images from text.

    With --init an image is changed, and with --mask a part of it is painted anew; the rest stays as it is, to the pixel.
    One line per image, with all that it was made from. An option that the model ignores is an error.

    \b
    Prompts come as arguments, from --prompts, and without either from the pipe: lines of text, or JSON lines with
      prompt, negative, seed (a number, or a list as a string), n, steps, guidance, size, scheduler, clip_skip, lora, strength, init, mask
    which count before the options here. A broken line fails alone. Other keys of a piped record pass on.

    \b
    --init -   changes each image that comes through the pipe (paths, or records, whose own "prompt" counts first).
    --mask     takes a file, whose white is painted anew, or with --init - the objects of a stage of the record:
               segment for all of them, segment#2 for one.
    --sweep    takes steps, guidance, strength, clip-skip, scheduler, size, lora (none for none) and seed.
               The contact sheet, sheet.png, is beside the images.

    \b
    -o         a folder (visiontk-out/, with names like 000000-a-red-apple-0.png), a file, or a template with
               {index} {seed} {prompt_slug} {model}, and of the init image {stem} {name} {parent} {frame}.
               The suffix decides: .png, .jpg (quality 95) or .webp (without loss). - puts one PNG on the output.
    Each file says how it was made: a PNG in a text chunk, others in Exif's UserComment. `visiontk replay` makes it again.

    Ctrl-C leaves no image half done; --resume goes on, and knows an image by what it is made from and not by its name.

    \b
    visiontk generate "a red apple" -n 4
    visiontk generate "a red apple" "a green pear" --seed 1,2,10-20 -o "fruit/{prompt_slug}-{seed}.webp"
    visiontk generate "a red apple" --sweep steps=10,20 --sweep guidance=3,7
    visiontk generate "as a watercolour" --init photo.jpg --strength 0.6 -o watercolour.png
    visiontk segment photo.jpg --prompt point | visiontk generate "a lion" --init - --mask segment
    visiontk generate --prompts prompts.jsonl --resume done.jsonl
    visiontk generate "a red apple" -o - | visiontk classify -
    """
    writers.check(format, resume, out)
    in_force = settings.read()
    runtime = options.runtime(in_force, device, dtype, compile, batch_size, None, threads)
    said = {"negative": negative, "steps": steps, "guidance": guidance, "size": size and seeds.parse_size(size)}
    said |= {"scheduler": scheduler, "clip_skip": clip_skip, "strength": strength}
    defaults = _defaults(said, seed, number, runtime.seed, sweep or [])
    lines, pipe = _lines(prompts or [], file, init)
    _check_options(defaults, out, resume, preview)
    if mask is not None and init != "-" and generate_inputs.names_key(mask):
        raise UsageError(f"there is no mask {mask}; name a file, or pipe records and add --init -")
    own_init = lines is None or any(isinstance(line, Order) and line.init is not None for line in lines)
    if mask is not None and init is None and not own_init:
        raise UsageError("there is a mask and no init image; name one with --init")
    suffix = generate_names.suffix(out) or generate_names.DEFAULT_SUFFIX
    naming = None if out == "-" else generate_names.naming(out, overwrite=overwrite)
    total = None if lines is None or init == "-" else sum(1 if isinstance(line, Broken) else orders.count(line, defaults) for line in lines)
    if out == "-" and (total or 1) > 1:
        raise UsageError(f"-o - has room for one image, and {total} were asked for; name a folder with -o")
    key = running.stage_key(stage, "generate")
    held = HeldPictures(resume, key)

    from visiontk.adapters.generate import load

    added = loras.parse(lora or [])
    if any(sweep.name == "lora" for sweep in defaults.sweeps) and any(one.weight for one in added):
        raise UsageError("--lora and --sweep lora both say which; give one of them, or --lora ID:0 to have it at hand")
    name = in_force.get("model.generate", model).value
    task = _task(init, mask, lines)
    generator = load(
        name, runtime, loras=added, quantize=quantize, offload=offload and offload.value, task=task, safety=not no_safety, variant=variant
    )
    running.same_model(held.lines, generator.name, generator.revision, resume)
    held.same_numbers(generator.runtime.dtype_name, generator.variant, resume)
    introduce(generator, f", batches of {generator.batch_size}", quiet=quiet, verbose=verbose)
    if verbose:
        say(f"it can do {', '.join(sorted(generator.tasks))}; schedulers: {', '.join(generator.schedulers)}")

    setup = generate_record.setup(generator, quantize, offload and offload.value)
    start = None if init in (None, "-") else generate_inputs.init_file(init)
    plan = Plan(key, generator, setup, defaults, start, mask, naming, suffix, held, not no_metadata, keep=MOST if defaults.sweeps else 0)
    # Where lines may bring their own image, options that need one are in order; a line without one fails alone.
    needed = strength is not None or mask is not None or any(one.name == "strength" for one in defaults.sweeps)
    plan.check(init=task != "text2image" or (own_init and needed), mask=mask is not None or task == "inpaint")
    if own_init:
        plan.warm()

    items = running.own_key(plan.items(_asked(lines, pipe, init)), key)
    rows, view = partial(generate_view.rows, key), partial(generate_view.view, key)
    form, writer = writers.choose(format, resume, generate_view.COLUMNS, rows, view, lambda: console, out)
    if out == "-":
        items = running.only_one(items, "images")
    report = GenerateReport(quiet=quiet, count=lambda: total, on_stdout=form == "table" and sys.stdout.isatty(), verbose=verbose)
    console = report.progress.console if report.progress and form == "table" else classify_view.console()
    stats = stream.Stats()
    making = Making(plan, report, preview)
    outcomes = stream.run(
        items, making.itself, making.predict, batch_size=generator.batch_size, workers=runtime.decode_workers(), stats=stats
    )
    code = running.drive(making.finished(outcomes), key, making.value, writer, report, stats, resume, first=held.lines.counts.total())
    if defaults.sweeps and naming is not None:
        write_sheet(plan.pictures, plan.count, making.made, overwrite=overwrite, quiet=quiet)
    return code


def _defaults(said: dict[str, Any], seed: str | None, number: int | None, first: int, sweeps: list[str]) -> Defaults:
    for name in ("guidance", "strength"):
        if said[name] is not None:
            orders.checked_number(said[name], f"--{name}")
    if said["negative"] is not None:
        orders.checked_text(said["negative"], "--negative", empty=True)
    given = {name: value for name, value in said.items() if value is not None}
    listed = None if seed is None else seeds.parse(seed)
    orders.check_seeds(listed, number)
    swept = orders.parse_sweeps(sweeps)
    for sweep in swept:
        if sweep.name in given or (sweep.name == "seed" and (listed or number)):
            option = "--seed or -n" if sweep.name == "seed" else f"--{sweep.name.replace('_', '-')}"
            raise UsageError(f"{option} and --sweep {sweep.name} both say which; give one of them")
    return Defaults(given, listed, number, first, swept)


def _lines(prompts: list[str], file: Path | None, init: str | None) -> tuple[list[Order | Broken] | None, io.RawIOBase | None]:
    """The prompts as far as they are known, None where the pipe has them; and the pipe, where it is read."""
    piped = "-" in prompts or (not prompts and file is None and init != "-") or str(file) == "-"
    if piped and (len(prompts) > ("-" in prompts) or (file is not None and str(file) != "-")):
        raise UsageError("prompts come from the pipe or from the command line; leave out - or the others")
    if piped and init == "-":
        raise UsageError("the pipe has prompts or init images; name prompts on the command line, or an image with --init")
    if piped or init == "-":
        _, pipe = running.inputs_or_pipe(None, *(("prompts", "them") if piped else ("images", "paths")))
        if piped:
            return None, pipe
    else:
        pipe = None
    found: list[Order | Broken] = list(generate_inputs.from_arguments(prompts))
    return (found + generate_inputs.read_file(file) if file else found), pipe


def _check_options(defaults: Defaults, out: str | None, resume: Path | None, preview: int | None) -> None:
    if out == "-" and resume:
        raise UsageError("-o - writes the bytes of one image, which cannot be resumed; leave out --resume")
    if out == "-" and preview:
        raise UsageError("--preview writes files beside the image, and -o - has none; name a file or a folder with -o")
    if out == "-" and defaults.sweeps:
        raise UsageError("-o - has room for one image, and --sweep makes several; name a folder with -o")


def _task(init: str | None, mask: str | None, lines: Sequence[Order | Broken] | None) -> Task:
    """What the model must be able to do, or it is not loaded: what the command line asks for, or else every line of the prompts."""
    asked = [line for line in lines or () if isinstance(line, Order)]
    if init is None and not (asked and all(line.init is not None for line in asked)):
        return "text2image"
    masked = mask is not None or (bool(asked) and all(line.mask is not None for line in asked))
    return "inpaint" if masked else "image2image"


def _asked(lines: list[Order | Broken] | None, pipe: io.RawIOBase | None, init: str | None) -> Iterable[Any]:
    """Prompts with the init images that they come with."""
    if init == "-":
        from visiontk import sources

        assert pipe is not None
        return generate_plan.pairs(sources.from_pipe(pipe, sources.Reading()), lines or [])
    if lines is None:
        assert pipe is not None
        found: Iterable[Order | Broken] = generate_inputs.from_pipe(pipe)
    else:
        found = lines
    return (line if isinstance(line, Broken) else (line, None) for line in found)
