"""`visiontk models convert`: models as they were published, written anew as safetensors."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from visiontk.errors import OutputError, UsageError

from . import interrupts, options
from .console import say

if TYPE_CHECKING:
    from visiontk.adapters.lvm_convert import Converted, Told

PARTS = ("vqgan", "llama")  # in the order in which they appear: a folder without a llama/ is no model
OWN = {".json", ".safetensors"}

convert = typer.Typer(
    add_completion=False, no_args_is_help=True, rich_markup_mode=None, help="Write published models anew, as safetensors."
)


@convert.callback()
def _group() -> None:
    """Write published models anew, as safetensors."""


@convert.command()
def lvm(
    llama: Annotated[str, typer.Argument(metavar="LLAMA", help="Folder or hub id of the LLaMA, or a name of both networks.")],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="DIR", help="The folder that gets vqgan/ and llama/.", show_default=False)],
    vqgan: Annotated[str | None, typer.Argument(metavar="VQGAN", help="Folder or hub id of the VQGAN.", show_default=False)] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a model that is in DIR.")] = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Write a large vision model as one folder of safetensors.

    LLAMA is transformers' LLaMA and VQGAN open-muse's VQGANModel or diffusers' VQModel, with safetensors or pytorch_model.bin, of which
    only tensors are read. A catalog name, or a folder with llama/ and vqgan/, is both. Every tensor is read again and compared, and
    pictures must have the same codes before and after.

    \b
    visiontk models convert lvm lvm-7b -o lvm
    visiontk models convert lvm Emma02/LVM_ckpts Emma02/vqvae_ckpts -o lvm
    visiontk models convert lvm LVM_ckpts/ vqvae_ckpts/ -o lvm && visiontk lvm-continue a.png b.png --model ./lvm
    """
    _may_write(out, overwrite)

    from visiontk.adapters import lvm_convert, lvm_files

    _, files = lvm_files.find(llama, vqgan)
    found = files.llama, files.vqgan
    source = next((folder for folder in found if _inside(folder, out)), None)
    if source is not None:
        raise UsageError(f"{source} is what is read, and would be replaced; choose another place with -o")
    try:
        with _placed(out) as folder, _bar(quiet=quiet) as told:
            converted = lvm_convert.convert(*found, folder, told)
    except KeyboardInterrupt:
        say(f"interrupted; nothing half done is left in {out}")
        raise
    if not quiet:
        say(_summary(out, converted))


def _summary(out: Path, converted: Converted) -> str:
    size, codes = f"{converted.size / 1e6:,.1f} MB", f"{converted.codes:,} codes ({converted.different:,} different ones)"
    compared = f"{converted.tensors} tensors are the same to the bit, and {converted.pictures} pictures have the same {codes} as before"
    return f"{out} is the model, {size}; {compared}"


def _may_write(out: Path, overwrite: bool) -> None:
    """Raise UsageError where DIR is a file, holds a model that may not be replaced, or what is none of ours."""
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file; name a folder with -o")
    for folder in (out / part for part in PARTS if os.path.lexists(out / part)):
        if not overwrite:
            raise UsageError(f"{folder} exists; pass --overwrite, or choose another place with -o")
        other = next((file for file in folder.rglob("*") if file.suffix not in OWN), None) if folder.is_dir() else folder
        if other is not None:
            raise UsageError(f"{other} is no part of a model that a conversion wrote, so it stays; choose another place with -o")


def _inside(folder: Path, out: Path) -> bool:
    return any(folder.resolve().is_relative_to((out / part).resolve()) for part in PARTS)


@contextlib.contextmanager
def _placed(out: Path) -> Iterator[Path]:
    """A folder whose parts move into DIR when they are whole, in place of those that are there. Raises OutputError."""
    new = not out.exists()
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".convert.", dir=out) as temporary:
            made, old = Path(temporary) / "made", Path(temporary) / "old"
            yield made
            old.mkdir()
            for file in (path for path in made.rglob("*") if path.is_file()):
                file.chmod(old.stat().st_mode & 0o666)  # safetensors' files are for their owner alone
            with interrupts.held():
                _exchange(out, made, old)
        new = False
    except OSError as error:
        raise OutputError(f"cannot write {out} ({error.strerror or error}); make room or choose another place with -o") from error
    finally:
        if new:
            with contextlib.suppress(OSError):
                out.rmdir()


def _exchange(out: Path, made: Path, old: Path) -> None:
    """The parts in DIR move to ``old`` and those in ``made`` to DIR, or none does. Raises OSError."""
    try:
        for part in (part for part in reversed(PARTS) if (out / part).exists()):
            (out / part).rename(old / part)
        for part in PARTS:
            (made / part).rename(out / part)
    except OSError:
        for part in (part for part in PARTS if not (made / part).exists()):
            (out / part).rename(made / part)
        for folder in old.iterdir():
            folder.rename(out / folder.name)
        raise


@contextlib.contextmanager
def _bar(*, quiet: bool) -> Iterator[Told | None]:
    """Progress in bytes, where stderr is a terminal."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=None)
        yield lambda what, done, total: progress.update(task, description=what, completed=done, total=total)
