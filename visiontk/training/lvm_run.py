"""One run of ``visiontk train lvm``, and the finished folder."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from visiontk.runtime import Runtime, memory_errors

from .loop import Hold, Listener
from .lvm_learn import Training, new_parts
from .lvm_measure import measure
from .lvm_output import write_model, write_report
from .lvm_plan import LvmPlan
from .steps import Run, claim


def run(
    plan: LvmPlan, runtime: Runtime, out: Path, listener: Listener, *, overwrite: bool = False, hold: Hold = nullcontext
) -> dict[str, Any]:
    """Train a large vision model on sentences of the tiny world, or go on training its LLaMA, and write the folder ``out``.

    Args:
        plan: what to do; ``plan.seed`` counts and not the runtime's.
        runtime: where; the LLaMA under autocast where its dtype is not fp32. The weights that are trained are always fp32.
        overwrite: take the folder from another run.
        hold: puts Ctrl-C off while an update is half done.

    Returns:
        ``output``, ``step``, ``seconds``, ``figures``.

    Raises:
        VisiontkError: with a message that says what to do.
    """
    plan.check()
    started = replace(runtime, seed=plan.seed).start()
    training = Training(plan, started, new_parts(plan.codes, plan.vqgan, plan.model, seed=plan.seed))
    folder = claim(plan, "lvm", started, out, overwrite=overwrite)
    course = Run(training, plan.picture_steps + plan.steps, folder, listener, hold)
    with memory_errors("use a smaller --batch or --vqgan-batch, or --device cpu"):
        course.train()
    write_model(training.finished(), out, half=plan.half)
    figures = measure(str(out.resolve()), replace(runtime, compile=False))  # "-o NAME" may be a catalog name as well
    write_report(out, plan, figures, seconds=course.seconds, started=started)
    return {"output": str(out), "step": course.step, "seconds": round(course.seconds, 1), "figures": figures}
