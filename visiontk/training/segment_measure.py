"""How good a segmentation model is on freshly rendered pictures and clips, through the code that `visiontk segment` runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image
from torch import Tensor

from visiontk.metrics.regions import jaccard
from visiontk.runtime import Runtime
from visiontk.tiny import world
from visiontk.tiny.files import picture

if TYPE_CHECKING:
    from visiontk.adapters.segment import ObjectPrompt, Segmenter

SEED = 30_000  # no training run renders from this seed
PICTURES, CLIPS, FRAMES, SIZE = 100, 100, 24, 128
LEAST_PIXELS = 50  # less of a thing is nothing to click on
Mask = np.ndarray[Any, np.dtype[np.bool_]]
Prompter = Callable[[int, Mask], "ObjectPrompt"]


@dataclass(frozen=True)
class Counts:
    """How much is rendered and measured."""

    pictures: int = PICTURES
    clips: int = CLIPS
    frames: int = FRAMES


def measure(model: str, runtime: Runtime, counts: Counts | None = None) -> dict[str, dict[str, float]]:
    """``{figure: {"training": x, "held_out": y}}``, each from 0 to 1, rounded to four places."""
    from visiontk.adapters.segment import load

    segmenter, counts = load(model, runtime), counts or Counts()
    found: dict[str, dict[str, float]] = {}
    for name, styles in (("training", world.TRAIN_STYLES), ("held_out", (world.HELD_OUT_STYLE,))):
        figures = {
            "pictures, one click: mIoU": pictures_iou(segmenter, styles, click, counts.pictures),
            "pictures, a box: mIoU": pictures_iou(segmenter, styles, box, counts.pictures),
            "clips, one click: J&F": clips_jf(segmenter, styles, click, counts),
            "clips, a mask: J&F": clips_jf(segmenter, styles, given, counts),
        }
        for figure, value in figures.items():
            found.setdefault(figure, {})[name] = round(value, 4)
    return found


def click(number: int, mask: Mask) -> ObjectPrompt:
    """The pixel of the object that is nearest to its middle."""
    from visiontk.adapters.segment import ObjectPrompt

    rows, columns = mask.nonzero()
    nearest = int(np.argmin((rows - rows.mean()) ** 2 + (columns - columns.mean()) ** 2))
    return ObjectPrompt(number, 0, ((float(columns[nearest]) + 0.5, float(rows[nearest]) + 0.5),), (1,))


def box(number: int, mask: Mask) -> ObjectPrompt:
    """The box around the object."""
    from visiontk.adapters.segment import ObjectPrompt

    rows, columns = mask.nonzero()
    return ObjectPrompt(number, 0, box=(float(columns.min()), float(rows.min()), float(columns.max() + 1), float(rows.max() + 1)))


def given(number: int, mask: Mask) -> ObjectPrompt:
    """The object's own mask."""
    from visiontk.adapters.segment import ObjectPrompt

    return ObjectPrompt(number, 0, mask=mask)


def pictures_iou(segmenter: Segmenter, styles: Sequence[str], prompter: Prompter, count: int) -> float:
    """The mean IoU over the objects of pictures with one to three things."""
    scenes = world.render_scenes(SEED, count, size=SIZE, objects=(1, 3), styles=styles)
    values = []
    for image, masks in zip(scenes.images, scenes.masks.numpy(), strict=True):
        truths = {number: mask for number, mask in enumerate(masks, 1) if mask.sum() >= LEAST_PIXELS}
        answers = segmenter.image(picture(image), [prompter(number, mask) for number, mask in truths.items()])
        values += [jaccard(answer.mask, truths[answer.object_id]) for answer in answers]
    return float(np.mean(values))


def clips_jf(segmenter: Segmenter, styles: Sequence[str], prompter: Prompter, counts: Counts) -> float:
    """J&F after DAVIS 2017 over the objects of clips with one to three things, prompted in the first frame."""
    from visiontk.metrics.boundaries import boundary_f

    clips = world.render_clips(SEED + 1, counts.clips, counts.frames, size=SIZE, styles=styles)
    values = []
    for frames, index_masks in zip(clips.frames, clips.index_masks.numpy(), strict=True):
        truths = {number: index_masks == number for number in range(1, int(index_masks.max()) + 1)}
        prompts = [prompter(number, truth[0]) for number, truth in truths.items() if truth[0].sum() >= LEAST_PIXELS]
        if not prompts:
            continue
        per_object: dict[int, list[float]] = {prompt.object_id: [] for prompt in prompts}
        for answer in segmenter.video(numbered(frames), prompts):
            if 0 < answer.frame < counts.frames - 1:
                for found in answer.objects:
                    truth = truths[found.object_id][answer.frame]
                    both = (jaccard(found.mask, truth), boundary_f(found.mask, truth))
                    per_object[found.object_id].append(float(np.mean(both)))
        values += [float(np.mean(row)) for row in per_object.values()]
    return float(np.mean(values))


def numbered(frames: Tensor) -> Iterator[tuple[int, Image.Image]]:
    """uint8 (T, 3, S, S) as the adapter takes them."""
    return ((number, picture(frame)) for number, frame in enumerate(frames))
