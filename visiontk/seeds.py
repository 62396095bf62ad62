"""Lists of seeds, and sizes of pictures, as they are written on the command line and in files of prompts."""

from __future__ import annotations

import re

from .errors import UsageError

LARGEST = 2**63 - 1
MOST = 1_000_000

_PART = re.compile(r"\s*(\d{1,19})\s*(?:-\s*(\d{1,19})\s*)?")
_SIZE = re.compile(r"\s*(\d{1,6})\s*[xX×]\s*(\d{1,6})\s*")


def parse(text: str) -> tuple[int, ...]:
    """The seeds of a list such as ``1,2,10-20``, in its order. Raises UsageError for what is no list, or names a seed twice."""
    found: list[int] = []
    for part in text.split(","):
        match = _PART.fullmatch(part)
        if match is None:
            raise UsageError(f'"{text}" is no list of seeds; write whole numbers from 0 on and ranges: 1,2,10-20')
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise UsageError(f'the range "{part.strip()}" of seeds goes backwards; write {last}-{first}')
        if last > LARGEST:
            raise UsageError(f"the seed {last} is too large; there are seeds up to {LARGEST}")
        if len(found) + last - first >= MOST:
            raise UsageError(f'"{text}" has more than {MOST:,} seeds; give fewer')
        found.extend(range(first, last + 1))
    known: set[int] = set()
    for seed in found:
        if seed in known:
            raise UsageError(f'"{text}" has the seed {seed} twice, which makes the same picture; name it once')
        known.add(seed)
    return tuple(found)


def parse_size(text: str) -> tuple[int, int]:
    """Width and height in pixels of ``WIDTHxHEIGHT``. Raises UsageError."""
    match = _SIZE.fullmatch(text)
    if match is None or not (int(match[1]) and int(match[2])):
        raise UsageError(f'"{text}" is no size; write WIDTHxHEIGHT in pixels, such as 512x768')
    return int(match[1]), int(match[2])
