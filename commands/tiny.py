"""`visiontk tiny`: the bundled world, as files."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from visiontk.errors import UsageError
from visiontk.records import Record, encode

from . import interrupts, options
from .console import printable

tiny = typer.Typer(
    add_completion=False, no_args_is_help=True, rich_markup_mode=None, help="A small world of a hundred things, rendered without limit."
)
render = typer.Typer(
    add_completion=False, no_args_is_help=True, rich_markup_mode=None, help="Write pictures or clips of the tiny world as ordinary files."
)
tiny.add_typer(render, name="render")

Count = Annotated[int, typer.Option("-n", "--count", metavar="N", min=1, help="How many.")]
Folder = Annotated[Path, typer.Option("-o", "--out", metavar="DIR", help="The folder to write; a new or an empty one.", show_default=False)]
Size = Annotated[int, typer.Option("--size", metavar="PIXELS", min=16, max=1024, help="Side of the pictures.")]
Seed = Annotated[int, typer.Option("--seed", metavar="N", min=0, help="The same seed gives the same pictures.")]
Style = Annotated[
    list[str] | None,
    typer.Option(
        "--style", metavar="noto|fluent|twemoji", help="Style of drawing, repeatable. Default: noto and fluent; twemoji is held out."
    ),
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Take a folder that is not empty; what was rendered into it goes, other files stay.")
]
OBJECTS_HELP = "Things in each: a number, or the least and the most as 1-3."


@render.command()
def images(
    out: Folder,
    count: Count = 100,
    size: Size = 64,
    seed: Seed = 0,
    style: Style = None,
    objects: Annotated[str, typer.Option("--objects", metavar="N|LOW-HIGH", help=OBJECTS_HELP)] = "1",
    overwrite: Overwrite = False,
    debug: options.Debug = False,
) -> int:
    """Write images, each with a caption, a class and a box.

    One thing: DIR/NAME/000001.png, a folder for each class. Several: DIR/images/ and, with the same names, DIR/masks/ (0 is background).
    DIR/metadata.jsonl holds captions, boxes and the rest.

    \b
    visiontk tiny render images -n 1000 -o things/         training styles, one thing each
    visiontk tiny render images -n 500 -o held-out/ --style twemoji --seed 1
    visiontk tiny render images -n 8 -o pairs/ --objects 2 --size 128
    visiontk tiny render images -n 8 -o few/ | visiontk classify | jq -r '[.tiny.text, .classify.labels[0].label] | @tsv'
    """
    between = _parse_objects(objects)

    from visiontk.tiny import files

    _show(files.write_images(out, count, seed=seed, size=size, objects=between, styles=_styles(style), overwrite=overwrite))
    return 0


@render.command()
def clips(
    out: Folder,
    count: Count = 10,
    frames: Annotated[int, typer.Option("--frames", metavar="N", min=1, max=10_000, help="Frames of each clip.")] = 24,
    size: Size = 64,
    seed: Seed = 0,
    style: Style = None,
    objects: Annotated[str, typer.Option("--objects", metavar="N|LOW-HIGH", help=OBJECTS_HELP)] = "1-3",
    overwrite: Overwrite = False,
    debug: options.Debug = False,
) -> int:
    """Write clips of moving things with the mask of every frame, as the DAVIS data set lays them out.

    DIR/JPEGImages/000001/00000.jpg, DIR/Annotations/000001/00000.png (pixels are object numbers, 0 is background) and DIR/metadata.jsonl.

    \b
    visiontk tiny render clips -n 20 -o clips/
    visiontk tiny render clips -n 4 -o clips/ --objects 2-3 --frames 48 --size 128 --style twemoji
    visiontk tiny render clips -n 1 -o clip/ | visiontk classify --format tsv
    """
    between = _parse_objects(objects)

    from visiontk.tiny import files

    _show(files.write_clips(out, count, seed=seed, frames=frames, size=size, objects=between, styles=_styles(style), overwrite=overwrite))
    return 0


def _styles(style: list[str] | None) -> tuple[str, ...]:
    from visiontk.tiny.sprites import TRAIN_STYLES, check_styles

    return check_styles(style or TRAIN_STYLES)


def _parse_objects(text: str) -> tuple[int, int]:
    """``2`` or ``1-3``. Raises UsageError."""
    parts = text.split("-")
    if len(parts) > 2 or not all(part.isdecimal() for part in parts):
        raise UsageError(f"--objects is {text!r}; use a number as 2, or the least and the most as 1-3")
    return int(parts[0]), int(parts[-1])


def _show(records: Iterable[Record]) -> None:
    terminal = sys.stdout.isatty()
    for record in records:
        line = f"{printable(record['path'])}  {record['tiny']['text']}\n" if terminal else encode(record).decode()
        with interrupts.held():
            sys.stdout.write(line)
            sys.stdout.flush()
