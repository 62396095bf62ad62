"""What makes a run of training that run, and no other."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from visiontk.runtime import Started

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


def identity(plan: DataclassInstance, started: Started) -> dict[str, Any]:
    """The plan, and the number type and device that it runs in."""
    # --half changes what is written in the end and nothing of what is computed.
    asked = {name: value for name, value in asdict(plan).items() if name != "half"}
    return {**asked, "dtype": started.dtype_name, "device": started.device.type}
