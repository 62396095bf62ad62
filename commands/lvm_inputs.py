"""The pictures that `visiontk lvm-continue` reads, and how many of them make a sentence."""

from __future__ import annotations

import io
import os
import shlex
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from visiontk.errors import ItemError, UsageError
from visiontk.records import Failing, Item

from .lvm_prompt_lines import KEY
from .lvm_read import ReadFiles

if TYPE_CHECKING:
    from PIL.Image import Image

    from visiontk.sources import Reading


def check_no_lines(names: list[str]) -> None:
    """Raise UsageError for a file of lines, which is read as a pipe alone."""
    lines = next((name for name in names if name.lower().endswith(".jsonl") and os.path.isfile(name)), None)  # noqa: PTH113
    if lines is not None:
        raise UsageError(f"{lines} holds lines; send it through the pipe: visiontk lvm-continue < {shlex.quote(lines)}")


def check_names(names: list[str], pairs: bool) -> None:
    """Raise UsageError for picture files that cannot make a sentence, before a model is loaded; what else is named is known later."""
    from visiontk import listing

    if all(os.path.isfile(name) or os.path.isdir(name) for name in names):  # noqa: PTH112, PTH113  Path raises for names too long
        if any(next(listing.walk(name), None) == name for name in names if os.path.isdir(name)):  # noqa: PTH112
            return  # it may not be read, which `unreadable` tells
        if any(os.path.isfile(name) and _is_video(name) for name in names):  # noqa: PTH113
            return
        count = listing.count(names)
        if count:
            check_count(count, pairs)


Broken = tuple[Item[Any], ItemError]


def unreadable(names: list[str]) -> list[Broken]:
    """Pictures that cannot be read, where that shows before a model is loaded: a file is missing, or its first bytes are no picture's.

    Then all files that are named as pictures are tried, so that a user learns of all at once; else this costs the reading of headers.
    """
    from visiontk import sources

    def broken(some: list[str]) -> list[Broken]:
        tried = ((item, load_error(item)) for item in sources.from_arguments(some, None, sources.Reading()))
        return [(item, error) for item, error in tried if error is not None]

    doubtful = {name for name in names if _is_doubtful(name)}
    if not broken([name for name in names if name in doubtful]):
        return []
    return broken([name for name in names if name in doubtful or (os.path.isfile(name) and not _is_video(name))])  # noqa: PTH113


def _is_doubtful(name: str) -> bool:
    """Whether a name may be that of nothing: no such file, a folder or pattern without pictures, or what is no picture."""
    from visiontk import listing
    from visiontk.media import images, video

    if listing.is_url(name) or video.is_camera(name):
        return False
    if os.path.isdir(name):  # noqa: PTH112
        return next(listing.walk(name), name) == name  # empty, or it may not be read
    if listing.is_pattern(name):
        return not listing.matching(name)
    if os.path.isfile(name):  # noqa: PTH113
        return not _is_video(name) and images.size_of(name) is None
    return not os.path.lexists(name)


def _is_video(name: str) -> bool:
    from visiontk.media import sniff, video

    return os.path.splitext(name)[1].lower() in video.VIDEO_SUFFIXES or sniff.is_video_file(name)  # noqa: PTH122


def load_error(item: Item[Any]) -> ItemError | None:
    """Why an item cannot be read, by reading it."""
    try:
        if item.load is not None:
            item.load()
    except ItemError as error:
        return error
    return None


def check_count(count: int, pairs: bool, thinning: str = "") -> None:
    """Raise UsageError for so many pictures that they are no sentence; ``thinning`` is the options that left out others."""
    if count == 1 and thinning:
        raise UsageError(f"{thinning} leaves one image only: it does not show how to go on; leave more of them, or name two or more")
    if count == 1:
        shown = "a query without a pair shows no task; name image and answer, at least once, before it"
        still = "it does not show how to go on; name two images or more, or --all-frames of one that moves"
        raise UsageError(f"there is one image only: {shown if pairs else still}")
    if pairs and count % 2 == 0:
        raise UsageError(f"{count} images are no pairs and a query; name an odd number: image, answer, image, answer, ..., query")


def thinned(
    names: Iterable[str], pipe: io.RawIOBase | None, reading: Reading, stride: int, frames: int | None, read: ReadFiles
) -> Iterator[Item[Image]]:
    """The items of the inputs, without those that ``stride`` and ``frames`` leave out. ``read`` notes the files of all of them.

    Each video and each folder is counted for itself, and so are pictures that are named one after the other; what comes through a pipe, or
    of a pattern, is of the folder that it lies in. A video's frames come as its reader has them, which is every ``stride``-th already; what
    a line names as a frame is wanted.
    """
    from visiontk import listing, sources

    alone = 0  # pictures that were named one after the other
    for name in names:
        named = name != "-" and not listing.is_folder(name) and not listing.is_pattern(name)
        places: dict[str, int] = {}
        for item in read.noted(sources.from_arguments([name], pipe, reading)):
            broken = isinstance(item.load, Failing)
            if item.load is None or KEY in item.record or (broken and "frame" not in item.record):
                yield item
                continue
            path = item.record.get("path", "")
            video = path if "frame" in item.record else None
            # The pages of a file have no time, by which its reader could have left some out.
            step = 1 if video is not None and ("time" in item.record or (name == "-" and path != "-")) else stride
            if named and video is None:
                place, alone = alone, alone + 1
            else:
                own = video or os.path.dirname(path)  # noqa: PTH120
                place, alone = places.get(own, 0), 0
                places[own] = place + 1
            number, between = divmod(place, step)
            if (broken or not between) and (frames is None or number < frames):  # what fails is not what a stride leaves out
                yield item
            elif frames is not None and number >= frames and video == name:
                break  # the rest of the video need not be decoded
