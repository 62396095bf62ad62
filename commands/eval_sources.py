"""What a user names as PRED and GT: folders, pictures and lines, found and sorted into videos."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from visiontk.errors import ItemError, UsageError
from visiontk.records import Record, decode

from . import running
from .eval_masks import Folders, Frames, Lines, Truth, Video

SUFFIX = ".png"
_OF_PICTURES = "-masks"  # `visiontk segment --save masks` names those of pictures so
_BESIDE = re.compile(r"-(overlay|(binary|cutout)-\d+)$")  # and so what else it saves of them


def read_truth(name: str) -> dict[str, Truth]:
    """The masks that GT names, by video.

    Raises:
        UsageError: there is nothing of that name, or no masks in it.
    """
    path = Path(name)
    try:
        if path.is_dir():
            return _read_folder(path)
        if path.is_file() and path.suffix.lower() == SUFFIX:
            return {path.stem: Frames(path.stem, {path.stem: path})}
        if path.is_file():
            raise UsageError(f"{name} is no PNG; name a PNG or a folder of them")
    except OSError as error:
        raise UsageError(f"cannot read {name} ({error.strerror or error})") from error
    raise UsageError(f"there is no {name}; name a PNG or a folder of them")


def read_predicted(name: str, key: str) -> dict[str, Video]:
    """The masks that PRED names, by video: as the truth, or lines with the masks under ``key``; ``-`` is the pipe. Raises UsageError."""
    path = Path(name)
    if name == "-" or (path.suffix.lower() != SUFFIX and path.exists() and not path.is_dir()):
        try:
            return _read_lines(name, key)
        except OSError as error:
            raise UsageError(f"cannot read {name} ({error.strerror or error})") from error
    return dict(read_truth(name))


def _read_folder(folder: Path) -> dict[str, Truth]:
    if video := _video(folder):
        return {video.name: video}
    inner = _folders(folder)
    deeper = next((path for path in inner if len(inner) == 1 or path.name == "Annotations"), None)
    if deeper and not _video(deeper):
        return _read_folder(deeper)  # as DAVIS/Annotations/480p
    videos = {path.name: found for path in inner if (found := _video(path))}
    if not videos:
        raise UsageError(f"{folder} holds no masks; name a folder of PNGs as 00000.png, or of such folders")
    return videos


def _video(folder: Path) -> Truth | None:
    """The one video in a folder, if it is one: PNGs, or the folders of three digits that SA-V has for objects."""
    name = folder.resolve().name
    if files := _files(folder):
        return Frames(name, files)
    inner = _folders(folder)
    if not all(len(path.name) == 3 and path.name.isdecimal() for path in inner):
        return None
    objects: dict[int, Frames] = {int(path.name): Frames(path.name, files) for path in inner if (files := _files(path))}
    return Folders(name, objects) if objects else None


def _files(folder: Path) -> dict[str, Path]:
    found = [path for path in folder.iterdir() if path.suffix.lower() == SUFFIX and not path.name.startswith(".")]
    masks = [path for path in found if path.stem.endswith(_OF_PICTURES)]
    if masks and all(path.stem.endswith(_OF_PICTURES) or _BESIDE.search(path.stem) for path in found):
        return {path.stem.removesuffix(_OF_PICTURES): path for path in masks}
    return {path.stem: path for path in found}


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _read_lines(name: str, key: str) -> dict[str, Video]:
    by_path: dict[str, list[Record]] = {}
    _, pipe = running.inputs_or_pipe([name])
    with io.BufferedReader(pipe) if pipe else Path(name).open("rb") as file:
        for record in _records(file, name, key):
            by_path.setdefault(record["path"], []).append(record)
    if not by_path:
        raise UsageError(f"{name} holds no lines of `visiontk segment`; give some")
    videos: dict[str, Lines] = {}
    paths: dict[str, str] = {}
    for path, records in by_path.items():
        found, image = _name_of(Path(path), records)
        if not image and paths.setdefault(found, path) != path:
            raise UsageError(f"{name} has lines of {paths[found]} and of {path}, which are both called {found}; give those of one of them")
        _add(videos.setdefault(found, Lines(found, name)), Path(path).stem if image else None, records, key)
    return dict(videos)


def _records(file: BinaryIO, name: str, key: str) -> Iterator[Record]:
    """The lines that have a path; the others are what stages pass through."""
    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        where = f"{name} line {number}"
        try:
            record = decode(line)
        except ItemError as error:
            raise UsageError(f"{where} is {error.message}; give the lines of `visiontk segment`") from error
        if "path" in record:
            if key not in record:
                raise UsageError(f'{where} has no "{key}"; name the key of the masks with --as')
            if not _holds_objects(record[key]):
                raise UsageError(f'{where}: "{key}" holds no objects; give the lines of `visiontk segment`')
            yield record


def _holds_objects(value: Any) -> bool:
    if not isinstance(value, dict):
        return False
    if isinstance(value.get("error"), dict):
        return True
    objects = value.get("objects")
    return isinstance(objects, list) and all(isinstance(one, dict) and type(one.get("id")) is int for one in objects)


def _name_of(path: Path, records: list[Record]) -> tuple[str, bool]:
    """Where the lines about one path belong: to an image of its folder's set, or to a video of their own; and whether to an image."""
    from visiontk.media.images import IMAGE_SUFFIXES
    from visiontk.media.video import VIDEO_SUFFIXES

    suffix = path.suffix.lower()
    if len(records) == 1 and suffix in IMAGE_SUFFIXES:
        return path.resolve().parent.name, True
    return path.stem if suffix in IMAGE_SUFFIXES | VIDEO_SUFFIXES else path.name, False


def _add(video: Lines, image: str | None, records: list[Record], key: str) -> None:
    """Put the lines about one path into their video, under the name of the ``image`` or the numbers of their frames."""
    for record in records:
        frame = record.get("frame", 0) if image is None else image
        if frame in video.frames:
            raise UsageError(f"{video.source} has two lines for {video.name} frame {frame}; keep the lines of one run")
        value = record[key]
        video.frames[frame] = str(value["error"].get("message")) if "error" in value else value["objects"]
