"""Accuracy and loss over a whole split."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from visiontk.errors import UsageError

from .pictures import Batch, Pictures, loader

BATCH = 250


@dataclass(frozen=True)
class Figures:
    """Top-1 accuracy in [0, 1] and mean cross-entropy over ``images`` that could be read; why others could not."""

    accuracy: float
    loss: float
    images: int
    unreadable: list[str]

    def line(self) -> dict[str, Any]:
        found = {"accuracy": round(self.accuracy, 6), "loss": float(f"{self.loss:.6g}"), "images": self.images}
        return found | ({"unreadable": len(self.unreadable)} if self.unreadable else {})


def batches(pictures: Pictures, workers: int, indices: list[int] | None = None, batch: int = BATCH) -> Iterator[Batch]:
    """The pictures in order, each once; or those of ``indices``."""
    chosen = list(range(len(pictures))) if indices is None else indices
    keys = [[(0, index) for index in chosen[first : first + batch]] for first in range(0, len(chosen), batch)]
    yield from loader(pictures, keys, workers, pin=False)


def measure(
    logits_of: Callable[[Tensor], Tensor], pictures: Pictures, workers: int, accelerator: Any = None, *, batch: int = BATCH
) -> Figures:
    """Run a classifier from uint8 pixels (B, 3, S, S) to logits over a split, ``batch`` pictures at once, `BATCH` at most.

    With an ``accelerator`` its processes share the work.

    Raises:
        UsageError: no picture of the split can be read.
    """
    places, unreadable = list(range(len(pictures))), list[str]()
    mine = places if accelerator is None else places[accelerator.process_index :: accelerator.num_processes]
    device = "cpu" if accelerator is None else accelerator.device
    total = torch.zeros(3, device=device)  # right, loss, images
    with torch.inference_mode():
        for some in batches(pictures, workers, mine, min(batch, BATCH)):
            unreadable += some.unreadable
            if len(some.labels) == 0:
                continue
            logits = logits_of(some.images.to(device)).float()
            labels = some.labels.to(logits.device)
            right = (logits.argmax(1) == labels).sum().float()
            loss = functional.cross_entropy(logits, labels, reduction="sum")
            total += torch.stack([right, loss, right.new_tensor(float(len(labels)))]).to(device)
    if accelerator is not None:
        total = accelerator.reduce(total, "sum")
    right_, loss_, count = total.tolist()
    if not count:
        raise UsageError(f"none of the images to validate on can be read ({unreadable[0]}); name others")
    return Figures(right_ / count, loss_ / count, int(count), unreadable)
