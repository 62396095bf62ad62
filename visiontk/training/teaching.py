"""Where the teacher comes from: a model that is there, or an architecture that is trained first, in a folder inside the student's."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from . import checkpoint
from .checkpoint import Folder
from .distillation import Teacher
from .identity import claim
from .job import Job, config_of
from .loop import Hold, Listener
from .network import data_config, make_network
from .plan import Plan

FOLDER = "teacher"


def teacher_of(job: Job, hold: Hold) -> Teacher:
    """The teacher of a job. It is trained where ``--teacher-steps`` asks for it and the student has not begun.

    Raises:
        ModelUnavailable, UsageError: it cannot be had, built or shown the student's pictures, or knows other classes.
    """
    plan, size = job.plan, job.config["input_size"][-1]
    name, seconds = plan.teacher, 0.0
    if plan.teacher_steps:
        folder = Folder(job.folder.root / FOLDER)
        if not job.folder.last.exists():
            _train(job, folder, size, hold)
        name, seconds = str(folder.root.resolve()), _seconds(folder)
    network = make_network(Plan(plan.data, model=name, same_classes=True, size=size), job.source.classes)
    teacher = Teacher(network, data_config(network), job.network, job.config, job.accelerator.device)
    teacher.seconds = seconds
    return teacher


def _train(job: Job, folder: Folder, size: int, hold: Hold) -> None:
    """The same recipe on the same split, for another architecture."""
    alone: dict[str, Any] = {"teacher": None, "teacher_steps": None, "teacher_args": "", "model": None, "same_classes": False}
    alone |= {"from_scratch": job.plan.teacher, "arch_args": job.plan.teacher_args, "steps": job.plan.teacher_steps, "epochs": None}
    plan = replace(job.plan, **alone, size=size, half=False)
    network = make_network(plan, job.source.classes)
    config = config_of(network, job.source)
    if job.accelerator.is_main_process:
        claim(folder, plan, job.started, job.source, overwrite=True)
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
        self._listener.warn(message)
