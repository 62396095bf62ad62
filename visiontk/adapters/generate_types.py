"""What goes into a text-to-image model and what comes out of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL.Image import Image

from visiontk.loras import Lora

Task = Literal["text2image", "image2image", "inpaint"]


@dataclass(frozen=True)
class Request:
    """One image that is wanted. What is None is the model's default, and afterwards what the model took.

    Attributes:
        prompt: what the image should show.
        seed: of the noise that it begins with; the same seed gives the same image whatever is made beside it.
        negative: what it should not show.
        steps: of denoising.
        guidance: scale of classifier-free guidance.
        size: width and height in pixels.
        scheduler: short name of the sampler (``euler``, ``ddim``, ...).
        loras: additions to the weights; an empty tuple is none.
        clip_skip: so many of the last layers of the text encoder are left out.
        strength: how much of ``init`` is noise at the start, above 0 to 1.
        init: the image that is changed, RGB; resized to ``size``, which it gives where there is none.
        mask: bool (H, W) of ``init``: what is painted anew. The rest stays as it is, to the pixel.
    """

    prompt: str
    seed: int = 0
    negative: str | None = None
    steps: int | None = None
    guidance: float | None = None
    size: tuple[int, int] | None = None
    scheduler: str | None = None
    clip_skip: int | None = None
    loras: tuple[Lora, ...] | None = None
    strength: float | None = None
    init: Image | None = None
    mask: npt.NDArray[np.bool_] | None = None

    @property
    def task(self) -> Task:
        """What it asks of the model."""
        return "text2image" if self.init is None else "image2image" if self.mask is None else "inpaint"


@dataclass(frozen=True)
class Generated:
    """One image.

    Attributes:
        image: RGB.
        request: what it was made from, with every option that the model has filled in; options that it has not are None.
        batch: how many were made at once. On the same machine the same request in a batch of the same size gives the same bytes; other
            sizes choose other kernels, which may round otherwise.
        cut: the end of the prompt that the model could not read, or None; ``negative_cut`` that of the negative one.
        seconds: its share of the batch.
    """

    image: Image
    request: Request
    batch: int
    cut: str | None
    seconds: float
    negative_cut: str | None = None


@dataclass(frozen=True)
class Step:
    """One step of a batch is done.

    Attributes:
        done, steps: how many of how many.
        places: which of the requests given to ``Generator.generate`` these are.
        pictures: decodes the images as they are now, in the order of ``places``; takes as long as the end does.
    """

    done: int
    steps: int
    places: Sequence[int]
    pictures: Callable[[], list[Image]]
