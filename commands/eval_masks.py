"""Masks to compare, as they lie on a disk: frames of indexed PNGs, a folder per object, or lines of `visiontk segment`."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from visiontk.errors import ItemError, UsageError
from visiontk.media.clips import in_order
from visiontk.records import Record

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from visiontk.metrics.regions import Mask

    IndexMap = NDArray[np.uint16]

BINARY = 255  # a mask of 0 and 255 is one object
_COLOURED = (2, 6)  # the 26th byte of a PNG with colours of its own: what kind of colour


@dataclass(frozen=True)
class Picture:
    """The masks of one frame by object, each (H, W), and their ``shape``; None where there are no masks that would tell."""

    shape: tuple[int, ...] | None
    masks: dict[int, Mask]


@dataclass(frozen=True)
class Frames:
    """A video, or a set of images, whose masks are maps of object numbers: ``00000.png`` and so on, by name without the suffix.

    Where ``shown`` names an object for a frame, its map tells no numbers but where that is: everything above 0.
    """

    name: str
    files: dict[str, Path]
    shown: Mapping[str, int] = field(default_factory=dict)

    def names(self) -> list[str]:
        return sorted(self.files, key=in_order)

    def has(self, frame: str, only: int | None) -> bool:
        return frame in self.files

    @property
    def counts_from_0(self) -> bool:
        """Whether there is an object 0; in a map that is the background."""
        return False

    def are_images(self) -> bool:
        """Whether these are pictures for themselves: not numbered alike as the frames of a video are, or not of one size."""
        from visiontk.media.clips import are_frames
        from visiontk.media.images import size_of

        paths = list(self.files.values())
        return not are_frames([path.name for path in paths]) or any(size_of(str(path)) != size_of(str(paths[0])) for path in paths)

    def where(self, frame: str) -> str:
        return str(self.files.get(frame, f"{self.name} frame {frame}"))

    def map(self, frame: str) -> IndexMap:
        """Object numbers (H, W) of one frame. Raises UsageError."""
        from visiontk.media.masks import read_index_map

        file = self.files[frame]
        try:
            found = read_index_map(file)
        except ItemError as error:
            raise UsageError(error.message) from error
        if found.max() > 1 and _has_colours(file):
            raise UsageError(f"{file} has colours for objects, and they are numbered anew in each frame; save it as a palette PNG")
        return found

    def masks(self, frame: str, only: int | None) -> Picture:
        """Masks of all objects, or of ``only`` one. Raises UsageError."""
        from visiontk.metrics.regions import split

        found = self.map(frame)
        if frame in self.shown:
            found = (found > 0) * found.dtype.type(self.shown[frame])
        return Picture(found.shape, split(found) if only is None else {only: found == only})

    def is_binary(self) -> bool:
        """Whether the first frame that holds anything holds nothing but 255. Raises UsageError."""
        first = next((found for frame in self.names() if (found := self.map(frame)).any()), None)
        return first is not None and bool(((first == 0) | (first == BINARY)).all())

    def numbers(self) -> dict[str, set[int]]:
        """The objects of each frame; 255 beside others is none, but what nobody cares about. Raises UsageError."""
        found = {frame: set(self.masks(frame, None).masks) for frame in self.names()}
        others = set().union(*found.values()) - {BINARY}
        return {frame: numbers - {BINARY} if others else numbers for frame, numbers in found.items()}


@dataclass(frozen=True)
class Folders:
    """A video whose objects have a folder of masks each, as SA-V has it: ``000/00000.png``. Objects may overlap."""

    name: str
    objects: dict[int, Frames]

    def names(self, only: int) -> list[str]:
        return self.objects[only].names()

    @property
    def counts_from_0(self) -> bool:
        """Whether there is an object 0."""
        return 0 in self.objects

    def has(self, frame: str, only: int | None) -> bool:
        """Whether any object has a mask there. One that has none is hidden."""
        return only in (None, *self.objects) and any(frame in frames.files for frames in self.objects.values())

    def before(self, frame: str) -> bool:
        """Whether no object has appeared yet: those that appear later have no files before."""
        return self._first is not None and in_order(frame) < self._first

    @functools.cached_property
    def _first(self) -> str | None:
        """Of all masks, as `in_order` has it; None where there are none."""
        return min((in_order(name) for frames in self.objects.values() for name in frames.files), default=None)

    def where(self, frame: str) -> str:
        return f"{self.name} frame {frame}"

    def masks(self, frame: str, only: int | None) -> Picture:
        """Masks of all objects, or of ``only`` one. Raises UsageError."""
        chosen = {number: frames for number, frames in self.objects.items() if only in (None, number) and frame in frames.files}
        masks = {number: _one_object(frames, frame) for number, frames in chosen.items()}
        return _picture(masks, self.where(frame))


@dataclass(frozen=True)
class Lines:
    """A video or a set of images as `visiontk segment` has answered: by frame number, or by the image's name without the suffix."""

    name: str
    source: str
    frames: dict[str | int, list[Record] | str] = field(default_factory=dict)  # objects, or why there are none

    @property
    def counts_from_0(self) -> bool:
        """Whether there is an object 0. Lines of `visiontk segment` have none."""
        return any(one["id"] == 0 for objects in self.frames.values() if not isinstance(objects, str) for one in objects)

    def has(self, frame: str, only: int | None) -> bool:
        return self._key(frame) in self.frames

    def where(self, frame: str) -> str:
        return f"{self.source}, {self.name} frame {frame}"

    def masks(self, frame: str, only: int | None) -> Picture:
        """Masks of all objects, or of ``only`` one. Raises UsageError."""
        from visiontk.media.masks import decode_rle

        objects = self.frames[self._key(frame)]
        if isinstance(objects, str):
            raise UsageError(f"{self.where(frame)} has no masks ({objects}); segment it again")
        try:
            masks: dict[int, Mask] = {one["id"]: decode_rle(one.get("rle")) for one in objects if only in (None, one["id"])}
        except ItemError as error:
            raise UsageError(f"{self.where(frame)}: {error.message}") from error
        return _picture(masks, self.where(frame))

    def _key(self, frame: str) -> str | int:
        """A frame of the truth among ours: its name, or the number that its name is."""
        return int(frame) if frame not in self.frames and frame.isdecimal() else frame


Truth = Frames | Folders
Video = Frames | Folders | Lines


def _picture(masks: dict[int, Mask], where: str) -> Picture:
    shapes = {mask.shape for mask in masks.values()}
    if len(shapes) > 1:
        raise UsageError(f"{where}: the masks of its objects differ in size; give masks of one size")
    return Picture(shapes.pop() if shapes else None, masks)


def _one_object(frames: Frames, frame: str) -> Mask:
    found = frames.map(frame)
    mask: Mask = found > 0
    if (mask & (found < found.max())).any():
        raise UsageError(
            f"{frames.where(frame)} holds several objects, and a folder of three digits is one; name the video's folder otherwise"
        )
    return mask


def _has_colours(file: Path) -> bool:
    with file.open("rb") as opened:
        return opened.read(26)[-1] in _COLOURED
