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
ENCODER_IMAGES = 2  # times as many pictures as in other steps, as hardly more than the encoder is to be run
DYED_CLIPS = 4  # one step of so many with clips has them in varied colours
IMAGE_AMONG_CLIPS = 3  # once the clips have begun, every third step is one of pictures
HEADS_ALONE = 150  # steps after which the heads of the hint answer a trained model as well as those that were thrown away


@dataclass(frozen=True)
class SegmentPlan:
    """The options of ``visiontk train segment``, by their names.

    Attributes:
        data: ``tiny``, the bundled world.
        model: a trained model to go on from; None starts from nothing.
        config: a file of sam2's format that describes a new model, which takes over those weights of ``model`` that fit; None for the
            configuration of ``model``, or for that of the bundled ``tiny-sam2``.
        steps: updates of weights. After `heads_alone`, in the first ``encoder_steps`` the encoder and what enlarges its map learn what is
            where, without prompts (None: two in five from nothing, and none of a model that knows it); the next ``image_steps`` (None: a
            third of the others) are over pictures alone.
        images, clips, frames: pictures of a step, clips of a step and their frames.
        objects: at most so many of each picture or clip.
        clicks: correction clicks on a picture, at most. In a clip the first and one other frame get one each.
        warmup, lr, weight_decay, clip: of Muon and NAdamW, see `Learner`; ``clip`` is the gradients' largest norm.
        ema: moving average of the weights, which is what is written.
    """

    data: str = "tiny"
    model: str | None = None
    config: str | None = None
    steps: int = 5500
    encoder_steps: int | None = None
    image_steps: int | None = None
    images: int = 8
    clips: int = 4
    frames: int = 6
    objects: int = 3
    clicks: int = 1
    lr: float = 2e-3
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
        encoder, pictures = self.encoder_steps or 0, self.image_steps or 0
        if encoder > self.steps:
            raise UsageError(f"--encoder-steps {self.encoder_steps} are more than --steps {self.steps}")
        if encoder + pictures > self.steps:
            beside = f" beside --encoder-steps {self.encoder_steps}" if self.encoder_steps else ""
            raise UsageError(f"--image-steps {self.image_steps} are more than --steps {self.steps}{beside}")

    @property
    def heads_alone(self) -> int:
        """The first steps of a run with ``model``: the heads of the hint learn what it knows, on clips, and its weights stay.

        Heads that know nothing would pull an encoder that does away from what it knows. At most a tenth of all steps.
        """
        return 0 if self.model is None else min(HEADS_ALONE, self.steps // 10)

    @property
    def encoder_alone(self) -> int:
        """Steps of the encoder, before prompts and after `heads_alone`."""
        if self.encoder_steps is not None:
            return min(self.encoder_steps, self.steps - self.heads_alone)
        return 0 if self.model is not None else max(0, 2 * (self.steps - (self.image_steps or 0)) // 5)

    @property
    def pictures_alone(self) -> int:
        """Steps over pictures alone, with prompts, before the clips."""
        others = self.steps - self.heads_alone - self.encoder_alone
        return others // 3 if self.image_steps is None else min(self.image_steps, others)

    def command(self, out: str, dtype: str) -> str:
        """The command line that asks for this in a type of numbers, which machines choose differently; defaults left out."""
        return command_line("segment", self, out) + f" --dtype {dtype}"


@dataclass(frozen=True)
class Turn:
    """What one step learns from: ``count`` pictures or clips of ``frames`` frames.

    Attributes:
        prompting: how they are prompted; None asks the encoder.
        dyed: things in varied colours.
    """

    frames: int
    count: int
    prompting: Prompting | None
    dyed: bool


def turn(plan: SegmentPlan, step: int) -> Turn:
    """The turn of a step, a function of the plan alone."""
    pictures_from = plan.heads_alone + plan.encoder_alone
    if plan.heads_alone <= step < pictures_from:
        return Turn(1, ENCODER_IMAGES * plan.images, None, dyed=step % 2 == 1)
    if pictures_from <= step < pictures_from + plan.pictures_alone or step % IMAGE_AMONG_CLIPS == 0:
        clicks = derive(plan.seed, "clicks", step) % (plan.clicks + 1)
        prompting = Prompting(_drawn(plan, step, IMAGE_KINDS), (0,) if clicks else (), clicks)
        return Turn(1, plan.images, prompting, dyed=derive(plan.seed, "dyed", step) % 2 == 1)
    kind = _drawn(plan, step, CLIP_KINDS)
    other = 1 + derive(plan.seed, "corrected", step) % max(1, plan.frames - 1)
    dyed = derive(plan.seed, "dyed", step) % DYED_CLIPS == 0
    return Turn(plan.frames, plan.clips, Prompting(kind, (other,) if kind == "mask" else (0, other), 1), dyed)


def _drawn(plan: SegmentPlan, step: int, kinds: dict[Kind, float]) -> Kind:
    place = derive(plan.seed, "kind", step) / 2**32
    for kind, share in kinds.items():
        place -= share
        if place < 0:
            return kind
    return kind
