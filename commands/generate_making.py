"""Pictures in the making: from the model, with previews on the way, into files and lines."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visiontk.artefacts import write
from visiontk.errors import ItemError, OutOfMemory
from visiontk.records import Record, encode
from visiontk.stream import Outcome

from . import generate_names, generate_record, interrupts, writers
from .generate_plan import Asked, Plan, Planned, Ready
from .generate_progress import GenerateReport

if TYPE_CHECKING:
    from visiontk.adapters.generate_types import Generated, Step


@dataclass(frozen=True)
class Made:
    """A picture of the plan, its previews already on disk."""

    ready: Ready
    generated: Generated
    previews: list[str]


class Making:
    """Drives the model through the plan.

    Attributes:
        made: the files of pictures that are done, by their index; those of a stopped run are among them.
    """

    def __init__(self, plan: Plan, report: GenerateReport, every: int | None) -> None:
        self._plan, self._report, self._every = plan, report, every
        self._warned: set[str] = set()
        self._own: dict[int, Path] = {}
        self._previews: set[Path] = set()  # of pictures in the making

    @property
    def made(self) -> dict[int, Path]:
        held = {one.index: one.path for one in self._plan.pictures if one.index in self._plan.held_places and one.path is not None}
        return {**held, **self._own}

    @staticmethod
    def itself(ready: Ready) -> Ready:
        return ready

    def predict(self, batch: Sequence[Ready]) -> list[Made | ItemError]:
        """One picture alone that is too large only because it has a size of its own fails alone.

        Raises OutOfMemory otherwise, and OutputError where a preview cannot be written.
        """
        if not batch:
            return []
        self._report.begin()
        previews: list[list[str]] = [[] for _ in batch]

        def on_step(step: Step) -> None:
            self._report.step(step)
            self._warn_of_no_preview(step.steps)
            if self._every and step.done % self._every == 0 and step.done < step.steps:
                for place, picture in zip(step.places, step.pictures(), strict=True):
                    previews[place].append(self._write_preview(batch[place].planned, step.done, picture))

        try:
            answers = self._plan.generator.generate([ready.request for ready in batch], on_step)
        except OutOfMemory as error:
            self._remove(itertools.chain(*previews))
            if len(batch) > 1 or not self._has_own_size(batch[0].planned):
                raise
            answers = [ItemError("too_large", f"it does not fit into memory ({error}); ask for a smaller size, or choose another --device")]
        for answer, listed in zip(answers, previews, strict=True):
            if isinstance(answer, ItemError):  # it may be blocked, and what a checker has not let pass is nowhere
                self._remove(listed)
        return [
            answer if isinstance(answer, ItemError) else Made(ready, answer, listed)
            for ready, answer, listed in zip(batch, answers, previews, strict=True)
        ]

    def finished(self, outcomes: Iterator[Outcome[Made]]) -> Iterator[Outcome[Record]]:
        """Outcomes with their files written: the record is the line's own part, the result what stands under the stage's key.

        Raises:
            OutputError: the disk is full, the folder read-only.
        """
        with closing(outcomes):  # type: ignore[type-var]
            for outcome in outcomes:
                item = outcome.item
                if not isinstance(item, Asked) or item.planned is None:
                    yield Outcome(item, error=outcome.error)
                    continue
                planned, error = item.planned, outcome.error
                if outcome.result is not None:
                    try:
                        value = self._write(outcome.result)
                        path = "-" if planned.path is None else str(planned.path)
                        yield Outcome(replace(item, record=planned.line(path)), value, seconds=outcome.seconds)
                        continue
                    except ItemError as late:
                        error = late
                yield Outcome(replace(item, record=planned.asked), error=error)

    @staticmethod
    def value(outcome: Outcome[Record], index: int) -> Record:
        assert outcome.result is not None
        return outcome.result

    def _write(self, made: Made) -> Record:
        """The picture into its file; returns what stands under the stage's key. Raises ItemError (``exists``)."""
        from visiontk.media import embedded

        planned, generated = made.ready.planned, made.generated
        value = generate_record.value(self._plan.generator, generated, made.ready.made_from)
        self._warn_of_cut("prompt", generated.request.prompt, generated.cut)
        self._warn_of_cut("negative prompt", generated.request.negative, generated.negative_cut)
        text: str | None = encode(value).decode().rstrip("\n") if self._plan.metadata else None
        suffix = self._plan.suffix
        if text is not None and not embedded.fits(suffix, text):
            self._report.warn(f"{planned.path}: how it was made does not fit into the file, and stands in the line alone")
            text = None
        data = embedded.encode(generated.image, suffix, text)
        if planned.path is None:
            writers.write_bytes(data)
            return value
        writers.check_free(planned.path, replace=planned.replace)
        with interrupts.held():
            write(planned.path, lambda file: file.write(data))
            self._own[planned.index] = planned.path
        self._previews.difference_update(map(Path, made.previews))
        return {**value, "previews": made.previews} if made.previews else value

    def _has_own_size(self, planned: Planned) -> bool:
        """Whether other pictures of the run may be smaller."""
        size = planned.wanted.options.get("size")
        return size != self._plan.defaults.options.get("size") or (size is None and planned.init not in (None, self._plan.init))

    def _write_preview(self, planned: Planned, step: int, picture: Any) -> str:
        """Under another name where there is something that may not be replaced."""
        assert planned.path is not None
        path = wanted = generate_names.preview(planned.path, step)
        number = 2
        while os.path.lexists(path) and not (planned.replace or path in self._previews or self._is_left_over(path)):
            path, number = wanted.with_stem(f"{wanted.stem}-{number}"), number + 1
        write(path, lambda file: picture.save(file, format="PNG"))
        self._previews.add(path)
        return str(path)

    def _is_left_over(self, preview: Path) -> bool:
        """Whether a stopped run, which is gone on with, left it of a picture that it did not finish."""
        return self._plan.held.goes_on and preview not in self._plan.held.previews

    def _remove(self, previews: Iterable[str]) -> None:
        for path in map(Path, previews):
            path.unlink(missing_ok=True)
            self._previews.discard(path)

    def _warn_of_no_preview(self, steps: int) -> None:
        warning = f"--preview {self._every} is not before the last of {steps} steps, so there is no preview; give less"
        if self._every and self._every >= steps and warning not in self._warned:
            self._warned.add(warning)
            self._report.warn(warning)

    def _warn_of_cut(self, what: str, text: str | None, cut: str | None) -> None:
        if text is None or cut is None or text in self._warned:
            return
        self._warned.add(text)
        self._report.warn(f'the {what} "{_shortened(text)}" is too long for the model, which did not read its end: "{cut}"')


def _shortened(text: str) -> str:
    return text if len(text) <= 60 else text[:59] + "…"
