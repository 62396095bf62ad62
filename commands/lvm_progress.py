"""Progress and summary of `visiontk lvm-continue`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .console import MOST_FAILURES, Report

if TYPE_CHECKING:
    from visiontk.stream import Outcome, Stats


class ContinueReport(Report):
    """As `Report`, with notices among the bars, the first few of them.

    Images that are made at once come within a moment. The bar counts them as one step, from when the model began: one by one they would
    look as if thousands were made in a second.
    """

    _noticed = 0
    _made = 0

    def begin(self) -> None:
        """The model begins with a batch."""
        if self._progress:
            self._progress.advance(self._task, 0)

    def advance(self, outcome: Outcome[Any], stats: Stats) -> None:
        """One image is done, which the bar shows at the next `step`; or an item failed."""
        if outcome.error is None and outcome.result is not None:
            self._made += 1
        else:
            super().advance(outcome, stats)

    def step(self) -> None:
        """A frame of all that is made at once is done."""
        if self._progress:
            self._progress.advance(self._task, self._made)
        self._made = 0

    def notice(self, message: str) -> None:
        """What a user should know of one sentence, such as that the oldest of its pictures are dropped."""
        self._noticed += 1
        if not self._quiet and self._noticed <= MOST_FAILURES:
            self._print(message + ("; further sentences are not named" if self._noticed == MOST_FAILURES else ""))
