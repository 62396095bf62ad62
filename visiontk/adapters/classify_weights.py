"""Building a timm model and filling it with weights from a file, without unpickling code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from visiontk.catalog import Location
from visiontk.errors import ModelUnavailable, first_line
from visiontk.layouts import CONFIG

from . import weights_file
from .weights_file import StateDict


def read_weights(file: Path) -> StateDict:
    """Tensors by name, on the CPU. Safetensors by suffix; anything else through ``torch.load(weights_only=True)``.

    Training checkpoints are unpacked: their ``state_dict_ema``, ``model_ema``, ``state_dict`` or ``model`` entry, wrapper prefixes removed.

    Raises:
        ModelUnavailable: not a file of weights, or one that would run code.
    """
    from timm.models import clean_state_dict

    loaded = weights_file.read(file)
    if file.suffix == ".safetensors":
        found: StateDict = loaded
        return found
    if isinstance(loaded, dict):
        for key in ("state_dict_ema", "model_ema", "state_dict", "model"):
            if isinstance(loaded.get(key), dict):
                loaded = loaded[key]
                break
    return dict(clean_state_dict(weights_file.tensors(loaded, file)))


def read_config(location: Location, architecture: str | None) -> dict[str, Any]:
    """The model's ``config.json`` in timm's hub format, or one made up from an architecture's name.

    Raises:
        ModelUnavailable: neither is there, or the file is not such a configuration.
    """
    if architecture is not None:
        return {"architecture": architecture, "pretrained_cfg": {}}
    if location.folder is None:
        raise ModelUnavailable(f"{location.name} has no {CONFIG} beside it that names its architecture; name it with --arch")
    file = location.folder / CONFIG
    try:
        config = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelUnavailable(f"{file} cannot be read ({first_line(error)}); name another model") from error
    if not isinstance(config, dict) or not isinstance(config.get("architecture"), str):
        raise ModelUnavailable(f"{file} names no timm architecture, so {location.name} is not a timm model; name another")
    for key in ("pretrained_cfg", "model_args"):
        if not isinstance(config.get(key, {}), dict):
            raise ModelUnavailable(f"{file} is not as timm writes it ({key} is no object); name another model")
    return config


def build(config: dict[str, Any], weights: StateDict, name: str) -> nn.Module:
    """The model with its weights, on the CPU, in evaluation mode, ``pretrained_cfg`` set from the configuration.

    Built on the ``meta`` device and assigned, which leaves out initialising weights that are overwritten at once. Checkpoints of
    another layout, and models with buffers that are computed and not stored, take timm's own loading.

    Raises:
        ModelUnavailable: timm does not know the architecture, or the weights do not fit it.
    """
    import timm

    architecture = config["architecture"]
    overlay = {
        key: value for key, value in config.get("pretrained_cfg", {}).items() if key not in ("architecture", "file", "url", "source")
    }
    overlay |= {key: config[key] for key in ("num_classes", "label_names", "label_descriptions") if key in config}
    arguments = dict(config.get("model_args", {}))
    # A configuration made up from a name says nothing of the classes: the classifier's own shape does.
    overlay.setdefault("num_classes", _count_classes(architecture, weights))
    arguments.setdefault("num_classes", overlay["num_classes"])
    if not timm.is_model(architecture):
        raise ModelUnavailable(f"timm {timm.__version__} has no architecture {architecture}; upgrade timm or name another model")
    model = _build_on_meta(architecture, overlay, arguments, weights)
    if model is not None:
        return model
    try:
        model = timm.create_model(architecture, pretrained=True, pretrained_cfg_overlay={**overlay, "state_dict": weights}, **arguments)
    except (RuntimeError, KeyError, TypeError, ValueError, AssertionError) as error:
        message = f"the weights of {name} do not fit {architecture} ({first_line(error)[:200]}); name another model or --arch"
        raise ModelUnavailable(message) from error
    pretrained_cfg: Any = model.pretrained_cfg
    pretrained_cfg.pop("state_dict", None)  # the weights are in the model now
    return model.eval()


def _build_on_meta(architecture: str, overlay: dict[str, Any], arguments: dict[str, Any], weights: StateDict) -> nn.Module | None:
    """The model if it can be built without its initialisation and every tensor of it, name and shape, is among the weights; else None."""
    import timm

    try:
        with torch.device("meta"):
            model: nn.Module = timm.create_model(architecture, pretrained=False, pretrained_cfg_overlay=overlay, **arguments)
    except (RuntimeError, NotImplementedError, TypeError, ValueError, AssertionError):
        return None  # some architectures compute with values while they are built; what is truly wrong shows in timm's own loading
    wanted = {name: tensor.shape for name, tensor in model.state_dict().items()}
    if {name: tensor.shape for name, tensor in weights.items()} != wanted:
        return None
    model.load_state_dict(weights, assign=True)
    return None if any(tensor.is_meta for tensor in (*model.parameters(), *model.buffers())) else model.eval()


def _count_classes(architecture: str, weights: StateDict) -> int:
    import timm

    classifier = (timm.get_pretrained_cfg_value(architecture, "classifier") or "head") if timm.is_model(architecture) else "head"
    first = classifier if isinstance(classifier, str) else classifier[0]
    weight = weights.get(f"{first}.weight")
    return 1000 if weight is None else int(weight.shape[0])
