"""How the figures of a large vision model look: rows of CSV, tables on a terminal, and the plot of perplexity by context."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from visiontk.records import Record

from .console import printable

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.console import RenderableType

EACH = ["path", "error"]
COLUMNS = ["protocol", "task", "kind", "context", "sentences", "frames", "tokens", "nll", "perplexity"]
COLUMNS += ["answers", "least_pairs", "most_pairs", "answer_perplexity", "mIoU", "mse", "distance"]
_LABELS = {"frame": "frames", "answer": "answers"}


def rows(columns: list[str], line: Record) -> list[list[object]]:
    """One row per line; that of the totals names no task."""
    values = dict(line)
    if isinstance(values.get("distance"), dict):
        values["distance"] = values["distance"]["value"]
    values["least_pairs"], values["most_pairs"] = line.get("pairs", ["", ""])
    values["error"] = values.get("error", {}).get("message", "")
    return [[values.get(column, "") for column in columns]]


def view(result: Record) -> RenderableType:
    """The sentences, where they are wanted, perplexity by context and answers as tables; below them what the totals say."""
    from rich.console import Group
    from rich.text import Text

    *lines, totals = result["lines"]
    each = [line for line in lines if "protocol" not in line]
    contexts = [line for line in lines if "context" in line]
    answers = [line for line in lines if "answers" in line]
    parts: list[RenderableType] = []
    if each:
        parts += [_table(each, ["path", "task", "frames", "perplexity", "answer_perplexity", "mIoU", "mse", "distance", "error"]), Text()]
    parts += [_table(contexts, ["task", "kind", "context", "frames", "perplexity"]), Text()]
    if answers:
        parts += [_table(answers, ["task", "answers", "pairs", "perplexity", "mIoU", "mse", "distance"]), Text()]
    return Group(*parts, Text(printable(sentence(totals))))


def sentence(totals: Record) -> str:
    """What the totals say, in words."""
    failed = f", of which {totals['failed']} more failed" if totals["failed"] else ""
    perplexity = f"perplexity {totals['perplexity']:g}, {totals['nll']:g} nats a token" if "perplexity" in totals else "no perplexity"
    return f"{totals['sentences']} sentences{failed}, {totals['frames']} frames: {perplexity}, by {totals['model']}"


def plot(lines: Sequence[Record], title: str) -> Figure:
    """Perplexity by the number of frames before; of pairs, that of the answers."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(6.0, 4.0), dpi=150, layout="constrained")
    axis = figure.subplots()
    for task in dict.fromkeys(line["task"] for line in lines):
        some = [line for line in lines if line["task"] == task and line["kind"] in _LABELS and "perplexity" in line]
        if some:
            label = task if some[0]["kind"] == "frame" else f"{task}, {_LABELS['answer']}"
            axis.plot([line["context"] for line in some], [line["perplexity"] for line in some], marker="o", markersize=4, label=label)
    axis.set_xlabel("Frames of context")
    axis.set_ylabel("Perplexity of a token")
    axis.set_yscale("log")  # tasks lie orders of magnitude apart
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    axis.set_title(title, fontsize=10)
    return figure


def _table(lines: Sequence[Record], columns: list[str]) -> RenderableType:
    """The columns that any of the lines knows."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    known = [column for column in columns if any(column in line for line in lines)]
    for column in known:
        words = column in ("path", "task", "kind", "error")
        table.add_column(column.replace("_", "\n"), justify="left" if words else "right", no_wrap=not words, overflow="fold")
    for line in lines:
        about = {"pairs": "-".join(str(count) for count in sorted(set(line["pairs"])))} if "pairs" in line else {}
        [cells] = rows(known, line)
        cells = [about.get(column, cell) for column, cell in zip(known, cells, strict=True)]
        table.add_row(*(Text(_cell(cell), style="red" if "error" in line else "") for cell in cells))
    return table


def _cell(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else printable(str(value))
