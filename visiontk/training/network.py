"""The network that is trained: a timm architecture anew, or a trained model, mostly with a new head, perhaps at a new resolution."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from visiontk.adapters.classify import locate
from visiontk.adapters.classify_weights import read_config, read_weights
from visiontk.adapters.labels import labels_of
from visiontk.errors import ModelUnavailable, UsageError, first_line

from .pictures import DataConfig
from .plan import Plan

_FAULTS = (RuntimeError, KeyError, TypeError, ValueError, AssertionError)
_OF_OTHER_WEIGHTS = ("tag", "license", "origin_url", "paper_ids", "paper_name", "description", "notes", "hf_hub_id")


def make_network(plan: Plan, classes: Sequence[str]) -> nn.Module:
    """The network that a plan asks for, on the CPU, with an output for each of ``classes``.

    Raises:
        ModelUnavailable: there is no such model or architecture.
        UsageError: the architecture does not take the arguments or the size, or pictures of three channels; with ``same_classes``, the
            model's are others.
    """
    from timm.models import get_model_input_config

    arguments = parse_arguments(plan.arch_args)
    network = new(plan.from_scratch, len(classes), plan.size, arguments) if plan.from_scratch else transfer(plan, classes, arguments)
    if get_model_input_config(network)["input_size"][0] != 3:
        raise UsageError(f"{plan.from_scratch or plan.model} takes no RGB pictures; leave in_chans at 3, or name another model")
    return network


def new(architecture: str, classes: int, size: int | None, arguments: dict[str, Any]) -> nn.Module:
    """A timm architecture with random weights."""
    import timm

    if not timm.is_model(architecture):
        raise ModelUnavailable(f"timm {timm.__version__} has no architecture {architecture}; `timm.list_models()` lists them")
    arguments = {**_size_arguments(architecture, size or arguments.get("img_size")), **arguments}
    try:
        network = timm.create_model(architecture, pretrained=False, num_classes=classes, **arguments)
    except _FAULTS as error:
        raise UsageError(f"{architecture} cannot be built so ({first_line(error)}); change --arch-args or --size") from error
    _set_size(network, size or arguments.get("img_size"))
    pretrained_cfg: Any = network.pretrained_cfg
    for name in _OF_OTHER_WEIGHTS:  # they speak of weights that this network never had
        pretrained_cfg.pop(name, None)
    return network


def transfer(plan: Plan, classes: Sequence[str], arguments: dict[str, Any]) -> nn.Module:
    """A trained model with a zero-initialised head (ViT paper, section 3.2), or with its own where the classes are the same.

    At another size timm resamples the position embeddings.
    """
    import timm

    assert plan.model is not None
    location = locate(plan.model)
    config, weights = read_config(location, None), read_weights(location.weights)
    architecture = config["architecture"]
    if not timm.is_model(architecture):
        raise ModelUnavailable(f"timm {timm.__version__} has no architecture {architecture}; upgrade timm or name another model")
    before = config.get("num_classes", config.get("pretrained_cfg", {}).get("num_classes", 1000))
    overlay = {key: value for key, value in config.get("pretrained_cfg", {}).items() if key not in ("file", "url", "source")}
    overlay |= {"num_classes": before, "state_dict": weights}
    if plan.same_classes and labels_of({**overlay, **config}, before) != list(classes):
        raise UsageError(
            f"{plan.model} knows other classes than {plan.data} has, or in another order; name another model, or leave out --same-classes"
        )
    own: dict[str, Any] = {**config.get("model_args", {}), **_size_arguments(architecture, plan.size), **arguments}
    own["num_classes"] = len(classes)
    try:
        network = timm.create_model(architecture, pretrained=True, pretrained_cfg_overlay=overlay, **own)
    except _FAULTS as error:
        message = f"{plan.model} cannot be built so ({first_line(error)}); change --size or --arch-args, or name another model"
        raise UsageError(message) from error
    pretrained_cfg: Any = network.pretrained_cfg
    for name in ("state_dict", "label_names", "label_descriptions"):
        pretrained_cfg.pop(name, None)
    if not plan.same_classes:
        zero_head(network)
    _set_size(network, plan.size)
    return network


def zero_head(network: nn.Module) -> None:
    """All zeros: every class is as likely as every other, and the first step moves the head alone."""
    with torch.no_grad():
        for parameter in head(network).parameters():
            parameter.zero_()


def head(network: nn.Module) -> nn.Module:
    """The last layer, from pooled features to logits. Raises UsageError for a network that ends otherwise."""
    last = network.get_classifier()  # type: ignore[operator]
    if not isinstance(last, nn.Linear | nn.Conv2d):
        raise UsageError(f"this architecture ends in {type(last).__name__} and not in one linear layer; name another model")
    return last


def data_config(network: nn.Module) -> DataConfig:
    """How pictures are prepared for it."""
    from timm.data import resolve_data_config

    config: DataConfig = resolve_data_config(model=network)
    return config


def parse_arguments(text: str) -> dict[str, Any]:
    """``img_size=64,global_pool=avg`` to typed values; a bare word is a string.

    >>> parse_arguments("depth=6,mlp_ratio=2.5,global_pool=avg,img_size=(64, 64)")
    {'depth': 6, 'mlp_ratio': 2.5, 'global_pool': 'avg', 'img_size': (64, 64)}
    """
    try:
        call = ast.parse(f"f({text})", mode="eval").body
        assert isinstance(call, ast.Call) and not call.args and all(word.arg for word in call.keywords)
        return {
            str(word.arg): word.value.id if isinstance(word.value, ast.Name) else ast.literal_eval(word.value) for word in call.keywords
        }
    except (SyntaxError, ValueError, AssertionError) as error:
        raise UsageError(f"--arch-args {text} cannot be read; write it as img_size=64,patch_size=8") from error


def _size_arguments(architecture: str, size: int | None) -> dict[str, Any]:
    """What tells an architecture with a fixed input size, such as a ViT, of another; the others take pictures of any size."""
    import timm

    fixed = timm.get_pretrained_cfg_value(architecture, "fixed_input_size")
    return {"img_size": size} if size and fixed else {}


def _set_size(network: nn.Module, size: int | tuple[int, int] | None) -> None:
    pretrained_cfg: Any = network.pretrained_cfg
    if size:
        sides = (size, size) if isinstance(size, int) else tuple(size)
        pretrained_cfg["input_size"] = (pretrained_cfg["input_size"][0], *sides)
    for name in ("test_input_size", "test_crop_pct"):
        pretrained_cfg.pop(name, None)
