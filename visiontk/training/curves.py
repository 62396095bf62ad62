"""The curves of a run as a picture."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NAMES = {"train": "training (as augmented)", "val": "validation", "held_out": "held-out style"}
COLOURS = {"train": "0.6", "val": "tab:blue", "held_out": "tab:orange"}


def read_metrics(file: Path) -> list[dict[str, Any]]:
    """The lines of ``metrics.jsonl``."""
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()]


def plot(lines: Sequence[dict[str, Any]], title: str, quality: str | None = "accuracy") -> Figure:
    """Loss (left) and ``quality`` (right, where there is one) by step, for each split that the lines speak of."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.0 if quality else 5.0, 3.6), dpi=120, layout="constrained")
    left, *right = figure.subplots(1, 2 if quality else 1, squeeze=False)[0]
    _draw(left, lines, "loss")
    left.set_ylim(bottom=0)
    if quality:
        _draw(right[0], lines, quality)
        right[0].set_ylim(0, 1.02)
    figure.suptitle(title, fontsize=10)
    return figure


def _draw(axis: Axes, lines: Sequence[dict[str, Any]], quantity: str) -> None:
    for name, label in NAMES.items():
        points = [(line["step"], line[name][quantity]) for line in lines if quantity in line.get(name, {})]
        if points:
            steps, values = zip(*points, strict=True)
            measured = name != "train"
            style: dict[str, Any] = {"marker": "o", "markersize": 3} if measured else {"linewidth": 1}
            axis.plot(steps, values, color=COLOURS[name], label=f"{label}: {values[-1]:.3f}" if measured else label, **style)
    axis.set_xlabel("Step")
    axis.set_ylabel("IoU" if quantity == "iou" else quantity.capitalize())
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
