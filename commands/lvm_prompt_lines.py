"""The lines of `visiontk lvm-prompt`, as those commands read them that take them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from visiontk.errors import ItemError
from visiontk.records import Record

if TYPE_CHECKING:
    from PIL.Image import Image

KEY = "lvm_prompt"


def frames(record: Record) -> list[str]:
    """The files of a line's sentence: picture and answer of each pair, then the query. Raises ItemError."""
    value = record[KEY]
    if isinstance(value, dict) and isinstance(value.get("error"), dict):
        raise ItemError("bad_record", f"its prompt was not made ({value['error'].get('message')}); make it again with visiontk lvm-prompt")
    names = value.get("frames") if isinstance(value, dict) else None
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        raise ItemError("bad_record", f'its "{KEY}" has no list of "frames"; make it with visiontk lvm-prompt')
    if len(names) < 3 or len(names) % 2 == 0:
        message = f'its "{KEY}" has {len(names)} frames, which are no pairs and a query'
        raise ItemError("bad_record", f"{message}; make it with visiontk lvm-prompt")
    return names


def most_of_pairs(room: int) -> int:
    """Of so many pictures the odd number that is whole pairs and a query."""
    return room - 1 + room % 2


def picture(name: str) -> Image:
    """One of the frames. Raises ItemError, which names it."""
    from visiontk.media import files, images

    try:
        return images.decode(files.read(name))
    except ItemError as error:
        raise ItemError(error.kind, f"{name}: {error.message}") from error
