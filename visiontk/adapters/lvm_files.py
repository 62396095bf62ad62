"""Where the two networks of an LVM lie: in one folder, in two that are named, or in two repositories of the hub."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, replace
from pathlib import Path

from visiontk import catalog, hub, layouts
from visiontk.errors import ModelUnavailable

from . import lvm_public
from .weights_file import sha256


@dataclass(frozen=True)
class Files:
    """An LVM on this disk.

    Attributes:
        llama, vqgan: folders.
        weights: the LLaMA's file of weights, or the list of its shards.
        commit: the hub's, of two repositories both with a + between; None where files are local.
    """

    llama: Path
    vqgan: Path
    weights: Path
    commit: str | None = None

    @property
    def size(self) -> int:
        """Bytes of the LLaMA's weights."""
        return sum(file.stat().st_size for file in self.shards)

    @property
    def shards(self) -> list[Path]:
        """The LLaMA's files of weights. Raises ModelUnavailable where the list of them is broken."""
        if self.weights.suffix != ".json":
            return [self.weights]
        named = lvm_public.read_config(self.weights).get("weight_map")
        if not isinstance(named, dict) or not named:
            raise ModelUnavailable(f"{self.weights} lists no files of weights; fetch the model again")
        files = [self.llama / str(name) for name in sorted({*named.values()})]
        missing = next((file for file in files if not file.is_file()), None)
        if missing is not None:
            raise ModelUnavailable(f"{missing} is missing; fetch the model again")
        return files

    @property
    def revision(self) -> str:
        """The commit; of local files the sha256 of the sums of all files of weights, the LLaMA's and then the VQGAN's, each in hexadecimal
        digits and a newline."""
        if self.commit is not None:
            return self.commit
        vqgan = layouts.VQGAN.find(self.vqgan)
        sums = [sha256(file).removeprefix("sha256:") for file in (*self.shards, *([vqgan] if vqgan else []))]
        return "sha256:" + hashlib.sha256("".join(f"{one}\n" for one in sums).encode()).hexdigest()


def find(model: str, vqgan: str | None = None) -> tuple[catalog.Location, Files]:
    """A model that was named, by catalog name, path or hub id, and where its two networks lie.

    Args:
        vqgan: another such model, or a folder or hub id of a VQGAN alone, whose VQGAN is taken; then ``model`` may be a LLaMA alone.

    Raises:
        ModelUnavailable: it is not there, or one network is missing.
    """
    if vqgan is None:
        location = _locate(model)
        return location, files(location)
    llama, other = _network(model, "llama", layouts.LLAMA), _network(vqgan, "vqgan", layouts.VQGAN)
    commit = f"{llama.revision}+{other.revision}" if llama.revision and other.revision else None
    return llama, Files(llama.weights.parent, other.weights.parent, llama.weights, commit)


def vqgan_folder(name: str) -> Path:
    """The VQGAN of a model that was named, or one alone: catalog name, path or hub id. Raises ModelUnavailable."""
    return _network(name, "vqgan", layouts.VQGAN).weights.parent


def files(location: catalog.Location) -> Files:
    """Where the two networks of a model that was located lie. Raises ModelUnavailable where one is missing."""
    llama, commit = location.weights.parent, location.revision
    if location.companion is not None:
        return Files(llama, location.companion, location.weights, commit and f"{commit}+{location.companion.name}")
    if location.folder is None or location.folder == llama:
        raise ModelUnavailable(f"{location.name} is no folder with llama/ and vqgan/ in it; name one")
    found = Files(llama, location.folder / "vqgan", location.weights, commit)
    if not found.vqgan.is_dir():
        raise ModelUnavailable(f"the folder {location.name} has no vqgan/; name a folder with llama/ and vqgan/ in it")
    return found


def _locate(model: str) -> catalog.Location:
    if catalog.find(model, "lvm") is None and _has(model, layouts.CONFIG) and not _has(model, "llama"):
        both = "name the other as well (--vqgan; for models convert lvm after the LLaMA), or a folder of both"
        raise ModelUnavailable(f"the folder {model} holds one network alone; {both}")
    location = catalog.locate("lvm", model)
    if location is None:
        raise catalog.unknown(model, "lvm")
    return location


def _network(name: str, part: str, layout: layouts.Layout) -> catalog.Location:
    """One of the two networks, alone or of a model in whose folder ``part`` is its own. Raises ModelUnavailable."""
    entry = catalog.find(name, "lvm")
    if entry is not None and entry.bundled:
        folder = catalog.locate_entry(entry).folder
        return replace(_in_folder(f"{folder}/{part}", part, layout), name=name)
    repo = entry.id if entry else catalog.hub_id(name)
    if repo is None:
        return _in_folder(name, part, layout)
    public = layouts.of(hub.split_revision(repo)[0])[0]
    if public.second_repo and part == "vqgan":  # without the LLaMA beside it
        repo = public.second_repo
    try:
        found = catalog.locate_files(repo, layout)
    except ModelUnavailable as error:
        try:
            found = catalog.locate_hub(repo, layout.inside(part))
        except ModelUnavailable:
            raise error from None
    assert found is not None, "a hub id is located or refused"
    return replace(found, name=name, companion=None)


def _in_folder(name: str, part: str, layout: layouts.Layout) -> catalog.Location:
    if os.path.isfile(os.path.expanduser(name)):  # noqa: PTH111, PTH113  as `_has`
        raise ModelUnavailable(f"{name} is a file; name the folder of the {layout.library}")
    found = catalog.locate_files(f"{name}/{part}" if _has(name, part) else name, layout)
    if found is None:
        raise ModelUnavailable(f"{name} is no catalog name, folder or hub id, of which the {layout.library} could come; name one of these")
    return replace(found, name=name)


def _has(name: str, inside: str) -> bool:
    # os.path, because those of Path raise for names that no file can have.
    return bool(name) and os.path.exists(os.path.join(os.path.expanduser(name), inside))  # noqa: PTH110, PTH111, PTH118
