"""Thousands of damaged images, the same ones each run: an RGB image or an ItemError, soon, and not a word on stderr."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from visiontk.errors import ItemError
from visiontk.media.images import decode, frame_count, frames

MUTATIONS = 3000
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


def test_damaged_images(capfd: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(20240229)
    whole = seeds()
    outcomes: dict[str, int] = {}
    slowest = 0.0
    for number in range(MUTATIONS):
        data = bytearray(whole[number % len(whole)])
        for _ in range(int(rng.integers(1, 4))):
            if data:
                DAMAGES[int(rng.integers(0, len(DAMAGES)))](data, rng)
        started = time.perf_counter()
        outcome = attempt(bytes(data), number)
        slowest = max(slowest, time.perf_counter() - started)
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
    assert slowest < 5
    captured = capfd.readouterr()
    assert captured.out + captured.err == ""
    # Were nearly all of one kind, the damage would be too rough or too mild to test anything.
    assert outcomes["image"] > MUTATIONS // 10
    assert outcomes["broken"] > MUTATIONS // 10


def test_whole_seeds_decode() -> None:
    assert [attempt(data, number) for number, data in enumerate(seeds())] == ["image"] * len(seeds())


def test_noise_is_no_image() -> None:
    rng = np.random.default_rng(3)
    assert {attempt(rng.bytes(int(rng.integers(1, 2000))), 0) for _ in range(300)} <= {"not_an_image", "broken"}
