"""What a picture's file says of how it was made: it comes back as it was, from bytes of any origin, and others can read it too."""

from __future__ import annotations

import hashlib
import io
import json
import zlib

import numpy as np
import pytest
from PIL import Image
from PIL.ExifTags import IFD, Base

from visiontk.errors import ItemError
from visiontk.media import embedded

TEXT = json.dumps({"prompt": "ein Löwe 🦁", "seed": 7, "guidance": 7.5, "path": "caf\\udce9"}, ensure_ascii=False)
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


def picture() -> Image.Image:
    return Image.fromarray(np.random.default_rng(3).integers(0, 256, (24, 32, 3), np.uint8))


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_it_comes_back_as_it_was(suffix: str) -> None:
    data = embedded.encode(picture(), suffix, TEXT)
    assert json.loads(embedded.read(data)) == json.loads(TEXT)
    assert embedded.encode(picture(), suffix, TEXT) == data, "the same bytes each time"
    assert embedded.encode(picture(), suffix, embedded.read(data)) == data, "and from what was read back"


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_without_it_the_file_says_nothing(suffix: str) -> None:
    data = embedded.encode(picture(), suffix)
    with pytest.raises(ItemError, match="does not say how it was made") as caught:
        embedded.read(data)
    assert caught.value.kind == "no_parameters"
    assert "exif" not in opened(data).info


def test_png_and_webp_keep_every_pixel_and_jpeg_all_colour() -> None:
    wanted = np.asarray(picture())
    for suffix in (".png", ".webp"):
        np.testing.assert_array_equal(np.asarray(opened(embedded.encode(picture(), suffix, TEXT)).convert("RGB")), wanted)
    jpeg = opened(embedded.encode(picture(), ".jpg", TEXT))
    assert {sampling[1:3] for sampling in jpeg.layer} == {(1, 1)}, "no channel at half the size"  # type: ignore[attr-defined]
    # Quality 95 is a tenth of the table K.1 of the JPEG standard, whose largest entry is 121.
    assert max(jpeg.quantization[0]) == 12  # type: ignore[attr-defined]


def test_the_chunk_is_where_the_png_specification_has_it() -> None:
    data = embedded.encode(picture(), ".png", TEXT)
    at = data.index(b"iTXt")
    length = int.from_bytes(data[at - 4 : at], "big")
    assert data[at + 4 : at + 4 + length] == b"visiontk\0\0\0\0\0" + TEXT.encode()
    assert int.from_bytes(data[at + 4 + length : at + 8 + length], "big") == zlib.crc32(data[at : at + 4 + length])


def test_the_user_comment_is_where_exif_has_it() -> None:
    for suffix in (".jpg", ".webp"):
        exif = opened(embedded.encode(picture(), suffix, TEXT)).getexif()
        comment = exif.get_ifd(IFD.Exif)[Base.UserComment]
        assert comment.startswith(b"ASCII\0\0\0") and json.loads(comment[8:]) == {"visiontk": json.loads(TEXT)}


def test_what_others_wrote_is_none_of_ours() -> None:
    exif, deep = Image.Exif(), b"ASCII\0\0\0" + b"[" * 60_000
    for comment in (
        b"ASCII\0\0\0steps: 20",
        b'ASCII\0\0\0{"prompt": "x"}',
        b"UNICODE\0x",
        b"ASCII\0\0\0[1]",
        deep,
        b"",
    ):
        exif.get_ifd(IFD.Exif)[Base.UserComment] = comment
        data = io.BytesIO()
        picture().save(data, format="JPEG", exif=exif.tobytes())
        with pytest.raises(ItemError, match="does not say"):
            embedded.read(data.getvalue())


def test_what_does_not_fit_into_a_jpeg_is_known_beforehand() -> None:
    long = json.dumps({"prompt": "x" * 66_000})
    assert not embedded.fits(".jpg", long) and embedded.fits(".png", long) and embedded.fits(".webp", long)
    assert json.loads(embedded.read(embedded.encode(picture(), ".png", long))) == json.loads(long)
    with pytest.raises(ValueError, match="too long"):
        embedded.encode(picture(), ".jpeg", long)
    most = json.dumps({"prompt": "x" * 64_900})
    assert embedded.fits(".jpg", most) and embedded.read(embedded.encode(picture(), ".jpg", most)) == most


def test_bytes_of_any_kind_are_an_error_and_no_crash() -> None:
    whole = {suffix: embedded.encode(picture(), suffix, TEXT) for suffix in SUFFIXES}
    random = np.random.default_rng(5)
    for data in whole.values():
        for _ in range(60):
            broken = bytearray(data[: int(random.integers(0, len(data)))] if random.random() < 0.5 else data)
            for place in random.integers(0, max(1, len(broken)), 4):
                broken[place : place + 1] = bytes([int(random.integers(0, 256))])
            try:
                assert isinstance(embedded.read(bytes(broken)), str)
            except ItemError as error:
                assert error.kind in ("not_an_image", "broken", "no_parameters")
    for data in (b"", b"text", b"GIF89a" + bytes(50), b"\x89PNG\r\n\x1a\n"):
        with pytest.raises(ItemError):
            embedded.read(data)


def test_fingerprints_are_those_of_the_bytes() -> None:
    image = Image.new("RGB", (2, 1), (1, 2, 3))
    assert embedded.pixels_sha256(image) == hashlib.sha256(bytes([1, 2, 3, 1, 2, 3])).hexdigest()
    assert embedded.mask_sha256(np.array([[True, False]])) == hashlib.sha256(b"\xff\x00").hexdigest()
