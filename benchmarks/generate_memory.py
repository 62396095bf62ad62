"""Peak memory over few and over many pictures: `visiontk generate`, and a bare pipeline loop on the same prompts."""

from __future__ import annotations

import sys
import tempfile

from visiontk.runtime import Runtime, Started

from . import children
from . import generate_material as material
from .report import Table, doing, target

FLAT = 1.05
STEPS = 2  # memory does not depend on them
OURS = "visiontk generate"


def table(runtime: Runtime, few: int, many: int) -> Table:
    """Of the process, so on a GPU it is the main memory alone."""
    started = runtime.start()
    batch = min(runtime.batch_size or 8, few)
    rows = []
    for way in (OURS, "bare loop"):
        small, large = (_run(way, started, batch, count) for count in (few, many))
        ratio = large.peak_mib / small.peak_mib
        goal = target([ratio], most=FLAT) if way == OURS else ""
        rows.append([way, f"{small.peak_mib:.0f} MiB", f"{large.peak_mib:.0f} MiB", f"{ratio:.2f}", goal])
    columns = ["", f"{few} pictures", f"{many} pictures", "ratio", f"target: flat, which is read as {FLAT:g}"]
    note = (
        f"Peak resident memory of the process by `os.wait4`, torch and diffusers included; batches of {batch}, one thread, "
        f"{started.dtype_name} on {started.device.type}."
    )
    return Table("Peak memory of text to image", columns, rows, [note])


def _run(way: str, started: Started, batch: int, count: int) -> children.Usage:
    doing(f"memory: {count} pictures, {way}")
    model, prompts, device = material.tiny_model(), str(material.order_file(count)), str(started.device)
    with tempfile.TemporaryDirectory() as out:
        if way == OURS:
            given = material.command(model, started.dtype_name, device, batch, steps=STEPS)
            return children.run([children.VISIONTK, *given, "--threads", "1", "--prompts", prompts, "-o", f"{out}/"])
        dtype = str(started.dtype).removeprefix("torch.")
        numbers = [str(batch), str(STEPS), str(material.GUIDANCE), str(material.SIZE)]
        return children.run([sys.executable, "-m", "benchmarks.generate_bare", str(model), prompts, out, dtype, device, *numbers])
