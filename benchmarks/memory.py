"""Peak memory of `visiontk classify` over few and over many paths."""

from __future__ import annotations

import tempfile
from pathlib import Path

from . import children, material
from .report import Table, doing, target

FLAT = 1.05


def table(few: int, many: int) -> Table:
    """A folder, and a pipe of paths. The model is a tiny one with random weights, so that it is the paths that take the time."""
    model = str(material.model_folder("test_vit"))
    rows = []
    for way in ("a folder", "a pipe of paths"):
        small, large = (_run(way, model, count) for count in (few, many))
        ratio = large.peak_mib / small.peak_mib
        rows.append([way, f"{small.peak_mib:.0f} MiB", f"{large.peak_mib:.0f} MiB", f"{ratio:.2f}", target([ratio], most=FLAT)])
    columns = ["", f"{few:,} paths", f"{many:,} paths", "ratio", f"target: flat, which is read as {FLAT:g}"]
    note = "Peak resident memory of one `visiontk classify --threads 1` by `os.wait4`, torch and timm included; test_vit, random weights."
    return Table("Peak memory", columns, rows, [note])


def _run(way: str, model: str, count: int) -> children.Usage:
    paths = material.links(count)
    doing(f"memory: {count:,} paths as {way}")
    command = [children.VISIONTK, "classify", "--quiet", "--threads", "1", "--format", "jsonl", "--model", model]
    if way == "a folder":
        return children.run([*command, str(Path(paths[0]).parent)])
    with tempfile.TemporaryDirectory() as folder:
        names = Path(folder) / "names"
        names.write_text("".join(f"{path}\n" for path in paths), "utf-8")
        return children.run(command, stdin=names)
