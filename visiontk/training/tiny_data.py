"""The bundled world as a data set: pictures without limit, rendered when they are asked for.

An epoch is `EPOCH` pictures that no other epoch has. What is measured is rendered from seeds that no training run can have, and so is the
same for every run: ``val`` in the styles that are trained on, ``held_out`` in the one that never is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from visiontk.errors import UsageError

from .chance import derive
from .pictures import Batch, DataConfig, Key, Pictures

EPOCH = 10_000
MEASURED = 2_000
MEASURED_SEED = -1  # the seeds of runs are not negative
# Colours and outlines differ more between styles than shapes do. Half of the drawings stay as they are: with nothing but strongly varied
# ones a transformer takes several times as long to begin.
LIGHT = {"hue": 0.05, "saturation": 0.3, "contrast": 0.2, "brightness": 0.1}
STRONG = {
    "hue": 0.5,
    "saturation": 0.6,
    "contrast": 0.4,
    "brightness": 0.2,
    "grey": 0.1,
    "tint": 0.1,
    "flat": 0.3,
    "outline": 0.4,
    "share": 0.5,
}


class TinyWorld:
    """A `Source` of pictures of one thing each."""

    crop_pct: float | None = 1.0  # the pictures have the size that is asked for and are seen whole
    warnings: Sequence[str] = ()

    def __init__(self) -> None:
        from visiontk.tiny import world

        self.classes: list[str] = world.names()
        self.measured: list[str] = ["val", "held_out"]

    def describe(self) -> dict[str, Any]:
        from visiontk.tiny import world

        sizes = {"train": EPOCH, "val": MEASURED, "held_out": MEASURED}
        styles = {"styles": ", ".join(world.TRAIN_STYLES), "held_out_style": world.HELD_OUT_STYLE}
        return {"data": "tiny", "classes": len(self.classes), **sizes, **styles}

    def pictures(self, split: str, config: DataConfig, *, augment: str, seed: int) -> Pictures:
        from visiontk.tiny import world

        _, height, width = config["input_size"]
        if height != width:
            raise UsageError(f"the tiny world is square and the model takes {height} x {width} pixels; pass --size N")
        if split == "train":
            varied: dict[str, float] = {"none": {}, "light": LIGHT, "strong": STRONG}[augment]
            return Rendered(EPOCH, height, derive(seed, "tiny"), world.TRAIN_STYLES, world.Augment(**varied))
        styles = world.TRAIN_STYLES if split == "val" else (world.HELD_OUT_STYLE,)
        return Rendered(MEASURED, height, MEASURED_SEED, styles, None)


class Rendered:
    """Pictures of the tiny world, ``count`` to an epoch."""

    def __init__(self, count: int, size: int, seed: int, styles: Sequence[str], augment: Any) -> None:
        self._count, self._size, self._seed, self._styles, self._augment = count, size, seed, tuple(styles), augment

    def __len__(self) -> int:
        return self._count

    def batch(self, keys: Sequence[Key]) -> Batch:
        from visiontk.tiny import world

        indices = [epoch * self._count + index for epoch, index in keys]
        scenes = world.render_scenes(self._seed, indices, size=self._size, styles=self._styles, augment=self._augment)
        return Batch(scenes.images, scenes.labels[:, 0], [])
