"""The losses of SAM 2 (paper, section D.2.1): focal and dice on the masks, L1 on the predicted IoU, cross-entropy on the object score.

The paper weights focal and dice 20 to 1, on an encoder that was trained before. A model that starts from nothing then learns that empty
masks cost little, and stays there; with 2 to 5 it does not.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

FOCAL, DICE, IOU, SCORE = 2.0, 5.0, 1.0, 1.0


def mask_loss(logits: Tensor, ious: Tensor, score: Tensor, target: Tensor) -> Tensor:
    """The loss of one answer of the model, a number for each object.

    Of several masks (M) only the one with the least loss learns its shape, and all of them learn their IoU. Where the object is hidden,
    only the object score learns.

    Args:
        logits: float (N, M, S, S).
        ious: float (N, M), predicted, in [0, 1].
        score: float (N, 1), the logit of being visible.
        target: bool (N, S, S).

    Returns:
        float32 (N).
    """
    from torchvision.ops import sigmoid_focal_loss

    logits, ious, score = logits.float(), ious.float(), score.float()
    wanted = target[:, None].expand_as(logits)
    truth = wanted.float()
    focal = sigmoid_focal_loss(logits, truth, alpha=0.25, gamma=2).flatten(2).mean(-1)
    shape = FOCAL * focal + DICE * dice(logits.flatten(2), truth.flatten(2))
    accuracy = functional.l1_loss(ious, _iou(logits > 0, wanted), reduction="none").mean(1)
    present = target.flatten(1).any(1).float()
    visible = functional.binary_cross_entropy_with_logits(score[:, 0], present, reduction="none")
    loss: Tensor = (shape.min(1).values + IOU * accuracy) * present + SCORE * visible
    return loss


def dice(logits: Tensor, truth: Tensor) -> Tensor:
    """One minus the dice coefficient of float (..., pixels) with truths of 0 and 1, a number for each."""
    probabilities = logits.sigmoid()
    common = 2 * (probabilities * truth).sum(-1)
    return 1 - (common + 1) / (probabilities.sum(-1) + truth.sum(-1) + 1)


def _iou(found: Tensor, wanted: Tensor) -> Tensor:
    found, wanted = found.flatten(2), wanted.flatten(2)
    iou: Tensor = (found & wanted).sum(-1) / (found | wanted).sum(-1).clamp(min=1)
    return iou


def mean_iou(logits: Tensor, target: Tensor) -> Tensor:
    """Of the masks (N, 1, S, S) against bool (N, S, S), where there is something to find: a number, for the progress line."""
    there = target.flatten(1).any(1)
    if not there.any():
        return torch.ones((), device=logits.device)
    return _iou(logits[there] > 0, target[there][:, None]).mean()
