"""Progress and summary of `visiontk lvm-continue`."""

from __future__ import annotations

from .console import MOST_FAILURES, Report


class ContinueReport(Report):
    """As `Report`, with notices among the bars, the first few of them."""

    _noticed = 0

    def notice(self, message: str) -> None:
        """What a user should know of one sentence, such as that the oldest of its pictures are dropped."""
        self._noticed += 1
        if not self._quiet and self._noticed <= MOST_FAILURES:
            self._print(message + ("; further sentences are not named" if self._noticed == MOST_FAILURES else ""))
