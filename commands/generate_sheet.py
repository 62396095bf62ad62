"""The contact sheet of `visiontk generate --sweep`: a block for each prompt, the last sweep in columns, the others in rows."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visiontk import orders
from visiontk.artefacts import Naming, write
from visiontk.errors import ItemError
from visiontk.loras import USUAL, Lora

from .console import say
from .generate_plan import Planned

if TYPE_CHECKING:
    from PIL.Image import Image

    from visiontk.media.value_sheet import Block

MOST = 400  # pictures
MOST_COLUMNS = 8


def write_sheet(pictures: Sequence[Planned], count: int, made: Mapping[int, Path], *, overwrite: bool, quiet: bool) -> None:
    """Write ``sheet.png`` beside the first picture, under another name where there is one, and say where it is.

    ``pictures`` are the first `MOST` of ``count``, and ``made`` the files by the pictures' index. Raises OutputError.
    """
    if not made:
        return
    from visiontk.media.value_sheet import draw

    groups = [list(group) for _, group in itertools.groupby(pictures, key=lambda one: one.group)]
    sheet = draw([_block(group, made) for group in groups])
    folder = next(iter(made.values())).parent
    path = Naming(f"{folder}/", overwrite, aside=True).path({"path": "sheet"}, 0, "", ".png")
    write(path, lambda file: sheet.save(file, format="PNG"))
    if not quiet:
        more = f"; it has the first {len(pictures)} of {count} pictures" if count > len(pictures) else ""
        say(f"a contact sheet is in {path}{more}")


def _block(group: Sequence[Planned], made: Mapping[int, Path]) -> Block:
    from visiontk.media.value_sheet import Block

    values = [{**one.wanted.swept, "seed": one.wanted.seed} for one in group]
    rows, columns = _axes(group[0], values)
    at = {(_at(rows, value), _at(columns, value)): one for value, one in zip(values, group, strict=True)}
    down, across = _places(rows, values), _places(columns, values)
    cells = [[_cell(at.get((row, column)), made) for column in across] for row in down]
    return Block(_title(group[0]), _labels(rows, down), _labels(columns, across), cells)


def _axes(one: Planned, values: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[str]]:
    """What goes down and what goes across: the last sweep across, the others down; seeds that were not swept where there is room."""
    *rows, last = one.wanted.swept
    seeds = 1 if "seed" in one.wanted.swept else len({value["seed"] for value in values})
    if seeds == 1:
        return rows, [last]
    if rows and seeds * len({value[last] for value in values}) <= MOST_COLUMNS:
        return rows, [last, "seed"]
    return ["seed", *rows], [last]


def _at(axes: Sequence[str], value: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(value[name] for name in axes)


def _places(axes: Sequence[str], values: Sequence[Mapping[str, Any]]) -> list[tuple[Any, ...]]:
    """All combinations of the values on these axes, each axis in the order of its first appearance."""
    return list(itertools.product(*(dict.fromkeys(value[name] for value in values) for name in axes)))


def _labels(axes: Sequence[str], places: Sequence[tuple[Any, ...]]) -> list[tuple[str, ...]]:
    return [tuple(_label(name, value) for name, value in zip(axes, place, strict=True)) for place in places]


def _label(name: str, value: Any) -> str:
    if name == "lora":
        return "lora " + (" ".join(_lora(one) for one in value) or "none")
    shown = orders.said({name: value})[name]
    return f"{name.replace('_', ' ')} {shown:g}" if isinstance(shown, float) else f"{name.replace('_', ' ')} {shown}"


def _lora(lora: Lora) -> str:
    """Its file's name, or its folder's where all files are called so."""
    path = Path(lora.id)
    name = path.parent.name if path.name in USUAL and path.parent.name else path.name.removesuffix(".safetensors")
    return f"{name}:{lora.weight:g}"


def _title(planned: Planned) -> str:
    init = f" · {Path(planned.init.about['path']).name}" if planned.init else ""
    return planned.wanted.prompt + init


def _cell(planned: Planned | None, made: Mapping[int, Path]) -> Image | str:
    from visiontk.media import files, images, value_sheet

    if planned is None:
        return ""
    if planned.index not in made:
        return "failed"
    try:
        picture = images.decode(files.read(str(made[planned.index])))
    except ItemError as error:
        return error.kind
    picture.thumbnail((value_sheet.LARGEST, value_sheet.LARGEST))  # there may be hundreds
    return picture
