"""The files that a run over visual sentences reads, so that it writes over none of them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from visiontk.errors import ItemError
from visiontk.records import Item, Record

from .lvm_prompt_lines import KEY


class ReadFiles:
    """Files by their places on the disk, so that a link to one is the same, and a million of them take little room."""

    def __init__(self) -> None:
        self._places: set[tuple[int, int]] = set()
        self._last: object = None

    def noted(self, items: Iterable[Item[Any]]) -> Iterator[Item[Any]]:
        """The same items, whose files are known from then on: also those that no sentence has room for."""
        for item in items:
            self._note(item.record)
            yield item

    def add(self, names: Iterable[object]) -> None:
        """Files by their names; what is none, is not there or comes through a pipe is left out."""
        self._places.update(place for name in names if isinstance(name, str) and name != "-" and (place := _place(name)))

    def refuse(self, path: Path) -> None:
        """Raise ItemError (``exists``) for a file that is read."""
        if self.has(path):
            raise ItemError("exists", f"{path} is what was read; choose another place with -o")

    def has(self, path: Path) -> bool:
        """Whether this is one of them, by whatever name."""
        return _place(path) in self._places

    def _note(self, record: Record) -> None:
        """The file that a line is about, which frames of a video share, and those of its sentence."""
        path = record.get("path")
        if path != self._last:
            self.add([path])
            self._last = path
        prompt = record.get(KEY)
        if isinstance(prompt, dict):
            frames = prompt.get("frames")
            self.add([*(frames if isinstance(frames, list) else []), prompt.get("truth")])


def _place(name: str | Path) -> tuple[int, int] | None:
    try:
        found = os.stat(name)  # noqa: PTH116  Path.stat raises other errors for names that no file can have
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino
