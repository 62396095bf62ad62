"""What `visiontk generate` reads: prompts from arguments, files and pipes; init images and masks from files and records."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visiontk import orders
from visiontk.errors import ItemError, UsageError
from visiontk.orders import Order
from visiontk.records import Item, Record

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

_KEY = re.compile(r"([\w-]+)(?:#([0-9]{1,9}))?")


@dataclass(frozen=True)
class Broken:
    """A line that is no prompt."""

    record: Record
    error: ItemError


class Init:
    """An image that is changed: read when it is needed, and once. ``about`` says where it is from."""

    def __init__(self, about: Record, load: Callable[[], Image]) -> None:
        self.about, self._load = about, load

    @cached_property
    def image(self) -> Image:
        """RGB. Raises ItemError."""
        try:
            return self._load()
        except ItemError as error:
            raise ItemError(error.kind, f"the init image {self.about['path']}: {error.message}") from error

    @cached_property
    def value(self) -> Record:
        """As the record has it, with the pixels' sha256. Raises ItemError."""
        from visiontk.media.embedded import pixels_sha256

        return {**self.about, "sha256": pixels_sha256(self.image)}


class Mask:
    """What is painted anew. ``text`` is what named it, a record's RLE where it stands there itself."""

    def __init__(self, text: str | Record, load: Callable[[], NDArray[np.bool_]], *, file: bool) -> None:
        self.text, self._load, self._file = text, load, file

    @cached_property
    def pixels(self) -> NDArray[np.bool_]:
        """Bool (H, W). Raises ItemError, also where it is empty."""
        found = self._load()
        if not found.any():
            raise ItemError("bad_prompt", "the mask shows nothing; what is white in it is painted anew")
        return found

    @cached_property
    def value(self) -> Record:
        """As the record has it: its file or its key, its run lengths where no file has them, its sha256. Raises ItemError."""
        from visiontk.media.embedded import mask_sha256
        from visiontk.media.masks import encode_rle

        about: Record = {"path": self.text} if self._file else {"rle": encode_rle(self.pixels)}
        if not self._file and isinstance(self.text, str):
            about = {"key": self.text, **about}
        return {**about, "sha256": mask_sha256(self.pixels)}


def init_file(path: str) -> Init:
    """The init image in a file."""

    def load() -> Image:
        from visiontk.media import files, images

        return images.decode(files.read(path))

    return Init({"path": path}, load)


def init_item(item: Item[Image]) -> Init:
    """The init image that a piped record is about."""
    assert item.load is not None
    about: Record = {key: item.record[key] for key in ("path", "frame", "time") if key in item.record}
    return Init(about, item.load)


def mask_of(text: str | Record, record: Record) -> Mask:
    """The mask of ``--mask``: a file, or where the record has such a key, its objects; or RLE."""
    if not isinstance(text, str):
        from visiontk.media.masks import decode_rle

        rle = text
        return Mask(rle, lambda: decode_rle(rle), file=False)
    if (match := _KEY.fullmatch(text)) and match[1] in record:
        return Mask(text, lambda: _objects(record[match[1]], text, match[2]), file=False)
    return Mask(text, lambda: _mask_file(text), file=True)


def names_key(text: str) -> bool:
    """Whether it can be the key of a record and is no file."""
    return _KEY.fullmatch(text) is not None and not os.path.lexists(text)


def _objects(value: Any, text: str, number: str | None) -> NDArray[np.bool_]:
    """All objects of a stage in one mask, or the one of that id."""
    from visiontk.media.masks import decode_rle

    found = value.get("objects") if isinstance(value, dict) else None
    objects = [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []
    chosen = [one for one in objects if number is None or one.get("id") == int(number)]
    if not chosen:
        there = ", ".join(str(one.get("id")) for one in objects) or "none"
        raise ItemError("bad_prompt", f"the record has no object {text}; there are: {there}")
    masks = [decode_rle(one.get("rle")) for one in chosen]
    if any(mask.shape != masks[0].shape for mask in masks):
        raise ItemError("bad_record", f"the masks of {text} are not of one size")
    union = masks[0]
    for mask in masks[1:]:
        union = union | mask
    return union


def _mask_file(path: str) -> NDArray[np.bool_]:
    import numpy as np

    from visiontk.media import files, images

    try:
        grey = images.decode(files.read(path)).convert("L")
    except ItemError as error:
        raise ItemError(error.kind, f"the mask {path}: {error.message}") from error
    return np.asarray(grey) >= 128


# --- prompts


def from_arguments(prompts: Iterable[str]) -> Iterator[Order]:
    """Raises UsageError for an empty one."""
    return (Order(orders.checked_text(text, f"the prompt {number}")) for number, text in enumerate(prompts, 1))


def read_file(file: Path) -> list[Order | Broken]:
    """The lines of ``--prompts``, those that are broken as items that fail. Raises UsageError where it cannot be read."""
    try:
        data = file.read_bytes()
    except OSError as error:
        raise UsageError(f"the prompts {file} cannot be read ({error.strerror or error}); name a file of text or JSON lines") from error
    found = list(_lines(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), str(file), piped=False))
    if not found:
        raise UsageError(f"the prompts {file} are empty; write a prompt on each line")
    return found


def from_pipe(pipe: io.RawIOBase) -> Iterator[Order | Broken]:
    """Prompts, and records with a prompt. Raises UsageError for the bytes of an image."""
    from visiontk.media import images, pipes

    head = pipes.read_head(pipe)
    if images.looks_like_image(head):
        raise UsageError("the pipe holds an image and no prompts; add --init -, and name prompts")
    return _lines(pipes.lines(head, pipe, b"\n"), "the pipe", piped=True)


def _lines(lines: Iterable[bytes], source: str, *, piped: bool) -> Iterator[Order | Broken]:
    """Empty lines at the end are none; those in between are empty prompts."""
    blank: list[int] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            blank.append(number)
            continue
        for place in [*blank, number]:
            yield _line(b"" if place != number else line.rstrip(b"\r"), f"line {place} of {source}", piped=piped)
        blank.clear()


def _line(line: bytes, where: str, *, piped: bool) -> Order | Broken:
    try:
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError as error:
            raise ItemError("bad_record", f"{where}: it is not UTF-8; save it as UTF-8") from error
        return orders.read_line(text, where, piped=piped)
    except ItemError as error:
        return Broken({"input": os.fsdecode(line)}, error)
