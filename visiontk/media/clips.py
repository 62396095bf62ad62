"""Videos as a whole, to be tracked through: a file, a camera, a pipe, an animation, or a row of pictures that are the frames of one."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import Any, BinaryIO, cast

from PIL import Image

from visiontk.errors import ItemError
from visiontk.media import images, video
from visiontk.media.video import VideoFrame

SEQUENCE_FPS = 24.0  # of pictures, which have no times
ANIMATION_FPS = 10.0  # in name alone: each frame has its own time
_NUMBERED = re.compile(r"(.*?)(\d+)", re.DOTALL)
_DIGITS = re.compile(r"[0-9]+")

Line = dict[str, Any]


@dataclass(frozen=True)
class Clip:
    """A video.

    Attributes:
        read: opens it and gives its frames from a number on, which counts from 0. Raises ``ItemError`` as `video.read_frames` does.
        most: how many frames there are, or of a file how many packets, which some of them may be without; None where only decoding tells.
        again: whether it can be read more than once: pipes and cameras cannot.
        aside: of an open file, reads it once more beside another reading, which ``read`` would disturb.
        taped: of a pipe, the same clip with its bytes kept on disk, which can be read so, too.
        enough: of a taped pipe, keeps no more of its bytes.
        sound: a file whose sound belongs to it.
        lines: where each frame is a file: what the record of each says, and no time. Otherwise frames go by number and time.
        roughly: how many frames there are as far as its header tells, which may be wrong; None where it does not.
    """

    read: Callable[[int], Iterator[VideoFrame]]
    most: Callable[[], int | None] = lambda: None
    again: bool = True
    aside: Callable[[int], Iterator[VideoFrame]] | None = None
    taped: Callable[[], AbstractContextManager[Clip]] | None = None
    enough: Callable[[], None] = lambda: None
    sound: str | None = None
    lines: Sequence[Line] | None = None
    roughly: Callable[[], int | None] = lambda: None

    @property
    def beside(self) -> Callable[[int], Iterator[VideoFrame]] | None:
        """Reads it once more while another reading is open; None where that cannot be done."""
        return self.aside or (self.read if self.again else None)

    def line(self, index: int, time: float | None = None) -> Line:
        """What the record of a frame says of it; nothing after the last one of those that are files."""
        if self.lines is not None:
            return dict(self.lines[index]) if index < len(self.lines) else {}
        return {"frame": index} if time is None else {"frame": index, "time": round(time, 6)}

    def holds(self, number: int) -> bool:
        """Whether there is more in it than ``number`` frames, or fewer frames and one error.

        Where there cannot be more, that is known at once; else the first frames are decoded to see it.
        """
        try:
            if self.most() == number:
                return False
            rest = self.read(max(0, number - 1))
            next(rest, None)
        except ItemError:
            return number == 0
        try:
            return next(rest, None) is not None
        except ItemError:
            return True

    def ends_before(self, number: int) -> int | None:
        """How many frames there are at most where frame ``number`` is surely not among them; None where decoding has to tell.

        Packets are counted only where the header has the frame past the end, because that reads the whole file.
        """
        try:
            told = self.roughly()
            most = None if told is None or told > number else self.most()
        except ItemError:
            return None
        return most if most is not None and 0 < most <= number else None


def from_source(source: str | BinaryIO) -> Clip:
    """A video file, a camera or a pipe of a video's bytes."""

    file = isinstance(source, str) and os.path.isfile(source)  # noqa: PTH113  Path.is_file raises for names that are too long

    def read(start: int) -> Iterator[VideoFrame]:
        if not isinstance(source, str) and source.seekable():
            source.seek(0)
        return video.read_frames(source, start_index=start)

    if file:
        return Clip(read, lambda: video.count_packets(source), sound=str(source), roughly=lambda: video.probe(source).frames_estimate)
    if isinstance(source, str):  # a camera
        return Clip(read, again=False)
    if not source.seekable():
        return Clip(read, again=False, taped=lambda: _taped(source))
    return Clip(read, aside=lambda start: video.read_frames(_beside(source), start_index=start))


def _beside(file: BinaryIO) -> BinaryIO:
    from visiontk.media.tape import Beside

    return io.BytesIO(file.getvalue()) if isinstance(file, io.BytesIO) else cast(BinaryIO, Beside(file.fileno()))


@contextmanager
def _taped(pipe: BinaryIO) -> Iterator[Clip]:
    from visiontk.media.tape import Tape

    with Tape(pipe) as tape:

        def read(start: int) -> Iterator[VideoFrame]:
            for frame in video.read_frames(cast(BinaryIO, tape), start_index=start):
                tape.check()
                yield frame
            tape.check()

        yield Clip(read, again=False, aside=lambda start: video.read_frames(tape.again(), start_index=start), enough=tape.stop)


def from_animation(data: bytes) -> Clip:
    """A moving picture, from its file's bytes."""

    def read(start: int) -> Iterator[VideoFrame]:
        for index, (time, shown, image) in enumerate(images.timed_frames(data)):
            if index >= start:
                yield VideoFrame(index, time, image, ANIMATION_FPS, duration=shown)

    return Clip(read, lambda: images.frame_count(data), roughly=lambda: images.frame_count(data))


def from_pictures(pictures: Sequence[Callable[[], Image.Image]], lines: Sequence[Line]) -> Clip:
    """Pictures that are the frames of one video, and what the record of each says."""

    def read(start: int) -> Iterator[VideoFrame]:
        for index in range(start, len(pictures)):
            yield VideoFrame(index, index / SEQUENCE_FPS, pictures[index](), SEQUENCE_FPS)

    return Clip(read, lambda: len(pictures), lines=lines, roughly=lambda: len(pictures))


def from_frames(read_all: Callable[[], Iterator[VideoFrame]], numbers: Sequence[int], lines: Sequence[Line]) -> Clip:
    """Those frames of a video that have the ``numbers``, at their own times, and what the record of each says.

    ``read_all`` opens the video and gives all its frames. Each reading opens it for itself.
    """

    def read(start: int) -> Iterator[VideoFrame]:
        cursor = Cursor(lambda _: read_all())
        for index in range(start, len(numbers)):
            yield replace(cursor.at("", numbers[index]), index=index)

    return Clip(read, lambda: len(numbers), lines=lines, roughly=lambda: len(numbers))


def are_frames(names: Sequence[str]) -> bool:
    """Whether the files of a folder are named like the frames of one video: all with the same beginning, then each with its own number."""
    matches = [_NUMBERED.fullmatch(os.path.splitext(name)[0]) for name in names]  # noqa: PTH122  runs once per file
    found = [match for match in matches if match]
    return (
        len(found) == len(names) > 1 and len({match[1] for match in found}) == 1 and len({int(match[2]) for match in found}) == len(names)
    )


def in_order(name: str) -> str:
    """A key to sort names by: numbers in them count as numbers, so that ``9.png`` comes before ``10.png``."""
    return _DIGITS.sub(_sortable, name)


def _sortable(number: re.Match[str]) -> str:
    digits = number[0].lstrip("0")
    return f"{len(digits):03d}{digits}"


class Cursor:
    """Frames of videos by number; frames that are asked for in order are decoded once, in one pass.

    ``read`` opens a video, as `video.read_frames` does.
    """

    def __init__(self, read: Callable[[str], Iterator[VideoFrame]] = video.read_frames) -> None:
        self._read = read
        self._path: str | None = None
        self._next = 0
        self._frames: Iterator[VideoFrame] = iter(())

    def at(self, path: str, index: int) -> VideoFrame:
        """Raises ``ItemError``: ``no_frame``, or as ``read`` does."""
        if path != self._path or index < self._next:
            self._path, self._next, self._frames = path, 0, self._read(path)
        for frame in self._frames:
            self._next = frame.index + 1
            if frame.index == index:
                return frame
        self._path = None
        raise ItemError("no_frame", f"the video has no frame {index}")
