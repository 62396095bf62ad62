"""Records on their way out: JSON lines, CSV, TSV, or tables for people."""

from __future__ import annotations

import io
import os
import re
import stat
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self
from weakref import finalize

from visiontk.errors import ItemError, OutputError, UsageError
from visiontk.records import Record, encode
from visiontk.resume import claim

from . import interrupts

if TYPE_CHECKING:
    from PIL.Image import Image
    from rich.console import Console, RenderableType

FORMATS = ("table", "jsonl", "csv", "tsv")
_NO_BYTES = re.compile("[\ud800-\udc7f\udd00-\udfff]")  # halves of characters that a JSON line may hold and no file system
Rows = Callable[[Record], list[list[object]]]
View = Callable[[Record], "RenderableType"]


class Writer(Protocol):
    def write(self, record: Record) -> None: ...


def check(requested: str | None, resume: Path | None, out: str | None = None) -> None:
    """Raise UsageError for a format that is none, or for lines where ``out`` has the output for a file's bytes, before any work."""
    if requested is not None and requested not in FORMATS:
        raise UsageError(f"the format {requested!r} is unknown; use {', '.join(FORMATS)}")
    if out == "-" and requested is not None:
        raise UsageError(f"-o - puts a file on the output, and --format {requested} the lines; leave one of them out")
    if resume and requested not in (None, "jsonl"):
        raise UsageError(f"--resume keeps JSON lines, and --format is {requested}; leave one of them out")


def form(requested: str | None, resume: Path | None) -> str:
    """The format in force: tables for people, JSON lines for pipes and files."""
    return requested or ("jsonl" if resume or not (sys.stdout and sys.stdout.isatty()) else "table")


def choose(
    requested: str | None,
    resume: Path | None,
    columns: list[str],
    rows: Rows,
    view: View,
    console: Callable[[], Console],
    out: str | None = None,
) -> tuple[str, Writer]:
    """The format in force and its writer; ``bytes``, and none, where ``out`` is ``-`` and standard output has a picture's bytes.

    ``columns`` and ``rows`` say how a record becomes rows of a table of values; ``view`` how it looks on a terminal.
    """
    name = form(requested, resume)
    check(requested, resume, out)
    if resume:
        return name, JsonLines.going_on(resume)
    if out == "-":
        return "bytes", Nothing()
    if name == "jsonl":
        return name, JsonLines(_stdout(), "the output")
    if name == "table":
        return name, Tables(console, view)
    return name, Values(_stdout(), columns, rows, "," if name == "csv" else "\t")


class Nothing:
    """No lines, where ``-o -`` has the output for a picture's bytes."""

    def write(self, record: Record) -> None:
        return


def write_bytes(data: bytes) -> None:
    """An artefact's bytes to the output, for ``-o -``. Raises ReaderGone and OutputError as for lines."""
    _Out(_stdout(), "the output").write(data)


def write_picture(picture: Image) -> None:
    """A picture to the output as PNG, for ``-o -``. Raises as `write_bytes` does."""
    data = io.BytesIO()
    picture.save(data, format="PNG")
    write_bytes(data.getvalue())


def check_free(path: Path, *, replace: bool) -> None:
    """A name that was free when the run began may be taken when its artefact is ready. Raises ItemError, unless it may be replaced."""
    if os.path.lexists(path) and not replace:  # Path.exists raises for names that no file can have
        raise ItemError("exists", f"{path} exists since this run began; choose another place with -o")


class JsonLines:
    """One JSON object a line, each written whole and at once: whoever reads on has it as soon as it is known."""

    def __init__(self, descriptor: int, name: str) -> None:
        self._out = _Out(descriptor, name)

    @classmethod
    def going_on(cls, file: Path) -> Self:
        """Behind what the file holds. No other run can write to it before this writer is gone. Raises OutputError, UsageError."""
        descriptor = _open_for_append(file)
        made = cls(descriptor, str(file))
        finalize(made, os.close, descriptor)
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            claim(descriptor, file)
        return made

    def write(self, record: Record) -> None:
        self._out.write(encode(record))


class Values:
    """CSV or TSV with a heading; cells with separators, quotes or line breaks are quoted as in RFC 4180."""

    def __init__(self, descriptor: int, columns: list[str], rows: Rows, delimiter: str) -> None:
        self._out, self._rows, self._delimiter = _Out(descriptor, "the output"), rows, delimiter
        self._out.write(self._format([list(columns)]))

    def write(self, record: Record) -> None:
        self._out.write(self._format(self._rows(record)))

    def _format(self, rows: list[list[object]]) -> bytes:
        return b"".join(self._row(row) for row in rows)

    def _row(self, row: list[object]) -> bytes:
        text = io.StringIO()
        # csv quotes cells with characters of its line ending, and a lone carriage return in a name needs quotes as well.
        import csv

        csv.writer(text, delimiter=self._delimiter, lineterminator="\r\n").writerow(row)
        line = _NO_BYTES.sub("\ufffd", text.getvalue().removesuffix("\r\n"))
        return line.encode("utf-8", "surrogateescape") + b"\n"


class Tables:
    """One small view per record, for a person."""

    def __init__(self, console: Callable[[], Console], view: View) -> None:
        self._console, self._view = console, view

    def write(self, record: Record) -> None:
        try:
            self._console().print(self._view(record))
        except (BrokenPipeError, SystemExit) as error:  # Rich turns the one into the other
            raise interrupts.ReaderGone from error
        except OSError as error:
            raise _unwritable("the output", error) from error


class _Out:
    """A file descriptor that takes whole lines; what a full disk cut short is taken back."""

    def __init__(self, descriptor: int, name: str) -> None:
        self._descriptor, self._name = descriptor, name
        self._regular = stat.S_ISREG(os.fstat(descriptor).st_mode)

    def write(self, line: bytes) -> None:
        with interrupts.held():
            rest = memoryview(line)
            before = os.fstat(self._descriptor) if self._regular else None
            try:
                while rest:
                    rest = rest[os.write(self._descriptor, rest) :]
            except BrokenPipeError as error:
                raise interrupts.ReaderGone from error
            except OSError as error:
                if before is not None:
                    if len(rest) < len(line):
                        os.ftruncate(self._descriptor, os.fstat(self._descriptor).st_size - (len(line) - len(rest)))
                    with suppress(OSError):  # the file is somebody else's
                        os.utime(self._descriptor, ns=(before.st_atime_ns, before.st_mtime_ns))  # --resume reads when the last line came
                raise _unwritable(self._name, error) from error


def _stdout() -> int:
    try:
        sys.stdout.flush()
        return sys.stdout.fileno()
    except (OSError, ValueError, AttributeError) as error:
        raise OutputError("there is no standard output to write to; redirect it to a file or a pipe") from error


def _open_for_append(file: Path) -> int:
    try:
        return os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    except OSError as error:
        raise _unwritable(str(file), error) from error


def _unwritable(name: str, error: OSError) -> OutputError:
    return OutputError(f"cannot write to {name} ({error.strerror or error}); make room or choose another place, then go on with --resume")
