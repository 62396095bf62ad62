"""One run of ``visiontk train segment``: the steps, saving, and the finished folder. What it computes is a function of the plan alone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from visiontk.runtime import Runtime, Started, memory_errors

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
from .steps import Run

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
    training = Training(plan, started)
    course = Run(training, plan.steps, folder, listener, hold)
    with memory_errors():
        course.train()
    write_model(training.average.module, plan, out)
    figures = measure(str(out.resolve()), replace(runtime, compile=False))  # "-o NAME" may be a catalog name as well
    write_report(out, plan, figures, seconds=course.seconds, started=started)
    return {"output": str(out), "step": course.step, "seconds": round(course.seconds, 1), "figures": figures}


class Training:
    """A SAM 2 under AdamW, with a moving average of its weights. A `visiontk.training.steps.Trained`."""

    def __init__(self, plan: SegmentPlan, started: Started) -> None:
        from timm.optim import param_groups_weight_decay
        from timm.utils import ModelEmaV3

        self.plan, self.device, self.dtype, self.schedule = plan, started.device, started.dtype, plan.schedule()
        self.model = build(plan).to(started.device).train()
        self.average: Any = ModelEmaV3(self.model, decay=plan.ema, use_warmup=True)
        self.hint = Hint(_channels(self.model)).to(started.device)
        groups: Any = param_groups_weight_decay(torch.nn.ModuleList([self.model, self.hint]), plan.weight_decay)
        self.optimiser = torch.optim.AdamW(groups, lr=plan.lr)

    def rate(self, step: int) -> float:
        return learning_rate(step, self.schedule)

    def advance(self, step: int) -> Mapping[str, float]:
        """One update. Lines hold ``iou``, that of the masks with the truth."""
        wanted = turn(self.plan, step)
        indices = range(step * 1000, step * 1000 + wanted.count)
        size = int(self.model.image_size)
        batch = render_batch(derive(self.plan.seed, "segment"), list(indices), wanted.frames, size, self.plan.objects).to(self.device)
        seed_everything(derive(self.plan.seed, "pass", step))
        with self._autocast():
            passed = track(self.model, batch, wanted.prompting, self.hint)
        found = {"loss": float(passed.loss.detach()), "iou": float(passed.iou)}
        if math.isfinite(found["loss"]):
            self._update(passed.loss, step)
        return found

    def state(self) -> dict[str, Any]:
        parts = {"network": self.model, "hint": self.hint, "average": self.average.module, "optimiser": self.optimiser}
        return {name: part.state_dict() for name, part in parts.items()}

    def restore(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["network"])
        self.hint.load_state_dict(state["hint"])
        self.average.module.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])

    def _update(self, loss: Any, step: int) -> None:
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate(step)
        loss.backward()
        torch.nn.utils.clip_grad_norm_([*self.model.parameters(), *self.hint.parameters()], self.plan.clip)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.average.update(self.model, step=step + 1)

    def _autocast(self) -> AbstractContextManager[Any]:
        return torch.autocast(self.device.type, self.dtype) if self.dtype in _AMP else nullcontext()


def _channels(model: Any) -> list[int]:
    """Of the maps that ``forward_image`` gives, from fine to coarse."""
    decoder = model.sam_mask_decoder
    if not model.use_high_res_features_in_sam:
        return [model.hidden_dim] * 3
    return [decoder.conv_s0.out_channels, decoder.conv_s1.out_channels, model.hidden_dim]
