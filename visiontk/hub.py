"""The model hub: whether it answers, what is cached, and fetching a model's configuration and weights."""

from __future__ import annotations

import functools
import importlib.util
import json
import re
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import ModelUnavailable

PROBE_S = 3.0
CONFIG = "config.json"
INDEX = "model_index.json"


@dataclass(frozen=True)
class Layout:
    """The files of a model, in a folder or a repository.

    Attributes:
        library: whose layout it is, for messages.
        config: name of the configuration; None where it comes with the library.
        weights: names of the weights, in the order of preference; what is no safetensors is read with torch.load(weights_only=True).
            None where the configuration lists components, each in a folder of its own; see `parts`.
    """

    library: str
    config: str | None
    weights: tuple[str, ...] | None


@dataclass(frozen=True)
class Parts:
    """The files of a pipeline that one run of it needs, relative to its folder, each list in alphabetical order.

    Attributes:
        configs: configurations, tokenizers and lists of shards.
        weights: safetensors.
        variant: of the weights, as ``fp16``; None for the plain ones.
        lacking: components that have no weights here, though they need some.
    """

    configs: tuple[str, ...]
    weights: tuple[str, ...]
    variant: str | None
    lacking: tuple[str, ...]


TIMM = Layout("timm", CONFIG, ("model.safetensors", "pytorch_model.bin"))
SAM2 = Layout("SAM 2", "config.yaml", ("model.safetensors",))
DIFFUSERS = Layout("diffusers", INDEX, None)
_LLAMA = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
_VQGAN = ("diffusion_pytorch_model.safetensors", "model.safetensors", "pytorch_model.bin")
LVM = Layout("LVM", "llama/config.json", tuple(f"llama/{name}" for name in _LLAMA))
# The public LVM lies in two repositories: transformers' LLaMA, and open-muse's VQGAN.
PUBLIC_LVM = Layout("LVM", CONFIG, _LLAMA)
_VQGAN_OF = {"Emma02/LVM_ckpts": "Emma02/vqvae_ckpts"}
# Meta's repositories also hold the model for transformers, as config.json and model.safetensors with other names of the tensors.
_META_SAM2 = re.compile(r"facebook/sam2(\.1)?-hiera-[a-z-]+")
# As diffusers and transformers name them; the variant stands before the number of the shard, or after it in old repositories.
_WEIGHTS = re.compile(
    r"(?P<stem>diffusion_pytorch_model|model)(\.(?P<first>\w+))?(-(?P<shard>\d{5})-of-(?P<shards>\d{5}))?(\.(?P<last>\w+))?\.safetensors"
)
_SHARD_LIST = re.compile(r"(diffusion_pytorch_model|model)\.safetensors\.index(\.(?P<variant>\w+))?\.json")
_WEIGHTLESS = re.compile(r"Tokenizer|Processor|Scheduler|FeatureExtractor")
_TEXTS = (".json", ".txt", ".model", ".jinja")


@dataclass(frozen=True)
class Fetched:
    """A model's files on this disk.

    Attributes:
        folder: where they lie.
        weights: the file of weights; of a pipeline, the index that lists its components.
        revision: the hub's commit.
        files: all weights.
        companion: of an LVM whose VQGAN lies in a repository of its own: the folder of that.
    """

    folder: Path
    weights: Path
    revision: str
    files: tuple[Path, ...]
    companion: Path | None = None


@functools.cache
def answers() -> bool:
    """Whether the hub can be reached, asked once per process and within `PROBE_S` seconds. ``HF_HUB_OFFLINE`` says no at once."""
    import urllib.error
    import urllib.request

    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    heard = threading.Event()

    def ask() -> None:
        request = urllib.request.Request(constants.ENDPOINT, method="HEAD", headers={"User-Agent": "visiontk"})
        try:
            urllib.request.urlopen(request, timeout=PROBE_S).close()
        except urllib.error.HTTPError:
            heard.set()  # an error page is an answer
        except (OSError, ValueError):
            return
        heard.set()

    # A thread, because looking a host name up can hang for longer than any socket timeout.
    threading.Thread(target=ask, name="hub-probe", daemon=True).start()
    return heard.wait(PROBE_S)


def split_revision(repo: str) -> tuple[str, str | None]:
    """``org/name@revision`` in two."""
    name, _, revision = repo.partition("@")
    return name, revision or None


def layouts(repo: str) -> tuple[Layout, ...]:
    """How the files of a repository may lie, in the order in which to look."""
    name, _ = split_revision(repo)
    if _META_SAM2.fullmatch(name):
        return (Layout("SAM 2", None, (name.partition("/")[2].replace("-", "_") + ".pt",)),)
    if name in _VQGAN_OF:
        return (PUBLIC_LVM,)
    return TIMM, SAM2, DIFFUSERS


def read_index(file: Path, name: str) -> dict[str, Any]:
    """The index of a pipeline, ``model_index.json``.

    Raises:
        ModelUnavailable: it is none, or it names code that comes with the weights.
    """
    try:
        index = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ModelUnavailable(f"the {INDEX} of {name} cannot be read ({first_line(error)}); fetch it again") from error
    if not isinstance(index, dict) or "_class_name" not in index:
        raise ModelUnavailable(f"the {INDEX} of {name} names no _class_name, so it is no pipeline of diffusers; name another model")
    if not isinstance(index["_class_name"], str):
        raise ModelUnavailable(f"{name} brings code of its own for its pipeline, which is never run; name another model")
    for component, (library, class_name) in components(index).items():
        if library not in ("diffusers", "transformers") and not _is_pipeline_module(library):
            message = (
                f"the {component} of {name} is a {class_name} of {library}, which is neither diffusers nor transformers, so it is refused"
            )
            raise ModelUnavailable(f"{message}; name another model")
    return index


def components(index: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """The parts of a pipeline by name: library and class. Those that it has not are left out."""
    pairs = {name: value for name, value in index.items() if not name.startswith("_") and isinstance(value, list) and len(value) == 2}
    return {name: (str(library), str(kind)) for name, (library, kind) in pairs.items() if library is not None and kind is not None}


def parts(index: Mapping[str, Any], names: Iterable[str], name: str, variant: str | None = None, leave_out: Sequence[str] = ()) -> Parts:
    """Choose what a pipeline needs among the files of its folder or repository: never pickles, and never code.

    Args:
        index: as `read_index` gives it.
        names: of the files that there are, relative, with ``/``.
        name: of the model, for messages.
        variant: of the weights; components without it come plain. None is the plain weights, or the variant where there is but one.
        leave_out: components that are not wanted.

    Raises:
        ModelUnavailable: no component has that variant; or there are several and none is plain.
    """
    wanted = {component: kind for component, (_, kind) in components(index).items() if component not in leave_out}
    texts: list[str] = [INDEX]
    found: dict[str, dict[str | None, list[str]]] = {component: {} for component in wanted}
    lists: dict[str | None, list[str]] = {}
    for file in sorted(set(names)):
        component, _, base = file.partition("/")
        if component not in wanted or "/" in base:
            continue
        if weights := _WEIGHTS.fullmatch(base):
            found[component].setdefault(weights["first"] or weights["last"], []).append(file)
        elif shards := _SHARD_LIST.fullmatch(base):
            lists.setdefault(shards["variant"], []).append(file)
        elif base.endswith(_TEXTS) and ".index" not in base:
            texts.append(file)
    needing = [component for component, kind in wanted.items() if not _WEIGHTLESS.search(kind)]
    chosen = _variant(name, [set(found[component]) for component in needing if found[component]], variant)
    weights_of = {component: _one_set(found[component].get(chosen) or found[component].get(None, [])) for component in needing}
    texts += [file for key in {chosen, None} for file in lists.get(key, [])]
    lacking = tuple(component for component, files in weights_of.items() if not _whole(files))
    return Parts(tuple(sorted(texts)), tuple(sorted(file for files in weights_of.values() for file in files)), chosen, lacking)


def _variant(name: str, variants: list[set[str | None]], wanted: str | None) -> str | None:
    """The variant to take, given those of each component."""
    named = sorted({variant for of_one in variants for variant in of_one if variant is not None})
    if wanted is not None:
        if wanted not in named:
            there = f"its variants are {', '.join(named)}" if named else "it has none, so leave the variant out"
            raise ModelUnavailable(f"{name} has no variant {wanted}; {there}")
        return wanted
    if all(None in of_one for of_one in variants):
        return None
    fitting = [variant for variant in named if all(variant in of_one or None in of_one for of_one in variants)]
    if len(fitting) != 1:
        raise ModelUnavailable(f"{name} has its weights only as variants ({', '.join(named)}); choose one of them")
    return fitting[0]


def _one_set(files: list[str]) -> list[str]:
    """The shards, where a repository has the same weights both in shards and in one file: diffusers reads those."""
    return [file for file in files if re.search(r"-\d{5}-of-\d{5}", file)] or files


def _whole(files: Sequence[str]) -> bool:
    """Whether there are weights, with all their shards."""
    matches = [match for match in (_WEIGHTS.fullmatch(file.partition("/")[2]) for file in files) if match]
    return bool(matches) and all(match["shards"] is None or int(match["shards"]) == len(matches) for match in matches)


def _is_pipeline_module(library: str) -> bool:
    """Whether diffusers has a pipeline folder of that name, as safety checkers live in; found without importing it."""
    spec = importlib.util.find_spec("diffusers")
    folders = [] if spec is None else [Path(folder) / "pipelines" for folder in spec.submodule_search_locations or []]
    return library.isidentifier() and any((folder / library / "__init__.py").is_file() for folder in folders)


def listed(folder: Path) -> list[str]:
    """The files of a pipeline's folder and of its components' folders, relative, with ``/``."""
    return [file.relative_to(folder).as_posix() for pattern in ("*", "*/*") for file in folder.glob(pattern) if file.is_file()]


def cached(repo: str, layout: Layout | None = None, variant: str | None = None) -> Fetched | None:
    """The model from the cache, without a network; None if any part is missing. Without a layout, all of `layouts` are looked for."""
    from huggingface_hub import try_to_load_from_cache

    name, revision = split_revision(repo)
    for option in _options(repo, layout):
        if option in (LVM, PUBLIC_LVM):
            lvm = _cached_lvm(repo, option)
            if lvm is not None:
                return lvm
            continue
        if option.config is not None and not isinstance(try_to_load_from_cache(name, option.config, revision=revision), str):
            continue
        if option.weights is None:
            pipeline = _cached_pipeline(repo, variant)
            if pipeline is not None:
                return pipeline
        for candidate in option.weights or ():
            weights = try_to_load_from_cache(name, candidate, revision=revision)
            if isinstance(weights, str):
                return Fetched(Path(weights).parent, Path(weights), Path(weights).parent.name, (Path(weights),))
    return None


def _cached_pipeline(repo: str, variant: str | None) -> Fetched | None:
    from huggingface_hub import try_to_load_from_cache

    name, revision = split_revision(repo)
    file = try_to_load_from_cache(name, INDEX, revision=revision)
    if not isinstance(file, str):
        return None
    folder = Path(file).parent
    try:
        chosen = parts(read_index(Path(file), repo), listed(folder), repo, variant)
    except ModelUnavailable:  # the other variant is here, or it is broken: fetching says which
        return None
    return None if chosen.lacking else _pipeline(folder, chosen)


def _cached_lvm(repo: str, layout: Layout) -> Fetched | None:
    """Both networks of an LVM from the cache; None if any file is missing."""
    from huggingface_hub import try_to_load_from_cache

    name, revision = split_revision(repo)
    assert layout.config is not None and layout.weights is not None
    config = try_to_load_from_cache(name, layout.config, revision=revision)
    vqgan_repo, inside = (_VQGAN_OF[name], "") if name in _VQGAN_OF else (name, "vqgan/")
    candidates = [(name, file, revision) for file in layout.weights]
    llama = next((files for candidate in candidates if (files := _cached_set(*candidate))), None)
    pictures = (_cached_set(vqgan_repo, inside + file, None if name in _VQGAN_OF else revision) for file in _VQGAN)
    vqgan = next((files for files in pictures if files), None)
    if not isinstance(config, str) or llama is None or vqgan is None:
        return None
    folder = Path(config).parents[layout.config.count("/")]
    return Fetched(folder, llama[0], folder.name, (*llama, *vqgan), vqgan[0].parent if name in _VQGAN_OF else None)


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


def _pipeline(folder: Path, chosen: Parts) -> Fetched:
    return Fetched(folder, folder / INDEX, folder.name, tuple(folder / file for file in chosen.weights))


def fetch(repo: str, layout: Layout | None = None, variant: str | None = None) -> Fetched:
    """The model from the cache, else from the hub.

    Raises:
        ModelUnavailable: not cached and the hub is out of reach, or the hub has no such model or refuses it.
    """
    return cached(repo, layout, variant) or download(repo, layout, variant)


def download(repo: str, layout: Layout | None = None, variant: str | None = None) -> Fetched:
    """Fetch the newest files of the model (or of ``@revision``). Raises `ModelUnavailable`."""
    options = _options(repo, layout)
    with _asking(repo):
        for option in options:
            if option in (LVM, PUBLIC_LVM):
                fetched = _download_lvm(repo, option)
            else:
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

    name, revision = split_revision(repo)
    file = try_to_load_from_cache(name, INDEX, revision=revision)
    if isinstance(file, str):
        return Path(file).parent
    with _asking(repo):
        fetched = _download_pipeline(repo, None, weights=False)
    if fetched is None:
        raise ModelUnavailable(f"{repo} has no {INDEX}, so it is not a {DIFFUSERS.library} model; name another")
    return fetched.folder


@contextmanager
def _asking(repo: str) -> Iterator[None]:
    """What goes wrong between here and the hub, as `ModelUnavailable`."""
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, HFValidationError, RepositoryNotFoundError

    if not answers():
        raise ModelUnavailable(f"{repo} is not cached and the model hub cannot be had; where it can, run: visiontk models pull {repo}")
    try:
        yield
    except GatedRepoError as error:
        raise ModelUnavailable(f"{repo} wants its terms accepted; do that on the hub, then `hf auth login`") from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise ModelUnavailable(f"the hub has no model {repo}; see `visiontk models list` for names that work") from error
    except (HfHubHTTPError, OSError) as error:
        raise ModelUnavailable(f"{repo} could not be fetched ({type(error).__name__}: {first_line(error)}); try again") from error


def _options(repo: str, layout: Layout | None) -> tuple[Layout, ...]:
    """The layouts to look for; ``layout`` is for repositories whose name does not say."""
    known = layouts(repo)
    return known if layout is None or len(known) == 1 else (layout,)


def _download(repo: str, layout: Layout, candidates: tuple[str, ...]) -> Fetched | None:
    """The model if the repository is laid out so, else None. Raises `ModelUnavailable` for one without weights."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    name, revision = split_revision(repo)
    try:
        if layout.config:
            hf_hub_download(name, layout.config, revision=revision)
    except EntryNotFoundError:
        return None
    for candidate in candidates:
        try:
            weights = Path(hf_hub_download(name, candidate, revision=revision))
        except EntryNotFoundError:
            continue
        return Fetched(weights.parent, weights, weights.parent.name, (weights,))
    raise ModelUnavailable(f"{repo} has none of {', '.join(candidates)}; name another model")


def _download_pipeline(repo: str, variant: str | None, *, weights: bool = True) -> Fetched | None:
    """The pipeline if the repository holds one, else None: its index, then configurations, then weights, all of one commit.

    So a download that was broken off lacks weights, by which `cached` knows it. Raises `ModelUnavailable`.
    """
    from huggingface_hub import HfApi, hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    name, revision = split_revision(repo)
    try:
        file = Path(hf_hub_download(name, INDEX, revision=revision))
    except EntryNotFoundError:
        return None
    index, commit = read_index(file, repo), file.parent.name
    there = [sibling.rfilename for sibling in HfApi().model_info(name, revision=commit).siblings or []]
    chosen = parts(index, there, repo, variant)
    if chosen.lacking and weights:
        message = f"{repo} has no safetensors for its {' and '.join(chosen.lacking)}, and pickles are never read"
        raise ModelUnavailable(f"{message}; name another model")
    for part in (*chosen.configs, *(chosen.weights if weights else ())):
        hf_hub_download(name, part, revision=commit)
    return _pipeline(file.parent, chosen)


def _download_lvm(repo: str, layout: Layout) -> Fetched | None:
    """Both networks of an LVM if the repository holds its LLaMA, else None: configurations, then weights. Raises `ModelUnavailable`."""
    from huggingface_hub import HfApi, hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    name, revision = split_revision(repo)
    assert layout.config is not None and layout.weights is not None
    try:
        hf_hub_download(name, layout.config, revision=revision)
    except EntryNotFoundError:
        return None
    vqgan_repo, inside = (_VQGAN_OF[name], "") if name in _VQGAN_OF else (name, "vqgan/")
    pictures = tuple(inside + file for file in _VQGAN)
    for one, at, config, weights in (
        (vqgan_repo, None if name in _VQGAN_OF else revision, inside + CONFIG, pictures),
        (name, revision, layout.config, layout.weights),
    ):
        there = {sibling.rfilename for sibling in HfApi().model_info(one, revision=at).siblings or []}
        chosen = next((file for file in weights if file in there), None)
        if chosen is None:
            raise ModelUnavailable(f"{one} has none of {', '.join(weights)}; name another model")
        if config in there:
            hf_hub_download(one, config, revision=at)
        fetched = Path(hf_hub_download(one, chosen, revision=at))
        for shard in _shards(fetched):
            hf_hub_download(one, (chosen.rpartition("/")[0] + "/" + shard).lstrip("/"), revision=at)
    return _cached_lvm(repo, layout)


def first_line(error: BaseException) -> str:
    """The first line of an error's text, for messages of one line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def download_weights(repo: str) -> Path:
    """A file of safetensors from a repository that holds one, or ``org/name/FILE.safetensors``, from the cache, else from the hub.

    Raises:
        ModelUnavailable: as `fetch`; or there is none, or more than one.
    """
    from huggingface_hub import HfApi, hf_hub_download, snapshot_download, try_to_load_from_cache
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    whole, revision = split_revision(repo)
    name, wanted = "/".join(whole.split("/")[:2]), "/".join(whole.split("/")[2:])
    if wanted:
        cached_file = try_to_load_from_cache(name, wanted, revision=revision)
        files = [wanted] if isinstance(cached_file, str) else []
    else:
        try:
            folder = Path(snapshot_download(name, revision=revision, local_files_only=True))
            files = [file for file in listed(folder) if file.endswith(".safetensors")]
        except LocalEntryNotFoundError:
            files = []
    if len(files) == 1:
        return Path(str(try_to_load_from_cache(name, files[0], revision=revision)))
    with _asking(repo):
        there = [sibling.rfilename for sibling in HfApi().model_info(name, revision=revision).siblings or []]
        files = [file for file in there if file.endswith(".safetensors") and wanted in ("", file)]
        if len(files) == 1:
            try:
                return Path(hf_hub_download(name, files[0], revision=revision))
            except EntryNotFoundError:
                files = []
    if files:
        raise ModelUnavailable(f"{name} has several files of weights ({', '.join(files[:5])}); name one of them as {name}/FILE")
    raise ModelUnavailable(f"{name} has no {wanted or 'safetensors'}, and pickles are never read; name another")
