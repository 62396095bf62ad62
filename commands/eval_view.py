"""How figures look: rows of CSV, and one table on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from visiontk.records import Record

from .console import printable

if TYPE_CHECKING:
    from rich.console import RenderableType

_WORDS = ("protocol", "video", "image")
_COUNTS = ("object", "frames")


def six_digits(value: float) -> float:
    """A figure as it stands in a line."""
    return float(f"{value:.6g}")


def rows(columns: list[str], line: Record) -> list[list[object]]:
    """One row per line; that of the mean names no video, image or object."""
    values = line | ({"IoU": line["mIoU"]} if "mIoU" in line else {})
    return [[values.get(column, "") for column in columns]]


def view(columns: list[str], result: Record) -> RenderableType:
    """All lines as one table, figures in percent."""
    from rich.table import Table
    from rich.text import Text

    *lines, mean = result["lines"]
    shown = [column for column in columns if column != "protocol"]
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold", show_footer=True, footer_style="bold")
    table.title, table.title_justify = _title(mean), "left"
    for column in shown:
        name = column in _WORDS
        value = "mean" if name else rows(columns, mean)[0][columns.index(column)]
        heading = column.replace("_", "\n")  # two lines, or names get no room on a terminal of 80 columns
        table.add_column(heading, _cell(column, value), justify="left" if name else "right", no_wrap=not name, overflow="fold")
    for line in lines:
        table.add_row(*(Text(_cell(column, line[column])) for column in shown))
    return table


def _title(mean: Record) -> str:
    """``davis2017: 5 objects in 2 videos, in %``"""
    kind = "videos" if "videos" in mean else "images"
    objects, among = (f"{mean[noun]} {noun if mean[noun] != 1 else noun[:-1]}" for noun in ("objects", kind))
    return f"{mean['protocol']}: {objects} in {among}, in %"


def _cell(column: str, value: object) -> str:
    if isinstance(value, float | int) and column not in (*_WORDS, *_COUNTS):
        return f"{value * 100:.1f}"
    return printable(str(value))
