"""Options that the trainings share, each defined once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from visiontk.errors import UsageError

TinyData = Annotated[str, typer.Argument(metavar="DATA", show_default=False, help="tiny: the bundled world, rendered while it is learned.")]
Out = Annotated[Path | None, typer.Option("-o", "--out", metavar="DIR", help="The folder of this run, and in the end of the model.")]
LearningRate = Annotated[float, typer.Option("--lr", metavar="X", min=0.0, help="Highest learning rate.")]
WeightDecay = Annotated[float, typer.Option("--weight-decay", metavar="X", min=0.0)]
Warmup = Annotated[int, typer.Option("--warmup", metavar="N", min=0, help="Steps of warm-up, at most a tenth of all.")]
Clip = Annotated[float, typer.Option("--clip", metavar="X", min=1e-9, help="Largest norm of the gradients.")]
Ema = Annotated[float, typer.Option("--ema", metavar="X", min=0.0, max=1.0, help="Moving average of the weights.")]
Half = Annotated[bool, typer.Option("--half", help="Write the weights in fp16.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Take DIR from another run.")]


def folder(out: Path | None) -> Path:
    """Where the run goes. Raises UsageError where nothing says so."""
    if out is None:
        raise UsageError("nothing says where the model goes; pass -o DIR")
    return out
