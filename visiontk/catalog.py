"""From a model's name to where its weights come from: the catalog, the hub, a folder or a file."""

from __future__ import annotations

import functools
import os
import re
import tomllib
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from . import hub, layouts
from .errors import HubUnreachable, ModelUnavailable
from .layouts import Layout

LAYOUTS = {"classify": layouts.TIMM, "segment": layouts.SAM2, "generate": layouts.DIFFUSERS, "lvm": layouts.LVM}
_REPO = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")


@dataclass(frozen=True)
class Entry:
    """One named model.

    Attributes:
        parameters: a count.
        memory: of the weights as they are stored, in MB.
        bundled: a folder in the package.
        steps, guidance, size, dtype: what a model that makes images takes where nothing else is asked for; None is the pipeline's own.
        variant: of the weights to fetch.
    """

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
    steps: int | None = None
    guidance: float | None = None
    size: tuple[int, int] | None = None
    dtype: str | None = None
    variant: str | None = None


@dataclass(frozen=True)
class Location:
    """A model's files on this disk.

    Attributes:
        name: what the record says: catalog name, hub id or local path.
        folder: holds the configuration; None for a weights file on its own.
        weights: safetensors, or a file for ``torch.load(weights_only=True)``; of a pipeline of many files, the index that lists them.
        revision: the hub's commit; None for local files, whose revision is the sha256 of the weights.
        warning: what the user should know about the choice, or None.
        companion: of a model whose second network lies in a repository of its own: the folder of that.
    """

    name: str
    folder: Path | None
    weights: Path
    revision: str | None = None
    warning: str | None = None
    companion: Path | None = None


@functools.cache
def entries() -> tuple[Entry, ...]:
    """The whole catalog, in the file's order."""
    tables = tomllib.loads(resources.files("visiontk").joinpath("catalog.toml").read_text("utf-8"))
    return tuple(_entry(task, table) for task, listed in tables.items() for table in listed)


def _entry(task: str, table: dict[str, Any]) -> Entry:
    values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in table.items()}
    return Entry(task=task, **values)


def find(name: str, task: str | None = None) -> Entry | None:
    """The entry of that name (of that task), or None."""
    return next((entry for entry in entries() if entry.name == name and task in (None, entry.task)), None)


def find_id(repo: str, task: str) -> Entry | None:
    """The entry with that hub id, whatever its revision, or None."""
    name, _ = hub.split_revision(repo)
    return next((entry for entry in entries() if entry.id == name and entry.task == task), None)


def recommended(task: str) -> Entry:
    """The model that runs when none was named and the hub can be had."""
    return next(entry for entry in entries() if entry.task == task and entry.recommended)


def fallback(task: str) -> Entry:
    """The bundled model that runs when none was named and the hub cannot be had. Raises ModelUnavailable where there is none."""
    for entry in entries():
        if entry.task == task and entry.bundled:
            return entry
    raise ModelUnavailable(f"no model for {task} comes with the package; name one")


def locate_default(task: str) -> Location:
    """The recommended model, if it is cached or the hub answers; otherwise the bundled one, with a warning.

    Raises:
        ModelUnavailable: there is no bundled one either.
    """
    entry = recommended(task)
    try:
        return locate_entry(entry)
    except ModelUnavailable as error:
        try:
            small = fallback(task)
        except ModelUnavailable:
            message = f"{entry.name} is not cached, the model hub cannot be had, and no model for {task} comes with the package"
            raise ModelUnavailable(
                f"{message}; name a local folder, or where the hub can be had run: visiontk models pull {entry.name}"
            ) from error
        away = isinstance(error, HubUnreachable)
        why = "is not cached and the model hub cannot be had" if away else f"cannot be had ({error})"
        warning = f"{entry.name} ({entry.figure}) {why}, so the small bundled {small.name} ({small.figure}) runs; choose with --model"
        return Location(**{**vars(locate_entry(small)), "warning": warning})


def locate(task: str, model: str, variant: str | None = None) -> Location | None:
    """Find the files of a model that was named: a path, a catalog name or a hub id (``org/name``, ``hf-hub:org/name``, ``@revision``).

    Args:
        variant: of the weights of a pipeline, where not the catalog's or the plain ones.

    Returns:
        None for a plain word that is none of these; the adapter may know it as a name of its library.

    Raises:
        ModelUnavailable: it is named clearly but cannot be had.
    """
    entry = find(model, task)  # before a folder of the same name, so that a catalog name means the same everywhere
    if entry is not None:
        return locate_entry(entry, variant)
    return locate_files(model, LAYOUTS[task], variant)


def locate_files(model: str, layout: Layout, variant: str | None = None) -> Location | None:
    """As `locate`, of a path or a hub id alone whose files are laid out in a known way."""
    if not model:
        raise ModelUnavailable("the model's name is empty; see `visiontk models list`")
    path = Path(os.path.expanduser(model))  # noqa: PTH111  as `_is_path`
    if _is_path(model):
        return _locate_path(model, path, layout)
    repo = hub_id(model)
    if repo is not None:
        try:
            return locate_hub(repo, layout, variant)
        except ModelUnavailable as error:
            if os.path.isdir(path.parent):  # noqa: PTH112  a path with a slip of the pen looks like a hub id
                raise ModelUnavailable(f"there is no file or folder {model}; and as a hub id: {error}") from error
            raise
    return None


def hub_id(model: str) -> str | None:
    """The repository that is named, ``hf-hub:`` and the like before it or not; None for a path or a plain word."""
    repo = model.removeprefix("hf-hub:").removeprefix("hf_hub:")
    return repo if not _is_path(model) and (repo != model or _REPO.fullmatch(repo)) else None


def _is_path(model: str) -> bool:
    # os.path, because those of Path raise for names that no file can have.
    return os.path.exists(os.path.expanduser(model)) or model.startswith(("./", "../", "/", "~"))  # noqa: PTH110, PTH111


def locate_entry(entry: Entry, variant: str | None = None) -> Location:
    """The files of a catalog entry. Raises `ModelUnavailable`."""
    layout = LAYOUTS[entry.task]
    if entry.bundled is not None:
        folder = Path(str(resources.files("visiontk").joinpath(entry.bundled)))
        return Location(entry.name, folder, folder / (layout.weights[0] if layout.weights else str(layout.config)))
    fetched = hub.fetch(entry.id, layout, variant or entry.variant)
    return Location(entry.name, fetched.folder, fetched.weights, fetched.revision, companion=fetched.companion)


def locate_hub(repo: str, layout: Layout = layouts.TIMM, variant: str | None = None) -> Location:
    """The files of a hub id, from the cache or the hub. Raises `ModelUnavailable`."""
    fetched = hub.fetch(repo, layout, variant)
    return Location(repo, fetched.folder, fetched.weights, fetched.revision, companion=fetched.companion)


def unknown(model: str, task: str | None) -> ModelUnavailable:
    """The error for a word that nobody knows, with the nearest of the task's names, or of all."""
    import difflib

    if (other := find(model)) is not None:
        return ModelUnavailable(f"{model} is a model for {other.task}, not for {task}; see `visiontk models list`")
    known = [entry.name for entry in entries() if task in (None, entry.task)]
    near = difflib.get_close_matches(model, known, 1)
    hint = f"did you mean {near[0]}?" if near else "see `visiontk models list`"
    own = "timm name, " if task == "classify" else ""
    return ModelUnavailable(f"{model} is no catalog name, {own}hub id or local path; {hint}")


def _locate_path(model: str, path: Path, layout: Layout) -> Location:
    config, is_folder = str(layout.config), os.path.isdir(path)  # noqa: PTH112  as `_is_path`
    if is_folder and layout.weights is None:
        if not (path / config).is_file():
            raise ModelUnavailable(f"the folder {model} has no {config}; name the folder of a pipeline of {layout.library}")
        return Location(model, path, path / config)
    if is_folder and layout.weights is not None:
        weights = layout.find(path)
        if weights is None or (layout.config and not (path / config).is_file()):
            wanted = f"{config} with {' or '.join(layout.weights)} beside it" if layout.config else " or ".join(layout.weights)
            raise ModelUnavailable(f"the folder {model} has no {wanted}; name a model folder")
        return Location(model, path, weights)
    if os.path.isfile(path):  # noqa: PTH113
        beside = path.parent / config
        return Location(model, path.parent if beside.is_file() else None, path)
    raise ModelUnavailable(f"there is no file or folder {model}; check the path")
