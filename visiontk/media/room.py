"""Room on the disk for the end of a file, taken while there is some: a full disk is then known while the file can still be finished."""

from __future__ import annotations

import errno
import io
import os
from typing import BinaryIO

_STEP = 2**20  # bytes that are taken at once beyond what is asked for, where there are so many
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class Room:
    """A file that is written as it would be without this, and holds as many bytes ahead of its end as `keep` was asked for.

    Where the file is none on a disk, or its disk has less room than that from the start, nothing is held and writing fails where it fails.

    Attributes:
        end: bytes that are written.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.end = self._held = 0  # bytes: written, and taken
        self._tried = False
        try:
            self._descriptor = file.fileno() if hasattr(os, "posix_fallocate") else None
        except io.UnsupportedOperation:
            self._descriptor = None

    def keep(self, size: int) -> None:
        """Have room for ``size`` more bytes than are written. Raises OSError where there was before and is none any more."""
        if self._descriptor is None or self._held - self.end >= size:
            return
        try:
            self._take(size)
        except OSError as error:
            if error.errno in _FULL and self._held:
                raise
            self._descriptor = None

    def trim(self) -> None:
        """Give back what is held, or was when there was no room for all of it, and end the file where it was written to. Raises OSError."""
        if self._tried:
            self._file.flush()
            if os.fstat(self._file.fileno()).st_size > self.end:
                os.ftruncate(self._file.fileno(), self.end)

    def write(self, data: bytes) -> int:
        written = self._file.write(data)
        self.end = max(self.end, self._file.tell())
        return written

    def seek(self, place: int, whence: int = os.SEEK_SET) -> int:
        return self._file.seek(place, whence)

    def tell(self) -> int:
        return self._file.tell()

    def seekable(self) -> bool:
        return self._file.seekable()

    def _take(self, size: int) -> None:
        assert self._descriptor is not None
        begin, self._tried = max(self._held, self.end), True
        for more in (_STEP, 0):
            try:
                os.posix_fallocate(self._descriptor, begin, self.end + size + more - begin)
            except OSError as error:
                if more and error.errno in _FULL:
                    continue
                raise
            self._held = self.end + size + more
            return
