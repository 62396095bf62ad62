"""What a file of weights holds, without unpickling code, and what its revision is."""

from __future__ import annotations

import hashlib
import warnings
from pathlib import Path
from typing import Any

import torch

from visiontk.errors import ModelUnavailable, first_line

StateDict = dict[str, torch.Tensor]


def read(file: Path) -> Any:
    """The content, on the CPU. Safetensors by suffix; anything else through ``torch.load(weights_only=True)``.

    Raises:
        ModelUnavailable: not a file of weights, or one that would run code.
    """
    try:
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file

            return dict(load_file(file))
        with warnings.catch_warnings(action="ignore"):  # torch warns of old pickle protocols, and then reads them or says why not
            return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a hostile or broken file can raise anything
        if "weights_only" in str(error) or "Unsupported" in str(error):
            message = f"{file} is a pickle that could run code, so it is refused; convert it to safetensors where you trust it"
            raise ModelUnavailable(message) from error
        cure = "it is cut off, or no file of weights: fetch it again, or name another"
        raise ModelUnavailable(f"{file} cannot be read as weights ({first_line(error)}); {cure}") from error


def tensors(found: Any, file: Path) -> StateDict:
    """What was read as tensors by name. Raises ModelUnavailable where it is something else."""
    if not isinstance(found, dict) or not found or not all(isinstance(value, torch.Tensor) for value in found.values()):
        raise ModelUnavailable(f"{file} holds no dictionary of tensors; name a file of weights")
    return found


def sha256(file: Path) -> str:
    """The revision of a local file: ``sha256:`` and 64 hexadecimal digits."""
    with file.open("rb") as stream:
        return "sha256:" + hashlib.file_digest(stream, "sha256").hexdigest()
