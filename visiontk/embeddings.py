"""One file of features for a whole run, in constant memory: rows are spooled to disk and put into .npz or .safetensors at the end."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Any, BinaryIO

import numpy as np

from .artefacts import writing
from .errors import OutputError, UsageError
from .records import Record

SUFFIXES = (".npz", ".safetensors")
Array = np.ndarray[Any, np.dtype[np.float32]]


class EmbeddingFile:
    """Collects rows and writes them on leaving the ``with`` block, also when the run is stopped: every row that a record names is there.

    The file holds ``features`` float32 (N, features), ``frames`` int64 (N,), -1 where there is none, and ``paths``: bytes as the file
    system has them, ``S`` (N,) in .npz and uint8 (N, longest), padded with zeros, in .safetensors, which knows no text.

    Raises:
        UsageError: another suffix, or the file exists and ``overwrite`` is not set.
        OutputError: the disk is full and the like.
    """

    def __init__(self, path: Path, *, overwrite: bool = False) -> None:
        if path.suffix not in SUFFIXES:
            raise UsageError(f"-o {path}: features go to one file that ends in .npz or .safetensors; name such a file")
        if path.exists() and not overwrite:
            raise UsageError(f"{path} exists; pass --overwrite or name another file with -o")
        self.path, self.rows = path, 0
        self.model = self.revision = ""
        self._width = self._longest = 0

    def __enter__(self) -> EmbeddingFile:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._features: IO[bytes] = tempfile.TemporaryFile(dir=self.path.parent)
            self._about: IO[bytes] = tempfile.TemporaryFile(dir=self.path.parent)
        except OSError as error:
            raise OutputError(f"cannot write {self.path} ({error.strerror}); choose another place with -o") from error
        return self

    def add(self, record: Record, features: Array) -> Record:
        """Add one row, float32 (features,); returns what the record says of it: ``{"file", "row"}``."""
        path = os.fsencode(str(record.get("path", "")))
        try:
            self._features.write(features.astype("<f4").tobytes())
            self._about.write(json.dumps([path.decode("latin-1"), record.get("frame", -1)]).encode() + b"\n")
        except OSError as error:
            raise self._unwritable(error) from error
        self._width, self._longest = len(features), max(self._longest, len(path))
        self.rows += 1
        return {"file": str(self.path), "row": self.rows - 1}

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            with self._features, self._about:
                if self.rows:
                    self._features.seek(0)
                    with writing(self.path) as file:
                        (self._write_npz if self.path.suffix == ".npz" else self._write_safetensors)(file)
        except OSError as full:  # from the spools, which are written only here where the rows are few
            raise self._unwritable(full) from full

    def _unwritable(self, error: OSError) -> OutputError:
        return OutputError(f"cannot write {self.path} ({error.strerror}); make room or choose another place with -o")

    def _write_npz(self, file: BinaryIO) -> None:
        with zipfile.ZipFile(file, "w", allowZip64=True) as archive:
            with archive.open("features.npy", "w", force_zip64=True) as member:
                _npy_header(member, "<f4", (self.rows, self._width))
                shutil.copyfileobj(self._features, member)
            with archive.open("frames.npy", "w", force_zip64=True) as member:
                _npy_header(member, "<i8", (self.rows,))
                self._copy_frames(member)
            with archive.open("paths.npy", "w", force_zip64=True) as member:
                _npy_header(member, f"|S{max(1, self._longest)}", (self.rows,))
                self._copy_paths(member)

    def _write_safetensors(self, file: BinaryIO) -> None:
        # https://github.com/huggingface/safetensors#format: 8 bytes of length, a JSON header, then the tensors in its order.
        longest = max(1, self._longest)
        sizes = {"features": self.rows * self._width * 4, "frames": self.rows * 8, "paths": self.rows * longest}
        shapes = {"features": ("F32", [self.rows, self._width]), "frames": ("I64", [self.rows]), "paths": ("U8", [self.rows, longest])}
        header: dict[str, Any] = {"__metadata__": {"model": self.model, "revision": self.revision}}
        begin = 0
        for name, (dtype, shape) in shapes.items():
            header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [begin, begin + sizes[name]]}
            begin += sizes[name]
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        file.write(len(text).to_bytes(8, "little") + text)
        shutil.copyfileobj(self._features, file)
        self._copy_frames(file)
        self._copy_paths(file)

    def _copy_frames(self, file: IO[bytes]) -> None:
        for _, frame in self._read_about():
            file.write(frame.to_bytes(8, "little", signed=True))

    def _copy_paths(self, file: IO[bytes]) -> None:
        longest = max(1, self._longest)
        for path, _ in self._read_about():
            file.write(path.ljust(longest, b"\0"))

    def _read_about(self) -> Iterator[tuple[bytes, int]]:
        self._about.seek(0)
        for line in self._about:
            path, frame = json.loads(line)
            yield path.encode("latin-1"), frame


def _npy_header(file: IO[bytes], dtype: str, shape: tuple[int, ...]) -> None:
    np.lib.format.write_array_header_1_0(file, {"descr": dtype, "fortran_order": False, "shape": shape})
