"""The record: one JSON object a line, the only thing that flows between commands.

A record is a plain ``dict``. ``path`` (and ``frame``, ``time`` for a video frame) says what it is about; each stage adds one key of
its own. Paths are text with ``os.fsdecode``'s surrogates for bytes that are not UTF-8; in JSON these are written as ``\\udcXX`` escapes,
so a line is always valid UTF-8 and reading it back gives the same bytes on disk.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, NoReturn, TypeVar

from .errors import ItemError

Record = dict[str, Any]
T = TypeVar("T")

_SURROGATES = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Item(Generic[T]):
    """What one line is about.

    ``record`` holds the keys known so far, in order. ``load`` gives the payload (an image) or raises `ItemError`; it may run on another
    thread. ``load`` is None where the line has no ``path``: such a line passes through untouched.
    """

    record: Record
    load: Callable[[], T] | None

    @property
    def where(self) -> str:
        """The item in words, for messages: ``clip.mp4 frame 3``."""
        path = str(self.record.get("path", "a line without a path"))
        return f"{path} frame {self.record['frame']}" if "frame" in self.record else path


@dataclass(frozen=True)
class Failing:
    """Loads nothing but raises: the ``load`` of an item that is known to fail."""

    error: ItemError

    def __call__(self) -> NoReturn:
        raise self.error


def failed(record: Record, error: ItemError) -> Item[Any]:
    """An item that cannot be loaded, known before anyone tries."""
    return Item(record, Failing(error))


def encode(record: Record) -> bytes:
    """One line, newline included, as UTF-8. Raises ValueError for NaN and infinities, which JSON does not have."""
    text = json.dumps(record, ensure_ascii=False, allow_nan=False)
    return _SURROGATES.sub(lambda match: f"\\u{ord(match[0]):04x}", text).encode() + b"\n"


def decode(line: bytes) -> Record:
    """The record of one line. Raises `ItemError` (``bad_record``) for what is no JSON object, or has no string as its ``path``."""
    try:
        record = json.loads(line.decode("utf-8", "surrogateescape"), parse_constant=_refuse_constant, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise ItemError("bad_record", f"not a JSON line ({error})") from error
    if not isinstance(record, dict):
        raise ItemError("bad_record", f"a JSON {type(record).__name__} and not an object")
    if not isinstance(record.get("path", ""), str):
        raise ItemError("bad_record", "its path is not a string")
    frame = record.get("frame", 0)
    if not isinstance(frame, int) or isinstance(frame, bool) or frame < 0:
        raise ItemError("bad_record", "its frame is not a number from 0 on")
    return record


def error_value(error: ItemError) -> Record:
    """What a failed stage writes under its key."""
    return {"error": {"kind": error.kind, "message": error.message}}


def schema() -> Record:
    """The JSON Schema (2020-12) of a record, as `visiontk schema` prints it."""
    from importlib import resources

    text = resources.files("visiontk").joinpath("record.schema.json").read_text("utf-8")
    return dict(json.loads(text))


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _finite(digits: str) -> float:
    """What `encode` can write again."""
    if not math.isfinite(number := float(digits)):
        raise ValueError(f"{digits} is not finite")
    return number
