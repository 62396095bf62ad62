"""Scenes and clips as ordinary files: a folder per class for images, DAVIS's layout for clips, captions as JSON lines.

Images of one object:      NAME/000001.png, which torchvision's ImageFolder reads
Images of several objects: images/000001.png and masks/000001.png
Clips:                     JPEGImages/000001/00000.jpg and Annotations/000001/00000.png
All:                       metadata.jsonl

Masks are PNGs with a palette, whose pixels are 0 for the background and o + 1 for object o.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from PIL import Image

from visiontk.artefacts import write
from visiontk.errors import OutputError, UsageError
from visiontk.records import Record, encode

from .clips import Clip, check_clip, render_clips
from .masks import index_map
from .scenes import Scenes, check_objects, render_scenes
from .sprites import TRAIN_STYLES, check_styles, names
from .stale import remove_listed

METADATA = "metadata.jsonl"
_BATCH, _PIXELS = 64, 2**22  # pictures at once, and pixels of all their things: about half a gigabyte
_NONE = torch.empty(0, dtype=torch.uint8)
_JPEG = {"quality": 95, "subsampling": 0}


def write_images(
    folder: Path,
    count: int,
    *,
    seed: int = 0,
    size: int = 64,
    objects: int | tuple[int, int] = 1,
    styles: Sequence[str] = TRAIN_STYLES,
    overwrite: bool = False,
) -> Iterator[Record]:
    """Write ``count`` images and yield the record of each: ``path``, and under ``tiny`` what its line of metadata says.

    Raises:
        UsageError: the folder has something in it already and ``overwrite`` is not set; or as `render_scenes`.
        OutputError: a file cannot be written.
    """
    check_objects(size, objects)
    check_styles(styles)
    several = objects not in (1, (1, 1))
    with _metadata(folder, overwrite) as metadata:
        for indices in _batches(count, size**2 * (objects if isinstance(objects, int) else objects[1])):
            scenes = render_scenes(seed, indices, size=size, objects=objects, styles=styles)
            maps = index_map(scenes.masks)
            for place, index in enumerate(indices):
                described = {"text": scenes.captions[place], "seed": seed, "index": index, **_describe(scenes, place, styles)}
                file = f"{index + 1:06d}.png"
                if several:
                    name = f"images/{file}"
                    described["mask"] = f"masks/{file}"
                    _save_indexed(folder / "masks" / file, maps[place])
                else:
                    name = f"{described['objects'][0]['label']}/{file}"
                _save(folder / name, picture(scenes.images[place]), format="PNG")
                metadata.write(encode({"file_name": name, **described}))
                yield {"path": str(folder / name), "tiny": described}


def write_clips(
    folder: Path,
    count: int,
    *,
    seed: int = 0,
    frames: int = 24,
    size: int = 64,
    objects: int | tuple[int, int] = (1, 3),
    styles: Sequence[str] = TRAIN_STYLES,
    overwrite: bool = False,
) -> Iterator[Record]:
    """Write ``count`` clips and yield the record of each: ``path`` is its folder of frames.

    Raises:
        UsageError: as `write_images`; or as `render_clips`.
        OutputError: a file cannot be written.
    """
    # What the renderer would refuse is refused before there is a folder.
    check_clip(size, objects, frames)
    check_styles(styles)
    with _metadata(folder, overwrite) as metadata:
        for index in range(count):
            name = f"{index + 1:06d}"
            pictures, annotations = folder / "JPEGImages" / name, folder / "Annotations" / name
            parts: list[Clip] = []
            with _whole() as written:
                for shown in _batches(frames, size**2):
                    clip = render_clips(seed, [index], frames, size=size, objects=objects, styles=styles, shown=shown)[0]
                    for place, number in enumerate(shown):
                        written += [pictures / f"{number:05d}.jpg", annotations / f"{number:05d}.png"]
                        _save(written[-2], picture(clip.frames[place]), format="JPEG", **_JPEG)
                        _save_indexed(written[-1], clip.index_masks[place])
                    parts.append(replace(clip, frames=_NONE, index_masks=_NONE))
            described: Record = {"text": clip.caption, "seed": seed, "index": index, "frames": frames, "masks": f"Annotations/{name}"}
            movers = _movers(parts)
            metadata.write(encode({"file_name": f"JPEGImages/{name}", **described, "objects": movers}))
            short = [{"id": mover["id"], "label": mover["label"]} for mover in movers]
            yield {"path": str(pictures), "tiny": {**described, "objects": short}}


def palette() -> list[int]:
    """256 colours as PASCAL VOC and DAVIS use for indexed masks: the bits of the index, spread over the high bits of red, green, blue."""
    colours = []
    for index in range(256):
        channels = [0, 0, 0]
        for bit in range(8):
            channels[bit % 3] |= (index >> bit & 1) << (7 - bit // 3)
        colours += channels
    return colours


def _describe(scenes: Scenes, place: int, styles: Sequence[str]) -> dict[str, Any]:
    rows = zip(scenes.labels[place].tolist(), scenes.boxes[place].tolist(), scenes.styles[place].tolist(), strict=True)
    present = [row for row in rows if row[0] >= 0]
    objects = [
        {"label": names()[label], "class": label, "colour": colour, "box": box, "style": styles[style]}
        for (label, box, style), colour in zip(present, scenes.colours[place], strict=True)
    ]
    return {"background": {"kind": scenes.background_kinds[place], "colour": scenes.background_colours[place]}, "objects": objects}


def _movers(parts: Sequence[Clip]) -> list[dict[str, Any]]:
    """The things of a clip, whose frames come in parts."""
    boxes, visible = torch.cat([part.boxes for part in parts]), torch.cat([part.visible for part in parts])
    return [
        {
            "id": number + 1,
            "label": names()[label],
            "class": label,
            "boxes": boxes[:, number].tolist(),
            "visible": [round(share, 3) for share in visible[:, number].tolist()],
        }
        for number, label in enumerate(parts[0].labels.tolist())
    ]


@contextmanager
def _whole() -> Iterator[list[Path]]:
    """The files that the block adds to this list go again if it is stopped: no metadata name them, and nothing would remove them."""
    written: list[Path] = []
    try:
        yield written
    except BaseException:
        for path in written:
            path.unlink(missing_ok=True)
        for folder in {path.parent for path in written}:
            with suppress(OSError):  # it holds more
                folder.rmdir()
        raise


class _metadata:
    """``metadata.jsonl``, open for lines; each is on disk before the next picture is made.

    Makes the folder, or refuses a used one; with ``overwrite``, what an earlier rendering listed in it is removed and the rest stays.
    """

    def __init__(self, folder: Path, overwrite: bool) -> None:
        self._path = folder / METADATA
        try:
            if not overwrite and folder.exists() and any(folder.iterdir()):
                raise UsageError(f"{folder} is not empty; pass --overwrite, or choose another place with -o")
            folder.mkdir(parents=True, exist_ok=True)
            remove_listed(folder, self._path)
            self._file: BinaryIO = self._path.open("wb", buffering=0)
        except OSError as error:
            raise self._unwritable(error) from error

    def __enter__(self) -> _metadata:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, line: bytes) -> None:
        try:
            self._file.write(line)
        except OSError as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> OutputError:
        return OutputError(f"cannot write {self._path} ({error.strerror or error}); make room or choose another place with -o")


def _batches(count: int, pixels: int) -> Iterator[range]:
    """In parts, of which each has room for its pictures of so many pixels."""
    step = min(_BATCH, max(1, _PIXELS // pixels))
    for start in range(0, count, step):
        yield range(start, min(start + step, count))


def picture(pixels: torch.Tensor) -> Image.Image:
    """uint8 (3, S, S) as a PIL image."""
    return Image.fromarray(np.ascontiguousarray(pixels.permute(1, 2, 0).numpy()))


def _save_indexed(path: Path, indices: torch.Tensor) -> None:
    image = Image.fromarray(indices.numpy(), mode="P")
    image.putpalette(palette())
    _save(path, image, format="PNG")


def _save(path: Path, image: Image.Image, **options: Any) -> None:
    write(path, lambda file: image.save(file, **options))
