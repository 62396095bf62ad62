"""Where the teacher comes from: a model that is there, or an architecture that is trained first, in a folder inside the student's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from visiontk.adapters.classify import locate
from visiontk.adapters.weights_file import sha256
from visiontk.errors import UsageError

from . import checkpoint
from .chance import derive, seeded
from .checkpoint import Folder
from .distillation import Teacher, hints
from .identity import identity
from .job import Job, config_of
from .loop import Hold, Listener
from .network import data_config, make_network
from .pictures import DataConfig
from .plan import Plan

FOLDER = "teacher"


@dataclass(frozen=True)
class Candidate:
    """A network that is to teach. ``revision``: sha256 of its weights; None where it is trained first."""

    network: nn.Module
    revision: str | None


def candidate(plan: Plan, classes: Sequence[str], student: nn.Module, config: DataConfig) -> Candidate | None:
    """What ``--teacher`` names, built and held against the student (``config``: how its pictures are prepared) before anything is written.

    Raises:
        ModelUnavailable, UsageError: it cannot be had, built or shown the student's pictures, or knows other classes.
    """
    if plan.teacher is None:
        return None
    _, height, width = config["input_size"]
    if height != width:
        raise UsageError(f"--teacher is shown square pictures, and the student's are {height} x {width}; give --size N")
    asked = _alone(plan, width) if plan.teacher_steps else _trained(plan, plan.teacher, width)
    with seeded(derive(plan.seed, "teacher")):
        network = _built(asked, classes)
    hints(network, student, config["input_size"])
    return Candidate(network, None if plan.teacher_steps else sha256(locate(plan.teacher).weights))


def teacher_of(job: Job, found: Candidate, hold: Hold) -> Teacher:
    """The teacher of a job. It is trained where ``--teacher-steps`` asks for it and the student has not begun."""
    network, seconds = found.network, 0.0
    if job.plan.teacher_steps:
        folder, size = Folder(job.folder.root / FOLDER), job.config["input_size"][-1]
        if not job.folder.last.exists():
            _train(job, network, folder, size, hold)
        seconds = _seconds(folder)
        network = _built(_trained(job.plan, str(folder.root.resolve()), size), job.source.classes)
    return Teacher(network, data_config(network), job.network, job.config, job.accelerator.device, seconds)


def _built(plan: Plan, classes: Sequence[str]) -> nn.Module:
    try:
        return make_network(plan, classes)
    except UsageError as error:  # it speaks of the options that a student has
        words = str(error).replace("--arch-args", "--teacher-args").replace(", or leave out --same-classes", "")
        raise UsageError(f"the teacher: {words}") from error


def _trained(plan: Plan, name: str, size: int) -> Plan:
    """A model that is there, for the student's data."""
    return Plan(plan.data, model=name, same_classes=True, size=size)


def _alone(plan: Plan, size: int) -> Plan:
    """The same recipe on the same split, for the teacher's architecture."""
    alone: dict[str, Any] = {"teacher": None, "teacher_steps": None, "teacher_args": "", "model": None, "same_classes": False}
    alone |= {"from_scratch": plan.teacher, "arch_args": plan.teacher_args, "steps": plan.teacher_steps, "epochs": None}
    return replace(plan, **alone, size=size, half=False)


def _train(job: Job, network: nn.Module, folder: Folder, size: int, hold: Hold) -> None:
    plan, config = _alone(job.plan, size), config_of(network, job.source)
    if job.accelerator.is_main_process:
        folder.claim({**identity(plan, job.started), **job.source.describe()}, overwrite=True)
    job.accelerator.wait_for_everyone()
    replace(job, plan=plan, network=network, config=config, folder=folder, listener=_OfTeacher(job.listener)).train(hold)
    job.accelerator.wait_for_everyone()
    job.accelerator.free_memory()


def _seconds(folder: Folder) -> float:
    state = checkpoint.read(folder.last)
    return float(state["seconds"]) if state else 0.0


class _OfTeacher:
    """Tells what the teacher's training tells, marked as such."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener

    def begin(self, steps: int, done: int, what: str = "") -> None:
        self._listener.begin(steps, done, "teacher")

    def step(self, step: int) -> None:
        self._listener.step(step)

    def metrics(self, line: dict[str, Any]) -> None:
        self._listener.metrics({"network": "teacher", **line})

    def warn(self, message: str) -> None:
        self._listener.warn(f"the teacher: {message}")
