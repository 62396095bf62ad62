"""A picture that is made again from what its file or its line says of it, and compared with what it was."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visiontk.errors import DeviceError, ItemError, OutOfMemory, UsageError
from visiontk.records import Record, decode, encode
from visiontk.runtime import Runtime

from . import generate_names, generate_recipe, generate_record
from .generate_recipe import Recipe

if TYPE_CHECKING:
    from PIL.Image import Image

    from visiontk.adapters.generate import Generator
    from visiontk.adapters.generate_types import Generated, Step


@dataclass(frozen=True)
class Original:
    """What is to be made again.

    Attributes:
        record: its line, or the path alone.
        recipe: how it was made.
        data: the bytes of its file; None where that is gone.
        text: what the file says of it; None where it says nothing, or is gone.
    """

    record: Record
    recipe: Recipe
    data: bytes | None
    text: str | None

    @property
    def path(self) -> str:
        return str(self.record.get("path", "-"))

    @property
    def suffix(self) -> str:
        found = Path(self.path).suffix.lower()
        return found if found in generate_names.SUFFIXES else generate_names.DEFAULT_SUFFIX


@dataclass(frozen=True)
class Again:
    """The picture that was made now.

    Attributes:
        text: what its file says of it.
        data: its file's bytes, of the same kind as the original.
        differences: what differs, in words; none where it is the same.
        changed: how many pixels differ from the original's file, of how many, and by how much of 255 at most.
    """

    image: Image
    text: str
    data: bytes
    differences: list[str]
    changed: Record | None = None

    @property
    def value(self) -> Record:
        """What stands under ``replay``, but for the original's name."""
        found: Record = {"same": not self.differences}
        if self.differences:
            found["differences"] = self.differences
        return {**found, "changed": self.changed} if self.changed else found

    def encoded(self, suffix: str, original: Original) -> bytes:
        """Its file's bytes, of the kind that is wanted."""
        return self.data if suffix == original.suffix else encode_picture(self.image, suffix, self.text)


def from_picture(path: str) -> Original:
    """What the picture's file says. Raises ItemError."""
    from visiontk.media import embedded, files

    data = files.read(path)
    text = embedded.read(data)
    try:
        value = decode(text.encode("utf-8", "surrogatepass"))
    except ItemError as error:
        raise ItemError("bad_record", f"how it was made cannot be read: {error.message}") from error
    return Original({"path": path}, generate_recipe.parse(value), data, text)


def from_record(record: Record) -> Original:
    """What the line says of the picture, whose file is compared where it is still there. Raises ItemError."""
    stages = [one for one in record.values() if isinstance(one, dict) and {"pixels", "seed"} <= one.keys()]
    value = stages[-1] if stages else record.get("generate")  # where there are several, the last one made the file
    if value is None:
        raise ItemError("bad_record", 'the record has no "generate", so it does not say how a picture was made')
    recipe = generate_recipe.parse(value)
    path = str(record.get("path", "-"))
    data: bytes | None = None
    text: str | None = None
    if path != "-" and os.path.isfile(path):  # noqa: PTH113  Path.is_file raises for a name that is too long
        from visiontk.media import embedded, files

        data = files.read(path)
        try:
            text = embedded.read(data)
        except ItemError:  # written with --no-metadata
            text = None
    return Original(record, recipe, data, text)


class Replayer:
    """Loads the models that pictures were made with, one at a time, and makes them again.

    ``model``, ``device``, ``dtype`` and ``threads`` stand for what the recipes say.
    """

    def __init__(
        self, model: str | None, device: str | None, dtype: str | None, threads: int | None, safety: bool, warn: Callable[[str], None]
    ) -> None:
        self._model, self._device, self._dtype, self._threads = model, device, dtype, threads
        self._safety, self._warn = safety, warn
        self._loaded: tuple[Any, Generator] | None = None

    def again(self, original: Original, on_step: Callable[[Step], None]) -> Again:
        """Make it again, in a batch of the same size.

        Raises:
            ItemError: it cannot be made: an init image is gone or has changed (`generate_recipe.Gone`), the model refuses it, ...
            ModelUnavailable, DeviceError: the model cannot be had, or does not fit.
        """
        recipe = original.recipe
        request = replace(recipe.request(Path(original.path).parent), loras=recipe.loras)
        generator = self._generator(recipe)
        try:
            resolved = generator.resolve(request)
            answers = generator.generate([resolved] * recipe.value["batch"], on_step)
        except UsageError as error:
            raise ItemError("bad_prompt", str(error)) from error
        except OutOfMemory as error:
            raise DeviceError(
                f"{recipe.value['batch']} images at once, as when it was made, do not fit into memory ({error}); choose another --device"
            ) from error
        made = _nearest(answers, recipe.value["pixels"])
        setup = generate_record.setup(generator, recipe.setup["quantize"], _offload(recipe, generator.runtime.device.type))
        parts = {key: recipe.value.get(key) for key in ("init", "mask")}
        value = generate_record.value(
            generator, made, generate_record.made_from(generator, made.request, setup, parts["init"], parts["mask"])
        )
        return _compare(original, made.image, value)

    def _generator(self, recipe: Recipe) -> Generator:
        from visiontk.adapters.generate import load

        value = recipe.value
        model = self._model or value["model"]
        if self._model is None:
            generate_recipe.check_model(model)
        runtime = self._runtime(value)
        setup = {**recipe.setup, "offload": _offload(recipe, runtime.start().device.type)}
        at_once = recipe.loras if setup["quantize"] or runtime.compile else ()  # into others they are read when they are needed
        key = model, runtime, at_once, *setup.values()
        if self._loaded is None or self._loaded[0] != key:
            self._loaded = None  # two models may not fit into memory
            task = "text2image" if "init" not in value else "inpaint" if "mask" in value else "image2image"
            generator = load(model, runtime, loras=at_once, task=task, safety=self._safety or None, **setup)  # type: ignore[arg-type]
            if generator.warning:
                self._warn(generator.warning)
            self._loaded = key, generator
        generator = self._loaded[1]
        if generator.revision != value["revision"]:
            self._warn(f"{model} is of revision {generator.revision} now, and was of {value['revision']} when the image was made")
        return generator

    def _runtime(self, value: Record) -> Runtime:
        """As when it was made; on whatever device there is, where there is none of that kind."""
        wanted = Runtime(
            device=self._device or value["device"]["type"],
            dtype=self._dtype or value["dtype"],
            compile=bool(value.get("compile")),
            batch_size=value["batch"],
            threads=self._threads or value.get("threads"),
        )
        if self._device is None:
            try:
                wanted.start()
            except DeviceError:
                return Runtime(**{**vars(wanted), "device": "auto"})
        return wanted


def _offload(recipe: Recipe, device: str) -> Any:
    """What of the model is put aside where it does not fit, as when it was made; a CPU has nowhere to put it."""
    return None if device == "cpu" else recipe.setup["offload"]


def _nearest(answers: list[Generated | ItemError], digest: str) -> Generated:
    """Of the copies that fill the batch the one with the wanted pixels, else the first: places in a batch may round differently."""
    from visiontk.media.embedded import pixels_sha256

    made = [answer for answer in answers if not isinstance(answer, ItemError)]
    for error in answers:
        if isinstance(error, ItemError) and not made:
            raise error
    return next((one for one in made if pixels_sha256(one.image) == digest), made[0])


def encode_picture(image: Image, suffix: str, text: str | None) -> bytes:
    """The file's bytes, without the text where that does not fit."""
    from visiontk.media import embedded

    return embedded.encode(image, suffix, text if text is not None and embedded.fits(suffix, text) else None)


def _compare(original: Original, image: Image, value: Record) -> Again:
    import numpy as np

    from visiontk.media import images

    recipe = original.recipe
    remade = value["pixels"] == recipe.value["pixels"]
    text = (original.text or recipe.text) if remade else encode(value).decode().rstrip("\n")
    data = encode_picture(image, original.suffix, text)
    if original.data is None:
        return Again(image, text, data, [] if remade else _why(recipe.value, value))
    try:
        before = np.asarray(images.decode(original.data)).astype(np.int16)
    except ItemError as error:
        return Again(image, text, data, [f"the file {original.path} cannot be read: {error.message}"])
    now = np.asarray(images.decode(data)).astype(np.int16)
    why = ["the file's pixels were changed after it was made"] if remade else _why(recipe.value, value)
    if before.shape != now.shape:
        sizes = [f"{side.shape[1]}x{side.shape[0]}" for side in (before, now)]
        return Again(image, text, data, [f"size {sizes[0]}, now {sizes[1]}", *why])
    change = np.abs(before - now).max(axis=-1)
    if remade and not change.any():  # its bytes as they are, where another version of the encoder would write others
        return Again(image, text, original.data, [])
    changed = {"pixels": int(np.count_nonzero(change)), "of": int(change.size), "most": int(change.max())}
    return Again(image, text, data, why, changed)


def _why(old: Record, new: Record) -> list[str]:
    unknown = "model, versions, device and threads are the same, so the arithmetic of the device varies"
    return list(generate_recipe.differences(old, new)) or [unknown]


def read_inputs(names: list[str], lines: Iterator[bytes] | None) -> Iterator[tuple[Record, Callable[[], Original]]]:
    """For each picture and each record what is known of it, and a function that reads the rest, which raises ItemError."""
    for name in names:
        if name == "-":
            for line in lines or ():
                if line.strip():
                    yield from _line(line)
        elif name.lstrip().startswith("{") and not os.path.lexists(name):
            yield from _line(name.encode("utf-8", "surrogateescape"))
        elif Path(name).suffix.lower() in (".jsonl", ".json", ".ndjson"):
            yield from _file(name)
        else:
            yield {"path": name}, lambda name=name: from_picture(name)  # type: ignore[misc]


def _file(name: str) -> Iterator[tuple[Record, Callable[[], Original]]]:
    from visiontk.media import files

    try:
        lines = files.read(name).split(b"\n")
    except ItemError as error:
        yield {"path": name}, _failing(error)
        return
    for line in lines:
        if line.strip():
            yield from _line(line)


def _line(line: bytes) -> Iterator[tuple[Record, Callable[[], Original]]]:
    if not line.lstrip().startswith(b"{"):
        path = os.fsdecode(line)
        yield {"path": path}, lambda: from_picture(path)
        return
    try:
        record = decode(line)
    except ItemError as error:
        yield {"input": os.fsdecode(line)}, _failing(error)
        return
    yield record, lambda: from_record(record)


def _failing(error: ItemError) -> Callable[[], Original]:
    def read() -> Original:
        raise error

    return read
