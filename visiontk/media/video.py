"""Video files to RGB frames, one after the other, in memory that does not grow with the length of the video."""

from __future__ import annotations

import logging
import math
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from PIL import Image

from visiontk.errors import ItemError, UsageError
from visiontk.media.containers import is_cut
from visiontk.media.decoder import Clock, Decoder, frame_rate, pixel_aspect, to_image
from visiontk.media.images import MAX_PIXELS
from visiontk.media.sniff import looks_like_video

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream

__all__ = ["VIDEO_SUFFIXES", "VideoFrame", "VideoInfo", "count_packets", "is_camera", "looks_like_video", "probe", "read_frames", "sampler"]

# For walking directories. Not ".ts": far more often TypeScript than a transport stream.
VIDEO_SUFFIXES = frozenset(
    {".mp4", ".m4v", ".mov", ".qt", ".3gp", ".3g2", ".mkv", ".webm", ".avi"}
    | {".mpg", ".mpeg", ".m2v", ".m2ts", ".mts", ".vob", ".wmv", ".asf", ".flv", ".ogv", ".y4m", ".ivf", ".mxf"}
    | {".nut", ".h264", ".264", ".hevc", ".h265", ".265"}
)

# Demuxers that read one file and nothing else: playlists and scripts (hls, concat, ...) would open what the file names.
_DEMUXERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,asf,flv,ogg,yuv4mpegpipe,ivf,mxf,h264,hevc,m4v,dv,nut"
_MAX_ROUNDING_S = 0.0005  # a Matroska time is rounded to a millisecond
_MICROSECONDS = 1_000_000
_VIDEO4LINUX = 81  # the major number of Linux's cameras; Documentation/admin-guide/devices.txt


@dataclass(frozen=True, slots=True)
class VideoFrame:
    """``index``: position in the file, from 0. ``time``: seconds, as the file says; of a camera, since its first frame.

    ``image``: RGB, upright. ``rate``: frames per second of the file. ``pixel_aspect``: width over height of a pixel where it is shown.
    ``duration``: seconds that it is shown, where the file says so of each frame.
    """

    index: int
    time: float
    image: Image.Image
    rate: float = 25.0
    pixel_aspect: float = 1.0
    duration: float | None = None


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """Width and height in pixels of the upright picture, frames per second, and where the file tells them: frames, duration in seconds.

    ``frames_estimate`` is from the duration, or the number that stands in the file: that of an MP4 in fragments is of the first alone.
    """

    width: int
    height: int
    fps: float
    frames_estimate: int | None
    duration: float | None


def read_frames(
    source: str | BinaryIO, *, every: int | None = None, fps: float | None = None, start_index: int = 0
) -> Iterator[VideoFrame]:
    """The frames of a video in the order they are shown, upright; only those that are kept are converted to RGB.

    ``source`` is a path, also that of a camera, or an open binary file (read from its start if it can seek). ``every=N`` keeps frames 0, N,
    2N, ...; ``fps=F`` keeps the first frame at or after each multiple of 1/F seconds since the first one. Frames before ``start_index`` are
    left out, without moving that grid: a resumed run takes the same frames. ``index`` counts all the frames of the file in every case.

    Raises ``UsageError`` at once for bad arguments. While iterating, ``ItemError``: ``missing``, ``unreadable``, ``too_large``, or
    ``broken``: no video in it, no frame, or (after the frames that it had) damage or an end in the middle.
    """
    if every is not None and fps is not None:
        raise UsageError("every and fps exclude each other; give one of them")
    if (every is not None and every < 1) or (fps is not None and not (math.isfinite(fps) and fps > 0)) or start_index < 0:
        raise UsageError("every must be at least 1, fps a positive number, start_index at least 0")
    return _read(source, every, fps, start_index)


def probe(source: str | BinaryIO) -> VideoInfo:
    """Size, rate and length of a video; its first frame is decoded, for the rotation and to see that there is one.

    Raises ``ItemError`` as ``read_frames`` does. An open file is left anywhere.
    """
    with _opened(source) as (container, stream, _):
        image = next((to_image(frame) for frame in Decoder(container, stream)), None)
        if image is None:
            raise _no_frame(source)
        rate = frame_rate(stream)
        duration = None
        if stream.duration is not None and stream.time_base is not None:
            duration = float(stream.duration * stream.time_base)
        elif container.duration is not None:
            duration = container.duration / _MICROSECONDS
        estimate = (round(duration * rate) if duration is not None else 0) or stream.frames
        return VideoInfo(image.width, image.height, rate, estimate or None, duration)


def count_packets(source: str | BinaryIO) -> int:
    """How many packets of a video there are: as many as frames, or more where some are not shown or damaged. Nothing is decoded.

    Unlike the number that stands in a file, this holds also of one that is cut off, of one in fragments, whose header knows of the first
    alone, and of one with an edit list. Raises ``ItemError`` as ``read_frames`` does.
    """
    with _opened(source) as (container, stream, _):
        return sum(1 for packet in Decoder(container, stream).packets() if not packet.is_discard)


def _read(source: str | BinaryIO, every: int | None, fps: float | None, start_index: int) -> Iterator[VideoFrame]:
    with _opened(source) as (container, stream, cut):
        decoder = Decoder(container, stream)
        clock = Clock(stream)
        rate = frame_rate(stream)
        origin = None if isinstance(source, str) and is_camera(source) else 0.0  # a camera counts from the start of the machine
        keep = sampler(every, fps, tick=float(stream.time_base or 0))
        index = -1
        for index, frame in enumerate(decoder):
            time = clock(frame)
            origin = time if origin is None else origin
            time -= origin
            if keep(index, time) and index >= start_index:
                shown = float(frame.duration * stream.time_base) if frame.duration and stream.time_base else None
                yield VideoFrame(index, time, to_image(frame), rate, pixel_aspect(frame, stream), shown)
        if index < 0:
            raise _no_frame(source)
        if cut:
            raise ItemError("broken", f"the video ends in the middle, after {index + 1} frames; get a whole copy of it")
        if decoder.damaged:
            raise ItemError("broken", f"parts of the video are damaged; {index + 1} frames could be decoded")


def _no_frame(source: str | BinaryIO) -> ItemError:
    if (os.path.isfile(source) or is_camera(source)) if isinstance(source, str) else source.seekable():  # noqa: PTH113  Path raises for names too long
        return ItemError("broken", "no frame of the video can be decoded")
    why = "an MP4 may have its index at its end, which no pipe can go back from"
    return ItemError("broken", f"no frame of the video can be decoded; {why}: name the file, or send Matroska")


def sampler(every: int | None, fps: float | None, *, tick: float) -> Callable[[int, float], bool]:
    """A function of (index, time in seconds) that says which frames to keep; call it with each frame once, in order.

    ``tick`` is the file's unit of time: a time may be half of it too early by rounding alone, and still counts as being on the grid.
    """
    if fps is None:
        return lambda index, _: index % (every or 1) == 0
    rate, slack = fps, min(tick / 2, _MAX_ROUNDING_S) + 1e-9
    first: float | None = None
    wanted = 0

    def keep(_: int, time: float) -> bool:
        nonlocal first, wanted
        first = time if first is None else first
        elapsed = time - first + slack
        if elapsed < wanted / rate:
            return False
        wanted = max(wanted, math.floor(elapsed * rate)) + 1
        return True

    return keep


@contextmanager
def _opened(source: str | BinaryIO) -> Iterator[tuple[InputContainer, VideoStream, bool]]:
    """The container, its best video stream with threads on, and whether the file is cut off."""
    with ExitStack() as stack:
        if isinstance(source, str) and is_camera(source):
            container = stack.enter_context(_camera(source))
            cut, found = False, _video_stream(container)
        else:
            file = stack.enter_context(_file(source)) if isinstance(source, str) else source
            cut = is_cut(file)
            try:
                container = stack.enter_context(_container(file))
                found = _video_stream(container)
            except ItemError as error:
                if cut:
                    raise ItemError("broken", "the file ends before what says how to read it; get a whole copy of it") from error
                raise
        yield container, found, cut


def is_camera(path: str) -> bool:
    """Whether ``path`` is a camera of Linux, such as ``/dev/video0``. It is no file: what it gives is never at an end."""
    try:
        status = os.stat(path)  # noqa: PTH116  Path.stat raises other errors for names that no file can have
    except (OSError, ValueError):
        return False
    return stat.S_ISCHR(status.st_mode) and os.major(status.st_rdev) == _VIDEO4LINUX


def _camera(path: str) -> InputContainer:
    import av

    _quieten()
    try:
        return av.open(path, "r", format="v4l2")
    except Exception as error:  # as for files
        reason = getattr(error, "strerror", None) or error
        raise ItemError(
            "unreadable", f"the camera cannot be opened ({reason}); see whether it is there and no other program has it"
        ) from error


def _file(path: str) -> BinaryIO:
    # Opened here and not by FFmpeg, which takes "concat:a|b" or "http://..." for more than a name.
    try:
        return Path(path).open("rb")
    except FileNotFoundError as error:
        raise ItemError("missing", "there is no such file") from error
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise ItemError("unreadable", f"the file cannot be read: {reason}") from error


def _container(file: BinaryIO) -> InputContainer:
    import av

    _quieten()
    try:
        return av.open(file, "r", options={"format_whitelist": _DEMUXERS, "protocol_whitelist": "file"}, metadata_errors="replace")
    except Exception as error:  # the demuxers meet hostile bytes here and raise what they like
        raise ItemError("broken", "the file is not a video that FFmpeg can open, or it is damaged") from error


def _quieten() -> None:
    """FFmpeg's lines reach stderr unless no level is set; a level that the caller chose goes to Python's logging and is left alone."""
    import av

    if av.logging.get_level() is None:
        av.logging.set_level(None)
    logging.getLogger("libav").addHandler(logging.NullHandler())


def _video_stream(container: InputContainer) -> VideoStream:
    from av.stream import Disposition

    # The cover of a song is a video stream of one picture; it is not a video.
    streams = [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]
    if not streams:
        raise ItemError("broken", "the file holds no video stream")
    best = container.streams.best("video")
    stream = next((candidate for candidate in streams if candidate is best), streams[0])
    try:
        width, height = stream.width, stream.height
        stream.thread_type = "AUTO"
    except AttributeError as error:  # PyAV gives a stream no codec context when FFmpeg does not know its codec
        raise ItemError("broken", "the codec of the video is not known to FFmpeg") from error
    if width * height > MAX_PIXELS:
        raise ItemError("too_large", f"the video has {width}x{height} pixels, over the limit of {MAX_PIXELS:,}; make it smaller first")
    return stream
