"""How a picture was made, read back from its file or its line, which anyone may have written."""

from __future__ import annotations

import io
import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visiontk import catalog, orders
from visiontk.errors import ItemError, UsageError
from visiontk.loras import Lora
from visiontk.records import Record, encode

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

    from visiontk.adapters.generate_types import Request

_REQUEST = ("prompt", "seed", *orders.OPTIONS)
_DIGEST = re.compile(r"[0-9a-f]{64}")
_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+(@[\w./-]+)?")
_MOST_AT_ONCE = 256
# What a line says in one word, and what it is where the line leaves it out.
_COMPARED = {"model": "unknown", "revision": "unknown", "dtype": "unknown", "threads": "unknown"}
_COMPARED |= {"variant": "none", "quantize": "none", "offload": "none", "compile": "none"}


class Gone(ItemError):
    """An init image or a mask is not what it was, so the picture cannot be made again."""

    def __init__(self, message: str) -> None:
        super().__init__("missing", message)


@dataclass(frozen=True)
class Recipe:
    """What a file or a line says, each value of the type that it should be.

    Attributes:
        value: all of it.
        order: prompt, seed and options.
    """

    value: Record
    order: orders.Order

    @property
    def setup(self) -> Record:
        """How the model was loaded: names for `visiontk.adapters.generate.load`."""
        return {name: self.value.get(name) for name in ("quantize", "offload", "variant")}

    @property
    def loras(self) -> tuple[Lora, ...]:
        """What was added to the model."""
        return tuple(Lora(lora["id"], float(lora["weight"])) for lora in self.value.get("loras", []))

    @property
    def text(self) -> str:
        """As `visiontk generate` writes it into a file."""
        return encode({key: one for key, one in self.value.items() if key != "previews"}).decode().rstrip("\n")

    def request(self, beside: Path) -> Request:
        """What the model is asked for, with init image and mask from their files, which may also lie in the folder ``beside``.

        Raises:
            Gone: one of them is missing, or its pixels are others.
        """
        from visiontk.adapters.generate_types import Request

        init = self._init(beside) if "init" in self.value else None
        mask = self._mask(beside) if "mask" in self.value else None
        assert self.order.prompt is not None and self.order.seeds is not None
        return Request(self.order.prompt, self.order.seeds[0], **self.order.options, init=init, mask=mask)

    def _init(self, beside: Path) -> Image:
        from visiontk import sources
        from visiontk.media.embedded import pixels_sha256

        about = self.value["init"]
        changed = False
        for path in _candidates(about["path"], beside):
            line = encode({"path": str(path), **({"frame": about["frame"]} if "frame" in about else {})})
            item = next(sources.from_pipe(io.BytesIO(line), sources.Reading()))  # type: ignore[arg-type]
            try:
                assert item.load is not None
                image = item.load()
            except ItemError:
                continue
            if pixels_sha256(image) == about["sha256"]:
                return image
            changed = True
        raise Gone(_gone("init image", about["path"], changed))

    def _mask(self, beside: Path) -> NDArray[np.bool_]:
        from visiontk.media.embedded import mask_sha256

        from . import generate_inputs

        about = self.value["mask"]
        if "rle" in about:
            mask = generate_inputs.mask_of(about["rle"], {}).pixels
            if mask_sha256(mask) != about["sha256"]:
                raise ItemError("bad_record", "its mask is not the one that its sha256 is of")
            return mask
        changed = False
        for path in _candidates(about["path"], beside):
            try:
                mask = generate_inputs.mask_of(str(path.absolute()), {}).pixels
            except ItemError:
                continue
            if mask_sha256(mask) == about["sha256"]:
                return mask
            changed = True
        raise Gone(_gone("mask", about["path"], changed))


def parse(value: Any) -> Recipe:
    """Raises ItemError (``bad_record``) for what `visiontk generate` did not write so."""
    try:
        _expect(isinstance(value, dict), "it is no JSON object")
        _expect("error" not in value, "the picture failed, so there is nothing to make again")
        size = value.get("size")
        order = orders.from_record({key: value[key] for key in _REQUEST if key in value}, "")
        numbers = all(type(value.get(key)) is int for key in ("seed", "steps"))
        _expect(isinstance(size, list) and numbers, "size, seed or steps are missing")
        _expect(isinstance(value.get("model"), str) and isinstance(value.get("revision"), str), "the model or its revision is missing")
        batch = value.get("batch")
        _expect(type(batch) is int and 1 <= batch <= _MOST_AT_ONCE, f'"batch" is no number from 1 to {_MOST_AT_ONCE}')
        _expect(_is_digest(value.get("pixels")), '"pixels" is no sha256')
        _expect(value.get("dtype") in ("fp32", "bf16", "fp16"), '"dtype" is none')
        device = value.get("device")
        _expect(isinstance(device, dict) and device.get("type") in ("cpu", "cuda", "mps"), '"device" is none')
        threads = value.get("threads")
        _expect(threads is None or (type(threads) is int and 1 <= threads <= 1024), '"threads" is no number')
        _expect(isinstance(value.get("versions", {}), dict), '"versions" are none')
        loaded = all(isinstance(value.get(key, ""), str) for key in ("quantize", "offload", "variant"))
        _expect(loaded, "how the model was loaded is no text")
        _expect(value.get("compile") in (None, True, False), '"compile" is none')
        _check_loras(value.get("loras", []))
        _check_files(value)
    except UsageError as error:
        raise ItemError("bad_record", f"how it was made cannot be read: {error}") from error
    return Recipe(value, order)


def check_model(model: str) -> None:
    """Raise ItemError for a name that is neither in the catalog, nor of a file or folder, nor a hub id."""
    if not (catalog.find(model, "generate") or _HUB_ID.fullmatch(model) or _exists(model)):
        raise ItemError("bad_record", f"its model {model!r} is no catalog name, hub id or file that is here; name it with --model")


def differences(old: Record, new: Record) -> Iterator[str]:
    """What was otherwise when a picture was made, in words."""
    for name, where_none in _COMPARED.items():
        if old.get(name) != new.get(name):
            yield f"{name} {old.get(name, where_none)}, now {new.get(name, where_none)}"
    for name in ("type", "name"):
        if old["device"].get(name) != new["device"].get(name):
            yield f"device {old['device'].get(name, 'unknown')}, now {new['device'].get(name)}"
    before, now = old.get("versions", {}), new["versions"]
    yield from (f"{name} {before.get(name, 'unknown')}, now {now[name]}" for name in now if before.get(name) != now[name])
    for lora, other in zip(old.get("loras", []), new.get("loras", []), strict=False):
        if lora.get("revision") != other.get("revision"):
            yield f"LoRA {lora['id']} {lora.get('revision', 'unknown')}, now {other.get('revision')}"


def _check_loras(loras: Any) -> None:
    _expect(isinstance(loras, list), '"loras" are no list')
    for lora in loras:
        _expect(isinstance(lora, dict) and isinstance(lora.get("id"), str), "a LoRA has no id")
        weight = lora.get("weight")
        _expect(isinstance(weight, int | float) and math.isfinite(weight), "the weight of a LoRA is no number")


def _check_files(value: Record) -> None:
    init, mask = value.get("init"), value.get("mask")
    if init is not None:
        _expect(isinstance(init, dict) and isinstance(init.get("path"), str) and _is_digest(init.get("sha256")), '"init" is none')
        _expect("frame" not in init or (type(init["frame"]) is int and init["frame"] >= 0), '"init" has a frame that is none')
    if mask is not None:
        _expect(isinstance(mask, dict) and _is_digest(mask.get("sha256")), '"mask" is none')
        _expect(isinstance(mask.get("path"), str) or isinstance(mask.get("rle"), dict), '"mask" names no file and has no run lengths')
        _expect(init is not None, "there is a mask and no init image")


def _candidates(name: str, beside: Path) -> Iterator[Path]:
    """Where a file may be that a record names: there, or beside the picture. Pipes and devices are left alone."""
    return (path for path in dict.fromkeys((Path(name), beside / name, beside / Path(name).name)) if _exists(str(path)) and path.is_file())


def _exists(name: str) -> bool:
    return os.path.exists(os.path.expanduser(name))  # noqa: PTH110, PTH111  Path raises for names that no file can have


def _gone(what: str, name: str, changed: bool) -> str:
    if name == "-":
        return f"the {what} came through a pipe and is not here"
    return f"the {what} {name} has other pixels than it had" if changed else f"the {what} {name} is missing"


def _is_digest(value: Any) -> bool:
    return isinstance(value, str) and _DIGEST.fullmatch(value) is not None


def _expect(right: bool, wrong: str) -> None:
    if not right:
        raise UsageError(wrong)
