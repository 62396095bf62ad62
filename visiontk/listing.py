"""What a name stands for, without decoding it: a URL, a pattern, a folder and what is in it, and how many items inputs come to."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable, Iterator

from .media import clips, images, video

MOVING = frozenset({".gif", ".webp", ".apng"})  # often
_NUMBER = re.compile(r"%0?([1-9][0-9]?)?d")
DAVIS_FRAMES, DAVIS_MASKS = "JPEGImages", "Annotations"  # side by side: the frames of videos, and the truth about them


def walk(folder: str) -> Iterator[str]:
    """Paths of the images and videos under a folder, as `entries` sorts them, hidden ones left out. Links to folders are not followed.

    Where ``JPEGImages/`` and ``Annotations/`` stand side by side, as in DAVIS, the latter are masks and no input. A folder that cannot be
    read is given by its own name: whoever opens that as a file is told why.
    """
    try:
        found = entries(folder)
    except OSError:
        yield folder
        return
    for name, is_dir in found:
        path = os.path.join(folder, name)  # noqa: PTH118  ten times quicker than Path
        if is_dir:
            yield from walk(path)
        elif suffix(name) in images.IMAGE_SUFFIXES | video.VIDEO_SUFFIXES:
            yield path


def entries(folder: str) -> list[tuple[str, bool]]:
    """The names that a folder holds, and whether each is a folder, but for what is hidden and for the masks of a set like DAVIS.

    By name, where numbers count as numbers: what a program wrote as ``9.png`` and ``10.png`` comes in that order.

    Raises:
        OSError: it cannot be read.
    """
    with os.scandir(folder) as scan:  # names alone are kept, because there may be millions
        found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in scan if not entry.name.startswith(".")]
    found.sort(key=lambda entry: clips.in_order(entry[0]))
    if any(name == DAVIS_FRAMES for name, _ in found):
        found = [entry for entry in found if entry[0] != DAVIS_MASKS]
    return found


def count(names: Iterable[str]) -> int | None:
    """How many items these inputs come to, or None where that cannot be known beforehand (pipes, URLs, videos, globs)."""
    total = 0
    for name in names:
        paths = walk(name) if is_folder(name) else iter([name])
        for path in paths:
            if path == "-" or is_url(path) or is_pattern(path) or suffix(path) in video.VIDEO_SUFFIXES:
                return None
            total += 1
    return total


def is_file(name: str) -> bool:
    """Whether a name stands for files and folders alone. What is looked at in a named pipe or a camera would be lost for who reads it."""
    if name == "-" or is_url(name):
        return False
    found = matching(name) if is_pattern(name) else [name]
    return all(os.path.isfile(path) or is_folder(path) or not os.path.lexists(path) for path in found)  # noqa: PTH113  as is_folder


def is_url(name: str) -> bool:
    return name.startswith(("http://", "https://"))


def is_pattern(name: str) -> bool:
    """Whether a name is that of no file but stands for several: ``*.png``, or as FFmpeg has it for the frames of a video, ``f%05d.png``."""
    return is_numbered(name) or (not is_url(name) and glob.has_magic(name) and not os.path.lexists(name))


def is_numbered(name: str) -> bool:
    """Whether a pattern is one of FFmpeg's, whose files are the frames of one video."""
    base = os.path.basename(name)  # noqa: PTH119
    return _NUMBER.search(base) is not None and not glob.has_magic(base) and not is_url(name) and not os.path.lexists(name)


def matching(pattern: str) -> list[str]:
    """What a pattern finds, by name, where numbers count as numbers; folders too."""
    if not is_numbered(pattern):
        return sorted(glob.iglob(pattern, recursive=True), key=clips.in_order)  # noqa: PTH207  Path.glob takes no absolute patterns
    folder, base = os.path.split(pattern)
    *_, number = _NUMBER.finditer(base)
    least = int(number[1] or 1)
    exact = re.compile(re.escape(base[: number.start()]) + f"[0-9]{{{least},}}" + re.escape(base[number.end() :]))
    try:
        found = [name for name in os.listdir(folder or ".") if exact.fullmatch(name)]  # noqa: PTH208
    except OSError:
        return []
    return [os.path.join(folder, name) for name in sorted(found, key=clips.in_order)]  # noqa: PTH118


def is_folder(path: str) -> bool:
    """False also where it cannot be known: Path.is_dir raises for a name that is too long or a folder that may not be searched."""
    return os.path.isdir(path)  # noqa: PTH112


def suffix(path: str) -> str:
    return os.path.splitext(path)[1].lower()  # noqa: PTH122  ten times quicker than Path, and it runs once per file
