"""What is measured: pictures, each with the prompt and the seed that it was made from, as far as they are known."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visiontk.errors import ItemError, UsageError
from visiontk.records import Item, Record, failed

if TYPE_CHECKING:
    from PIL.Image import Image

LINES = ".jsonl"


@dataclass(frozen=True)
class Picture:
    """RGB, and what it was made from."""

    image: Image
    prompt: str | None
    seed: int | None


def read(names: list[str], pipe: io.RawIOBase | None, key: str) -> Iterator[Item[Picture]]:
    """Items of pictures, folders, patterns, and of lines: a pipe (``-``) or files that end in ``.jsonl``.

    The prompt stands in the line under ``key``, else in the picture's own file. A line whose picture was not made fails.

    Raises:
        UsageError: a file of lines cannot be read.
    """
    from visiontk import sources

    for name in names:
        if name.lower().endswith(LINES):
            found = sources.from_pipe(_open(name), sources.Reading())
        else:
            found = sources.from_arguments([name], pipe, sources.Reading())
        for item in found:
            yield _with_prompt(item, key)


def count(names: list[str]) -> int | None:
    """How many pictures there are, or None where that cannot be known beforehand."""
    from visiontk import listing

    return None if any(name.lower().endswith(LINES) for name in names) else listing.count(names)


def _with_prompt(item: Item[Image], key: str) -> Item[Picture]:
    value = item.record.get(key)
    about = value if isinstance(value, dict) else {}
    if "error" in about:  # the path is then that of an image to begin with, or none
        return failed(item.record, ItemError("not_generated", f"the picture was not made ({_message(about['error'])})"))
    load = item.load
    return Item(item.record, None if load is None else lambda: _picture(load(), about or _embedded(item.record)))


def _picture(image: Image, about: Record) -> Picture:
    prompt, seed = about.get("prompt", about.get("text")), about.get("seed")
    return Picture(image, prompt if isinstance(prompt, str) else None, seed if isinstance(seed, int) else None)


def _embedded(record: Record) -> Record:
    """What the picture's file says of how it was made; nothing, where it does not."""
    from visiontk.media import embedded, files

    path = record["path"]
    if "frame" in record or not os.path.isfile(path):  # noqa: PTH113  as in visiontk.listing
        return {}
    try:
        found = json.loads(embedded.read(files.read(path)))
    except (ItemError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _message(error: Any) -> str:
    return str(error.get("message", error)) if isinstance(error, dict) else str(error)


def _open(name: str) -> io.RawIOBase:
    try:
        return io.FileIO(Path(name).expanduser())
    except OSError as error:
        raise UsageError(f"cannot read {name} ({error.strerror or error}); name a file of lines") from error
