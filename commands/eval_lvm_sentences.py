"""What `visiontk eval lvm` measures: folders of frames, videos, and lines of `visiontk lvm-prompt`, each a sentence."""

from __future__ import annotations

import io
import itertools
import os
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visiontk.errors import ItemError, UsageError
from visiontk.records import Item, Record, decode, failed

from . import lvm_prompt_lines
from .lvm_prompt_lines import KEY, picture

if TYPE_CHECKING:
    from PIL.Image import Image

    from visiontk.media.clips import Clip
    from visiontk.media.sentence_tasks import IndexMap

LINES = ".jsonl"
_NAME = "name folders of frames, videos, or lines of `visiontk lvm-prompt`"
LEAST_CONTEXT = 4  # frames: a pair, a query and the answer
PLAIN = "frames"  # the task of sentences that are no pairs


@dataclass(frozen=True)
class Sentence:
    """Pictures as the model sees them, squares of its side.

    Attributes:
        task: of `visiontk lvm-prompt`, else `PLAIN`.
        frames: in order; of pairs the last one is the query.
        truth: the query's true answer, where it is known.
        objects: the same of ``segment``: the index (side, side) in the palette.
        palette: of ``segment``: background, then things.
        left_out: frames at the beginning that are more than the context holds.
    """

    task: str
    frames: list[Image]
    truth: Image | None = None
    objects: IndexMap | None = None
    palette: tuple[tuple[int, int, int], ...] = ()
    left_out: int = 0


@dataclass(frozen=True)
class Reading:
    """How sentences are read.

    Attributes:
        side: of the model's pictures.
        context: frames that the model takes at once.
        most, stride: at most so many frames, each so many-th, of folders and videos.
        allow_urls: fetch http and https URLs.
    """

    side: int
    context: int
    most: int | None = None
    stride: int = 1
    allow_urls: bool = False


def read(names: list[str], pipe: io.RawIOBase | None, reading: Reading) -> Iterator[Item[Sentence]]:
    """One item for each sentence. Pictures that are named one after the other are one.

    Raises:
        UsageError: a file of lines cannot be read.
    """
    for are_lines, group in itertools.groupby(names, key=lambda name: name == "-" or name.lower().endswith(LINES)):
        if not are_lines:
            yield from _plain(list(group), reading)
            continue
        for name in group:
            yield from _from_pipe(pipe or io.BytesIO() if name == "-" else _open(name), reading)  # type: ignore[arg-type]


def check_names(names: list[str]) -> None:
    """Raise UsageError for a file of lines that is missing, and where nothing that is named is there, before a model is loaded."""
    from visiontk.listing import is_url

    gone = [name for name in names if name != "-" and not is_url(name) and not _exists(name)]
    for name in gone:
        if name.lower().endswith(LINES):
            raise UsageError(f"there is no {name}; {_NAME}")
    if gone and len(gone) == len(names):
        raise UsageError(f"there is no {', '.join(gone[:3])}{' ...' if len(gone) > 3 else ''}; {_NAME}")


def _exists(name: str) -> bool:
    from visiontk import listing

    found = os.path.lexists(os.path.expanduser(name) if name.lower().endswith(LINES) else name)  # noqa: PTH111  Path raises for some names
    return found or (listing.is_pattern(name) and bool(listing.matching(name)))


def _from_pipe(pipe: io.RawIOBase, reading: Reading) -> Iterator[Item[Sentence]]:
    from visiontk.media import clips, images, pipes, video

    head = pipes.read_head(pipe)
    if images.looks_like_image(head):
        raise UsageError("the pipe holds one picture, which is no sentence; send lines of visiontk lvm-prompt, paths or a video")
    if video.looks_like_video(head):
        source = pipes.rewound(head, pipe)
        yield _clip(Item({"path": "-"}, lambda: clips.from_source(source)), reading)
        return
    yield from _lines(pipes.lines(head, pipe, b"\n"), reading)


def _lines(lines: Iterable[bytes], reading: Reading) -> Iterator[Item[Sentence]]:
    """Lines of `visiontk lvm-prompt` are a sentence each; of records and paths, pictures that come one after the other are one."""
    plain: list[str] = []
    for line in filter(bytes.strip, lines):
        try:
            record = _decoded(line)
        except ItemError as error:
            yield failed({"input": line.decode("utf-8", "replace")}, error)
            continue
        if KEY not in record and record.get("path", "-") == "-":
            yield Item(record, None)
            continue
        if KEY not in record and "frame" not in record:
            plain.append(record["path"])
            continue
        yield from _plain(plain, reading)
        plain = []
        yield _record(record, reading)
    yield from _plain(plain, reading)


def _decoded(line: bytes) -> Record:
    """The record of a line, which may be a path alone. Raises ItemError."""
    return decode(line) if line.lstrip().startswith(b"{") else {"path": line.decode("utf-8", "surrogateescape").strip()}


def _record(record: Record, reading: Reading) -> Item[Sentence]:
    about: Record = {name: record[name] for name in ("path", "frame") if name in record}
    if KEY not in record and "frame" in record:
        return failed(about, ItemError("bad_record", "it is one frame of a video; name the video, or a folder of its frames"))
    if KEY in record and any(isinstance(value, dict) and "sentence" in value for name, value in record.items() if name != KEY):
        made = "it is an image that was made already, and answers are made here"
        return failed(about, ItemError("bad_record", f"{made}; send the lines of `visiontk lvm-prompt` themselves"))
    return Item(about, partial(_prompt, record, reading))


def _prompt(record: Record, reading: Reading) -> Sentence:
    """The sentence of a line of `visiontk lvm-prompt`. Raises ItemError."""
    import numpy as np

    from visiontk.media.sentence_tasks import squared, squared_map
    from visiontk.metrics.sentences import colour_map

    frames = lvm_prompt_lines.frames(record)
    if reading.context < LEAST_CONTEXT:
        raise ItemError("bad_record", f"the model sees {reading.context} frames at once, and a pair, a query and its answer are 4")
    truth, colours, task = (record[KEY].get(name) for name in ("truth", "palette", "task"))
    if not isinstance(task, str) or not isinstance(truth, str | None) or (task == "segment" and not _is_palette(colours)):
        raise ItemError("bad_record", f'its "{KEY}" is not as `visiontk lvm-prompt` writes it')
    palette = tuple((red, green, blue) for red, green, blue in colours or ()) if task == "segment" else ()
    kept = frames[-lvm_prompt_lines.most_of_pairs(reading.context - 1) :]  # as there must be room for the answer
    images = [squared(picture(name), reading.side) for name in kept]
    answer = None if truth is None else picture(truth)
    objects = None
    if answer is not None and palette:
        objects = squared_map(colour_map(np.asarray(answer), palette).astype(np.uint16), reading.side)
    return Sentence(task, images, answer and squared(answer, reading.side), objects, palette, len(frames) - len(kept))


def _plain(names: list[str], reading: Reading) -> Iterator[Item[Sentence]]:
    from visiontk import sources

    for item in sources.from_arguments_whole(names, None, sources.Reading(sequence=True, allow_urls=reading.allow_urls)):
        yield _clip(item, reading)


def _clip(item: Item[Any], reading: Reading) -> Item[Sentence]:
    load = item.load
    return Item(item.record, None if load is None else lambda: _frames(load(), reading))


def _frames(payload: Any, reading: Reading) -> Sentence:
    """The first frames of a clip, or of one picture. Raises ItemError."""
    from PIL.Image import Image

    from visiontk.media.sentence_tasks import squared

    if isinstance(payload, Image):
        return Sentence(PLAIN, [squared(payload, reading.side)])
    most = min(reading.most or reading.context, reading.context)
    frames: list[Image] = []
    with closing(payload.read(0)) as read:
        place = 0
        try:
            for place, frame in enumerate(itertools.islice(read, (most - 1) * reading.stride + 1), 1):
                if (place - 1) % reading.stride == 0:
                    frames.append(squared(frame.image, reading.side))
        except ItemError as error:
            raise ItemError(error.kind, f"{_at(payload, place)}{error.message}") from error
    return Sentence(PLAIN, frames)


def _at(clip: Clip, place: int) -> str:
    """What names a clip's frame before a message: the picture's file, or its number; nothing, where none was read of a video."""
    if clip.lines and place < len(clip.lines):
        return f"{clip.lines[place].get('path')}: "
    return f"frame {place}: " if place else ""


def _is_palette(value: Any) -> bool:
    colours = value if isinstance(value, list) else []
    return len(colours) > 1 and all(
        isinstance(colour, list) and len(colour) == 3 and all(type(level) is int and 0 <= level <= 255 for level in colour)
        for colour in colours
    )


def _open(name: str) -> io.RawIOBase:
    try:
        return io.FileIO(Path(name).expanduser())
    except OSError as error:
        raise UsageError(f"cannot read {name} ({error.strerror or error}); name a file of lines") from error
