"""Image classification with timm's models: any architecture, from the catalog, the hub, a folder or a file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor, nn

from visiontk import catalog
from visiontk.errors import DeviceError, ItemError, ModelUnavailable, OutOfMemory, UsageError, first_line
from visiontk.media.images import crop_extreme
from visiontk.runtime import Runtime, Started, memory_errors

from .classify_weights import build, read_config, read_weights
from .labels import labels_of, read_labels
from .weights_file import sha256

Views = np.ndarray[Any, np.dtype[np.uint8]]
Array = np.ndarray[Any, np.dtype[np.float32]]
Tta = Literal["flip", "five-crop"]


@dataclass(frozen=True)
class Label:
    """One answer. ``score`` is the softmax probability in [0, 1]; ``index`` is the model's output."""

    label: str
    index: int
    score: float


@dataclass(frozen=True)
class Classification:
    """What the model says of one image, best label first.

    Attributes:
        labels: at most ``top_k`` of them, all with a score of at least ``threshold``.
        logits: float32 (classes,); the mean over the views with test-time augmentation.
        embedding: float32 (features,), the pooled features before the classifier; the mean over the views.
    """

    labels: list[Label]
    logits: Array
    embedding: Array


class Classifier:
    """A timm model with its own preprocessing and labels. `visiontk.load("classify", ...)` makes one.

    Attributes:
        name: catalog name, hub id or local path.
        revision: the hub's commit, or the sha256 of the weights.
        labels: one name for each output.
        warning: what the user should know about the choice of model, or None.
    """

    def __init__(
        self,
        model: nn.Module,
        runtime: Started,
        *,
        name: str,
        revision: str,
        labels: Sequence[str],
        warning: str | None = None,
        tta: Tta | None = None,
    ) -> None:
        from timm.data import create_transform, resolve_data_config

        self.name, self.revision, self.labels, self.warning, self.tta = name, revision, list(labels), warning, tta
        self.runtime = runtime
        try:
            self.data_config: dict[str, Any] = resolve_data_config(model=model, use_test_size=True)
            # The prefetcher's form of the transform ends in uint8: normalising happens on the device, once per batch.
            self._transform = create_transform(**self.data_config, is_training=False, use_prefetcher=True)
            mean, std = (torch.tensor(self.data_config[key], dtype=torch.float32) for key in ("mean", "std"))
        except (TypeError, ValueError, KeyError, AssertionError) as error:
            raise ModelUnavailable(f"the data config of {name} makes no sense ({first_line(error)}); mend its config.json") from error
        channels, *size = self.data_config["input_size"]
        if channels not in (1, 3):
            raise UsageError(f"{name} takes images of {channels} channels, and pictures have 3 or 1; name another model")
        self._size: tuple[int, int] = (size[0], size[1])
        self._mode = "RGB" if channels == 3 else "L"
        self._resize = self._transform.transforms[0]
        shape = (1, channels, 1, 1)
        self._mean, self._std = (numbers.to(runtime.device).view(shape) * 255 for numbers in (mean, std))
        self.model = model.to(runtime.device, runtime.dtype)
        self._forward: Any = torch.compile(self._both) if runtime.compile else self._both
        self._fitting = self.batch_size  # images to which batches are padded for a compiled model

    @property
    def batch_size(self) -> int:
        """Images per forward pass: what was asked for, else what suits the device."""
        return self.runtime.batch_size or {"cuda": 64, "mps": 16}.get(self.runtime.device.type, 8)

    @property
    def min_side(self) -> int:
        """JPEGs may be decoded down to this shorter side, in pixels: thrice what the resize asks for, so that scores agree within 0.02."""
        return min_side(self.data_config)

    def prepare(self, image: Image) -> Views:
        """Preprocess one RGB image as the model's data config says: uint8 (views, channels, height, width).

        One view, or two with ``flip`` (the image and its mirror), or five with ``five-crop`` (corners and centre). Safe on any thread.
        """
        if self.data_config["crop_mode"] == "center":
            image = crop_extreme(image)
        image = image if self._mode == "RGB" else image.convert(self._mode)
        if self.tta == "five-crop":
            return np.stack([np.asarray(_channels_first(view)) for view in self._five_crops(image)])
        view = np.asarray(self._transform(image), dtype=np.uint8)[None]
        return np.concatenate([view, view[..., ::-1]]) if self.tta == "flip" else view

    def whole(self, image: Image) -> Views:
        """As `prepare`, but all of the picture at the network's size, which loses its aspect; one view."""
        from torchvision.transforms.functional import resize

        return _channels_first(resize(image.convert(self._mode), list(self._size), self._interpolation))[None]

    @property
    def _interpolation(self) -> Any:
        """How pictures are resized; the first way, where the model was trained with several."""
        mode = self._resize.interpolation
        return mode[0] if isinstance(mode, tuple) else mode

    def predict(self, images: Sequence[Image], *, top_k: int = 5, threshold: float = 0.0) -> list[Classification]:
        """Classify RGB images in one batch.

        Raises:
            ItemError: ``not_finite``, the model gave NaN or infinity for an image.
            OutOfMemory: the batch does not fit the device.
        """
        results = self.predict_prepared([self.prepare(image) for image in images], top_k=top_k, threshold=threshold)
        for result in results:
            if isinstance(result, ItemError):
                raise result
        return [result for result in results if not isinstance(result, ItemError)]

    def predict_prepared(self, batch: Sequence[Views], *, top_k: int = 5, threshold: float = 0.0) -> list[Classification | ItemError]:
        """Classify what `prepare` gave, one answer for each, in order; an `ItemError` where the model gave no finite numbers."""
        while True:
            try:
                with memory_errors(), torch.inference_mode():
                    logits, features = self.forward(self.normalise(batch))
                break
            except OutOfMemory:
                # What is compiled is padded, so fewer images than that are no reason to give up.
                if not self.runtime.compile or self._fitting == 1:
                    raise
                self._fitting = (self._fitting + 1) // 2
        with memory_errors(), torch.inference_mode():
            per_item = logits.view(len(batch), -1, logits.shape[-1])
            # Krizhevsky et al. 2012, section 4.1: the mean of the views' softmax outputs.
            scores, order = per_item.softmax(-1).mean(1).topk(min(top_k, logits.shape[-1]))
            columns = (scores, order, per_item.mean(1), features.view(len(batch), -1, features.shape[-1]).mean(1))
            rows = zip(*(column.cpu().numpy() for column in columns), strict=True)
        return [self._classification(scores, order, logits, features, threshold) for scores, order, logits, features in rows]

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """From normalised pixels (N, channels, height, width) to logits (N, classes) and pooled features (N, features).

        Both are float32 and on the device. With compilation the batch is padded to one shape, so that the model is compiled once.
        """
        count = len(pixels)
        if self.runtime.compile:
            whole = self._fitting * {"flip": 2, "five-crop": 5}.get(self.tta or "", 1)
            padding = -count % whole
            pixels = torch.cat([pixels, pixels.new_zeros(padding, *pixels.shape[1:])]) if padding else pixels
        try:
            parts = [self._forward(part) for part in (torch.split(pixels, whole) if self.runtime.compile else [pixels])]
        except Exception as error:
            if self.runtime.compile and type(error).__module__.startswith("torch._"):
                raise DeviceError(f"torch.compile failed ({first_line(error)}); install a C++ compiler, or leave out --compile") from error
            raise
        logits, features = (torch.cat(tensors)[:count].float() for tensors in zip(*parts, strict=True))
        return logits, features

    def normalise(self, batch: Sequence[Views]) -> Tensor:
        """uint8 views to (N, channels, height, width) of the model's dtype on its device, mean and standard deviation applied."""
        pixels = torch.from_numpy(np.concatenate(list(batch))).to(self.runtime.device)
        return pixels.float().sub_(self._mean).div_(self._std).to(self.runtime.dtype)

    def check_attention(self, *, rollout: bool) -> None:
        """Raise UsageError, before any work, where attention cannot be read; ``rollout`` needs a class token besides."""
        from .attention import check_attention

        check_attention(self.model, class_token=rollout)

    def attention(self, batch: Sequence[Views], *, heads: bool = False) -> list[Array]:
        """Where the model looked, per item: float32 (rows, columns), attention rollout; or (heads, rows, columns), the last layer's heads.

        Each map sums to 1. The first view of an item counts.
        """
        from .attention import head_heatmaps, rollout_heatmap

        with memory_errors():
            pixels = self.normalise([views[:1] for views in batch])
            return list((head_heatmaps if heads else rollout_heatmap)(self.model, pixels).float().cpu().numpy())

    def seen(self, image: Image) -> Image:
        """The part of an image that the model looks at, in the image's own resolution."""
        mode = self.data_config["crop_mode"]
        if mode == "squash":
            return image
        if mode == "center" and self._size[0] == self._size[1]:
            # The shorter side is resized to `scale` and the middle `size` of it taken.
            side = min(1.0, self._size[0] / _shorter(self._resize.size)) * min(image.size)
            left, top = (image.width - side) / 2, (image.height - side) / 2
            return image.crop((round(left), round(top), round(left + side), round(top + side)))
        from PIL import Image as pillow

        return pillow.fromarray(self.prepare(image)[0].transpose(1, 2, 0).squeeze())

    def _both(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        model: Any = self.model
        maps = model.forward_features(pixels)
        return model.forward_head(maps), model.forward_head(maps, pre_logits=True)

    def _five_crops(self, image: Image) -> tuple[Image, ...]:
        from torchvision.transforms.functional import five_crop, resize

        # A model whose crop is the whole image has no corners: leave the usual margin of 1/8 around the crop.
        side = max(_shorter(self._resize.size), round(max(self._size) / 0.875))
        return tuple(five_crop(resize(image, [side], self._interpolation), list(self._size)))

    def _classification(
        self, scores: Array, order: np.ndarray[Any, np.dtype[np.int64]], logits: Array, features: Array, threshold: float
    ) -> Classification | ItemError:
        if not np.isfinite(logits).all():
            return ItemError("not_finite", f"{self.name} gave NaN or infinity in {self.runtime.dtype_name}; try --dtype fp32")
        pairs = ((int(index), min(1.0, float(score))) for index, score in zip(order, scores, strict=True))
        found = [Label(self.labels[index], index, float(f"{score:.6g}")) for index, score in pairs if score >= threshold]
        return Classification(found, logits, features)


def load(
    model: str | None = None,
    runtime: Runtime | None = None,
    *,
    architecture: str | None = None,
    labels: Path | None = None,
    tta: Tta | None = None,
) -> Classifier:
    """Find, read and build a classifier.

    Args:
        model: catalog name, timm name, hub id (``timm/...``, ``hf-hub:...``), folder or file; None for the recommended one, or the bundled
            one where that cannot be had.
        architecture: timm architecture for a weights file that has no ``config.json`` beside it.
        labels: a file of names for the classes, see `read_labels`.
        tta: test-time augmentation.

    Raises:
        ModelUnavailable, DeviceError, UsageError: see the messages.
    """
    location = catalog.locate_default("classify") if model is None else locate(model)
    started = (runtime or Runtime()).start()
    with ThreadPoolExecutor(1) as pool:
        revision = pool.submit(lambda: location.revision or sha256(location.weights))  # beside the building, which it takes as long as
        network = build(read_config(location, architecture), read_weights(location.weights), location.name)
    pretrained_cfg: dict[str, Any] = network.pretrained_cfg  # type: ignore[assignment]
    classes = int(network.num_classes)  # type: ignore[arg-type]
    if classes < 1:
        raise UsageError(f"{location.name} has no classes, only features; name a classification model")
    names = read_labels(labels, classes) if labels else labels_of(pretrained_cfg, classes)
    with memory_errors("choose a smaller model or --device cpu"):
        return Classifier(network, started, name=location.name, revision=revision.result(), labels=names, warning=location.warning, tta=tta)


def locate(model: str) -> catalog.Location:
    """The files of a model that was named: catalog name, path, hub id or timm name. Raises `ModelUnavailable`."""
    return catalog.locate("classify", model) or _locate_timm(model)


def min_side(data_config: dict[str, Any]) -> int:
    """How small a JPEG may be decoded for a timm data config, its shorter side in pixels; see `Classifier.min_side`."""
    side: int = max(data_config["input_size"][1:])
    return 3 * math.ceil(side / min(1.0, float(data_config["crop_pct"])))


def hub_id(model: str) -> str | None:
    """The hub id of a timm name's weights, ``architecture`` or ``architecture.tag``; None for what timm does not know.

    Raises:
        ModelUnavailable: timm knows it and has no weights.
    """
    import timm

    if not timm.is_model(model):
        return None
    try:
        pretrained_cfg = timm.get_pretrained_cfg(model, allow_unregistered=False)
    except RuntimeError:  # it has no such tag
        pretrained_cfg = None
    if pretrained_cfg is None or not pretrained_cfg.hf_hub_id:
        raise ModelUnavailable(f"timm knows {model} but has no weights of it on the hub; see `timm.list_pretrained()`")
    repo: str = pretrained_cfg.hf_hub_id
    return repo


def _locate_timm(model: str) -> catalog.Location:
    repo = hub_id(model)
    if repo is None:
        raise catalog.unknown(model, "classify")
    return replace(catalog.locate_hub(repo), name=model)


def _shorter(size: int | Sequence[int]) -> int:
    return size if isinstance(size, int) else min(size)


def _channels_first(view: Image) -> Views:
    pixels = np.asarray(view, dtype=np.uint8)
    return np.moveaxis(np.atleast_3d(pixels), -1, 0)
