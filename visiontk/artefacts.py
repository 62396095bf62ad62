"""Files that a run makes beside its records: where they go, and writing them so that a stopped run leaves none half done."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from .errors import ItemError, OutputError, UsageError
from .records import Record

DEFAULT_FOLDER = "visiontk-out"
MAX_NAME, _LONGEST_NAME = 200, 240  # bytes: of an item's name, and of a whole one
FIELDS = ("stem", "name", "parent", "frame", "index", "kind")


@dataclass
class Naming:
    """Names for artefacts from ``-o``: a folder, a file, or a template with ``{stem} {name} {parent} {frame} {index} {kind}``.

    Two items of one run that come to the same name get ``-2``, ``-3`` ...; a file that was there before the run is left alone unless
    ``overwrite``: it is an error, or with ``aside`` the next free number is taken.

    With ``kind_behind`` a file, and a template without ``{kind}``, have the kind behind their name where there is one: ``q-masks.png``.

    A command may have ``fields`` of its own, such as ``{seed}``, and a ``pattern`` of all fields for the names in a folder; without one
    they are made of the item's name, its frame and the kind.
    """

    out: str | None
    overwrite: bool = False
    aside: bool = False
    fields: tuple[str, ...] = ()
    pattern: str | None = None
    kind_behind: bool = False
    _left_over: Callable[[Path], bool] | None = None  # whether what is in the way may be of the item that a stopped run did not finish
    _used: dict[Path, int] = field(default_factory=dict)
    _own: set[Path] = field(default_factory=set)  # of the run that is gone on with

    def go_on(self, taken: Iterable[str], left_over: Callable[[Path], bool]) -> None:
        """Go on with a run that was stopped and whose lines name the files ``taken``: these are kept and counted as used.

        Another file that is in the way is replaced, until `settle`, where ``left_over`` says that the stopped run may have written it, of
        the item that it did not finish (see `written_since`). Not so with ``aside``: the names are nobody's choice, and it can as well be
        of another run.
        """
        taken = list(taken)
        self._used |= {place: 1 for path in taken for place in _places(path)}
        self._own |= {Path(path) for path in taken}
        self._left_over = None if self.aside else left_over

    def settle(self) -> None:
        """The item that a stopped run did not finish has its names; what is in the way of others is not of that run."""
        self._left_over = None

    def free(self, taken: Iterable[str]) -> None:
        """Files that were in use are made again, under the same names."""
        for place in (place for path in taken for place in _places(path)):
            self._used.pop(place, None)
            self._own.add(place)

    def __post_init__(self) -> None:
        try:
            (self.out or "").format(**dict.fromkeys((*FIELDS, *self.fields), "x"))
        except (KeyError, ValueError, IndexError, AttributeError, TypeError) as error:
            fields = " ".join(f"{{{name}}}" for name in (*FIELDS, *self.fields))
            named = isinstance(error, KeyError)
            wrong = f"{error} is no field of a template" if named else f"this is no template of texts ({error})"
            raise UsageError(f"-o {self.out}: {wrong}; there are {fields}") from error

    def path(self, record: Record, index: int, kind: str, suffix: str, **values: str) -> Path:
        """The artefact's path. ``kind`` is what it shows (``attention``) and may be empty, ``suffix`` its file type with the dot.

        ``values`` are those of the command's own ``fields``.

        Raises:
            ItemError: ``exists``, a file of that name is there and may not be replaced, or is the item itself.
        """
        chosen = self._chosen(self._wanted(record, index, kind, suffix, values), suffix)
        if is_same(chosen, record.get("path")):
            raise ItemError("exists", f"{chosen} is what was read; choose another place with -o")
        return chosen

    def name(self, record: Record, index: int, kind: str, suffix: str, **values: str) -> Path:
        """As `path`, whether there is such a file or not."""
        return self._unused(self._wanted(record, index, kind, suffix, values), suffix)

    def free_name(self, record: Record, index: int, kind: str, suffix: str) -> Path | None:
        """The name that comes first, where nothing of this run has it; it stays free."""
        wanted = self._wanted(record, index, kind, suffix, {})
        return None if wanted in self._used else wanted

    def path_for(self, data: bytes, record: Record, index: int, kind: str, suffix: str) -> Path:
        """As `path`, where what it will hold is known: a file that holds just this is not in the way."""
        return self._chosen(self._wanted(record, index, kind, suffix, {}), suffix, data)

    def _wanted(self, record: Record, index: int, kind: str, suffix: str, values: dict[str, str]) -> Path:
        path = str(record.get("path", "item"))
        about = Path("stdin" if path == "-" else path)
        stem = about.name if os.path.isdir(path) else about.stem  # noqa: PTH112  a folder's name has no suffix, and Path.is_dir may raise
        values |= {"stem": _short(stem), "name": _short(about.name), "parent": _parent(about), "kind": kind}
        values |= {"frame": str(record.get("frame", 0)), "index": f"{index:06d}"}
        behind = kind if self.kind_behind else ""
        if self.out and "{" in self.out:
            ending = Path(self.out).suffix  # the template's own, as in "{stem}.png"; a dot in the item's name is none
            filled = self.out.format(**values).removesuffix(ending)
            if behind and "{kind" not in self.out:
                filled += behind if filled.endswith("/") else f"-{behind}"
            rooted = filled.startswith("/") and not self.out.startswith("/")  # by a field that is empty: "{parent}/{stem}" of "a.png"
            return _fitting(f".{filled}" if rooted else filled, _spelled(suffix, ending))
        if self.out and not is_folder(self.out):
            named = Path(self.out).with_suffix(_spelled(suffix, Path(self.out).suffix))
            return named.with_stem(f"{named.stem}-{behind}") if behind else named
        if self.pattern:
            return _fitting(f"{self.out or DEFAULT_FOLDER}/{self.pattern.format(**values)}", suffix)
        frame = f"-{record['frame']:06d}" if "frame" in record else ""
        return Path(self.out or DEFAULT_FOLDER) / f"{values['stem']}{frame}{kind and '-'}{kind}{suffix}"

    def _chosen(self, wanted: Path, suffix: str, data: bytes | None = None) -> Path:
        chosen = self._unused(wanted, suffix)
        while self.aside and not self._may_write(chosen, data):
            chosen = self._unused(wanted, suffix)
        if not self._may_write(chosen, data):
            raise ItemError("exists", f"{chosen} exists; pass --overwrite, or choose another place with -o")
        return chosen

    def _may_write(self, path: Path, data: bytes | None) -> bool:
        if self.overwrite or path in self._own or not os.path.lexists(path):
            return True
        return (self._left_over is not None and self._left_over(path)) or (data is not None and holds(path, data))

    def _unused(self, wanted: Path, suffix: str) -> Path:
        """The name, or with a number before its suffix; a folder's has none, whatever stands behind its last dot."""
        path = wanted
        while path in self._used:  # more than once only where another item is called like a numbered one
            self._used[wanted] += 1
            numbered = f"-{self._used[wanted]}"
            path = wanted.with_stem(wanted.stem + numbered) if suffix else wanted.with_name(wanted.name + numbered)
        self._used[path] = 1
        return path


def _spelled(suffix: str, given: str) -> str:
    """The suffix, in the capitals that it was given with."""
    return given if given.lower() == suffix else suffix


def _fitting(path: str, suffix: str) -> Path:
    """With the suffix, and with a name that the file system takes, a number behind it too."""
    folder, name = os.path.split(path)
    return Path(folder, _short(name, _LONGEST_NAME - len(os.fsencode(suffix))) + suffix)


def is_same(path: Path, other: object) -> bool:
    """Whether two names are those of one file."""
    try:
        return isinstance(other, str) and path.samefile(other)
    except (OSError, ValueError):  # one of them is no file
        return False


def holds(path: Path, data: bytes) -> bool:
    """Whether there is a file with this in it, and nothing else."""
    try:
        return path.is_file() and path.stat().st_size == len(data) and path.read_bytes() == data
    except OSError:
        return False


def written_since(path: Path, time: float) -> bool:
    """Whether a file, or all that lies in a folder, is no older than a time as of `os.stat`."""
    try:
        return all(one.stat().st_mtime >= time for one in (path.rglob("*") if path.is_dir() else (path,)))
    except OSError:
        return False


def is_folder(out: str) -> bool:
    """Whether ``-o`` names a folder and not a file: there is one, it ends in a slash, or has no suffix."""
    return not Path(out).suffix or out.endswith("/") or os.path.isdir(out)  # noqa: PTH112  Path.is_dir may raise


def writing(path: Path, *, keep: Callable[[], bool] = lambda: False) -> contextlib.AbstractContextManager[BinaryIO]:
    """A file that appears under its name only when it is whole. Parents are made.

    ``keep`` is asked whether it is whole also when an exception ends the block, as `kept` does.

    Raises:
        OutputError: the folder is read-only, the disk is full, and the like.
    """
    return kept(_appearing(path), keep)


@contextlib.contextmanager
def kept(opened: contextlib.AbstractContextManager[BinaryIO], wanted: Callable[[], bool]) -> Iterator[BinaryIO]:
    """A file that is finished, if it is ``wanted`` then, also when an exception ends the block: Ctrl-C, or a disk full for another file.

    An OSError is of this file's own writing, which it cannot be whole after.
    """
    stopped: BaseException | None = None
    with opened as file:
        try:
            yield file
        except BaseException as error:
            if isinstance(error, OSError) or not wanted():
                raise
            stopped = error
    if stopped is not None:
        raise stopped


@contextlib.contextmanager
def _appearing(path: Path) -> Iterator[BinaryIO]:
    temporary: str | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name[:40]}.", dir=path.parent)
        with os.fdopen(descriptor, "wb") as file:
            yield file
        Path(temporary).chmod(0o666 & ~_umask())
        Path(temporary).replace(path)
        temporary = None
    except OSError as error:
        raise OutputError(f"cannot write {path} ({error.strerror or error}); make room or choose another place with -o") from error
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                Path(temporary).unlink()


def write(path: Path, save: Callable[[BinaryIO], object]) -> None:
    """Write one artefact with a function that takes the open file. Raises OutputError."""
    with writing(path) as file:
        save(file)


def _parent(path: Path) -> str:
    """The name of the folder that a file is in; ".." is none, and would lead out of where the files are to go."""
    name = path.parent.name
    return Path(os.path.abspath(path)).parent.name if name == ".." else name  # noqa: PTH100  Path.resolve follows links


def _places(path: str) -> tuple[Path, ...]:
    """A file and its folders, of which one may be all that an item has."""
    return Path(path), *Path(path).parents


def _short(name: str, most: int = MAX_NAME) -> str:
    """A name that leaves room for what is added to it, as file systems take 255 bytes."""
    while len(os.fsencode(name)) > most:
        name = name[:-1]
    return name


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
