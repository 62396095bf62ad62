"""From pictures to sentences: the pairs, which are made once, and a line for each query."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from visiontk import stream
from visiontk.artefacts import Naming, holds, write
from visiontk.errors import ItemError, UsageError
from visiontk.records import Item, Record

from .lvm_prompt_held import HeldSentences
from .lvm_prompt_lines import KEY
from .lvm_prompt_masks import Masks
from .lvm_read import ReadFiles

if TYPE_CHECKING:
    from PIL.Image import Image

    from visiontk.media.sentence_tasks import IndexMap, SentenceTask

SUFFIX = ".png"
LARGEST, SMALLEST = 256, 16  # sides in pixels that are chosen unasked: what the public model sees, and what edges can be found in


@dataclass(frozen=True)
class Seen:
    """A picture as all of a sentence are: a square, and the things in it, where they are known."""

    record: Record
    picture: Image
    objects: IndexMap | None


@dataclass
class Pictures:
    """Reads pictures, in the order of their places. ``side`` is that of the first one where it is not given, at most `LARGEST`."""

    side: int | None
    masks: Masks | None

    def look(self, item: Item[Image], place: int) -> Seen:
        """Raises ItemError."""
        from visiontk.media.sentence_tasks import squared, squared_map

        assert item.load is not None, "lines without a path are passed on before"
        image = item.load()
        self.side = self.side or max(SMALLEST, min(LARGEST, max(image.size)))
        objects = self.masks(item, image, place) if self.masks else None
        return Seen(item.record, squared(image, self.side), None if objects is None else squared_map(objects, self.side))


def read_pairs(items: Iterable[Item[Image]], pictures: Pictures, *, query_last: bool) -> tuple[list[Seen], list[Item[Image]]]:
    """The pictures of all pairs; and lines that pass through, with the last picture where that is the query.

    A picture that cannot be read ends the run.

    Raises:
        UsageError: there are too few.
        ItemError: a picture cannot be read, or has no mask.
    """
    seen: list[Seen] = []
    passed: list[Item[Image]] = []
    last: Item[Image] | None = None
    for item in items:
        if item.load is None:
            passed.append(item)
            continue
        if last is not None:
            seen.append(_of_pair(last, pictures, len(seen)))
        last = item
    if last is not None and not query_last:
        seen.append(_of_pair(last, pictures, len(seen)))
    if not seen or last is None:
        if last is not None:
            _check_loads(last)
        what = "one picture is a query without pairs" if last is not None else "there is no picture"
        raise UsageError(f"{what}; name pictures for the pairs and last the query, or queries with --query")
    return seen, [*passed, last] if query_last else passed


def _check_loads(item: Item[Image]) -> None:
    """Raise ItemError for the only picture there is, where it cannot be read: that is what is wrong, and not that it is alone."""
    try:
        if item.load is not None:
            item.load()
    except ItemError as error:
        raise ItemError(error.kind, f"{item.where}: {error.message}; name pictures for the pairs and last the query") from error


def _of_pair(item: Item[Image], pictures: Pictures, place: int) -> Seen:
    try:
        found = pictures.look(item, place)
        if pictures.masks and found.objects is None:
            raise ItemError("missing", "there is no mask of it")
    except ItemError as error:
        raise ItemError(
            error.kind, f"{item.where}: {error.message}; every picture of a pair is needed, so mend it or leave it out"
        ) from error
    return found


def things(pairs: Sequence[Seen]) -> list[int]:
    """The numbers of things in the pairs, which may be classes of a data set: 1 where there is none."""
    import numpy as np

    found = {int(number) for one in pairs if one.objects is not None for number in np.unique(one.objects)}
    return sorted(found - {0}) or [1]


@dataclass(frozen=True)
class Sentences:
    """Writes the pictures of sentences that share their pairs, over none of the files in ``read``."""

    task: SentenceTask
    naming: Naming
    pictures: Pictures
    held: HeldSentences
    read: ReadFiles

    def write_pairs(self, pairs: Sequence[Seen]) -> list[str]:
        """The files of picture, answer, picture, answer ..., none of which is written where one may not be.

        Raises:
            ItemError: ``exists``.
            OutputError: one cannot be written.
        """
        planned = []
        for place, one in enumerate(pairs):
            shown, answer = self.task.pair(one.picture, place, one.objects)
            assert answer is not None, "a pair has its mask"
            for kind, image in (("image", shown), ("answer", answer)):
                planned.append(self._planned(one.record, place, f"{place + 1}-{kind}", image))
        self.held.same_pairs(planned)
        return [self._save(*one) for one in planned]

    def of_queries(self, items: Iterable[Item[Image]], pairs: Sequence[str]) -> Iterator[stream.Outcome[Record]]:
        """One sentence for each query that has none yet; one that fails leaves the others alone."""
        places = len(pairs) // 2
        for item in items:
            held = self.held.take(item.record)
            if held is not None:
                try:
                    places += self._pass_over(item, places, held)
                except ItemError as error:
                    places += 1
                    if not self.held.take_failed(item.record):
                        yield stream.Outcome(item, error=error)
                continue
            if item.load is None:
                yield stream.Outcome(item)
                continue
            try:
                yield stream.Outcome(item, self._sentence(item, places, pairs))
            except ItemError as error:
                yield stream.Outcome(item, error=error)
            places += 1

    def _sentence(self, item: Item[Image], place: int, pairs: Sequence[str]) -> Record:
        begun = time.perf_counter()
        held = item.record.get(KEY)
        if held is not None and not (isinstance(held, dict) and "error" in held):
            raise ItemError("bad_record", f'its line holds "{KEY}" already; name its picture alone')
        planned = [self._planned(item.record, place, kind, image) for kind, image in self._drawn(item, place).items()]
        query, *rest = [self._save(*one) for one in planned]
        value: Record = {"task": self.task.name, "pairs": len(pairs) // 2, "frames": [*pairs, query]}
        value |= {"truth": rest[0]} if rest else {}
        value |= {"palette": [list(colour) for colour in self.task.palette]} if self.task.palette else {}
        value |= {"angle": self.task.angle} if self.task.name == "rotate" else {}
        value |= {"seed": self.task.seed}
        return value | {"seconds": round(time.perf_counter() - begun, 6)}

    def _pass_over(self, item: Item[Image], place: int, held: Record) -> int:
        """Places that a query takes which has its line: those after it get the masks and names of a run without a stop.

        Files of it that are gone are written again. Raises ItemError.
        """
        if item.load is None:
            return 0
        files = files_of(held)
        for kind in files:
            self.naming.name(item.record, place, f"{self.task.name}-{kind}", SUFFIX)
        if any(not os.path.lexists(path) for path in files.values()):
            self._restore(files, self._drawn(item, place))
        elif self.pictures.masks:
            self.pictures.masks.pass_over(place)
        return 1

    def _drawn(self, item: Item[Image], place: int) -> dict[str, Image]:
        """The query's picture, and its answer where that is known. Raises ItemError."""
        one = self.pictures.look(item, place)
        shown, truth = self.task.pair(one.picture, place, one.objects)
        return {"query": shown} | ({"truth": truth} if truth else {})

    def _restore(self, files: dict[str, Path], drawn: dict[str, Image]) -> None:
        """Write those that are gone, if the others are what comes of the picture now. Raises ItemError."""
        data = {path: _png(drawn[kind]) for kind, path in files.items() if kind in drawn}
        for path in files.values():
            if path not in data or (os.path.lexists(path) and not holds(path, data[path])):
                said = f"{path} is not what its picture comes to now, and a file beside it is gone"
                raise ItemError("exists", f"{said}; give --resume a new file")
        for path, content in data.items():
            self._save(path, content)

    def _planned(self, record: Record, place: int, kind: str, image: Image) -> tuple[Path, bytes]:
        """A picture's file and what it gets. One of an equal run is as good, so that a pipe may be run again, with --resume at its end."""
        data = _png(image)
        path = self.naming.path_for(data, record, place, f"{self.task.name}-{kind}", SUFFIX)
        if self.naming.overwrite:  # else what stands there holds this already, and is left alone
            self.read.refuse(path)
        return Path(os.path.abspath(path)), data  # noqa: PTH100  as it is written, and not through links

    def _save(self, path: Path, data: bytes) -> str:
        """What stands there holds this already, as its name was chosen so, unless anything may be replaced."""
        if not path.exists() or (self.naming.overwrite and not holds(path, data)):
            write(path, lambda file: file.write(data))
        return str(path)


def files_of(value: Record) -> dict[str, Path]:
    """The query's files that a line names, by kind; none where it failed."""
    named = {"query": value["frames"][-1:], "truth": [value["truth"]] if "truth" in value else []} if value else {}
    return {kind: Path(name) for kind, names in named.items() for name in names if isinstance(name, str)}


def _png(image: Image) -> bytes:
    from visiontk.media.masks import write_png

    data = io.BytesIO()
    write_png(data, image)
    return data.getvalue()


def with_palette(task: SentenceTask, numbers: list[int], count: int | None, seed: int) -> SentenceTask:
    """The task with colours for things of those numbers, as far as there are so many; ``count`` is how many are wanted at most."""
    from visiontk.media.sentence_tasks import most_things, palette

    return replace(task, palette=palette(min(count or len(numbers), most_things()), seed), things=numbers)
