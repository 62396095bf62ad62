"""`visiontk eval lvm`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from visiontk import settings, stream
from visiontk.artefacts import write
from visiontk.errors import ItemError, UsageError
from visiontk.records import Record

from . import eval_lines, eval_lvm_sentences, eval_lvm_view, options, running, writers
from .console import Report, introduce, say, warner

if TYPE_CHECKING:
    from visiontk.adapters.lvm import Sampling
    from visiontk.runtime import Runtime

    from .eval_lvm_measure import Models
    from .eval_lvm_tally import Tally

FEATURES = "tiny-vit"


def lvm(
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="INPUT",
            show_default=False,
            help="Folders of frames, videos; lines of `visiontk lvm-prompt`: a .jsonl file or - for a pipe.",
        ),
    ] = None,
    model: options.LvmModel = None,
    vqgan: options.Vqgan = None,
    plot: Annotated[Path | None, typer.Option("--plot", metavar="FILE.png", help="Draw perplexity by frames of context.")] = None,
    frames: Annotated[
        int | None, typer.Option("--frames", metavar="N", min=1, help="First frames of a folder or video. Default: the model's context.")
    ] = None,
    stride: Annotated[int, typer.Option("--stride", metavar="N", min=1, help="Every N-th frame of a folder or video.")] = 1,
    temperature: Annotated[
        float | None, typer.Option("--temperature", metavar="X", help="Draw the answers' tokens instead of taking the likeliest.")
    ] = None,
    top_k: Annotated[int | None, typer.Option("--top-k", metavar="N", help="The same, of the N likeliest.")] = None,
    top_p: Annotated[float | None, typer.Option("--top-p", metavar="X", help="The same, of the likeliest that together have X.")] = None,
    features: Annotated[
        str,
        typer.Option(
            "--features",
            metavar="NAME",
            help="Network of the LPIPS-like distance, as classify --model.",
            autocompletion=options.complete_classifiers,
        ),
    ] = FEATURES,
    allow_urls: options.AllowUrls = False,
    each: Annotated[bool, typer.Option("--each", help="A line for each sentence as well, as soon as it is known.")] = False,
    format: options.Format = None,
    overwrite: options.Overwrite = False,
    device: options.Device = None,
    dtype: options.Fp32Dtype = "fp32",
    batch_size: options.BatchSize = None,
    seed: options.Seed = None,
    threads: options.Threads = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    debug: options.Debug = False,
) -> int:
    """Measure a large vision model: perplexity by frames of context, and its answers to pairs.

    The figures of Bai et al. 2023 (arXiv 2312.00785). A sentence is a folder of frames, a video, pictures that are named one after the
    other, or a line of `visiontk lvm-prompt`. The last line holds the totals.

    \b
    lvm-perplexity  A line for each task and number of frames before: exp of the mean
                    negative log-likelihood of the frames' tokens, each given the true
                    ones before it. The first token of all is given nothing and does
                    not count. It hangs on the VQGAN: compare models that share one.
                    mean_perplexity, of the totals: that of each sentence, averaged, as
                    the paper's own script does it.
    lvm-pairs       A line for each task of pairs whose lines name the truth: the model
                    answers the query, by default greedily, and is compared at its own
                    size. perplexity is that of the true answers.
      mIoU          segment: pixels count as what the palette's nearest colour stands
                    for; IoU of each thing of each true mask, mean over all of them.
      mse           Other tasks: mean squared error, values from 0 to 1.
      distance      Half the squared distance of the features of all layers of --features
                    at each place, each of length 1: LPIPS (Zhang et al. 2018) without its
                    learned weights, comparable with itself.

    Of longer folders and videos the first frames count, of more pairs than the context holds the last ones.

    \b
    visiontk eval lvm clips/JPEGImages/ --plot perplexity.png
    visiontk eval lvm a.mp4 b.mp4 --stride 5 --format csv
    visiontk lvm-prompt grayscale photos/ --query d.jpg --query e.jpg | visiontk eval lvm - --each
    visiontk eval lvm prompts.jsonl --model lvm-7b --temperature 1 --top-p 0.9 --seed 3
    """
    writers.check(format, None)
    _check_plot(plot, overwrite=overwrite)
    in_force = settings.read()
    runtime = options.runtime(in_force, device, dtype, None, batch_size, seed, threads)
    sampling = _sampling(temperature, top_k, top_p, runtime.seed)
    names, pipe = running.inputs_or_pipe(inputs)
    eval_lvm_sentences.check_names(names)

    from . import eval_lvm_measure, eval_lvm_tally

    warn = warner(quiet=quiet)
    models = _load(in_force.get("model.lvm", model).value, vqgan, features, sampling, runtime, quiet=quiet, verbose=verbose)
    columns = (eval_lvm_view.EACH if each else []) + eval_lvm_view.COLUMNS
    lines = eval_lines.Lines(format, columns, eval_lvm_view.rows, eval_lvm_view.view)
    reading = eval_lvm_sentences.Reading(models.lvm.image_size, models.lvm.context_frames, frames, stride, allow_urls)
    if frames is not None and frames > models.lvm.context_frames:
        warn(f"--frames is {frames}, and {models.lvm.name} sees {models.lvm.context_frames} at once: so many count")
    tally, stats = eval_lvm_tally.Tally(), stream.Stats()
    report = Report("sentences", quiet=quiet, verbose=verbose)
    try:
        with report:
            items = eval_lvm_sentences.read(names, pipe, reading)
            outcomes = eval_lvm_measure.measure(models, items, runtime.decode_workers(), stats)
            for line in eval_lines.of_items(outcomes, ("path", "frame", "input"), tally.add, report, stats):
                if each:
                    lines.write(line)
    except KeyboardInterrupt:
        say("interrupted before all sentences were measured; the figures are missing")
        raise
    report.speed(stats)
    totals = _totals(models, tally, stats, warn)
    contexts = list(tally.contexts())
    for line in [*contexts, *tally.answers(models.features.name if models.features else None), totals]:
        lines.write(line)
    lines.end()
    if plot:
        figure = eval_lvm_view.plot(contexts, f"Perplexity by context, {models.lvm.name}")
        write(plot, lambda file: figure.savefig(file, format="png"))
        if not quiet:
            say(f"the plot is in {plot}")
    return 3 if stats.failed else 0


def _check_plot(plot: Path | None, *, overwrite: bool) -> None:
    if plot is None:
        return
    if plot.suffix.lower() != ".png":
        raise UsageError(f"--plot {plot}: the plot is a PNG; name a file that ends in .png")
    if plot.exists() and not overwrite:
        raise UsageError(f"{plot} exists; pass --overwrite, or name another file with --plot")


def _sampling(temperature: float | None, top_k: int | None, top_p: float | None, seed: int) -> Sampling:
    """Greedy where nothing says how tokens are drawn. Raises UsageError."""
    from visiontk.adapters.lvm import Sampling

    greedy = temperature is None and top_k is None and top_p is None
    sampling = Sampling(1.0 if temperature is None else temperature, top_k, top_p, greedy=greedy, seed=seed)
    sampling.check()
    return sampling


def _load(
    model: str | None, vqgan: str | None, features: str, sampling: Sampling, runtime: Runtime, *, quiet: bool, verbose: bool
) -> Models:
    from visiontk.adapters import classify, lvm

    from .eval_lvm_measure import Models

    def told(found: Any) -> Any:
        introduce(found, quiet=quiet, verbose=verbose)
        return found

    return Models(told(lvm.load(model, runtime, vqgan=vqgan)), sampling, lambda: told(classify.load(features, runtime)))


def _totals(models: Models, tally: Tally, stats: stream.Stats, warn: Callable[[str], None]) -> Record:
    """The last line. Raises ItemError where every sentence failed, and UsageError where there was none."""
    if stats.passed_through:
        warn(f"{stats.passed_through} lines without a path were left out")
    if stats.failed:
        warn(f"{stats.failed} of {stats.items} sentences could not be measured and are left out")
    if stats.halved:
        warn(f"memory ran out, so from then on they were answered {stats.batch_size} at a time; start with --batch-size {stats.batch_size}")
    if tally.shortened:
        warn(
            f"{tally.shortened} sentences have more pairs than {models.lvm.context_frames} frames of context hold; the first were left out"
        )
    if not tally.sentences and stats.failed:
        raise ItemError("bad_record", "no sentence could be measured; the warnings, and the lines of --each, say why")
    if not tally.sentences:
        raise UsageError("there is no sentence that can be measured; name folders of frames, videos, or lines of `visiontk lvm-prompt`")
    about: Record = {"model": models.lvm.name, **({"vqgan": models.lvm.vqgan} if models.lvm.vqgan else {})}
    about |= {"revision": models.lvm.revision, "context_frames": models.lvm.context_frames}
    totals = {**tally.totals(), "failed": stats.failed, **about, "sampling": models.sampling.told()}
    features = models.features
    return totals | ({"features": {"model": features.name, "revision": features.revision}} if features else {})
