"""One call of ``visiontk train classify``, from the plan to the finished folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from visiontk.errors import DeviceError, OutOfMemory, UsageError, first_line
from visiontk.runtime import Runtime, Started, memory_errors

from .checkpoint import Folder
from .examples import read_examples
from .identity import identity
from .job import Job, config_of
from .loop import Hold, Listener
from .network import make_network
from .pictures import Files, Source
from .plan import Plan
from .teaching import candidate, teacher_of

_PRECISIONS = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}


def run(
    plan: Plan,
    runtime: Runtime,
    out: Path,
    listener: Listener,
    *,
    workers: int | None = None,
    overwrite: bool = False,
    hold: Hold = nullcontext,
) -> dict[str, Any]:
    """Train, or go on training, and write the folder ``out``.

    Args:
        plan: what to do; ``plan.seed`` counts and not the runtime's.
        runtime: where. Mixed precision where its dtype is not fp32; the weights that are trained are always fp32.
        workers: processes that prepare pictures beside the training; None: as many as there are cores with a GPU, none without.
        overwrite: take the folder from another run.
        hold: puts Ctrl-C off, see `Loop`.

    Returns:
        What the run came to: ``output``, ``figures`` by split, ``step``; for ``few_shot`` the accuracies.

    Raises:
        VisiontkError: with a message that says what to do.
    """
    plan.check()
    started = replace(runtime, seed=plan.seed).start()
    source = open_data(plan)
    network = make_network(plan, source.classes)
    config = config_of(network, source)
    accelerator = make_accelerator(plan, started)
    folder, taught = Folder(out), candidate(plan, source.classes, network, config)
    if accelerator.is_main_process:
        teacher = {"teacher_revision": taught.revision} if taught and taught.revision else {}
        folder.claim({**identity(plan, started), **teacher, **source.describe()}, overwrite=overwrite)
    accelerator.wait_for_everyone()
    listener = listener if accelerator.is_main_process else Silence()
    for warning in source.warnings:
        listener.warn(warning)
    count = workers if workers is not None else min(8, os.cpu_count() or 1) if started.device.type == "cuda" else 0
    job = Job(plan, runtime, started, source, network, config, accelerator, folder, listener, count)
    with memory_advice(plan):
        if taught is not None:
            job.teacher = teacher_of(job, taught, hold)
        return job.few_shot() if plan.few_shot else job.linear_probe() if plan.linear_probe else job.train(hold)


def open_data(plan: Plan) -> Source:
    """The data set that DATA names. Raises UsageError."""
    if plan.data == "tiny":
        from .tiny_data import TinyWorld

        return TinyWorld()
    return Files(plan.data, read_examples(plan.data, plan.val_share, plan.seed))


def make_accelerator(plan: Plan, started: Started) -> Any:
    """accelerate's part: devices, processes, mixed precision, accumulation, compilation. Under ``accelerate launch`` there are many."""
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState
    from accelerate.utils import DataLoaderConfiguration, GradientAccumulationPlugin

    if started.dtype_name == "fp16" and started.device.type == "cpu":
        raise UsageError("training in fp16 needs a GPU; use --dtype bf16 or fp32")
    AcceleratorState._reset_state(reset_partial_state=True)  # it outlives a call, and the next one may want another device
    if started.device.index is not None:
        os.environ["ACCELERATE_TORCH_DEVICE"] = str(started.device)
    return Accelerator(
        cpu=started.device.type == "cpu",
        mixed_precision=_PRECISIONS[started.dtype_name],
        dynamo_backend="inductor" if started.compile else None,
        gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=plan.accumulate, sync_with_dataloader=False),
        dataloader_config=DataLoaderConfiguration(split_batches=True),  # the batch is the same however many processes share it
    )


@contextmanager
def memory_advice(plan: Plan) -> Iterator[None]:
    """Say what to do when memory runs out, and when compilation fails."""
    try:
        with memory_errors():
            yield
    except OutOfMemory as error:
        if plan.probes:  # which runs a fixed number of pictures at a time and has no batch to split
            raise DeviceError(f"{error}; pass a smaller --size") from error
        advice = f"pass --accumulate {2 * plan.accumulate}, which takes the same batch in smaller passes, or a smaller --size"
        raise DeviceError(f"{error}; {advice}") from error
    except Exception as error:
        if type(error).__module__.startswith("torch._"):
            raise DeviceError(f"torch.compile failed ({first_line(error)}); install a C++ compiler, or leave out --compile") from error
        raise


class Silence:
    """The listener of every process but the main one."""

    def begin(self, steps: int, done: int, what: str = "") -> None: ...

    def step(self, step: int) -> None: ...

    def metrics(self, line: dict[str, Any]) -> None: ...

    def warn(self, message: str) -> None: ...
