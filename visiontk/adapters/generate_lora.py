"""LoRA: small additions to a model's weights, from a file, a folder or the hub, in any number at once."""

from __future__ import annotations

import contextlib
import importlib.util
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from visiontk import hub
from visiontk.errors import ModelUnavailable, UsageError, first_line
from visiontk.loras import USUAL, Lora

from .generate_quiet import quiet
from .weights_file import sha256

_REPO = re.compile(r"[\w.-]+/[\w.-]+(/[\w./-]+)?(@[\w./-]+)?")


class Additions:
    """The LoRAs of a pipeline. Each is read when it is first in use; from then on it is only switched on and off, and weighted.

    Attributes:
        settled: why the pipeline takes no further ones (``quantized``, ``compiled``), or None while it does.
    """

    def __init__(self, pipeline: Any, model: str) -> None:
        self._pipeline, self._model = pipeline, model
        self.settled: str | None = None
        self._adapters: dict[str, str] = {}  # names by id
        self._unfit: dict[str, str] = {}  # what is wrong with those that could not be read, by id
        self._files: dict[str, Path] = {}
        self._revisions: dict[str, str] = {}
        self._tried = 0
        self._in_use: list[tuple[str, float]] | None = []  # None while that is not certain

    def check(self, loras: Sequence[Lora]) -> None:
        """Raise UsageError where the model's family takes none, or it is too late for another."""
        if not loras:
            return
        if importlib.util.find_spec("peft") is None:
            raise UsageError("a LoRA needs the package peft; install it")
        if not hasattr(self._pipeline, "load_lora_weights"):
            raise UsageError(f"{self._model} is a {type(self._pipeline).__name__}, which takes no LoRA; leave it out")
        late = next((lora.id for lora in loras if lora.id not in self._adapters), None)
        if self.settled and late:
            raise UsageError(f"{self._model} is {self.settled}, and takes no LoRA of one image alone; pass --lora {late}:0 for all of them")

    def revision(self, lora: Lora) -> str:
        """``sha256:`` of its file. Raises ModelUnavailable where it cannot be had."""
        if lora.id not in self._revisions:
            with _readable(lora.id):
                self._revisions[lora.id] = sha256(self._file(lora.id))
        return self._revisions[lora.id]

    def use(self, loras: Sequence[Lora]) -> None:
        """From now on the model runs with these, in this order, and no others; the weights of one that stands there twice add up.

        Raises:
            ModelUnavailable: one cannot be had, or does not fit the model. What is in use then is settled by the next call.
            UsageError: as `check`.
        """
        self.check(loras)
        summed: dict[str, float] = {}
        for lora in loras:
            summed[lora.id] = summed.get(lora.id, 0.0) + lora.weight
        wanted = list(summed.items())
        if wanted == self._in_use:
            return
        self._in_use = None
        with quiet():
            for name in summed:
                self._add(name)
            if wanted:
                self._pipeline.enable_lora()
                self._pipeline.set_adapters([self._adapters[name] for name in summed], list(summed.values()))
            elif self._tried:
                self._pipeline.disable_lora()
        self._in_use = wanted

    def _file(self, lora: str) -> Path:
        if lora not in self._files:
            self._files[lora] = find(lora)
        return self._files[lora]

    def _add(self, lora: str) -> None:
        if lora in self._adapters:
            return
        if lora in self._unfit:
            raise ModelUnavailable(self._unfit[lora])
        with _readable(lora):
            file = self._file(lora)
        name, self._tried = f"lora{self._tried}", self._tried + 1
        try:
            _load(self._pipeline, lora, file, name, self._model)
        except BaseException as error:
            with contextlib.suppress(Exception):  # of one that fits in part, a part is there
                self._pipeline.delete_adapters([name])
            if isinstance(error, ModelUnavailable):
                self._unfit[lora] = str(error)
            raise
        self._adapters[lora] = name


@contextlib.contextmanager
def _readable(lora: str) -> Iterator[None]:
    """What the file system says of a name or a file, as `ModelUnavailable`."""
    try:
        yield
    except (OSError, RuntimeError) as error:  # the latter of a home that nobody has
        raise ModelUnavailable(f"the LoRA {lora} cannot be read ({getattr(error, 'strerror', None) or error}); check the path") from error


def find(name: str) -> Path:
    """The file of an addition. Raises `ModelUnavailable`."""
    path = Path(name).expanduser()
    if path.is_dir():
        files = sorted(path.glob("*.safetensors"))
        usual = [path / usual for usual in USUAL if path / usual in files]  # else the only one, whatever it is called
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


def _load(pipeline: Any, lora: str, file: Path, name: str, model: str) -> None:
    try:
        pipeline.load_lora_weights(str(file.parent), weight_name=file.name, use_safetensors=True, local_files_only=True, adapter_name=name)
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # keys and shapes of any origin reach all of diffusers' conversions and peft
        message = f"the LoRA {lora} does not fit {model} ({_reason(error)}); name one that was trained for its architecture"
        raise ModelUnavailable(message) from error
    reached = {adapter for adapters in pipeline.get_list_adapters().values() for adapter in adapters}
    if name not in reached:
        raise ModelUnavailable(f"the LoRA {lora} names no part of {model}; name one that was trained for its architecture")


def _reason(error: BaseException) -> str:
    """The first mismatch of a long list."""
    mismatch = re.search(
        r"size mismatch for (\S+): .*?shape torch\.Size\((\[[\d, ]*\]).*?torch\.Size\((\[[\d, ]*\])", str(error), re.DOTALL
    )
    if mismatch:
        return f"{mismatch[1]} has the shape {mismatch[2]} and not {mismatch[3]}"
    return first_line(error)[:160]
