"""The folder that a run leaves behind: a model that `visiontk.load` and timm read, measured as it stands there, with its card."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from visiontk.artefacts import write
from visiontk.errors import OutputError
from visiontk.runtime import Runtime

from .card import card
from .curves import plot, read_metrics
from .measure import Figures, measure
from .pictures import DataConfig, Pictures

MODEL_FILES = ("model.safetensors", "config.json")  # the configuration last: a folder that has one has weights


def save_model(network: nn.Module, folder: Path, classes: list[str], config: DataConfig, *, half: bool) -> None:
    """Write timm's hub format, each file whole or not at all; ``half`` rounds the weights to fp16. Raises OutputError."""
    from timm.models import save_for_hf

    network = (network.half() if half else network.float()).to(memory_format=torch.contiguous_format)
    try:
        with tempfile.TemporaryDirectory(prefix=".model.", dir=folder) as made:
            save_for_hf(network, made, model_config={"label_names": classes}, safe_serialization=True, data_config=config)
            for name in MODEL_FILES:
                data = (Path(made) / name).read_bytes()
                write(folder / name, lambda file, data=data: file.write(data))  # type: ignore[misc]
    except OSError as error:
        raise OutputError(f"cannot write the model to {folder} ({error.strerror or error}); make room and run it again") from error


def measure_model(folder: Path, measured: dict[str, Pictures], runtime: Runtime, workers: int, batch: int) -> dict[str, Figures]:
    """Figures of the model in a folder, through the code that `visiontk classify` runs, so many pictures at once."""
    from visiontk.adapters.classify import load

    classifier = load(str(folder.resolve()), runtime)  # "-o NAME" may be a catalog name as well

    def logits_of(images: Tensor) -> Tensor:
        return classifier.forward(classifier.normalise([np.asarray(images)]))[0]

    return {name: measure(logits_of, pictures, workers, batch=batch) for name, pictures in measured.items()}


def write_card(folder: Path, facts: dict[str, Any]) -> None:
    """README.md. Raises OutputError."""
    write(folder / "README.md", lambda file: file.write(card({"name": str(folder), **facts}).encode("utf-8", "surrogateescape")))


def write_curves(folder: Path, metrics: Path, title: str) -> None:
    """curves.png, of the lines in ``metrics``. Raises OutputError."""
    figure = plot(read_metrics(metrics), title)
    write(folder / "curves.png", lambda file: figure.savefig(file, format="png"))


def device_name(device: torch.device) -> str:
    """In words, for the card."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{torch.get_num_threads()} CPU thread{'s' if torch.get_num_threads() > 1 else ''}" if device.type == "cpu" else device.type
