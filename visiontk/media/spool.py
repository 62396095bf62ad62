"""What is too much for memory, on disk until it is needed: bytes by number, in a temporary file that is gone when the process is."""

from __future__ import annotations

import io
import math
import struct
import tempfile
from array import array
from collections.abc import Iterator
from types import TracebackType
from typing import IO, Self

from PIL import Image

from visiontk.errors import OutputError
from visiontk.media.video import VideoFrame

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
