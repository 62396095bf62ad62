"""RGB frames to an H.264 file in MP4 that every player shows alike, with the sound of the video that they come from."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from fractions import Fraction
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, Self

import numpy as np
from PIL import Image

from visiontk.errors import ItemError, OutputError
from visiontk.media.room import Room
from visiontk.media.sound import Muxed, Sound

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.packet import Packet

_CRF = "18"  # differences from the source are hard to see
_PRESET = "veryfast"  # the model needs the processor too, and slower ones hold 40 frames in memory and not 10
_B_FRAMES = "0"  # with them MP4 tells a wrong length where frame times vary, and playing ends before the last frames
_MAX_SIDE = 16_384  # of the encoder
_TICKS = 90_000  # a second has at least so many
_SLOWEST = Fraction(1, 1000)  # of the rates that the encoder is told; the frames have their own times
_LONGEST_STEP = 2**31 - 1  # ticks; MP4 and its readers keep a frame's duration in 32 bits
_DISORDER = 5  # steps that the time may go back between two frames and still be a mere slip
_ENTRY, _REST = 32, 96 * 1024  # bytes that end a file: of each packet in its index at most, and of all else
_REMEMBERED, _MARGIN = 10, 2  # frames of which the usual size is the mean, and how many times that the next ones may have
_LARGEST_ASPECT = 1000  # numbers that its numerator and denominator may reach, far below the 16 bits that H.264 has for them
_BT709, _LIMITED = 1, 1  # H.273: matrix, transfer function and primaries of HDTV; luma from 16 to 235


class VideoWriter:
    """Writes an MP4 file; a context manager.

    The picture is H.264 (yuv420p, BT.709, crf 18), frame times are kept to a 90,000th of a second. H.264 has even sides only: an odd width
    or height is made even by repeating the last column or row. Sound is copied where MP4 takes its codec and is encoded as AAC where not;
    it keeps its place relative to the picture. Sound before the first frame delays the picture as it does in the source.

    Leaving the ``with`` by an exception finishes the file too: what was written until then can be played. Without a frame it stays empty.
    Where the file is on a disk, room for its end is held, so that a disk that fills is as a rule such an exception; not where frames become
    much larger just then.

    Attributes:
        warning: why sound is missing, or what else is not as in the source, or None.
        finished: the file is whole and can be played.
    """

    def __init__(
        self,
        file: BinaryIO,
        *,
        width: int,
        height: int,
        fps: float,
        pixel_aspect: float = 1.0,
        audio_from: str | None = None,
        audio_start: float | None = None,
        audio_lead_in: bool = True,
        audio_outlasts: bool = True,
    ) -> None:
        """
        Args:
            file: an open file that can seek.
            width, height: of the frames, in pixels.
            fps: frames per second, for the times of frames that are written without one.
            pixel_aspect: width over height of a pixel where the video is shown.
            audio_from: a video file whose sound is taken.
            audio_start: where the first frame stands in that file, in seconds of ``VideoFrame.time``; by default where the file says that
                its picture starts.
            audio_lead_in: what there is of it before the first frame is taken too.
            audio_outlasts: what there is of it after the last frame is taken too.

        Raises:
            ValueError: sizes below 1, or an impossible frame rate.
            OutputError: the file cannot be written, or H.264 cannot hold pictures of this size.
        """
        rate = Fraction(fps).limit_denominator(1001) if math.isfinite(fps) else Fraction(0)  # 29.97... is 30000/1001
        if math.isfinite(fps) and fps > 0:
            rate = max(rate, _SLOWEST)
        if width < 1 or height < 1 or rate <= 0:
            raise ValueError(f"a video cannot have {width}x{height} pixels at {fps} frames per second")
        if max(width, height) > _MAX_SIDE:
            raise OutputError(f"a video of {width}x{height} pixels cannot be written, H.264 ends at {_MAX_SIDE:,}; make it smaller first")
        # A unit of time that both is fine and divides the time of a frame.
        self._tick = Fraction(1, rate.numerator * math.ceil(_TICKS / rate.numerator))
        self._step = int(1 / rate / self._tick) if rate > _SLOWEST else min(int(1 / Fraction(fps) / self._tick), _LONGEST_STEP)
        self._shown = self._step  # ticks that the last frame is shown
        self._size = width, height
        self._count, self._last, self._moved = 0, -1, 0
        self._broken = False
        self._room = Room(file)
        self._encoded = self._largest = 0  # frames that left the encoder, and the bytes of the largest
        self._usual = 0.0  # bytes of a frame behind the first, which is a large one: a running mean
        self.warning: str | None = None
        self.finished = False
        import av

        with self._writing():
            self._container: OutputContainer = av.open(
                self._room, "w", format="mp4", options={"video_track_timescale": str(self._tick.denominator)}
            )
            self._muxed = Muxed(self._container)
            self._video = self._container.add_stream("libx264", rate=rate, options={"crf": _CRF, "preset": _PRESET, "bf": _B_FRAMES})
            self._video.width, self._video.height = width + width % 2, height + height % 2
            self._video.pix_fmt = "yuv420p"
            context = self._video.codec_context
            context.time_base = self._tick
            context.colorspace = context.color_primaries = context.color_trc = _BT709
            context.color_range = _LIMITED
            context.sample_aspect_ratio = Fraction(pixel_aspect).limit_denominator(_LARGEST_ASPECT)
        self._sound: Sound | None = None
        if audio_from is not None:
            try:
                self._sound = Sound(audio_from, self._muxed, self._keep_room, audio_start, lead_in=audio_lead_in)
            except ItemError as error:
                self.warning = f"the sound of {audio_from} is missing: {error.message}"
        self._outlasts = audio_outlasts
        self._lead_in = round(self._sound.lead_in / self._tick) if self._sound else 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        with suppress(OutputError) if kind else nullcontext():
            self._finish(whole=kind is None)

    def write(self, image: Image.Image, time: float | None = None, duration: float | None = None) -> None:
        """Add a frame, RGB. ``time``: seconds since the first frame; None for one step of ``fps`` after the frame before it.

        ``duration``: seconds that it is shown where it is the last one; None for a step of ``fps``.
        Times must rise; one that does not is moved to just after the frame before it. Where they jump, back by more than a few frames or
        further on than MP4 can tell, as where recordings are joined, this frame follows the one before it, and others follow this one.
        Raises ``ValueError`` for an image of another size than announced, ``OutputError`` where the file cannot be written.
        """
        import av

        if image.size != self._size:
            raise ValueError(f"a frame of {image.width}x{image.height} pixels in a video of {self._size[0]}x{self._size[1]}")
        self._keep_room()
        wanted = self._count_on() if time is None else round(time / self._tick) + self._moved
        if self._count and not -_DISORDER * self._step <= wanted - self._last <= _LONGEST_STEP:
            self._moved += self._last + self._shown - wanted
            wanted = self._last + self._shown
            self._warn(
                "its times jump, and the overlay goes on without the jump" + ("; its sound may be out of step" if self._sound else "")
            )
        self._last = max(wanted, self._last + 1)
        self._count += 1
        self._shown = self._step if duration is None else min(max(1, round(duration / self._tick)), _LONGEST_STEP)
        pixels = np.asarray(image.convert("RGB"))
        if image.width % 2 or image.height % 2:
            pixels = np.pad(pixels, ((0, image.height % 2), (0, image.width % 2), (0, 0)), mode="edge")
        frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
        frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG", threads=1)
        frame.pts, frame.time_base = self._last + self._lead_in, self._tick
        with self._writing():
            self._mux(self._video.encode(frame))
            if self._sound:
                self._sound.write_until(self._end())

    def _warn(self, message: str) -> None:
        if message not in (self.warning or ""):
            self.warning = f"{self.warning}; {message}" if self.warning else message

    def _count_on(self) -> int:
        return self._last + self._step if self._count else 0

    def _end(self) -> float:
        """Where the last frame ends, in seconds of the file."""
        return float((self._last + self._lead_in + self._shown) * self._tick)

    def _keep_room(self) -> None:
        """For all that is to be written yet if this is the end. Raises OutputError.

        That is what the muxer holds to put picture and sound in order, the frames in the encoder and the next one, and the index.
        """
        muxed = self._muxed.bytes - self._room.end + _ENTRY * self._muxed.packets
        encoding = self._largest + int(_MARGIN * self._usual * (self._count - self._encoded + 1))
        try:
            self._room.keep(_REST + muxed + encoding)
        except OSError as error:
            raise _unwritable(error) from error

    def _mux(self, packets: list[Packet[Any]]) -> None:
        for packet in packets:
            if self._encoded:
                self._usual += (packet.size - self._usual) / min(_REMEMBERED, self._encoded)
            self._encoded, self._largest = self._encoded + 1, max(self._largest, packet.size)
            packet.duration = self._shown  # of the last frame; for others MP4 takes the time until the next
        self._muxed.mux(packets)

    def _finish(self, *, whole: bool) -> None:
        """Write what the encoders hold and the file's index. Not ``whole``: the sound ends with the picture in any case."""
        if self._broken:
            self._sound = None
            return
        full: OutputError | None = None
        with self._writing():
            if self._count:
                self._mux(self._video.encode(None))
                if self._sound:
                    try:
                        self._sound.finish(math.inf if whole and self._outlasts else self._end())
                    except OutputError as error:  # the file ends with what had room
                        full = error
            self._container.close()
            self._room.trim()
        self.finished = True
        if full:
            raise full
        if self._sound and self._sound.damaged:
            self._warn("parts of the sound are damaged and missing")

    @contextmanager
    def _writing(self) -> Iterator[None]:
        from av.error import FFmpegError

        try:
            yield
        except (OSError, FFmpegError) as error:
            if not self._broken:
                self._broken = True
                with suppress(OSError, FFmpegError, AttributeError):
                    self._container.close()
            raise _unwritable(error) from error


def _unwritable(error: Exception) -> OutputError:
    reason = getattr(error, "strerror", None) or str(error)
    return OutputError(f"cannot write the video ({reason}); make room or choose another place with -o")
