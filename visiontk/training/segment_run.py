"""One run of ``visiontk train segment``: the steps, saving, and the finished folder. What it computes is a function of the plan alone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from visiontk.adapters.segment import locate
from visiontk.adapters.segment_network import start
from visiontk.adapters.segment_weights import image_size, read_config
from visiontk.adapters.weights_file import sha256
from visiontk.errors import ModelUnavailable, first_line
from visiontk.runtime import Runtime, Started, memory_errors
from visiontk.tiny import world

from .chance import derive, seed_everything
from .learner import Learner, autocast
from .loop import Hold, Listener
from .segment_clips import ClipBatch, normalise, render_batch
from .segment_hint import Hint, enlarge
from .segment_measure import measure
from .segment_output import build, config_file, write_model, write_report
from .segment_plan import SegmentPlan, turn
from .segment_track import Prompting, track
from .steps import Run, claim

HEADS_LR = 5e-3  # of the heads of the hint while they learn alone; they are small
HIDDEN = ("image_encoder.trunk.blocks.", "memory_attention.layers.", "sam_mask_decoder.transformer.")  # layers whose matrices learn by Muon
_SMALLER = "use fewer --images, --clips, --frames or --objects, or --device cpu"


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
    config = config_file(plan)
    started = start(replace(runtime, seed=plan.seed), image_size(read_config(config), str(config)))
    training = Training(plan, started)
    if plan.model is not None and plan.config is not None:
        listener.warn(f"{training.built.taken:.1%} of the parameters are those of {plan.model}; what does not fit is new")
    with memory_errors(_SMALLER):
        training.try_out()
    made_of = {"config_sha256": sha256(config)}
    if plan.model is not None:
        made_of["model_sha256"] = sha256(locate(plan.model).weights)
    folder = claim(plan, "segment", started, out, overwrite=overwrite, **made_of)
    course = Run(training, plan.steps, folder, listener, hold)
    with memory_errors(_SMALLER):
        course.train()
    write_model(training.average, training.built.config, out, half=plan.half)
    figures = measure(str(out.resolve()), replace(runtime, compile=False))  # "-o NAME" may be a catalog name as well
    write_report(out, plan, figures, taken=training.built.taken, seconds=course.seconds, started=started)
    return {"output": str(out), "step": course.step, "seconds": round(course.seconds, 1), "figures": figures}


class Training:
    """A SAM 2 that learns by Muon and NAdamW, with a moving average of its weights. A `visiontk.training.steps.Trained`.

    The heads of the hint are new in each run. Before a model that is trained is pulled by them, they learn alone to read it.
    """

    def __init__(self, plan: SegmentPlan, started: Started) -> None:
        self.plan, self.device, self._started = plan, started.device, started
        self.built = build(plan)
        self.model = self.built.model
        self.hint = Hint(_channels(self.model), len(world.names()))
        both = torch.nn.ModuleList([self.model, self.hint])
        self.learner = Learner(both, plan, self.device, lr=plan.lr, steps=plan.steps - plan.heads_alone, by_muon=_is_hidden)
        self.heads = torch.optim.AdamW(self.hint.parameters(), lr=HEADS_LR)

    @property
    def average(self) -> Any:
        """The model with the moving average of its weights."""
        return self.learner.average.module[0]

    def try_out(self) -> None:
        """Let the model see a few frames, and learn nothing: it would be told much later that its sizes do not go together.

        Raises ModelUnavailable.
        """
        size = int(self.model.image_size)
        batch = render_batch(0, range(4), 2, size, 1, dyed=False).to(self.device)
        try:
            with torch.no_grad(), autocast(self._started):
                track(self.model, batch, Prompting("point", (1,), 1), self.hint)
        except torch.OutOfMemoryError:
            raise
        except (AssertionError, RuntimeError, ValueError) as error:
            why = f" ({first_line(error)})" if str(error) else ""
            raise ModelUnavailable(f"the sizes in {config_file(self.plan)} do not go together{why}; mend it") from error

    def rate(self, step: int) -> float:
        return HEADS_LR if step < self.plan.heads_alone else self.learner.rate(step - self.plan.heads_alone)

    def advance(self, step: int) -> Mapping[str, float]:
        """One update. Lines hold ``iou``, that of the masks with the truth, or ``known``, the share of the places whose thing is named."""
        wanted = turn(self.plan, step)
        indices = range(step * 1000, step * 1000 + wanted.count)
        size = int(self.model.image_size)
        batch = render_batch(derive(self.plan.seed, "segment"), indices, wanted.frames, size, self.plan.objects, dyed=wanted.dyed)
        batch = batch.to(self.device)
        seed_everything(derive(self.plan.seed, "pass", step))
        if wanted.prompting is None:
            return self._recognise(batch, step)
        with autocast(self._started):
            passed = track(self.model, batch, wanted.prompting, self.hint)
        self._update(passed.loss, step)
        return {"loss": float(passed.loss.detach()), "iou": float(passed.iou)}

    def _update(self, loss: Tensor, step: int) -> None:
        if step >= self.plan.heads_alone:
            self.learner.update(loss, step - self.plan.heads_alone)
        elif math.isfinite(float(loss.detach())):
            learning = list(self.hint.parameters())
            for parameter, gradient in zip(learning, torch.autograd.grad(loss, learning, allow_unused=True), strict=True):
                parameter.grad = gradient
            self.heads.step()
            self.heads.zero_grad(set_to_none=True)

    def _recognise(self, batch: ClipBatch, step: int) -> Mapping[str, float]:
        """One update of the encoder and what enlarges its map, over single frames."""
        things, kinds = batch.things[0], batch.kinds[0]
        with autocast(self._started):
            maps = self.model.forward_image(normalise(batch.frames[0]))["backbone_fpn"]
            loss = self.hint.loss(maps, enlarge(self.model, maps), things, kinds)
            known = self.hint.known(maps[-1].detach(), kinds)
        self._update(loss, step)
        return {"loss": float(loss.detach()), "known": known}

    def state(self) -> dict[str, Any]:
        return self.learner.state() | {"heads": self.heads.state_dict()}

    def restore(self, state: dict[str, Any]) -> None:
        self.learner.restore(state)
        self.heads.load_state_dict(state["heads"])


def _is_hidden(name: str, parameter: Tensor) -> bool:
    """Whether a parameter is a matrix within the encoder, the memory attention or the mask decoder."""
    return parameter.ndim == 2 and any(part in name for part in HIDDEN)


def _channels(model: Any) -> list[int]:
    """Of the maps that ``forward_image`` gives, from fine to coarse."""
    decoder = model.sam_mask_decoder
    if not model.use_high_res_features_in_sam:
        return [model.hidden_dim] * (len(model.image_encoder.neck.convs) - model.image_encoder.scalp)
    return [decoder.conv_s0.out_channels, decoder.conv_s1.out_channels, model.hidden_dim]
