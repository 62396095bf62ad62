"""4000x3000 JPEGs: how long they take on one thread, and whether decoding them smaller changes what the model says."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import torch
from PIL import Image

import visiontk
from visiontk.adapters.classify import Classification, Classifier, Views
from visiontk.media import images
from visiontk.runtime import Runtime

from . import material
from .report import Table, doing, middle, ratios, spread, target

Work = Callable[[str], object]


def speed(runtime: Runtime, count: int | None, rounds: int) -> Table:
    """Plain PIL against ours, both on this thread."""
    classifier = visiontk.load("classify", material.BUNDLED, runtime)
    smooth, grainy = material.large_photos()[:count], material.grainy_photos()[:count]
    rows = []
    for name, paths, prepares, least in (
        ("decode and preprocess", smooth, True, 4.0),
        ("decode to RGB alone", smooth, False, None),
        ("decode and preprocess, with a camera's grain", grainy, True, None),
        ("decode to RGB alone, with a camera's grain", grainy, False, None),
    ):
        doing(f"4000x3000 JPEGs, {name}: {len(paths)} images, {rounds} rounds")
        then: Callable[[Image.Image], object] = classifier.prepare if prepares else lambda image: image
        theirs, mine = [], []
        for _ in range(rounds):
            theirs.append(_milliseconds(lambda path, then=then: then(_plain(path)), paths))  # type: ignore[misc]
            mine.append(_milliseconds(lambda path, then=then: then(_ours(path, classifier)), paths))  # type: ignore[misc]
        found = ratios(theirs, mine)
        size = f"{sum(Path(path).stat().st_size for path in paths) / len(paths) / 1e6:.1f} MB"
        goal = "" if least is None else target(found, least=least)
        rows.append([f"{name} ({size})", middle(theirs), spread(theirs), middle(mine), spread(mine), f"{median(found):.1f} x", goal])
    columns = ["", "PIL, ms an image", "lowest to highest", "visiontk, ms an image", "lowest to highest", "times as fast", "target"]
    note = (
        f"{len(smooth)} images as the example photos give them, {len(grainy)} with a camera's grain; one thread, {rounds} rounds by turns."
    )
    return Table("Decoding 4000x3000 JPEGs", columns, rows, [note])


def agreement(runtime: Runtime, count: int | None) -> Table:
    """The bundled model's answers after the whole decode and after ours; beside them, what mere rounding does to them."""
    classifier, paths = visiontk.load("classify", material.BUNDLED, runtime), material.large_photos()[:count]
    doing(f"comparing predictions for {len(paths)} JPEGs of 4000x3000")
    whole = [classifier.prepare(_plain(path)) for path in paths]
    scaled = [classifier.prepare(_ours(path, classifier)) for path in paths]
    answers = [_scores(classifier, views) for views in whole]
    ours = _compare(answers, [_scores(classifier, views) for views in scaled])
    noise = np.random.default_rng(0)
    moved = [np.clip(views.astype(np.int16) + noise.integers(-1, 2, views.shape), 0, 255).astype(np.uint8) for views in whole]
    rounding = _compare(answers, [_scores(classifier, views) for views in moved])
    rows = [
        ["top-1 equal", f"{ours.equal} of {len(paths)}", target([ours.equal], least=len(paths)), f"{rounding.equal} of {len(paths)}"],
        ["largest difference of a score", f"{ours.largest:.4f}", target([ours.largest], most=0.02), f"{rounding.largest:.4f}"],
        ["median over the images of each one's largest", f"{ours.median:.4f}", "", f"{rounding.median:.4f}"],
    ]
    columns = ["", "visiontk's decode against PIL's", "target", "PIL's with each value moved by -1, 0 or 1"]
    return Table(f"Predictions after either decode, {material.BUNDLED}", columns, rows)


@dataclass(frozen=True)
class _Agreement:
    equal: int
    largest: float
    median: float


def _compare(answers: Sequence[torch.Tensor], others: Sequence[torch.Tensor]) -> _Agreement:
    pairs = list(zip(answers, others, strict=True))
    differences = [float((a - b).abs().max()) for a, b in pairs]
    return _Agreement(sum(int(a.argmax() == b.argmax()) for a, b in pairs), max(differences), median(differences))


def _plain(path: str) -> Image.Image:
    return Image.open(path).convert("RGB")


def _ours(path: str, classifier: Classifier) -> Image.Image:
    return images.decode(Path(path).read_bytes(), min_side=classifier.min_side)


def _milliseconds(work: Work, paths: Sequence[str]) -> float:
    begun = time.perf_counter()
    for path in paths:
        work(path)
    return (time.perf_counter() - begun) / len(paths) * 1000


def _scores(classifier: Classifier, views: Views) -> torch.Tensor:
    """All classes' scores: float32 (classes,)."""
    (found,) = classifier.predict_prepared([views])
    assert isinstance(found, Classification)
    return torch.from_numpy(found.logits).softmax(0)
