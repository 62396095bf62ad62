"""What a user points at in a picture: points, boxes, masks, or everything.

The grammar of one prompt is ``KIND[:VALUE][@FRAME][#ID]``, ``@`` and ``#`` in either order at its very end::

    point                       the centre of the frame
    point:X,Y                   a point, in pixels ("120" or "120.5") or percent of the width and height ("50%")
    point:X,Y+X,Y-X,Y           several points of one object; + more of the object, - what is not of it
    point:-X,Y                  a point that is not of the object, to correct it
    box:X0,Y0,X1,Y1             left, top, right and bottom edge
    mask:FILE.png               any value over 0 is the object; or an index map, where each index over 0 is one
    auto                        everything in the picture

A mask's file may hold ``@``, ``#``, ``:`` and spaces in its name, as only ``@DIGITS`` and ``#DIGITS`` at the very end are taken off. A name
that itself ends so goes into the JSON form: ``{"mask": "odd#3"}``.
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any, NoReturn

from .errors import UsageError

MAX_ID = 0xFFFF  # as many as an indexed PNG holds
FORMS = "point:X,Y, box:X0,Y0,X1,Y1, mask:FILE.png or auto"

_SUFFIX = re.compile(r"([@#])([0-9]+)\Z")
_MAX_DIGITS = 9
_NUMBER = r"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*%?"
_POINT = re.compile(rf"\s*([+-]?)\s*({_NUMBER})\s*,\s*({_NUMBER})\s*")
_BOX = re.compile(r"\s*,\s*".join(rf"({_NUMBER})" for _ in range(4)))
_POINT_FORM = 'write point:X,Y with X and Y in pixels or percent ("50%"), and more points of the object after + or -'
_BOX_FORM = "write box:X0,Y0,X1,Y1 with X0 < X1 and Y0 < Y1"
# What is wrong with a box whose edges are swapped, and with one whose edges are equal.
_X = ("has its right edge left of its left edge", "has no width")
_Y = ("has its bottom edge above its top edge", "has no height")
_KEYS = ("object", "frame", "points", "labels", "box", "mask")


@dataclass(frozen=True)
class Length:
    """A coordinate as it was written: in pixels, or in percent of the picture's width or height."""

    value: float
    percent: bool

    def pixels(self, extent: int) -> float:
        """In pixels of a side that is ``extent`` pixels long."""
        return self.value * extent / 100 if self.percent else self.value


Box = tuple[Length, Length, Length, Length]


@dataclass(frozen=True)
class Point:
    """``positive``: of the object; otherwise a place that is not."""

    x: Length
    y: Length
    positive: bool


@dataclass(frozen=True)
class Prompt:
    """One object on one frame, not yet in pixels.

    Attributes:
        object_id: from 1 on; None with ``auto``, and until prompts are joined where none was given.
        frame: from 0 on.
        points, box, mask: what shows the object; at least one of them, and a mask alone.
        mask: a file's path, or COCO RLE.
        auto: everything in the picture.
        loose: the box is cut to the picture, as that of a detector may reach a little over it.
        text: as the user wrote it, for messages.
        numbered: the id is one that `join` gave it.
    """

    object_id: int | None
    frame: int
    points: tuple[Point, ...] = ()
    box: Box | None = None
    mask: str | dict[str, Any] | None = None
    auto: bool = False
    loose: bool = False
    text: str = ""
    numbered: bool = field(default=False, compare=False)


def join(prompts: Sequence[Prompt], indices: Callable[[str], Sequence[int]]) -> list[Prompt]:
    """Number the prompts that have no id, put those of one object on one frame together, and sort them by frame and id.

    A prompt without an id is a new object: 1, 2, 3 ... in the order of the prompts, leaving out the ids that are named. Points add up, and
    go together with a box. To join prompts from several places, give the lists of `read` and `read_json`, which are not yet numbered.

    ``indices`` gives the ids in a mask's file, none where it is binary. A mask without an id is a new object where it is binary, and an
    index map becomes a prompt for each index (and these count as named).

    Raises ``UsageError`` for an object with two boxes, two masks, or a mask and something else on one frame.
    """
    spread = [one for prompt in prompts for one in _spread(prompt, indices)]
    named = {prompt.object_id for prompt in spread}
    free = (number for number in count(1) if number not in named)
    everything: dict[int, Prompt] = {}
    objects: dict[tuple[int, int], Prompt] = {}
    for prompt in spread:
        if prompt.auto:
            everything.setdefault(prompt.frame, prompt)
        else:
            number = prompt.object_id or next(free)
            if number > MAX_ID:
                raise UsageError(f"there are more than {MAX_ID:,} objects; give fewer prompts")
            key = prompt.frame, number
            numbered = replace(prompt, object_id=number, numbered=prompt.object_id is None)
            objects[key] = _together(objects[key], prompt) if key in objects else numbered
    for prompt in objects.values():
        _check_signs(prompt)
    return sorted([*everything.values(), *objects.values()], key=lambda prompt: (prompt.frame, prompt.object_id or 0))


def resolve(
    prompt: Prompt, width: int, height: int
) -> tuple[list[tuple[float, float]], list[int], tuple[float, float, float, float] | None]:
    """Points (x, y), their labels (1 or 0) and the box (x0, y0, x1, y1) of a prompt, in pixels of a picture of ``width`` x ``height``.

    Raises ``UsageError`` for what lies outside the picture (x in [0, width], y in [0, height]), for a ``loose`` box only where all of it
    does, and for a box turned inside out.
    """
    points = [(point.x.pixels(width), point.y.pixels(height)) for point in prompt.points]
    corners = [(x.pixels(width), y.pixels(height)) for x, y in (prompt.box[:2], prompt.box[2:])] if prompt.box else []
    if corners and prompt.loose:
        corners = _cut(corners, width, height)
    if not all(0 <= x <= width and 0 <= y <= height for x, y in points + corners):
        size = f"{width}x{height}"
        _fail(prompt.text, f"lies outside the picture, which is {size}", f"write X from 0 to {width} and Y from 0 to {height}")
    labels = [int(point.positive) for point in prompt.points]
    if not corners:
        return points, labels, None
    (x0, y0), (x1, y1) = corners
    _check_order(prompt.text, _X, x0, x1)
    _check_order(prompt.text, _Y, y0, y1)
    return points, labels, (x0, y0, x1, y1)


def _cut(corners: list[tuple[float, float]], width: int, height: int) -> list[tuple[float, float]]:
    """The part of a box that lies in the picture; the box as it is, where none does."""
    cut = [(min(max(x, 0.0), width), min(max(y, 0.0), height)) for x, y in corners]
    (x0, y0), (x1, y1) = cut
    return cut if x0 < x1 and y0 < y1 else corners


def _fail(text: str, wrong: str, cure: str) -> NoReturn:
    raise UsageError(f'the prompt "{text}" {wrong}; {cure}')


# --- the grammar of --prompt


def read(text: str) -> Prompt:
    """One prompt as it is written, not yet numbered: ``object_id`` is None unless it names one. Raises ``UsageError``."""
    body, frame, number = _take_suffixes(text if text.startswith("mask:") else text.strip())
    kind, colon, value = body.partition(":")
    kind = kind.strip()
    if kind != "mask" and ("@" in body or "#" in body):
        _fail(text, "has a frame or an object that is no whole number, or two", "end it with @FRAME from 0 on, #ID from 1 on, or both")
    if kind not in ("point", "box", "mask", "auto"):
        _fail(text, f'starts with "{kind}", which is no kind of prompt', f"write {FORMS}")
    if colon and not value.strip():
        _fail(text, "has nothing after its colon", f"write {FORMS}")
    prompt = Prompt(number, frame, text=text)
    if kind == "point":
        return replace(prompt, points=_points(text, value if colon else "50%,50%"))
    if kind == "box":
        return replace(prompt, box=_box(text, value))
    if kind == "mask":
        if not colon:
            _fail(text, "names no file", "write mask:FILE.png")
        return replace(prompt, mask=value)
    if colon:
        _fail(text, "has a value, and auto takes none", "write auto, or auto@FRAME")
    if number is not None:
        _fail(text, "has an object's id, and auto finds the objects itself", "write auto, or auto@FRAME")
    return replace(prompt, auto=True)


def _take_suffixes(text: str) -> tuple[str, int, int | None]:
    """The text without ``@FRAME`` and ``#ID``, the frame (0 where it is not said), and the id."""
    found: dict[str, int] = {}
    body = text
    while (match := _SUFFIX.search(body)) and match[1] not in found:
        if len(match[2]) > _MAX_DIGITS:
            _fail(text, f"has a number of {len(match[2])} digits after its {match[1]}", "write the frame from 0 on and the id from 1 on")
        found[match[1]] = int(match[2])
        body = body[: match.start()]
    number = found.get("#")
    if number is not None and not 1 <= number <= MAX_ID:
        _fail(text, f"names object {number}", f"write an id from 1 to {MAX_ID:,}; 0 is the background")
    return body, found.get("@", 0), number


def _points(text: str, value: str) -> tuple[Point, ...]:
    points: list[Point] = []
    end = 0
    while end < len(value):
        match = _POINT.match(value, end)
        if match is None or (points and not match[1]):
            _fail(text, "is no list of points", _POINT_FORM)
        points.append(Point(_length(match[2]), _length(match[3]), match[1] != "-"))
        end = match.end()
    return tuple(points)


def _box(text: str, value: str) -> Box:
    match = _BOX.fullmatch(value.strip())
    if match is None:
        _fail(text, "is no box of four numbers", f"{_BOX_FORM}, in pixels or percent")
    return _checked_box(text, *(_length(number) for number in match.groups()))


def _checked_box(text: str, x0: Length, y0: Length, x1: Length, y1: Length) -> Box:
    """A box whose edges are in order, as far as that can be told without the picture's size."""
    for wrong, low, high in ((_X, x0, x1), (_Y, y0, y1)):
        if low.percent == high.percent:
            _check_order(text, wrong, low.value, high.value)
    return x0, y0, x1, y1


def _check_order(text: str, wrong: tuple[str, str], low: float, high: float) -> None:
    if high <= low:
        _fail(text, wrong[high == low], _BOX_FORM)


def _length(text: str) -> Length:
    return Length(float(text.rstrip("% \t")), text.endswith("%"))


# --- JSON


def read_json(value: object, where: str, *, loose: bool = False) -> list[Prompt]:
    """The prompts of a ``--prompts`` file or of a record's ``prompts`` key, not yet numbered and joined.

    ``value`` is a list of objects ``{"object": 1, "frame": 0, "points": [[x, y], ...], "labels": [1, 0], "box": [x0, y0, x1, y1], "mask":
    "file.png" or {"size": [h, w], "counts": "..."}}``, each with points or a box or a mask. Without ``object`` an entry is a new object,
    ``frame`` is 0 and ``labels`` all 1 unless given; coordinates are numbers in pixels or strings such as ``"50%"``.

    ``loose``: boxes may reach over the picture's edges, and have negative numbers then.

    Raises ``UsageError`` that names ``where`` and the entry, counted from 1.
    """
    if not isinstance(value, list):
        raise UsageError(f'{where} is no list of prompts; write [{{"points": [[X, Y]]}}, {{"box": [X0, Y0, X1, Y1]}}, ...]')
    return [_entry(entry, f"entry {number} of {where}", loose) for number, entry in enumerate(value, 1)]


def _entry(entry: object, text: str, loose: bool) -> Prompt:
    if not isinstance(entry, dict):
        _fail(text, "is no JSON object", 'write {"points": [[X, Y]]} or the like')
    unknown = [key for key in entry if key not in _KEYS]
    if unknown:
        _fail(text, f'has the unknown key "{unknown[0]}"', f"there are {', '.join(_KEYS)}")
    number, frame = entry.get("object"), entry.get("frame", 0)
    if number is not None and not (type(number) is int and 1 <= number <= MAX_ID):
        _fail(text, f'has an "object" that is no id: {reprlib.repr(number)}', f"write a whole number from 1 to {MAX_ID:,}")
    if not (type(frame) is int and 0 <= frame < 10**_MAX_DIGITS):
        _fail(text, f'has a "frame" that is none: {reprlib.repr(frame)}', "write a whole number from 0 on")
    points, box, mask = _json_points(entry, text), _json_box(entry.get("box"), text, loose), _json_mask(entry.get("mask"), text)
    if not (points or box or mask):
        _fail(text, "shows nothing", 'give it "points", a "box" or a "mask"')
    if mask and (points or box):
        _fail(text, "has a mask together with points or a box", "give the mask alone, and correct it on a later frame")
    return Prompt(number, frame, points, box, mask, loose=loose, text=text)


def _json_points(entry: dict[str, Any], text: str) -> tuple[Point, ...]:
    points, labels = entry.get("points"), entry.get("labels")
    points = [] if points is None else points
    labels = [1] * len(points) if labels is None and isinstance(points, list) else labels
    if not isinstance(points, list) or not all(isinstance(point, list | tuple) and len(point) == 2 for point in points):
        _fail(text, 'has "points" that are none', "write [[X, Y], ...]")
    if not isinstance(labels, list) or len(labels) != len(points) or not all(label in (0, 1) for label in labels):
        _fail(text, 'has "labels" that do not fit its points', "write 1 (of the object) or 0 (not of it) for each point")
    return tuple(Point(_json_length(x, text), _json_length(y, text), bool(label)) for (x, y), label in zip(points, labels, strict=True))


def _json_box(value: object, text: str, loose: bool) -> Box | None:
    if value is None:
        return None
    if not isinstance(value, list | tuple) or len(value) != 4:
        _fail(text, 'has a "box" that is none', "write [X0, Y0, X1, Y1]")
    return _checked_box(text, *(_json_length(number, text, -(10.0**_MAX_DIGITS) if loose else 0.0) for number in value))


def _json_length(value: object, text: str, least: float = 0.0) -> Length:
    if isinstance(value, str) and value.rstrip().endswith("%") and re.fullmatch(_NUMBER, value.strip()):
        return _length(value.strip())
    if isinstance(value, int | float) and not isinstance(value, bool) and least <= value < 10**_MAX_DIGITS:
        return Length(float(value), False)
    _fail(text, f"has a coordinate that is none: {reprlib.repr(value)}", 'write a number of pixels from 0 on, or a string such as "50%"')


def _json_mask(value: object, text: str) -> str | dict[str, Any] | None:
    if value is None or (isinstance(value, str) and value):
        return value
    if isinstance(value, dict) and {"size", "counts"} <= value.keys():
        return value
    _fail(text, 'has a "mask" that is none', 'write a file\'s name, or COCO RLE: {"size": [HEIGHT, WIDTH], "counts": "..."}')


# --- joining


def _spread(prompt: Prompt, indices: Callable[[str], Sequence[int]]) -> Iterator[Prompt]:
    """The prompt; or where it is an index map, a prompt for each index."""
    found = indices(prompt.mask) if isinstance(prompt.mask, str) and prompt.object_id is None else ()
    if found:
        yield from (replace(prompt, object_id=int(index)) for index in found)
    else:
        yield prompt


def _check_signs(prompt: Prompt) -> None:
    signs = {(point.x, point.y, point.positive) for point in prompt.points}
    if any((x, y, not positive) in signs for x, y, positive in signs):
        raise UsageError(
            f'the prompt "{prompt.text}" says that one place is and is not of object {prompt.object_id} on frame {prompt.frame}; '
            "give one of them, or another #ID"
        )


def _together(first: Prompt, second: Prompt) -> Prompt:
    masks, boxes = [[getattr(prompt, name) is not None for prompt in (first, second)] for name in ("mask", "box")]
    for conflict, what in (
        (all(masks), "two masks"),
        (any(masks), "a mask and something else"),
        (all(boxes), "two boxes"),
    ):
        if conflict:
            raise UsageError(
                f'the prompts "{first.text}" and "{second.text}" are {what} for object {first.object_id} on frame {first.frame}; '
                "give one of them, or another #ID"
            )
    return replace(first, points=first.points + second.points, box=first.box or second.box, text=f"{first.text} {second.text}")
