"""Peak memory over few and over many frames: `visiontk segment` on a video, and SAM 2's own predictor on its frames as JPEGs."""

from __future__ import annotations

import sys
import tempfile

from . import children
from . import segment_material as material
from .report import Table, doing, target

FLAT = 1.05
FORWARD = "visiontk segment"
BOTH = "the same, both ways from the middle, with overlay and masks"
OFFICIAL = "sam2's SAM2VideoPredictor"


def table(few: int, many: int) -> Table:
    """With the bundled model, whose frames are 128 pixels wide; at 1024 pixels the official predictor takes 64 times as much per frame."""
    rows = []
    for way in (FORWARD, BOTH, OFFICIAL):
        small, large = (_run(way, count) for count in (few, many))
        ratio = large.peak_mib / small.peak_mib
        goal = target([ratio], most=FLAT) if way != OFFICIAL else ""
        growth = (large.peak_mib - small.peak_mib) * 1024 / (many - few)
        rows.append([way, f"{small.peak_mib:.0f} MiB", f"{large.peak_mib:.0f} MiB", f"{ratio:.2f}", f"{growth:.1f} KiB", goal])
    columns = ["", f"{few:,} frames", f"{many:,} frames", "ratio", "growth a frame", f"target: flat, which is read as {FLAT:g}"]
    note = "Peak resident memory of the process by `os.wait4`, torch included; tiny-sam2, one object, one thread, fp32 on the CPU."
    return Table("Peak memory of video segmentation", columns, rows, [note])


def _run(way: str, count: int) -> children.Usage:
    doing(f"memory: {count:,} frames, {way}")
    if way == OFFICIAL:
        return children.run([sys.executable, "-m", "benchmarks.segment_official", str(material.frames(count))])
    video = material.video(count)
    options = ["--quiet", "--threads", "1", "--format", "jsonl", "--device", "cpu", "--dtype", "fp32", "--model", material.TINY]
    if way == FORWARD:
        return children.run([children.VISIONTK, "segment", str(video), "--prompt", "point:128,128", *options])
    with tempfile.TemporaryDirectory() as folder:
        options += ["--direction", "both", "--save", "overlay,masks", "-o", f"{folder}/"]
        return children.run([children.VISIONTK, "segment", str(video), "--prompt", f"point:128,128@{count // 2}", *options])
