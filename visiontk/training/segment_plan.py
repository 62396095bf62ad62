"""What a run of ``visiontk train segment`` was asked to do."""

from __future__ import annotations

from dataclasses import dataclass

from visiontk.errors import UsageError

from .chance import derive
from .plan import command_line
from .segment_track import Kind, Prompting

# How often an object is prompted with what: pictures, and the first frames of clips.
IMAGE_KINDS: dict[Kind, float] = {"point": 0.5, "box": 0.5}
CLIP_KINDS: dict[Kind, float] = {"point": 0.4, "box": 0.2, "mask": 0.4}
IMAGE_AMONG_CLIPS = 3  # once the clips have begun, every third step is one of pictures


@dataclass(frozen=True)
class SegmentPlan:
    """The options of ``visiontk train segment``, by their names.

    Attributes:
        data: ``tiny``, the bundled world.
        model: a trained model to go on from; None starts from nothing.
        config: a file of sam2's format that describes a new model; None for that of the bundled ``tiny-sam2``.
        steps: updates of the weights; the first ``image_steps`` of them (None: half) over pictures alone.
        images, clips, frames: pictures of a step, clips of a step and their frames.
        objects: at most so many of each picture or clip.
        clicks: correction clicks on a picture, at most. In a clip the first and one other frame get one each.
        warmup, lr, weight_decay, clip: AdamW; ``clip`` is the gradients' largest norm.
        ema: moving average of the weights, which is what is written.
    """

    data: str = "tiny"
    model: str | None = None
    config: str | None = None
    steps: int = 3000
    image_steps: int | None = None
    images: int = 16
    clips: int = 3
    frames: int = 8
    objects: int = 2
    clicks: int = 2
    lr: float = 8e-4
    weight_decay: float = 0.05
    warmup: int = 100
    clip: float = 1.0
    ema: float = 0.998
    half: bool = False
    seed: int = 0

    def check(self) -> None:
        """Raise UsageError for options that make no sense together."""
        if self.data != "tiny":
            raise UsageError(f"{self.data} is no data set that segmentation is trained on; use tiny")
        if self.model and self.config:
            raise UsageError("--model brings its own configuration; leave --config out")
        if not 0 <= self.pictures_alone <= self.steps:
            raise UsageError(f"--image-steps {self.image_steps} are more than --steps {self.steps}")

    @property
    def pictures_alone(self) -> int:
        """Steps over pictures alone, at the start."""
        return self.steps // 2 if self.image_steps is None else self.image_steps

    def command(self, out: str) -> str:
        """The command line that asks for this, defaults left out."""
        return command_line("segment", self, out)


@dataclass(frozen=True)
class Turn:
    """What one step learns from: ``count`` pictures or clips of ``frames`` frames, prompted so."""

    frames: int
    count: int
    prompting: Prompting


def turn(plan: SegmentPlan, step: int) -> Turn:
    """The turn of a step, a function of the plan alone."""
    if step < plan.pictures_alone or step % IMAGE_AMONG_CLIPS == 0:
        clicks = derive(plan.seed, "clicks", step) % (plan.clicks + 1)
        return Turn(1, plan.images, Prompting(_drawn(plan, step, IMAGE_KINDS), (0,) if clicks else (), clicks))
    kind = _drawn(plan, step, CLIP_KINDS)
    other = 1 + derive(plan.seed, "corrected", step) % max(1, plan.frames - 1)
    return Turn(plan.frames, plan.clips, Prompting(kind, (other,) if kind == "mask" else (0, other), 1))


def _drawn(plan: SegmentPlan, step: int, kinds: dict[Kind, float]) -> Kind:
    place = derive(plan.seed, "kind", step) / 2**32
    for kind, share in kinds.items():
        place -= share
        if place < 0:
            return kind
    return kind
