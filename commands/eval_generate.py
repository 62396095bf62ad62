"""`visiontk eval generate`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from visiontk import settings, stream
from visiontk.errors import UsageError
from visiontk.records import Record

from . import eval_generate_images, eval_generate_reference, eval_generate_view, eval_lines, options, running, writers
from .console import Report, introduce, say, warner

if TYPE_CHECKING:
    from visiontk.runtime import Runtime

    from .eval_generate_measure import Models, Rows, Seen, Tally
    from .eval_generate_reference import Wanted

CLASSIFIER = "tiny-vit"
Warn = Callable[[str], None]


def generate(
    images: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="IMAGES", show_default=False, help="Lines of `visiontk generate`: a .jsonl file or - for a pipe; or pictures, folders."
        ),
    ] = None,
    reference: Annotated[
        str | None, typer.Option("--reference", metavar="DIR|tiny", help="True pictures to measure the distances to.", show_default=False)
    ] = None,
    classifier: Annotated[
        str,
        typer.Option(
            "--classifier",
            metavar="NAME",
            help="Says what is to be seen, as classify --model.",
            autocompletion=options.complete_classifiers,
        ),
    ] = CLASSIFIER,
    features: Annotated[
        str | None,
        typer.Option(
            "--features",
            metavar="NAME",
            help="timm model whose pooled features are compared. Default: the classifier.",
            autocompletion=options.complete_classifiers,
        ),
    ] = None,
    each: Annotated[bool, typer.Option("--each", help="A line for each image as well, as soon as it is known.")] = False,
    stage: Annotated[str, typer.Option("--as", metavar="KEY", help="Key of prompt and seed in the lines.")] = "generate",
    format: options.Format = None,
    device: options.Device = None,
    dtype: options.Fp32Dtype = "fp32",
    batch_size: options.BatchSize = None,
    seed: options.Seed = None,
    threads: options.Threads = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    debug: options.Debug = False,
) -> int:
    """Measure generated images: do they show what was asked, do they look real, do they differ?

    One line per class that prompts have named, with its accuracy; the last line holds the totals. Prompts and seeds stand in the lines,
    else in the images' own metadata.

    \b
    accuracy             A prompt names a class of the classifier: whole words, the
                         longest first, singular or plural. The image is right where the
                         classifier's first answer is that class. Prompts that name none
                         or several are counted and left out; class_accuracy is the mean
                         over the classes.
    background_accuracy  Of prompts "... on a COLOUR background", one of eleven colours:
                         the median colour of the image's border is nearest to it.
    diversity            1 - cosine of the features of two images of one prompt and
                         different seeds; mean over pairs, then over prompts.
    frechet              With --reference: squared Fréchet distance of the features'
                         normal distributions (Heusel et al. 2017). It is called FID
                         with an Inception v3 alone, and is then that of timm's weights
                         and resizing: comparable with itself.
    kernel               With --reference: unbiased MMD^2 under a cubic kernel
                         (Binkowski et al. 2018), mean over random subsets that share no
                         image, and its standard error.

    --reference tiny renders as many fresh pictures of the tiny world as there are images, in its two training styles, each of the thing and
    on the kind of background that a prompt names; what a prompt leaves open is drawn.

    \b
    visiontk generate --prompts prompts.txt -n 4 | visiontk eval generate - --reference tiny
    visiontk eval generate pictures/ --each --format csv
    visiontk eval generate lines.jsonl --classifier vit-base --features inception_v3.tf_in1k --reference photos/
    visiontk tiny render images -n 1000 -o true/ | visiontk eval generate - --as tiny       what true pictures come to
    """
    writers.check(format, None)
    eval_generate_reference.check(reference)
    runtime = options.runtime(settings.read(), device, dtype, None, batch_size, seed, threads)
    names, pipe = running.inputs_or_pipe(images)

    from . import eval_generate_measure

    warn = warner(quiet=quiet)
    models = _load(classifier, features, runtime, quiet=quiet, verbose=verbose)
    columns = (eval_generate_view.EACH if each else []) + eval_generate_view.COLUMNS
    lines = eval_lines.Lines(format, columns, eval_generate_view.rows, eval_generate_view.view)
    tally, stats = eval_generate_measure.Tally(models.classifier.labels), stream.Stats()
    wanted = _wanted() if reference == eval_generate_reference.WORLD else None
    report = Report("images", quiet=quiet, count=partial(eval_generate_images.count, names), verbose=verbose)
    try:
        with report:
            items = eval_generate_images.read(names, pipe, stage)
            outcomes = eval_generate_measure.look(models, items, runtime.decode_workers(), stats)
            for line in eval_lines.of_items(outcomes, ("path", "frame"), partial(_add, tally, wanted), report, stats):
                if each:
                    lines.write(line)
            totals = _totals(models, tally, stats, warn)
            if reference:
                totals |= _distances(models, tally.rows, reference, wanted, runtime, report, warn)
    except KeyboardInterrupt:
        say("interrupted before all images were measured; the totals are missing")
        raise
    report.speed(stats)
    for line in [*tally.classes(), totals]:
        lines.write(line)
    lines.end()
    return 3 if stats.failed else 0


def _load(classifier: str, features: str | None, runtime: Runtime, *, quiet: bool, verbose: bool) -> Models:
    from visiontk.adapters.classify import load

    from .eval_generate_measure import Models

    first = load(classifier, runtime)
    models = Models(first, first if features in (None, classifier) else load(features, runtime))
    for model in [models.classifier] if models.are_one else [models.classifier, models.features]:
        introduce(model, quiet=quiet, verbose=verbose)
    return models


def _wanted() -> Wanted:
    from visiontk.metrics.named import Names
    from visiontk.tiny import world

    return eval_generate_reference.Wanted(Names(world.names()))


def _add(tally: Tally, wanted: Wanted | None, seen: Seen) -> Record:
    """The figures of one picture."""
    if wanted:
        wanted.add(seen.prompt, seen.size)
    return tally.add(seen)


def _totals(models: Models, tally: Tally, stats: stream.Stats, warn: Warn) -> Record:
    """All but the distances. Raises UsageError where no picture could be measured."""
    totals = tally.totals()
    if stats.passed_through:
        warn(f"{stats.passed_through} lines without a path were left out")
    if stats.failed:
        warn(f"{stats.failed} of {stats.items} images could not be measured and are left out")
    if not totals["images"]:
        raise UsageError("there is no image that can be measured; name pictures, or send the lines of `visiontk generate`")
    if not totals["named"]:
        what = (
            "no prompt is known"
            if totals["without_prompt"] == totals["images"]
            else f"no prompt names one class of {models.classifier.name}"
        )
        warn(f"{what}, so there is no accuracy")
    totals["failed"] = stats.failed
    totals["classifier"] = {"model": models.classifier.name, "revision": models.classifier.revision}
    totals["features"] = {"model": models.features.name, "revision": models.features.revision}
    diversity = tally.diversity()
    return totals | ({"diversity": {**diversity, "features": models.features.name}} if diversity else {})


def _distances(models: Models, ours: Rows, reference: str, wanted: Wanted | None, runtime: Runtime, report: Report, warn: Warn) -> Record:
    """To the reference, whose pictures that fail are named and left out."""
    from .eval_generate_measure import Rows, distances, look_for_features

    items = wanted.render(runtime.seed) if wanted else eval_generate_reference.read(reference)
    theirs, stats = Rows(), stream.Stats()
    outcomes = look_for_features(models.features, items, runtime.decode_workers(), stats)
    with closing(outcomes):  # type: ignore[type-var]
        for outcome in outcomes:
            if outcome.result is not None:
                theirs.add(outcome.result)
            report.advance(outcome, stats)
    if stats.failed:
        warn(f"{stats.failed} of {stats.items} images of {reference} could not be read and are left out")
    return distances(models, ours, theirs, reference, runtime.seed, warn)
