"""What an earlier run left where files are written again: its frames and objects that do not come now would pass for this run's."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from visiontk.errors import OutputError

from .segment_names import PER_OBJECT, SUFFIXES, Kind

_NUMBERED = re.compile(r"(.*?)\d+", re.DOTALL)
_OBJECT = re.compile(r"\d{3,}")
_OF_OBJECT = re.compile(rf"(.*(?:{'|'.join(PER_OBJECT)})-)[1-9]\d*\.(?i:png)", re.DOTALL)


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
            _remove(path)

    def _found(self, kind: Kind, folder: Path) -> Iterator[Path]:
        pattern = ("*/*" if kind in PER_OBJECT else "*") + SUFFIXES[kind]
        for path in folder.glob(pattern):
            match = _NUMBERED.fullmatch(path.stem)
            numbered = match is not None and match[1] in self._beginnings and len(path.stem) - len(match[1]) >= self._digits
            if numbered and (kind not in PER_OBJECT or _OBJECT.fullmatch(path.parent.name)):
                yield path


class EarlierObjects:
    """Files of objects of single pictures, ``NAME-binary-4.png``, that were there before. Each folder is listed once."""

    def __init__(self) -> None:
        self._folders: dict[Path, dict[str, set[Path]]] = {}

    def remove(self, nobody: Path, written: Collection[Path]) -> None:
        """Remove those of one picture and kind that this run has not ``written`` and that are visiontk's own by what stands in them.

        ``nobody`` is the name that object 0 would have, which there is none of. Where it does not end in the object's number, as the name
        of a second picture that is called alike, nobody can tell whose files these are, and they stay.

        Raises:
            OutputError: a file cannot be removed.
        """
        if nobody.parent not in self._folders:
            self._folders[nobody.parent] = self._listed(nobody.parent)
        if nobody.stem.endswith("-0"):
            for path in sorted(self._folders[nobody.parent].pop(nobody.stem[:-1], set()).difference(written)):
                _remove(path)

    def remove_one(self, path: Path) -> None:
        """Remove the file of a picture's only object if it is visiontk's own. Raises OutputError."""
        _remove(path)

    def _listed(self, folder: Path) -> dict[str, set[Path]]:
        """Files by their names up to the object's number."""
        found: dict[str, set[Path]] = {}
        for path in folder.iterdir() if folder.is_dir() else ():
            if match := _OF_OBJECT.fullmatch(path.name):
                found.setdefault(match[1], set()).add(path)
        return found


def _remove(path: Path) -> None:
    """Remove a file if it is visiontk's own, and the folder of an object that is empty then. Raises OutputError."""
    try:
        if _is_own(path):
            path.unlink()
            if _OBJECT.fullmatch(path.parent.name) and not any(path.parent.iterdir()):
                path.parent.rmdir()
    except FileNotFoundError:
        return  # someone else was quicker
    except OSError as error:
        raise OutputError(f"cannot remove {path} of an earlier run ({error.strerror}); name another place with -o") from error


def _is_own(path: Path) -> bool:
    from visiontk.media import mask_files, masks

    return mask_files.is_own_yolo(path) if path.suffix == SUFFIXES[Kind.yolo] else masks.is_own_png(path)
