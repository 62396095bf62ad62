"""LoRA: small additions to a model's weights, from a file, a folder or the hub, in any number at once."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from visiontk import hub
from visiontk.errors import ModelUnavailable, UsageError, first_line

from .generate_quiet import quiet
from .weights_file import sha256

_REPO = re.compile(r"[\w.-]+/[\w.-]+(/[\w./-]+)?(@[\w./-]+)?")
# The usual names, first; then whatever the only file is called.
_NAMES = ("pytorch_lora_weights.safetensors", "adapter_model.safetensors")


@dataclass(frozen=True)
class Lora:
    """One addition. ``id`` is a file, a folder or a hub id (``org/name``, ``org/name/FILE.safetensors``); ``weight`` scales it."""

    id: str
    weight: float = 1.0

    @classmethod
    def parse(cls, text: str) -> Lora:
        """From ``ID`` or ``ID:WEIGHT``.

        Raises:
            UsageError: the id is missing or the weight is no number.
        """
        name, colon, weight = text.rpartition(":")
        if not colon or Path(text).exists():
            name, weight = text, "1"
        try:
            number = float(weight)
        except ValueError as error:
            raise UsageError(f"the weight of the LoRA {text!r} is no number; write ID:WEIGHT, as in ID:0.8") from error
        if not name or number != number or abs(number) == float("inf"):
            raise UsageError(f"the LoRA {text!r} makes no sense; write ID or ID:WEIGHT")
        return cls(name, number)


def add(pipeline: Any, loras: Sequence[Lora], model: str) -> tuple[str, ...]:
    """Put additions onto a pipeline, and give their revisions (sha256).

    Raises:
        ModelUnavailable: one cannot be had, or does not fit the model.
        UsageError: the model's family takes none.
    """
    if not loras:
        return ()
    if importlib.util.find_spec("peft") is None:
        raise UsageError("a LoRA needs the package peft; install it")
    if not hasattr(pipeline, "load_lora_weights"):
        raise UsageError(f"{model} is a {type(pipeline).__name__}, which takes no LoRA; leave it out")
    files = [find(lora.id) for lora in loras]
    names = [f"lora{number}" for number in range(len(loras))]
    with quiet():
        for lora, file, name in zip(loras, files, names, strict=True):
            _load(pipeline, lora, file, name, model)
        pipeline.set_adapters(names, [lora.weight for lora in loras])
    return tuple(sha256(file) for file in files)


def find(name: str) -> Path:
    """The file of an addition. Raises `ModelUnavailable`."""
    path = Path(name).expanduser()
    if path.is_dir():
        files = sorted(path.glob("*.safetensors"))
        usual = [path / usual for usual in _NAMES if path / usual in files]
        if not usual and len(files) != 1:
            there = f"several ({', '.join(file.name for file in files[:5])})" if files else "no"
            raise ModelUnavailable(f"the folder {name} holds {there} files of safetensors; name the one of the LoRA")
        return (usual or files)[0]
    if path.is_file():
        if path.suffix != ".safetensors":
            raise ModelUnavailable(f"the LoRA {name} is no .safetensors file, and pickles are never read; convert it where you trust it")
        return path
    if not _REPO.fullmatch(name) or (path.suffix == ".safetensors" and name.count("/") < 2):
        raise ModelUnavailable(f"there is no LoRA {name}: no file, no folder and no hub id; check the path")
    try:
        return hub.download_weights(name)
    except ModelUnavailable as error:
        if path.parent.is_dir():
            raise ModelUnavailable(f"there is no file or folder {name}; and as a hub id: {error}") from error
        raise


def _load(pipeline: Any, lora: Lora, file: Path, name: str, model: str) -> None:
    try:
        pipeline.load_lora_weights(str(file.parent), weight_name=file.name, use_safetensors=True, local_files_only=True, adapter_name=name)
    except Exception as error:  # keys and shapes of any origin reach all of diffusers' conversions and peft
        message = f"the LoRA {lora.id} does not fit {model} ({_reason(error)}); name one that was trained for its architecture"
        raise ModelUnavailable(message) from error
    reached = {adapter for adapters in pipeline.get_list_adapters().values() for adapter in adapters}
    if name not in reached:
        raise ModelUnavailable(f"the LoRA {lora.id} names no part of {model}; name one that was trained for its architecture")


def _reason(error: BaseException) -> str:
    """The first mismatch of a long list."""
    mismatch = re.search(
        r"size mismatch for (\S+): .*?shape torch\.Size\((\[[\d, ]*\]).*?torch\.Size\((\[[\d, ]*\])", str(error), re.DOTALL
    )
    if mismatch:
        return f"{mismatch[1]} has the shape {mismatch[2]} and not {mismatch[3]}"
    return first_line(error)[:160]
