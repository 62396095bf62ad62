"""What comes through a pipe, whose beginning says what it is: the first bytes, lines, or the bytes of a video."""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterator
from typing import BinaryIO, cast

from . import sniff


def read_head(pipe: io.RawIOBase) -> bytes:
    """Up to 64 bytes, or as many as tell an MPEG transport stream where the first of its marks is there.

    Text is not waited for once a line is there, so that a slow pipe of names gets its first answer at once.
    """
    head = b""
    while True:
        packets = sniff.may_be_transport_stream(head)
        binary = head[:1] in (b"\x89", b"\xff", b"\x00") or (packets and b"\x00" in head)
        missing = (sniff.HEAD if packets else 64) - len(head)
        if missing <= 0 or (b"\n" in head and not binary):
            return head
        part = pipe.read(missing)
        if not part:
            return head
        head += part


def lines(head: bytes, pipe: io.RawIOBase, end: bytes) -> Iterator[bytes]:
    """The pipe's lines without their ends, and without UTF-8's mark at the start. Unbuffered: a line is there as soon as it is sent."""
    rest: list[bytes] = []
    part: bytes | None = head.removeprefix(codecs.BOM_UTF8) or pipe.read(1 << 16)
    while part:
        if end in part:
            *whole, last = b"".join([*rest, part]).split(end)
            yield from whole
            rest = [last]
        else:
            rest.append(part)
        part = pipe.read(1 << 16)
    if torn := b"".join(rest):
        yield torn


def rewound(head: bytes, pipe: io.RawIOBase) -> BinaryIO:
    """A video whose ``head`` was read already, from its start: as a file where it is one, because an MP4 may have its index at the end."""
    if pipe.seekable() and pipe.tell() == len(head):
        pipe.seek(0)
        return cast(BinaryIO, pipe)
    return cast(BinaryIO, _Prefixed(head, pipe))


class _Prefixed:
    """What PyAV needs of a file."""

    def __init__(self, head: bytes, pipe: io.RawIOBase) -> None:
        self._head = head
        self._pipe = pipe

    def seekable(self) -> bool:
        return False

    def read(self, size: int = -1) -> bytes:
        if self._head:
            part, self._head = (self._head[:size], self._head[size:]) if size >= 0 else (self._head, b"")
            return part
        return self._pipe.read(size) or b""
