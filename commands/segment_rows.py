"""What the lines of a stopped run of `visiontk segment` tell: what pictures were taken for, by which prompts, and their files."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from visiontk.errors import UsageError
from visiontk.records import Item, Record
from visiontk.resume import Held, files_of, fingerprint, identity


class Rows:
    """The lines of ``--resume FILE``, by what they are known by: those of pictures in a row; the failed ones, which do not tell what they
    were taken for; those that had prompts of their own; and the files of frames, in the order of an item's lines.
    """

    def __init__(self, stage: str) -> None:
        self._stage = stage
        self._frames = Counter[bytes]()
        self._failed: set[bytes] = set()
        self._asked: dict[bytes, set[bytes]] = {}
        self._files: dict[bytes, list[tuple[str, ...]]] = {}

    def note(self, key: bytes, record: Record) -> None:
        """Take notice of a line, as `resume.read_held` gives them."""
        value = record.get(self._stage)
        if not isinstance(value, dict):
            return
        if "frame" in record or "frame" in value or "error" in value:
            self._files.setdefault(key, []).append(tuple(map(sys.intern, files_of(value))))
        if "error" in value:
            self._failed.add(key)
            return
        if "frame" in value:
            self._frames[key] += 1
        if "prompts" in record:
            self._asked.setdefault(key, set()).add(fingerprint({"prompts": record["prompts"]}))

    def singles(self, items: Iterable[Item[Any]], held: Held) -> Iterator[Item[Any]]:
        """The items, of which none may be a picture that was a frame before and nothing else, or had other prompts. Raises UsageError."""
        for item in items:
            key = identity(item.record) if self._frames or self._asked or (held.counts and "prompts" in item.record) else b""
            if key in held.counts:
                if held.counts[key] == self._frames[key]:
                    raise _other(item.record, "one of the frames of a video", "--sequence")
                self.check_prompts(item.record)
            yield item

    def check_prompts(self, record: Record) -> None:
        """Raise UsageError for an answered item whose line had other prompts than ``record``, or none."""
        key = identity(record)
        asked = self._asked.get(key, set())
        same = fingerprint({"prompts": record["prompts"]}) in asked if "prompts" in record else not asked
        if not same and key not in self._failed:
            what = "had other prompts in its line when it was answered in the file that --resume names"
            raise UsageError(f"{record['path']} {what}; send the same, or name a new file")

    def files(self, record: Record, held: Held) -> tuple[str, ...]:
        """Those that the next line of a frame names that has not met its item."""
        lines, met = self._files.get(identity(record), ()), held.met(record)
        return lines[met] if met < len(lines) else ()

    def check_frame(self, record: Record) -> None:
        """Raise UsageError for a picture that is a frame now, and was taken for itself before."""
        key = identity(record)
        if key not in self._frames and key not in self._failed:
            raise _other(record, "a picture for itself", "--no-sequence")


def _other(record: Record, before: str, option: str) -> UsageError:
    return UsageError(f"{record['path']} was answered as {before} in the file that --resume names; give {option}, or name a new file")
