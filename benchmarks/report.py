"""What the benchmarks print: the machine, one Markdown table per topic, and what they are doing meanwhile, on stderr."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Table:
    """A topic's figures. ``notes`` say what the numbers cannot."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()

    def markdown(self) -> str:
        lines = [f"### {self.title}", "", _row(self.columns), _row(["---"] + ["---:"] * (len(self.columns) - 1))]
        lines += [_row(row) for row in self.rows]
        lines += [f"\n{note}" for note in self.notes]
        return "\n".join(lines) + "\n"


def doing(what: str) -> None:
    """One line on stderr, so that minutes of silence are none."""
    print(f"==> {what}", file=sys.stderr, flush=True)


def middle(values: Iterable[float], digits: int = 1) -> str:
    """The median."""
    return f"{statistics.median(values):,.{digits}f}"


def spread(values: Sequence[float], digits: int = 1) -> str:
    """The lowest and the highest: how noisy the machine was."""
    return f"{min(values):,.{digits}f} to {max(values):,.{digits}f}"


def ratios(over: Sequence[float], under: Sequence[float]) -> list[float]:
    """Round by round: what slowed a whole round down falls out of its ratio."""
    return [a / b for a, b in zip(over, under, strict=True)]


def target(values: Sequence[float], *, least: float | None = None, most: float | None = None) -> str:
    """A target in words, and whether the values meet it: all of them, none, or so many."""
    if least is not None:
        words, met = f"at least {least:g}", [value >= least for value in values]
    else:
        assert most is not None
        words, met = f"at most {most:g}", [value <= most for value in values]
    return f"{words}: {'met' if all(met) else f'met in {sum(met)} of {len(met)} rounds' if any(met) else 'missed'}"


def machine(device: str) -> str:
    """The hardware and the versions that the figures belong to, without the machine's name."""
    import platform

    import PIL
    import timm
    import torch

    from visiontk.runtime import Runtime, multiplies_bf16_fast

    started = Runtime(device=device).start()
    cpu = torch.device("cpu")
    parts = [
        f"{_cpu_model()}, {_cores()} cores",
        f"bf16 on the CPU is {'fast' if multiplies_bf16_fast(cpu) else 'not fast (no AMX, no AVX512-BF16)'}",
        f"GPU: {torch.cuda.get_device_name(started.device)}" if started.device.type == "cuda" else "no GPU",
        f"Python {platform.python_version()}, torch {torch.__version__} with {torch.get_num_threads()} threads",
        f"timm {timm.__version__}, transformers {_version('transformers')}, Pillow {PIL.__version__}",
    ]
    return "Machine: " + "; ".join(parts) + "."


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _cores() -> int:
    import os

    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _cpu_model() -> str:
    import platform

    file = Path("/proc/cpuinfo")
    lines = file.read_text("utf-8", "replace").splitlines() if file.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _version(package: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
