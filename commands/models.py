"""`visiontk models`: what is in the catalog, what of it is on this disk, and fetching, removing and converting it."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from visiontk import catalog, hub, layouts, settings
from visiontk.errors import HubUnreachable, ModelUnavailable, OutputError, UsageError

from .console import say
from .models_convert import convert
from .options import Debug, complete_models

if TYPE_CHECKING:
    from visiontk.catalog import Entry

models = typer.Typer(add_completion=False, no_args_is_help=True, rich_markup_mode=None, help="List, show, fetch and remove models.")
models.add_typer(convert, name="convert")
Name = Annotated[str, typer.Argument(metavar="NAME", help="Catalog name, timm name or hub id.", autocompletion=complete_models)]
Names = Annotated[
    list[str], typer.Argument(metavar="NAME...", help="Catalog names, timm names or hub ids.", autocompletion=complete_models)
]
Json = Annotated[bool, typer.Option("--json", help="JSON lines, also on a terminal.")]


@models.command("list")
def list_(
    task: Annotated[str | None, typer.Option("--task", metavar="TASK", help="Only the models of this task.")] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """List the catalog.

    Size, licence, whether a model is on this disk, and its published figure.

    \b
    visiontk models list
    visiontk models list --json | jq -r 'select(.cached) | .name'
    """
    if task is not None and task not in settings.TASKS:
        raise UsageError(f"there is no task {task!r}; use {', '.join(settings.TASKS)}")
    chosen = [entry for entry in catalog.entries() if task in (None, entry.task)]
    if as_json or not sys.stdout.isatty():
        for entry in chosen:
            sys.stdout.write(json.dumps(_describe(entry)) + "\n")
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("name", "task", "parameters", "download", "licence", "on disk", "published figure", box=None, header_style="bold")
    for entry in chosen:
        size = "-" if entry.bundled else f"{entry.memory} MB"
        table.add_row(entry.name, entry.task, f"{entry.parameters / 1e6:.1f} M", size, entry.licence, _where(entry), entry.figure)
    Console().print(table)


@models.command()
def show(name: Name, debug: Debug = False) -> None:
    """Show one model as JSON.

    Id, licence, figure and its source, and where it is cached.

    \b
    visiontk models show vit-base
    visiontk models show vit-base | jq -r .licence
    """
    entry = catalog.find(name)
    described = _describe(entry) if entry else _describe_cached(name)
    sys.stdout.write(json.dumps(described, indent=2) + "\n")


@models.command()
def pull(names: Names, debug: Debug = False) -> None:
    """Fetch models into the cache.

    They then run without a network; cached ones are brought up to date.

    \b
    visiontk models pull vit-base vit-small
    visiontk models pull resnet50.a1_in1k timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k
    """
    for name in names:
        entry = catalog.find(name)
        if entry is not None and entry.bundled:
            say(f"{name} comes with the package")
            continue
        try:
            fetched = hub.download(entry.id if entry else _repo(name), variant=entry.variant if entry else None)
        except HubUnreachable as error:
            raise ModelUnavailable(f"{name} cannot be fetched, because the model hub cannot be had; run this again where it can") from error
        say(f"{name} is in {fetched.folder}")


@models.command()
def rm(names: Names, debug: Debug = False) -> None:
    """Remove models from the cache.

    \b
    visiontk models rm vit-large
    """
    from huggingface_hub import constants, scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    for name in names:
        entry = catalog.find(name)
        if entry is not None and entry.bundled:
            raise UsageError(f"{name} comes with the package and stays; only cached models can be removed")
        repo, wanted = hub.split_revision(entry.id if entry else _repo(name))
        try:
            cache = scan_cache_dir(constants.HF_HUB_CACHE)
        except CacheNotFound:
            cache = None
        # A model of two repositories goes as a whole, unless a revision of the one is named.
        beside = [layout.second_repo for layout in layouts.of(repo) if layout.second_repo] if wanted is None else []
        found = cache.repos if cache else frozenset()
        repos = frozenset(cached for cached in found if cached.repo_type == "model" and cached.repo_id in (repo, *beside))
        held = [revision for cached in repos for revision in cached.revisions]
        revisions = [revision for revision in held if wanted in (None, revision.commit_hash, *revision.refs)]
        if not revisions or cache is None:
            raise ModelUnavailable(f"{name} is not in the cache; `visiontk models list` says what is")
        # Of these repositories alone: a data set may have a commit of the same name.
        strategy = replace(cache, repos=repos).delete_revisions(*(revision.commit_hash for revision in revisions))
        strategy.execute()
        if left := [revision.snapshot_path for revision in revisions if revision.snapshot_path.exists()]:
            raise OutputError(f"{left[0]} cannot be removed; see that you may write there")
        say(f"{name} is removed, {strategy.expected_freed_size_str} are free again")


def _describe(entry: Entry) -> dict[str, Any]:
    cached = None if entry.bundled else hub.cached(entry.id, variant=entry.variant)
    described: dict[str, Any] = {"name": entry.name, "task": entry.task, "id": entry.id, "licence": entry.licence}
    described |= {"parameters": entry.parameters, "memory_mb": entry.memory, "figure": entry.figure, "source": entry.source}
    described["recommended"] = entry.recommended
    described |= {"bundled": entry.bundled is not None, "cached": cached is not None}
    if cached:
        described |= {"folder": str(cached.folder), "revision": cached.revision}
    elif entry.bundled:
        described["folder"] = str(catalog.locate_entry(entry).folder)
    return described


def _describe_cached(name: str) -> dict[str, Any]:
    repo = _repo(name)
    cached = hub.cached(repo)
    if cached is None:
        raise ModelUnavailable(f"{name} is not in the catalog and not in the cache; fetch it with `visiontk models pull {name}`")
    size = sum(file.stat().st_size for file in cached.files)
    return {"name": name, "id": repo, "cached": True, "folder": str(cached.folder), "revision": cached.revision, "bytes": size}


def _where(entry: Entry) -> str:
    described = _describe(entry)
    return "bundled" if described["bundled"] else "cached" if described["cached"] else "no"


def _repo(name: str) -> str:
    """A hub id as it stands, or that of a timm name. Raises `ModelUnavailable` for words that are neither."""
    repo = name.removeprefix("hf-hub:").removeprefix("hf_hub:")
    if repo == name and "/" not in repo:
        from visiontk.adapters.classify import hub_id

        found = hub_id(name)
        if found is None:
            raise catalog.unknown(name, None)
        return found
    hub.check(repo)
    return repo
