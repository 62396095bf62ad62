"""Random numbers that depend on their name alone: seed, index of the item, purpose and position.

A generator that is drawn from in turn would make an item depend on its neighbours in the batch, and one generator for each item costs
more than the picture. These numbers are hashes (splitmix64, Steele et al. 2014), so a whole batch takes one pass of arithmetic.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1, _MIX_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


class Draws:
    """Uniform numbers for a batch of items, one row for each; every call goes on where the last one stopped.

    ``purpose`` separates streams: what one part of the renderer draws never shifts what another part gets.
    """

    def __init__(self, seed: int, indices: Sequence[int] | npt.NDArray[np.int64], purpose: str, device: torch.device | str = "cpu") -> None:
        named = (seed + zlib.crc32(purpose.encode()) * int(_GOLDEN)) % 2**64
        key = _mix(np.asarray([named], dtype=np.uint64))
        self._rows = _mix(key + np.asarray(indices, dtype=np.int64).astype(np.uint64) * _GOLDEN)[:, None]
        self._position = 0
        self.device = torch.device(device)

    def __len__(self) -> int:
        return len(self._rows)

    def uniform(self, *shape: int) -> torch.Tensor:
        """float32 (B, *shape) in [0, 1)."""
        return self.between(0.0, 1.0, *shape)

    def between(self, low: float, high: float, *shape: int) -> torch.Tensor:
        """float32 (B, *shape) in [low, high)."""
        values = (low + (high - low) * self._doubles(shape)).astype(np.float32)
        return torch.from_numpy(values).to(self.device)

    def choose(self, count: int, *shape: int) -> torch.Tensor:
        """int64 (B, *shape) from 0 to count - 1."""
        return torch.from_numpy((self._doubles(shape) * count).astype(np.int64)).to(self.device)

    def chance(self, probability: float, *shape: int) -> torch.Tensor:
        """bool (B, *shape)."""
        return torch.from_numpy(self._doubles(shape) < probability).to(self.device)

    def _doubles(self, shape: tuple[int, ...]) -> npt.NDArray[np.float64]:
        count = math.prod(shape)
        columns = np.arange(self._position + 1, self._position + 1 + count, dtype=np.uint64)
        self._position += count
        bits = _mix(self._rows + columns * _GOLDEN)
        return ((bits >> np.uint64(11)).astype(np.float64) * 2.0**-53).reshape(len(self), *shape)


def _mix(bits: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """The finaliser of splitmix64; products wrap around."""
    bits = (bits ^ (bits >> np.uint64(30))) * _MIX_1
    bits = (bits ^ (bits >> np.uint64(27))) * _MIX_2
    mixed: npt.NDArray[np.uint64] = bits ^ (bits >> np.uint64(31))
    return mixed
