"""`visiontk classify`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from visiontk import settings, stream
from visiontk.artefacts import DEFAULT_FOLDER, Naming, is_folder, write, written_since
from visiontk.errors import ItemError, UsageError
from visiontk.records import Record

from . import classify_view, options, running, writers
from .console import Report, introduce, say

if TYPE_CHECKING:
    from PIL.Image import Image

    from visiontk.adapters.classify import Array, Classification, Classifier, Views
    from visiontk.embeddings import EmbeddingFile


class Tta(StrEnum):
    flip = "flip"
    five_crop = "five-crop"


class Attention(StrEnum):
    rollout = "rollout"
    heads = "heads"


class AttentionCommand(TyperCommand):
    """A command whose ``--attention`` may stand without a value, before a file name: it then means ``rollout``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        kinds = [kind.value for kind in Attention]
        following = [*args, ""][1:]
        spelled = [
            "--attention=rollout" if arg == "--attention" and after not in kinds else arg
            for arg, after in zip(args, following, strict=True)
        ]
        return super().parse_args(ctx, spelled)


@dataclass(frozen=True)
class _Prepared:
    views: Views
    seen: Image | None


@dataclass(frozen=True)
class _Answer:
    classification: Classification
    seen: Image | None = None
    heat: Array | None = None


@dataclass(frozen=True)
class _Wanted:
    """What goes into the line beside the labels."""

    top_k: int
    threshold: float
    logits: bool
    embed: bool
    attention: Attention | None


def classify(
    inputs: options.Inputs = None,
    model: options.ClassifyModel = None,
    arch: Annotated[
        str | None, typer.Option("--arch", metavar="NAME", help="timm architecture of a weights file without config.json.")
    ] = None,
    labels: Annotated[Path | None, typer.Option("--labels", metavar="FILE", help="Names of the classes: one a line, or JSON.")] = None,
    top_k: Annotated[int, typer.Option("--top-k", "-k", metavar="N", min=1, help="Labels per image.")] = 5,
    threshold: Annotated[
        float, typer.Option("--threshold", metavar="P", min=0.0, max=1.0, help="Leave out labels with a lower score.")
    ] = 0.0,
    tta: Annotated[Tta | None, typer.Option("--tta", help="Test-time augmentation: average over several views.")] = None,
    embed: Annotated[bool, typer.Option("--embed", help="Pooled features: in the record, or in one -o FILE.npz|.safetensors.")] = False,
    logits: Annotated[bool, typer.Option("--logits", help="All logits in the record.")] = False,
    attention: Annotated[
        Attention | None,
        typer.Option("--attention", metavar="[rollout|heads]", help="Attention rollout, or the last layer's heads: picture and array."),
    ] = None,
    every: options.Every = None,
    fps: options.Fps = None,
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
    """Label images and video frames.

    The model is a vision transformer, or any other that timm knows; it decides the preprocessing.

    \b
    visiontk classify cat.jpg                                    a table on a terminal, JSON lines in a pipe
    visiontk classify photos/ --model vit-base --resume out.jsonl
    find photos -name '*.jpg' | visiontk classify --top-k 1 | jq -r '[.path, .classify.labels[0].label] | @tsv'
    visiontk classify clip.mp4 --fps 2 --format csv              one row per label of each second frame
    visiontk classify a.jpg -m vit-base | visiontk classify -m vit-large --as large
    visiontk classify photos/ --embed -o features.npz > lines.jsonl
    visiontk classify cat.jpg --model vit-base --attention       writes visiontk-out/cat-attention.png
    """
    wanted = _Wanted(top_k, threshold, logits, embed, attention)
    _check_options(wanted, every, fps, tta, out, resume)
    writers.check(format, resume)
    _check_room(wanted, out, writers.form(format, resume))
    in_force = settings.read()
    runtime = options.runtime(in_force, device, dtype, compile, batch_size, seed, threads)
    names, pipe = running.inputs_or_pipe(inputs)
    key = running.stage_key(stage, "classify")
    held = running.held_lines(resume, key)
    naming = Naming(out, overwrite)
    if held.goes_on:
        naming.go_on(held.files, partial(written_since, time=held.written))
    features = _embedding_file(embed, out, overwrite)

    classifier = _load(in_force.get("model.classify", model).value, runtime, arch, labels, tta)
    running.same_model(held, classifier.name, classifier.revision, resume)
    if attention:
        classifier.check_attention(rollout=attention is Attention.rollout)
    introduce(classifier, f", batches of {classifier.batch_size}", quiet=quiet, verbose=verbose)

    from visiontk import listing, sources

    min_side = None if attention else classifier.min_side
    reading = sources.Reading(min_side, every, fps, all_frames, allow_urls, null, notice=None if quiet else say)
    items = running.own_key(held.skip(sources.from_arguments(names, pipe, reading)), key)
    if out == "-":
        items = running.only_one(items, "inputs")
    rows, view = partial(classify_view.rows, key), partial(classify_view.view, key)
    form, writer = writers.choose(format, resume, classify_view.COLUMNS, rows, view, lambda: console, out)
    on_stdout = form == "table" and sys.stdout.isatty()
    count = partial(listing.count, names)
    report = Report("images", quiet=quiet, count=count, held=lambda: held.taken, on_stdout=on_stdout, verbose=verbose)
    console = report.progress.console if report.progress and form == "table" else classify_view.console()
    stats = stream.Stats()
    outcomes = stream.run(
        items,
        partial(_prepare, classifier, attention),
        partial(_predict, classifier, wanted),
        batch_size=classifier.batch_size,
        workers=runtime.decode_workers(),
        stats=stats,
    )
    with features or nullcontext():
        if features:
            features.model, features.revision = classifier.name, classifier.revision
        value = partial(_value, classifier, wanted, naming, features)
        code = running.drive(outcomes, key, value, writer, report, stats, resume, first=held.counts.total(), resumable=not features)
    if form in ("table", "csv", "tsv") and not quiet:  # JSON lines name their files
        if attention:
            say(f"attention, pictures and arrays: {out or DEFAULT_FOLDER}")
        if features and features.rows:
            say(f"features: {out}")
    return code


def _check_room(wanted: _Wanted, out: str | None, form: str) -> None:
    """Raise UsageError for results that only a JSON line has room for."""
    name = "--logits" if wanted.logits else "--embed" if wanted.embed and out is None else None
    if name and form != "jsonl":
        way = "pass --format jsonl" if wanted.logits else "pass --format jsonl, or name a file with -o"
        raise UsageError(f"{name} gives more numbers than --format {form} has room for; {way}")


def _check_options(wanted: _Wanted, every: int | None, fps: float | None, tta: Tta | None, out: str | None, resume: Path | None) -> None:
    if every and fps:
        raise UsageError("--every and --fps both choose frames; give one of them")
    if fps is not None and not 0 < fps < float("inf"):
        raise UsageError(f"--fps {fps:g} is no number of frames a second; give one above 0, such as 2")
    if wanted.attention and tta:
        raise UsageError("--attention explains one view and --tta averages several; give one of them")
    if wanted.attention and wanted.embed and out:
        raise UsageError("-o cannot name both the features' file and the attention pictures; run them one after the other")
    file = wanted.attention and out is not None and out != "-" and "{" not in out and not is_folder(out)
    if file and Path(str(out)).suffix.lower() != ".png":
        raise UsageError(f"-o {out}: pictures of --attention are PNG; name a file that ends in .png, or a folder, with a slash at the end")
    if out == "-" and not wanted.attention:
        raise UsageError("-o - puts one picture of --attention on the output; for features, name a file")
    if wanted.embed and out and resume:
        raise UsageError("features in one file cannot be resumed; leave out -o, and they stand in the lines")
    if out and not (wanted.attention or wanted.embed):
        raise UsageError("-o is for pictures of --attention and features of --embed; redirect the lines with > FILE, or use --resume FILE")


def _load(model: str | None, runtime: Any, arch: str | None, labels: Path | None, tta: Tta | None) -> Classifier:
    from visiontk.adapters.classify import load

    return load(model, runtime, architecture=arch, labels=labels, tta=tta.value if tta else None)


def _prepare(classifier: Classifier, attention: Attention | None, image: Image) -> _Prepared:
    return _Prepared(classifier.prepare(image), classifier.seen(image) if attention else None)


def _predict(classifier: Classifier, wanted: _Wanted, batch: Sequence[_Prepared]) -> list[_Answer | ItemError]:
    views = [prepared.views for prepared in batch]
    found = classifier.predict_prepared(views, top_k=wanted.top_k, threshold=wanted.threshold)
    heats: Sequence[Array | None] = [None] * len(batch)
    if wanted.attention:
        heats = classifier.attention(views, heads=wanted.attention is Attention.heads)
    return [
        answer if isinstance(answer, ItemError) else _Answer(answer, prepared.seen, heat)
        for answer, prepared, heat in zip(found, batch, heats, strict=True)
    ]


def _value(
    classifier: Classifier, wanted: _Wanted, naming: Naming, features: EmbeddingFile | None, outcome: stream.Outcome[_Answer], index: int
) -> Record:
    answer = outcome.result
    assert answer is not None
    found = answer.classification
    value: Record = {"model": classifier.name, "revision": classifier.revision}
    if classifier.tta:
        value["tta"] = classifier.tta
    if wanted.threshold:
        value["threshold"] = wanted.threshold
    value["labels"] = [vars(label) for label in found.labels]
    if wanted.logits:
        value["logits"] = _numbers(found.logits)
    if wanted.attention:
        value["attention"] = _write_attention(wanted.attention, naming, answer, outcome.item.record, index)
    if wanted.embed:
        value["embedding"] = features.add(outcome.item.record, found.embedding) if features else _numbers(found.embedding)
    value["seconds"] = round(outcome.seconds, 6)
    return value


def _write_attention(kind: Attention, naming: Naming, answer: _Answer, record: Record, index: int) -> Record:
    import numpy as np

    from visiontk.media.draw import grid, overlay_heatmap

    seen, heat = answer.seen, answer.heat
    assert seen is not None and heat is not None
    name = "attention" if kind is Attention.rollout else "heads"
    picture = overlay_heatmap(seen, heat) if heat.ndim == 2 else grid([overlay_heatmap(seen, head) for head in heat], columns=4)
    if naming.out == "-":
        writers.write_picture(picture)
        return {"kind": kind.value, "picture": "-", "array": "-"}
    picture_path = naming.path(record, index, name, ".png")
    array_path = naming.path(record, index, name, ".npy")
    naming.settle()
    write(picture_path, lambda file: picture.save(file, format="PNG"))
    write(array_path, lambda file: np.save(file, heat))
    return {"kind": kind.value, "picture": str(picture_path), "array": str(array_path)}


def _embedding_file(embed: bool, out: str | None, overwrite: bool) -> EmbeddingFile | None:
    if not (embed and out):
        return None
    from visiontk.embeddings import EmbeddingFile

    return EmbeddingFile(Path(out), overwrite=overwrite)


def _numbers(array: Array) -> list[float]:
    return [float(f"{number:.6g}") for number in array.tolist()]
