"""How continued sentences look as text: rows of CSV, and a line for each image on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from visiontk.records import Record

from .console import printable

if TYPE_CHECKING:
    from rich.console import RenderableType

COLUMNS = ["path", "after", "number", "candidate", "context", "nll", "seconds", "strip", "animation", "error"]


def rows(key: str, record: Record) -> list[list[object]]:
    """One row per image: the last picture that was given, and how many it was made from."""
    value = record.get(key, {})
    path = record.get("path", record.get("input", ""))
    if "error" in value:
        return [[path, *[""] * (len(COLUMNS) - 2), value["error"]["message"]]]
    after = value["sentence"][-1] if value else ""
    told = [value.get(name, "") for name in ("number", "candidate")]
    context = len(value["context"]) if value else ""
    return [[path, after, *told, context, *(value.get(name, "") for name in ("nll", "seconds", "strip", "animation")), ""]]


def view(key: str, record: Record) -> RenderableType:
    """The image's file, what it continues, and how long it took."""
    from rich.text import Text

    value = record.get(key, {})
    line = Text.assemble((printable(str(record.get("path", record.get("input", "?")))), "bold" if "error" in value else "bold cyan"))
    if "error" in value:
        return line.append("  " + printable(value["error"]["message"]), "red")
    if key not in record:
        return line.append("  passed through", "dim")
    line.append(f"  after {printable(value['sentence'][-1])}" if "pairs" not in value else f"  answers {printable(value['sentence'][-1])}")
    line.append(f"  +{value['number'] + 1}" if "pairs" not in value else "")
    line.append(f"  from {len(value['context'])} pictures", "dim")
    line.append(f"  nll {value['nll']:.3f}" if "nll" in value else "", "dim")
    return line.append(f"  {value['seconds']:.1f} s", "dim")
