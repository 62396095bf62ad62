"""What an earlier rendering left in a folder, so that the next one does not mix with it."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_IMAGE, _MASK = re.compile(r"([a-z ]+)/\d{6,}\.png"), re.compile(r"masks/\d{6,}\.png")
_FRAMES, _ANNOTATIONS = re.compile(r"JPEGImages/\d{6,}"), re.compile(r"Annotations/\d{6,}")


def remove_listed(folder: Path, metadata: Path) -> None:
    """Remove the pictures and masks that ``metadata`` lists, as `visiontk.tiny.files` names them, and folders that are then empty.

    Nothing else is touched: other files stay, and so do those of lines that are not ours. Raises OSError.
    """
    if not metadata.is_file():
        return
    emptied = set[Path]()
    for line in metadata.read_text("utf-8", "replace").splitlines():
        for name in _files(line):
            path = folder / name
            path.unlink(missing_ok=True)
            emptied |= set(path.parents) - {folder, *folder.parents}
    for parent in sorted(emptied, key=lambda path: len(path.parts), reverse=True):
        with contextlib.suppress(OSError):  # it holds more, or is gone
            parent.rmdir()


def _files(line: str) -> Iterator[str]:
    """The files of one line; none where it was torn, or written by someone else."""
    try:
        entry: Any = json.loads(line)
    except ValueError:
        return
    if not isinstance(entry, dict) or not {"seed", "index", "objects"} <= entry.keys():
        return
    name, mask, masks = (str(entry.get(key)) for key in ("file_name", "mask", "masks"))
    frames = entry.get("frames")
    if _IMAGE.fullmatch(name):
        yield name
    if _MASK.fullmatch(mask):
        yield mask
    if _FRAMES.fullmatch(name) and _ANNOTATIONS.fullmatch(masks) and isinstance(frames, int):
        for number in range(frames):
            yield f"{name}/{number:05d}.jpg"
            yield f"{masks}/{number:05d}.png"
