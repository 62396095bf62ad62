"""The model hub: whether it answers, what is cached, and fetching a model's configuration and weights."""

from __future__ import annotations

import functools
import re
import threading
from dataclasses import dataclass
from pathlib import Path

from .errors import ModelUnavailable

PROBE_S = 3.0
CONFIG = "config.json"


@dataclass(frozen=True)
class Layout:
    """The files of a model, in a folder or a repository.

    Attributes:
        library: whose layout it is, for messages.
        config: name of the configuration; None where it comes with the library.
        weights: names of the weights, in the order of preference; what is no safetensors is read with torch.load(weights_only=True).
    """

    library: str
    config: str | None
    weights: tuple[str, ...]


TIMM = Layout("timm", CONFIG, ("model.safetensors", "pytorch_model.bin"))
SAM2 = Layout("SAM 2", "config.yaml", ("model.safetensors",))
# Meta's repositories also hold the model for transformers, as config.json and model.safetensors with other names of the tensors.
_META_SAM2 = re.compile(r"facebook/sam2(\.1)?-hiera-[a-z-]+")


@dataclass(frozen=True)
class Fetched:
    """A model's files on this disk. ``revision`` is the hub's commit."""

    folder: Path
    weights: Path
    revision: str


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
    return TIMM, SAM2


def cached(repo: str, layout: Layout | None = None) -> Fetched | None:
    """The model from the cache, without a network; None if any part is missing. Without a layout, all of `layouts` are looked for."""
    from huggingface_hub import try_to_load_from_cache

    name, revision = split_revision(repo)
    for option in _options(repo, layout):
        if option.config is not None and not isinstance(try_to_load_from_cache(name, option.config, revision=revision), str):
            continue
        for candidate in option.weights:
            weights = try_to_load_from_cache(name, candidate, revision=revision)
            if isinstance(weights, str):
                return Fetched(Path(weights).parent, Path(weights), Path(weights).parent.name)
    return None


def fetch(repo: str, layout: Layout | None = None) -> Fetched:
    """The model from the cache, else from the hub.

    Raises:
        ModelUnavailable: not cached and the hub is out of reach, or the hub has no such model or refuses it.
    """
    return cached(repo, layout) or download(repo, layout)


def download(repo: str, layout: Layout | None = None) -> Fetched:
    """Fetch the newest files of the model (or of ``@revision``). Raises `ModelUnavailable`."""
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, HFValidationError, RepositoryNotFoundError

    if not answers():
        raise ModelUnavailable(f"{repo} is not cached and the model hub cannot be had; where it can, run: visiontk models pull {repo}")
    options = _options(repo, layout)
    try:
        for option in options:
            fetched = _download(repo, option)
            if fetched is not None:
                return fetched
    except GatedRepoError as error:
        raise ModelUnavailable(f"{repo} wants its terms accepted; do that on the hub, then `hf auth login`") from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise ModelUnavailable(f"the hub has no model {repo}; see `visiontk models list` for names that work") from error
    except (HfHubHTTPError, OSError) as error:
        raise ModelUnavailable(f"{repo} could not be fetched ({type(error).__name__}: {first_line(error)}); try again") from error
    missing, libraries = (
        " or ".join(names) for names in zip(*((one.config or one.weights[0], one.library) for one in options), strict=True)
    )
    raise ModelUnavailable(f"{repo} has no {missing}, so it is not a {libraries} model; name another")


def _options(repo: str, layout: Layout | None) -> tuple[Layout, ...]:
    """The layouts to look for; ``layout`` is for repositories whose name does not say."""
    known = layouts(repo)
    return known if layout is None or len(known) == 1 else (layout,)


def _download(repo: str, layout: Layout) -> Fetched | None:
    """The model if the repository is laid out so, else None. Raises `ModelUnavailable` for one without weights."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    name, revision = split_revision(repo)
    try:
        if layout.config:
            hf_hub_download(name, layout.config, revision=revision)
    except EntryNotFoundError:
        return None
    for candidate in layout.weights:
        try:
            weights = Path(hf_hub_download(name, candidate, revision=revision))
        except EntryNotFoundError:
            continue
        return Fetched(weights.parent, weights, weights.parent.name)
    raise ModelUnavailable(f"{repo} has none of {', '.join(layout.weights)}; name another model")


def first_line(error: BaseException) -> str:
    """The first line of an error's text, for messages of one line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
