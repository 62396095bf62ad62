"""How classifications look: rows of CSV, and small tables on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from visiontk.records import Record

from .console import printable

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

COLUMNS = ["path", "frame", "time", "rank", "label", "index", "score", "error"]
BAR = 24


def console() -> Console:
    from rich.console import Console

    return Console(highlight=False)


def rows(key: str, record: Record) -> list[list[object]]:
    """One row per label; one row for an item without any, with its error if it failed."""
    about = [record.get("path", record.get("input", "")), record.get("frame", ""), record.get("time", "")]
    value = _value(key, record)
    if "error" in value:
        return [[*about, "", "", "", "", value["error"]["message"]]]
    labels = value.get("labels", [])
    found: list[list[object]] = [[*about, rank, label["label"], label["index"], label["score"], ""] for rank, label in enumerate(labels, 1)]
    return found or [[*about, "", "", "", "", ""]]


def view(key: str, record: Record) -> RenderableType:
    """The item's name, then a line per label with its score as a bar."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    name = printable(str(record.get("path", record.get("input", "?"))))
    moment = f"  frame {record['frame']}" if "frame" in record else ""
    time = record.get("time", "")
    moment += f"  {time:.2f} s" if isinstance(time, int | float) else f"  {printable(str(time))}" if time else ""
    heading = Text.assemble((name, "bold"), (moment, "dim"))
    value = _value(key, record)
    if "error" in value:
        return Group(heading, Text("  " + printable(value["error"]["message"]), style="red"), Text())
    table = Table.grid(padding=(0, 1))
    for label in value.get("labels", []):
        table.add_row("", f"{label['score']:6.1%}", _bar(label["score"]), Text(printable(label["label"])))
    if not value.get("labels"):
        table.add_row("", Text("no label reaches the threshold" if key in record else "passed through", style="dim"))
    if "attention" in value:
        table.add_row("", "", "", Text(f"→ {printable(value['attention']['picture'])}", style="cyan"))
    return Group(heading, table, Text())


def _value(key: str, record: Record) -> dict[str, Any]:
    """What the stage found; a line that passed through may have something else under its key."""
    value = record.get(key)
    return value if isinstance(value, dict) else {}


def _bar(score: float) -> RenderableType:
    from rich.text import Text

    full = round(score * BAR * 8)
    return Text(("█" * (full // 8) + " ▏▎▍▌▋▊▉"[full % 8].strip()).ljust(BAR), style="green")
