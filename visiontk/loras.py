"""LoRAs as they are named: an id and a weight."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass

from .errors import UsageError

USUAL = ("pytorch_lora_weights.safetensors", "adapter_model.safetensors")  # what most files are called


@dataclass(frozen=True)
class Lora:
    """One addition to a model's weights. ``id`` is a file, a folder or a hub id (``org/name``, ``org/name/FILE.safetensors``); ``weight``
    scales it."""

    id: str
    weight: float = 1.0

    @classmethod
    def parse(cls, text: str) -> Lora:
        """From ``ID`` or ``ID:WEIGHT``.

        Raises:
            UsageError: the id is missing or the weight is no number.
        """
        name, colon, weight = text.rpartition(":")
        if not colon or os.path.exists(text):  # noqa: PTH110  Path raises for a name that is too long
            name, weight = text, "1"
        try:
            number = float(weight)
        except ValueError as error:
            raise UsageError(f"the weight of the LoRA {text!r} is no number; write ID:WEIGHT, as in ID:0.8") from error
        if not name or number != number or abs(number) == float("inf"):
            raise UsageError(f"the LoRA {text!r} makes no sense; write ID or ID:WEIGHT")
        return cls(name, number)

    def __str__(self) -> str:
        return self.id if self.weight == 1 else f"{self.id}:{self.weight!r}"


def parse(texts: Iterable[str]) -> tuple[Lora, ...]:
    """Several, in their order. Raises UsageError."""
    return tuple(map(Lora.parse, texts))
