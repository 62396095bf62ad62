"""How the figures of generated pictures look: rows of CSV, and one table on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from visiontk.records import Record

from .console import printable

if TYPE_CHECKING:
    from rich.console import RenderableType

EACH = ["path", "prompt", "seed", "named", "seen", "right", "background_named", "background_seen", "error"]
COLUMNS = ["class", "images", "accuracy", "class_accuracy", "background_accuracy", "frechet", "kernel", "kernel_error", "diversity"]


def rows(columns: list[str], line: Record) -> list[list[object]]:
    """One row per line; that of the totals names no class."""
    values = dict(line)
    if "class" in line or "classifier" in line:  # there these are numbers, and not of one image
        values |= {"named": "", "right": ""}
    for name in ("frechet", "kernel", "diversity"):
        values[name] = line.get(name, {}).get("value", "")
    values["kernel_error"] = line.get("kernel", {}).get("error", "")
    for side in ("named", "seen"):
        values[f"background_{side}"] = line.get("background", {}).get(side, "")
    values["error"] = line.get("error", {}).get("message", "")
    return [[values.get(column, "") for column in columns]]


def view(result: Record) -> RenderableType:
    """The images, where they are wanted, and the classes as tables, figures in percent; below them what the totals say."""
    from rich.console import Group
    from rich.text import Text

    *lines, totals = result["lines"]
    images, classes = ([line for line in lines if ("class" in line) is wanted] for wanted in (False, True))
    tables = ([_images(images), Text()] if images else []) + ([_classes(classes, totals), Text()] if classes else [])
    return Group(*tables, *(Text(printable(sentence)) for sentence in sentences(totals)))


def _images(lines: list[Record]) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for heading in ("image", "named", "seen", "background"):
        table.add_column(heading, overflow="fold")
    for line in lines:
        seen = line["error"]["message"] if "error" in line else line["seen"]
        style = "red" if "error" in line or line.get("right") is False else ""
        behind = line.get("background", {})
        cells = [line.get("path", ""), line.get("named", ""), seen, f"{behind['named']}: {behind['seen']}" if behind else ""]
        table.add_row(*(Text(printable(str(cell)), style=style) for cell in cells))
    return table


def _classes(lines: list[Record], totals: Record) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold", show_footer=True, footer_style="bold")
    table.add_column("class", "all", overflow="fold")
    table.add_column("images", str(totals["named"]), justify="right")
    table.add_column("right, %", _percent(totals["accuracy"]), justify="right")
    for line in lines:
        table.add_row(Text(printable(line["class"])), str(line["images"]), _percent(line["accuracy"]))
    return table


def sentences(totals: Record) -> list[str]:
    """What the totals say, in words."""
    left_out = [f"{totals[name]} {words}" for name, words in _LEFT_OUT.items() if totals[name]]
    model = totals["classifier"]["model"]
    found = [f"{totals['images']} images" + (f", of which {', '.join(left_out)}" if left_out else "")]
    if "accuracy" in totals:
        found.append(f"accuracy {_percent(totals['accuracy'])} %, mean of the classes {_percent(totals['class_accuracy'])} %, by {model}")
    if "background_accuracy" in totals:
        found.append(f"background colour {_percent(totals['background_accuracy'])} % of {totals['backgrounds']}")
    if "frechet" in totals:
        frechet, kernel = totals["frechet"], totals["kernel"]
        error = f" ± {kernel['error']:g}" if "error" in kernel else ""
        against = f"against {frechet['reference_images']} of {frechet['reference']}, features of {frechet['features']}"
        found.append(f"{frechet['name']} {frechet['value']:g}, {kernel['name']} {kernel['value']:g}{error}, {against}")
    if "diversity" in totals:
        diversity = totals["diversity"]
        found.append(f"diversity {diversity['value']:g} over {diversity['prompts']} prompts, features of {diversity['features']}")
    return found


_LEFT_OUT = {"several": "name several classes", "unnamed": "name none", "without_prompt": "have no prompt", "failed": "more failed"}


def _percent(share: float) -> str:
    return f"{share * 100:.1f}"
