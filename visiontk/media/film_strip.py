"""A film strip: the pictures of a visual sentence side by side, those that were given on grey, those that were made on orange."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

from visiontk.media.overlay import lettering, shortened

_PAPER, _INK = (255, 255, 255), (20, 20, 20)
_GIVEN, _MADE = (214, 214, 214), (240, 186, 92)
_SIDE, _LARGEST = 128, 192  # pixels of a picture on the strip
_PLAYED = 256  # of one in an animation, at least
_EDGE, _BAND = 5, 20  # of the film around a picture, and for the words under it
_CAPTION, _HEADING = 12, 15
_MARGIN, _PART = 12, 14  # around all of it, and between what was given and what was made
MOST_COLUMNS = 20
MOST = 480  # pictures of a candidate that are shown
MOST_ROWS = 48  # candidates that are


@dataclass(frozen=True)
class _Cell:
    """A picture in its place, in columns and rows; ``apart``: with a gap before it."""

    image: Image.Image
    column: int
    row: float
    caption: str
    made: bool
    apart: bool


def draw(given: Sequence[Image.Image], made: Sequence[Sequence[Image.Image]], *, pairs: bool = False) -> Image.Image:
    """The strip, RGB.

    Without ``pairs`` the sentence runs from left to right, with a row for each candidate, and goes on below after 20 pictures. With
    ``pairs`` each column is a picture over its answer, and the last of ``given`` stands over the answers that were made.

    Args:
        given: what the model was given, oldest first, one picture or more, all of one size.
        made: the pictures of each candidate, not as many of each where a run was stopped. The first 48 candidates are shown.
    """
    made = made[:MOST_ROWS]
    cells = list(_pairs(given, made) if pairs else _sentence(given, made))
    width, height = _size(given[0])
    across, down = width + 2 * _EDGE, height + _EDGE + _BAND
    top = _MARGIN + round(_HEADING * 1.6)
    columns, rows = max(cell.column for cell in cells) + 1, max(cell.row for cell in cells) + 1
    gap = _PART if any(cell.apart for cell in cells) else 0
    sheet = Image.new("RGB", (2 * _MARGIN + columns * across + gap, round(top + rows * (down + _EDGE) - _EDGE + _MARGIN)), _PAPER)
    pen, font, title = ImageDraw.Draw(sheet), lettering(_CAPTION), lettering(_HEADING, bold=True)
    headed: set[bool] = set()
    for cell in cells:
        left, upper = _MARGIN + cell.column * across + _PART * cell.apart, round(top + cell.row * (down + _EDGE))
        pen.rectangle((left, upper, left + across - 1, upper + down - 1), fill=_MADE if cell.made else _GIVEN)
        sheet.paste(_resized(cell.image, width, height), (left + _EDGE, upper + _EDGE))
        middle = left + across / 2, upper + _EDGE + height + _BAND / 2
        pen.text(middle, shortened(cell.caption, font, width), fill=_INK, font=font, anchor="mm")
        if cell.made not in headed and not (pairs and cell.made):  # over those of pairs stands the query, which was given
            headed.add(cell.made)
            pen.text((left, _MARGIN), "made" if cell.made else "given", fill=_INK, font=title, anchor="la")
    return sheet


def frame(image: Image.Image) -> Image.Image:
    """A picture as large as it is played, RGB: small ones are enlarged by a whole number, so that every pixel is to be seen."""
    times = max(1, -(-_PLAYED // max(image.size)))
    return _resized(image, image.width * times, image.height * times)


def animated_webp(pictures: Iterable[Image.Image], fps: float) -> bytes:
    """A file that plays them without end, without loss."""
    data = io.BytesIO()
    first, *rest = pictures
    # Pillow joins pictures that are equal into one frame of their time together.
    first.save(data, format="WEBP", save_all=True, append_images=rest, duration=round(1000 / fps), loop=0, lossless=True, exact=True)
    return data.getvalue()


def _sentence(given: Sequence[Image.Image], made: Sequence[Sequence[Image.Image]]) -> Iterator[_Cell]:
    rows = max(1, len(made))
    for place, image in enumerate(given):
        band, column = divmod(place, MOST_COLUMNS)
        yield _Cell(image, column, band * rows + (rows - 1) / 2, str(place + 1), made=False, apart=False)
    for candidate, images in enumerate(made):
        for number, image in enumerate(images[:MOST]):
            band, column = divmod(len(given) + number, MOST_COLUMNS)
            caption = f"#{candidate} +{number + 1}" if len(made) > 1 else f"+{number + 1}"
            yield _Cell(image, column, band * rows + candidate, caption, made=True, apart=band * MOST_COLUMNS < len(given))


def _pairs(given: Sequence[Image.Image], made: Sequence[Sequence[Image.Image]]) -> Iterator[_Cell]:
    query = len(given) // 2
    for place, image in enumerate(given[:-1]):
        column, answer = divmod(place, 2)
        yield _Cell(image, column, answer, "answer" if answer else str(column + 1), made=False, apart=False)
    yield _Cell(given[-1], query, 0, "query", made=False, apart=True)
    for candidate, images in enumerate(made):
        caption = f"made #{candidate}" if len(made) > 1 else "made"
        yield from (_Cell(image, query + candidate, 1 + number, caption, made=True, apart=True) for number, image in enumerate(images[:1]))


def _size(image: Image.Image) -> tuple[int, int]:
    """On the strip. Small pictures are enlarged by a whole number."""
    longer = max(image.size)
    scale = min(1.0, _LARGEST / longer) if longer >= _SIDE else -(-_SIDE // longer)
    return max(1, round(image.width * scale)), max(1, round(image.height * scale))


def _resized(image: Image.Image, width: int, height: int) -> Image.Image:
    how = Image.Resampling.LANCZOS if width < image.width else Image.Resampling.NEAREST
    return image.convert("RGB").resize((width, height), how)
