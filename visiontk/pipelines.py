"""Pipelines of diffusers: the index that lists their components, and which of the files beside it one run needs."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import ModelUnavailable, first_line

INDEX = "model_index.json"
# As diffusers and transformers name them; the variant stands before the number of the shard, or after it in old repositories.
_WEIGHTS = re.compile(
    r"(?P<stem>diffusion_pytorch_model|model)(\.(?P<first>\w+))?(-(?P<shard>\d{5})-of-(?P<shards>\d{5}))?(\.(?P<last>\w+))?\.safetensors"
)
_SHARD_LIST = re.compile(r"(diffusion_pytorch_model|model)\.safetensors\.index(\.(?P<variant>\w+))?\.json")
_WEIGHTLESS = re.compile(r"Tokenizer|Processor|Scheduler|FeatureExtractor")
_TEXTS = (".json", ".txt", ".model", ".jinja")


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
