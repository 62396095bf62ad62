"""What a classifier's outputs are called."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from visiontk.errors import UsageError


def read_labels(file: Path, count: int) -> list[str]:
    """Names from a file: one a line, or a JSON list, or a JSON object from index to name.

    Raises:
        UsageError: the file cannot be read, or does not name exactly ``count`` classes.
    """
    try:
        text = file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"the labels {file} cannot be read ({error}); name a text or JSON file") from error
    is_json = text.lstrip().startswith(("[", "{"))
    names = _parse_json(text, file) if is_json else [line.strip() for line in text.splitlines() if line.strip()]
    if len(names) != count:
        raise UsageError(f"the labels {file} name {len(names)} classes and the model has {count}; give one label for each")
    return names


def labels_of(pretrained_cfg: Mapping[str, Any], count: int) -> list[str]:
    """The model's own names: from its configuration, else from timm's ImageNet lists by the number of classes, else ``class N``."""
    names = pretrained_cfg.get("label_names")
    if isinstance(names, Mapping):
        names = [names.get(str(index), f"class {index}") for index in range(count)]
    if names and len(names) == count:
        described = pretrained_cfg.get("label_descriptions") or {}
        return [str(described.get(name, name)) for name in names]
    return _imagenet_labels(count) or [f"class {index}" for index in range(count)]


def _imagenet_labels(count: int) -> list[str] | None:
    from timm.data import ImageNetInfo, infer_imagenet_subset

    subset = infer_imagenet_subset({"num_classes": count})
    return list(ImageNetInfo(subset).label_descriptions()) if subset else None


def _parse_json(text: str, file: Path) -> list[str]:
    try:
        value = json.loads(text)
        if isinstance(value, dict):
            return [str(value[str(index)]) for index in range(len(value))]
    except (ValueError, KeyError) as error:
        raise UsageError(f'the labels {file} are not a JSON list or an object from "0", "1", ... to names; mend the file') from error
    return [str(name) for name in value]
