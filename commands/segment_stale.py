"""What an earlier run left in a folder of frames that is written again: its frames that do not come now would pass for this run's."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from visiontk.errors import OutputError

from .segment_outputs import PER_OBJECT, SUFFIXES, Kind

_NUMBERED = re.compile(r"(.*?)\d+", re.DOTALL)
_OBJECT = re.compile(r"\d{3,}")


class Earlier:
    """Numbered files of one folder, and of its objects' folders, that were there before.

    ``stems`` are the names of the frames where those are files: then a file of an earlier run begins as they do, and else it is a number of
    five digits.
    """

    def __init__(self, kinds: Sequence[Kind], folder: Path, stems: Sequence[str]) -> None:
        self._beginnings = {match[1] for stem in stems if (match := _NUMBERED.fullmatch(stem))} if stems else {""}
        self._digits = 1 if stems else 5
        self._left = {path for kind in kinds for path in self._found(kind, folder)}

    def written(self, path: Path) -> None:
        """This one is of this run."""
        self._left.discard(path)

    def remove(self) -> None:
        """Remove the others that are visiontk's own by what stands in them, and folders of objects that are empty then.

        Raises:
            OutputError: a file cannot be removed.
        """
        for path in sorted(self._left):
            try:
                if _is_own(path):
                    path.unlink()
                    if _OBJECT.fullmatch(path.parent.name) and not any(path.parent.iterdir()):
                        path.parent.rmdir()
            except OSError as error:
                raise OutputError(f"cannot remove {path} of an earlier run ({error.strerror}); name another place with -o") from error

    def _found(self, kind: Kind, folder: Path) -> Iterator[Path]:
        pattern = ("*/*" if kind in PER_OBJECT else "*") + SUFFIXES[kind]
        for path in folder.glob(pattern):
            match = _NUMBERED.fullmatch(path.stem)
            numbered = match is not None and match[1] in self._beginnings and len(path.stem) - len(match[1]) >= self._digits
            if numbered and (kind not in PER_OBJECT or _OBJECT.fullmatch(path.parent.name)):
                yield path


def _is_own(path: Path) -> bool:
    from visiontk.media import mask_files, masks

    return mask_files.is_own_yolo(path) if path.suffix == SUFFIXES[Kind.yolo] else masks.is_own_png(path)
