"""What comes through a pipe, whose beginning says what it is: the first bytes, lines, or the bytes of a video."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import BinaryIO, cast


def read_head(pipe: io.RawIOBase) -> bytes:
    """Up to 64 bytes. Text is not waited for once a line is there, so that a slow pipe of names gets its first answer at once."""
    head = b""
    while len(head) < 64 and not (b"\n" in head and head[:1] not in b"\x89\xff\x00"):
        part = pipe.read(64 - len(head))
        if not part:
            break
        head += part
    return head


def lines(head: bytes, pipe: io.RawIOBase, end: bytes) -> Iterator[bytes]:
    """The pipe's lines without their ends. The reading is unbuffered, so a line is there as soon as it is written."""
    rest: list[bytes] = []
    part: bytes | None = head
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
