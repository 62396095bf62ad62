"""What goes into a segmenter and what comes out of it: prompts, masks, and the knobs of "everything"."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from visiontk.errors import UsageError

Mask = np.ndarray[Any, np.dtype[np.bool_]]


@dataclass(frozen=True)
class ObjectPrompt:
    """What was said of one object on one frame: points, a box, both, or a mask. Coordinates are pixels of the upright picture.

    Attributes:
        object_id: the caller's number for the object.
        frame: index of the frame, 0 for an image.
        points: (x, y) each.
        labels: one for each point: 1 is on the object, 0 is not.
        box: x0, y0, x1, y1.
        mask: bool (height, width), as large as the picture.
    """

    object_id: int
    frame: int = 0
    points: tuple[tuple[float, float], ...] = ()
    labels: tuple[int, ...] = ()
    box: tuple[float, float, float, float] | None = None
    mask: Mask | None = None

    def check(self, width: int, height: int) -> None:
        """Raise UsageError for a prompt that says nothing, contradicts itself or has a mask of another size than the picture."""
        what = f"the prompt for object {self.object_id} on frame {self.frame}"
        if len(self.points) != len(self.labels) or not set(self.labels) <= {0, 1}:
            raise UsageError(f"{what} has {len(self.points)} points and the labels {list(self.labels)}; give a 0 or a 1 for each point")
        if self.mask is None and self.box is None and not self.points:
            raise UsageError(f"{what} is empty; give points, a box or a mask")
        if self.mask is not None and (self.points or self.box is not None):
            raise UsageError(f"{what} has a mask beside points or a box; give one or the other")
        if self.mask is not None and self.mask.shape != (height, width):
            rows, columns = self.mask.shape
            raise UsageError(f"{what} is a mask of {columns}x{rows} pixels and the picture has {width}x{height}; give one of the same size")


@dataclass(frozen=True)
class ObjectMask:
    """Where an object is.

    Attributes:
        object_id: the caller's number for it, or the order in which everything was found.
        mask: bool (height, width) of the picture; without any pixel where the object is hidden.
        iou: the model's own estimate of how well the mask fits, in [0, 1].
        score: the model's probability that the object is visible, in [0, 1]; 1 for models that do not predict it.
    """

    object_id: int
    mask: Mask
    iou: float
    score: float


@dataclass(frozen=True)
class FrameMasks:
    """Every object known so far on one frame, by rising id. ``frame`` is the index that the frame came with."""

    frame: int
    objects: list[ObjectMask]


@dataclass(frozen=True)
class Everything:
    """The knobs of segmenting everything; the defaults are those of SAM 2's automatic mask generator.

    Attributes:
        points_per_side: of the grid of clicks.
        min_iou: least estimated fit of a mask.
        min_stability: least IoU between the mask cut off one logit higher and one logit lower.
        box_nms: of two masks whose boxes have a higher IoU, the better one stays.
        crop_layers: also look at 4, then 16, ... overlapping crops of the picture, for small things.
        min_area: masks of fewer pixels are left out.
    """

    points_per_side: int = 32
    min_iou: float = 0.8
    min_stability: float = 0.95
    box_nms: float = 0.7
    crop_layers: int = 0
    min_area: int = 0


@dataclass(frozen=True)
class Auto:
    """Track everything: what the first frame shows and, with ``every`` N, what each N-th frame shows that is not tracked yet.

    Objects are kept for good, hidden or not: with ``every`` their number, and the time for a frame, can grow as long as the video goes on.
    """

    knobs: Everything | None = None
    every: int | None = None
