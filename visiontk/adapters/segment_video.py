"""Tracking objects through a video in constant memory, with the official predictor's results to the last bit.

``SAM2VideoPredictor`` holds every frame (12 MiB each at 1024 pixels) and every object's output on every frame. Tracking reads far less: the
frames with prompts, the spatial memories of the last 6 frames and the object pointers of the last 15. This keeps just that, and drives the
model's own steps frame by frame. Only the number of frames that a video has stands in the way of a stream: with fewer than 16 of them
sam2 scales the pointers' positions by that number. So before the second step it reads up to 16 frames ahead.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from .segment_network import Features, Network
from .segment_types import ObjectPrompt

Item = TypeVar("Item")
Output = dict[str, Any]  # as sam2 keeps it: maskmem_features, maskmem_pos_enc, obj_ptr


@dataclass(frozen=True)
class Tracked:
    """One object on one frame, on the device.

    Attributes:
        logits: float32 (1, 1, 4 S, 4 S), where the coarsest map is of S x S places, and a quarter of image_size
            a side where the object's mask was given; -1024 everywhere where the object is hidden.
        iou: estimated IoU of the mask, one number.
        score: logit of "the object is visible", one number; the object is hidden up to 0.
    """

    object_id: int
    logits: Tensor
    iou: Tensor
    score: Tensor


class Heads(NamedTuple):
    """What the mask decoder says of one object: IoUs (1, masks), logits and ``full`` ones at image_size, pointer (1, channels), score."""

    ious: Tensor
    logits: Tensor
    full: Tensor
    pointer: Tensor
    score: Tensor


@dataclass
class Memory:
    """What is known of one object: outputs by position, of frames with prompts (all of them) and of others (the last few)."""

    prompted: dict[int, Output] = field(default_factory=dict)
    tracked: dict[int, Output] = field(default_factory=dict)


class LookAhead(Generic[Item], Iterator[Item]):
    """An iterator that can say whether there are so many items in all, reading no further than it must.

    An error met while reading ahead, such as a video's that is cut off, is raised where it belongs: after the items before it.
    """

    def __init__(self, items: Iterable[Item]) -> None:
        self._items = iter(items)
        self._waiting: deque[Item] = deque()
        self._read = 0
        self._error: Exception | None = None

    def __next__(self) -> Item:
        if self._waiting:
            return self._waiting.popleft()
        if self._error is not None:
            raise self._error
        item = next(self._items)
        self._read += 1
        return item

    def count(self, enough: int) -> int:
        """How many items there are in all, those already taken with them; at least ``enough`` reads as ``enough``."""
        while self._read < enough:
            try:
                item = next(self._items)
            except Exception as error:  # noqa: BLE001  StopIteration among them
                self._error = error
                return self._read
            self._read += 1
            self._waiting.append(item)
        return enough


class Tracker:
    """The objects of one video, from frame to frame.

    Frames are numbered by consecutive positions, rising, or falling with ``reverse``. Each object is a batch of one, as in the official
    predictor: batches of several objects would be faster on a GPU, but their sums differ in the last bits.
    """

    def __init__(self, network: Network, *, reverse: bool = False) -> None:
        self.network, self.reverse = network, reverse
        self.objects: dict[int, Memory] = {}
        self._positions: list[Tensor] | None = None  # of spatial memories: the same for all of them
        model = network.model
        stride = model.memory_temporal_stride_for_eval
        # How far back SAM2Base._prepare_memory_conditioned_features looks: 6 frames for spatial memories, and 15 for pointers.
        self._memory_reach = 1 + max(0, model.num_maskmem - 2) * stride
        self.pointers: int = model.max_obj_ptrs_in_encoder

    def track(self, position: int, features: Features, prompts: Mapping[int, ObjectPrompt], frames: int) -> list[Tracked]:
        """One step of all objects that are known.

        Args:
            position: of the frame.
            features: of the frame.
            prompts: corrections, by object; they start from the mask that the object has on this frame without them.
            frames: how many frames the video has, or `pointers` where it has more.
        """
        frames = max(frames, position + 1)  # sam2 also leaves out pointers of frames beyond the video's end
        found = []
        for object_id, memory in self.objects.items():
            heads = self._heads(memory, position, features, frames)
            if object_id in prompts:
                heads = self._prompted(memory, position, features, prompts[object_id], frames, heads.logits)
            else:
                memory.tracked[position] = self._remembered(features, heads, heads.full, prompted=False)
            self._forget(memory, position)
            found.append(Tracked(object_id, heads.logits, heads.ious.max(), heads.score))
        return found

    def start(self, position: int, features: Features, prompt: ObjectPrompt) -> Tracked:
        """A new object. Its prompt counts alone, without memories, as in an image."""
        memory = self.objects[prompt.object_id] = Memory()
        heads = self._prompted(memory, position, features, prompt, 1, None)
        return Tracked(prompt.object_id, heads.logits, heads.ious.max(), heads.score)

    def _prompted(
        self, memory: Memory, position: int, features: Features, prompt: ObjectPrompt, frames: int, before: Tensor | None
    ) -> Heads:
        """The object by a prompt. The frame joins those that are remembered for good (``add_all_frames_to_correct_as_cond``)."""
        clicks = self.network.clicks(prompt, features)
        mask = None if prompt.mask is None else self.network.mask(prompt.mask)
        hint = None if before is None or clicks is None else before.clamp(-32.0, 32.0)
        heads = self._heads(memory, position, features, frames, clicks, mask, hint, first=before is None)
        size = (self.network.image_size, self.network.image_size)
        full = F.interpolate(heads.logits, size, mode="bilinear", align_corners=False)
        memory.prompted[position] = self._remembered(features, heads, full, prompted=True)
        return heads

    def _heads(
        self,
        memory: Memory,
        position: int,
        features: Features,
        frames: int,
        clicks: dict[str, Tensor] | None = None,
        mask: Tensor | None = None,
        hint: Tensor | None = None,
        *,
        first: bool = False,
    ) -> Heads:
        """One step of SAM2Base.track_step, which would keep the estimated IoU to itself."""
        known = {"cond_frame_outputs": memory.prompted, "non_cond_frame_outputs": memory.tracked}
        maps, positions, shapes = features.maps, features.positions, features.shapes
        step = self.network.model._track_step
        with self.network.unprompted(clicks is None and mask is None):
            _, outputs, _, _ = step(position, first, maps, positions, shapes, clicks, mask, known, frames, self.reverse, hint)
        _, _, ious, logits, full, pointer, score = outputs
        return Heads(ious, logits, full, pointer, score)

    def _remembered(self, features: Features, heads: Heads, full: Tensor, *, prompted: bool) -> Output:
        """What later frames read of this one. Spatial memories are kept in bf16, as the official predictor does in every dtype.

        Under fp16 autocast they are fp16: it joins no bf16 to anything, and the official predictor fails on its second frame.
        """
        encode = self.network.model._encode_new_memory
        memory, positions = encode(features.maps, features.shapes, full, heads.score, prompted)
        self._positions = self._positions or [encoding[:1].clone() for encoding in positions]
        kept = torch.float16 if self.network.runtime.dtype == torch.float16 else torch.bfloat16
        return {"maskmem_features": memory.to(kept), "maskmem_pos_enc": self._positions, "obj_ptr": heads.pointer}

    def _forget(self, memory: Memory, position: int) -> None:
        """Leave out what no later frame reads."""
        for at in list(memory.tracked):
            age = abs(position - at)
            if age >= max(self._memory_reach, self.pointers - 1):
                del memory.tracked[at]
            elif age >= self._memory_reach:
                memory.tracked[at]["maskmem_features"] = None
