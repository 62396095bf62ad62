"""The kinds of files that `visiontk segment` makes, and what each is called by `-o`."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from visiontk.artefacts import Naming, is_folder
from visiontk.errors import ItemError, UsageError
from visiontk.records import Failing, Record

if TYPE_CHECKING:
    from visiontk.sources import Reading


class Kind(StrEnum):
    overlay = "overlay"
    masks = "masks"
    binary = "binary"
    coco = "coco"
    yolo = "yolo"
    cutout = "cutout"
    npz = "npz"

    @property
    def shown(self) -> str:
        """What it shows, as the file's name says it; an array of masks says the rest with its suffix."""
        return "masks" if self is Kind.npz else self.value


PER_OBJECT = (Kind.binary, Kind.cutout)
CLIP_SUFFIXES = {Kind.overlay: ".mp4", Kind.npz: ".npz"}  # of what is one file of a clip; others are folders
SUFFIXES = {Kind.overlay: ".png", Kind.masks: ".png", Kind.binary: ".png", Kind.cutout: ".png", Kind.yolo: ".txt", Kind.npz: ".npz"}
# DAVIS lays masks out as VIDEO/00000.png, and SA-V as VIDEO/001/00000.png.
BARE = (Kind.masks, Kind.binary)


def parse(text: str) -> list[Kind]:
    """``--save``. Raises UsageError."""
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in list(Kind):
            raise UsageError(f"--save {text}: there is no kind {name!r}; use {', '.join(Kind)}, with commas between several")
    return [kind for kind in Kind if kind in names]


def plain(out: str | None, kinds: Sequence[Kind], suffixes: Mapping[Kind, str]) -> Kind | None:
    """The kind that is called just as a file or a template says that does not name the kind: the overlay, or what alone has its suffix.

    All others have their kind behind that name. ``suffixes`` are those of what is a file; none is that of a folder.
    """
    if out is None or not _names_one(out):
        return None
    given = _suffix(out)
    pairs = [(kind, suffixes.get(kind, "")) for kind in kinds if kind is not Kind.coco]
    fitting = [kind for kind, suffix in pairs if suffix == given or (not given and not out.endswith("/"))]
    return Kind.overlay if Kind.overlay in fitting else fitting[0] if len(fitting) == 1 else None


def of_clip(naming: Naming, kinds: Sequence[Kind], about: Record, index: int) -> dict[Kind, Path]:
    """The files and folders of one video. Raises ItemError, as `Naming.path` does."""
    out = naming.out
    whole = plain(out, kinds, CLIP_SUFFIXES)
    one_folder = out is None or not _names_one(out) or not _suffix(out)
    paths: dict[Kind, Path] = {}
    bare: Path | None = None
    for kind in kinds:
        if kind in BARE and one_folder:
            paths[kind] = bare = bare or naming.path(about, index, Kind.masks.shown if "{kind" in (out or "") else "", "")
        elif kind is not Kind.coco:
            paths[kind] = naming.path(about, index, "" if kind is whole else kind.shown, CLIP_SUFFIXES.get(kind, ""))
    return paths


def of_run(naming: Naming) -> Path:
    """The COCO file. Raises ItemError."""
    out = naming.out or ""
    if "{kind" in out:
        return naming.path({"path": "run"}, 0, Kind.coco.shown, ".json")
    other = out and "{" not in out and _names_one(out) and _suffix(out) != ".json"
    return naming.path({"path": Kind.coco.shown}, 0, Kind.coco.shown if other else "", ".json")


def wrong_for_clip(out: str | None, kinds: Sequence[Kind]) -> str | None:
    """What is wrong with ``-o`` for a video, if anything is: it is of another type than all that is saved, or has a frame's number."""
    suffixes = [CLIP_SUFFIXES.get(kind, ".json") for kind in kinds if kind in CLIP_SUFFIXES or kind is Kind.coco]
    if given := _other_suffix(out, kinds, suffixes):
        cure = f"name a file that ends in {' or '.join(suffixes)}, or a folder" if suffixes else "name a folder, with a / at its end"
        return f"-o {out}: what is saved of a video ({', '.join(kinds)}) is no {given} file; {cure}"
    if kinds and "{frame" in (out or ""):
        return f"-o {out}: a video has no {{frame}}, as it is tracked as a whole; leave that out, its folders have a file for each frame"
    return None


def wrong_for_picture(out: str | None, kinds: Sequence[Kind], record: Record) -> str | None:
    """Likewise for a picture, or a line about one frame of a video."""
    suffixes = [*dict.fromkeys(SUFFIXES.get(kind, ".json") for kind in kinds)]
    given = _other_suffix(out, kinds, suffixes)
    if not given:
        return None
    path, cure = record.get("path"), f"name one that ends in {' or '.join(suffixes)}, or a folder"
    shown = f"{path} is a picture"
    if "frame" in record:
        shown, cure = f"the line is of one frame of {path}", f"name {path} itself to track through it, take --sequence, or {cure}"
    return f"-o {out}: {shown}, and what is saved of it ({', '.join(kinds)}) is no {given} file; {cure}"


def check_inputs(names: Sequence[str], out: str | None, kinds: Sequence[Kind], reading: Reading) -> None:
    """Raise UsageError where ``-o`` is wrong for one of the inputs, as far as these are files that say what they are."""
    if wrong_for_clip(out, kinds) is None and wrong_for_picture(out, kinds, {}) is None:
        return
    for path, is_clip in _told(names, reading):
        wrong = wrong_for_clip(out, kinds) if is_clip else wrong_for_picture(out, kinds, {"path": path})
        if wrong:
            raise UsageError(wrong)


def _told(names: Sequence[str], reading: Reading) -> Iterator[tuple[str, bool]]:
    """What inputs come to, and whether it is a video. Left out are pipes, what only its bytes tell, and what cannot be read."""
    from visiontk import listing, sources
    from visiontk.media import files, images, video

    yield from ((name, True) for name in names if listing.is_url(name) and listing.suffix(name) in video.VIDEO_SUFFIXES)
    for item in sources.from_arguments_whole(filter(listing.is_file, names), None, replace(reading, notice=None)):
        path = item.record["path"]
        if isinstance(item.load, Failing):
            continue
        if listing.is_folder(path) or listing.suffix(path) in video.VIDEO_SUFFIXES:
            yield path, True
        elif listing.suffix(path) in images.IMAGE_SUFFIXES and os.path.isfile(path):  # noqa: PTH113  as is_folder
            with contextlib.suppress(ItemError):
                yield path, listing.suffix(path) in listing.MOVING and images.is_animated(files.read(path))


def _names_one(out: str) -> bool:
    """Whether this is a file, or a template without the kind: a name for one file of an item."""
    return "{kind" not in out and ("{" in out or not is_folder(out))


def _suffix(out: str) -> str:
    return "" if out.endswith("/") else Path(out).suffix.lower()


def _other_suffix(out: str | None, kinds: Sequence[Kind], suffixes: Collection[str]) -> str | None:
    """The suffix of the file or template that ``-o`` names, where it is none of those that the kinds have."""
    if out is None or out == "-" or not kinds or ("{" not in out and is_folder(out)):
        return None
    given = _suffix(out)
    return given if given and given not in suffixes else None
