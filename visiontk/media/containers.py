"""Whether a video file was cut off: its own size fields, compared with how many bytes there are.

FFmpeg reads an MP4 or Matroska file that ends in the middle up to there and reports a normal end, so this is looked at beforehand.
"""

from __future__ import annotations

import io
from typing import BinaryIO

_MAX_BOXES = 1_000_000
_EBML = b"\x1a\x45\xdf\xa3"
_TS_MARK = b"\x47"
_TS_PACKET = 188
_SEGMENT = b"\x18\x53\x80\x67"


def is_cut(file: BinaryIO) -> bool:
    """Whether MP4/QuickTime, Matroska/WebM or AVI headers claim more bytes than ``file`` holds; False for others, and where unknown.

    A transport stream claims nothing, but consists of whole packets. ``file`` is left at its start. What cannot seek is never called cut.
    """
    if not file.seekable():
        return False
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    head = file.read(12)
    try:
        if head[4:8] == b"ftyp":
            return _boxes_end(file, size) > size
        if head[:4] == _EBML:
            return _segment_end(file) > size
        if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
            return 8 + int.from_bytes(head[4:8], "little") > size
        if head[:1] == _TS_MARK:
            return size % _TS_PACKET != 0
        return False
    finally:
        file.seek(0)


def _boxes_end(file: BinaryIO, size: int) -> int:
    """Where the last top-level box ends (ISO/IEC 14496-12, 4.2); 0 where the chain of boxes makes no sense."""
    position = 0
    for _ in range(_MAX_BOXES):
        if position + 8 > size:
            return position
        file.seek(position)
        header = file.read(16)
        length = int.from_bytes(header[:4], "big")
        if length == 0:  # this box goes to the end of the file, wherever that is
            return size
        if length == 1:
            length = int.from_bytes(header[8:16], "big")
        if length < 8 or not header[4:8].isascii():
            return 0
        position += length
    return 0


def _segment_end(file: BinaryIO) -> int:
    """Where Matroska's Segment ends (RFC 8794, sections 4 and 6); 0 where its size is unknown, as in a live recording."""
    file.seek(4)
    header_size = _vint(file) or 0
    file.seek(header_size, io.SEEK_CUR)
    if file.read(4) != _SEGMENT:
        return 0
    length = _vint(file)
    return 0 if length is None else file.tell() + length


def _vint(file: BinaryIO) -> int | None:
    """A variable-length integer: leading zero bits of the first byte count the bytes that follow. None where all its bits are ones."""
    first = file.read(1)
    if not first or first == b"\x00":
        return None
    extra = 8 - first[0].bit_length()
    mask = (1 << (7 * (extra + 1))) - 1
    value = int.from_bytes(first + file.read(extra), "big") & mask
    return None if value == mask else value
