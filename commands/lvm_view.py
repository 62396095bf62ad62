"""How continued sentences look as text: rows of CSV, and a line for each image on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from visiontk.records import Record

from .console import printable

if TYPE_CHECKING:
    from rich.console import RenderableType

_NEEDED = {"sentence": list, "context": list, "number": int, "seconds": int | float}
COLUMNS = ["path", "after", "number", "candidate", "context", "nll", "seconds", "strip", "animation", "error"]


def rows(key: str, record: Record) -> list[list[object]]:
    """One row per image: the last picture that was given, and how many it was made from."""
    value = found(key, record, _NEEDED)
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

    value = found(key, record, _NEEDED)
    line = Text.assemble((printable(str(record.get("path", record.get("input", "?")))), "bold" if "error" in value else "bold cyan"))
    if "error" in value:
        return line.append("  " + printable(value["error"]["message"]), "red")
    if not value:
        return line.append("  passed through", "dim")
    line.append(f"  {'answers' if 'pairs' in value else 'after'} {printable(str(value['sentence'][-1]))}")
    line.append(f"  +{value['number'] + 1}" if "pairs" not in value else "")
    line.append(f"  from {len(value['context'])} pictures", "dim")
    line.append(f"  nll {value['nll']:.3f}" if isinstance(value.get("nll"), float) else "", "dim")
    return line.append(f"  {value['seconds']:.1f} s", "dim")


def found(key: str, record: Record, needed: dict[str, Any]) -> dict[str, Any]:
    """What a stage made, or its error; nothing of a line that passed through, which may have anything under the stage's key.

    ``needed`` is what stands in what it makes, by name and type; lists are not empty.
    """
    value = record.get(key)
    if not isinstance(value, dict):
        return {}
    if "error" in value:
        error = value["error"]
        return value if isinstance(error, dict) and isinstance(error.get("message"), str) else {}
    whole = all(isinstance(value.get(name), kind) and value[name] != [] for name, kind in needed.items())
    return value if whole else {}
