"""PyAV's packets and frames made safe: damage is noted and survived, every frame has a time and stands upright."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING

from PIL import Image

from visiontk.errors import ItemError

if TYPE_CHECKING:
    import av
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream

_DEFAULT_FPS = 25.0
_QUARTER_TURNS = (Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_270, Image.Transpose.TRANSPOSE, Image.Transpose.TRANSVERSE)


class Decoder:
    """Iterates over the whole frames of a stream, once. Damaged packets and frames are skipped; ``damaged`` then tells.

    What cannot be decoded before the first whole frame is no damage: recordings of broadcasts begin in the middle of a group of pictures.
    """

    def __init__(self, container: InputContainer, stream: VideoStream) -> None:
        self._container = container
        self._stream = stream
        self._started = False
        self.damaged = False

    def __iter__(self) -> Iterator[av.VideoFrame]:
        for packet in itertools.chain(self.packets(), (None,)):  # None makes the codec hand out the frames that it still holds
            for frame in self._decode(packet):
                if frame.is_corrupt:
                    self._note_damage()
                else:
                    self._started = True
                    yield frame

    def packets(self) -> Iterator[Packet[VideoStream]]:
        """Whole packets."""
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets, None)
            except Exception:  # noqa: BLE001 - whatever a demuxer raises on hostile bytes, the frames until then are good
                self._note_damage()
                break
            if packet is None:
                break
            if packet.is_corrupt:  # cut short
                self._note_damage()
            elif packet.size:  # an empty packet would put the codec in its draining state
                yield packet

    def _decode(self, packet: Packet[VideoStream] | None) -> list[av.VideoFrame]:
        try:
            return self._stream.decode(packet)
        except EOFError:  # the codec was drained already
            return []
        except Exception:  # noqa: BLE001 - as above; later packets may be whole
            self._note_damage()
            return []

    def _note_damage(self) -> None:
        self.damaged = self.damaged or self._started


class Clock:
    """Seconds of each frame, called in order: its own time, or one frame after the one before where the file gives none (some AVI)."""

    def __init__(self, stream: VideoStream) -> None:
        self._tick = stream.time_base
        self._step = 1.0 / frame_rate(stream)
        self._next = 0.0

    def __call__(self, frame: av.VideoFrame) -> float:
        # Not frame.time, which is NaN for the frames that the codec held until the end: PyAV gives those no time base.
        time = self._next if frame.pts is None or self._tick is None else float(frame.pts * self._tick)
        self._next = time + self._step
        return time


def frame_rate(stream: VideoStream) -> float:
    """Frames per second: the average, or failing that the nominal rate, or 25."""
    rate = stream.average_rate or stream.guessed_rate or stream.base_rate
    return float(rate) if rate else _DEFAULT_FPS


def to_image(frame: av.VideoFrame) -> Image.Image:
    """``frame`` as an upright RGB image. Raises ``ItemError`` (``broken``) where its pixel format cannot be converted."""
    try:
        # One thread: with more of them FFmpeg starts new ones for each frame, which takes longer than the work.
        image: Image.Image = frame.to_image(threads=1)  # type: ignore[no-untyped-call]
    except Exception as error:  # a damaged header can announce any format and size
        raise ItemError("broken", f"a frame of the video cannot be converted to RGB ({error})") from error
    method = _display_transpose(frame)
    return image if method is None else image.transpose(method)


def pixel_aspect(frame: av.VideoFrame, stream: VideoStream) -> float:
    """Width over height of a pixel of what `to_image` gives; 1 where the file says nothing of it."""
    aspect = float(stream.sample_aspect_ratio or 1)
    return 1 / aspect if aspect != 1 and _display_transpose(frame) in _QUARTER_TURNS else aspect


def _display_transpose(frame: av.VideoFrame) -> Image.Transpose | None:
    """What the display matrix asks for, to the nearest quarter turn or mirroring.

    libavutil/display.h: nine int32, rows (a b u), (c d v), (x y w); the point (p, q) goes to (a p + c q + x, b p + d q + y), q downwards.
    """
    from av.sidedata.sidedata import SideDataContainer, Type

    # Not frame.side_data, which the frame keeps and which keeps the frame: its pixels would stay until Python looks for such circles.
    matrix = SideDataContainer(frame).get(Type.DISPLAYMATRIX)  # type: ignore[call-arg]
    if matrix is None or len(bytes(matrix)) < 36:
        return None
    a, b, _, c, d = struct.unpack_from("=5i", bytes(matrix))
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return {
            (False, True): Image.Transpose.FLIP_LEFT_RIGHT,
            (True, False): Image.Transpose.FLIP_TOP_BOTTOM,
            (False, False): Image.Transpose.ROTATE_180,
        }.get((a >= 0, d >= 0))
    return {
        (True, True): Image.Transpose.TRANSPOSE,
        (True, False): Image.Transpose.ROTATE_270,
        (False, True): Image.Transpose.ROTATE_90,
        (False, False): Image.Transpose.TRANSVERSE,
    }[(b >= 0, c >= 0)]
