"""Where the files of a run of `visiontk segment` are, for a person to read when it is done."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from .segment_names import Kind

MOST = 3
NAMES = {  # of one file, of several
    Kind.overlay: ("an overlay is", "overlays are"),
    Kind.masks: ("masks are", "masks are"),
    Kind.binary: ("a binary mask is", "binary masks are"),
    Kind.coco: ("COCO annotations are", "COCO annotations are"),
    Kind.yolo: ("YOLO labels are", "YOLO labels are"),
    Kind.cutout: ("a cutout is", "cutouts are"),
    Kind.npz: ("arrays of masks are", "arrays of masks are"),
}


@dataclass
class _Places:
    """The first few of one kind, and the folder that all are in."""

    count: int
    folder: str
    first: list[tuple[str, bool]] = field(default_factory=list)  # whether these are several files


class Places:
    """Takes the files of one item after the other; of more than `MOST` items there is one line for each kind."""

    def __init__(self) -> None:
        self._of: dict[Kind, _Places] = {}

    def note(self, kind: Kind, files: Sequence[str]) -> None:
        """Files of one item, or a folder, which ends in a slash."""
        if not files:
            return
        place = files[0] if len(files) == 1 else _pattern(files)
        folder = os.path.dirname(place.rstrip("/"))  # noqa: PTH120  Path would turn none into "."
        known = self._of.setdefault(kind, _Places(0, folder))
        known.count += 1
        known.folder = os.path.commonpath([known.folder, folder])
        if len(known.first) < MOST:
            known.first.append((place, len(files) > 1 or place.endswith("/")))

    def lines(self) -> Iterator[str]:
        for kind in (kind for kind in Kind if kind in self._of):
            known, (one, several) = self._of[kind], NAMES[kind]
            if known.count > MOST:
                yield f"{several} in {known.folder or '.'}/"
            else:
                yield from (f"{several if many else one} in {place}" for place, many in known.first)


def _pattern(files: Sequence[str]) -> str:
    """``a-cutout-*.png``, of files that differ from the number of their object on."""
    same = os.path.commonprefix(files)  # noqa: RUF071  character by character is what is wanted
    return same.rstrip("0123456789") + "*" + os.path.splitext(files[0])[1]  # noqa: PTH122  as dirname above
