"""`visiontk lvm-prompt`."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterable, Iterator
from contextlib import closing
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from visiontk import settings, stream
from visiontk.artefacts import Naming, is_folder
from visiontk.errors import UsageError
from visiontk.records import Item, error_value

from . import classify_view, lvm_prompt_view, options, running, segment_prompts, writers
from .console import Report, introduce, say
from .lvm_prompt_held import HeldSentences
from .lvm_prompt_lines import KEY
from .lvm_prompt_masks import Files, Masks, Segmented
from .lvm_prompt_sentences import Pictures, Sentences, read_pairs, things, with_palette
from .lvm_read import ReadFiles

if TYPE_CHECKING:
    from visiontk.adapters.segment import Segmenter
    from visiontk.runtime import Runtime
    from visiontk.settings import Settings


class Task(StrEnum):
    grayscale = "grayscale"
    edges = "edges"
    inpaint = "inpaint"
    rotate = "rotate"
    segment = "segment"


ANGLE = 90.0


def lvm_prompt(
    task: Annotated[Task, typer.Argument(metavar="TASK", show_default=False, help="grayscale, edges, inpaint, rotate or segment; below.")],
    images: Annotated[
        list[str] | None,
        typer.Argument(metavar="IMAGES", show_default=False, help="Pictures of the pairs, and last the query; - for a pipe."),
    ] = None,
    query: Annotated[
        list[str] | None,
        typer.Option(
            "--query", metavar="FILE", help="A query, repeatable, and also a folder; then all IMAGES make pairs.", show_default=False
        ),
    ] = None,
    size: Annotated[
        int | None,
        typer.Option(
            "--size", metavar="PIXELS", min=16, max=1024, help="Side of all pictures. Default: the first one's longer side, at most 256."
        ),
    ] = None,
    angle: Annotated[
        float | None, typer.Option("--angle", metavar="DEGREES", help="rotate: counter-clockwise; 90 by default.", show_default=False)
    ] = None,
    patches: Annotated[
        bool, typer.Option("--patches", help="inpaint: black patches of an eighth of the side (32 of 256 pixels), not one square.")
    ] = False,
    masks: Annotated[
        list[str] | None,
        typer.Option(
            "--masks",
            metavar="DIR|FILE",
            help="segment: a folder of masks by name, or a file for each picture, repeatable.",
            show_default=False,
        ),
    ] = None,
    prompt: Annotated[
        list[str] | None,
        typer.Option("--prompt", "-p", metavar="PROMPT", help="segment: what to cut out, as in `visiontk segment`. Default: point."),
    ] = None,
    colours: Annotated[
        int | None,
        typer.Option("--colours", metavar="N", min=1, help="segment: colours for things. Default: one for each number in the pairs."),
    ] = None,
    model: options.SegmentModel = None,
    allow_urls: options.AllowUrls = False,
    null: options.Null = False,
    format: options.Format = None,
    out: options.Out = None,
    overwrite: options.Overwrite = False,
    resume: options.Resume = None,
    device: options.Device = None,
    dtype: options.Dtype = None,
    seed: options.Seed = None,
    threads: options.Threads = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    debug: options.Debug = False,
) -> int:
    """Make few-shot prompts for a large vision model.

    A task is shown by pairs of a picture and its answer; then comes a query, whose answer the model makes. This draws the pairs as Bai et
    al. 2023 (arXiv 2312.00785) make theirs, and writes a line for each query: `visiontk lvm-continue` takes it, and `visiontk eval lvm`
    compares the answer with the true one, which is written beside.

    \b
    grayscale   the picture's luma -> its colours
    edges       the picture -> its edges (Canny's), white on black
    inpaint     the picture with a black square of a tenth to a half of its side
                (--patches: with a tenth to a half of 8 x 8 patches black)
                -> the whole picture
    rotate      the picture -> turned by --angle, the same in the whole sentence
    segment     the picture -> its masks, in colours that are the same in the whole
                sentence: of --masks, of the line of an earlier `visiontk segment`,
                or of its default model (--model) with --prompt: point, box, auto ...

    Thing N of a mask has the same colour in all pictures; with --colours 1 all things are alike, as the bundled model knows them. Files of
    masks are PNGs as `visiontk segment --save masks` writes them. --seed draws the places of what is black, and the colours.

    \b
    visiontk lvm-prompt grayscale a.jpg b.jpg c.jpg | visiontk lvm-continue -
    visiontk lvm-prompt inpaint photos/ --query d.jpg --query e.jpg | visiontk eval lvm -
    visiontk lvm-prompt segment photos/*.jpg -p point -o prompts/
    visiontk lvm-prompt segment things/images/ --masks things/masks/ --colours 1 | visiontk lvm-continue -
    visiontk segment photos/ --no-sequence -p auto | visiontk lvm-prompt segment -
    """
    _check_options(task, angle, patches, {"--masks": masks, "--prompt": prompt, "--colours": colours, "--model": model}, out)
    writers.check(format, resume)
    held = HeldSentences(resume)
    in_force = settings.read()
    runtime = options.runtime(in_force, device, dtype, None, None, seed, threads)
    names, pipe = running.inputs_or_pipe(images)
    if query and "-" in query and pipe is not None:
        raise UsageError("the pipe can hold the IMAGES or the queries; name files for one of them")
    asked, asked_pipe = running.inputs_or_pipe(query) if query else ([], None)
    naming = Naming(out, overwrite, aside=out is None)
    where = _masks(task, masks, prompt, model, in_force, runtime, quiet=quiet, verbose=verbose)

    from visiontk import sources
    from visiontk.media.sentence_tasks import SentenceTask, most_things

    if colours is not None and colours > most_things():
        raise UsageError(f"--colours is {colours}, and there are {most_things()} that a model can tell apart; use so many or fewer")
    reading = sources.Reading(allow_urls=allow_urls, null=null)
    pictures = Pictures(size, where)
    read = ReadFiles()
    if overwrite:  # else nothing is replaced, and what is read later need not be known now
        read.add(itertools.chain.from_iterable(map(_files, [*asked, *(masks or [])])))
    items = read.noted(sources.from_arguments(names, pipe, reading))
    queries = _some(read.noted(sources.from_arguments(asked, asked_pipe, reading))) if query else iter(())
    pairs, passed = read_pairs(items, pictures, query_last=not query)
    wanted = SentenceTask(task.value, runtime.seed, ANGLE if angle is None else angle, patches)
    if task is Task.segment:
        wanted = with_palette(wanted, things(pairs), colours, runtime.seed)
    held.same_task(wanted)
    sentences = Sentences(wanted, naming, pictures, held, read)
    frames = sentences.write_pairs(pairs)

    rows, view = partial(lvm_prompt_view.rows, KEY), partial(lvm_prompt_view.view, KEY)
    form, writer = writers.choose(format, resume, lvm_prompt_view.COLUMNS, rows, view, lambda: console)
    report = Report("sentences", quiet=quiet, on_stdout=form == "table" and sys.stdout.isatty(), verbose=verbose)
    console = report.progress.console if report.progress and form == "table" else classify_view.console()
    stats = stream.Stats()
    try:
        with report, closing(sentences.of_queries(itertools.chain(passed, queries), frames)) as outcomes:  # type: ignore[type-var]
            for outcome in outcomes:
                stats.count(outcome)
                value = error_value(outcome.error) if outcome.error else outcome.result
                writer.write(outcome.item.record | ({} if value is None else {KEY: value}))
                report.advance(outcome, stats)
    except KeyboardInterrupt:
        again = f"; go on with the same command and --resume {resume or 'FILE.jsonl, where that holds the lines that were written'}"
        say(f"interrupted after {stats.items} sentences; their lines and files are whole{again}")
        raise
    report.summary(stats)
    if isinstance(where, Files) and where.left and not quiet:
        say(f"{where.left} files of --masks belong to no picture; give one for each, in their order", "warning")
    return 3 if stats.failed else 0


def _files(name: str) -> Iterable[str]:
    """The files that an input names, as far as that is known before it is read."""
    from visiontk import listing

    if listing.is_folder(name):
        return listing.walk(name)
    return listing.matching(name) if listing.is_pattern(name) else [name]


def _some(queries: Iterator[Item[Any]]) -> Iterator[Item[Any]]:
    """The same queries. Raises UsageError where there is none."""
    first = next(queries, None)
    if first is None:
        raise UsageError("there is no query; name one with --query, or send its path through the pipe")
    return itertools.chain((first,), queries)


def _check_options(task: Task, angle: float | None, patches: bool, of_segment: dict[str, object], out: str | None) -> None:
    import math

    given = {Task.rotate: {"--angle": angle is not None}, Task.inpaint: {"--patches": patches}}
    given[Task.segment] = {name: value not in (None, []) for name, value in of_segment.items()}
    for owner, flags in given.items():
        for name, is_given in flags.items():
            if is_given and owner is not task:
                raise UsageError(f"{name} goes with the task {owner}, and this is {task}; leave it out")
    if angle is not None and not math.isfinite(angle):
        raise UsageError(f"--angle is {angle}; use a number of degrees")
    if of_segment["--masks"] and (of_segment["--prompt"] or of_segment["--model"]):
        raise UsageError("--masks gives the masks, so nothing is segmented; leave it out, or --prompt and --model")
    if out and "{" not in out and (out == "-" or not is_folder(out)):
        raise UsageError(f"-o {out}: a sentence is several files; name a folder, or a template such as out/{{stem}}-{{kind}}.png")
    if out and "{" in out and "{kind}" not in out:
        raise UsageError(f"-o {out}: a sentence is several files, which {{kind}} tells apart; add it to the template")


def _masks(
    task: Task,
    files: list[str] | None,
    prompt: list[str] | None,
    model: str | None,
    in_force: Settings,
    runtime: Runtime,
    *,
    quiet: bool,
    verbose: bool,
) -> Masks | None:
    if task is not Task.segment:
        return None
    if files:
        return Files(files)

    def load() -> Segmenter:
        from visiontk.adapters.segment import load

        found = load(in_force.get("model.segment", model).value, runtime)
        introduce(found, quiet=quiet, verbose=verbose)
        return found

    return Segmented(segment_prompts.read(prompt or [], None, segment_prompts.Span()), load)
