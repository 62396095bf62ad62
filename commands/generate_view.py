"""How generated pictures look as text: rows of CSV, and a line for each on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from visiontk.records import Record

from .console import printable

if TYPE_CHECKING:
    from rich.console import RenderableType

COLUMNS = ["path", "prompt", "negative", "seed", "steps", "guidance", "scheduler", "width", "height", "seconds", "error"]


def rows(key: str, record: Record) -> list[list[object]]:
    """One row per picture; for one that failed what was asked, and its error."""
    value = record.get(key, {})
    made = value if "error" not in value and value else record
    prompt = made.get("prompt", record.get("input", ""))
    width, height = value.get("size", ("", ""))
    options = [made.get(name, "") for name in ("negative", "seed", "steps", "guidance", "scheduler")]
    path = record.get("path", "")
    return [[path, prompt, *options, width, height, value.get("seconds", ""), value.get("error", {}).get("message", "")]]


def view(key: str, record: Record) -> RenderableType:
    """The picture's file, its prompt and seed, and how long it took."""
    from rich.text import Text

    value = record.get(key, {})
    if "error" in value:
        asked = str(record.get("prompt", record.get("input", record.get("path", "?"))))
        line = Text.assemble((printable(asked), "bold"))
        line.append(f"  seed {record['seed']}" if "seed" in record else "", "dim")
        return line.append("  " + printable(value["error"]["message"]), "red")
    line = Text.assemble((printable(str(record.get("path", "?"))), "bold cyan"))
    if key not in record:
        return line.append("  passed through", "dim")
    line.append(f"  {printable(value['prompt'])}")
    line.append(f"  seed {value['seed']}  {value['size'][0]}x{value['size'][1]}  {value['seconds']:.1f} s", "dim")
    return line


REPLAY_COLUMNS = ["path", "of", "same", "differences", "error"]


def replay_rows(record: Record) -> list[list[object]]:
    """One row per picture that was to be made again."""
    value = record["replay"]
    if "error" in value:
        return [[record.get("path", record.get("input", "")), "", "", "", value["error"]["message"]]]
    return [[record.get("path", ""), value["of"], value["same"], "; ".join(value.get("differences", [])), ""]]


def replay_view(record: Record) -> RenderableType:
    """The new picture, and whether it is the old one."""
    from rich.text import Text

    value = record["replay"]
    line = Text.assemble((printable(str(record.get("path", record.get("input", "?")))), "bold cyan"))
    if "error" in value:
        return line.append("  " + printable(value["error"]["message"]), "red")
    if value["same"]:
        return line.append(f"  the same as {printable(value['of'])}", "green")
    return line.append(f"  not the same as {printable(value['of'])}: {printable('; '.join(value['differences']))}", "yellow")
