"""The pictures that `visiontk lvm-continue` reads, and how many of them make a sentence."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from visiontk.errors import UsageError
from visiontk.records import Item

from .lvm_prompt_lines import KEY

if TYPE_CHECKING:
    from PIL.Image import Image

    from visiontk.sources import Reading


def check_names(names: list[str], pairs: bool) -> None:
    """Raise UsageError for picture files that cannot make a sentence, before a model is loaded; what else is named is known later."""
    from visiontk import sources

    if all(os.path.isfile(name) or os.path.isdir(name) for name in names):  # noqa: PTH112, PTH113  Path raises for names too long
        count = sources.count(names)
        if count:
            check_count(count, pairs)


def check_count(count: int, pairs: bool) -> None:
    """Raise UsageError for so many pictures that they are no sentence."""
    if count == 1:
        shown = "a query without a pair shows no task; name image and answer, at least once, before it"
        raise UsageError(f"there is one image only: {shown if pairs else 'it does not show how to go on; name two images or more'}")
    if pairs and count % 2 == 0:
        raise UsageError(f"{count} images are no pairs and a query; name an odd number: image, answer, image, answer, ..., query")


def thinned(names: Iterable[str], pipe: io.RawIOBase | None, reading: Reading, stride: int, frames: int | None) -> Iterator[Item[Image]]:
    """The items of the inputs, without those that ``stride`` and ``frames`` leave out.

    Each video is counted for itself, and so are pictures that come one after the other. A video's frames come as its reader has them, which
    is every ``stride``-th already; what a line names as a frame is wanted.
    """
    from visiontk import sources

    run: str | None = ""
    place = 0
    for name in names:
        for item in sources.from_arguments([name], pipe, reading):
            if item.load is None or KEY in item.record:
                yield item
                continue
            video = item.record["path"] if "frame" in item.record and "path" in item.record else None
            if video != run:
                run, place = video, 0
            step = 1 if "time" in item.record else stride
            number, between = divmod(place, step)
            place += 1
            if not between and (frames is None or number < frames):
                yield item
            elif frames is not None and number >= frames and video == name:
                break  # the rest of the video need not be decoded
