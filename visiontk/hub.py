"""The model hub: whether it answers, what is cached, and fetching a model's configuration and weights."""

from __future__ import annotations

import functools
import json
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from . import layouts, pipelines
from .errors import HubUnreachable, ModelUnavailable, first_line
from .layouts import Layout

PROBE_S = 3.0
_REVISION = re.compile(r"\w[\w.-]*(/\w[\w.-]*)*")  # a branch, a tag or a commit, and nothing that climbs out of the cache


@dataclass(frozen=True)
class Fetched:
    """A model's files on this disk.

    Attributes:
        folder: where they lie.
        weights: the file of weights; of a pipeline, the index that lists its components.
        revision: the hub's commit.
        files: all weights.
        companion: of a model whose second network lies in a repository of its own: the folder of that.
        variant: of a pipeline's weights; None for the plain ones.
    """

    folder: Path
    weights: Path
    revision: str
    files: tuple[Path, ...]
    companion: Path | None = None
    variant: str | None = None


@functools.cache
def answers() -> bool:
    """Whether the hub can be reached, asked once per process and within `PROBE_S` seconds. ``HF_HUB_OFFLINE`` says no at once."""
    import http.client
    import urllib.error
    import urllib.request

    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    heard, known = [False], threading.Event()

    def ask() -> None:
        request = urllib.request.Request(constants.ENDPOINT, method="HEAD", headers={"User-Agent": "visiontk"})
        try:
            urllib.request.urlopen(request, timeout=PROBE_S).close()
            heard[0] = True
        except urllib.error.HTTPError:
            heard[0] = True  # an error page is an answer
        except (OSError, ValueError, http.client.HTTPException):
            return
        finally:
            known.set()

    # A thread, because looking a host name up can hang for longer than any socket timeout.
    threading.Thread(target=ask, name="hub-probe", daemon=True).start()
    return known.wait(PROBE_S) and heard[0]


def split_revision(repo: str) -> tuple[str, str | None]:
    """``org/name@revision`` in two."""
    name, _, revision = repo.partition("@")
    return name, revision or None


def check(repo: str) -> None:
    """Raise `ModelUnavailable` for what can be no hub id, before the cache or the hub is asked."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils._validators import validate_repo_id

    name, revision = split_revision(repo)
    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise _no_id(repo) from error
    if "@" in repo and not (revision and _REVISION.fullmatch(revision)):
        raise _no_id(repo)


def _no_id(repo: str) -> ModelUnavailable:
    return ModelUnavailable(f"{repo!r} is no hub id; a hub id is org/name or org/name@revision")


def cached(repo: str, layout: Layout | None = None, variant: str | None = None) -> Fetched | None:
    """The model from the cache, without a network; None if any part is missing. Without a layout, all that fit its name are tried.

    Raises:
        ModelUnavailable: the name can be no hub id.
    """
    check(repo)
    for option in _options(repo, layout):
        found = _cached_pipeline(repo, variant) if option.weights is None else _cached(repo, option, option.weights)
        if found is not None:
            return found
    return None


def _cached(repo: str, layout: Layout, candidates: Sequence[str]) -> Fetched | None:
    from huggingface_hub import try_to_load_from_cache

    name, revision = split_revision(repo)
    if layout.config is not None and not isinstance(try_to_load_from_cache(name, layout.config, revision=revision), str):
        return None
    second = _cached(layout.second_repo or repo, layout.second, layout.second.weights or ()) if layout.second else None
    if layout.second and second is None:
        return None
    for candidate in candidates:
        if weights := _cached_set(name, candidate, revision):
            return _fetched(layout, candidate, weights, second)
    return None


def _cached_pipeline(repo: str, variant: str | None) -> Fetched | None:
    from huggingface_hub import try_to_load_from_cache

    name, revision = split_revision(repo)
    file = try_to_load_from_cache(name, pipelines.INDEX, revision=revision)
    if not isinstance(file, str):
        return None
    folder = Path(file).parent
    try:
        chosen = pipelines.parts(pipelines.read_index(Path(file), repo), pipelines.listed(folder), repo, variant)
    except ModelUnavailable:  # the other variant is here, or it is broken: fetching says which
        return None
    return None if chosen.lacking else _pipeline(folder, chosen)


def _cached_set(name: str, file: str, revision: str | None) -> tuple[Path, ...]:
    """A file of weights from the cache, or the list of shards and all that it names; nothing if one of them is missing."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(name, file, revision=revision)
    if not isinstance(found, str):
        return ()
    wanted = [Path(found), *(Path(found).parent / shard for shard in _shards(Path(found)))]
    return tuple(wanted) if all(path.is_file() for path in wanted) else ()


def _shards(file: Path) -> list[str]:
    """The names in a list of shards; none for a file of weights."""
    if file.suffix != ".json":
        return []
    try:
        names = json.loads(file.read_text("utf-8"))["weight_map"].values()
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise ModelUnavailable(f"{file} is no list of files of weights; fetch the model again") from error
    return sorted({Path(str(name)).name for name in names})


def _fetched(layout: Layout, candidate: str, weights: Sequence[Path], second: Fetched | None) -> Fetched:
    """A model of those weights, the first of them under its name ``candidate`` in the repository."""
    folder = weights[0].parents[candidate.count("/")]
    apart = second.folder if second and layout.second_repo else None
    return Fetched(folder, weights[0], folder.name, (*weights, *(second.files if second else ())), apart)


def _pipeline(folder: Path, chosen: pipelines.Parts) -> Fetched:
    files = tuple(folder / file for file in chosen.weights)
    return Fetched(folder, folder / pipelines.INDEX, folder.name, files, variant=chosen.variant)


def fetch(repo: str, layout: Layout | None = None, variant: str | None = None) -> Fetched:
    """The model from the cache, else from the hub. A variant that nobody asked for counts as cached where the hub cannot be asked alone:
    what is cached by chance does not decide which weights run.

    Raises:
        ModelUnavailable: not cached and the hub is out of reach, or the hub has no such model or refuses it.
    """
    found = cached(repo, layout, variant)
    if found is None or (found.variant != variant and answers()):
        return download(repo, layout, variant)
    return found


def download(repo: str, layout: Layout | None = None, variant: str | None = None) -> Fetched:
    """Fetch the newest files of the model (or of ``@revision``). Raises `ModelUnavailable`."""
    check(repo)
    options = _options(repo, layout)
    with _asking(repo):
        for option in options:
            fetched = _download_pipeline(repo, variant) if option.weights is None else _download(repo, option, option.weights)
            if fetched is not None:
                return fetched
    missing, libraries = (
        " or ".join(names) for names in zip(*((one.config or (one.weights or ("",))[0], one.library) for one in options), strict=True)
    )
    raise ModelUnavailable(f"{repo} has no {missing}, so it is not a {libraries} model; name another")


def configuration(repo: str) -> Path:
    """The folder with a pipeline's index, configurations and tokenizers, from the cache, else from the hub; whether it has weights or not.

    Raises:
        ModelUnavailable: as `fetch`.
    """
    from huggingface_hub import try_to_load_from_cache

    check(repo)
    name, revision = split_revision(repo)
    file = try_to_load_from_cache(name, pipelines.INDEX, revision=revision)
    if isinstance(file, str):
        return Path(file).parent
    with _asking(repo):
        fetched = _download_pipeline(repo, None, weights=False)
    if fetched is None:
        raise ModelUnavailable(f"{repo} has no {pipelines.INDEX}, so it is not a {layouts.DIFFUSERS.library} model; name another")
    return fetched.folder


@contextmanager
def _asking(repo: str) -> Iterator[None]:
    """What goes wrong between here and the hub, as `ModelUnavailable`."""
    # HTTPError is that of whatever client this version has: what breaks off while bytes come is one, and no OSError.
    from huggingface_hub.errors import GatedRepoError, HFValidationError, HTTPError, RepositoryNotFoundError  # type: ignore[attr-defined]

    if not answers():
        raise HubUnreachable(f"{repo} is not cached and the model hub cannot be had; where it can, run: visiontk models pull {repo}")
    try:
        yield
    except GatedRepoError as error:
        raise ModelUnavailable(f"{repo} wants its terms accepted; do that on the hub, then `hf auth login`") from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise ModelUnavailable(f"the hub has no model {repo}; see `visiontk models list` for names that work") from error
    except (HTTPError, OSError) as error:
        raise ModelUnavailable(f"{repo} could not be fetched ({type(error).__name__}: {first_line(error)}); try again") from error


def _options(repo: str, layout: Layout | None) -> tuple[Layout, ...]:
    """The layouts to look for; ``layout`` is for repositories whose name does not say."""
    known = layouts.of(split_revision(repo)[0])
    return known if layout is None or len(known) == 1 else (layout,)


def _download(repo: str, layout: Layout, candidates: Sequence[str]) -> Fetched | None:
    """The model if the repository is laid out so, else None: configurations, then weights, those of a second network before the first's.

    Raises:
        ModelUnavailable: it has no weights.
    """
    from huggingface_hub import hf_hub_download

    name, revision = split_revision(repo)
    if layout.config and _get(name, layout.config, revision) is None:
        return None
    for file in layout.extra:
        _get(name, file, revision)
    second = _download(layout.second_repo or repo, layout.second, layout.second.weights or ()) if layout.second else None
    for candidate in candidates:
        weights = _get(name, candidate, revision)
        if weights is not None:
            folder = candidate[: candidate.rfind("/") + 1]
            shards = [Path(hf_hub_download(name, folder + shard, revision=revision)) for shard in _shards(weights)]
            return _fetched(layout, candidate, (weights, *shards), second)
    raise ModelUnavailable(f"{repo} has none of {', '.join(candidates)}; name another model")


def _get(name: str, file: str, revision: str | None) -> Path | None:
    """A file from the hub; None where the repository has none of that name."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    try:
        return Path(hf_hub_download(name, file, revision=revision))
    except LocalEntryNotFoundError:  # the network is gone, and nobody knows whether the file is there
        raise
    except EntryNotFoundError:
        return None


def _download_pipeline(repo: str, variant: str | None, *, weights: bool = True) -> Fetched | None:
    """The pipeline if the repository holds one, else None: its index, then configurations, then weights, all of one commit.

    So a download that was broken off lacks weights, by which `cached` knows it. Raises `ModelUnavailable`.
    """
    from huggingface_hub import HfApi, hf_hub_download

    name, revision = split_revision(repo)
    file = _get(name, pipelines.INDEX, revision)
    if file is None:
        return None
    index, commit = pipelines.read_index(file, repo), file.parent.name
    there = [sibling.rfilename for sibling in HfApi().model_info(name, revision=commit).siblings or []]
    chosen = pipelines.parts(index, there, repo, variant)
    if chosen.lacking and weights:
        message = f"{repo} has no safetensors for its {' and '.join(chosen.lacking)}, and pickles are never read"
        raise ModelUnavailable(f"{message}; name another model")
    for part in (*chosen.configs, *(chosen.weights if weights else ())):
        hf_hub_download(name, part, revision=commit)
    return _pipeline(file.parent, chosen)


def download_weights(repo: str) -> Path:
    """A file of safetensors from a repository that holds one, or ``org/name/FILE.safetensors``, from the cache, else from the hub.

    Raises:
        ModelUnavailable: as `fetch`; or there is none, or more than one.
    """
    from huggingface_hub import HfApi, snapshot_download, try_to_load_from_cache
    from huggingface_hub.errors import LocalEntryNotFoundError

    whole, revision = split_revision(repo)
    name, wanted = "/".join(whole.split("/")[:2]), "/".join(whole.split("/")[2:])
    check(f"{name}@{revision}" if "@" in repo else name)
    if wanted:
        cached_file = try_to_load_from_cache(name, wanted, revision=revision)
        files = [wanted] if isinstance(cached_file, str) else []
    else:
        try:
            folder = Path(snapshot_download(name, revision=revision, local_files_only=True))
            files = [file for file in pipelines.listed(folder) if file.endswith(".safetensors")]
        except LocalEntryNotFoundError:
            files = []
    if len(files) == 1:
        return Path(str(try_to_load_from_cache(name, files[0], revision=revision)))
    with _asking(repo):
        there = [sibling.rfilename for sibling in HfApi().model_info(name, revision=revision).siblings or []]
        files = [file for file in there if file.endswith(".safetensors") and wanted in ("", file)]
        if len(files) == 1:
            if (file := _get(name, files[0], revision)) is not None:
                return file
            files = []
    if files:
        raise ModelUnavailable(f"{name} has several files of weights ({', '.join(files[:5])}); name one of them as {name}/FILE")
    raise ModelUnavailable(f"{name} has no {wanted or 'safetensors'}, and pickles are never read; name another")
