"""Promptable segmentation of images and videos with SAM 2: from the catalog, the hub, a folder or a file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor

from visiontk import catalog
from visiontk.errors import ItemError, UsageError
from visiontk.runtime import Runtime, Started, memory_errors

from .segment_auto import everything, extent, numbers_beside, unknown
from .segment_network import SMALL, Features, Network, start
from .segment_types import Auto, Everything, FrameMasks, Mask, ObjectMask, ObjectPrompt
from .segment_video import LookAhead, Tracked, Tracker
from .segment_weights import build, find_config, image_size, read_config, read_weights
from .weights_file import sha256

__all__ = ["Auto", "Everything", "FrameMasks", "Mask", "ObjectMask", "ObjectPrompt", "Segmenter", "load"]


class Segmenter:
    """A SAM 2 model. `visiontk.load("segment", ...)` makes one.

    Attributes:
        name: catalog name, hub id or local path.
        revision: the hub's commit, or the sha256 of the weights.
        warning: what the user should know about the choice of model, or None.
        runtime: device and dtype in force.
        image_size: side in pixels of what the model sees; every picture is resized to it, without keeping its aspect.
        knobs: of `everything`, where none are given.
    """

    def __init__(self, network: Network, *, name: str, revision: str, warning: str | None = None, knobs: Everything | None = None) -> None:
        self.network, self.name, self.revision, self.warning = network, name, revision, warning
        self.knobs = knobs or Everything()
        self.runtime: Started = network.runtime
        self.image_size = network.image_size

    def image(self, image: Image, prompts: Sequence[ObjectPrompt]) -> list[ObjectMask]:
        """Segment objects in one picture, one mask for each prompt, in order.

        As SAM2ImagePredictor does: of the three masks for a single point the best one counts, and for more points or a box there is one
        mask. It is given whatever the score. A mask as a prompt is a hint to be refined: it counts together with its box.

        Raises:
            UsageError: a prompt says nothing or its mask is of another size.
            ItemError: ``not_finite``, the model gave NaN or infinity.
            OutOfMemory: it does not fit the device.
        """
        for prompt in prompts:
            prompt.check(*image.size)
        with self.network.running():
            features = self.network.encode(image)
            return [self._prompted(features, prompt) for prompt in prompts]

    def everything(self, image: Image, knobs: Everything | None = None) -> list[ObjectMask]:
        """Masks of everything in one picture, numbered 1, 2, 3, ... by falling area. Raises as `image` does."""
        with self.network.running():
            return everything(self.network, image, self.network.encode(image), knobs or self.knobs)

    def video(
        self,
        frames: Iterable[tuple[int, Image]],
        prompts: Sequence[ObjectPrompt],
        *,
        reverse: bool = False,
        auto: Auto | None = None,
        length: int | None = None,
    ) -> Iterator[FrameMasks]:
        """Track objects through a video of any length, in constant memory; one result per frame, as soon as it is there.

        The masks are those of the official video predictor to the last bit, with its settings for tracking (``apply_postprocessing``
        without the filling of holes, and ``add_all_frames_to_correct_as_cond``), where prompts are given as their frames come. Tracking
        backwards is a run of its own: nothing of a run forwards is known in it.

        Args:
            frames: (index, picture) in the order of tracking, read one by one; up to 16 are read ahead once. Where indices are left out,
                the frames that come count as neighbours.
            prompts: each takes effect when its frame comes. There a new object starts, and one that is tracked already is corrected: the
                points or the box improve on its mask, a mask replaces it.
            reverse: the indices fall.
            auto: also find objects without prompts. They get the numbers after those of the prompts.
            length: how many frames the whole video has, where that is known. It is needed to be exact with ``reverse`` from one of the
                first 15 frames, and spares reading ahead.

        Raises:
            UsageError: as `image`, and for two prompts for one object on one frame.
            ItemError: ``not_finite``, the model gave NaN or infinity; ``no_frame``, at the end: a prompt's frame never came.
            OutOfMemory: it does not fit the device.
        """
        waiting = _by_frame(prompts)
        source = LookAhead(frames)
        tracker = Tracker(self.network, reverse=reverse)
        numbers = numbers_beside({prompt.object_id for prompt in prompts})
        first = last = None
        for step, (index, image) in enumerate(source):
            first, last = index if first is None else first, index
            here = waiting.pop(index, {})
            for prompt in here.values():
                prompt.check(*image.size)
            seed = auto is not None and (step == 0 or (auto.every is not None and step % auto.every == 0))
            if not (tracker.objects or here or seed):
                yield FrameMasks(index, [])
                continue
            position = first - step if reverse else first + step
            if tracker.objects and length is None:
                length = first + 1 if reverse else first + source.count(tracker.pointers - first)
            with self.network.running():
                features = self.network.encode(image)
                found = tracker.track(position, features, here, length or 0)
                found += [tracker.start(position, features, prompt) for prompt in here.values() if prompt.object_id not in tracker.objects]
                masks = self._masks(found, features)
                if seed and auto is not None:
                    fresh = unknown(everything(self.network, image, features, auto.knobs or self.knobs), masks)
                    starts = [ObjectPrompt(next(numbers), index, mask=one.mask) for one in fresh]
                    masks += self._masks([tracker.start(position, features, prompt) for prompt in starts], features)
            yield FrameMasks(index, sorted(masks, key=lambda mask: mask.object_id))
        if waiting:
            frame, late = min(waiting.items())
            came = "there are no frames" if first is None or last is None else f"the frames are {min(first, last)} to {max(first, last)}"
            raise ItemError("no_frame", f"the prompt for object {min(late)} is on frame {frame}, which never comes: {came}")

    def _prompted(self, features: Features, prompt: ObjectPrompt) -> ObjectMask:
        hint = None
        if prompt.mask is not None:
            if not prompt.mask.any():
                return ObjectMask(prompt.object_id, prompt.mask, 1.0, 0.0)  # nothing is nothing
            rows, columns = extent(prompt.mask)
            box = (float(columns.start), float(rows.start), float(columns.stop), float(rows.stop))
            hint = self.network.hint(prompt.mask)
            prompt = ObjectPrompt(prompt.object_id, prompt.frame, box=box)
        clicks = self.network.clicks(prompt, features)
        assert clicks is not None, "checked before"
        logits, iou, score = self.network.decode(features, clicks, hint)
        [(fit, visible, _)] = self._numbers([(iou, score)])
        return ObjectMask(prompt.object_id, self.network.enlarge(logits, features), fit, visible)

    def _masks(self, tracked: Sequence[Tracked], features: Features) -> list[ObjectMask]:
        """At the size of the picture. Hidden objects, whose logits are all -1024, are not resized to see that."""
        masks = []
        for one, (fit, visible, hidden) in zip(tracked, self._numbers([(one.iou, one.score) for one in tracked]), strict=True):
            nothing = np.zeros((features.height, features.width), dtype=np.bool_)
            masks.append(ObjectMask(one.object_id, nothing if hidden else self.network.enlarge(one.logits, features), fit, visible))
        return masks

    def _numbers(self, pairs: Sequence[tuple[Tensor, Tensor]]) -> list[tuple[float, float, bool]]:
        """Estimated IoUs and visibility logits to numbers in [0, 1] and whether the object is hidden, in one transfer from the device."""
        if not pairs:
            return []
        table = torch.stack([torch.cat([iou.float().flatten(), score.float().flatten()]) for iou, score in pairs]).cpu()
        if not table.isfinite().all():
            raise ItemError("not_finite", f"{self.name} gave NaN or infinity in {self.runtime.dtype_name}; try --dtype fp32")
        fits, logits = table[:, 0].clamp(0, 1), table[:, 1]
        if not self.network.model.pred_obj_scores:
            return [(fit, 1.0, False) for fit in fits.tolist()]
        return list(zip(fits.tolist(), logits.sigmoid().tolist(), (logits <= 0).tolist(), strict=True))


def load(model: str | None = None, runtime: Runtime | None = None) -> Segmenter:
    """Find, read and build a segmenter.

    Args:
        model: catalog name, hub id, folder with ``config.yaml`` and ``model.safetensors``, or weights file; None for the recommended one,
            or the bundled one where that cannot be had.
        runtime: device, dtype and the like; the default chooses by itself.

    Raises:
        ModelUnavailable, DeviceError: see the messages.
    """
    location = catalog.locate_default("segment") if model is None else locate(model)
    config = read_config(find_config(location.weights))
    size = image_size(config, location.name)
    started = start(runtime or Runtime(), size)
    with ThreadPoolExecutor(1) as pool:
        revision = pool.submit(lambda: location.revision or sha256(location.weights))  # beside the building
        with memory_errors("choose a smaller model or --device cpu"):
            network = Network(build(config, read_weights(location.weights), location.name), started)
    # A model for small pictures sees small masks, of which the grid and the thresholds for 1024 pixels leave too many or none.
    knobs = Everything(points_per_side=16, min_iou=0.7, min_stability=0.85) if size < SMALL else Everything()
    return Segmenter(network, name=location.name, revision=revision.result(), warning=location.warning, knobs=knobs)


def locate(model: str) -> catalog.Location:
    """The files of a model that was named: catalog name, path or hub id. Raises `ModelUnavailable`."""
    location = catalog.locate("segment", model)
    if location is None:
        raise catalog.unknown(model, "segment")
    return location


def _by_frame(prompts: Sequence[ObjectPrompt]) -> dict[int, dict[int, ObjectPrompt]]:
    """Prompts by frame, then by object, in the order of the objects' numbers."""
    frames: dict[int, dict[int, ObjectPrompt]] = {}
    for prompt in sorted(prompts, key=lambda prompt: (prompt.frame, prompt.object_id)):
        if prompt.object_id in frames.setdefault(prompt.frame, {}):
            raise UsageError(f"object {prompt.object_id} has two prompts on frame {prompt.frame}; join them into one")
        frames[prompt.frame][prompt.object_id] = prompt
    return frames
