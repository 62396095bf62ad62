"""How good a text-to-image model is at the tiny world, through the code that `visiontk generate` and `visiontk classify` run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image

from visiontk.errors import ItemError
from visiontk.metrics.borders import border_colour
from visiontk.runtime import Runtime
from visiontk.tiny import world
from visiontk.tiny.captions import noun, with_article
from visiontk.tiny.files import picture

if TYPE_CHECKING:
    from visiontk.adapters.classify import Classifier
    from visiontk.adapters.generate import Generator, Request

JUDGE = "tiny-vit"
SEED = 40_000  # no training run renders from this seed
STEPS, GUIDANCE = 20, 1.5  # what the catalog says of the bundled model
STRENGTH = 0.6
_BATCH = 50


@dataclass(frozen=True)
class Counts:
    """How many pictures are made: of each thing, and of image-to-image and inpainting each."""

    each: int = 2
    changed: int = 50
    steps: int = STEPS


def measure(model: str, runtime: Runtime, counts: Counts | None = None) -> dict[str, dict[str, float]]:
    """Shares from 0 to 1, rounded to four places.

    ``text to image``: the thing that the prompt names is seen by `JUDGE` (top-1), and the background's colour is right.
    ``image to image``: a rendered picture of a thing in the middle, changed at strength `STRENGTH` with its own caption: likewise, and
    ``near``, how often the result is nearer to its own first picture than to any other.
    ``inpainting``: the thing of such a picture is replaced by another one: that one is seen, and the rest is the same to the pixel.
    """
    from visiontk.adapters.classify import load as load_classifier
    from visiontk.adapters.generate import load

    counts = counts or Counts()
    generator, judge = load(model, runtime), load_classifier(JUDGE, runtime)
    return {
        "text to image": _from_text(generator, judge, counts),
        "image to image": _from_image(generator, judge, counts),
        "inpainting": _replaced(generator, judge, counts),
    }


def prompts(each: int) -> Iterator[tuple[int, str, str]]:
    """Label, background colour, and a sentence of them: every thing ``each`` times, before colours that are not its own."""
    colours = list(world.COLOURS)
    for turn in range(each):
        for label, thing in enumerate(world.things()):
            free = [colour for colour in colours if colour != thing.colour]
            colour = free[(label * 7 + turn * 3) % len(free)]
            yield label, colour, f"{noun(label, None)} on {with_article(f'{colour} background')}"


def background_colour(image: Image.Image) -> str:
    """The named colour that is nearest to that of the picture's border."""
    border = border_colour(np.asarray(image.convert("RGB")))
    return world.nearest_colour(torch.from_numpy(border)[None])[0]


def seen(judge: Classifier, images: Sequence[Image.Image]) -> list[int]:
    """What the judge takes the pictures for."""
    found = judge.predict(images, top_k=1)
    return [-1 if isinstance(answer, ItemError) else answer.labels[0].index for answer in found]


def made(generator: Generator, requests: Sequence[Request]) -> list[Image.Image]:
    """The pictures in order. Raises ItemError where one could not be made."""
    images = []
    for first in range(0, len(requests), _BATCH):
        for answer in generator.generate([generator.resolve(request) for request in requests[first : first + _BATCH]]):
            if isinstance(answer, ItemError):
                raise answer
            images.append(answer.image)
    return images


def _from_text(generator: Generator, judge: Classifier, counts: Counts) -> dict[str, float]:
    from visiontk.adapters.generate import Request

    wanted = list(prompts(counts.each))
    asked = partial(Request, steps=counts.steps, guidance=GUIDANCE)
    images = made(generator, [asked(prompt, seed=number) for number, (_, _, prompt) in enumerate(wanted)])
    right = np.array([label == found for (label, _, _), found in zip(wanted, seen(judge, images), strict=True)])
    coloured = np.array([colour == background_colour(image) for (_, colour, _), image in zip(wanted, images, strict=True)])
    return {"thing": _share(right), "background": _share(coloured), "both": _share(right & coloured)}


def _from_image(generator: Generator, judge: Classifier, counts: Counts) -> dict[str, float]:
    from visiontk.adapters.generate import Request

    scenes = world.render_scenes(SEED, counts.changed, size=64, backgrounds=("plain",), calm=True)
    firsts = [picture(image) for image in scenes.images]
    asked = partial(Request, steps=counts.steps, guidance=GUIDANCE, strength=STRENGTH)
    images = made(
        generator, [asked(text, seed=number, init=first) for number, (text, first) in enumerate(zip(scenes.captions, firsts, strict=True))]
    )
    right = np.array(seen(judge, images)) == scenes.labels[:, 0].numpy()
    coloured = np.array([colour == background_colour(image) for colour, image in zip(scenes.background_colours, images, strict=True)])
    return {"thing": _share(right), "background": _share(coloured), "near": _share(_nearest_is_own(firsts, images))}


def _replaced(generator: Generator, judge: Classifier, counts: Counts) -> dict[str, float]:
    from visiontk.adapters.generate import Request

    scenes = world.render_scenes(SEED + 1, counts.changed, size=64, backgrounds=("plain",), calm=True)
    labels = [(label + 37) % len(world.things()) for label in scenes.labels[:, 0].tolist()]
    requests, firsts, masks = [], [], []
    for number, (image, box, label, colour) in enumerate(
        zip(scenes.images, scenes.boxes[:, 0].tolist(), labels, scenes.background_colours, strict=True)
    ):
        mask = np.zeros((64, 64), dtype=np.bool_)
        mask[max(0, int(box[1]) - 2) : int(box[3]) + 3, max(0, int(box[0]) - 2) : int(box[2]) + 3] = True
        text = f"{noun(label, None)} on {with_article(f'{colour} background')}"
        requests.append(Request(text, number, steps=counts.steps, guidance=GUIDANCE, strength=1.0, init=picture(image), mask=mask))
        firsts.append(picture(image))
        masks.append(mask)
    images = made(generator, requests)
    right = np.array(seen(judge, images)) == np.array(labels)
    kept = [bool((np.asarray(a)[~mask] == np.asarray(b)[~mask]).all()) for a, b, mask in zip(firsts, images, masks, strict=True)]
    return {"thing": _share(right), "kept": _share(np.array(kept))}


def _nearest_is_own(firsts: Sequence[Image.Image], images: Sequence[Image.Image]) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """bool (N,): whether of all first pictures its own is the nearest to each result, by mean squared error."""
    before, after = (np.stack([np.asarray(image, dtype=np.float32).ravel() for image in many]) for many in (firsts, images))
    distances = ((after[:, None] - before[None]) ** 2).mean(-1)
    nearest: np.ndarray[tuple[int], np.dtype[np.bool_]] = distances.argmin(1) == np.arange(len(images))
    return nearest


def _share(right: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> float:
    return round(float(right.mean()), 4)
