"""What every command that answers items does: read inputs, write a line for each, resume, stop well."""

from __future__ import annotations

import io
import itertools
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from visiontk import resume as resuming
from visiontk.errors import ItemError, UsageError
from visiontk.records import Item, Record, error_value, schema
from visiontk.stream import Outcome, Stats

from .console import Report, say
from .writers import JsonLines, Writer

R = TypeVar("R")
T = TypeVar("T")


def inputs_or_pipe(
    inputs: list[str] | None, what: str = "images, folders or videos", sent: str = "paths"
) -> tuple[list[str], io.RawIOBase | None]:
    """The inputs, and the pipe where one of them is ``-``; no inputs mean the pipe.

    ``what`` they are and what is ``sent`` through the pipe, in messages.

    Raises:
        UsageError: there is nothing to read.
    """
    names = list(inputs or ["-"])
    if "-" not in names:
        return names, None
    try:
        mode = os.fstat(0).st_mode
    except OSError as error:
        raise UsageError(f"there is no input; name {what}") from error
    if os.isatty(0) or (not inputs and stat.S_ISDIR(mode)):
        raise UsageError(f"there is no input; name {what}, or send {sent} through a pipe")
    os.set_blocking(0, True)  # who started this may have it otherwise, and what is not there yet would read as the end
    # Unbuffered: a line is read as soon as it is there, and a thread that waits here does not hold up the exit.
    return names, io.FileIO(0, closefd=False)


def stage_key(named: str | None, own: str) -> str:
    """The key of the results in the record: what ``--as`` says, else the command's ``own``.

    Raises:
        UsageError: the record holds something else under that name, so that later stages could not read the line.
    """
    if named is None or named == own:
        return own
    if not named or named in schema()["properties"]:
        raise UsageError(f'--as "{named}" cannot be the name of results: records hold something else there; use one like {own}_2')
    return named


def own_key(items: Iterable[Item[Any]], stage: str) -> Iterator[Item[Any]]:
    """Items whose lines have room for this stage's key. An error under it is replaced; results are not.

    Raises:
        UsageError: a line holds results of that name already.
    """
    for item in items:
        value = item.record.get(stage)
        if item.load is not None and value is not None and not (isinstance(value, dict) and "error" in value):
            raise UsageError(f'the input lines hold "{stage}" already, and it would be lost; name this stage otherwise with --as')
        yield item


def only_one(items: Iterable[T], noun: str) -> Iterator[T]:
    """The one item that ``-o -`` has room for. Raises UsageError for more, before any is made."""
    found = list(itertools.islice(items, 2))
    if len(found) > 1:
        raise UsageError(f"-o - has room for one image, and there are several {noun}; name a folder with -o")
    return iter(found)


def held_lines(file: Path | None, stage: str, note: resuming.Note | None = None) -> resuming.Held:
    """What ``--resume FILE`` holds; nothing without it. ``note`` as `resume.read_held` takes it."""
    return resuming.read_held(file, stage, note=note) if file else resuming.Held()


def same_dtype(before: str | None, now: str, file: Path | None) -> None:
    """Raise UsageError where ``--resume`` would put what was computed in two types of numbers into one file; None is not known."""
    if before not in (None, now):
        raise UsageError(f"{file} was written in {before} and this run computes in {now}; give --dtype {before}, or name a new file")


def same_model(held: resuming.Held, model: str, revision: str, file: Path | None) -> None:
    """Raise UsageError where ``--resume`` would put two models' answers into one file."""
    if held.model is None or held.model == (model, revision):
        return
    if held.model[0] == model:
        raise UsageError(f"{file} was written by another revision of {model} ({held.model[1]}); name a new file")
    raise UsageError(f"{file} was written by {held.model[0]} and this run uses {model}; pass --model {held.model[0]}, or name a new file")


def drive(
    outcomes: Iterator[Outcome[R]],
    stage: str,
    value: Callable[[Outcome[R], int], Record],
    writer: Writer,
    report: Report,
    stats: Stats,
    resume: Path | None,
    first: int = 0,
    *,
    resumable: bool = True,
) -> int:
    """Write one line per outcome and return the exit code: 0, or 3 where items failed.

    ``value(outcome, index)`` makes what stands under the stage's key; an `ItemError` that it raises fails the item. The index counts on
    from ``first``, the number of lines that a stopped run left. ``resumable``: whether --resume
    could go on with JSON lines of this run.
    """
    with report:
        try:
            for index, outcome in enumerate(outcomes, first):
                line, error = _line(outcome, stage, value, index)
                stats.failed += error is not outcome.error
                writer.write(line)
                report.advance(replace(outcome, error=error), stats)
        except KeyboardInterrupt:
            report.__exit__()
            way = ""
            if resumable and isinstance(writer, JsonLines):
                hint = "" if resume else ", where FILE.jsonl holds the lines that were written"
                way = f"; go on with the same command and --resume {resume or 'FILE.jsonl'}{hint}"
            say(f"interrupted after {stats.items} items{way}")
            raise
        finally:
            outcomes.close()  # type: ignore[attr-defined]
    report.summary(stats)
    return 3 if stats.failed else 0


def _line(outcome: Outcome[R], stage: str, value: Callable[[Outcome[R], int], Record], index: int) -> tuple[Record, ItemError | None]:
    """The line of one item, and why it failed if it did: in the model, or after it in ``value``."""
    record, error = outcome.item.record, outcome.error
    if outcome.item.load is None:
        return record, None
    if error is None:
        try:
            return {**record, stage: value(outcome, index)}, None
        except ItemError as late:
            error = late
    return {**record, stage: error_value(error)}, error
