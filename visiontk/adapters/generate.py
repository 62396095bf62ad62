"""Text to image, image to image and inpainting with the pipelines of diffusers: from the catalog, the hub, a folder or a checkpoint."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from PIL.Image import Image

from visiontk import catalog
from visiontk.errors import DeviceError, ItemError, ModelUnavailable, UsageError, first_line
from visiontk.loras import Lora
from visiontk.runtime import DTYPES, Runtime, Started, memory_errors

from . import generate_pictures, generate_schedulers, generate_speed, generate_weights
from .generate_lora import Additions
from .generate_options import Options, options, resolve
from .generate_prompt import cut, skipping
from .generate_quiet import quiet
from .generate_types import Generated, Request, Step, Task
from .generate_weights import locate

__all__ = ["Generated", "Generator", "Lora", "Request", "Step", "Task", "load", "locate"]

# Up to this size of the weights a CPU is faster in fp32: bf16 costs more per layer than it saves in so few numbers.
SMALL = 200e6
# How many pixels one pass of a device makes: four pictures of 1024 x 1024 on a GPU.
PIXELS = {"cuda": 4 * 1024**2, "mps": 1024**2, "cpu": 512**2}


class Generator:
    """A model that makes images. `visiontk.load("generate", ...)` makes one.

    Attributes:
        name: catalog name, hub id or local path.
        revision: the hub's commit, or the sha256 of the weights.
        variant: of the weights, as ``fp16``; None for the plain ones.
        warning: what the user should know about the choice of model, or None.
        runtime: device and dtype in force.
        tasks: what its family can do.
        schedulers: the names of samplers that it takes.
        loras: what is added to it where a request says nothing else.
        pipeline: of diffusers, for the task that it was loaded for; those of the others share its networks.
    """

    def __init__(
        self,
        pipeline: Any,
        task: Task,
        runtime: Started,
        *,
        name: str,
        revision: str,
        tasks: frozenset[Task],
        entry: catalog.Entry | None = None,
        variant: str | None = None,
        warning: str | None = None,
        offload: str | None = None,
        loras: Sequence[Lora] = (),
        additions: Additions,
    ) -> None:
        self.name, self.revision, self.variant, self.warning, self.runtime, self.tasks = name, revision, variant, warning, runtime, tasks
        self.loras, self._additions = tuple(loras), additions
        self.pipeline, self._entry, self._offload = pipeline, entry, offload
        self._pipelines: dict[Task, Any] = {task: pipeline}
        self._options: dict[Task, Options] = {}
        self._sampler = pipeline.scheduler
        self._placed: Any = None
        self.schedulers = tuple(generate_schedulers.available(self._sampler))

    @property
    def batch_size(self) -> int:
        """Images at once: what was asked for, else what suits the device and the model's usual size."""
        width, height = (self._entry and self._entry.size) or options(self.pipeline).size
        return self.runtime.batch_size or max(1, min(16, PIXELS.get(self.runtime.device.type, 512**2) // (width * height)))

    def resolve(self, request: Request) -> Request:
        """The request with every option that the model has filled in: as the catalog says, else the pipeline's own default.

        Raises:
            UsageError: the model cannot do it, an option of it would be ignored, or a value makes no sense.
        """
        if request.task not in self.tasks:
            raise UsageError(generate_weights.cannot(self.name, request.task, self.tasks))
        own = generate_schedulers.own_name(self._sampler)
        request = request if request.loras is not None else replace(request, loras=self.loras)
        self._additions.check(request.loras or ())
        return resolve(request, self._has(request.task), self._entry, self.schedulers, own, self.name)

    def lora_revision(self, lora: Lora) -> str:
        """``sha256:`` of the file of a LoRA. Raises ModelUnavailable where it cannot be had."""
        return self._additions.revision(lora)

    def generate(self, requests: Sequence[Request], on_step: Callable[[Step], None] | None = None) -> list[Generated | ItemError]:
        """Make one image for each request, in order; those that fit into one pass go together.

        Every image begins with noise of its own seed, so what is made beside it changes no more than rounding does.

        Args:
            on_step: called after each step of each pass; what it raises ends the call.

        Raises:
            UsageError: as `resolve`.
            OutOfMemory: a pass does not fit the device.
            DeviceError: compiling failed.

        Returns:
            for each its image, or an `ItemError`: ``blocked`` by the model's safety checker, ``not_finite``, ``bad_prompt`` for a LoRA
            that cannot be had or does not fit the model.
        """
        groups: dict[object, list[int]] = {}
        resolved = [self.resolve(request) for request in requests]
        for place, request in enumerate(resolved):
            groups.setdefault(self._together(request, place), []).append(place)
        answers: dict[int, Generated | ItemError] = {}
        for places in groups.values():
            answers |= zip(places, self._pass([resolved[place] for place in places], places, on_step), strict=True)
        return [answers[place] for place in range(len(resolved))]

    def _together(self, request: Request, place: int) -> object:
        """Requests for which this is equal go into one pass."""
        if request.init is not None and not self._has(request.task).batches_images:
            return place
        one_call = (request.task, request.steps, request.guidance, request.size, request.scheduler, request.clip_skip, request.strength)
        return (*one_call, request.loras, request.negative is None)

    def _pass(
        self, requests: Sequence[Request], places: Sequence[int], on_step: Callable[[Step], None] | None
    ) -> list[Generated | ItemError]:
        begun = time.perf_counter()
        first = requests[0]
        assert first.scheduler is not None and first.loras is not None
        with memory_errors(), quiet():
            try:
                self._additions.use(first.loras)
            except ModelUnavailable as error:
                return [ItemError("bad_prompt", str(error)) for _ in requests]
            pipeline = self._pipeline(first.task)
            pipeline.scheduler = generate_schedulers.make(self._sampler, first.scheduler)
            arguments = self._arguments(requests)
            if on_step is not None:
                arguments |= _watch(pipeline, requests, places, on_step, arguments, self._has(first.task))
            try:
                with skipping(pipeline):
                    output = pipeline(**arguments)
            except Exception as error:
                if self.runtime.compile and type(error).__module__.startswith("torch._"):
                    raise DeviceError(
                        f"torch.compile failed ({first_line(error)}); install a C++ compiler, or leave out --compile"
                    ) from error
                raise
        pixels = np.asarray(output.images)
        blocked = getattr(output, "nsfw_content_detected", None) or [False] * len(requests)
        share = (time.perf_counter() - begun) / len(requests)
        return [
            self._answer(request, one, bool(flag), len(requests), share)
            for request, one, flag in zip(requests, pixels, blocked, strict=True)
        ]

    def _answer(
        self, request: Request, pixels: generate_pictures.Floats, blocked: bool, batch: int, seconds: float
    ) -> Generated | ItemError:
        if not np.isfinite(pixels).all():
            return ItemError("not_finite", f"{self.name} gave NaN or infinity in {self.runtime.dtype_name}; try --dtype fp32")
        if blocked:
            return ItemError("blocked", f"the safety checker of {self.name} blocked the picture; change the prompt or the seed")
        [image] = generate_pictures.to_images(pixels[None])
        image = generate_pictures.finish(image, request)
        ends = [text and cut(self._pipelines[request.task], text) for text in (request.prompt, request.negative)]
        return Generated(image, request, batch, ends[0] or None, seconds, ends[1] or None)

    def _arguments(self, requests: Sequence[Request]) -> dict[str, Any]:
        """What the pipeline is called with; lists of one entry for each picture."""
        first = requests[0]
        has = self._has(first.task)
        assert first.size is not None
        arguments: dict[str, Any] = {
            "prompt": [request.prompt for request in requests],
            "num_inference_steps": first.steps,
            "generator": [torch.Generator("cpu").manual_seed(request.seed) for request in requests],
            "output_type": "np",
        }
        if has.guidance_name is not None:
            arguments[has.guidance_name] = first.guidance
        if first.negative is not None:
            arguments["negative_prompt"] = [request.negative for request in requests]
        if first.clip_skip is not None:
            arguments["clip_skip"] = first.clip_skip
        if "height" in has.parameters and "width" in has.parameters:
            arguments |= {"width": first.size[0], "height": first.size[1]}
        if first.init is not None:
            images = [generate_pictures.init(request) for request in requests]
            arguments["image"] = images if has.batches_images else images[0]
        if first.mask is not None:
            arguments["mask_image"] = [generate_pictures.mask(request) for request in requests]
        if first.strength is not None:
            arguments["strength"] = first.strength
        return arguments

    def _pipeline(self, task: Task) -> Any:
        """The pipeline of a task, on its device. All of them share the same networks."""
        pipeline = self._made(task)
        if pipeline is not self._placed:  # offloading hangs on the pipeline that runs, so it moves along
            generate_speed.place(pipeline, self.runtime.device, self._offload)
            self._placed = pipeline
        return pipeline

    def _has(self, task: Task) -> Options:
        if task not in self._options:
            self._options[task] = options(self._made(task))
        return self._options[task]

    def _made(self, task: Task) -> Any:
        if task not in self._pipelines:
            self._pipelines[task] = generate_weights.switch(self.pipeline, task)
        return self._pipelines[task]


def load(
    model: str | None = None,
    runtime: Runtime | None = None,
    *,
    loras: Sequence[Lora] = (),
    quantize: str | None = None,
    offload: str | None = None,
    task: Task = "text2image",
    safety: bool | None = True,
    variant: str | None = None,
) -> Generator:
    """Find, read and build a generator.

    Args:
        model: catalog name, hub id, the folder of a pipeline or a checkpoint of safetensors; None for the recommended one, or the bundled
            one where that cannot be had.
        runtime: device, dtype and the like; the default chooses by itself.
        loras: additions to the weights.
        quantize: ``int8``, or None.
        offload: ``model`` or ``sequential`` keep weights in memory until the GPU needs them; None keeps them there.
        task: what it will be used for, checked before any weights are read. It can still do all that its family can.
        safety: use the model's own safety checker, where it has one; False is an error where it has none, and None is not.
        variant: of the weights, as ``fp16``.

    Raises:
        ModelUnavailable, DeviceError, UsageError: see the messages.
    """
    asked = runtime or Runtime()
    started = asked.start()
    generate_speed.check(quantize, offload, started.device)
    generate_weights.check_early(model, task, safety)
    location = catalog.locate_default("generate") if model is None else locate(model, variant)
    entry = generate_weights.defaults(location)
    files = generate_weights.Files(location, variant or (entry.variant if entry and not entry.bundled else None))
    tasks = files.tasks()
    generate_weights.check(location.name, tasks, files.has_safety_checker, task, safety)
    started = replace(started, dtype=_dtype(asked, started, entry, files.size))
    with ThreadPoolExecutor(1) as pool, memory_errors():
        revision = pool.submit(lambda: location.revision or files.revision)  # beside the building
        pipeline = generate_weights.read(files, task, started.dtype, safety=bool(safety))
        additions = Additions(pipeline, location.name)
        additions.use(loras)
        if quantize is not None:
            generate_speed.to_int8(pipeline)
            additions.settled = "quantized"
        if started.compile:
            generate_speed.compile_denoiser(pipeline)
            additions.settled = "compiled"
    return Generator(
        pipeline,
        task,
        started,
        name=location.name,
        revision=revision.result(),
        tasks=tasks,
        entry=entry,
        variant=files.variant,
        warning=location.warning,
        offload=offload,
        loras=loras,
        additions=additions,
    )


def _dtype(asked: Runtime, started: Started, entry: catalog.Entry | None, size: int) -> torch.dtype:
    """What was asked for; else on a GPU the catalog's type, and on a CPU bf16 where that is fast and the model not small, else fp32."""
    wanted = entry.dtype if entry else None
    if asked.dtype != "auto":
        return started.dtype
    if started.device.type == "cpu":
        return torch.float32 if wanted == "fp32" or size < SMALL else started.dtype
    return getattr(torch, DTYPES[wanted]) if wanted else started.dtype


def _watch(
    pipeline: Any,
    requests: Sequence[Request],
    places: Sequence[int],
    on_step: Callable[[Step], None],
    arguments: dict[str, Any],
    has: Options,
) -> dict[str, Any]:
    """The arguments that make a pipeline tell of its steps."""

    def tell(index: int, latents: torch.Tensor) -> None:
        def pictures() -> list[Image]:
            return generate_pictures.decode(pipeline, latents, requests)

        steps = int(getattr(pipeline, "num_timesteps", None) or arguments["num_inference_steps"])
        on_step(Step(index + 1, max(steps, index + 1), tuple(places), pictures))

    def at_end(_: Any, index: int, __: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        tell(index, tensors["latents"])
        return {}

    if "callback_on_step_end" in has.parameters:
        return {"callback_on_step_end": at_end}
    if "callback" in has.parameters:  # the older way, of PixArt for one
        return {"callback": lambda index, _, latents: tell(index, latents), "callback_steps": 1}
    return {}
