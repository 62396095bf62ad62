"""Thousands of damaged images, the same ones each run: an RGB image or an ItemError, soon, and not a word on stderr.

They are decoded in a process of their own (`python -m tests.test_fuzz_images FILE`), so that one which hangs or crashes the decoder is
known by its number.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from visiontk.errors import ItemError
from visiontk.media.images import decode, frame_count, frames

MUTATIONS = 3000
LIMIT_S = 60  # for one image, of a few milliseconds: what a busy machine never takes
KINDS = {"broken", "not_an_image", "too_large", "no_frame"}
SIZES = np.array([0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0xFFFFFFFF])


def seeds() -> list[bytes]:
    """Small whole files of many kinds, 24 to 48 pixels a side."""
    rng = np.random.default_rng(0)
    x, y = np.meshgrid(np.linspace(0, 200, 48), np.linspace(0, 200, 32))
    noise = rng.integers(0, 50, (32, 48))
    rgb = Image.fromarray(np.stack([x + noise, y + noise, 255 - x], axis=2).astype(np.uint8))
    deep = Image.fromarray(rng.integers(0, 65536, (24, 24)).astype(np.uint16))
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010F] = "maker"
    turned = [rgb, rgb.transpose(Image.Transpose.FLIP_LEFT_RIGHT), rgb.transpose(Image.Transpose.ROTATE_180)]
    moving: dict[str, Any] = {"save_all": True, "append_images": turned[1:], "duration": 40}

    def file(image: Image.Image, form: str, **options: Any) -> bytes:
        buffer = io.BytesIO()
        image.save(buffer, form, **options)
        return buffer.getvalue()

    return [
        file(rgb, "JPEG", exif=exif),
        file(rgb, "JPEG", progressive=True),
        file(rgb.convert("CMYK"), "JPEG"),
        file(rgb, "MPO", save_all=True, append_images=turned[1:]),
        file(rgb, "PNG", exif=exif),
        file(rgb.quantize(16), "PNG", transparency=3),
        file(rgb.convert("RGBA"), "PNG"),
        file(deep, "PNG"),
        file(rgb, "PNG", **moving),
        file(rgb.quantize(32), "GIF"),
        file(rgb, "GIF", disposal=2, **moving),
        file(rgb, "WEBP", exif=exif),
        file(rgb.convert("RGBA"), "WEBP", lossless=True),
        file(rgb, "WEBP", **moving),
        file(rgb, "TIFF", exif=exif),
        file(rgb, "TIFF", compression="tiff_lzw"),
        file(rgb, "TIFF", compression="jpeg"),
        file(rgb.convert("1"), "TIFF", compression="group4"),
        file(deep, "TIFF", save_all=True, append_images=[rgb]),
        file(rgb.convert("F"), "TIFF", compression="tiff_adobe_deflate"),
        file(rgb, "BMP"),
        file(rgb.quantize(16), "BMP"),
        file(deep, "PPM"),
        file(rgb, "JPEG2000"),
        file(rgb, "ICO", sizes=[(24, 24)]),
        file(rgb, "AVIF", speed=10),
    ]


def flip(data: bytearray, rng: np.random.Generator) -> None:
    for place in rng.integers(0, len(data), int(rng.integers(1, 12))):
        data[place] = int(rng.integers(0, 256))


def cut(data: bytearray, rng: np.random.Generator) -> None:
    del data[int(rng.integers(0, len(data))) :]


def insert(data: bytearray, rng: np.random.Generator) -> None:
    place = int(rng.integers(0, len(data)))
    data[place:place] = rng.bytes(int(rng.integers(1, 40)))


def remove(data: bytearray, rng: np.random.Generator) -> None:
    place = int(rng.integers(0, len(data)))
    del data[place : place + int(rng.integers(1, 40))]


def tamper(data: bytearray, rng: np.random.Generator) -> None:
    """A number of 2 or 4 bytes in the header becomes a notorious one, in either byte order."""
    width = int(rng.choice([2, 4]))
    place = int(rng.integers(2, max(3, min(len(data), 160) - width)))
    number = int(rng.choice(SIZES)) & ((1 << (8 * width)) - 1)
    data[place : place + width] = number.to_bytes(width, "big" if rng.random() < 0.5 else "little")


def repeat(data: bytearray, rng: np.random.Generator) -> None:
    start = int(rng.integers(0, len(data)))
    data.extend(data[start : start + int(rng.integers(1, 400))])


DAMAGES: list[Callable[[bytearray, np.random.Generator], None]] = [flip, flip, cut, insert, remove, tamper, tamper, repeat]


def attempt(data: bytes, number: int) -> str:
    """What decoding ``data`` ends in: "image" or the kind of the error. All the ways in are taken in turn."""
    try:
        if number % 4 == 3:
            images = list(frames(data))
            assert len(images) == frame_count(data)
        else:
            images = [decode(data, min_side=[None, 8, None][number % 3])]
    except ItemError as error:
        assert error.kind in KINDS
        assert error.message
        assert "\n" not in error.message
        return error.kind
    assert images
    assert all(image.mode == "RGB" and image.width > 0 and image.height > 0 for image in images)
    return "image"


def mutations() -> Iterator[tuple[int, bytes]]:
    """The damaged files and their numbers: `dict(mutations())[number]` is the one that a failure names."""
    rng = np.random.default_rng(20240229)
    whole = seeds()
    for number in range(MUTATIONS):
        data = bytearray(whole[number % len(whole)])
        for _ in range(int(rng.integers(1, 4))):
            if data:
                DAMAGES[int(rng.integers(0, len(DAMAGES)))](data, rng)
        yield number, bytes(data)


def attempt_all(progress: int, attempt: Callable[[bytes, int], str]) -> dict[str, int]:
    """How often each outcome came. The number that is being tried stands in the file ``progress``."""
    outcomes: dict[str, int] = {}
    for number, data in mutations():
        os.pwrite(progress, b"%08d" % number, 0)
        outcome = attempt(data, number)
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
    return outcomes


def watch(command: list[str], progress: Path, limit_s: float) -> tuple[str, str]:
    """What a process that writes its progress says, stdout and stderr. Fails where it stays at one number for the limit, or crashes."""
    with subprocess.Popen(command, cwd=Path(__file__).parents[1], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        at = None
        while True:
            try:
                stdout, stderr = process.communicate(timeout=limit_s)
                break
            except subprocess.TimeoutExpired:
                before, at = at, progress.read_text() if progress.exists() else ""
                if at and at == before:  # nothing yet: it is being started
                    process.kill()
                    pytest.fail(f"mutation {at} hangs")
        if process.returncode:
            pytest.fail(f"mutation {progress.read_text()} ends the process with {process.returncode}: {stderr[-2000:]}")
        return stdout, stderr


def test_damaged_images(tmp_path: Path) -> None:
    progress = tmp_path / "number"
    stdout, stderr = watch([sys.executable, "-m", "tests.test_fuzz_images", str(progress)], progress, LIMIT_S)
    assert stderr == ""
    outcomes = json.loads(stdout)
    assert sum(outcomes.values()) == MUTATIONS
    # Were nearly all of one kind, the damage would be too rough or too mild to test anything.
    assert outcomes["image"] > MUTATIONS // 10
    assert outcomes["broken"] > MUTATIONS // 10


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("__import__('time').sleep(600)", "mutation 00000003 hangs"),
        ("__import__('os').abort()", "mutation 00000003 ends the process with -6"),
        ("(_ for _ in ()).throw(ValueError('x'))", "mutation 00000003 ends the process with 1: .*ValueError: x"),
    ],
)
def test_a_mutation_that_hangs_or_crashes_is_named(tmp_path: Path, fault: str, message: str) -> None:
    program = f"""
import os, sys
def attempt(data, number):
    return {fault} if number == 3 else "image"
from tests import test_fuzz_images as fuzz
fuzz.attempt_all(os.open(sys.argv[1], os.O_RDWR | os.O_CREAT), attempt)
"""
    progress = tmp_path / "number"
    with pytest.raises(pytest.fail.Exception, match=f"(?s){message}"):
        watch([sys.executable, "-c", program, str(progress)], progress, 5)


def test_whole_seeds_decode() -> None:
    assert [attempt(data, number) for number, data in enumerate(seeds())] == ["image"] * len(seeds())


def test_noise_is_no_image() -> None:
    rng = np.random.default_rng(3)
    assert {attempt(rng.bytes(int(rng.integers(1, 2000))), 0) for _ in range(300)} <= {"not_an_image", "broken"}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(attempt_all(os.open(sys.argv[1], os.O_RDWR | os.O_CREAT), attempt)))
