"""What a line says of a picture that was made, and by which a stopped run knows it again."""

from __future__ import annotations

import functools
from collections.abc import Callable
from importlib import metadata
from typing import TYPE_CHECKING, Any

from visiontk import orders, resume
from visiontk.records import Record

if TYPE_CHECKING:
    from visiontk.adapters.generate import Generator
    from visiontk.adapters.generate_types import Generated, Request
    from visiontk.runtime import Started

# Of a picture's line: what it is made from. Its file's name is not part of it.
_MADE_FROM = ("prompt", "negative", "seed", "steps", "guidance", "scheduler", "size", "clip_skip", "strength", "loras", "quantize")
_PACKAGES = ("visiontk", "torch", "diffusers", "transformers")
_ALSO = {"loras": "peft", "quantize": "torchao"}  # where the line has such a key
# Of a failed one: what was asked for.
_ASKED = ("path", "frame", "input", "prompt", "seed", *orders.OPTIONS, "init", "mask")


def setup(generator: Generator, quantize: str | None, offload: str | None) -> Record:
    """How the model was loaded, as all lines of a run say it."""
    shown = {
        "quantize": quantize,
        "offload": offload,
        "variant": generator.variant,
        "compile": generator.runtime.compile or None,
    }
    return {key: value for key, value in shown.items() if value is not None}


def made_from(generator: Generator, request: Request, setup: Record, init: Record | None, mask: Record | None) -> Record:
    """The parameters of a request that the model has filled in; those that it has not are left out.

    Raises:
        ModelUnavailable: a LoRA cannot be had.
    """
    loras = [{"id": lora.id, "weight": lora.weight, "revision": generator.lora_revision(lora)} for lora in request.loras or ()]
    value: Record = {
        "prompt": request.prompt,
        "negative": request.negative,
        "seed": request.seed,
        "steps": request.steps,
        "guidance": request.guidance,
        "scheduler": request.scheduler,
        "size": None if request.size is None else list(request.size),
        "clip_skip": request.clip_skip,
        "strength": request.strength,
        "loras": loras or None,
        **setup,
        "init": init,
        "mask": mask,
    }
    return {key: one for key, one in value.items() if one is not None}


def value(generator: Generator, made: Generated, from_: Record) -> Record:
    """What stands under the stage's key: ``from_`` is that of `made_from`."""
    from visiontk.media.embedded import pixels_sha256

    found: Record = {"model": generator.name, "revision": generator.revision, **from_}
    if made.cut is not None:
        found["cut"] = made.cut
    found |= {"batch": made.batch, "pixels": pixels_sha256(made.image)}
    return found | surroundings(generator.runtime, from_) | {"seconds": round(made.seconds, 6)}


def surroundings(runtime: Started, from_: Record) -> Record:
    """What besides the parameters decides the last bits of a picture."""
    import torch

    more = [package for key, package in _ALSO.items() if key in from_]
    found: Record = {
        "versions": {package: _version(package) for package in (*_PACKAGES, *more)},
        "dtype": runtime.dtype_name,
        "device": _device(runtime.device),
    }
    if runtime.device.type == "cpu":
        found["threads"] = torch.get_num_threads()
    return found


@functools.cache
def _version(package: str) -> str:
    return metadata.version(package)


def _device(device: Any) -> Record:
    import platform

    import torch

    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    elif device.type == "cpu":
        name = f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
    else:
        name = platform.machine()
    return {"type": device.type, "name": name}


def identify(stage: str) -> Callable[[Record], bytes]:
    """For `resume.read_held`: a picture is known by what it is made from, a failed one by what was asked for."""

    def of(record: Record) -> bytes:
        value = record.get(stage)
        if not isinstance(value, dict):
            return resume.identity(record)
        if "error" in value:
            about = {"asked": {key: record[key] for key in _ASKED if record.get(key) is not None}}
        else:
            about = {key: value[key] for key in _MADE_FROM if value.get(key) is not None}
            about |= {key: value[key].get("sha256") for key in ("init", "mask") if isinstance(value.get(key), dict)}
        return resume.fingerprint(about)

    return of
