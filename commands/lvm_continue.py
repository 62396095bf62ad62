"""`visiontk lvm-continue`."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from visiontk import settings, stream
from visiontk.artefacts import Naming
from visiontk.errors import UsageError
from visiontk.records import Record

from . import classify_view, generate_names, lvm_held, lvm_inputs, lvm_making, lvm_sentences, lvm_view, options, running, writers
from .console import introduce, say
from .lvm_held import HeldImages
from .lvm_making import Making
from .lvm_plan import FIELDS, Plan
from .lvm_progress import ContinueReport
from .lvm_read import ReadFiles
from .lvm_sentences import Taking, sentences


class Animation(StrEnum):
    webp = "webp"
    mp4 = "mp4"


class ContinueCommand(TyperCommand):
    """A command whose ``--animate`` may stand without a value, before a file name: it then means ``webp``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        kinds = [kind.value for kind in Animation]
        following = [*args, ""][1:]
        spelled = [
            "--animate=webp" if arg == "--animate" and after not in kinds else arg for arg, after in zip(args, following, strict=True)
        ]
        return super().parse_args(ctx, spelled)


def lvm_continue(
    inputs: options.Inputs = None,
    number: Annotated[int, typer.Option("-n", metavar="N", min=1, help="Images to make.")] = 1,
    candidates: Annotated[int, typer.Option("--candidates", metavar="N", min=1, help="So many continuations, made as one batch.")] = 1,
    pairs: Annotated[
        bool, typer.Option("--pairs", help="The images are pairs of image and answer, and a query at the end, whose answer is made.")
    ] = False,
    model: options.LvmModel = None,
    vqgan: options.Vqgan = None,
    random_weights: Annotated[
        str | None,
        typer.Option(
            "--random-weights", metavar="SIZE", help="No model, but random weights of a size of the paper, 300m to 7b: for measuring."
        ),
    ] = None,
    temperature: Annotated[
        float | None, typer.Option("--temperature", metavar="X", help="Above 1 more varied, below 1 less. Default: 1.")
    ] = None,
    top_k: Annotated[int | None, typer.Option("--top-k", metavar="N", min=1, help="Only the N likeliest tokens. Default: all.")] = None,
    top_p: Annotated[
        float | None,
        typer.Option("--top-p", metavar="X", help="Only the likeliest tokens that together have this probability. Default: all."),
    ] = None,
    greedy: Annotated[bool, typer.Option("--greedy", help="Always the likeliest token: no chance, one candidate.")] = False,
    score: Annotated[
        bool, typer.Option("--score", help="Write how surprised the model is: nats per token of each image, and of those that are given.")
    ] = False,
    stride: Annotated[
        int | None, typer.Option("--stride", metavar="N", min=1, help="Every N-th frame of a video, or of images in a row. Default: all.")
    ] = None,
    frames: Annotated[
        int | None, typer.Option("--frames", metavar="N", min=1, help="The first N of these. Default: all, of which the newest count.")
    ] = None,
    animate: Annotated[
        Animation | None,
        typer.Option("--animate", help="An animation of each candidate, beginning with what is given. Alone: webp."),
    ] = None,
    strip: Annotated[bool, typer.Option("--strip/--no-strip", help="A film strip of each sentence.")] = True,
    quantize: Annotated[
        str | None, typer.Option("--quantize", metavar="int8", help="Weights in 8 bits: less memory, other images.")
    ] = None,
    all_frames: options.AllFrames = False,
    allow_urls: options.AllowUrls = False,
    null: options.Null = False,
    format: options.Format = None,
    stage: options.Stage = None,
    out: options.Out = None,
    overwrite: options.Overwrite = False,
    resume: options.Resume = None,
    device: options.Device = None,
    dtype: options.Dtype = None,
    compile: options.Compile = None,
    batch_size: options.BatchSize = None,
    seed: options.Seed = None,
    threads: options.Threads = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    debug: options.Debug = False,
) -> int:
    """Continue a visual sentence: images in, the next images out.

    A large vision model reads images as tokens and writes on. All that is named or piped is one sentence, in its order; videos are their
    frames. Each line of `visiontk lvm-prompt` is a sentence of its own, and several as long are made as one batch. One line per image.

    \b
    --pairs      analogies: image, answer, image, answer, ..., query; the answer of the query is made. An odd number of images.
    Context      the model sees so many images at most (the line's "context" says which): the oldest are dropped, pairs as a whole. When
                 images that are made fill it, a quarter is dropped at once.
    Candidates   each has draws of its own, by --seed and its number: in fp32 the same, however many are made at once. Where memory runs
                 out, half as many are made at once.

    \b
    -o           a folder (visiontk-out/, with names like 00023-next-000.png), a file, or a template with
                 {sentence} {number} {candidate} {seed} {model}, and of the last image that is given {stem} {name} {parent} {frame}.
                 The suffix decides: .png, .jpg (quality 95) or .webp (without loss). - puts one PNG on the output.
    Beside the images: NAME-strip.png, with what was given on grey and what was made on orange, and NAME-animation.webp or .mp4.

    Ctrl-C leaves the images that are finished, with a strip and an animation of them; --resume goes on.

    \b
    visiontk lvm-continue a.png b.png c.png -n 4
    visiontk lvm-continue clip.mp4 --stride 4 --frames 8 -n 8 --animate mp4
    visiontk lvm-continue 1.png 1-answer.png 2.png 2-answer.png query.png --pairs --greedy -o answer.png
    visiontk lvm-prompt edges photos/*.jpg | visiontk lvm-continue --candidates 4
    visiontk tiny render clips -n 1 -o clips | visiontk lvm-continue --frames 8 -n 4 --score --temperature 0.8 --top-p 0.95
    """
    names, pipe = _check(inputs, number, pairs, stride, frames, all_frames, candidates, greedy, out, resume, animate, format)
    _check_greedy(greedy, {"--temperature": temperature, "--top-k": top_k, "--top-p": top_p})
    in_force = settings.read()
    runtime = options.runtime(in_force, device, dtype, compile, batch_size, seed, threads)
    suffix = generate_names.suffix(out) or generate_names.DEFAULT_SUFFIX
    naming = None if out == "-" else Naming(out, overwrite, fields=FIELDS)
    key = running.stage_key(stage, "lvm")
    held = HeldImages(resume, key)

    from visiontk.adapters.lvm_types import Sampling

    sampling = Sampling(1.0 if temperature is None else temperature, top_k, top_p, greedy, runtime.seed, candidates)
    sampling.check()
    asked = sampling.told() | ({"quantize": quantize} if quantize else {})
    held.same_settings(lvm_held.settings_of(asked, score=score, animate=animate and animate.value), resume)
    outputs = partial(_outputs, format, resume, out, key, None if pipe else number * candidates, quiet=quiet, verbose=verbose)
    broken = [] if pipe else lvm_inputs.unreadable(names)
    if broken:
        return _no_sentence(broken, held, key, *outputs(), resume, alone=len(names) == 1)

    from visiontk.adapters.lvm import load

    name = model if random_weights is not None else in_force.get("model.lvm", model).value
    lvm = load(name, runtime, vqgan=vqgan, quantize=quantize, random_weights=random_weights)
    running.same_model(held.lines, lvm.name, lvm.revision, resume)
    held.same_dtype(lvm.runtime.dtype_name, resume)
    more = f": images of {lvm.image_size} pixels in {lvm.frame_tokens} tokens, {lvm.context_frames} of them at once"
    introduce(lvm, more, quiet=quiet, verbose=verbose)

    from visiontk import sources

    read, strip = ReadFiles(), strip and naming is not None
    plan = Plan(key, lvm.name, sampling, number, quantize, naming, suffix, strip, animate and f".{animate}", held, read)
    writer, report = outputs()

    most = lvm.context_frames - 1
    taking = Taking(most, lvm.name, number, pairs, _thinning(stride, frames), report.notice, plan.wanted, lvm.fit)
    reading = sources.Reading(every=stride, all_frames=all_frames, allow_urls=allow_urls, null=null)
    pictures = running.own_key(lvm_inputs.thinned(names, pipe, reading, stride or 1, frames, read), key)
    items = plan.items(sentences(pictures, taking))
    stats = stream.Stats()
    making = Making(lvm, plan, score, report, stats, lvm_making.rows_at_once(runtime.batch_size, lvm, candidates))
    if out == "-":
        items = running.only_one(items, "sentences")
    batches = stream.run(items, making.itself, making.predict, batch_size=making.sentences_at_once, workers=1)
    code = running.drive(making.finished(batches), key, making.value, writer, report, stats, resume, first=held.lines.counts.total())
    if not quiet:
        for words in making.films:
            say(words)
        if making.again:
            say(f"{making.again} images that {resume} names were gone and are made again")
        if held.of_pipe:
            say(f"images that {resume} has of the pipe count as made; for another video name a new file with --resume", "warning")
        if held.left:
            say(f"{held.left} lines of {resume} are of other sentences or of more images than this run asks for; they stay", "warning")
    return code


def _outputs(
    format: str | None, resume: Path | None, out: str | None, key: str, count: int | None, *, quiet: bool, verbose: bool
) -> tuple[writers.Writer, ContinueReport]:
    """Where lines go, and who says how far the run is."""
    rows, view = partial(lvm_view.rows, key), partial(lvm_view.view, key)
    form, writer = writers.choose(format, resume, lvm_view.COLUMNS, rows, view, lambda: console, out)
    on_stdout = form == "table" and sys.stdout.isatty()
    report = ContinueReport("images", quiet=quiet, count=lambda: count, on_stdout=on_stdout, verbose=verbose)
    console = report.progress.console if report.progress and form == "table" else classify_view.console()
    return writer, report


def _no_sentence(
    broken: list[lvm_inputs.Broken],
    held: HeldImages,
    key: str,
    writer: writers.Writer,
    report: ContinueReport,
    resume: Path | None,
    *,
    alone: bool,
) -> int:
    """The lines of pictures that cannot be read, for which no model is needed. Returns the exit code."""
    stats = stream.Stats()

    def outcomes() -> Iterator[stream.Outcome[Record]]:
        for item, error in broken:
            if not held.take_failed(item.record):
                outcome: stream.Outcome[Record] = stream.Outcome(item, error=error)
                stats.count(outcome)
                yield outcome
        if not alone:
            report.notice(lvm_sentences.not_continued(len(broken)))

    return running.drive(outcomes(), key, lvm_making.Making.value, writer, report, stats, resume)


def _thinning(stride: int | None, frames: int | None) -> str:
    """The options that leave out pictures, in words."""
    return " ".join(f"{name} {number}" for name, number in (("--stride", stride), ("--frames", frames)) if number is not None)


def _check_greedy(greedy: bool, draws: dict[str, float | None]) -> None:
    """Raise UsageError for options of draws where nothing is drawn."""
    given = [name for name, value in draws.items() if value is not None]
    if greedy and given:
        raise UsageError(f"--greedy takes the likeliest token always, so {given[0]} would change nothing; leave one of them out")


def _check(
    inputs: list[str] | None,
    number: int,
    pairs: bool,
    stride: int | None,
    frames: int | None,
    all_frames: bool,
    candidates: int,
    greedy: bool,
    out: str | None,
    resume: Path | None,
    animate: Animation | None,
    format: str | None,
) -> tuple[list[str], io.RawIOBase | None]:
    """The inputs, and the pipe where it is one of them. Raises UsageError for options that do not go together."""
    writers.check(format, resume, out)
    if pairs and number > 1:
        raise UsageError(f"--pairs makes the answer of the query, which is one image, and -n is {number}; leave out -n")
    if pairs and (stride or frames):
        raise UsageError("--pairs takes all images as they are; leave out --stride and --frames")
    if greedy and candidates > 1:
        raise UsageError(f"--greedy leaves nothing to chance, so {candidates} candidates would be equal; leave one of them out")
    if out == "-" and resume:
        raise UsageError("-o - writes the bytes of one image, which cannot be resumed; leave out --resume")
    if out == "-" and animate:
        raise UsageError("-o - puts one image on the output; name a folder with -o for an animation")
    if out == "-" and number * candidates > 1:
        raise UsageError(f"-o - has room for one image, and {number * candidates} were asked for; name a folder with -o")
    names, pipe = running.inputs_or_pipe(inputs)
    lvm_inputs.check_no_lines(names)
    if pipe is None and not (stride or frames or all_frames):
        lvm_inputs.check_names(names, pairs)
    return names, pipe
