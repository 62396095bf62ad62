"""A SAM 2 model on its device: from a picture to features, and from features and prompts to mask logits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from PIL.Image import Image
from torch import Tensor, nn

from visiontk.errors import DeviceError, first_line
from visiontk.runtime import Runtime, Started, memory_errors

from .segment_types import Mask, ObjectPrompt

# ImageNet's, which sam2/utils/transforms.py applies.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# What `sam2` holds for the logits of "surely" and "surely not", as in SAM2Base._use_mask_as_output.
SURE = 10.0
SMALL = 512  # sides in pixels below this are those of a small model


@dataclass(frozen=True)
class Features:
    """One picture, encoded. ``maps`` and ``positions`` are (pixels, 1, channels) from fine to coarse, ``shapes`` their (height, width)."""

    height: int
    width: int
    maps: list[Tensor]
    positions: list[Tensor]
    shapes: list[tuple[int, int]]

    def folded(self, level: int) -> Tensor:
        """A map as (1, channels, height, width)."""
        return self.maps[level].permute(1, 2, 0).view(1, -1, *self.shapes[level])


def start(runtime: Runtime, size: int) -> Started:
    """The runtime in force for a model that sees ``size`` x ``size`` pixels. Raises DeviceError.

    On a CPU ``auto`` is fp32 for a small model: bf16 costs more per layer than it saves in so few pixels, even where it is multiplied fast.
    """
    started = runtime.start()
    if size < SMALL and runtime.dtype == "auto" and started.device.type == "cpu":
        return replace(started, dtype=torch.float32)
    return started


class Network:
    """What the image, the video and the everything mode share.

    The arithmetic is float32, or ``torch.autocast`` of float32 weights to bf16 or fp16, as Meta's examples run the model. The weights of
    linear and convolutional layers are stored as autocast would cast them at each call, which changes no bit and halves their memory.
    """

    def __init__(self, model: nn.Module, runtime: Started) -> None:
        self.runtime = runtime
        self.model = cast(Any, model.to(runtime.device))  # a sam2.modeling.sam2_base.SAM2Base, which has no types
        self.image_size: int = self.model.image_size
        if runtime.dtype != torch.float32:
            for layer in model.modules():
                if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
                    layer.to(runtime.dtype)
        encoder = self.model.image_encoder
        if runtime.compile:
            encoder.forward = torch.compile(encoder.forward, dynamic=False)
        else:
            encoder.neck.position_encoding.forward = _once(encoder.neck.position_encoding.forward)
            encoder.trunk._get_pos_embed = _once(encoder.trunk._get_pos_embed)
        self.model.memory_encoder.position_encoding.forward = _once(self.model.memory_encoder.position_encoding.forward)
        self.model.sam_prompt_encoder.get_dense_pe = _once(self.model.sam_prompt_encoder.get_dense_pe)
        self._embed, self._unprompted, self._nothing = self.model.sam_prompt_encoder.forward, False, None
        self.model.sam_prompt_encoder.forward = self._embed_prompt
        shape = (1, 3, 1, 1)
        self._mean, self._std = (torch.tensor(numbers, device=runtime.device).view(shape) for numbers in (MEAN, STD))

    @contextmanager
    def running(self) -> Iterator[None]:
        """Everything that computes stands in this. Raises `OutOfMemory`, and `DeviceError` where compilation fails."""
        device, dtype = self.runtime.device, self.runtime.dtype
        autocast = nullcontext() if dtype == torch.float32 else torch.autocast(device.type, dtype=dtype)
        try:
            with memory_errors(), torch.inference_mode(), autocast:
                yield
        except Exception as error:
            if self.runtime.compile and type(error).__module__.startswith("torch._"):
                raise DeviceError(f"torch.compile failed ({first_line(error)}); install a C++ compiler, or leave out --compile") from error
            raise

    @contextmanager
    def unprompted(self, applies: bool) -> Iterator[None]:
        """In this nobody points at anything, which the prompt encoder then need not embed again for each frame and object."""
        self._unprompted = applies
        try:
            yield
        finally:
            self._unprompted = False

    def pixels(self, image: Image) -> Tensor:
        """A picture as (1, 3, image_size, image_size), float32, normalised: the same for images and frames of videos.

        As sam2's transform for images does it (scaled, then resized with antialiasing); its loaders of videos resize in other ways.
        """
        size = (self.image_size, self.image_size)
        rgb = image if image.mode == "RGB" else image.convert("RGB")
        pixels = torch.from_numpy(np.array(rgb)).to(self.runtime.device).permute(2, 0, 1).contiguous()[None].float().div_(255)
        if pixels.shape[2:] != size:
            pixels = F.interpolate(pixels, size, mode="bilinear", antialias=True)
        return pixels.sub_(self._mean).div_(self._std)

    def encode(self, image: Image) -> Features:
        """The features of an RGB picture, which every object in it and every prompt shares."""
        _, maps, positions, shapes = self.model._prepare_backbone_features(self.model.forward_image(self.pixels(image)))
        return Features(image.height, image.width, maps, positions, shapes)

    def clicks(self, prompt: ObjectPrompt, features: Features) -> dict[str, Tensor] | None:
        """Points and box as sam2 takes them: (1, N, 2) in pixels of the model's input, and labels (1, N); a box comes first, as 2 and 3."""
        corners = [] if prompt.box is None else [prompt.box[:2], prompt.box[2:]]
        if not corners and not prompt.points:
            return None
        labels = [2, 3][: len(corners)] + list(prompt.labels)
        extent = torch.tensor([features.width, features.height])
        # In this order of operations, and on the CPU, as the official predictors do it; the result is the same to the last bit.
        coordinates = torch.tensor([[*corners, *prompt.points]], dtype=torch.float32) / extent * self.image_size
        device = self.runtime.device
        return {"point_coords": coordinates.to(device), "point_labels": torch.tensor([labels], dtype=torch.int32, device=device)}

    def mask(self, mask: Mask) -> Tensor:
        """A mask of the picture as (1, 1, image_size, image_size) of zeros and ones, float32."""
        full = torch.from_numpy(np.ascontiguousarray(mask)).to(self.runtime.device, torch.float32)[None, None]
        size = (self.image_size, self.image_size)
        if mask.shape == size:
            return full
        return (F.interpolate(full, size, mode="bilinear", antialias=True) >= 0.5).float()

    def hint(self, mask: Mask) -> Tensor:
        """A mask of the picture as logits to start from, of the size that the model's own logits have: 4 to a place of the coarsest map."""
        size = self.model.sam_prompt_encoder.mask_input_size
        return F.interpolate(self.mask(mask) * (2 * SURE) - SURE, size, mode="bilinear", antialias=True)

    def embedding(self, features: Features) -> Tensor:
        """The coarsest map as the mask decoder takes it in single images: (1, channels, S, S), in which S is image_size over its stride."""
        coarse = features.folded(-1)
        return coarse + self.model.no_mem_embed.view(1, -1, 1, 1) if self.model.directly_add_no_mem_embed else coarse

    def decode(self, features: Features, clicks: dict[str, Tensor], hint: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Segment one object in a single image, as SAM2ImagePredictor does.

        Args:
            features: of the picture.
            clicks: see `clicks`. A single point is ambiguous: of three masks for it the one with the best estimated IoU counts, unless
                the model's configuration wants one (``multimask_output_in_sam: false``).
            hint: logits (1, 1, 4 S, 4 S) of a mask to start from, with the S of `embedding`.

        Returns:
            Mask logits (1, 1, 4 S, 4 S), the estimated IoU and the logit of "the object is visible", one number each.
        """
        model, labels = self.model, clicks["point_labels"]
        sparse, dense = model.sam_prompt_encoder(points=(clicks["point_coords"], labels), boxes=None, masks=hint)
        masks, ious, _, score = model.sam_mask_decoder(
            image_embeddings=self.embedding(features),
            image_pe=model.sam_prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=labels.shape[1] == 1 and model.multimask_output_in_sam,
            repeat_image=False,
            high_res_features=[features.folded(level) for level in range(len(features.maps) - 1)],
        )
        best = ious[0].argmax()
        return masks[:, best, None].float(), ious[0, best].float(), score[0, 0].float()

    def enlarge(self, logits: Tensor, features: Features) -> Mask:
        """Mask logits (1, 1, height, width) of any size to the mask of the picture."""
        size = (features.height, features.width)
        full = logits if logits.shape[2:] == size else F.interpolate(logits, size, mode="bilinear", align_corners=False)
        mask: Mask = (full[0, 0] > 0).cpu().numpy()
        return mask

    def _embed_prompt(self, points: Any, boxes: Any, masks: Any) -> Any:
        if not self._unprompted:
            return self._embed(points, boxes, masks)
        self._nothing = self._nothing or self._embed(points, boxes, masks)
        return self._nothing


def _once(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Position encodings, of which only the shape and dtype of the argument matter, computed once and not for each frame and object.

    For a map the encoding is cast to the map's dtype, which is what its callers do next: 85 MB to write for each frame of 1024 pixels.
    """
    known: dict[object, Tensor] = {}

    def remembered(*arguments: Any) -> Tensor:
        [given] = arguments or [None]
        key = (given.shape, given.dtype) if isinstance(given, Tensor) else given
        if key not in known:
            known[key] = function(*arguments).to(given.dtype) if isinstance(given, Tensor) else function(*arguments)
        return known[key]

    return remembered
