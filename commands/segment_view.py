"""How segmentations look: rows of CSV, and a line for each picture or frame on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from visiontk.records import Record

from .console import printable

if TYPE_CHECKING:
    from rich.console import RenderableType

COLUMNS = ["path", "frame", "time", "id", "area", "x0", "y0", "x1", "y1", "score", "iou", "height", "width", "counts", "error"]


def rows(key: str, record: Record) -> list[list[object]]:
    """One row per object, its box empty where it is hidden; one row for an item without any, with its error if it failed."""
    value = record.get(key, {})
    about = [record.get("path", record.get("input", "")), _frame(key, record), record.get("time", "")]
    if "error" in value:
        return [[*about, *[""] * 11, value["error"]["message"]]]
    found = [[*about, *_cells(one), ""] for one in value.get("objects", [])]
    return found or [[*about, *[""] * 12]]


def _frame(key: str, record: Record) -> object:
    """The number of a frame of a video; of one that is a picture of its own, its place among them, which the stage says."""
    return record.get("frame", record.get(key, {}).get("frame", ""))


def _cells(one: Record) -> list[object]:
    box = one["box"] or [""] * 4
    return [one["id"], one["area"], *box, one["score"], one["iou"], *one["rle"]["size"], one["rle"]["counts"]]


def view(key: str, record: Record) -> RenderableType:
    """The item's name, then each object with its share of the picture and its score."""
    from rich.text import Text

    from visiontk.media.overlay import colour

    line = Text.assemble((printable(str(record.get("path", record.get("input", "?")))), "bold"))
    frame = _frame(key, record)
    line.append("" if frame == "" else f"  frame {frame}", "dim")
    line.append(f"  {record['time']:.2f} s" if "time" in record else "", "dim")
    value = record.get(key, {})
    if "error" in value:
        return line.append("  " + printable(value["error"]["message"]), "red")
    if not value.get("objects"):
        line.append("  no objects" if key in record else "  passed through", "dim")
    for one in value.get("objects", []):
        height, width = one["rle"]["size"]
        line.append(f"  #{one['id']}", "#{:02x}{:02x}{:02x}".format(*colour(one["id"])))
        if one["area"]:
            line.append(f" {one['area'] / (height * width):.1%} {one['score']:.2f}")
        else:
            line.append(" hidden", "dim")
    overlay = value.get("files", {}).get("overlay")
    return line if overlay is None or overlay.endswith(".mp4") else line.append(f"  → {printable(overlay)}", "cyan")
