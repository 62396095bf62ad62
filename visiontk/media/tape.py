"""Bytes that are read once more while a first reading of them goes on: of an open file, and of a pipe, whose bytes are kept on disk.

A video takes as much room there as it has bytes; its frames would take a hundred times as much.
"""

from __future__ import annotations

import os
from types import TracebackType
from typing import BinaryIO, Self, cast

from .spool import no_room, temporary_file


class Beside:
    """What PyAV needs of a file, of the open file ``descriptor`` from its start; the place up to which others have read it stays."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor, self._at = descriptor, 0

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        origin = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: os.fstat(self._descriptor).st_size}[whence]
        self._at = max(0, origin + offset)
        return self._at

    def read(self, size: int = -1) -> bytes:
        wanted = os.fstat(self._descriptor).st_size - self._at if size < 0 else size
        part = os.pread(self._descriptor, max(0, wanted), self._at)
        self._at += len(part)
        return part


class Tape:
    """A pipe whose bytes are kept in a temporary file as they are read, until `stop`. A context manager.

    Where that file finds no room the pipe is read all the same, and `check` tells: what reads it for PyAV cannot raise.
    """

    def __init__(self, pipe: BinaryIO) -> None:
        self._pipe, self._kept, self._keeps = pipe, temporary_file(), True
        self._error: OSError | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            self._kept.close()
        except OSError:  # what could not be written was said by `check`
            return

    def seekable(self) -> bool:
        return False

    def read(self, size: int = -1) -> bytes:
        part = self._pipe.read(size)
        if self._keeps:
            try:
                self._kept.write(part)
                self._kept.flush()
            except OSError as error:
                self._error, self._keeps = error, False
        return part

    def stop(self) -> None:
        """Keep nothing more: all that will be read again has come."""
        self._keeps = False

    def check(self) -> None:
        """Raise OutputError where something could not be kept."""
        if self._error is not None:
            raise no_room(self._error) from self._error

    def again(self) -> BinaryIO:
        """What was kept, from its start, read like the pipe: an MP4's index is looked for no further back, nor is an end missed."""
        return cast(BinaryIO, _Forward(self._kept.fileno()))


class _Forward(Beside):
    def seekable(self) -> bool:
        return False
