"""What a run of training was asked to do, and the numbers that this comes to."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from visiontk.errors import UsageError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

BATCH = 512  # ViT paper, appendix B.1.1
TRANSFER_LR = 0.01  # ViT paper, table 4: the VTAB tasks; the others sweep 0.001 to 0.06
SCRATCH_LR = 1e-3  # for a batch of 512, and in proportion for others
SCRATCH_DECAY = 0.05
PROBE_L2 = 1e-3
EPOCHS = {"transfer": 10.0, "scratch": 100.0}
EVALUATIONS, LOG_LINES, MOST_STEPS_UNSAVED = 20, 200, 200
AUGMENTS = ("none", "light", "strong")
# What a probe has no use for: it takes no steps, and the few-shot one writes no model and has a penalty of its own.
_OF_STEPS = {"epochs", "steps", "batch_size", "accumulate", "lr", "warmup", "clip", "augment", "label_smoothing", "mixup", "ema"}
_OF_STEPS |= {"patch_drop", "whole_after", "teacher", "teacher_args", "teacher_steps", "eval_every", "save_every"}
_OF_MODELS = {"weight_decay", "half"}


@dataclass(frozen=True)
class Plan:
    """The options of ``visiontk train classify``, by their names; None where the recipe decides.

    Together with the data and the number type, they are what makes a run *that* run: see `visiontk.training.checkpoint`.
    """

    data: str
    model: str | None = None
    from_scratch: str | None = None
    same_classes: bool = False
    arch_args: str = ""
    linear_probe: bool = False
    few_shot: str = ""
    epochs: float | None = None
    steps: int | None = None
    batch_size: int | None = None
    accumulate: int = 1
    lr: float | None = None
    weight_decay: float | None = None
    warmup: int = 500
    clip: float = 1.0
    size: int | None = None
    augment: str = "light"
    label_smoothing: float = 0.0
    mixup: float = 0.0
    patch_drop: float = 0.0
    whole_after: int | None = None
    ema: float | None = None
    teacher: str | None = None
    teacher_args: str = ""
    teacher_steps: int | None = None
    val_share: float = 0.1
    half: bool = False
    eval_every: int | None = None
    save_every: int | None = None
    seed: int = 0

    def check(self, given: Sequence[str] = ()) -> None:
        """Raise UsageError for options that contradict each other, or would be without effect.

        Args:
            given: flags of the training that are no part of the plan and were asked for, such as ``--compile``.
        """
        if (self.model is None) == (self.from_scratch is None):
            raise UsageError("nothing says what is trained; give either --model NAME or --from-scratch NAME")
        if self.from_scratch and (self.linear_probe or self.few_shot):
            raise UsageError("a probe measures features that were learned before; name them with --model")
        if self.same_classes and (self.from_scratch or self.linear_probe or self.few_shot):
            raise UsageError("--same-classes goes on training the --model with its own head; leave it out, or the options for a new one")
        if self.linear_probe and self.few_shot:
            raise UsageError("--linear-probe and --few-shot are two measurements; run them one after the other")
        if self.epochs is not None and not math.isfinite(self.epochs):
            raise UsageError("--epochs has no end; name a number")
        if self.epochs is not None and self.steps is not None:
            raise UsageError("--epochs and --steps both say how long; give one of them")
        if self.augment not in AUGMENTS:
            raise UsageError(f"--augment {self.augment} is unknown; use {', '.join(AUGMENTS)}")
        self.shots()
        idle = [*self._idle(), *(given if self.probes else ())]
        if idle:
            probe = "--linear-probe trains no weights" if self.linear_probe else "--few-shot trains nothing and writes no model"
            raise UsageError(f"{probe}; leave out {' and '.join(filter(None, [', '.join(idle[:-1]), idle[-1]]))}")
        self._check_teacher()
        if self.whole_after is not None and not self.patch_drop:
            raise UsageError("--whole-after ends --patch-drop, which is not there; give both or neither")

    def _check_teacher(self) -> None:
        if self.teacher is None and (self.teacher_steps or self.teacher_args):
            raise UsageError("--teacher-steps and --teacher-args are of a --teacher, which is not there; name one, or leave them out")
        if self.teacher_args and not self.teacher_steps:
            raise UsageError("--teacher-args describe a teacher that is trained first; say for how long with --teacher-steps")
        if self.teacher is not None and self.label_smoothing:
            raise UsageError("--teacher leaves --label-smoothing no labels to smooth; leave one of them out")
        if self.teacher is not None and self.patch_drop:
            raise UsageError("--teacher compares whole maps of features, of which --patch-drop leaves parts out; give one of them")

    @property
    def probes(self) -> bool:
        """Features are measured that were learned before, and no weights but a head's are found."""
        return self.linear_probe or bool(self.few_shot)

    @property
    def adamw(self) -> bool:
        """AdamW, for weights from nothing and for going on with them; SGD for the transfer to other classes."""
        return self.from_scratch is not None or self.same_classes

    def shots(self) -> tuple[int, ...]:
        """The numbers of ``--few-shot 1,5,10,25``. Raises UsageError."""
        words = self.few_shot.split(",") if self.few_shot else []
        if not all(word.strip().isdecimal() and int(word) > 0 for word in words):
            raise UsageError(f"--few-shot {self.few_shot} is no list of images per class; write it as 1,5,10,25")
        return tuple(int(word) for word in words)

    def _idle(self) -> list[str]:
        """The flags that were given other values than their defaults, though this probe does not use them."""
        unused = _OF_STEPS | _OF_MODELS if self.few_shot else _OF_STEPS if self.linear_probe else set()
        return [flag(field.name) for field in fields(self) if field.name in unused and getattr(self, field.name) != field.default]

    def command(self, out: str) -> str:
        """The command line that asks for this, defaults left out."""
        return command_line("classify", self, out)


def command_line(task: str, plan: DataclassInstance, out: str) -> str:
    """The command that asks for a plan, whose first field is the data and whose others are options by their names; defaults left out."""
    data, *rest = fields(plan)
    words = ["visiontk", "train", task, getattr(plan, data.name)]
    for field in rest:
        value = getattr(plan, field.name)
        if value != field.default:
            words += [flag(field.name)] if value is True else [flag(field.name), str(value)]
    return shlex.join([*words, "-o", out])


def flag(name: str) -> str:
    """The option of the command line that sets a field."""
    return "--" + name.replace("_", "-")


@dataclass(frozen=True)
class Schedule:
    """A plan in numbers, once the number of training images is known.

    Attributes:
        steps: updates of the weights in all; ``warmup`` of them at the start.
        batch: images per update; ``accumulate`` passes of ``batch / accumulate`` images each.
        epoch: training images per epoch.
        eval_every, save_every, log_every: in steps.
    """

    steps: int
    batch: int
    accumulate: int
    epoch: int
    lr: float
    weight_decay: float
    warmup: int
    clip: float
    eval_every: int
    save_every: int
    log_every: int

    @property
    def micro(self) -> int:
        """Images per pass."""
        return self.batch // self.accumulate

    @property
    def measured(self) -> int:
        """Images per pass of measuring, which keeps no gradients; so what makes room for training makes room for this."""
        return 4 * self.micro


def schedule(plan: Plan, images: int) -> Schedule:
    """The recipe's numbers for so many training images.

    Transfer: ViT paper, appendix B.1.1 (arXiv 2010.11929). From scratch: the usual AdamW, see docs/training.md. The batch is never larger
    than the training set unless ``--batch-size`` says so, and the warm-up takes at most a tenth of the steps.
    """
    batch = plan.batch_size or max(plan.accumulate, min(BATCH, images) // plan.accumulate * plan.accumulate)
    if batch % plan.accumulate:
        raise UsageError(f"a batch of {batch} does not split into {plan.accumulate} equal parts; change --batch-size or --accumulate")
    if plan.mixup and (batch // plan.accumulate) % 2:
        raise UsageError(f"--mixup pairs images, and {batch // plan.accumulate} at a time is an odd number; change --batch-size")
    epochs = EPOCHS["scratch" if plan.from_scratch else "transfer"] if plan.epochs is None else plan.epochs
    steps = plan.steps or max(1, math.ceil(epochs * images / batch))
    eval_every = plan.eval_every or max(1, math.ceil(images / batch), math.ceil(steps / EVALUATIONS))
    defaults: dict[str, Any] = {"lr": TRANSFER_LR, "weight_decay": 0.0}
    if plan.adamw:
        defaults = {"lr": SCRATCH_LR * batch / BATCH, "weight_decay": SCRATCH_DECAY}
    return Schedule(
        steps=steps,
        batch=batch,
        accumulate=plan.accumulate,
        epoch=images,
        lr=defaults["lr"] if plan.lr is None else plan.lr,
        weight_decay=defaults["weight_decay"] if plan.weight_decay is None else plan.weight_decay,
        warmup=min(plan.warmup, steps // 10),
        clip=plan.clip,
        eval_every=eval_every,
        save_every=plan.save_every or min(eval_every, MOST_STEPS_UNSAVED),
        log_every=max(1, min(50, steps // LOG_LINES)),
    )
