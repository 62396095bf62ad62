"""Everything in a picture: SAM 2's automatic mask generator, which clicks on a grid and keeps the good and different masks."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import numpy as np
from PIL import Image as pillow
from PIL.Image import Image

from visiontk.media.masks import MAX_ID

from .segment_network import Features, Network
from .segment_types import Everything, Mask, ObjectMask

# The generator upsamples three masks for each click of a batch to the picture's size, in float32: this many numbers at once.
_NUMBERS_AT_ONCE = 2**27


def everything(network: Network, image: Image, features: Features, knobs: Everything) -> list[ObjectMask]:
    """Masks of everything in an RGB picture, numbered 1, 2, 3, ... by falling area. Their score is 1: the generator does not ask for it.

    ``features`` are those of the picture; crops of it are encoded here.
    """
    generator = _generator(network, features, image, knobs)
    found = generator.generate(np.array(image))
    kept = sorted((one for one in found if one["area"] >= max(1, knobs.min_area)), key=lambda one: -one["area"])
    return [
        ObjectMask(number, np.ascontiguousarray(one["segmentation"]), min(1.0, max(0.0, one["predicted_iou"])), 1.0)
        for number, one in enumerate(kept, 1)
    ]


def unknown(found: Sequence[ObjectMask], tracked: Sequence[ObjectMask], least_iou: float = 0.5) -> list[ObjectMask]:
    """Those of ``found`` that are none of ``tracked``: no IoU of ``least_iou`` or more with any."""
    boxes = [(other, extent(other.mask)) for other in tracked if other.mask.any()]
    return [one for one in found if not any(_iou(one.mask, other.mask, box) >= least_iou for other, box in boxes)]


def numbers_beside(known: Collection[int]) -> Iterator[int]:
    """Numbers for what is found beside objects that have some: the next ones, and when these are used up, those that are free."""
    after = max(known, default=0) + 1
    return itertools.chain(range(after, MAX_ID + 1), (number for number in range(1, after) if number not in known))


def _generator(network: Network, features: Features, image: Image, knobs: Everything) -> Any:
    from sam2.automatic_mask_generator import SAM2AutomaticMaskGenerator
    from sam2.sam2_image_predictor import SAM2ImagePredictor

    class Predictor(SAM2ImagePredictor):  # type: ignore[misc]
        """Takes the features that are there. The original fixes its maps' sizes to those of 1024 pixels, and logs on the root logger."""

        def set_image(self, crop: np.ndarray[Any, Any]) -> None:
            whole = crop.shape == (features.height, features.width, 3)
            seen = features if whole else network.encode(pillow.fromarray(crop))
            maps = [seen.folded(level) for level in range(len(seen.maps) - 1)]
            self._features = {"image_embed": network.embedding(seen), "high_res_feats": maps}
            self._orig_hw, self._is_image_set, self._is_batch = [crop.shape[:2]], True, False

    class Generator(SAM2AutomaticMaskGenerator):  # type: ignore[misc]
        """The original fails where no crop holds a mask: the boxes of no crops lose their four columns."""

        def _process_crop(self, *arguments: Any) -> Any:
            data = super()._process_crop(*arguments)
            data["crop_boxes"] = data["crop_boxes"].reshape(-1, 4)
            return data

    with warnings.catch_warnings(action="ignore"):  # their transforms are made by torch.jit.script, which is deprecated
        generator = Generator(
            network.model,
            points_per_side=knobs.points_per_side,
            points_per_batch=max(1, min(64, _NUMBERS_AT_ONCE // (3 * image.width * image.height))),
            pred_iou_thresh=knobs.min_iou,
            stability_score_thresh=knobs.min_stability,
            box_nms_thresh=knobs.box_nms,
            crop_n_layers=knobs.crop_layers,
            multimask_output=network.model.multimask_output_in_sam,
        )
        generator.predictor = Predictor(network.model)
    return generator


def extent(mask: Mask) -> tuple[slice, slice]:
    """The rows and columns that a mask with pixels has some in."""
    rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def _iou(one: Mask, other: Mask, box: tuple[slice, slice]) -> float:
    """``box`` is that of the other, and all of the picture that need be looked at for what they share."""
    both = int(np.count_nonzero(one[box] & other[box]))
    return both / max(1, int(np.count_nonzero(one)) + int(np.count_nonzero(other[box])) - both)
