"""One run of ``visiontk train segment``: the steps, saving, and the finished folder. What it computes is a function of the plan alone."""

from __future__ import annotations

import math
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from visiontk.errors import UsageError
from visiontk.runtime import Runtime, Started, memory_errors

from . import checkpoint
from .chance import derive, seed_everything
from .checkpoint import Folder
from .loop import Hold, Listener
from .recipe import learning_rate
from .segment_clips import render_batch
from .segment_hint import Hint
from .segment_measure import measure
from .segment_output import build, write_model, write_report
from .segment_plan import SegmentPlan, turn
from .segment_track import track

_AMP = (torch.bfloat16, torch.float16)


def run(
    plan: SegmentPlan, runtime: Runtime, out: Path, listener: Listener, *, overwrite: bool = False, hold: Hold = nullcontext
) -> dict[str, Any]:
    """Train a SAM 2 on the tiny world, or go on training it, and write the folder ``out``.

    Args:
        plan: what to do; ``plan.seed`` counts and not the runtime's.
        runtime: where; under autocast where its dtype is not fp32. The weights that are trained are always fp32.
        overwrite: take the folder from another run.
        hold: puts Ctrl-C off while an update is half done.

    Returns:
        ``output``, ``figures``, ``seconds``.

    Raises:
        VisiontkError: with a message that says what to do.
    """
    plan.check()
    started = replace(runtime, seed=plan.seed).start()
    folder = Folder(out)
    asked = {name: value for name, value in asdict(plan).items() if name != "half"}
    folder.claim({**asked, "task": "segment", "dtype": started.dtype_name, "device": started.device.type}, overwrite=overwrite)
    loop = Loop(plan, started, folder, listener, hold)
    with memory_errors():
        loop.run()
    write_model(loop.average.module, plan, out)
    figures = measure(str(out.resolve()), replace(runtime, compile=False))  # "-o NAME" may be a catalog name as well
    write_report(out, plan, figures, seconds=loop.seconds, started=started)
    return {"output": str(out), "step": loop.step, "seconds": round(loop.seconds, 1), "figures": figures}


class Loop:
    """The steps of one run."""

    def __init__(self, plan: SegmentPlan, started: Started, folder: Folder, listener: Listener, hold: Hold) -> None:
        from timm.optim import param_groups_weight_decay
        from timm.utils import ModelEmaV3

        self.plan, self.device, self.dtype, self.folder, self.listener, self.hold = (
            plan,
            started.device,
            started.dtype,
            folder,
            listener,
            hold,
        )
        self.schedule = plan.schedule()
        self.model = build(plan).to(started.device).train()
        self.average: Any = ModelEmaV3(self.model, decay=plan.ema, use_warmup=True)
        self.hint = Hint(_channels(self.model)).to(started.device)
        learning = torch.nn.ModuleList([self.model, self.hint])
        groups: Any = param_groups_weight_decay(learning, plan.weight_decay)
        self.optimiser = torch.optim.AdamW(groups, lr=plan.lr)
        self.step, self.seconds, self._offset = 0, 0.0, 0
        self._window = [0.0, 0.0, 0.0, 0.0]  # since the last line: loss, IoU, steps, seconds

    def run(self) -> None:
        """Train to the end, from where the folder's checkpoint stands. Ctrl-C saves and passes on."""
        self._restore()
        self.listener.begin(self.plan.steps, self.step)
        try:
            while self.step < self.plan.steps:
                with self.hold():
                    self._advance()
                if self.step % self.schedule.log_every == 0:
                    self._log()
                if self.step % self.schedule.save_every == 0:
                    with self.hold():
                        self._save()
                self.listener.step(self.step)
        except KeyboardInterrupt:
            self._save()
            raise
        with self.hold():
            self._save()

    def _advance(self) -> None:
        begun = time.perf_counter()
        wanted = turn(self.plan, self.step)
        indices = range(self.step * 1000, self.step * 1000 + wanted.count)
        size = int(self.model.image_size)
        batch = render_batch(derive(self.plan.seed, "segment"), list(indices), wanted.frames, size, self.plan.objects).to(self.device)
        seed_everything(derive(self.plan.seed, "pass", self.step))
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(self.step, self.schedule)
        with self._autocast():
            passed = track(self.model, batch, wanted.prompting, self.hint)
        loss: Any = passed.loss
        if not math.isfinite(float(passed.loss.detach())):  # before it reaches the weights, and a checkpoint
            raise UsageError(
                f"the loss is not finite at step {self.step}, the run has diverged; start anew with a lower --lr than {self.plan.lr:g}"
            )
        loss.backward()
        torch.nn.utils.clip_grad_norm_([*self.model.parameters(), *self.hint.parameters()], self.plan.clip)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.step += 1
        self.average.update(self.model, step=self.step)
        seconds = time.perf_counter() - begun
        self.seconds += seconds
        for place, value in enumerate((float(passed.loss.detach()), float(passed.iou), 1.0, seconds)):
            self._window[place] += value

    def _autocast(self) -> AbstractContextManager[Any]:
        return torch.autocast(self.device.type, self.dtype) if self.dtype in _AMP else nullcontext()

    def _log(self) -> None:
        loss, iou, steps, seconds = self._window
        found = {"loss": float(f"{loss / steps:.6g}"), "iou": round(iou / steps, 4)}
        found |= {"lr": float(f"{learning_rate(self.step - 1, self.schedule):.6g}"), "steps_per_s": round(steps / max(seconds, 1e-9), 3)}
        line = {"step": self.step, "train": found}
        self.listener.metrics(line)
        self._offset = self.folder.append(line)
        self._window = [0.0] * 4

    def _save(self) -> None:
        state = {"network": self.model.state_dict(), "average": self.average.module.state_dict(), "optimiser": self.optimiser.state_dict()}
        state["hint"] = self.hint.state_dict()
        state |= {"step": self.step, "seconds": self.seconds, "metrics": self._offset, "window": self._window}
        checkpoint.save(self.folder.last, state)

    def _restore(self) -> None:
        state = checkpoint.read(self.folder.last)
        if state is not None:
            self.model.load_state_dict(state["network"])
            self.average.module.load_state_dict(state["average"])
            self.hint.load_state_dict(state["hint"])
            self.optimiser.load_state_dict(state["optimiser"])
            self.step, self.seconds = state["step"], state["seconds"]
            self._offset, self._window = state["metrics"], state["window"]
        self.folder.rewind(self._offset)


def _channels(model: Any) -> list[int]:
    """Of the maps that ``forward_image`` gives, from fine to coarse."""
    decoder = model.sam_mask_decoder
    if not model.use_high_res_features_in_sam:
        return [model.hidden_dim] * 3
    return [decoder.conv_s0.out_channels, decoder.conv_s1.out_channels, model.hidden_dim]
