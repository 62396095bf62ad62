"""Random numbers as a pure function of where in the run they are drawn, so that a run that was killed goes on as if it had not been."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b

import numpy as np
import torch


def derive(*names: int | str) -> int:
    """A 32-bit seed for a place in the run: the run's seed and, say, the epoch and the image."""
    return int.from_bytes(blake2b(repr(names).encode(), digest_size=4).digest(), "little")


def seed_everything(seed: int) -> None:
    """Seed Python's, numpy's and torch's own generators, the latter on every device."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """As `seed_everything` for the CPU's generators, inside this block alone."""
    held = random.getstate(), np.random.get_state(), torch.default_generator.get_state()
    random.seed(seed)
    np.random.seed(seed)
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(held[0])
        np.random.set_state(held[1])
        torch.default_generator.set_state(held[2])
