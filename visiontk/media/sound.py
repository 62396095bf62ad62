"""The sound of a video on its way into another."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any

from visiontk.errors import ItemError
from visiontk.media.video import _container, _file, _video_stream

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.packet import Packet

# Those of the codecs that MP4 takes which players take in it too; others, such as Vorbis and PCM, become AAC.
_COPIED = frozenset({"aac", "mp3", "ac3", "eac3", "alac", "opus", "flac"})
_AAC_RATES = frozenset({8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000})
_AAC_LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1"}
_AAC_BITS_A_CHANNEL = 96_000
_LEAD_IN_S = 0.1  # sound this much before the first frame is the codec's run-up, or not worth a start without a picture


class Muxed:
    """A container that is written, and what goes into it.

    Attributes:
        packets: how many.
        bytes: of all of them.
    """

    def __init__(self, container: OutputContainer) -> None:
        self.container = container
        self.packets = self.bytes = 0

    def mux(self, packets: Sequence[Packet[Any]]) -> None:
        for packet in packets:
            self.packets, self.bytes = self.packets + 1, self.bytes + packet.size
            self.container.mux(packet)


class Sound:
    """The sound of a video file on its way into another.

    Attributes:
        lead_in: seconds from the start of the sound to the first frame, 0 where it does not start before.
        damaged: whether parts could not be read.
    """

    def __init__(self, path: str, target: Muxed, before_each: Callable[[], None], start: float | None, *, lead_in: bool) -> None:
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

    def __init__(self, stream: Any, target: Muxed) -> None:
        self._target = target
        self._out = target.container.add_stream_from_template(stream)

    def write(self, packet: Packet[Any], origin: float) -> None:
        assert packet.pts is not None and packet.time_base is not None
        shift = round(origin / packet.time_base)
        packet.pts -= shift
        packet.dts = packet.pts if packet.dts is None else packet.dts - shift
        packet.stream = self._out
        self._target.mux([packet])

    def finish(self) -> None:
        pass


class _Encoded:
    """One track that is decoded, and encoded as AAC."""

    def __init__(self, stream: Any, target: Muxed) -> None:
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
        self._target.mux(self._out.encode(None))

    def _encode(self, frames: list[Any]) -> None:
        for frame in frames:
            self._target.mux(self._out.encode(frame))


def _track(stream: Any, target: Muxed) -> _Copied | _Encoded:
    copied = stream.codec_context.codec.canonical_name in _COPIED
    track = _Copied(stream, target) if copied else _Encoded(stream, target)
    track._out.metadata.update({key: value for key, value in stream.metadata.items() if key == "language"})
    return track


def _start_of(stream: Any) -> float:
    return float(stream.start_time * stream.time_base) if stream.start_time is not None and stream.time_base else 0.0
