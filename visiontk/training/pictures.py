"""Pictures in batches: the interface between a data set and the loop, image files behind it, and the order of training."""

from __future__ import annotations

import functools
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from visiontk.adapters.classify import min_side
from visiontk.errors import ItemError
from visiontk.media.images import crop_extreme, decode

from .chance import derive, seeded
from .examples import Example, Examples

Key = tuple[int, int]  # epoch and index
_GRACE_S = 20
DataConfig = dict[str, Any]  # timm's: input_size, mean, std, interpolation, crop_pct, crop_mode


class Batch(NamedTuple):
    """Some pictures: uint8 (B, 3, S, S) and int64 (B), and why others could not be read, one line each."""

    images: Tensor
    labels: Tensor
    unreadable: list[str]


class Pictures(Protocol):
    """One split of a data set. A picture is a pure function of its key and of nothing that happened before."""

    def __len__(self) -> int: ...

    def batch(self, keys: Sequence[Key]) -> Batch: ...


class Source(Protocol):
    """A data set: its classes, the names of the splits it is measured on (``val`` first), and the splits."""

    classes: list[str]
    measured: list[str]
    crop_pct: float | None  # where the pictures are to be seen whole, whatever the model was trained for
    warnings: Sequence[str]  # what should be known of the data before it is trained on

    def describe(self) -> dict[str, Any]: ...

    def pictures(self, split: str, config: DataConfig, *, augment: str, seed: int) -> Pictures: ...


class Files:
    """A `Source` of image files."""

    measured: list[str]
    crop_pct: float | None = None

    def __init__(self, name: str, examples: Examples) -> None:
        self.name, self.examples, self.classes, self.measured = name, examples, examples.classes, ["val"]
        self.warnings: Sequence[str] = examples.warnings

    def describe(self) -> dict[str, Any]:
        sizes = {"train": len(self.examples.train), "val": len(self.examples.val)}
        return {
            "data": self.name,
            "classes": len(self.classes),
            **sizes,
            "split": self.examples.origin,
            "hash": self.examples.fingerprint(),
        }

    def pictures(self, split: str, config: DataConfig, *, augment: str, seed: int) -> Pictures:
        examples = self.examples.train if split == "train" else self.examples.val
        if augment == "none":
            return FilePictures(examples, eval_transform(config), min_side(config))
        # A random crop is enlarged to the whole's size, so it needs more pixels to start from.
        return FilePictures(examples, train_transform(config, augment), 3 * min_side(config) // 2, seed)


class FilePictures:
    """Image files through a transform. With a ``seed``, for training: an unreadable file is replaced by the next one that can be read."""

    def __init__(self, examples: Sequence[Example], transform: Callable[[Any], Any], min_side: int, seed: int | None = None) -> None:
        self._examples, self._transform, self._min_side, self._seed = examples, transform, min_side, seed

    def __len__(self) -> int:
        return len(self._examples)

    def batch(self, keys: Sequence[Key]) -> Batch:
        unreadable: list[str] = []
        found = [loaded for key in keys if (loaded := self._load(key, unreadable)) is not None]
        images = np.stack([image for image, _ in found]) if found else np.zeros((0, 3, 1, 1), np.uint8)
        return Batch(torch.from_numpy(images), torch.tensor([label for _, label in found], dtype=torch.long), unreadable)

    def _load(self, key: Key, unreadable: list[str]) -> tuple[np.ndarray[Any, np.dtype[np.uint8]], int] | None:
        epoch, index = key
        for step in range(len(self) if self._seed is not None else 1):
            path, label = self._examples[(index + step) % len(self)]
            try:
                image = crop_extreme(decode(Path(path).read_bytes(), min_side=self._min_side))
            except (ItemError, OSError) as error:
                unreadable.append(f"{path}: {getattr(error, 'strerror', None) or error}")
                continue
            with seeded(derive(self._seed or 0, "item", epoch, index)):
                return np.asarray(self._transform(image), dtype=np.uint8), label
        return None


class StepOrder:
    """A batch sampler: the keys of each pass from step ``start`` on. The order is a function of the seed and the step alone.

    Epochs follow each other without a gap, each in its own random order, so every batch is full.
    """

    drop_last = False

    def __init__(self, count: int, batch: int, accumulate: int, seed: int, start: int, stop: int) -> None:
        self.batch_size = batch // accumulate
        self._count, self._batch, self._seed, self._steps = count, batch, seed, range(start, stop)
        self._order = functools.lru_cache(maxsize=2)(self._shuffle)

    def __len__(self) -> int:
        return len(self._steps) * (self._batch // self.batch_size)

    def __iter__(self) -> Iterator[list[Key]]:
        for step in self._steps:
            keys = self.keys(step)
            yield from (keys[first : first + self.batch_size] for first in range(0, self._batch, self.batch_size))

    def keys(self, step: int) -> list[Key]:
        """Epoch and index of each image of a step."""
        places = (divmod(position, self._count) for position in range(step * self._batch, (step + 1) * self._batch))
        return [(epoch, self._order(epoch)[place]) for epoch, place in places]

    def _shuffle(self, epoch: int) -> list[int]:
        generator = torch.Generator().manual_seed(derive(self._seed, "order", epoch))
        order: list[int] = torch.randperm(self._count, generator=generator).tolist()
        return order


class _Loaded(Dataset[Any]):
    """`Pictures` as torch's loader wants them: whole batches at once."""

    def __init__(self, pictures: Pictures) -> None:
        self._pictures = pictures

    def __len__(self) -> int:
        return len(self._pictures)

    def __getitem__(self, key: Any) -> Any:
        return self._pictures.batch([key])

    def __getitems__(self, keys: list[Key]) -> Any:
        return self._pictures.batch(keys)


def loader(pictures: Pictures, order: Any, workers: int, pin: bool) -> DataLoader[Any]:
    """Batches of the keys in ``order``, made by so many processes beside this one."""
    return DataLoader(
        _Loaded(pictures), batch_sampler=order, num_workers=workers, collate_fn=_as_it_is, pin_memory=pin, worker_init_fn=_outlive
    )


def _outlive(worker: int) -> None:
    """Schedulers end all processes of a run at once; the one that asks for pictures then saves, and needs these until its step is done."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for name in ("SIGTERM", "SIGHUP"):
        if hasattr(signal, name) and hasattr(signal, "alarm"):
            signal.signal(getattr(signal, name), lambda *_: signal.alarm(_GRACE_S))


def train_transform(config: DataConfig, augment: str) -> Callable[[Any], Any]:
    """timm's training transform, to uint8: random crop and flip (``light``), and RandAugment besides (``strong``)."""
    from timm.data import create_transform

    kept = {name: config[name] for name in ("input_size", "mean", "std", "interpolation")}
    # Magnitudes end at 9: at 10 timm asks Pillow to keep no bits of a colour, which Pillow 13 refuses.
    policy = "rand-m9-mmax9-mstd0.5-inc1" if augment == "strong" else None
    made: Callable[[Any], Any] = create_transform(**kept, is_training=True, color_jitter=0.0, auto_augment=policy, use_prefetcher=True)
    return made


def eval_transform(config: DataConfig) -> Callable[[Any], Any]:
    """timm's transform for inference, to uint8, as `visiontk classify` applies it."""
    from timm.data import create_transform

    made: Callable[[Any], Any] = create_transform(**config, is_training=False, use_prefetcher=True)
    return made


def _as_it_is(batch: Any) -> Any:
    return batch
