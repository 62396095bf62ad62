"""Which prediction belongs to which truth, frame by frame."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from visiontk.errors import UsageError

from .eval_masks import Folders, Frames, Lines, Picture, Truth, Video

if TYPE_CHECKING:
    from visiontk.metrics.protocols import Masks


@dataclass(frozen=True)
class Pair:
    """One video, or one object of it, in truth and prediction.

    Attributes:
        only: the object, where the truth has a folder for each; None for all of them.
        annotated: all frames of the truth, in order.
        binary: the truth is a mask of 0 and 255, so everything above 0 is object 1, in the prediction as well.
        shift: what the prediction's number of an object is more than the truth's.
    """

    truth: Truth
    predicted: Video
    only: int | None
    annotated: list[str]
    binary: bool
    shift: int = 0

    @property
    def video(self) -> str:
        return self.truth.name

    @property
    def name(self) -> str:
        """For messages: ``bear``, ``object 3 of bear``."""
        return self.video if self.only is None else f"object {self.only} of {self.video}"

    def masks(self, frame: str) -> tuple[Masks, Masks]:
        """Predicted and true masks of a frame, of one size. Raises UsageError."""
        predicted, truth = self.predicted.masks(frame, None if self.binary else self._own), self.truth.masks(frame, self.only)
        if predicted.shape and truth.shape and predicted.shape != truth.shape:
            sizes = [f"{shape[1]}x{shape[0]}" for shape in (predicted.shape, truth.shape)]
            raise UsageError(f"{self.predicted.where(frame)} is {sizes[0]} pixels and the truth is {sizes[1]}; give masks of one size")
        if self.binary:
            return _merge(predicted), _merge(truth)
        return {number - self.shift: mask for number, mask in predicted.masks.items()}, truth.masks

    def check(self, frames: list[str]) -> None:
        """Raise UsageError unless the prediction has all these frames."""
        missing = [frame for frame in frames if not self.predicted.has(frame, self._own)]
        if len(missing) < len(frames) and isinstance(self.predicted, Folders):
            missing = [frame for frame in missing if not self.predicted.before(frame)]
        if not missing:
            return
        if len(missing) == len(frames):
            raise UsageError(f"PRED and GT have no frame of {self.name} in common; GT has {frames[0]} and so on, name both sides alike")
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise UsageError(f"PRED lacks frame {missing[0]}{more} of {self.name}, which GT has; predict every annotated frame")

    @property
    def _own(self) -> int | None:
        """The object as the prediction numbers it."""
        return None if self.only is None else self.only + self.shift


def pair(truth: Mapping[str, Truth], predicted: Mapping[str, Video], warn: Callable[[str], None]) -> list[Pair]:
    """Pairs by the videos' names; a video alone on both sides needs none, and neither does a picture. In the order of the names.

    SA-V numbers objects from 0, and `visiontk segment` from 1. Where the truth has an object 0 and the prediction has none, object N of the
    truth is N + 1 of the prediction.

    Raises:
        UsageError: PRED lacks a video of GT.
    """
    if len(truth) == len(predicted) == 1:
        (true,), (guess,) = truth.values(), predicted.values()
        return _noted(_pairs(true, _renamed(true, guess)), warn)
    missing, extra = sorted(truth.keys() - predicted.keys()), sorted(predicted.keys() - truth.keys())
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise UsageError(f"PRED has no {missing[0]}{more}, which GT has; predict every video, or name a part of GT")
    if extra:
        warn(f"left out {len(extra)} of PRED that GT lacks: {', '.join(extra[:3])}{' ...' if len(extra) > 3 else ''}")
    return _noted([found for name in sorted(truth) for found in _pairs(truth[name], predicted[name])], warn)


def _noted(pairs: list[Pair], warn: Callable[[str], None]) -> list[Pair]:
    """The same; a warning says where objects are numbered differently."""
    if any(one.shift for one in pairs):
        warn("GT numbers its objects from 0 and PRED from 1, so object 0 of GT is compared with 1 of PRED, and so on")
    return pairs


def _pairs(truth: Truth, predicted: Video) -> list[Pair]:
    if isinstance(truth, Folders):
        shift = int(truth.counts_from_0 and not predicted.counts_from_0)
        objects = frozenset(only + shift for only in truth.objects)
        predicted = _numbered(predicted, truth.name, lambda frames: dict.fromkeys(frames, objects))
        return [Pair(truth, predicted, only, truth.names(only), False, shift) for only in truth.objects]
    if truth.is_binary():
        return [Pair(truth, _counted(predicted, truth.names()), None, truth.names(), True)]
    return [Pair(truth, _counted(_numbered(predicted, truth.name, lambda _: _objects(truth)), truth.names()), None, truth.names(), False)]


def _objects(truth: Frames) -> Mapping[str, Set[int]]:
    """The objects that a mask of 0 and 255 may show on each frame: those of the video, or of the picture. Raises UsageError."""
    found = truth.numbers()
    if truth.are_images():
        return found
    return dict.fromkeys(found, frozenset[int]().union(*found.values()))


def _numbered(predicted: Video, name: str, wanted: Callable[[Iterable[str]], Mapping[str, Set[int]]]) -> Video:
    """Masks of 0 and 255 show the one object that there is in truth, whatever its number. Raises UsageError where there are several."""
    if not isinstance(predicted, Frames) or not predicted.is_binary():
        return predicted
    objects = wanted(predicted.files)
    if several := next(((frame, numbers) for frame, numbers in objects.items() if len(numbers) > 1), None):
        what = f"PRED shows one object of {name}, as 0 and 255, and GT has {len(several[1])} on {several[0]}"
        raise UsageError(f"{what}; give maps of object numbers")
    return replace(predicted, shown={frame: next(iter(numbers)) for frame, numbers in objects.items() if numbers})


def _merge(picture: Picture) -> Masks:
    """All masks as object 1."""
    import numpy as np

    return {1: np.logical_or.reduce(list(picture.masks.values()))} if picture.masks else {}


def _renamed(truth: Truth, predicted: Video) -> Video:
    """A single picture answers for a single picture, whatever its name."""
    if isinstance(truth, Folders) or isinstance(predicted, Folders):
        return predicted
    own = predicted.files if isinstance(predicted, Frames) else predicted.frames
    if len(truth.files) != 1 or len(own) != 1:
        return predicted
    (name,) = truth.files
    if isinstance(predicted, Frames):
        return replace(predicted, files={name: next(iter(predicted.files.values()))})
    return replace(predicted, frames={name: next(iter(predicted.frames.values()))})


def _counted(predicted: Video, annotated: list[str]) -> Video:
    """Lines count frames from 0. Where the truth has as many, and its names count from 1, they are the same frames."""
    count = len(annotated)
    if not isinstance(predicted, Lines) or set(predicted.frames) != set(range(count)):
        return predicted
    if not all(name.isdecimal() for name in annotated) or sorted(map(int, annotated)) != list(range(1, count + 1)):
        return predicted
    return replace(predicted, frames={int(frame) + 1: objects for frame, objects in predicted.frames.items()})
