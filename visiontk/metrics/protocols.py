"""From masks to the figures of a benchmark: which frames and objects count, and what is averaged over what.

One evaluation is made per video: it is given the frames in order, each as masks by object, where a missing mask is an empty one.
Both protocols measure J and F alike and leave out a video's first frame, whose masks the model was given, and its last; they differ
in the frames that count for an object. Where an object appears half-way, ``Davis2017`` counts the frames before as right (both masks are
empty) and ``Sav`` leaves them out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from .boundaries import boundary_f
from .regions import Mask, jaccard

T = TypeVar("T")
Masks = Mapping[int, Mask]  # by object number

VOID = 255  # "do not care" in annotations of DAVIS
_BINS = 4


@dataclass
class Track:
    """One object's J and F, each in [0, 1], for every frame that counts."""

    j: list[float] = field(default_factory=list)
    f: list[float] = field(default_factory=list)

    def add(self, predicted: Mask | None, truth: Mask | None) -> None:
        """One frame more; None is an empty mask."""
        if predicted is None or truth is None:
            given = predicted if truth is None else truth
            empty = np.zeros((1, 1) if given is None else given.shape, np.bool_)
            predicted, truth = empty if predicted is None else predicted, empty if truth is None else truth
        self.j.append(jaccard(predicted, truth))
        self.f.append(boundary_f(predicted, truth))


@dataclass(frozen=True)
class Statistics:
    """What DAVIS says of one object's J or F over the frames: their mean, recall and decay."""

    mean: float
    recall: float  # share of the frames above 0.5
    decay: float  # mean over the first quarter of the frames, less the mean over the last


def between(frames: Sequence[T]) -> Sequence[T]:
    """The frames that are measured: all but the first and the last annotated one."""
    return frames[1:-1]


class Davis2017:
    """The semi-supervised protocol of DAVIS 2017: every object counts in every frame.

    Source: Pont-Tuset et al., The 2017 DAVIS Challenge on Video Object Segmentation; ``DAVISEvaluation`` of davis2017-evaluation.
    """

    def __init__(self, objects: Iterable[int]) -> None:
        self._tracks = {number: Track() for number in objects}

    def add(self, predicted: Masks, truth: Masks) -> None:
        """One frame more. Objects of the truth alone that were not named at the start do not count.

        Raises:
            ValueError: an object is predicted that was not named; or masks of the frame differ in shape.
        """
        unknown = [number for number, mask in predicted.items() if number not in self._tracks and mask.any()]
        if unknown:
            raise ValueError(f"object {unknown[0]} is predicted, and the first frame of the truth has no such object")
        for number, track in self._tracks.items():
            track.add(predicted.get(number), truth.get(number))

    def tracks(self) -> dict[int, Track]:
        return self._tracks


class Sav:
    """The protocol of SA-V: an object counts from the first measured frame on in which the truth or the prediction has it.

    Objects that the truth has in no measured frame do not count at all.

    Source: Ravi et al., SAM 2: Segment Anything in Images and Videos; ``Evaluator`` of Meta's ``sav_benchmark.py``.
    """

    def __init__(self) -> None:
        self._tracks: dict[int, Track] = {}
        self._true: set[int] = set()

    def add(self, predicted: Masks, truth: Masks) -> None:
        """One frame more.

        Raises:
            ValueError: masks of the frame differ in shape.
        """
        self._true |= {number for number, mask in truth.items() if mask.any()}
        for number in self._true | {number for number, mask in predicted.items() if mask.any()}:
            self._tracks.setdefault(number, Track())
        for number, track in self._tracks.items():
            track.add(predicted.get(number), truth.get(number))

    def tracks(self) -> dict[int, Track]:
        return {number: self._tracks[number] for number in sorted(self._true)}


def davis_objects(first: NDArray[np.integer[Any]]) -> range:
    """The objects of a video under DAVIS 2017, from the map of object numbers (H, W) of its first frame: 1 to the highest there.

    Numbers in between that the frame lacks are objects as well, and 255 is none: so it is in davis2017-evaluation.
    """
    return range(1, int(np.where(first == VOID, 0, first).max()) + 1)


def statistics(values: Sequence[float]) -> Statistics:
    """Mean, recall and decay of one object's J or F over its frames, at least one. Source: ``db_statistics`` of davis2017-evaluation.

    That code keeps the limits of its four bins in eight bits, so that past 256 frames they wrap around and the decay is that of other
    frames; here they do not.
    """
    scores = np.asarray(values, np.float64)
    limits = (np.round(np.linspace(1, len(scores), _BINS + 1) + 1e-10) - 1).astype(np.intp)
    first, last = scores[: limits[1] + 1], scores[limits[-2] :]
    return Statistics(float(scores.mean()), float((scores > 0.5).mean()), float(first.mean() - last.mean()))


def over_objects(found: Sequence[Statistics]) -> Statistics:
    """The mean over objects, at least one, of all videos together: a video with three objects counts three times."""
    mean, recall, decay = np.mean([(one.mean, one.recall, one.decay) for one in found], axis=0).tolist()
    return Statistics(mean, recall, decay)


def image_ious(predicted: Masks, truth: Masks) -> dict[int, float]:
    """J of every object that the truth of one image has; the mean over all objects of all images is the mIoU.

    255 beside other objects is void in the truth, as VOC has it along outlines: its pixels do not count, on either side.

    Raises:
        ValueError: the masks differ in shape.
    """
    found = {number: mask for number, mask in truth.items() if mask.any()}
    if VOID not in found or len(found) == 1:
        return {number: jaccard(predicted.get(number, np.zeros_like(mask)), mask) for number, mask in found.items()}
    counts = ~found.pop(VOID)
    guesses = {number: predicted.get(number, np.zeros_like(mask)) for number, mask in found.items()}
    return {number: jaccard(guesses[number] & counts, mask & counts) for number, mask in found.items()}
