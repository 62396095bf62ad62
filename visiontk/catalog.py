"""From a model's name to where its weights come from: the catalog, the hub, a folder or a file."""

from __future__ import annotations

import functools
import re
import tomllib
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from . import hub
from .errors import ModelUnavailable

LAYOUTS = {"classify": hub.TIMM, "segment": hub.SAM2}
_REPO = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")


@dataclass(frozen=True)
class Entry:
    """One named model. ``parameters`` is a count; ``memory`` is in MB; ``bundled`` is a folder in the package."""

    task: str
    name: str
    id: str
    licence: str
    parameters: int
    figure: str
    source: str
    memory: int
    bundled: str | None = None
    recommended: bool = False


@dataclass(frozen=True)
class Location:
    """A model's files on this disk.

    Attributes:
        name: what the record says: catalog name, hub id or local path.
        folder: holds the configuration; None for a weights file on its own.
        weights: safetensors, or a file for ``torch.load(weights_only=True)``.
        revision: the hub's commit; None for local files, whose revision is the sha256 of the weights.
        warning: what the user should know about the choice, or None.
    """

    name: str
    folder: Path | None
    weights: Path
    revision: str | None = None
    warning: str | None = None


@functools.cache
def entries() -> tuple[Entry, ...]:
    """The whole catalog, in the file's order."""
    tables = tomllib.loads(resources.files("visiontk").joinpath("catalog.toml").read_text("utf-8"))
    return tuple(Entry(task=task, **entry) for task, listed in tables.items() for entry in listed)


def find(name: str, task: str | None = None) -> Entry | None:
    """The entry of that name (of that task), or None."""
    return next((entry for entry in entries() if entry.name == name and task in (None, entry.task)), None)


def recommended(task: str) -> Entry:
    """The model that runs when none was named and the hub can be had."""
    return next(entry for entry in entries() if entry.task == task and entry.recommended)


def fallback(task: str) -> Entry:
    """The bundled model that runs when none was named and the hub cannot be had."""
    return next(entry for entry in entries() if entry.task == task and entry.bundled)


def locate_default(task: str) -> Location:
    """The recommended model, if it is cached or the hub answers; otherwise the bundled one, with a warning."""
    entry = recommended(task)
    try:
        return locate_entry(entry)
    except ModelUnavailable:
        small = fallback(task)
        warning = (
            f"{entry.name} ({entry.figure}) is not cached and the model hub cannot be had, so the small bundled {small.name} "
            f"({small.figure}) runs; choose with --model"
        )
        return Location(**{**vars(locate_entry(small)), "warning": warning})


def locate(task: str, model: str) -> Location | None:
    """Find the files of a model that was named: a path, a catalog name or a hub id (``org/name``, ``hf-hub:org/name``, ``@revision``).

    Returns:
        None for a plain word that is none of these; the adapter may know it as a name of its library.

    Raises:
        ModelUnavailable: it is named clearly but cannot be had.
    """
    entry = find(model, task)  # before a folder of the same name, so that a catalog name means the same everywhere
    if entry is not None:
        return locate_entry(entry)
    path = Path(model).expanduser()
    if path.exists() or model.startswith(("./", "../", "/", "~")):
        return _locate_path(model, path, LAYOUTS[task])
    repo = model.removeprefix("hf-hub:").removeprefix("hf_hub:")
    if repo != model or _REPO.fullmatch(repo):
        return locate_hub(repo, task)
    return None


def locate_entry(entry: Entry) -> Location:
    """The files of a catalog entry. Raises `ModelUnavailable`."""
    if entry.bundled is not None:
        folder = Path(str(resources.files("visiontk").joinpath(entry.bundled)))
        return Location(entry.name, folder, folder / LAYOUTS[entry.task].weights[0])
    fetched = hub.fetch(entry.id, LAYOUTS[entry.task])
    return Location(entry.name, fetched.folder, fetched.weights, fetched.revision)


def locate_hub(repo: str, task: str = "classify") -> Location:
    """The files of a hub id, from the cache or the hub. Raises `ModelUnavailable`."""
    fetched = hub.fetch(repo, LAYOUTS[task])
    return Location(repo, fetched.folder, fetched.weights, fetched.revision)


def unknown(model: str, task: str | None) -> ModelUnavailable:
    """The error for a word that nobody knows, with the nearest of the task's names, or of all."""
    import difflib

    known = [entry.name for entry in entries() if task in (None, entry.task)]
    near = difflib.get_close_matches(model, known, 1)
    hint = f"did you mean {near[0]}?" if near else "see `visiontk models list`"
    own = "timm name, " if task == "classify" else ""
    return ModelUnavailable(f"{model} is no catalog name, {own}hub id or local path; {hint}")


def _locate_path(model: str, path: Path, layout: hub.Layout) -> Location:
    config = str(layout.config)
    if path.is_dir():
        weights = next((path / name for name in layout.weights if (path / name).is_file()), None)
        if weights is None or not (path / config).is_file():
            raise ModelUnavailable(f"the folder {model} has no {config} with {' or '.join(layout.weights)} beside it; name a model folder")
        return Location(model, path, weights)
    if path.is_file():
        beside = path.parent / config
        return Location(model, path.parent if beside.is_file() else None, path)
    raise ModelUnavailable(f"there is no file or folder {model}; check the path")
