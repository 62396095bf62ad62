"""Options that several commands share, each defined once. A command names those it has."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from visiontk import settings
from visiontk.runtime import Runtime


def complete_models() -> list[str]:
    """For shell completion of model names."""
    return complete_classifiers() + complete_segmenters() + complete_generators() + complete_lvms()


def complete_classifiers() -> list[str]:
    """Likewise, of one task."""
    return _names("classify")


def complete_segmenters() -> list[str]:
    """Likewise."""
    return _names("segment")


def complete_generators() -> list[str]:
    """Likewise."""
    return _names("generate")


def complete_lvms() -> list[str]:
    """Likewise."""
    return _names("lvm")


def _names(task: str) -> list[str]:
    from visiontk import catalog

    return [entry.name for entry in catalog.entries() if entry.task == task]


Inputs = Annotated[
    list[str] | None,
    typer.Argument(metavar="INPUT", show_default=False, help="Images, videos, folders, globs, URLs; - for a pipe."),
]
ClassifyModel = Annotated[
    str | None,
    typer.Option(
        "--model", "-m", metavar="NAME", help="Catalog name, timm name, hub id or local path.", autocompletion=complete_classifiers
    ),
]
SegmentModel = Annotated[
    str | None,
    typer.Option("--model", "-m", metavar="NAME", help="Catalog name, hub id or local path.", autocompletion=complete_segmenters),
]
GenerateModel = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        metavar="NAME",
        help="Catalog name, hub id, local folder or safetensors file.",
        autocompletion=complete_generators,
    ),
]
LvmModel = Annotated[
    str | None,
    typer.Option(
        "--model", "-m", metavar="NAME", help="Catalog name, hub id, or local folder with llama/ and vqgan/.", autocompletion=complete_lvms
    ),
]
Vqgan = Annotated[
    str | None,
    typer.Option(
        "--vqgan",
        metavar="NAME",
        help="Take the VQGAN of another model, or one alone: catalog name, hub id or folder. Then --model may be a LLaMA alone.",
        autocompletion=complete_lvms,
    ),
]
Stage = Annotated[str | None, typer.Option("--as", metavar="KEY", help="Key of the results in the record, instead of the command's name.")]
Format = Annotated[
    str | None, typer.Option("--format", "-f", metavar="table|jsonl|csv|tsv", help="Default: table on a terminal, else jsonl.")
]
Out = Annotated[str | None, typer.Option("-o", "--out", metavar="DIR|FILE|TEMPLATE", help="Where artefacts go (visiontk-out/).")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace artefacts that exist.")]
Resume = Annotated[Path | None, typer.Option("--resume", metavar="FILE.jsonl", help="Skip what FILE holds and append the rest to it.")]
Every = Annotated[
    int | None,
    typer.Option("--every", metavar="N", min=1, help="Every N-th frame of a video, or of an animation with --all-frames. Default: all."),
]
Fps = Annotated[
    float | None,
    typer.Option("--fps", metavar="N", min=1e-6, help="N frames for each second of a video, or of an animation with --all-frames."),
]
AllFrames = Annotated[bool, typer.Option("--all-frames", help="All frames of animated and multi-page images, not the first alone.")]
AllowUrls = Annotated[bool, typer.Option("--allow-urls", help="Fetch http and https inputs.")]
Null = Annotated[bool, typer.Option("-0", "--null", help="Names in the pipe end with NUL, as from find -print0.")]
Device = Annotated[str | None, typer.Option("--device", metavar="auto|cpu|cuda[:N]|mps", help="Where the model runs.")]
Dtype = Annotated[str | None, typer.Option("--dtype", metavar="auto|fp32|bf16|fp16", help="auto: bf16 where it is fast, else fp32.")]
Fp32Dtype = Annotated[
    str, typer.Option("--dtype", metavar="auto|fp32|bf16|fp16", help="fp32 gives the same figures on every machine, nearly.")
]
Compile = Annotated[bool | None, typer.Option("--compile/--no-compile", help="torch.compile the model: slow start, faster batches.")]
SegmentCompile = Annotated[
    bool | None,
    typer.Option("--compile/--no-compile", help="torch.compile the image encoder, and nothing else: slow start, faster frames."),
]
BatchSize = Annotated[str | None, typer.Option("--batch-size", "-b", metavar="auto|N", help="Items per pass; halved when memory runs out.")]
Seed = Annotated[int | None, typer.Option("--seed", metavar="N", min=0, help="Seed of every random choice.")]
Threads = Annotated[str | None, typer.Option("--threads", metavar="auto|N", help="CPU threads.")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="No progress, warnings or summary.")]
Verbose = Annotated[bool, typer.Option("-v", "--verbose", help="Say more: device, dtype, model, times.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks.")]


def runtime(
    in_force: settings.Settings,
    device: str | None = None,
    dtype: str | None = None,
    compile: bool | None = None,
    batch_size: str | None = None,
    seed: int | None = None,
    threads: str | None = None,
) -> Runtime:
    """The runtime from flags and, where a flag is missing, from the settings. Raises UsageError."""
    flags = {"device": device, "dtype": dtype, "compile": compile, "batch-size": batch_size, "seed": seed, "threads": threads}
    return Runtime.parse(**{name.replace("-", "_"): in_force.get(name, flag).value or "" for name, flag in flags.items()})
