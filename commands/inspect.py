"""`visiontk inspect`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from enum import StrEnum
from importlib import resources
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from visiontk import settings
from visiontk.artefacts import Naming, write
from visiontk.errors import ItemError, UsageError
from visiontk.records import Item, Record

from . import options, running
from .console import say

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL.Image import Image
    from torch import Tensor

    from visiontk.adapters.classify import Classifier


class Part(StrEnum):
    filters = "filters"
    position = "position"
    distance = "distance"


def inspect(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="Catalog name, timm name, hub id or local path.",
            show_default=False,
            autocompletion=options.complete_classifiers,
        ),
    ],
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="INPUT",
            show_default=False,
            help="Images, videos, folders or globs for the attention distance; - for a pipe. Default: a dozen small photos of the package.",
        ),
    ] = None,
    figure: Annotated[
        list[Part] | None, typer.Option("--figure", help="Only this figure; repeatable. Default: all that the model has.")
    ] = None,
    images: Annotated[
        int, typer.Option("--images", metavar="N", min=1, help="Images that the attention distance is averaged over, at most.")
    ] = 32,
    arch: Annotated[
        str | None, typer.Option("--arch", metavar="NAME", help="timm architecture of a weights file without config.json.")
    ] = None,
    allow_urls: options.AllowUrls = False,
    out: options.Out = None,
    overwrite: options.Overwrite = False,
    device: options.Device = None,
    dtype: options.Dtype = None,
    threads: options.Threads = None,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> int:
    """Draw what a vision transformer has learned.

    The ViT paper's Figure 7, as pictures and as arrays.
    filters: principal components of the patch-embedding filters. position: similarity of the position embeddings.
    distance: mean attention distance of each head by depth, over the images that are given, or small photos that come with the package.

    \b
    visiontk inspect vit-base                             all three, into visiontk-out/
    visiontk inspect vit-base photos/                     the attention distance over your own images
    visiontk inspect vit-base --figure filters -o figures/
    visiontk inspect ./my-model photos/ | jq .inspect
    """
    if out == "-":
        raise UsageError("there are several files to write, and -o - has room for one; name a folder with -o")
    naming = Naming(out, overwrite)
    in_force = settings.read()
    runtime = options.runtime(in_force, device, dtype, threads=threads)

    from visiontk.adapters.classify import load
    from visiontk.adapters.vit_figures import available_figures

    classifier = load(model, runtime, architecture=arch)
    reasons = available_figures(classifier.model)
    for part in figure or []:
        if reason := reasons[part.value]:
            raise UsageError(reason)
    parts = figure or [part for part in Part if reasons[part.value] is None]
    if not parts:
        raise UsageError(f"{classifier.name} has none of the figures; {reasons['filters']}")
    for part in Part:
        if not figure and not quiet and part not in parts:
            say(f"left out {part.value}: {reasons[part.value]}", "warning")

    if inputs and Part.distance not in parts:
        raise UsageError("images are for the attention distance, which is not drawn; leave them out, or add --figure distance")

    stem: Record = {"path": Path(classifier.name).name}
    # All names and the first image before anything is drawn, which takes longer than finding out that it was in vain.
    paths = {part: [_free(naming, stem, part, suffix) for suffix in (".png", ".npy")] for part in parts}
    seen = _Images(classifier, inputs, images, allow_urls=allow_urls, quiet=quiet) if Part.distance in parts else None
    result: Record = {}
    for part in parts:
        drawing, array = _draw(part, classifier, seen)
        picture, numbers = paths[part]
        _save(drawing, array, picture, numbers)
        result[part.value] = {"picture": str(picture), "array": str(numbers)}
        if part is Part.distance and seen:
            result[part.value]["images"] = seen.count
    if sys.stdout.isatty():
        for name, files in result.items():
            sys.stdout.write(f"{name:<10} {files['picture']}  {files['array']}\n")
    else:
        sys.stdout.write(json.dumps({"model": classifier.name, "revision": classifier.revision, "inspect": result}) + "\n")
    return 0


class _Images:
    """The first images that can be read, prepared for the model; ``count`` says how many there were when they have been gone through.

    Raises:
        UsageError: there is none. The first is read at once.
    """

    def __init__(self, classifier: Classifier, inputs: list[str] | None, most: int, *, allow_urls: bool, quiet: bool) -> None:
        from visiontk import sources

        self.count = 0
        if not inputs and not quiet:
            say("no images are named, so the attention distance is averaged over small photos that come with the package")
        names, pipe = running.inputs_or_pipe(inputs or [_photos()])
        reading = sources.Reading(classifier.min_side, allow_urls=allow_urls)
        self._images = islice(_readable(sources.from_arguments(names, pipe, reading)), most)
        first = next(self._images, None)
        if first is None:
            raise UsageError("none of the inputs is an image that can be read; name some")
        self._first = first

    def __iter__(self) -> Iterator[Image]:
        for image in chain([self._first], self._images):
            self.count += 1
            yield image


def _photos() -> str:
    """The folder with the pieces of photos that are backgrounds of the tiny world."""
    return str(resources.files("visiontk").joinpath("tiny", "backgrounds"))


def _draw(part: Part, classifier: Classifier, images: _Images | None) -> tuple[Figure, Tensor]:
    from visiontk.adapters import vit_figures, vit_plots

    if part is Part.filters:
        components = vit_figures.patch_filter_components(classifier.model)
        return vit_plots.plot_filters(components, classifier.name), components.images
    if part is Part.position:
        similarity = vit_figures.position_similarity(classifier.model)
        return vit_plots.plot_position_similarity(similarity, classifier.name), similarity
    distances, uniform = _distances(classifier, images or ())
    return vit_plots.plot_attention_distance(distances, classifier.name, uniform=uniform), distances


def _distances(classifier: Classifier, images: Iterable[Image]) -> tuple[Tensor, float]:
    """Mean attention distance over images, one at least: (layers, heads) in pixels, and that of uniform attention."""
    import torch

    from visiontk.adapters import attention, vit_figures

    total: list[Tensor] = []
    for image in images:
        pixels = classifier.normalise([classifier.prepare(image)])
        grid = attention.patch_grid(classifier.model, pixels.shape[2], pixels.shape[3])
        stride = attention.patch_stride(classifier.model)
        total.append(vit_figures.mean_attention_distance(attention.attention_maps(classifier.model, pixels), grid, stride))
    return torch.stack(total).mean(0), vit_figures.uniform_attention_distance(grid, stride)


def _readable(items: Iterable[Item[Image]]) -> Iterator[Image]:
    for item in items:
        try:
            if item.load is not None:
                yield item.load()
        except ItemError as error:
            say(f"{item.where}: {error.message}", "warning")


def _free(naming: Naming, stem: Record, part: Part, suffix: str) -> Path:
    try:
        return naming.path(stem, 0, part.value, suffix)
    except ItemError as error:
        raise UsageError(error.message) from error


def _save(drawing: Figure, array: Tensor, picture: Path, numbers: Path) -> None:
    import numpy as np

    write(picture, lambda file: drawing.savefig(file, format="png"))
    write(numbers, lambda file: np.save(file, array.cpu().numpy()))
