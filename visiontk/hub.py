"""The model hub: whether it answers, what is cached, and fetching a model's configuration and weights."""

from __future__ import annotations

import functools
import threading
from dataclasses import dataclass
from pathlib import Path

from .errors import ModelUnavailable

PROBE_S = 3.0
CONFIG = "config.json"
# In the order of preference. A `.bin` is read with torch.load(weights_only=True).
WEIGHTS = ("model.safetensors", "pytorch_model.bin")


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


def cached(repo: str) -> Fetched | None:
    """The model from the cache, without a network; None if any part is missing."""
    from huggingface_hub import try_to_load_from_cache

    name, revision = split_revision(repo)
    config = try_to_load_from_cache(name, CONFIG, revision=revision)
    for candidate in WEIGHTS:
        weights = try_to_load_from_cache(name, candidate, revision=revision)
        if isinstance(config, str) and isinstance(weights, str):
            return Fetched(Path(config).parent, Path(weights), Path(weights).parent.name)
    return None


def fetch(repo: str) -> Fetched:
    """The model from the cache, else from the hub.

    Raises:
        ModelUnavailable: not cached and the hub is out of reach, or the hub has no such model or refuses it.
    """
    return cached(repo) or download(repo)


def download(repo: str) -> Fetched:
    """Fetch the newest files of the model (or of ``@revision``). Raises `ModelUnavailable`."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, GatedRepoError, HfHubHTTPError, HFValidationError, RepositoryNotFoundError

    if not answers():
        raise ModelUnavailable(f"{repo} is not cached and the model hub cannot be had; where it can, run: visiontk models pull {repo}")
    name, revision = split_revision(repo)
    try:
        config = Path(hf_hub_download(name, CONFIG, revision=revision))
        for candidate in WEIGHTS:
            try:
                weights = Path(hf_hub_download(name, candidate, revision=revision))
            except EntryNotFoundError:
                continue
            return Fetched(config.parent, weights, weights.parent.name)
    except GatedRepoError as error:
        raise ModelUnavailable(f"{repo} wants its terms accepted; do that on the hub, then `hf auth login`") from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise ModelUnavailable(f"the hub has no model {repo}; see `visiontk models list` for names that work") from error
    except EntryNotFoundError as error:
        raise ModelUnavailable(f"{repo} has no {CONFIG}, so it is not a timm model; name another") from error
    except (HfHubHTTPError, OSError) as error:
        raise ModelUnavailable(f"{repo} could not be fetched ({type(error).__name__}: {first_line(error)}); try again") from error
    raise ModelUnavailable(f"{repo} has none of {', '.join(WEIGHTS)}; name another model")


def first_line(error: BaseException) -> str:
    """The first line of an error's text, for messages of one line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
