"""Sentences for `visiontk lvm-continue`: one of all pictures that are named, and one of each line of `visiontk lvm-prompt`."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from visiontk.errors import ItemError, UsageError
from visiontk.records import Failing, Item, Record, failed

from . import lvm_prompt_lines
from .lvm_inputs import Broken, check_count, load_error
from .lvm_prompt_lines import KEY

if TYPE_CHECKING:
    from PIL.Image import Image


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
        thinning: the options that leave out frames, as they were given; empty where none does.
        notice: is told in words what is dropped.
        wanted: whether a sentence, of the line of `lvm-prompt` or of none, is to be made at all; it may raise `ItemError`, which fails it
            before its pictures are decoded.
        fit: makes a picture what the model sees of it.
    """

    most: int
    model: str
    count: int
    pairs: bool
    thinning: str
    notice: Callable[[str], None]
    wanted: Callable[[int, Sentence, Record | None], bool]
    fit: Callable[[Image], Image]


def sentences(items: Iterable[Item[Any]], taking: Taking) -> Iterator[Item[Any]]:
    """An item for each sentence, for each picture that cannot be decoded, and for each line that passes through.

    Lines with a prompt come as they are read; all other pictures are one sentence at the end.

    Raises:
        UsageError: the pictures are too few, or no pairs; nothing came at all.
    """
    last: deque[Item[Any]] = deque(maxlen=taking.most)
    lost: list[Item[Any]] = []
    common: Record | None = None
    count = index = 0
    nothing = True
    for item in items:
        nothing = False
        if item.load is None and (KEY not in item.record or item.record.get("path") != "-"):
            yield item
        elif KEY in item.record:  # also where its query came through a pipe and cannot be read again: its frames can
            if taking.thinning:
                raise UsageError("the pipe holds sentences of lvm-prompt, which are taken whole; leave out --stride and --frames")
            if taking.count > 1:
                raise UsageError(f"a sentence of lvm-prompt ends with one answer, and -n is {taking.count}; leave out -n")
            yield from _prompt(item, index, taking)
            index += 1
        else:
            own = {key: value for key, value in item.record.items() if key not in ("path", "frame", "time")}
            common = own if common is None else {key: value for key, value in common.items() if key in own and own[key] == value}
            if len(last) == taking.most and _is_lost(last[0]):
                lost.append(last[0])
            last.append(item)
            count += 1
    if common is not None:
        yield from _plain(list(last), lost, common, count, index, taking)
    if nothing:
        raise UsageError("there is no image; name two or more, or send their paths or lines of visiontk lvm-prompt through the pipe")


def _plain(last: list[Item[Any]], lost: list[Item[Any]], common: Record, count: int, index: int, taking: Taking) -> Iterator[Item[Any]]:
    """The one sentence of all pictures that are no prompts. ``lost`` are those before the ``last`` that cannot be read."""
    if count == 1:
        (alone,) = last
        try:
            alone.load()  # type: ignore[misc]
        except ItemError as error:
            yield failed(alone.record, error)
            return
    check_count(count, taking.pairs, taking.thinning)
    if taking.pairs:
        most = _most_of_pairs(taking)
        lost, last = [*lost, *filter(_is_lost, last[:-most])], last[-most:]
    names = tuple(_name(item.record) for item in last)
    pairs = len(names) // 2 if taking.pairs else None
    sentence = Sentence(names, _about(last[-1].record), common, count - len(names), pairs)
    yield from _wanted(sentence, last, index, taking, lost=lost)


def _prompt(item: Item[Any], index: int, taking: Taking) -> Iterator[Item[Any]]:
    """The sentence of a line of `visiontk lvm-prompt`."""
    try:
        names = lvm_prompt_lines.frames(item.record)
    except ItemError as error:
        yield failed(item.record, error)
        return
    kept = names[-_most_of_pairs(taking) :]
    task = item.record[KEY].get("task")
    record = {key: one for key, one in item.record.items() if key not in ("frame", "time")}
    sentence = Sentence(
        tuple(kept), _about(item.record), record, len(names) - len(kept), len(kept) // 2, task if isinstance(task, str) else None
    )
    pictures = [Item({"path": name}, partial(lvm_prompt_lines.picture, name)) for name in kept]
    yield from _wanted(sentence, pictures, index, taking, item.record)


def _wanted(
    sentence: Sentence, items: list[Item[Any]], index: int, taking: Taking, record: Record | None = None, lost: Iterable[Item[Any]] = ()
) -> Iterator[Item[Any]]:
    """The item of a sentence, if it is to be made. A picture that cannot be decoded has its own line where ``record`` is None."""
    line = {**sentence.about, **sentence.record} if record is None else record
    try:
        if not taking.wanted(index, sentence, record):
            return
    except ItemError as error:
        yield failed(line, error)
        return
    if sentence.dropped:
        sees = f"{taking.model} sees {taking.most} at once"
        taking.notice(
            f"{sentence.dropped + len(items)} pictures up to {sentence.names[-1]}, and {sees}: the oldest {sentence.dropped} are dropped"
        )
    images: list[Image] = []
    broken: list[Broken] = [(item, why) for item in lost if (why := load_error(item)) is not None]
    for item in items:
        try:
            assert item.load is not None
            images.append(taking.fit(item.load()))
        except ItemError as error:
            broken.append((item, error))
    if broken and record is None:
        yield from (failed(item.record, error) for item, error in broken)
        taking.notice(not_continued(len(broken)))
    elif broken and record is not None:
        yield failed(record, broken[0][1])
    else:
        yield Asked(line, lambda: Ready(sentence, images, index, line))


def not_continued(broken: int) -> str:
    return f"the sentence is not continued, as {broken} of its pictures cannot be read"


def _is_lost(item: Item[Any]) -> bool:
    """Whether a picture for which there is no room cannot be read, as far as that shows without decoding it: there may be millions."""
    from visiontk import listing

    path = item.record.get("path")
    if isinstance(item.load, Failing) or "frame" in item.record or not isinstance(path, str):
        return isinstance(item.load, Failing)
    return path != "-" and not listing.is_url(path) and not os.path.exists(path)  # noqa: PTH110  Path raises for names too long


def _most_of_pairs(taking: Taking) -> int:
    """An odd number, so that what is dropped is pairs. Raises UsageError."""
    if taking.most < 3:
        raise UsageError(f"{taking.model} sees {taking.most} pictures at once, which is no pair and a query; name another model")
    return lvm_prompt_lines.most_of_pairs(taking.most)


def _about(record: Record) -> Record:
    return {key: record[key] for key in ("path", "frame", "time") if key in record}


def _name(record: Record) -> str:
    path = str(record.get("path", record.get("input", "-")))
    return f"{path}@{record['frame']}" if "frame" in record else path
