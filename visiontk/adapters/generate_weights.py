"""Pipelines of diffusers on disk: a folder with an index, or one checkpoint of safetensors; what they can do, and reading them."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from visiontk import catalog, hub, layouts, pipelines
from visiontk.errors import ModelUnavailable, UsageError, first_line
from visiontk.layouts import CONFIG

from .generate_quiet import importing, quiet
from .generate_types import Task
from .weights_file import sha256

TASKS: dict[Task, str] = {"text2image": "text to image", "image2image": "image to image", "inpaint": "inpainting"}
_CHECKER = "safety_checker"  # as the index of a pipeline calls it
PICKLES = (".ckpt", ".pt", ".pth", ".bin", ".pkl")


def locate(model: str, variant: str | None = None) -> catalog.Location:
    """The files of a model that was named: catalog name, path or hub id.

    Raises:
        ModelUnavailable: it cannot be had, or is a pickle.
    """
    if model.endswith(PICKLES):
        raise ModelUnavailable(f"{model} is a pickle, which could run code, so it is refused; convert it to safetensors where you trust it")
    location = catalog.locate("generate", model, variant)
    if location is None:
        raise catalog.unknown(model, "generate")
    if location.weights.name != pipelines.INDEX and location.weights.suffix != ".safetensors":
        raise ModelUnavailable(f"{model} is neither the folder of a pipeline nor a .safetensors file; name one of these")
    return location


def defaults(location: catalog.Location) -> catalog.Entry | None:
    """The catalog's entry for a model, by its name or its hub id, or None."""
    return catalog.find(location.name, "generate") or catalog.find_id(location.name, "generate")


class Files:
    """What a located model consists of, known without reading its weights.

    Attributes:
        folder: with the index and the configurations.
        checkpoint: the one file with all weights, or None where each component has its own.
        weights: all files of weights.
        variant: of the weights.
        kind: name of the pipeline's class.
    """

    def __init__(self, location: catalog.Location, variant: str | None = None) -> None:
        self.name = location.name
        self.checkpoint = None if location.weights.name == pipelines.INDEX else location.weights
        self.folder = _configuration(location.weights) if self.checkpoint else location.weights.parent
        self.index = pipelines.read_index(self.folder / pipelines.INDEX, location.name)
        self.kind = str(self.index["_class_name"])
        self.variant: str | None = None
        self.weights: tuple[Path, ...] = (location.weights,)
        if self.checkpoint is not None:
            if variant is not None:
                raise UsageError(f"{location.name} is one file and has no variant {variant}; leave the variant out")
            return
        parts = pipelines.parts(self.index, pipelines.listed(self.folder), location.name, variant)
        if parts.lacking:
            lacking = " and ".join(parts.lacking)
            raise ModelUnavailable(f"{location.name} has no safetensors for its {lacking} (pickles are never read); complete the folder")
        self.weights, self.variant = tuple(self.folder / file for file in parts.weights), parts.variant

    @property
    def size(self) -> int:
        """Bytes of weights."""
        return sum(file.stat().st_size for file in self.weights)

    @property
    def revision(self) -> str:
        """``sha256:`` of the checkpoint; of many files, over each one's relative path and sha256, in the order of the paths."""
        if self.checkpoint is not None:
            return sha256(self.checkpoint)
        whole = hashlib.sha256()
        for file in self.weights:
            whole.update(f"{file.relative_to(self.folder).as_posix()} {sha256(file)}\n".encode())
        return f"sha256:{whole.hexdigest()}"

    @property
    def has_safety_checker(self) -> bool:
        """Whether a safety checker comes with it; with a checkpoint of one file none does."""
        return self.checkpoint is None and _CHECKER in pipelines.components(self.index)

    def tasks(self) -> frozenset[Task]:
        """What diffusers' auto pipelines can do with this model. Raises UsageError where that is nothing that is asked for here."""
        return _tasks(self.name, self.folder, self.index)


def check(name: str, able: frozenset[Task], checker: bool, task: Task, safety: bool | None) -> None:
    """Raise UsageError for a task that a model's family cannot do, and where a safety ``checker`` is to be left out that is not there."""
    if task not in able:
        raise UsageError(cannot(name, task, able))
    if safety is False and not checker:
        raise UsageError(f"{name} has no safety checker of its own to leave out; leave out --no-safety")


def check_early(model: str | None, task: Task, safety: bool | None = True) -> None:
    """Refuse what a model of the hub cannot do from its configurations alone, before its weights are fetched.

    A model that is here, or cannot be had, is left to what comes next.

    Raises:
        UsageError: as `check`, or it does nothing that is asked for here.
    """
    entry = catalog.recommended("generate") if model is None else catalog.find(model, "generate")
    if entry is not None and entry.bundled is not None:
        return
    repo = entry.id if entry else None if (model or "").endswith(PICKLES) else catalog.hub_id(model or "")
    name = entry.name if entry else repo
    if repo is None or name is None:
        return
    with contextlib.suppress(ModelUnavailable):
        if hub.cached(repo, layouts.DIFFUSERS, entry.variant if entry else None) is not None:
            return
        folder = hub.configuration(repo)
        index = pipelines.read_index(folder / pipelines.INDEX, name)
        check(name, _tasks(name, folder, index), _CHECKER in pipelines.components(index), task, safety)


def cannot(name: str, task: Task, able: frozenset[Task]) -> str:
    """That a model is not for a task, and what it is for."""
    words = " and ".join(words for one, words in TASKS.items() if one in able)
    return f"{name} cannot do {TASKS[task]}, its family does {words} alone; name another model"


def _tasks(name: str, folder: Path, index: Mapping[str, Any]) -> frozenset[Task]:
    with importing():
        from diffusers.pipelines import auto_pipeline as auto
    tables: dict[Task, Any] = {
        "text2image": auto.AUTO_TEXT2IMAGE_PIPELINES_MAPPING,
        "image2image": auto.AUTO_IMAGE2IMAGE_PIPELINES_MAPPING,
        "inpaint": auto.AUTO_INPAINT_PIPELINES_MAPPING,
    }
    kind = index["_class_name"]
    families = [family for table in tables.values() for family, one in table.items() if one.__name__ == kind]
    if not families or "control" in families[0] or "vae" not in pipelines.components(index):
        raise UsageError(f"{name} is a {kind}, which makes no images from a prompt alone; name another model")
    known = frozenset(task for task, table in tables.items() if families[0] in table)
    return known & _fit_for(name, folder, known)


def _fit_for(name: str, folder: Path, known: frozenset[Task]) -> frozenset[Task]:
    """A UNet with channels for a mask and a masked image can do nothing else."""
    unet, vae = (_config(folder / part / CONFIG) for part in ("unet", "vae"))
    channels, latent = unet.get("in_channels"), vae.get("latent_channels")
    if not isinstance(channels, int) or not isinstance(latent, int) or channels == latent:
        return known
    if channels == 2 * latent + 1:
        return frozenset({"inpaint"})
    raise UsageError(f"the UNet of {name} takes {channels} channels, which no pipeline for a prompt gives it; name another model")


def read(files: Files, task: Task, dtype: torch.dtype, *, safety: bool = True) -> Any:
    """The pipeline for a task with its weights in ``dtype``, on the CPU.

    Raises:
        ModelUnavailable: its files do not fit together.
    """
    with importing():
        import diffusers
    autos = {"text2image": "AutoPipelineForText2Image", "image2image": "AutoPipelineForImage2Image", "inpaint": "AutoPipelineForInpainting"}
    auto = getattr(diffusers, autos[task])
    leave_out = {} if safety or not files.has_safety_checker else {_CHECKER: None}
    with quiet():
        if files.checkpoint is not None:
            kind = getattr(diffusers, files.kind)
            options = {"config": str(files.folder), "torch_dtype": dtype, "local_files_only": True, **leave_out}
            pipeline = guarded(files.name, lambda: kind.from_single_file(str(files.checkpoint), **options))
            pipeline = auto.from_pipe(pipeline)
        else:
            options = {"dtype": dtype, "use_safetensors": True, "local_files_only": True, "variant": files.variant, **leave_out}
            pipeline = guarded(files.name, lambda: auto.from_pretrained(str(files.folder), **options))
    for name, part in pipeline.components.items():
        if isinstance(part, torch.nn.Module) and not _filled(part, [file for file in files.weights if file.parent.name == name]):
            raise ModelUnavailable(f"the weights of {files.name} do not fill its {name}; name another model, or fetch it again")
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _filled(part: torch.nn.Module, weights: list[Path]) -> bool:
    """Whether every parameter came from a file: diffusers leaves others on the meta device, transformers fills them with random numbers."""
    if any(tensor.is_meta for tensor in (*part.parameters(), *part.buffers())):
        return False
    if not weights:  # in one file with those of other parts
        return True
    from safetensors import safe_open

    numbers = 0
    for file in weights:
        with safe_open(file, framework="pt") as opened:
            slices = [opened.get_slice(name) for name in opened.keys()]  # noqa: SIM118
            numbers += sum(math.prod(one.get_shape()) for one in slices if "F" in one.get_dtype())
    return numbers >= sum(parameter.numel() for parameter in part.parameters())


def switch(pipeline: Any, task: Task) -> Any:
    """The pipeline of another task around the same components. Nothing is read again."""
    with importing():
        import diffusers
    autos = {"text2image": "AutoPipelineForText2Image", "image2image": "AutoPipelineForImage2Image", "inpaint": "AutoPipelineForInpainting"}
    with quiet():
        other = getattr(diffusers, autos[task]).from_pipe(pipeline)
    other.set_progress_bar_config(disable=True)
    return other


def guarded(name: str, build: Callable[[], Any]) -> Any:
    """What ``build`` reads of a model. Raises ModelUnavailable for whatever goes wrong in it but for memory that runs out."""
    try:
        return build()
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # configurations and weights of all kinds reach all of diffusers' and transformers' constructors
        raise ModelUnavailable(f"{name} cannot be read ({first_line(error)[:300]}); name another model, or fetch it again") from error


def _configuration(checkpoint: Path) -> Path:
    """The folder with the configuration of a single checkpoint: beside it, in the cache, or from the hub.

    Raises:
        ModelUnavailable: there is none, or the file is no checkpoint.
    """
    for folder in (checkpoint.with_name("config"), checkpoint.with_suffix(""), checkpoint.parent):
        if (folder / pipelines.INDEX).is_file():
            return folder
    repo = _family(checkpoint)
    try:
        return hub.configuration(repo)
    except ModelUnavailable as error:
        message = f"{checkpoint} is a checkpoint without a configuration, and {error}"
        raise ModelUnavailable(
            f"{message}; or put that folder, without its weights, beside it as {checkpoint.with_name('config')}"
        ) from error


def _family(checkpoint: Path) -> str:
    """The hub id of the pipeline that a checkpoint belongs to, by the names and shapes of its tensors."""
    with importing():
        from diffusers.loaders.single_file_utils import fetch_diffusers_config
    from safetensors import safe_open

    try:
        with safe_open(checkpoint, framework="pt") as file:
            shapes = {name: _Shape(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except Exception as error:  # a broken file can raise anything
        raise ModelUnavailable(f"{checkpoint} cannot be read as a checkpoint ({first_line(error)}); name another") from error
    if all("lora" in name for name in shapes):
        raise ModelUnavailable(f"{checkpoint} is a LoRA and no model; add it to one")
    found = fetch_diffusers_config(shapes)
    return str(found["pretrained_model_name_or_path"])


class _Shape:
    """A tensor as far as it takes to recognise a family."""

    def __init__(self, shape: list[int]) -> None:
        self.shape = torch.Size(shape)


def _config(file: Path) -> dict[str, Any]:
    if not file.is_file():
        return {}
    try:
        config = json.loads(file.read_text("utf-8"))
    except ValueError as error:
        raise ModelUnavailable(f"{file} cannot be read ({first_line(error)}); fetch the model again") from error
    return config if isinstance(config, dict) else {}
