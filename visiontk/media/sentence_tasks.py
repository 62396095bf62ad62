"""Pairs of a picture and its answer for prompts of a large vision model, as Bai et al. 2023 (arXiv 2312.00785, section 3) make theirs.

Every picture of a sentence is a square of one size, as the model sees it. The paper's edges are those of a network; here they are Canny's.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from visiontk.media.edges import canny
from visiontk.media.overlay import COLOURS, Colour

IndexMap = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]
Box = tuple[int, int, int, int]  # left, top, right, bottom; the last two exclusive

LUMA = (0.2989, 0.587, 0.114)  # Rec. 601
SQUARE = (0.1, 0.5)  # least and largest side of what is blacked out, as shares of the picture's
PATCHES = 8  # along a side: 32 pixels of 256
PATCHED = (0.1, 0.5)  # least and largest share of them that is blacked out; the paper does not say

# Red, yellow, green, blue, purple, black and white of the tiny world, whose masks the bundled model knows.
MASK_COLOURS: tuple[Colour, ...] = (
    (214, 40, 40),
    (248, 212, 60),
    (60, 150, 70),
    (45, 105, 215),
    (125, 65, 180),
    (25, 25, 25),
    (245, 245, 245),
)
_APART = 50.0  # least distance of two colours of a palette, or a model's blur makes one of the other


@dataclass(frozen=True)
class SentenceTask:
    """One task, as all pairs of a sentence show it.

    Attributes:
        name: ``grayscale``, ``edges``, ``inpaint``, ``rotate`` or ``segment``.
        seed: of the places in ``inpaint``.
        angle: of ``rotate``, in degrees counter-clockwise; corners that come into sight are black.
        patches: ``inpaint`` with patches of an eighth of the side instead of one square.
        palette: of ``segment``: the background's colour, then those of the things.
        things: of ``segment``: the numbers of things that have these colours, in their order; see `painted`.
    """

    name: str
    seed: int = 0
    angle: float = 90.0
    patches: bool = False
    palette: Sequence[Colour] = ()
    things: Sequence[int] = ()

    def pair(self, picture: Image.Image, place: int, objects: IndexMap | None = None) -> tuple[Image.Image, Image.Image | None]:
        """What the model is shown of a square RGB picture, and the answer: None for ``segment`` without ``objects``.

        Args:
            place: the picture's number in the run. What is blacked out hangs on it and the seed alone.
            objects: numbers of things at each pixel (side, side), 0 for none.
        """
        if self.name == "segment":
            return picture, None if objects is None else painted(objects, self.palette, self.things)
        return _PAIRS[self.name](self, picture, place)


def squared(picture: Image.Image, side: int) -> Image.Image:
    """``picture`` as RGB of ``side`` x ``side``, bicubic, without its aspect: what the model makes of it itself."""
    return picture.convert("RGB").resize((side, side), Image.Resampling.BICUBIC)


def squared_map(objects: IndexMap, side: int) -> IndexMap:
    """A map of object numbers (H, W) as (side, side): at each pixel that of the nearest, so that no number is made up."""
    rows, columns = (((np.arange(side) + 0.5) * length / side).astype(np.intp) for length in objects.shape)
    found: IndexMap = objects[rows[:, None], columns]
    return found


def grey(picture: Image.Image) -> Image.Image:
    """The luma of an RGB picture, in all three channels."""
    red, green, blue = np.moveaxis(np.asarray(picture, np.float32), -1, 0)
    weights = np.array(LUMA, np.float32)
    luma = np.rint(red * weights[0] + green * weights[1] + blue * weights[2]).clip(0, 255).astype(np.uint8)
    return Image.fromarray(luma).convert("RGB")


def edges(picture: Image.Image) -> Image.Image:
    """The edges of an RGB picture by Canny's method, white on black, one pixel wide."""
    return Image.fromarray(canny(np.asarray(grey(picture))[..., 0]) * np.uint8(255)).convert("RGB")


def hole(side: int, chance: np.random.Generator) -> Box:
    """A square of a tenth to a half of the picture's side, anywhere in it."""
    length = round(chance.uniform(*SQUARE) * side)
    left, top = (int(start) for start in chance.integers(0, side - length + 1, 2))
    return left, top, left + length, top + length


def patches(side: int, chance: np.random.Generator) -> list[Box]:
    """A tenth to a half of the picture's 8 x 8 patches."""
    count = round(chance.uniform(*PATCHED) * PATCHES**2)
    limits = [round(number * side / PATCHES) for number in range(PATCHES + 1)]
    places = sorted(int(place) for place in chance.permutation(PATCHES**2)[:count])
    corners = [divmod(place, PATCHES) for place in places]
    return [(limits[column], limits[row], limits[column + 1], limits[row + 1]) for row, column in corners]


def blacked_out(picture: Image.Image, boxes: Sequence[Box]) -> Image.Image:
    """A copy of a picture that is black in the boxes."""
    found = picture.copy()
    for box in boxes:
        found.paste((0, 0, 0), box)
    return found


def rotated(picture: Image.Image, angle: float) -> Image.Image:
    """A square picture, turned counter-clockwise about its middle by ``angle`` degrees; by quarters, pixel by pixel."""
    return picture.rotate(angle, Image.Resampling.BICUBIC)


def palette(things: int, seed: int) -> list[Colour]:
    """Colours, far from each other, of the background and 1 to `most_things()` things. The seed draws the order of the first seven."""
    order = np.random.default_rng(seed).permutation(len(MASK_COLOURS))
    return [*(MASK_COLOURS[number] for number in order), *_further_colours()][: 1 + things]


def most_things() -> int:
    """For so many there are colours."""
    return len(MASK_COLOURS) + len(_further_colours()) - 1


def painted(objects: IndexMap, colours: Sequence[Colour], things: Sequence[int] = ()) -> Image.Image:
    """A map of object numbers (H, W) in the colours of a palette.

    ``things`` are the numbers that have the colours after the first, which is the background's; others follow behind them. Things beyond
    the palette's end begin again at its first thing.
    """
    found, where = np.unique(objects, return_inverse=True)
    others = sorted({int(number) for number in found} - {0, *things})
    places = {number: place % (len(colours) - 1) + 1 for place, number in enumerate([*things, *others])} | {0: 0}
    chosen = np.array([colours[places[int(number)]] for number in found], np.uint8)
    return Image.fromarray(chosen[where.reshape(objects.shape)])


@functools.cache
def _further_colours() -> tuple[Colour, ...]:
    """Those of overlays that are far from the first seven and from each other."""
    chosen = list(MASK_COLOURS)
    for colour in COLOURS:
        if all(math.dist(colour, other) >= _APART for other in chosen):
            chosen.append(colour)
    return tuple(chosen[len(MASK_COLOURS) :])


def _chance(task: SentenceTask, place: int) -> np.random.Generator:
    return np.random.default_rng((task.seed, place))


def _colourised(task: SentenceTask, picture: Image.Image, place: int) -> tuple[Image.Image, Image.Image]:
    return grey(picture), picture


def _outlined(task: SentenceTask, picture: Image.Image, place: int) -> tuple[Image.Image, Image.Image]:
    return picture, edges(picture)


def _inpainted(task: SentenceTask, picture: Image.Image, place: int) -> tuple[Image.Image, Image.Image]:
    chance = _chance(task, place)
    boxes = patches(picture.width, chance) if task.patches else [hole(picture.width, chance)]
    return blacked_out(picture, boxes), picture


def _turned(task: SentenceTask, picture: Image.Image, place: int) -> tuple[Image.Image, Image.Image]:
    return picture, rotated(picture, task.angle)


_PAIRS: dict[str, Callable[[SentenceTask, Image.Image, int], tuple[Image.Image, Image.Image]]] = {
    "grayscale": _colourised,
    "edges": _outlined,
    "inpaint": _inpainted,
    "rotate": _turned,
}
