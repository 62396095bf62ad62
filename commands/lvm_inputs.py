"""What `visiontk lvm-continue` reads: one sentence of all that is named, and a sentence of each line of `visiontk lvm-prompt`."""

from __future__ import annotations

import io
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from visiontk.errors import ItemError, UsageError
from visiontk.records import Item, Record, failed

if TYPE_CHECKING:
    from PIL.Image import Image

    from visiontk.sources import Reading

PROMPT = "lvm_prompt"  # the key of a whole sentence of pairs


@dataclass(frozen=True)
class Sentence:
    """What is continued.

    Attributes:
        names: the files of the pictures that the model is given, oldest first; a frame of a video is ``FILE@NUMBER``.
        about: the last of them, as a record names it.
        record: the keys of its lines that pass on.
        dropped: how many older pictures there were, for which the context has no room.
        pairs: of picture and answer, before the query; None for a sentence that goes on in time.
        task: what the pairs show, where their line says it.
    """

    names: tuple[str, ...]
    about: Record
    record: Record
    dropped: int = 0
    pairs: int | None = None
    task: str | None = None


@dataclass(frozen=True)
class Ready:
    """A sentence with its pictures, as the model sees them.

    Attributes:
        index: counts the sentences of the run.
        line: what is written of it where it fails.
    """

    sentence: Sentence
    images: list[Image]
    index: int
    line: Record


class Asked(Item[Ready]):
    """The item of a sentence that is to be made."""


@dataclass(frozen=True)
class Taking:
    """How pictures become sentences.

    Attributes:
        most: pictures that the model can be given.
        model: its name, for messages.
        count: images that are made of a sentence.
        pairs: whether all that is named is pairs and a query.
        whole: whether no frames are left out.
        notice: is told in words what is dropped.
        wanted: whether a sentence is to be made at all; it may raise `ItemError`, which fails it before its pictures are decoded.
        fit: makes a picture what the model sees of it.
    """

    most: int
    model: str
    count: int
    pairs: bool
    whole: bool
    notice: Callable[[str], None]
    wanted: Callable[[int, Sentence, Record], bool]
    fit: Callable[[Image], Image]


def check_names(names: list[str], pairs: bool) -> None:
    """Raise UsageError for picture files that cannot make a sentence, before a model is loaded; what else is named is known later."""
    from visiontk import sources

    if all(os.path.isfile(name) or os.path.isdir(name) for name in names):  # noqa: PTH112, PTH113  Path raises for names too long
        count = sources.count(names)
        if count:
            check_count(count, pairs)


def check_count(count: int, pairs: bool) -> None:
    """Raise UsageError for so many pictures that they are no sentence."""
    if count == 1:
        shown = "a query without a pair shows no task; name image and answer, at least once, before it"
        raise UsageError(f"there is one image only: {shown if pairs else 'it does not show how to go on; name two images or more'}")
    if pairs and count % 2 == 0:
        raise UsageError(f"{count} images are no pairs and a query; name an odd number: image, answer, image, answer, ..., query")


def thinned(names: Iterable[str], pipe: io.RawIOBase | None, reading: Reading, stride: int, frames: int | None) -> Iterator[Item[Image]]:
    """The items of the inputs, without those that ``stride`` and ``frames`` leave out.

    Each video is counted for itself, and so are pictures that come one after the other. A video's frames come as its reader has them, which
    is every ``stride``-th already; what a line names as a frame is wanted.
    """
    from visiontk import sources

    run: str | None = ""
    place = 0
    for name in names:
        for item in sources.from_arguments([name], pipe, reading):
            if item.load is None or PROMPT in item.record:
                yield item
                continue
            video = item.record["path"] if "frame" in item.record and "path" in item.record else None
            if video != run:
                run, place = video, 0
            step = 1 if "time" in item.record else stride
            number, between = divmod(place, step)
            place += 1
            if not between and (frames is None or number < frames):
                yield item
            elif frames is not None and number >= frames and video == name:
                break  # the rest of the video need not be decoded


def sentences(items: Iterable[Item[Any]], taking: Taking) -> Iterator[Item[Any]]:
    """An item for each sentence, for each picture that cannot be decoded, and for each line that passes through.

    Lines with a prompt come as they are read; all other pictures are one sentence at the end.

    Raises:
        UsageError: the pictures are too few, or no pairs.
    """
    last: deque[Item[Any]] = deque(maxlen=taking.most)
    common: Record | None = None
    count = index = 0
    for item in items:
        if item.load is None:
            yield item
        elif PROMPT in item.record:
            if not taking.whole:
                raise UsageError("the pipe holds sentences of lvm-prompt, which are taken whole; leave out --stride and --frames")
            if taking.count > 1:
                raise UsageError(f"a sentence of lvm-prompt ends with one answer, and -n is {taking.count}; leave out -n")
            yield from _prompt(item, index, taking)
            index += 1
        else:
            own = {key: value for key, value in item.record.items() if key not in ("path", "frame", "time")}
            common = own if common is None else {key: value for key, value in common.items() if key in own and own[key] == value}
            last.append(item)
            count += 1
    if common is not None:
        yield from _plain(list(last), common, count, index, taking)


def _plain(last: list[Item[Any]], common: Record, count: int, index: int, taking: Taking) -> Iterator[Item[Any]]:
    """The one sentence of all pictures that are no prompts."""
    if count == 1:
        (alone,) = last
        try:
            alone.load()  # type: ignore[misc]
        except ItemError as error:
            yield failed(alone.record, error)
            return
    check_count(count, taking.pairs)
    if taking.pairs:
        last = last[-_most_of_pairs(taking) :]
    names = tuple(_name(item.record) for item in last)
    pairs = len(names) // 2 if taking.pairs else None
    sentence = Sentence(names, _about(last[-1].record), common, count - len(names), pairs)
    yield from _wanted(sentence, last, index, taking)


def _prompt(item: Item[Any], index: int, taking: Taking) -> Iterator[Item[Any]]:
    """The sentence of a line of `visiontk lvm-prompt`."""
    value = item.record[PROMPT]
    try:
        names = value.get("frames") if isinstance(value, dict) else None
        if isinstance(value, dict) and isinstance(value.get("error"), dict):
            raise ItemError("bad_record", f"lvm-prompt made no sentence of it ({value['error'].get('message')})")
        if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
            raise ItemError("bad_record", f'its "{PROMPT}" has no list of "frames"; make it with visiontk lvm-prompt')
        try:
            check_count(len(names), pairs=True)
        except UsageError as error:
            raise ItemError("bad_record", f'"{PROMPT}": {error}') from error
    except ItemError as error:
        yield failed(item.record, error)
        return
    kept = names[-_most_of_pairs(taking) :]
    task = value.get("task")
    record = {key: one for key, one in item.record.items() if key not in ("frame", "time")}
    sentence = Sentence(
        tuple(kept), _about(item.record), record, len(names) - len(kept), len(kept) // 2, task if isinstance(task, str) else None
    )
    yield from _wanted(sentence, [Item({"path": name}, _file(name)) for name in kept], index, taking, item.record)


def _wanted(sentence: Sentence, items: list[Item[Any]], index: int, taking: Taking, record: Record | None = None) -> Iterator[Item[Any]]:
    """The item of a sentence, if it is to be made. A picture that cannot be decoded has its own line where ``record`` is None."""
    line = {**sentence.about, **sentence.record} if record is None else record
    try:
        if not taking.wanted(index, sentence, line):
            return
    except ItemError as error:
        yield failed(line, error)
        return
    if sentence.dropped:
        sees = f"{taking.model} sees {taking.most} at once"
        taking.notice(
            f"{sentence.dropped + len(items)} pictures up to {sentence.names[-1]}, and {sees}: the oldest {sentence.dropped} are dropped"
        )
    images, broken = [], []
    for item in items:
        try:
            assert item.load is not None
            images.append(taking.fit(item.load()))
        except ItemError as error:
            broken.append((item, error))
    if broken and record is None:
        yield from (failed(item.record, error) for item, error in broken)
        taking.notice(f"the sentence is not continued, as {len(broken)} of its pictures cannot be read")
    elif broken and record is not None:
        first, reason = broken[0]
        yield failed(record, ItemError(reason.kind, f"{first.where}: {reason.message}"))
    else:
        yield Asked(line, lambda: Ready(sentence, images, index, line))


def _most_of_pairs(taking: Taking) -> int:
    """An odd number, so that what is dropped is pairs. Raises UsageError."""
    if taking.most < 3:
        raise UsageError(f"{taking.model} sees {taking.most} pictures at once, which is no pair and a query; name another model")
    return taking.most - 1 + taking.most % 2


def _about(record: Record) -> Record:
    return {key: record[key] for key in ("path", "frame", "time") if key in record}


def _name(record: Record) -> str:
    path = str(record.get("path", record.get("input", "-")))
    return f"{path}@{record['frame']}" if "frame" in record else path


def _file(path: str) -> Callable[[], Image]:
    def load() -> Image:
        from visiontk.media import files, images

        return images.decode(files.read(path))

    return load
