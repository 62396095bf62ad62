"""What is too much for memory, on disk until it is needed: bytes by number, in a temporary file that is gone when the process is."""

from __future__ import annotations

import io
import math
import shutil
import struct
import tempfile
from array import array
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import islice
from types import TracebackType
from typing import IO, Self

from PIL import Image

from visiontk.errors import ItemError, OutputError
from visiontk.media.video import VideoFrame

ROOM = 2**34  # bytes of the frames that wait at once, of a video that can be read again; but half of what is free at most
_ABOUT = struct.Struct("<qdddd")  # index, time, rate, pixel aspect, duration; NaN for none


class Spool:
    """Pieces of bytes, appended and read back by their number, in any order; a context manager. Memory: 8 bytes a piece.

    Raises `OutputError` where the disk is full.
    """

    def __init__(self) -> None:
        self._file = temporary_file()
        self._ends = array("Q", [0])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            self._file.close()
        except OSError:  # what could not be written was said when it was
            return

    def __len__(self) -> int:
        return len(self._ends) - 1

    @property
    def size(self) -> int:
        """In bytes, of all pieces together."""
        return self._ends[-1]

    def clear(self) -> None:
        """Forget all pieces, and give their room back."""
        self._file.seek(0)
        self._file.truncate()
        self._ends = array("Q", [0])

    def append(self, piece: bytes) -> None:
        try:
            self._file.seek(self._ends[-1])
            self._file.write(piece)
            self._file.flush()  # a full disk is to be known here and not at the end
        except OSError as error:
            raise no_room(error) from error
        self._ends.append(self._ends[-1] + len(piece))

    def __getitem__(self, number: int) -> bytes:
        if not 0 <= number < len(self):
            raise IndexError(number)
        self._file.seek(self._ends[number])
        return self._file.read(self._ends[number + 1] - self._ends[number])

    def __iter__(self) -> Iterator[bytes]:
        return (self[number] for number in range(len(self)))


class FrameSpool(Spool):
    """Frames of a video, kept without loss."""

    def keep(self, frame: VideoFrame) -> None:
        data = io.BytesIO()
        shown = math.nan if frame.duration is None else frame.duration
        data.write(_ABOUT.pack(frame.index, frame.time, frame.rate, frame.pixel_aspect, shown))
        frame.image.save(data, format="PNG", compress_level=1)
        self.append(data.getvalue())

    def frame(self, number: int) -> VideoFrame:
        piece = self[number]
        index, time, rate, aspect, shown = _ABOUT.unpack_from(piece)
        image = Image.open(io.BytesIO(piece[_ABOUT.size :]), formats=["PNG"])
        image.load()
        return VideoFrame(index, time, image, rate, aspect, None if math.isnan(shown) else shown)


class Backlog(FrameSpool):
    """The frames of a video from number ``start`` on, kept for the way back; a context manager.

    Of a video that can be read ``again`` from any frame on, no more than `ROOM` bytes wait on disk, and no more than half of what is free
    there: where they would be more, the earlier ones are forgotten, and read again when their turn comes, as many at once as there is room
    for.
    """

    def __init__(self, start: int, again: Callable[[int], Iterator[VideoFrame]] | None = None) -> None:
        super().__init__()
        self._start, self._again = start, again
        self._room = min(ROOM, _free() // 2)
        self._first = start  # the number of the first one that waits
        self._whole = True  # none was forgotten yet
        self._kept = self._bytes = 0  # how many frames there were, and of how many bytes

    def keep(self, frame: VideoFrame) -> None:
        if self._again is not None and self.size >= self._room:
            self._forget(frame.index)
        before = self.size
        super().keep(frame)
        self._bytes += self.size - before
        self._kept += 1

    def falling(self, last: int) -> Iterator[VideoFrame]:
        """From ``last`` down to the first one. Raises ItemError where the video cannot be read as before."""
        for number in range(last, self._start - 1, -1):
            if not self._first <= number < self._first + len(self):
                self._read(number)
            yield self.frame(number - self._first)

    def rising(self, count: int) -> Iterator[VideoFrame]:
        """The first ``count`` that there are. Raises ItemError where the video cannot be read again."""
        if self._whole:
            yield from (self.frame(number) for number in range(count))
            return
        assert self._again is not None, "what cannot be read again is never forgotten"
        number = self._start - 1
        with closing(self._again(self._start)) as frames:  # type: ignore[type-var]
            for frame in islice(frames, count):
                number = frame.index
                yield frame
        if number < self._start + count - 1:
            raise _gone(number + 1)

    def _forget(self, first: int) -> None:
        self.clear()
        self._first, self._whole = first, False

    def _read(self, last: int) -> None:
        """Frame ``last``, and before it as many as there is room for."""
        assert self._again is not None, "what cannot be read again is never forgotten"
        fitting = self._room // max(1, self._bytes // self._kept)
        self._forget(max(self._start, last + 1 - max(1, fitting)))
        with closing(self._again(self._first)) as frames:  # type: ignore[type-var]
            for frame in islice(frames, last + 1 - self._first):
                self.keep(frame)
        if self._first + len(self) <= last:
            raise _gone(self._first + len(self))


def _gone(number: int) -> ItemError:
    return ItemError("broken", f"frame {number} was there and is not any more; leave the file alone while it is tracked")


def _free() -> int:
    """Bytes of the disk that temporary files are on. Raises OutputError where no folder takes any."""
    try:
        return shutil.disk_usage(tempfile.gettempdir()).free
    except OSError as error:
        raise no_room(error) from error


def temporary_file() -> IO[bytes]:
    """A file without a name, gone when it is closed. Raises `OutputError` where there is no room for one."""
    try:
        return tempfile.TemporaryFile()
    except OSError as error:
        raise no_room(error) from error


def no_room(error: OSError) -> OutputError:
    """What to say of a temporary file that could not be made or written."""
    try:
        where = f" in {tempfile.gettempdir()}"
    except OSError:  # there is no folder at all that takes files; the error names those that were tried
        where = ""
    return OutputError(f"cannot write temporary files{where} ({error.strerror}); make room there, or name another place with TMPDIR")
