"""The lines of an evaluation: one for each item that is measured, and where they go."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import partial
from typing import Any

from visiontk.records import Record, error_value
from visiontk.stream import Outcome, Stats

from . import classify_view, writers
from .console import Report


class Lines:
    """Lines on their way out: at once, or kept for a table, which is printed once the bar is gone."""

    def __init__(
        self, format: str | None, columns: list[str], rows: Callable[[list[str], Record], list[list[object]]], view: writers.View
    ) -> None:
        form, self._writer = writers.choose(format, None, columns, partial(rows, columns), view, classify_view.console)
        self._kept: list[Record] | None = [] if form == "table" else None

    def write(self, line: Record) -> None:
        if self._kept is None:
            self._writer.write(line)
        else:
            self._kept.append(line)

    def end(self) -> None:
        """Print the table, where there is one; ``{"lines": [...]}`` is what its view gets."""
        if self._kept is not None:
            self._writer.write({"lines": self._kept})


def of_items(
    outcomes: Iterator[Outcome[Any]], names: Sequence[str], add: Callable[[Any], Record], report: Report, stats: Stats
) -> Iterator[Record]:
    """The line of each item: of its record what is called one of ``names``, and what ``add`` makes of its result.

    What failed is named on stderr as well.
    """
    with closing(outcomes):  # type: ignore[type-var]
        for outcome in outcomes:
            about = {name: outcome.item.record[name] for name in names if name in outcome.item.record}
            if outcome.error is not None:
                yield about | error_value(outcome.error)
            elif outcome.result is not None:
                yield about | add(outcome.result)
            report.advance(outcome, stats)
