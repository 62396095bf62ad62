"""One training pass of SAM 2 over clips: prompts on the first frame, tracking through the others, correction clicks where it goes wrong.

As section D.2 of the SAM 2 paper and sam2's training/model/sam2.py describe it, over the package's own model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from .segment_clips import ClipBatch, normalise
from .segment_hint import Hint, enlarge
from .segment_loss import mask_loss, mean_iou

Kind = Literal["point", "box", "mask"]


@dataclass(frozen=True)
class Prompting:
    """How the objects of a batch are prompted.

    Attributes:
        kind: what stands on the first frame.
        corrected: frames that get correction clicks, one after another; the clicks are drawn from where the mask is wrong.
        clicks: how many each of them gets.
    """

    kind: Kind
    corrected: Sequence[int] = ()
    clicks: int = 0


@dataclass(frozen=True)
class Passed:
    """``loss``: to be minimised, the mean over objects and frames. ``iou``: of the masks that are kept, over all frames."""

    loss: Tensor
    iou: Tensor


def track(model: Any, batch: ClipBatch, prompting: Prompting, hint: Hint | None = None) -> Passed:
    """Run a ``SAM2Base`` in training mode over a batch. Random draws come from torch's generator; ``hint`` adds its loss."""
    length, objects = batch.masks.shape[:2]
    features = model.forward_image(normalise(batch.frames.flatten(0, 1)))
    asked: Tensor | int = 0
    if hint is not None:
        seen = features["backbone_fpn"]
        asked = hint.loss(seen, enlarge(model, seen), batch.things.flatten(0, 1), batch.kinds.flatten(0, 1))
    if objects == 0:  # of few pictures or clips, it may be that none shows enough of a thing at first
        return Passed(features["vision_features"].sum() * 0 + asked, torch.ones((), device=batch.masks.device))
    _, maps, positions, sizes = model._prepare_backbone_features(features)
    memory: dict[str, dict[int, Any]] = {"cond_frame_outputs": {}, "non_cond_frame_outputs": {}}
    loss, iou = torch.zeros((), device=batch.masks.device), torch.zeros((), device=batch.masks.device)
    for frame in range(length):
        target = batch.masks[frame]
        rows = frame * batch.frames.shape[1] + batch.clip_of
        own_maps, own_positions = [value[:, rows] for value in maps], [value[:, rows] for value in positions]
        points, masks = _first_prompt(target, prompting.kind) if frame == 0 else (None, None)
        out, answer, high_res, mixed = model._track_step(
            frame, frame == 0, own_maps, own_positions, sizes, points, masks, memory, length, False, None
        )
        if masks is None:  # a mask that was given is its own answer
            loss = loss + _loss(answer, target)
        if frame > 0 and hint is not None:
            asked = asked + hint.memory_loss(mixed, target) / (length - 1)
        if frame in prompting.corrected:
            for _ in range(prompting.clicks):
                points = _correct(points, target, answer[4])
                answer = model._forward_sam_heads(
                    backbone_features=mixed,
                    point_inputs=points,
                    mask_inputs=answer[3],
                    high_res_features=high_res,
                    multimask_output=model._use_multimask(frame == 0, points),
                )
                loss = loss + _loss(answer, target)
        iou = iou + mean_iou(answer[4].detach(), target)
        if length > 1:
            model._encode_memory_in_output(own_maps, sizes, points, True, answer[4], answer[6], out)
            out["obj_ptr"] = answer[5]
            memory["cond_frame_outputs" if frame == 0 or frame in prompting.corrected else "non_cond_frame_outputs"][frame] = out
    steps = length - (prompting.kind == "mask") + len(prompting.corrected) * prompting.clicks
    return Passed(loss / (objects * steps) + asked, iou / length)


def _loss(answer: Any, target: Tensor) -> Tensor:
    _, high, ious, _, _, _, score = answer
    return mask_loss(high, ious, score, target).sum()


def _first_prompt(target: Tensor, kind: Kind) -> tuple[dict[str, Tensor] | None, Tensor | None]:
    from sam2.modeling.sam2_utils import get_next_point, sample_box_points

    masks = target[:, None]
    if kind == "mask":
        return None, masks.float()
    points, labels = sample_box_points(masks) if kind == "box" else get_next_point(masks, None, "uniform")
    return {"point_coords": points, "point_labels": labels}, None


def _correct(points: dict[str, Tensor] | None, target: Tensor, logits: Tensor) -> dict[str, Tensor]:
    from sam2.modeling.sam2_utils import get_next_point
    from sam2.utils.misc import concat_points

    new, labels = get_next_point(target[:, None], logits.detach() > 0, "uniform")
    joined: dict[str, Tensor] = concat_points(points, new, labels)
    return joined
