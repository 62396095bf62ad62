"""The memory of a GPU between two measurements."""

from __future__ import annotations

import gc

import torch


def free() -> None:
    """Give back what models that are gone have left."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
