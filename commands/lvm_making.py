"""Images in the making: sentences and their candidates through the model in batches, each frame into its files and lines at once."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visiontk.artefacts import holds, write
from visiontk.errors import DeviceError, ItemError, OutOfMemory, OutputError
from visiontk.records import Item, Record
from visiontk.stream import Outcome, Stats

from . import interrupts, writers
from .lvm_film import Film
from .lvm_plan import Named, Place, Plan
from .lvm_progress import ContinueReport
from .lvm_room import fitting
from .lvm_sentences import Ready

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from visiontk.adapters.lvm import Frame, VisualSentenceModel

MOST_FILMS = 12  # strips and animations of which the end of a run says where they are
ROWS = {"cuda": 32, "mps": 8, "cpu": 16}  # sentences times candidates at once, where nobody says how many


@dataclass
class _Work:
    """A sentence in a batch.

    Attributes:
        prompt_nll: of each picture that was given.
        done: the tokens of those that have been made, by candidate and number.
        failed: candidates for which the model gave no numbers, or others than before.
        told: a line says that one failed.
        changed: what is made of it is not what its files hold.
    """

    ready: Ready
    named: Named
    film: Film
    tokens: Tensor
    prompt_nll: list[float] | None
    done: dict[Place, Tensor]
    failed: set[int] = field(default_factory=set)
    told: bool = False
    changed: bool = False


@dataclass(frozen=True)
class _Piece:
    """What goes through the model at once: sentences by their place in the batch, and a range of candidates of each."""

    places: tuple[int, ...]
    first: int
    candidates: int

    @property
    def rows(self) -> int:
        return len(self.places) * self.candidates


@dataclass
class Making:
    """Drives the model through the plan.

    Attributes:
        rows: sentences times candidates that are made at once; halved when memory runs out.
        stats: of images, where others count sentences.
        films: the first strips and animations that were written, as what is said of each.
        again: images that have their lines, whose files were gone.
    """

    model: VisualSentenceModel
    plan: Plan
    score: bool
    report: ContinueReport
    stats: Stats
    rows: int

    def __post_init__(self) -> None:
        self.films: list[str] = []
        self.again = 0

    @property
    def sentences_at_once(self) -> int:
        return max(1, self.rows // self.plan.sampling.candidates)

    @staticmethod
    def itself(ready: Ready) -> Ready:
        return ready

    @staticmethod
    def predict(batch: Sequence[Ready]) -> list[tuple[int, Sequence[Ready]]]:
        """Nothing is made here, but in `finished`, where each frame can be written before the next: the first of a batch has all of it."""
        return [(place, batch) for place in range(len(batch))]

    def finished(self, outcomes: Iterator[Outcome[tuple[int, Sequence[Ready]]]]) -> Iterator[Outcome[Record]]:
        """One outcome per image, with its file written, and those of sentences that failed. What is finished stays when a run is stopped.

        Raises:
            DeviceError: one candidate of one sentence does not fit into memory.
            OutputError: the disk is full, the folder read-only.
        """
        with closing(outcomes):  # type: ignore[type-var]
            for outcome in outcomes:
                if outcome.result is None:
                    yield self._counted(Outcome(outcome.item, error=outcome.error))
                elif outcome.result[0] == 0:
                    with closing(self._batch(outcome.result[1])) as images:
                        for image in images:
                            yield self._counted(image)

    @staticmethod
    def value(outcome: Outcome[Record], index: int) -> Record:
        assert outcome.result is not None
        return outcome.result

    def _counted(self, outcome: Outcome[Record]) -> Outcome[Record]:
        self.stats.count(outcome)
        return outcome

    def _batch(self, batch: Sequence[Ready]) -> Generator[Outcome[Record]]:
        works: list[_Work] = []
        try:
            for ready in batch:
                try:
                    works.append(self._work(ready))
                except ItemError as error:
                    yield from self._failed(ready, error)
        except OutOfMemory as error:
            raise DeviceError(
                f"the pictures of a sentence do not fit into memory ({error}); choose a smaller model or --device cpu"
            ) from error
        if not works:
            return
        self.report.begin()
        try:
            for work, frame, seconds in self._frames(works):
                place = frame.candidate, frame.number
                if frame.candidate in work.failed:
                    continue
                if (wrong := self._wrong(work, frame)) is not None:  # what it has made by then stays
                    work.failed.add(frame.candidate)
                    if not work.told:
                        work.told = True
                        yield from self._failed(work.ready, wrong)
                    if all(len(one.failed) == self.plan.sampling.candidates for one in works):
                        break
                    continue
                if place in work.done:
                    continue
                work.done[place] = frame.tokens
                work.film.add(frame.candidate, frame.number, frame.image)
                if place in work.named.held:
                    continue
                outcome = self._write(work, frame, seconds)
                if place in work.named.gone and outcome.error is None:
                    self.again += 1
                elif outcome.error is None or not self.plan.held.take_failed(work.ready.line):
                    yield outcome
        except OutputError:
            raise
        except BaseException:  # Ctrl-C, a reader that went away, no memory: what is finished stays, and can be looked at
            self._write_films(works)
            raise
        self._write_films(works)

    def _wrong(self, work: _Work, frame: Frame) -> ItemError | None:
        """Why a candidate cannot go on from this frame, which may have been made before: by a stopped run, or until memory ran out."""
        if not math.isfinite(frame.nll):
            return self.model.not_finite()
        place = frame.candidate, frame.number
        if place in work.done and not frame.tokens.equal(work.done[place]):
            dtype = self.model.runtime.dtype_name
            cure = f"--batch-size {self.rows}" + ("" if dtype == "fp32" else ", or --dtype fp32")
            said = f"memory ran out, and fewer at once come to another image {frame.number + 1} in {dtype}"
            return ItemError("too_large", f"{said}, which could not be followed; begin anew with {cure}")
        if place in work.named.held and work.named.is_gone_on_from(place) and not _shows(work.named.images[place], frame.image):
            work.changed = True
            cure = "give the --candidates and --batch-size of that run, or name new files"
            said = f"{work.named.images[place]} was changed, or is not what its sentence comes to now, so nothing can follow it"
            return ItemError("exists", f"{said}; {cure}")
        return None

    def _failed(self, ready: Ready, error: ItemError) -> Iterator[Outcome[Record]]:
        """The line of a sentence that failed, unless a stopped run has left it."""
        if not self.plan.held.take_failed(ready.line):
            yield Outcome(Item(ready.line, lambda: None), error=error)

    def _work(self, ready: Ready) -> _Work:
        import torch

        from visiontk.media import film_strip

        tokens = self.model.encode(ready.images)
        costs = torch.nanmean(self.model.score(tokens), dim=1).tolist() if self.score else None
        named = self.plan.named.pop(ready.index)
        most = None if named.animations else film_strip.MOST if named.strip is not None else 0
        film = Film(ready.images, self.plan.sampling.candidates, pairs=ready.sentence.pairs is not None, most=most)
        return _Work(ready, named, film, tokens, costs and [_rounded(cost) for cost in costs], {})

    def _frames(self, works: Sequence[_Work]) -> Iterator[tuple[_Work, Frame, float]]:
        """Frames with the seconds that they took. Memory that runs out halves what is made at once, which is then begun again."""
        todo = deque([_Piece(tuple(range(len(works))), 0, self.plan.sampling.candidates)])
        while todo:
            piece = todo.popleft()
            if piece.rows > self.rows and piece.rows > 1:
                todo.extendleft(reversed(_split(piece, self.rows)))
                continue
            try:
                yield from self._piece(works, piece)
            except OutOfMemory as error:
                if piece.rows == 1:
                    message = f"one candidate of one sentence does not fit into memory ({error})"
                    raise DeviceError(f"{message}; choose a smaller model, --quantize int8 or --device cpu") from error
                self.rows = (piece.rows + 1) // 2
                self.stats.halved, self.stats.batch_size = True, self.rows
                todo.appendleft(piece)

    def _piece(self, works: Sequence[_Work], piece: _Piece) -> Iterator[tuple[_Work, Frame, float]]:
        sampling = replace(self.plan.sampling, candidates=piece.candidates, first_candidate=piece.first)
        running = self.model.continue_([works[place].tokens for place in piece.places], self.plan.count, sampling)
        with closing(running):  # type: ignore[type-var]
            begun = time.perf_counter()
            for frames in running:
                seconds = (time.perf_counter() - begun) / len(frames)
                for frame in frames:
                    yield works[piece.places[frame.sentence]], frame, seconds
                self.report.step()
                begun = time.perf_counter()

    def _write(self, work: _Work, frame: Frame, seconds: float) -> Outcome[Record]:
        """The image into its file; its line."""
        from visiontk.media import embedded

        ready, plan = work.ready, self.plan
        data = embedded.encode(frame.image, plan.suffix)
        if plan.naming is None:
            writers.write_bytes(data)
            return Outcome(_about(ready, "-"), self._value(work, frame, seconds), seconds=seconds)
        path = work.named.images[frame.candidate, frame.number]
        try:
            plan.read.refuse(path)  # by a line that has come since the names were chosen
            writers.check_free(path, replace=plan.naming.overwrite or path in work.named.replace or holds(path, data))
        except ItemError as error:
            return Outcome(Item(ready.line, lambda: None), error=error)
        with interrupts.held():
            write(path, lambda file: file.write(data))
        return Outcome(_about(ready, str(path)), self._value(work, frame, seconds), seconds=seconds)

    def _value(self, work: _Work, frame: Frame, seconds: float) -> Record:
        """What stands under the stage's key."""
        value: Record = {"model": self.model.name, "revision": self.model.revision, "dtype": self.model.runtime.dtype_name}
        value |= {"vqgan": self.model.vqgan} if self.model.vqgan else {}
        value |= self.plan.made_from(work.ready.sentence, frame.candidate, frame.number)
        value["context"] = list(frame.context)
        if work.prompt_nll is not None:
            value |= {"nll": _rounded(frame.nll), "prompt_nll": work.prompt_nll}
        if work.named.strip is not None:
            value["strip"] = str(work.named.strip)
        if work.named.animations:
            value["animation"] = str(work.named.animations[frame.candidate])
        return value | {"seconds": round(seconds, 6)}

    def _write_films(self, works: Sequence[_Work]) -> None:
        """Strips and animations of what there is. Raises OutputError."""
        with interrupts.held():
            for work in (work for work in works if not work.changed):
                strip = work.named.strip
                if strip is not None and not self.plan.read.has(strip) and work.film.write_strip(strip):
                    self.films.append(f"a film strip is in {strip}")
                for candidate, path in enumerate(work.named.animations):
                    if not self.plan.read.has(path) and work.film.write_animation(path, candidate):
                        self.films.append(f"an animation is in {path}")
                del self.films[MOST_FILMS:]


def rows_at_once(asked: int | None, model: VisualSentenceModel, candidates: int) -> int:
    """``--batch-size``, or for auto a number that has room for all candidates of a sentence.

    On a CPU no more of them than there is memory for.
    """
    return asked or fitting(max(candidates, ROWS.get(model.runtime.device.type, ROWS["cpu"])), model)


def _split(piece: _Piece, rows: int) -> list[_Piece]:
    """Pieces of at most so many rows: fewer sentences at once, and where that is not enough fewer candidates."""
    if piece.candidates <= rows:
        each = rows // piece.candidates
        starts = range(0, len(piece.places), each)
        return [replace(piece, places=piece.places[start : start + each]) for start in starts]
    parts = math.ceil(piece.candidates / rows)
    return [
        _Piece((place,), piece.first + part * rows, min(rows, piece.candidates - part * rows))
        for place in piece.places
        for part in range(parts)
    ]


def _about(ready: Ready, path: str) -> Item[Any]:
    """The keys of the sentence's line, about the new file."""
    kept = ready.sentence.record
    return Item({**kept, "path": path} if "path" in kept else {"path": path, **kept}, lambda: None)


def _shows(path: Path, image: Image) -> bool:
    """Whether a file holds an image as it is written now, whatever wrote it without loss. One that has just gone is not asked."""
    import numpy as np
    from PIL import Image as pillow

    from visiontk.media import embedded

    if not path.exists() or holds(path, embedded.encode(image, path.suffix.lower())):
        return True
    try:
        with pillow.open(path) as found:
            return path.suffix.lower() in (".png", ".webp") and np.array_equal(np.asarray(found.convert("RGB")), np.asarray(image))
    except (OSError, ValueError):
        return False


def _rounded(cost: float) -> float:
    return round(cost, 6)
