"""RGB frames to an H.264 file in MP4 that every player shows alike, with the sound of the video that they come from."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from fractions import Fraction
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, Self

import numpy as np
from PIL import Image

from visiontk.errors import ItemError, OutputError
from visiontk.media.room import Room
from visiontk.media.video import _container, _file, _video_stream

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.packet import Packet

# Those of the codecs that MP4 takes which players take in it too; others, such as Vorbis and PCM, become AAC.
_COPIED = frozenset({"aac", "mp3", "ac3", "eac3", "alac", "opus", "flac"})
_AAC_RATES = frozenset({8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000})
_AAC_LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1"}
_AAC_BITS_A_CHANNEL = 96_000

_CRF = "18"  # differences from the source are hard to see
_PRESET = "veryfast"  # the model needs the processor too, and slower ones hold 40 frames in memory and not 10
_B_FRAMES = "0"  # with them MP4 tells a wrong length where frame times vary, and playing ends before the last frames
_MAX_SIDE = 16_384  # of the encoder
_TICKS = 90_000  # a second has at least so many
_SLOWEST = Fraction(1, 1000)  # of the rates that the encoder is told; the frames have their own times
_LONGEST_STEP = 2**31 - 1  # ticks; MP4 and its readers keep a frame's duration in 32 bits
_DISORDER = 5  # steps that the time may go back between two frames and still be a mere slip
_LEAD_IN_S = 0.1  # sound this much before the first frame is the codec's run-up, or not worth a start without a picture
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
            self._muxed = _Muxed(self._container)
            self._video = self._container.add_stream("libx264", rate=rate, options={"crf": _CRF, "preset": _PRESET, "bf": _B_FRAMES})
            self._video.width, self._video.height = width + width % 2, height + height % 2
            self._video.pix_fmt = "yuv420p"
            context = self._video.codec_context
            context.time_base = self._tick
            context.colorspace = context.color_primaries = context.color_trc = _BT709
            context.color_range = _LIMITED
            context.sample_aspect_ratio = Fraction(pixel_aspect).limit_denominator(_LARGEST_ASPECT)
        self._sound: _Sound | None = None
        if audio_from is not None:
            try:
                self._sound = _Sound(audio_from, self._muxed, self._keep_room, audio_start, lead_in=audio_lead_in)
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
            self._muxed.mux(packet)

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


class _Muxed:
    """A container that is written, and what goes into it.

    Attributes:
        packets: how many.
        bytes: of all of them.
    """

    def __init__(self, container: OutputContainer) -> None:
        self.container = container
        self.packets = self.bytes = 0

    def mux(self, packet: Packet[Any]) -> None:
        self.packets, self.bytes = self.packets + 1, self.bytes + packet.size
        self.container.mux(packet)


class _Sound:
    """The sound of a video file on its way into another.

    Attributes:
        lead_in: seconds from the start of the sound to the first frame, 0 where it does not start before.
        damaged: whether parts could not be read.
    """

    def __init__(self, path: str, target: _Muxed, before_each: Callable[[], None], start: float | None, *, lead_in: bool) -> None:
        """``before_each`` packet that is written is called, and may raise OutputError."""
        self._before_each = before_each
        self._stack = ExitStack()
        self._source = self._stack.enter_context(_container(self._stack.enter_context(_file(path))))
        known = [stream for stream in self._source.streams.audio if stream.codec_context is not None and stream.rate]
        self._tracks = {stream.index: _track(stream, target) for stream in known}
        first_frame = start or 0.0
        if start is None:
            with suppress(ItemError):  # a file of sound alone
                first_frame = _start_of(_video_stream(self._source))
        before = first_frame - min((_start_of(stream) for stream in known), default=first_frame)
        self.lead_in = before if lead_in and before > _LEAD_IN_S else 0.0
        self._origin = first_frame - self.lead_in
        self.damaged = False
        self._packets = self._read(known)
        self._next = next(self._packets, None)

    def write_until(self, time: float) -> None:
        """Write what is to be heard before ``time``, in seconds of the new file."""
        while self._next and self._next[0] < time:
            self._before_each()
            _, packet = self._next
            with self._surviving():
                self._tracks[packet.stream_index].write(packet, self._origin)
            self._next = next(self._packets, None)

    def finish(self, time: float) -> None:
        """Write what is to be heard before ``time``, and what the encoders hold."""
        with self._stack:
            self.write_until(time)
            for track in self._tracks.values():
                with self._surviving():
                    track.finish()

    @contextmanager
    def _surviving(self) -> Iterator[None]:
        """Damaged sound costs that sound and not the picture. A full disk is an ``OSError`` of Python's and passes."""
        from av.error import FFmpegError

        try:
            yield
        except FFmpegError:
            self.damaged = True

    def _read(self, streams: list[Any]) -> Iterator[tuple[float, Packet[Any]]]:
        """Packets from the start on, each with its time in the new file."""
        packets = self._source.demux(streams) if streams else iter(())
        while True:
            try:
                packet = next(packets, None)
            except Exception:  # noqa: BLE001 - whatever a demuxer raises on hostile bytes, the sound until then is good
                self.damaged = True
                return
            if packet is None:
                return
            if packet.pts is None or packet.time_base is None or not packet.size:
                continue
            time = float(packet.pts * packet.time_base) - self._origin
            if time >= -_LEAD_IN_S:
                yield time, packet


class _Copied:
    """One track whose packets go over as they are."""

    def __init__(self, stream: Any, target: _Muxed) -> None:
        self._target = target
        self._out = target.container.add_stream_from_template(stream)

    def write(self, packet: Packet[Any], origin: float) -> None:
        assert packet.pts is not None and packet.time_base is not None
        shift = round(origin / packet.time_base)
        packet.pts -= shift
        packet.dts = packet.pts if packet.dts is None else packet.dts - shift
        packet.stream = self._out
        self._target.mux(packet)

    def finish(self) -> None:
        pass


class _Encoded:
    """One track that is decoded, and encoded as AAC."""

    def __init__(self, stream: Any, target: _Muxed) -> None:
        from av import AudioResampler

        self._target, self._source = target, stream
        rate = stream.rate if stream.rate in _AAC_RATES else 48_000
        channels = stream.layout.nb_channels if stream.layout.nb_channels in _AAC_LAYOUTS else 2
        layout = _AAC_LAYOUTS[channels]
        self._out = target.container.add_stream("aac", rate=rate)
        self._out.layout = layout
        # AAC takes 6,144 bits for the 1,024 samples of a channel at most (ISO/IEC 14496-3, 4.5.3.1).
        self._out.bit_rate = channels * min(_AAC_BITS_A_CHANNEL, rate * 6144 // 1024)
        # "async": gaps become silence, or all that follows would come too early.
        self._resampler = AudioResampler(format="fltp", layout=layout, rate=rate, options={"async": "1"})

    def write(self, packet: Packet[Any] | None, origin: float) -> None:
        for frame in self._source.decode(packet):
            if frame.pts is not None:
                frame.pts -= round(origin / frame.time_base)
            self._encode(self._resampler.resample(frame))

    def finish(self) -> None:
        self._encode(self._resampler.resample(None))
        self._mux(self._out.encode(None))

    def _encode(self, frames: list[Any]) -> None:
        for frame in frames:
            self._mux(self._out.encode(frame))

    def _mux(self, packets: list[Packet[Any]]) -> None:
        for packet in packets:
            self._target.mux(packet)


def _track(stream: Any, target: _Muxed) -> _Copied | _Encoded:
    copied = stream.codec_context.codec.canonical_name in _COPIED
    track = _Copied(stream, target) if copied else _Encoded(stream, target)
    track._out.metadata.update({key: value for key, value in stream.metadata.items() if key == "language"})
    return track


def _start_of(stream: Any) -> float:
    return float(stream.start_time * stream.time_base) if stream.start_time is not None and stream.time_base else 0.0
