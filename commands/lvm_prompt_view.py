"""How prompts of visual sentences look: rows of CSV, and a line for each on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from visiontk.records import Record

from .console import printable
from .lvm_view import found

if TYPE_CHECKING:
    from rich.console import RenderableType

_NEEDED = {"task": str, "pairs": int, "frames": list}
COLUMNS = ["path", "frame", "task", "pairs", "query", "truth", "seed", "error"]


def rows(key: str, record: Record) -> list[list[object]]:
    """One row per sentence, with its error if it failed."""
    value = found(key, record, _NEEDED)
    about = [record.get("path", record.get("input", "")), record.get("frame", ""), value.get("task", ""), value.get("pairs", "")]
    files = [value.get("frames", [""])[-1], value.get("truth", "")]
    return [[*about, *files, value.get("seed", ""), value.get("error", {}).get("message", "")]]


def view(key: str, record: Record) -> RenderableType:
    """The query's name, and where its sentence is."""
    from rich.text import Text

    line = Text.assemble((printable(str(record.get("path", record.get("input", "?")))), "bold"))
    line.append(f"  frame {record['frame']}" if "frame" in record else "", "dim")
    value = found(key, record, _NEEDED)
    if "error" in value:
        return line.append("  " + printable(value["error"]["message"]), "red")
    if not value:
        return line.append("  passed through", "dim")
    pairs = f"{value['pairs']} pair{'s' if value['pairs'] > 1 else ''}"
    return line.append(f"  {value['task']}, {pairs}").append(f"  → {printable(str(value['frames'][-1]))}", "cyan")
