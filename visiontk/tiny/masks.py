"""From visible masks to boxes and index maps."""

from __future__ import annotations

import torch


def boxes_of(masks: torch.Tensor) -> torch.Tensor:
    """float32 (..., 4): the extents, xyxy in pixels, of bool masks (..., H, W); right and lower edges exclusive, zeros for empty masks."""
    columns, rows = masks.any(-2), masks.any(-1)
    left, right = _extent(columns)
    top, bottom = _extent(rows)
    return torch.stack([left, top, right, bottom], dim=-1).float()


def index_map(masks: torch.Tensor) -> torch.Tensor:
    """uint8 (..., H, W) of disjoint masks (..., O, H, W): 0 is background, object o is o + 1."""
    numbers = torch.arange(1, masks.shape[-3] + 1, dtype=torch.uint8, device=masks.device)
    return (masks.to(torch.uint8) * numbers[:, None, None]).amax(-3)


def _extent(lines: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """First and one past the last True along the last dimension; 0 and 0 where there is none."""
    numbers = lines.to(torch.uint8)
    first = numbers.argmax(-1)
    last = lines.shape[-1] - numbers.flip(-1).argmax(-1)
    there = lines.any(-1)
    return first * there, last * there
