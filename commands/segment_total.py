"""How many lines the inputs of `visiontk segment` come to, for its progress: as far as their files tell, without decoding them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from visiontk import listing, sources
from visiontk.errors import ItemError
from visiontk.media import files, images, video
from visiontk.media.clips import Clip
from visiontk.records import Item


def count_frames(names: Iterable[str], reading: sources.Reading, lines: Callable[[int], int]) -> int | None:
    """One for each picture, and for each video ``lines`` of its number of frames; None where an input does not tell (pipes, URLs, cameras).

    A folder or a pattern whose pictures are the frames of a video is one, as `sources.from_arguments_whole` has it.
    """
    names = list(names)
    if not all(map(listing.is_file, names)):
        return None
    total = 0
    for item in sources.from_arguments_whole(names, None, replace(reading, notice=None)):
        try:
            frames = _frames(item)
        except ItemError:  # its line will say why
            frames = 1
        if frames is None:
            return None
        total += 1 if frames == 1 else lines(frames)
    return total


def _frames(item: Item[Any]) -> int | None:
    path = item.record["path"]
    suffix = listing.suffix(path)
    if not os.path.lexists(path):
        return 1
    if listing.is_folder(path) or suffix in video.VIDEO_SUFFIXES:
        assert item.load is not None
        clip = item.load()
        return clip.roughly() if isinstance(clip, Clip) else 1
    if suffix not in images.IMAGE_SUFFIXES:
        return None
    return images.frame_count(files.read(path)) if suffix in listing.MOVING else 1
