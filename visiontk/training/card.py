"""The model card: what the weights are, how they were made, how good they are and how to repeat it."""

from __future__ import annotations

import platform
from importlib.metadata import version
from typing import Any

_PACKAGES = ("visiontk", "torch", "timm", "accelerate")
_SPLITS = {"val": "val: validation images", "held_out": "held_out: a style of drawing that no training image has"}


def card(facts: dict[str, Any]) -> str:
    """README.md of a model folder, with the front matter that the hub reads.

    Args:
        facts: ``name``, ``base`` (what was trained), ``parameters``, ``size``, ``dtype`` and ``weights_dtype``, ``command``, ``seed``,
            ``data`` (as the data set describes itself), ``method``, ``figures`` (by split), ``seconds``, ``device``, ``step``, ``steps``,
            ``unreadable``, ``curves`` (whether there is a picture of them), ``licence`` (a hub identifier).
    """
    data, figures = facts["data"], facts["figures"]
    rows = "\n".join(
        f"| {_SPLITS.get(name, name)} | {value['accuracy']:.4f} | {value['loss']:.4f} | {value['images']} |"
        for name, value in figures.items()
    )
    described = "\n".join(f"| {name.replace('_', ' ')} | {value} |" for name, value in data.items())
    versions = ", ".join(f"{name} {version(name)}" for name in _PACKAGES)
    skipped = f" {facts['unreadable']} images could not be read and were skipped." if facts["unreadable"] else ""
    curves = "\n![curves](curves.png)\n" if facts["curves"] else ""
    chosen = f"The weights are those of step {facts['step']} of {facts['steps']}, the best on the validation images, which chose them."
    chosen = f"\n{chosen}\n" if facts["curves"] else ""  # a probe has one result, and nothing to choose
    kind = f"{facts['base']}, {facts['parameters'] / 1e6:.2f} M parameters in {facts['weights_dtype']}"
    return f"""---
library_name: timm
license: {facts["licence"]}
pipeline_tag: image-classification
tags: [image-classification, timm, visiontk]
---
# {facts["name"]}

{kind}, {facts["size"]} pixels, {data["classes"]} classes.

    visiontk classify IMAGES --model {facts["name"]}

timm reads this folder as well: `timm.create_model("local-dir:{facts["name"]}", pretrained=True)`.

**How good.** Measured on the weights in this folder, as `visiontk classify --dtype {facts["dtype"]}` runs them:

| split | top-1 accuracy | cross-entropy | images |
|---|---|---|---|
{rows}
{chosen}
**How it was made.** {facts["method"]}

    {facts["command"]}

Seed {facts["seed"]}; {_duration(facts["seconds"])} on {facts["device"]}.{skipped}
{versions}, Python {platform.python_version()}.

**Data.**

| | |
|---|---|
{described}
{curves}"""


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} seconds" if seconds < 120 else f"{seconds / 60:.0f} minutes"
