"""The image decoder: exact colours for every kind of file, and a named error for every kind of damage."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import threading
import time
import warnings
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, PngImagePlugin

from visiontk.errors import ItemError
from visiontk.media.images import FORMATS, IMAGE_SUFFIXES, MAX_PIXELS, crop_extreme, decode, frame_count, frames, looks_like_image
from visiontk.media.video import looks_like_video

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def encode(image: Image.Image, form: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def pixels(data: bytes, **options: Any) -> npt.NDArray[np.uint8]:
    image = decode(data, **options)
    assert image.mode == "RGB"
    assert image.info == {}
    return np.asarray(image)


def photo(width: int = 64, height: int = 48) -> Image.Image:
    """A smooth picture that JPEG keeps well, different at every place."""
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([x, y, 255 - (x + y) / 2], axis=2).astype(np.uint8))


def png(width: int, height: int, depth: int, colour: int, rows: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG by hand: Pillow does not write every kind that it reads. ``rows`` without the filter bytes."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    stride = len(rows) // height if height and rows else 0
    raw = b"".join(b"\0" + rows[row * stride : (row + 1) * stride] for row in range(height if rows else 0))
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = [chunk(b"IHDR", header), *(chunk(*each) for each in chunks), chunk(b"IDAT", zlib.compress(raw)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(body)


def kind_of(data: bytes, **options: Any) -> str:
    with pytest.raises(ItemError) as caught:
        decode(data, **options)
    return caught.value.kind


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF", "PPM", "GIF", "WEBP", "JPEG2000", "ICO"])
def test_lossless_formats_give_the_same_pixels(form: str) -> None:
    image = photo().quantize(64).convert("RGB")
    options: dict[str, Any] = {"lossless": True} if form == "WEBP" else {"sizes": [(64, 48)]} if form == "ICO" else {}
    assert np.array_equal(pixels(encode(image, form, **options)), np.asarray(image))


@pytest.mark.parametrize(("form", "most"), [("JPEG", 6), ("AVIF", 12), ("WEBP", 12)])
def test_lossy_formats_come_close(form: str, most: int) -> None:
    wanted = np.asarray(photo()).astype(int)
    assert np.abs(pixels(encode(photo(), form, quality=95)).astype(int) - wanted).mean() < most


@pytest.mark.parametrize("form", ["PNG", "WEBP", "TIFF", "ICO"])
def test_alpha_over_white(form: str) -> None:
    image = Image.new("RGBA", (16, 16), (255, 0, 0, 0))
    image.putpixel((1, 0), (0, 0, 200, 128))
    image.putpixel((2, 0), (10, 20, 30, 255))
    options: dict[str, Any] = {"lossless": True, "exact": True} if form == "WEBP" else {}
    got = pixels(encode(image, form, **options))
    assert tuple(got[0, 0]) == WHITE
    assert np.abs(got[0, 1].astype(int) - (127, 127, 227)).max() <= 1
    assert tuple(got[0, 2]) == (10, 20, 30)


def test_grey_with_alpha() -> None:
    image = Image.new("LA", (2, 1), (0, 0))
    image.putpixel((1, 0), (100, 128))
    got = pixels(encode(image, "PNG"))
    assert tuple(got[0, 0]) == WHITE
    assert abs(int(got[0, 1, 0]) - round(100 * 128 / 255 + 127)) <= 1


def test_premultiplied_alpha() -> None:
    # A TIFF whose extra sample is associated alpha: red at half opacity is stored as (128, 0, 0, 128).
    stored = Image.new("RGBA", (1, 1), (128, 0, 0, 128))
    data = bytearray(encode(stored, "TIFF"))
    entry = data.index(struct.pack("<HHI", 338, 3, 1))  # ExtraSamples: 2 is what Pillow writes, alpha that is not associated
    assert data[entry + 8] == 2
    data[entry + 8] = 1
    assert np.abs(pixels(bytes(data))[0, 0].astype(int) - (255, 127, 127)).max() <= 1


def test_palette_with_transparent_entries() -> None:
    image = Image.new("P", (3, 1))
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    image.putdata([0, 1, 2])
    assert [tuple(colour) for colour in pixels(encode(image, "PNG"))[0]] == [RED, GREEN, BLUE]
    got = pixels(encode(image, "PNG", transparency=bytes([255, 0, 128])))[0]
    assert [tuple(colour) for colour in got[:2]] == [RED, WHITE]
    assert np.abs(got[2].astype(int) - (127, 127, 255)).max() <= 1
    assert [tuple(colour) for colour in pixels(encode(image, "GIF", transparency=1))[0]] == [RED, WHITE, BLUE]


def test_transparent_colour_without_palette() -> None:
    rgb = png(2, 1, 8, 2, bytes([1, 2, 3, 4, 5, 6]), (b"tRNS", struct.pack(">HHH", 4, 5, 6)))
    assert pixels(rgb).tolist() == [[[1, 2, 3], [255, 255, 255]]]
    deep = png(2, 1, 16, 2, struct.pack(">6H", 0x1000, 0x2000, 0x3000, 257, 514, 771), (b"tRNS", struct.pack(">HHH", 257, 514, 771)))
    assert pixels(deep).tolist() == [[[0x10, 0x20, 0x30], [255, 255, 255]]]
    grey = png(2, 1, 8, 0, bytes([7, 9]), (b"tRNS", struct.pack(">H", 9)))
    assert pixels(grey)[0, :, 0].tolist() == [7, 255]
    two_bits = png(4, 1, 2, 0, bytes([0b00011011]), (b"tRNS", struct.pack(">H", 1)))
    assert pixels(two_bits)[0, :, 0].tolist() == [0, 255, 170, 255]
    one_bit = png(8, 1, 1, 0, bytes([0b01010101]), (b"tRNS", struct.pack(">H", 0)))
    assert (pixels(one_bit) == 255).all()
    deep_grey = png(2, 1, 16, 0, struct.pack(">HH", 257 * 40, 300), (b"tRNS", struct.pack(">H", 300)))
    assert pixels(deep_grey)[0, :, 0].tolist() == [40, 255]


def test_bilevel_and_grey() -> None:
    bilevel = Image.new("1", (2, 1), 0)
    bilevel.putpixel((1, 0), 1)
    assert pixels(encode(bilevel, "PNG")).tolist() == [[[0] * 3, [255] * 3]]
    assert pixels(encode(bilevel, "TIFF", compression="group4")).tolist() == [[[0] * 3, [255] * 3]]
    assert (pixels(encode(Image.new("L", (4, 4), 77), "PNG")) == 77).all()


DEEP = np.array([[0, 128, 129, 257, 20 * 257 + 100, 65535]], np.uint16)  # a 257th each, rounded: 0, 0, 1, 1, 20, 255
DEEP_AS_8BIT = [0, 0, 1, 1, 20, 255]


@pytest.mark.parametrize("form", ["PNG", "TIFF", "PPM", "JPEG2000"])
def test_16_bit_grey_is_scaled_and_not_clipped(form: str) -> None:
    assert pixels(encode(Image.fromarray(DEEP), form))[0, :, 0].tolist() == DEEP_AS_8BIT


def test_16_bit_big_endian_tiff() -> None:
    assert pixels(encode(Image.fromarray(DEEP.astype(">u2")), "TIFF"))[0, :, 0].tolist() == DEEP_AS_8BIT


def test_dark_16_bit_pgm_stays_dark() -> None:
    assert pixels(b"P5 2 1 65535\n" + struct.pack(">HH", 100, 257))[0, :, 0].tolist() == [0, 1]


def test_32_bit_integers() -> None:
    def grey(*values: int) -> list[int]:
        got: list[int] = pixels(encode(Image.fromarray(np.array([values], np.int32)), "TIFF"))[0, :, 0].tolist()
        return got

    assert grey(-5, 7, 200) == [0, 7, 200]
    assert grey(0, 257 * 9, 65535) == [0, 9, 255]
    assert grey(0, 1_000_000, 2_000_000) == [0, 128, 255]


def test_16_bit_rgb_png() -> None:
    assert pixels(png(1, 1, 16, 2, struct.pack(">HHH", 0xFFFF, 0x8080, 0))).tolist() == [[[255, 128, 0]]]


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ([0.0, 0.5, 1.0], [0, 128, 255]),
        ([0.25, np.nan, 0.75], [64, 0, 191]),
        ([-2.0, 0.0, 2.0], [0, 128, 255]),
        ([100.0, 200.0, np.nan], [128, 255, 0]),
        ([0.0, np.inf, 10.0], [0, 255, 255]),
        ([7.0, 7.0, 7.0], [0, 0, 0]),
    ],
)
def test_floats(values: list[float], wanted: list[int]) -> None:
    assert pixels(encode(Image.fromarray(np.array([values], np.float32)), "TIFF"))[0, :, 0].tolist() == wanted


def test_signalling_nan_is_quiet() -> None:
    values = np.array([[0x7F800001, 0x3F800000]], np.uint32).view(np.float32)
    data = encode(Image.fromarray(values), "TIFF")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert pixels(data)[0, :, 0].tolist() == [0, 255]


@pytest.mark.parametrize("form", ["JPEG", "TIFF"])
def test_cmyk(form: str) -> None:
    inks = np.array([10, 100, 200, 40])
    options = {"quality": 100} if form == "JPEG" else {}
    got = pixels(encode(Image.new("CMYK", (16, 16), tuple(inks.tolist())), form, **options))[8, 8]
    wanted = (255 - inks[:3]) * (255 - inks[3]) / 255
    assert np.abs(got - wanted).max() <= 2


def test_ycck_jpeg_of_adobe() -> None:
    # Adobe keeps YCCK inverted: of the picture 255 - CMYK the first three channels go to YCbCr by the JFIF matrix.
    inks = np.array([30.0, 120.0, 200.0, 50.0])
    red, green, blue = inks[:3]  # libjpeg's rule: C = 255 - R, so what is transformed is 255 - (255 - inks)
    y = 0.299 * red + 0.587 * green + 0.114 * blue
    components = np.array([y, 128 + (blue - y) * 0.564, 128 + (red - y) * 0.713, 255 - inks[3]])
    # Pillow's encoder inverts all four; undo that, then call the file YCCK by the transform byte of its Adobe marker.
    data = bytearray(encode(Image.new("CMYK", (16, 16), tuple(int(v) for v in np.rint(255 - components))), "JPEG", quality=100))
    data[data.index(b"Adobe") + 11] = 2
    got = pixels(bytes(data))[8, 8]
    wanted = (255 - inks[:3]) * (255 - inks[3]) / 255
    assert np.abs(got - wanted).max() <= 4


def test_lab_and_ycbcr_tiff() -> None:
    assert np.abs(pixels(encode(Image.new("LAB", (4, 4), (255, 128, 128)), "TIFF")).astype(int) - 255).max() <= 2
    assert np.abs(pixels(encode(Image.new("RGB", (16, 16), (200, 30, 60)).convert("YCbCr"), "TIFF"))[0, 0] - (200.0, 30, 60)).max() <= 2


# Where EXIF's eight orientations put the corners of the stored picture (JEITA CP-3451, 4.6.4 A): rows and columns of the upright one.
UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).transpose(1, 0, 2),
    8: lambda a: np.rot90(a, 1),
}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["PNG", "TIFF", "WEBP", "JPEG"])
def test_exif_orientation(form: str, orientation: int) -> None:
    stored = Image.new("RGB", (32, 16), RED)
    stored.paste(GREEN, (16, 0, 32, 8))
    stored.paste(BLUE, (0, 8, 16, 16))
    exif = Image.Exif()
    exif[0x0112] = orientation
    options: dict[str, Any] = {"lossless": True} if form == "WEBP" else {"quality": 100, "subsampling": 0} if form == "JPEG" else {}
    image = decode(encode(stored, form, exif=exif, **options))
    wanted = UPRIGHT[orientation](np.asarray(stored)).astype(int)
    assert np.asarray(image).shape == wanted.shape
    assert np.abs(np.asarray(image) - wanted).max() <= (4 if form == "JPEG" else 0)
    assert dict(image.getexif()) == {}  # or the next library would turn it again


@pytest.mark.parametrize(
    "exif", [b"Exif\0\0", b"Exif\0\0garbage", b"Exif\0\0MM\0*\xff\xff\xff\xff", b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12\x01"]
)
def test_malformed_exif_is_ignored(exif: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    assert decode(encode(photo(), "JPEG", exif=exif)).size == (64, 48)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_unknown_orientation_is_ignored(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert decode(encode(photo(), "JPEG", exif=exif)).size == (64, 48)


@pytest.mark.parametrize(
    ("size", "min_side", "wanted"),
    [
        ((800, 600), None, (800, 600)),
        ((800, 600), 300, (400, 300)),
        ((800, 600), 301, (800, 600)),
        ((800, 600), 225, (300, 225)),
        ((800, 600), 150, (200, 150)),
        ((800, 600), 75, (100, 75)),
        ((800, 600), 10, (100, 75)),
        ((801, 603), 150, (201, 151)),
        ((100, 3000), 50, (50, 1500)),
        ((800, 600), 5000, (800, 600)),
    ],
)
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_jpeg_decoded_smaller_keeps_the_shorter_side(
    mode: str, size: tuple[int, int], min_side: int | None, wanted: tuple[int, int]
) -> None:
    assert decode(encode(photo(*size).convert(mode), "JPEG"), min_side=min_side).size == wanted


@pytest.mark.parametrize("min_side", [150, 225, 300])
def test_jpeg_decoded_smaller_shows_the_same_picture_turned(min_side: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encode(photo(800, 600), "JPEG", quality=95, exif=exif)
    small = decode(data, min_side=min_side)
    assert small.size == (min_side, min_side * 4 // 3)
    wanted = decode(data).resize(small.size, Image.Resampling.BOX)
    assert np.abs(np.asarray(small).astype(int) - np.asarray(wanted)).max() <= 6


@pytest.mark.parametrize(
    ("mode", "options"),
    [
        ("L", {}),
        ("RGB", {"progressive": True}),
        ("RGB", {"subsampling": "4:2:0"}),
        ("RGB", {"keep_rgb": True}),
        ("CMYK", {}),
    ],
    ids=["grey", "progressive", "4:2:0", "stored as RGB", "CMYK"],
)
def test_every_kind_of_jpeg_is_the_same_picture_when_decoded_smaller(mode: str, options: dict[str, Any]) -> None:
    data = encode(photo(800, 600).convert(mode), "JPEG", quality=95, **options)
    whole = np.asarray(decode(data).resize((300, 225), Image.Resampling.BOX)).astype(int)
    small = np.asarray(decode(data, min_side=225).resize((300, 225), Image.Resampling.BOX)).astype(int)
    assert np.abs(small - whole).max() <= 8


def test_smaller_or_not_the_same_jpegs_are_good_enough() -> None:
    """Bytes too many or too few after the pixels: Pillow says what is still a picture, not the faster decoder."""
    data = encode(photo(800, 600), "JPEG")
    assert decode(data + b"left over" * 100, min_side=75).size == decode(data, min_side=75).size
    assert decode(data[:-2] + b"\xff\xff\xff\xd9", min_side=75).mode == "RGB"
    assert kind_of(data[: len(data) // 2], min_side=75) == kind_of(data[: len(data) // 2]) == "broken"


def test_other_formats_are_never_decoded_smaller() -> None:
    assert decode(encode(photo(800, 600), "PNG"), min_side=10).size == (800, 600)


def animation(form: str, **options: Any) -> bytes:
    pictures = [Image.new("RGB", (8, 8), colour) for colour in (RED, GREEN, BLUE)]
    return encode(pictures[0], form, save_all=True, append_images=pictures[1:], duration=100, **options)


@pytest.mark.parametrize(("form", "options"), [("GIF", {}), ("PNG", {}), ("TIFF", {}), ("WEBP", {"lossless": True})])
def test_frames(form: str, options: dict[str, Any]) -> None:
    data = animation(form, **options)
    assert frame_count(data) == 3
    assert [image.getpixel((4, 4)) for image in frames(data)] == [RED, GREEN, BLUE]
    assert [decode(data, frame=number).getpixel((4, 4)) for number in range(3)] == [RED, GREEN, BLUE]
    assert decode(data).getpixel((4, 4)) == RED
    assert kind_of(data, frame=3) == "no_frame"
    assert kind_of(data, frame=-1) == "no_frame"


def test_still_images_have_one_frame() -> None:
    data = encode(photo(), "JPEG")
    assert frame_count(data) == 1
    assert len(list(frames(data))) == 1
    assert kind_of(data, frame=1) == "no_frame"


def test_extra_pictures_of_an_mpo_are_no_frames() -> None:
    data = encode(Image.new("RGB", (16, 16), RED), "MPO", save_all=True, append_images=[Image.new("RGB", (16, 16), BLUE)])
    with Image.open(io.BytesIO(data)) as image:
        assert (image.format, getattr(image, "n_frames", 1)) == ("MPO", 2)
    assert frame_count(data) == 1
    assert [image.size for image in frames(data)] == [(16, 16)]
    assert kind_of(data, frame=1) == "no_frame"


@pytest.mark.parametrize("disposal", [1, 2, 3])
def test_gif_frames_are_composed(disposal: int) -> None:
    """A green square on red, then a blue square alone, transparent around: what stays of the green one is the disposal's to say."""
    palette = [255, 0, 0, 0, 255, 0, 0, 0, 255, 9, 9, 9]
    layers = []
    for box, colour in (((0, 0, 8, 8), 0), ((1, 1, 3, 3), 1), ((5, 5, 7, 7), 2)):
        layer = Image.new("P", (8, 8), 3)
        layer.putpalette(palette)
        layer.paste(colour, box)
        layers.append(layer)
    data = encode(
        layers[0], "GIF", save_all=True, append_images=layers[1:], transparency=3, disposal=[1, disposal, 1], optimize=False, duration=50
    )
    shown = [np.asarray(image) for image in frames(data)]
    assert tuple(shown[1][2, 2]) == GREEN
    assert tuple(shown[1][6, 6]) == RED
    assert tuple(shown[2][6, 6]) == BLUE
    assert tuple(shown[2][2, 2]) == {1: GREEN, 2: WHITE, 3: RED}[disposal]
    assert all(np.array_equal(np.asarray(decode(data, frame=number)), shown[number]) for number in range(3))


def test_pages_of_a_tiff_differ_in_size_and_kind() -> None:
    pages = [Image.new("RGB", (8, 4), RED), Image.fromarray(np.full((6, 5), 257 * 90, np.uint16)), Image.new("1", (3, 3), 1)]
    data = encode(pages[0], "TIFF", save_all=True, append_images=pages[1:])
    got = list(frames(data))
    assert [image.size for image in got] == [(8, 4), (5, 6), (3, 3)]
    assert [image.getpixel((1, 1)) for image in got] == [RED, (90, 90, 90), WHITE]


def test_damaged_animation_gives_its_good_frames_first() -> None:
    rng = np.random.default_rng(0)
    pictures = [Image.fromarray(rng.integers(0, 255, (32, 32), dtype=np.uint8)) for _ in range(4)]
    data = encode(pictures[0], "GIF", save_all=True, append_images=pictures[1:], duration=50)
    got: list[Image.Image] = []
    with pytest.raises(ItemError) as caught:
        got.extend(frames(data[: len(data) * 5 // 8]))
        pytest.fail(f"no error after {len(got)} frames")
    assert caught.value.kind == "broken"
    good = frames(data[: len(data) * 5 // 8])
    assert np.array_equal(np.asarray(next(good))[..., 0], np.asarray(pictures[0]))
    assert np.array_equal(np.asarray(next(good))[..., 0], np.asarray(pictures[1]))


@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "PPM", "AVIF", "JPEG2000", "ICO"])
def test_cut_off_files_are_broken(form: str) -> None:
    rng = np.random.default_rng(1)
    data = encode(Image.fromarray(rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)), form)
    assert kind_of(data[: len(data) // 2]) == "broken"


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"", "broken"),
        (b"\0" * 4096, "not_an_image"),
        (b"a text file named photo.jpg\n", "not_an_image"),
        (b"P3 is a fine road, and so is P1\n", "not_an_image"),
        (b"BMW is a car, not a bitmap, whatever its first letters\n", "not_an_image"),
        (b"GIFs are fun\n", "not_an_image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "not_an_image"),
        (b"\xff\xd8\xff\xe0", "broken"),
        (b"\x89PNG\r\n\x1a\n", "broken"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "not_an_image"),
    ],
)
def test_kinds_of_bad_bytes(data: bytes, kind: str) -> None:
    assert kind_of(data) == kind


def test_heic_says_what_to_do() -> None:
    with pytest.raises(ItemError, match="convert it"):
        decode(b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic")


def test_bomb_is_too_large_at_once(capfd: pytest.CaptureFixture[str]) -> None:
    bomb = png(60_000, 60_000, 8, 2, b"")
    started = time.perf_counter()
    assert kind_of(bomb) == "too_large"
    assert time.perf_counter() - started < 1
    assert capfd.readouterr().err == ""


def test_limit_is_max_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    wide = -(-MAX_PIXELS // 10_000) + 1
    assert kind_of(png(wide, 10_000, 1, 0, b"")) == "too_large"
    assert kind_of(png(wide - 1, 10_000, 1, 0, b"")) == "broken"  # allowed, and then found to have no pixels
    monkeypatch.setattr("visiontk.media.images.MAX_PIXELS", 64 * 48 - 1)
    assert kind_of(encode(photo(), "JPEG"), min_side=4) == "too_large"


def test_no_memory_is_an_item_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", fail)
    assert kind_of(encode(photo(), "PNG")) == "too_large"


def test_warnings_of_pillow_are_dropped_even_as_errors(capfd: pytest.CaptureFixture[str]) -> None:
    data = encode(Image.new("1", (12_000, 9_000)), "PNG")  # above Pillow's own limit for a warning by default
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert decode(data).size == (12_000, 9_000)
    assert capfd.readouterr().err == ""


def test_threads_decode_side_by_side() -> None:
    data = [encode(Image.new("RGB", (40, 30), (number, 0, 0)), "PNG") for number in range(16)]
    got: dict[int, object] = {}
    threads = [threading.Thread(target=lambda n=n: got.update({n: decode(data[n]).getpixel((3, 3))})) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == {number: (number, 0, 0) for number in range(16)}


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF"])
def test_extreme_sizes(form: str) -> None:
    for size in ((1, 1), (1, 20_000), (20_000, 1)):
        assert decode(encode(Image.new("RGB", size, WHITE), form), min_side=512).size == size


@pytest.mark.parametrize(
    ("size", "wanted"),
    [((1, 20_000), (1, 8)), ((20_001, 1), (9, 1)), ((3, 101), (3, 25)), ((10, 80), (10, 80)), ((10, 81), (10, 81)), ((30, 20), (30, 20))],
)
def test_crop_extreme_keeps_the_middle(size: tuple[int, int], wanted: tuple[int, int]) -> None:
    width, height = size
    ramp = np.arange(max(size)).reshape(-1, 1) if height > width else np.arange(max(size)).reshape(1, -1)
    image = Image.fromarray(np.broadcast_to(ramp, (height, width)).astype(np.int32))
    cropped = crop_extreme(image)
    assert cropped.size == wanted
    assert np.asarray(cropped).mean() == np.asarray(image).mean()  # of a ramp the mean is where the centre is


def test_sniffing() -> None:
    for form in ("JPEG", "MPO", "PNG", "GIF", "WEBP", "BMP", "TIFF", "PPM", "AVIF", "JPEG2000", "ICO"):
        head = encode(photo(), form)[:32]
        assert looks_like_image(head), form
        assert not looks_like_video(head), form
    assert looks_like_image(encode(Image.fromarray(DEEP.astype(">u2")), "TIFF")[:32])
    assert all(looks_like_image(b"P%d\n# made by hand\n1 1\n" % number) for number in range(1, 7))
    for text in (b"", b"P", b"P5", b"photos/a.jpg\n", b'{"path": "a.jpg"}\n', b"P1/a.jpg\n", b"P7 4\n", b"RIFFabcdWAVE", b"\0\0\1\0\0\0"):
        assert not looks_like_image(text), text


def test_formats_and_suffixes() -> None:
    assert "EPS" not in FORMATS
    assert set(FORMATS) <= {"JPEG", "MPO", "PNG", "GIF", "WEBP", "BMP", "TIFF", "PPM", "AVIF", "JPEG2000", "ICO"}
    Image.init()
    assert {Image.EXTENSION[suffix] for suffix in IMAGE_SUFFIXES if suffix in Image.EXTENSION} <= set(FORMATS)
    assert all(suffix == suffix.lower() and suffix.startswith(".") for suffix in IMAGE_SUFFIXES)


def test_image_module_imports_no_video() -> None:
    code = "import sys, visiontk.media.images, visiontk.media.video; sys.exit('av' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
