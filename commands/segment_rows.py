"""What a stopped run of `visiontk segment` took pictures for: each for itself, or the frames of a video."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from visiontk.errors import UsageError
from visiontk.records import Item, Record
from visiontk.resume import Held, identity


class Rows:
    """The lines of ``--resume FILE`` that are of pictures in a row, by what they are known by, and the failed ones, which do not tell."""

    def __init__(self, stage: str) -> None:
        self._stage = stage
        self._frames = Counter[bytes]()
        self._failed: set[bytes] = set()

    def note(self, key: bytes, record: Record) -> None:
        """Take notice of a line, as `resume.read_held` gives them."""
        value = record.get(self._stage)
        if isinstance(value, dict) and "error" in value:
            self._failed.add(key)
        elif isinstance(value, dict) and "frame" in value:
            self._frames[key] += 1

    def singles(self, items: Iterable[Item[Any]], held: Held) -> Iterator[Item[Any]]:
        """The items, of which none may be a picture that was a frame before and nothing else. Raises UsageError."""
        for item in items:
            if self._frames:
                key = identity(item.record)
                if 0 < held.counts[key] == self._frames[key]:
                    raise _other(item.record, "one of the frames of a video", "--sequence")
            yield item

    def check_frame(self, record: Record) -> None:
        """Raise UsageError for a picture that is a frame now, and was taken for itself before."""
        key = identity(record)
        if key not in self._frames and key not in self._failed:
            raise _other(record, "a picture for itself", "--no-sequence")


def _other(record: Record, before: str, option: str) -> UsageError:
    return UsageError(f"{record['path']} was answered as {before} in the file that --resume names; give {option}, or name a new file")
