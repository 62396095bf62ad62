"""A contact sheet of a product of values: blocks of pictures in rows and columns, each with what it was made with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image, ImageDraw

from visiontk.media.overlay import lettering, shortened

Labels = tuple[str, ...]  # the lines of one label

_PAPER, _INK, _PALE, _EMPTY = (255, 255, 255), (20, 20, 20), (110, 110, 110), (232, 232, 232)
LARGEST, _SMALLEST = 256, 160  # pixels of the longer side of a picture on the sheet
_MOST_COLUMNS = 8
_MARGIN, _GAP = 20, 8
_TITLE, _LABEL = 20, 15
_LEADING = 1.35
_MOST_TITLE_LINES = 3


@dataclass(frozen=True)
class Block:
    """The pictures of one prompt.

    Attributes:
        title: the prompt.
        rows, columns: a label for each.
        cells: the pictures row by row, or words where there is none.
    """

    title: str
    rows: Sequence[Labels]
    columns: Sequence[Labels]
    cells: Sequence[Sequence[Image.Image | str]]


def draw(blocks: Sequence[Block]) -> Image.Image:
    """The sheet, RGB: the blocks one under the other. Pictures of more columns than fit go on in further rows.

    Large pictures are scaled down, small ones up by a whole number, so that every pixel stays to be seen.
    """
    parts = [_block(block) for block in blocks]
    width = max(part.width for part in parts) + 2 * _MARGIN
    height = sum(part.height for part in parts) + _MARGIN * (len(parts) + 1)
    sheet, top = Image.new("RGB", (width, height), _PAPER), _MARGIN
    for part in parts:
        sheet.paste(part, (_MARGIN, top))
        top += part.height + _MARGIN
    return sheet


def _block(block: Block) -> Image.Image:
    cells = [[cell if isinstance(cell, str) else _sized(cell) for cell in row] for row in block.cells]
    sizes = [cell.size for row in cells for cell in row if not isinstance(cell, str)] or [(_SMALLEST, _SMALLEST)]
    label, title = lettering(_LABEL), lettering(_TITLE, bold=True)
    widest = max(label.getlength(line) for lines in block.columns for line in lines) if any(block.columns) else 0
    cell = max(*(width for width, _ in sizes), round(min(widest, LARGEST))), max(height for _, height in sizes)
    gutter = round(max((label.getlength(line) for lines in block.rows for line in lines), default=0))
    gutter += 2 * _GAP if gutter else 0
    bands = _bands(len(block.columns))
    width = gutter + max(len(band) for band in bands) * (cell[0] + _GAP) - _GAP
    width = max(width, 2 * LARGEST)  # so that there is room for the prompt
    words = _wrapped(block.title, title, width)
    head = round(len(words) * _TITLE * _LEADING) + _GAP
    heading = round(max((len(lines) for lines in block.columns), default=0) * _LABEL * _LEADING)
    band_height = heading + len(block.rows) * (cell[1] + _GAP)
    picture = Image.new("RGB", (width, head + len(bands) * (band_height + _GAP) - 2 * _GAP), _PAPER)
    pen = ImageDraw.Draw(picture)
    _lines(pen, (0, 0), words, title, _TITLE, "la")
    for number, band in enumerate(bands):
        top = head + number * (band_height + _GAP)
        for place, column in enumerate(band):
            left = gutter + place * (cell[0] + _GAP)
            _lines(pen, (left + cell[0] / 2, top), block.columns[column], label, _LABEL, "ma", width=cell[0])
            for row in range(len(block.rows)):
                _cell(picture, pen, cells[row][column], (left, top + heading + row * (cell[1] + _GAP), *cell), label)
        for row, lines in enumerate(block.rows):
            middle = top + heading + row * (cell[1] + _GAP) + cell[1] / 2
            _lines(pen, (gutter - 2 * _GAP, middle - len(lines) * _LABEL * _LEADING / 2), lines, label, _LABEL, "ra")
    return picture


def _bands(columns: int) -> list[range]:
    """The columns in rows of nearly the same length."""
    count = -(-columns // _MOST_COLUMNS)
    each = -(-columns // count)
    return [range(start, min(start + each, columns)) for start in range(0, columns, each)]


def _cell(picture: Image.Image, pen: Any, what: Image.Image | str, box: tuple[int, int, int, int], font: Any) -> None:
    left, top, width, height = box
    if isinstance(what, str):
        pen.rectangle((left, top, left + width - 1, top + height - 1), fill=_EMPTY)
        pen.text((left + width / 2, top + height / 2), shortened(what, font, width - 8), fill=_PALE, font=font, anchor="mm")
    else:
        picture.paste(what, (left + (width - what.width) // 2, top + (height - what.height) // 2))


def _sized(image: Image.Image) -> Image.Image:
    longer = max(image.size)
    if longer > LARGEST:
        small = image.convert("RGB")
        small.thumbnail((LARGEST, LARGEST), Image.Resampling.LANCZOS)
        return small
    times = max(1, -(-_SMALLEST // longer))
    return image.convert("RGB").resize((image.width * times, image.height * times), Image.Resampling.NEAREST)


def _lines(pen: Any, at: tuple[float, float], lines: Sequence[str], font: Any, size: int, anchor: str, width: float | None = None) -> None:
    for number, line in enumerate(lines):
        text = line if width is None else shortened(line, font, width)
        pen.text((at[0], at[1] + number * size * _LEADING), text, fill=_INK, font=font, anchor=anchor)


def _wrapped(text: str, font: Any, width: float) -> list[str]:
    """The text in lines of that width; what does not fit in the last one is cut."""
    lines = [""]
    words = text.split()
    for number, word in enumerate(words):
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= width or not lines[-1]:
            lines[-1] = longer
        elif len(lines) == _MOST_TITLE_LINES:
            lines[-1] = " ".join([lines[-1], *words[number:]])
            break
        else:
            lines.append(word)
    return [shortened(line, font, width) for line in lines]
