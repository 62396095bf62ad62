"""How many rows of visual sentences there is memory for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from visiontk.memory import available_memory

if TYPE_CHECKING:
    from visiontk.adapters.lvm import VisualSentenceModel

SHARE = 0.8  # of the main memory that is there, which their caches may have


def fitting(rows: int, model: VisualSentenceModel) -> int:
    """So many rows, or on a CPU as many of them as there is memory for.

    There is no error to be mended where that runs out on a CPU, but a process that is killed.
    """
    room = available_memory() if model.runtime.device.type == "cpu" else None
    return rows if room is None else max(1, min(rows, int(SHARE * room) // model.row_bytes))
