"""`visiontk replay`."""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from visiontk import stream
from visiontk.artefacts import Naming, write
from visiontk.errors import ItemError, UsageError
from visiontk.records import Item, Record, error_value
from visiontk.runtime import Runtime

from . import classify_view, generate_again, generate_names, generate_view, interrupts, options, running, writers
from .console import say
from .generate_again import Original, Replayer
from .generate_progress import GenerateReport
from .generate_recipe import Gone


def replay(
    inputs: Annotated[
        list[str] | None,
        typer.Argument(metavar="IMAGE|RECORD", show_default=False, help="Images, files of records, or records; - for a pipe of them."),
    ] = None,
    model: Annotated[str | None, typer.Option("--model", "-m", metavar="NAME", help="Where the model is now, if not where it was.")] = None,
    no_safety: Annotated[bool, typer.Option("--no-safety", help="Run without the model's own safety checker, where it has one.")] = False,
    format: options.Format = None,
    out: options.Out = None,
    overwrite: options.Overwrite = False,
    device: options.Device = None,
    dtype: options.Dtype = None,
    threads: options.Threads = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    debug: options.Debug = False,
) -> int:
    """Make an image again, and say whether it is the same.

    What the image's file or its record says is read back: the same model, options, device, type and batch size, and its init image and
    mask where they still are. On the same machine the new file, visiontk-out/NAME-replay.png, is the same byte for byte.
    Where it is not, the line and the warning say what differs: versions, device, model revision, files that changed, and how many pixels.
    The exit code is 0 when all are the same, 3 when one is not.

    \b
    visiontk replay visiontk-out/000000-a-red-apple-0.png
    visiontk replay lines.jsonl --format tsv
    jq -c 'select(.generate.seed == 7)' lines.jsonl | visiontk replay -
    """
    writers.check(format, None)
    asked = Runtime.parse(device=device or "auto", dtype=dtype or "auto", threads=threads or "auto")
    names, pipe = running.inputs_or_pipe(inputs)
    naming = Naming(None if out == "-" else out, overwrite)
    suffix = None if out == "-" else generate_names.suffix(out)
    form, writer = writers.choose(
        format, None, generate_view.REPLAY_COLUMNS, generate_view.replay_rows, generate_view.replay_view, lambda: console, out
    )
    on_stdout = form == "table" and sys.stdout.isatty()
    report = GenerateReport(quiet=quiet, count=lambda: None if pipe else len(names), on_stdout=on_stdout, verbose=verbose)
    console = report.progress.console if report.progress and form == "table" else classify_view.console()
    replayer = Replayer(model, device, dtype, asked.threads, not no_safety, report.warn)
    stats, others = stream.Stats(), 0
    with report:
        for index, (record, read) in enumerate(generate_again.read_inputs(names, _lines(pipe))):
            if out == "-" and index:
                raise UsageError("-o - has room for one image, and there are more; name a folder with -o")
            report.begin()
            outcome = _replay(replayer, record, read, None if out == "-" else partial(naming.path, index=index), suffix, report)
            stats.count(outcome)
            writer.write({**outcome.item.record, "replay": error_value(outcome.error) if outcome.error else outcome.result})
            report.advance(outcome, stats)
            if outcome.result and not outcome.result["same"]:
                others += 1
                report.warn(f"{outcome.result['of']} is not made again: {_shown(outcome.result)}")
    report.summary(stats)
    if others and not quiet:
        say(f"{others} of {stats.items} images were not made again as they were", "warning")
    return 3 if others or stats.failed else 0


def _lines(pipe: io.RawIOBase | None) -> Iterator[bytes]:
    """Of the pipe, one image's bytes aside."""
    if pipe is None:
        return iter(())
    from visiontk.media import images, pipes

    head = pipes.read_head(pipe)
    if images.looks_like_image(head):
        raise UsageError("the pipe holds an image's bytes; name its file, so that the new one can be compared with it")
    return pipes.lines(head, pipe, b"\n")


def _replay(
    replayer: Replayer,
    record: Record,
    read: Callable[[], Original],
    name: Callable[..., Path] | None,
    suffix: str | None,
    report: GenerateReport,
) -> stream.Outcome[Record]:
    """One image made again and written. Raises OutputError, and what ends the run of a model."""
    begun = time.perf_counter()
    try:
        original = read()
        of, kind = original.path, suffix or original.suffix
        path = None if name is None else name({"path": of}, kind="replay", suffix=kind)
        try:
            again = replayer.again(original, report.step)
        except Gone as gone:
            return stream.Outcome(_Known(record, lambda: None), {"of": of, "same": False, "differences": [gone.message]})
        data = again.encoded(kind, original)
        if path is None:
            writers.write_bytes(data)
        else:
            with interrupts.held():
                write(path, lambda file: file.write(data))
    except ItemError as error:
        return stream.Outcome(_Known(record, lambda: None), error=error)
    value = {"of": of, **again.value, "seconds": round(time.perf_counter() - begun, 6)}
    return stream.Outcome(_Known({**record, "path": "-" if path is None else str(path)}, lambda: None), value)


class _Known(Item[None]):
    @property
    def where(self) -> str:
        return str(self.record.get("path", self.record.get("input", "a record")))


def _shown(value: Record) -> str:
    words = "; ".join(value["differences"])
    if "changed" not in value:
        return words
    changed = value["changed"]
    return f"{words}; {changed['pixels']} of {changed['of']} pixels differ, by up to {changed['most']} of 255"
