"""The loop: passes, updates, measuring, saving. What it computes is a function of the plan alone, however often it was stopped."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from visiontk.errors import UsageError

from . import checkpoint
from .chance import derive, seed_everything
from .checkpoint import Folder
from .distillation import Student, Teacher
from .measure import measure
from .patch_dropout import PatchDropping
from .pictures import Batch, DataConfig, Pictures, StepOrder, loader
from .plan import Plan, Schedule
from .recipe import Normaliser, learning_rate, make_loss, make_optimiser, make_targets

Hold = Callable[[], AbstractContextManager[None]]
MOST_WARNINGS = 10


class Listener(Protocol):
    """Who is told how it goes. `visiontk.commands.train` shows it."""

    def begin(self, steps: int, done: int, what: str = "") -> None: ...

    def step(self, step: int) -> None: ...

    def metrics(self, line: dict[str, Any]) -> None: ...

    def warn(self, message: str) -> None: ...


@dataclass(frozen=True)
class Pieces:
    """What the loop works with."""

    network: nn.Module
    config: DataConfig
    train: Pictures
    measured: dict[str, Pictures]
    classes: int
    workers: int
    teacher: Teacher | None = None


class Loop:
    """One run of training. ``hold()`` puts Ctrl-C off while an update is half done."""

    def __init__(
        self, accelerator: Any, pieces: Pieces, plan: Plan, schedule: Schedule, folder: Folder, listener: Listener, hold: Hold = nullcontext
    ) -> None:
        self.accelerator, self.pieces, self.plan, self.schedule = accelerator, pieces, plan, schedule
        self.folder, self.listener, self.hold = folder, listener, hold
        self.network = pieces.network
        self.patches = PatchDropping(pieces.network, plan)
        self.ema = self._make_ema()
        optimiser = make_optimiser(self.network, plan, schedule)
        self.student = self._make_student(optimiser)
        self.model, self.optimiser = accelerator.prepare(self.student or self.network, optimiser)
        if self.ema is not None:
            self.ema.to(accelerator.device)
        self.normalise = Normaliser(pieces.config, accelerator.device)
        self.targets, self.loss = make_targets(plan, pieces.classes), make_loss(plan)
        self.window = torch.zeros(3, device=accelerator.device)  # since the last line: summed loss, right answers, images
        self.best, self.best_step = (-1.0, 0.0), 0  # accuracy, then less loss
        self.step, self.seconds = 0, 0.0
        self.unreadable: set[str] = set()
        self._offset, self._speed = 0, (time.perf_counter(), 0)
        self._whole, self._owed = True, False  # no update is half done; the last one's measuring and saving are

    def run(self) -> None:
        """Train to the end, going on where the folder's checkpoint stands. Ctrl-C saves and passes on.

        Raises:
            UsageError: the loss diverged, or nothing can be read.
        """
        self._restore()
        self.accelerator.wait_for_everyone()
        self.listener.begin(self.schedule.steps, self.step)
        order = StepOrder(
            len(self.pieces.train), self.schedule.batch, self.schedule.accumulate, self.plan.seed, self.step, self.schedule.steps
        )
        pin = self.accelerator.device.type == "cuda"
        passes = iter(self.accelerator.prepare(loader(self.pieces.train, order, self.pieces.workers, pin)) if len(order) else ())
        try:
            if self._owed:
                self._after_step()
            while self.step < self.schedule.steps:
                self._advance(passes)
                self._after_step()
        except KeyboardInterrupt:
            if self._whole:
                self._save()
            raise

    def best_weights(self) -> dict[str, Tensor]:
        """Of the step with the best accuracy on ``val``."""
        state = checkpoint.read(self.folder.best)
        assert state is not None
        weights: dict[str, Tensor] = state["weights"]
        return weights

    def _advance(self, passes: Any) -> None:
        """One update of the weights."""
        started = time.perf_counter()
        parts = [self._readable(next(passes)) for _ in range(self.schedule.accumulate)]
        with self.hold():
            self._whole = False
            for group in self.optimiser.param_groups:
                group["lr"] = learning_rate(self.step, self.schedule)
            self.model.train()
            self.patches.begin(self.step)
            for number, part in enumerate(parts):
                seed_everything(derive(self.plan.seed, "pass", self.step, number, self.accelerator.process_index))
                self._learn(part)
            self.step += 1
            if self.ema is not None:
                self.ema.update(self.network, step=self.step)
            self.seconds += time.perf_counter() - started
            self._whole = self._owed = True

    def _learn(self, part: Batch) -> None:
        with self.accelerator.accumulate(self.model):
            pixels, targets = self.targets(self.normalise(part.images), part.labels)
            logits, loss = self._answer(pixels, targets)
            self.accelerator.backward(loss)
            if self.accelerator.sync_gradients:
                self.accelerator.clip_grad_norm_(self.model.parameters(), self.schedule.clip)
            self.optimiser.step()
            self.optimiser.zero_grad()
        count = len(part.labels)
        right = (logits.detach().argmax(1) == part.labels).sum()
        self.window += torch.stack([loss.detach().float() * count, right.float(), right.new_tensor(count).float()])

    def _answer(self, pixels: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Logits, and their loss."""
        if self.pieces.teacher is None:
            logits = self.model(pixels)
            return logits, self.loss(logits, targets)
        logits, hinted = self.model(pixels)
        with self.accelerator.autocast():
            return logits, self.pieces.teacher.loss(pixels, logits, hinted)

    def _after_step(self) -> None:
        done = self.step == self.schedule.steps
        evaluate = done or self.step % self.schedule.eval_every == 0
        save = evaluate or self.step % self.schedule.save_every == 0
        if evaluate or self.step % self.schedule.log_every == 0:
            self._log()
        elif save and not self.window.isfinite().all():
            self._diverged()
        if evaluate:
            self._measure()
        self._owed = False
        if save:
            with self.hold():
                self._save()
        self.listener.step(self.step)

    def _log(self) -> None:
        loss, right, count = self.accelerator.reduce(self.window, "sum").tolist()
        if not count:  # the run was stopped between this line and what comes after it
            return
        if not math.isfinite(loss):
            self._diverged()
        now, (since, at_step) = time.perf_counter(), self._speed
        speed = (self.step - at_step) * self.schedule.batch / max(now - since, 1e-9)
        found: dict[str, Any] = {"loss": float(f"{loss / count:.6g}")}
        if not self.plan.mixup:
            found["accuracy"] = round(right / count, 6)
        found |= {"lr": float(f"{learning_rate(self.step - 1, self.schedule):.6g}"), "images_per_s": round(speed, 1)}
        self._write({"step": self.step, "epoch": round(self.step * self.schedule.batch / self.schedule.epoch, 3), "train": found})
        self.window.zero_()
        self._speed = now, self.step

    def _measure(self) -> None:
        network = self.network if self.ema is None else self.ema.module
        network.eval()

        def logits_of(images: Tensor) -> Tensor:
            with self.accelerator.autocast():
                logits: Tensor = network(self.normalise(images))
                return logits

        line: dict[str, Any] = {"step": self.step}
        for name, pictures in self.pieces.measured.items():
            figures = measure(logits_of, pictures, self.pieces.workers, self.accelerator, batch=self.schedule.measured)
            self._warn(figures.unreadable)
            line[name] = figures.line()
        found = line[next(iter(self.pieces.measured))]
        quality = (found["accuracy"], -found["loss"])
        with self.hold():
            if quality > self.best:
                self.best, self.best_step = quality, self.step
                if self.accelerator.is_main_process:
                    checkpoint.save(self.folder.best, {"step": self.step, "weights": network.state_dict()})
            self._write(line)
            self._owed = False
        self._speed = time.perf_counter(), self.step

    def _readable(self, part: Batch) -> Batch:
        self._warn(part.unreadable)
        if len(part.labels) == 0:
            raise UsageError(f"none of the training images can be read ({part.unreadable[0]}); name others")
        return part

    def _warn(self, unreadable: list[str]) -> None:
        for message in unreadable:
            if message not in self.unreadable:
                self.unreadable.add(message)
                if len(self.unreadable) <= MOST_WARNINGS:
                    more = "; further ones are only counted" if len(self.unreadable) == MOST_WARNINGS else ""
                    self.listener.warn(f"{message}; the image is skipped{more}")

    def _write(self, line: dict[str, Any]) -> None:
        self.listener.metrics(line)
        if self.accelerator.is_main_process:
            self._offset = self.folder.append(line)

    def _save(self) -> None:
        if not self.accelerator.is_main_process:
            return
        state: dict[str, Any] = {"network": self.network.state_dict(), "optimiser": self.optimiser.state_dict(), "window": self.window}
        state |= {"step": self.step, "best": self.best, "best_step": self.best_step, "seconds": self.seconds, "metrics": self._offset}
        state |= {"owed": self._owed, "unreadable": sorted(self.unreadable)}
        if self.student is not None:
            state["hint"] = self.student.hint.state_dict()
        if self.ema is not None:
            state["ema"] = self.ema.module.state_dict()
        if self.accelerator.scaler is not None:
            state["scaler"] = self.accelerator.scaler.state_dict()
        checkpoint.save(self.folder.last, state)

    def _restore(self) -> None:
        state = checkpoint.read(self.folder.last)
        if state is not None:
            with checkpoint.taking_back(self.folder.last):
                self.network.load_state_dict(state["network"])
                self.optimiser.load_state_dict(state["optimiser"])
                self.window.copy_(state["window"])
                self.step, self.seconds, self.best_step = state["step"], state["seconds"], state["best_step"]
                self.best = (float(state["best"][0]), float(state["best"][1]))
                self._offset, self._owed, self.unreadable = state["metrics"], state["owed"], set(state["unreadable"])
                if self.student is not None:
                    self.student.hint.load_state_dict(state["hint"])
                if self.ema is not None:
                    self.ema.module.load_state_dict(state["ema"])
                if self.accelerator.scaler is not None:
                    self.accelerator.scaler.load_state_dict(state["scaler"])
        self._speed = time.perf_counter(), self.step
        if self.accelerator.is_main_process:
            self.folder.rewind(self._offset)

    def _make_student(self, optimiser: torch.optim.Optimizer) -> Student | None:
        teacher = self.pieces.teacher
        if teacher is None:
            return None
        student = Student(self.network, teacher.channels, self.pieces.config["input_size"], self.plan.seed)
        optimiser.add_param_group({"params": list(student.hint.parameters())})
        return student

    def _make_ema(self) -> Any:
        if self.plan.ema is None:
            return None
        from timm.utils import ModelEmaV3

        return ModelEmaV3(self.network, decay=self.plan.ema, use_warmup=True)

    def _diverged(self) -> None:
        raise UsageError(
            f"the loss is not finite at step {self.step}, the run has diverged; start anew with a lower --lr than {self.schedule.lr:g}, "
            "a longer --warmup or --dtype fp32"
        )
