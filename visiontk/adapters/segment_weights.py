"""Building a SAM 2 model from its YAML configuration and filling it with weights from a file, without running code of either."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from visiontk.errors import ModelUnavailable, first_line

from . import weights_file
from .weights_file import StateDict

# What `sam2.build_sam` overrides for its `apply_postprocessing=True`, but for the filling of holes: that needs a CUDA extension which
# most installations lack, and there it does nothing but warn.
POSTPROCESSING = {
    "dynamic_multimask_via_stability": True,
    "dynamic_multimask_stability_delta": 0.05,
    "dynamic_multimask_stability_thresh": 0.98,
}


def find_config(weights: Path) -> Path:
    """The configuration of a weights file: ``NAME.yaml`` beside ``NAME.pt``, sam2's own for Meta's file names, ``config.yaml`` beside it.

    Raises:
        ModelUnavailable: there is none.
    """
    own = {Path(file).name: config for config, file in _published()}
    candidates = [weights.with_suffix(".yaml"), *([own[weights.name]] if weights.name in own else []), weights.with_name("config.yaml")]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    message = f"{weights} has no configuration, and its name is none of {', '.join(own)}; put a config.yaml of sam2 beside it"
    raise ModelUnavailable(message)


def read_config(file: Path) -> dict[str, Any]:
    """The ``model:`` part of a configuration of sam2, interpolations resolved.

    Raises:
        ModelUnavailable: it is no such configuration.
    """
    from omegaconf import OmegaConf

    try:
        config = OmegaConf.to_container(OmegaConf.load(file), resolve=True)
    except Exception as error:  # YAML, omegaconf and its resolvers raise what they like
        raise ModelUnavailable(f"{file} cannot be read ({first_line(error)}); mend it or name another") from error
    model = config.get("model") if isinstance(config, dict) else None
    if not isinstance(model, dict) or "_target_" not in model:
        raise ModelUnavailable(f"{file} has no `model:` with a `_target_`, so it is no configuration of sam2; mend it or name another")
    return model


def image_size(config: dict[str, Any], name: str) -> int:
    """The side of the pictures that a configuration's model sees; 1024 where it does not say. Raises `ModelUnavailable`."""
    size = config.get("image_size", 1024)
    if type(size) is not int or size < 1:
        raise ModelUnavailable(f"the configuration of {name} has an image_size that is no number of pixels ({size!r:.40}); mend it")
    return size


def read_weights(file: Path) -> StateDict:
    """Tensors by name, float32 on the CPU: safetensors, or a checkpoint ``{"model": ...}`` through ``torch.load(weights_only=True)``.

    Raises:
        ModelUnavailable: not a file of weights, or one that would run code.
    """
    loaded = weights_file.read(file)
    found = weights_file.tensors(loaded.get("model", loaded) if isinstance(loaded, dict) else None, file)
    return {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in found.items()}


def build(config: dict[str, Any], weights: StateDict, name: str) -> nn.Module:
    """The model (a ``SAM2Base``) with its weights, on the CPU, in evaluation mode, with the settings of `POSTPROCESSING`.

    Parameters are not initialised but replaced, every one of them; that saves 3.7 s of CPU time for the large model. The ``meta`` device,
    which serves for that elsewhere, does not here: what is computed while building, such as rotary position encodings, is in no file.

    Raises:
        ModelUnavailable: the configuration names anything but modules of sam2, or the weights do not fit it.
    """
    extra = {**POSTPROCESSING, **(config.get("sam_mask_decoder_extra_args") or {})}
    # Memories of frames with prompts then hold what the user saw; `compile_image_encoder` would print, and `--compile` does it.
    settings = {"sam_mask_decoder_extra_args": extra, "binarize_mask_from_pts_for_mem_enc": True, "compile_image_encoder": False}
    with _hydra_left_alone(), _Uninitialised():
        model: nn.Module = _instantiate({**config, **settings, "_target_": "sam2.modeling.sam2_base.SAM2Base"}, name)
    check_fit(model, weights, name)
    model.load_state_dict(weights, assign=True)
    return model.eval()


def untrained(config: dict[str, Any], name: str) -> nn.Module:
    """The model with torch's random initial weights, on the CPU, in training mode. Raises `ModelUnavailable` as `build` does."""
    with _hydra_left_alone():
        model: nn.Module = _instantiate({**config, "compile_image_encoder": False, "_target_": "sam2.modeling.sam2_base.SAM2Base"}, name)
    return model.train()


class _Uninitialised(TorchFunctionMode):
    """Leaves out torch's initialisers of parameters."""

    def __torch_function__(self, function: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        if getattr(function, "__module__", None) == "torch.nn.init" or function in (torch.Tensor.normal_, torch.Tensor.uniform_):
            return (*arguments, *(options or {}).values())[0]
        return function(*arguments, **(options or {}))


def _instantiate(config: Any, name: str) -> Any:
    """Hydra's ``instantiate``, but of modules of sam2 alone: Hydra calls whatever a ``_target_`` names, ``os.system`` and all."""
    if isinstance(config, list):
        return [_instantiate(entry, name) for entry in config]
    if not isinstance(config, dict):
        return config
    arguments = {key: _instantiate(value, name) for key, value in config.items() if key != "_target_"}
    if "_target_" not in config:
        return arguments
    module = _module(config["_target_"], name)
    try:
        return module(**arguments)
    except Exception as error:  # the values of a configuration reach all of sam2's constructors
        raise ModelUnavailable(f"the configuration of {name} does not build {module.__name__} ({first_line(error)}); mend it") from error


def _module(target: object, name: str) -> type[nn.Module]:
    """The class that a ``_target_`` names. What a module of sam2 merely imports is none of it: ``sam2.build_sam.os.system`` is refused."""
    path, _, attribute = str(target).rpartition(".")
    if path.startswith("sam2.modeling."):  # other modules of sam2 are scripts, which importing runs
        try:
            found = getattr(importlib.import_module(path), attribute, None)
        except ImportError:
            found = None
        if isinstance(found, type) and issubclass(found, nn.Module) and found.__module__.startswith("sam2."):
            return found
    raise ModelUnavailable(f"the configuration of {name} names {target}, which is no module of sam2, so it is refused; name another model")


def check_fit(model: nn.Module, weights: StateDict, name: str) -> None:
    """Raises ModelUnavailable for weights that are not those of the model, all of them and nothing else."""
    difference = _difference(model.state_dict(), weights)
    if difference:
        raise ModelUnavailable(f"the weights of {name} do not fit its configuration ({difference}); name another model")


def _difference(wanted: StateDict, found: StateDict) -> str | None:
    """The first thing that is not as wanted, in words."""
    for key, tensor in wanted.items():
        if key not in found:
            return f"{key} is missing"
        if tensor.shape != found[key].shape:
            return f"{key} has the shape {list(found[key].shape)} and not {list(tensor.shape)}"
    return next((f"{key} is unknown" for key in found if key not in wanted), None)


def _published() -> Iterator[tuple[Path, str]]:
    """Meta's checkpoints: (configuration that comes with sam2, name of the weights file)."""
    with _hydra_left_alone():
        from sam2 import build_sam
    folder = Path(build_sam.__file__).parent
    for config, weights in build_sam.HF_MODEL_ID_TO_FILENAMES.values():
        yield folder / config, weights


@contextmanager
def _hydra_left_alone() -> Iterator[None]:
    """Importing sam2 initialises Hydra for the whole process, in which another program part may want to do so itself: undo that."""
    from hydra.core.global_hydra import GlobalHydra

    before = GlobalHydra.instance().is_initialized()
    try:
        yield
    finally:
        if not before:
            GlobalHydra.instance().clear()
