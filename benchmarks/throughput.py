"""Images a second: the bare model, our whole path, and the same job as timm and transformers document it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from pathlib import Path
from statistics import median
from typing import TypeVar

import torch
from PIL import Image
from torch import Tensor

import visiontk
from visiontk import sources, stream
from visiontk.adapters.classify import Classification, Classifier
from visiontk.records import encode
from visiontk.runtime import Runtime, Started, multiplies_bf16_fast

from . import material
from .report import Table, doing, middle, ratios, spread, target

T = TypeVar("T")
Contender = Callable[[Sequence[str]], None]  # takes paths, and is done when every answer is there
BARE = "bare forward loop, tensors ready"
OURS = "visiontk, files to JSON lines"
PLAIN = "timm's transform in a plain PIL loop"
PLAIN_FP32 = "the same loop in fp32"
PIPELINE = "transformers' pipeline"
READY_BATCHES = 4


def large(runtime: Runtime, images: int | None, rounds: int) -> Table:
    """ViT-B/16, where the model is nearly all of the work."""
    return _measure("ViT-B/16", str(material.model_folder("vit_base_patch16_224")), runtime, images, rounds)


def small(runtime: Runtime, images: int | None, rounds: int) -> Table:
    """The bundled EfficientNet-Lite0, where reading and preprocessing count."""
    return _measure("EfficientNet-Lite0", material.BUNDLED, runtime, images, rounds)


def _measure(title: str, model: str, runtime: Runtime, images: int | None, rounds: int) -> Table:
    photos = material.photos()
    classifier = visiontk.load("classify", model, runtime)
    started = classifier.runtime
    if images is None:
        images = len(photos) if started.device.type != "cpu" else 48 if model != material.BUNDLED else 240
    paths = photos[:images]
    contenders = _contenders(classifier, runtime, transformers=model != material.BUNDLED, paths=paths)
    doing(f"throughput of {title}: {len(contenders)} ways, {rounds} rounds of {len(paths)} images")
    for contender in contenders.values():
        contender(paths[: classifier.batch_size])
    seconds = _interleaved(contenders, paths, rounds)
    rates = {name: [len(paths) / taken for taken in all_taken] for name, all_taken in seconds.items()}
    return Table(
        f"Throughput, {title}, {started.dtype_name} on {started.device.type}, batches of {classifier.batch_size}",
        ["", "images/s", "lowest to highest", "visiontk against it", "target"],
        [_row(name, rates, is_large=model != material.BUNDLED, device=started.device.type) for name in contenders],
        [
            f"{len(paths)} JPEGs of 500x375 a round, {rounds} rounds, the ways by turns; medians of the rounds and of their ratios.",
            *_dtype_note(runtime, started),
        ],
    )


def _row(name: str, rates: dict[str, list[float]], *, is_large: bool, device: str) -> list[str]:
    found = ratios(rates[OURS], rates[name])
    goal = ""
    if name == BARE and is_large:
        goal = target(found, least=0.95)
    elif name == PLAIN_FP32 and is_large and device == "cpu":
        goal = target(found, least=2.5)
    return [name, middle(rates[name]), spread(rates[name]), "" if name == OURS else f"{median(found):.2f} x", goal]


def _dtype_note(runtime: Runtime, started: Started) -> list[str]:
    if started.device.type != "cpu" or runtime.dtype != "auto" or multiplies_bf16_fast(started.device):
        return []
    return [
        "The target of 2.5 times the plain fp32 loop is for CPUs that multiply bf16 fast. "
        "This one does not, so `--dtype auto` is fp32, and the plain loop's row is that loop."
    ]


def _contenders(classifier: Classifier, runtime: Runtime, *, transformers: bool, paths: Sequence[str]) -> dict[str, Contender]:
    found = {BARE: _bare(classifier, paths), OURS: _ours(classifier, runtime), PLAIN: _plain(classifier, classifier.runtime.dtype)}
    if classifier.runtime.dtype != torch.float32:
        found[PLAIN_FP32] = _plain(classifier, torch.float32)
    if transformers:
        found[PIPELINE] = _pipeline(classifier)
    return found


def _interleaved(contenders: dict[str, Contender], paths: Sequence[str], rounds: int) -> dict[str, list[float]]:
    """Seconds per round. By turns, A B C A B C, so that a machine that is slow for a while is slow for all."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, contender in contenders.items():
            begun = time.perf_counter()
            contender(paths)
            seconds[name].append(time.perf_counter() - begun)
    return seconds


def _bare(classifier: Classifier, paths: Sequence[str]) -> Contender:
    """The model's forward pass and nothing else, over a few batches that lie on the device."""
    size = classifier.batch_size
    prepared = [classifier.prepare(Image.open(path).convert("RGB")) for path in paths[: size * READY_BATCHES]]
    ready = [classifier.normalise(batch) for batch in _batches(prepared, size)]

    def contender(paths: Sequence[str]) -> None:
        with torch.inference_mode():
            for number, batch in enumerate(_batches(paths, size)):
                last = classifier.model(ready[number % len(ready)][: len(batch)])
            last.cpu()

    return contender


def _ours(classifier: Classifier, runtime: Runtime) -> Contender:
    """What `visiontk classify` does between loading the model and exiting."""
    reading = sources.Reading(min_side=classifier.min_side)

    def value(outcome: stream.Outcome[Classification]) -> dict[str, object]:
        if outcome.result is None:
            raise RuntimeError(f"{outcome.item.where} failed: {outcome.error}")
        labels = [vars(label) for label in outcome.result.labels]
        return {"model": classifier.name, "revision": classifier.revision, "labels": labels, "seconds": round(outcome.seconds, 6)}

    def contender(paths: Sequence[str]) -> None:
        items = sources.from_arguments(paths, None, reading)
        workers = runtime.decode_workers()
        outcomes = stream.run(items, classifier.prepare, classifier.predict_prepared, batch_size=classifier.batch_size, workers=workers)
        with Path(os.devnull).open("wb", buffering=0) as out:
            for outcome in outcomes:
                out.write(encode({**outcome.item.record, "classify": value(outcome)}))

    return contender


def _plain(classifier: Classifier, dtype: torch.dtype) -> Contender:
    """timm's documented way, https://huggingface.co/docs/timm/quickstart, with batches: open, transform, stack, forward, top-k."""
    import timm

    started = classifier.runtime
    model = classifier.model if dtype == started.dtype else deepcopy(classifier.model).to(dtype)
    transform = timm.data.create_transform(**timm.data.resolve_data_config(model=model, use_test_size=True), is_training=False)

    def answer(batch: list[Tensor]) -> None:
        logits = model(torch.stack(batch).to(started.device, dtype))
        scores, indices = logits.softmax(-1).topk(5)
        scores.tolist(), indices.tolist()

    def contender(paths: Sequence[str]) -> None:
        with torch.inference_mode():
            for names in _batches(paths, classifier.batch_size):
                answer([transform(Image.open(name).convert("RGB")) for name in names])

    return contender


def _pipeline(classifier: Classifier) -> Contender:
    """transformers' image-classification pipeline, the same architecture and batch size."""
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor, pipeline

    started = classifier.runtime
    torch.manual_seed(0)
    model = ViTForImageClassification(ViTConfig(num_labels=len(classifier.labels))).to(started.dtype).eval()
    classify = pipeline("image-classification", model=model, image_processor=ViTImageProcessor(), device=started.device)

    def contender(paths: Sequence[str]) -> None:
        answers = classify(list(paths), batch_size=classifier.batch_size, top_k=5)
        assert len(answers) == len(paths)

    return contender


def _batches(things: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(things), size):
        yield things[start : start + size]
