"""Masks in the forms that other programs read: COCO's JSON, YOLO's polygons, arrays of numpy. Each in constant memory."""

from __future__ import annotations

import json
import re
import zipfile
import zlib
from array import array
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO, Any, BinaryIO

import numpy as np

from visiontk.media.masks import Mask, polygons
from visiontk.media.spool import Spool

_OWN_YOLO = re.compile(rb"(?:\d+(?: [01]\.\d{6} [01]\.\d{6}){3,}\n)*")


def write_yolo(file: BinaryIO, masks: Iterable[tuple[int, Mask]]) -> None:
    """A label file as Ultralytics' YOLO reads it for segmentation: a line for each part of each object, ``class x y x y ...``.

    The class is the object's id - 1. x and y are shares of the width and the height; holes cannot be said.
    """
    for number, mask in masks:
        height, width = mask.shape
        for outline in polygons(mask):
            numbers = (f"{x / width:.6f} {y / height:.6f}" for x, y in outline)
            file.write(f"{number - 1} {' '.join(numbers)}\n".encode())


def is_own_yolo(path: Path) -> bool:
    """Whether a file is in exactly the form that `write_yolo` gives it: six decimals, and nothing else on its lines."""
    return _OWN_YOLO.fullmatch(path.read_bytes()) is not None


class MaskArrays:
    """Masks for one ``.npz``: ``masks`` bool (N, H, W), ``ids`` int64 (N,), ``scores`` float32 (N,), in a video ``frames`` int64 (N,).

    A row for each object, in a video for each object on each frame. They wait packed in a spool, because the file begins with their number.
    """

    def __init__(self, spool: Spool, height: int, width: int, *, video: bool) -> None:
        self._spool, self._shape, self._video = spool, (height, width), video
        self._ids, self._scores, self._frames = array("q"), array("f"), array("q")

    def add(self, number: int, mask: Mask, score: float, frame: int = 0) -> None:
        self._spool.append(zlib.compress(np.packbits(mask).tobytes(), 1))
        self._ids.append(number)
        self._scores.append(score)
        self._frames.append(frame)

    def write(self, file: BinaryIO) -> None:
        """The whole archive, compressed. Loads with ``numpy.load(FILE)``, without pickles."""
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            with archive.open("masks.npy", "w", force_zip64=True) as member:
                _npy_header(member, "|b1", (len(self._spool), *self._shape))
                pixels = self._shape[0] * self._shape[1]
                for piece in self._spool:
                    bits = np.frombuffer(zlib.decompress(piece), np.uint8)
                    member.write(np.unpackbits(bits, count=pixels).tobytes())
            columns: list[tuple[str, array[Any], str]] = [
                ("ids", self._ids, "<i8"),
                ("scores", self._scores, "<f4"),
                ("frames", self._frames, "<i8"),
            ]
            for name, values, dtype in columns[: 3 if self._video else 2]:
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    _npy_header(member, dtype, (len(values),))
                    member.write(np.array(values, dtype).tobytes())


def _npy_header(file: IO[bytes], dtype: str, shape: tuple[int, ...]) -> None:
    np.lib.format.write_array_header_1_0(file, {"descr": dtype, "fortran_order": False, "shape": shape})


class Coco:
    """One COCO JSON of many pictures or frames (cocodataset.org/#format-data): ``images``, ``annotations`` with RLE, ``categories``.

    The category is the object's id. Annotations go to the file as they come, the images into a spool and behind them at the end.

    Attributes:
        images: how many there are.
        finished: the file is whole.
    """

    def __init__(self, file: BinaryIO, spool: Spool) -> None:
        self._file, self._spool = file, spool
        self.finished = self._broken = False
        self.images = self._annotations = 0
        self._categories: set[int] = set()
        file.write(b'{"annotations": [')

    def add(self, about: dict[str, Any], width: int, height: int, objects: Sequence[dict[str, Any]]) -> None:
        """One picture or frame: what is to stand in its entry beside the size, and its objects as the record has them."""
        self._broken = True  # until all of it is written
        self.images += 1
        image = self.images
        self._spool.append(json.dumps({"id": image, **about, "width": width, "height": height}).encode())
        for one in objects:
            if not one["area"]:
                continue
            x0, y0, x1, y1 = one["box"]
            self._annotations += 1
            self._categories.add(one["id"])
            entry = {"id": self._annotations, "image_id": image, "category_id": one["id"], "segmentation": one["rle"], "area": one["area"]}
            entry |= {"bbox": [x0, y0, x1 - x0, y1 - y0], "iscrowd": 0, "score": one["score"]}
            self._file.write((",\n" if self._annotations > 1 else "\n").encode() + json.dumps(entry).encode())
        self._broken = False

    def finish(self) -> None:
        """Make the file whole; nothing is done where something could not be added."""
        if self._broken:
            return
        self._file.write(b'],\n"images": [')
        for number, image in enumerate(self._spool):
            self._file.write((b",\n" if number else b"\n") + image)
        categories = [{"id": number, "name": f"object {number}", "supercategory": "object"} for number in sorted(self._categories)]
        self._file.write(b'],\n"categories": ' + json.dumps(categories).encode() + b"}\n")
        self._file.flush()
        self.finished = True
