"""Learning from another network's answers.

The student sees what its teacher sees, in the same crop and colours, and learns to answer as the teacher does, the label aside (Beyer et
al. 2021, arXiv 2106.05237); and to have features from which the teacher's can be read, place by place (the hints of Romero et al. 2014,
arXiv 1412.6550).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from visiontk.errors import UsageError

from .chance import derive, seeded
from .pictures import DataConfig

HINT = 2.0  # weight of the hints beside the answers


class Teacher:
    """A trained network of the same classes, which learns no more.

    Attributes:
        channels: of its features. They are its last map that is as fine as the student's last, so that each place has a hint of its own.
        seconds: that its training took, where it was trained for this student.
    """

    def __init__(
        self, network: nn.Module, own: DataConfig, student: nn.Module, config: DataConfig, device: torch.device, seconds: float = 0.0
    ) -> None:
        """``own`` and ``config``: how pictures are prepared for it and for the student. Raises UsageError as `hints`."""
        self.network: Any = network.to(device).eval().requires_grad_(False)
        self.seconds = seconds
        self._index, self.channels = hints(network, student, config["input_size"])
        (mean, std), (from_mean, from_std) = (
            [torch.tensor(one[name], device=device).view(1, -1, 1, 1) for name in ("mean", "std")] for one in (own, config)
        )
        self._scale, self._shift = from_std / std, (from_mean - mean) / std

    def loss(self, pixels: Tensor, logits: Tensor, hinted: Tensor) -> Tensor:
        """The student's divergence from the teacher, a mean over the pictures; at least 0.

        Args:
            pixels: float (B, 3, S, S), normalised for the student.
            logits: float (B, classes), the student's.
            hinted: float (B, channels, height, width), what the student reads as the teacher's features, which are standardised.
        """
        with torch.no_grad():
            features, maps = self.network.forward_intermediates(pixels * self._scale + self._shift, indices=[self._index])
            answer = self.network.forward_head(features).float()
            seen = functional.interpolate(maps[0].float(), size=hinted.shape[-2:], mode="bilinear")
            seen = functional.layer_norm(seen.permute(0, 2, 3, 1), (self.channels,))
        apart = functional.kl_div(logits.float().log_softmax(1), answer.log_softmax(1), reduction="batchmean", log_target=True)
        return apart + HINT * functional.mse_loss(hinted.float().permute(0, 2, 3, 1), seen)


class Student(nn.Module):
    """A timm network, and a layer that reads the teacher's features from its own last map, which is thrown away in the end."""

    def __init__(self, network: nn.Module, channels: int, size: Sequence[int], seed: int) -> None:
        """``channels`` are the teacher's; ``size`` (3, S, S) that of the pictures. Raises UsageError as `hints`."""
        super().__init__()
        self.network = network
        own, _ = _maps(network, size)[-1]
        with seeded(derive(seed, "hint")):
            self.hint = nn.Conv2d(own, channels, 1)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised pixels (B, 3, S, S) to logits (B, classes), and to features like the teacher's (B, channels, height, width)."""
        network: Any = self.network
        features, maps = network.forward_intermediates(pixels, indices=1)
        return network.forward_head(features), self.hint(maps[-1])


def hints(teacher: nn.Module, student: nn.Module, size: Sequence[int]) -> tuple[int, int]:
    """Which of the teacher's maps the hints are, and of how many channels, for pictures (3, S, S).

    Raises UsageError for architectures without maps, or with patches left out of them.
    """
    maps, (_, wanted) = _maps(teacher, size), _maps(student, size)[-1]
    index = max((place for place, (_, side) in enumerate(maps) if side >= wanted), default=0)
    return index, maps[index][0]


def _maps(network: nn.Module, size: Sequence[int]) -> list[tuple[int, int]]:
    """Channels and height of its maps of features, from the first to the last, for pictures of this size."""
    from timm.layers import PatchDropout

    if not hasattr(network, "forward_intermediates"):
        raise UsageError(f"--teacher compares maps of features, and {type(network).__name__} gives none; name another architecture")
    if isinstance(getattr(network, "patch_drop", None), PatchDropout):
        raise UsageError("--teacher compares whole maps of features, of which patch_drop_rate leaves parts out; give one of them")
    training = network.training
    pixels = torch.zeros(1, *size, device=next(network.parameters()).device)
    with torch.no_grad():
        maps: Any = network.eval().forward_intermediates(pixels, intermediates_only=True)  # type: ignore[operator]
    network.train(training)
    return [(int(one.shape[1]), int(one.shape[2])) for one in maps]
