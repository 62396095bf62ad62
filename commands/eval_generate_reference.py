"""What generated pictures are compared with: the pictures of a folder, or fresh ones of the tiny world."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from visiontk.errors import UsageError
from visiontk.records import Item

if TYPE_CHECKING:
    from PIL.Image import Image

    from visiontk.metrics.named import Names

WORLD = "tiny"
_SEED = -2  # and below; training renders from 0 on, and what it is measured on from -1
_PIXELS = 1 << 20  # rendered at once
_ANY, _NOTHING = "", -1
_KINDS = {  # words of the world's captions
    "gradient": re.compile(r"\bbackground from \w+ to \w+", re.IGNORECASE),
    "texture": re.compile(r"\b(striped|checked|mottled) \w+ and \w+ background\b", re.IGNORECASE),
    "photo": re.compile(r"\bphoto background\b", re.IGNORECASE),
}


@dataclass
class Wanted:
    """How many pictures of the tiny world are wanted, by kind of background, side in pixels and class; what a prompt leaves open is drawn.

    Only the numbers are kept, so that it does not grow with the pictures.
    """

    names: Names
    counts: Counter[tuple[str, int, int]] = field(default_factory=Counter)

    def add(self, prompt: str | None, size: tuple[int, int]) -> None:
        """One picture more, of the same thing on the same kind of background, as large as one of ``size`` (width, height)."""
        from visiontk.tiny.scenes import MAX_SIZE, MIN_SIZE

        things = self.names.find(prompt or "")
        thing = next(iter(things)) if len(things) == 1 else _NOTHING
        self.counts[_kind(prompt or ""), min(MAX_SIZE, max(MIN_SIZE, min(size))), thing] += 1

    def render(self, seed: int) -> Iterator[Item[Image]]:
        """The pictures, one thing each, in the styles that are for training."""
        start = 0
        for (kind, side), group in itertools.groupby(sorted(self.counts.items()), key=lambda entry: entry[0][:2]):
            labels = [thing for (_, _, thing), count in group for _ in range(count)]
            most = max(1, _PIXELS // side**2)
            for first in range(0, len(labels), most):
                some = labels[first : first + most]
                yield from _render(seed, range(start, start + len(some)), kind, side, some)
                start += len(some)


def check(name: str | None) -> None:
    """Raise UsageError unless it is ``tiny`` or something that exists, before any work."""
    if name not in (None, WORLD) and not Path(name).expanduser().exists():
        raise UsageError(f"there is no {name}; --reference takes a folder of pictures, or tiny")


def read(name: str) -> Iterator[Item[Image]]:
    """The pictures of a folder."""
    from visiontk import sources

    return sources.from_arguments([str(Path(name).expanduser())], None, sources.Reading())


def _kind(prompt: str) -> str:
    from visiontk.metrics.named import background
    from visiontk.tiny.colours import COLOURS

    if background(prompt, COLOURS):
        return "plain"
    return next((kind for kind, words in _KINDS.items() if words.search(prompt)), _ANY)


def _render(seed: int, indices: range, kind: str, side: int, things: list[int]) -> Iterator[Item[Image]]:
    import torch

    from visiontk.tiny import scenes, world
    from visiontk.tiny.files import picture

    seed = _SEED - seed
    wanted = torch.tensor(things)[:, None]
    labels = torch.where(wanted == _NOTHING, scenes.draw_labels(seed, indices, 1, torch.device("cpu")), wanted)
    kinds = (kind,) if kind else world.KINDS
    drawn = world.render_scenes(seed, indices, size=side, styles=world.TRAIN_STYLES, backgrounds=kinds, labels=labels)
    for pixels in drawn.images:
        image = picture(pixels)
        yield Item({"path": WORLD}, lambda image=image: image)  # type: ignore[misc]
