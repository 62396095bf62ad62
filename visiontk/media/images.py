"""Bytes of an image file to RGB pixels: one decoder for every command, so that all of them see the same picture.

What it promises: EXIF orientation applied, alpha over white, deep greys scaled and not clipped, and for any bytes whatsoever either an RGB
image or an ``ItemError``, with nothing on stderr.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import (  # the plugins are imported by name so that Image.open never scans and imports all of Pillow's
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    IcoImagePlugin,
    Image,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    MpoImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from visiontk.errors import ItemError
from visiontk.media.colour import bit_depth, to_rgb
from visiontk.media.jpeg import decode_smaller
from visiontk.media.quiet import ignore_pillow_warnings, silence_pillow
from visiontk.media.sniff import is_heic, looks_like_image

__all__ = [
    "ANIMATION_SUFFIXES",
    "FORMATS",
    "IMAGE_SUFFIXES",
    "MAX_PIXELS",
    "crop_extreme",
    "decode",
    "frame_count",
    "frames",
    "is_animated",
    "looks_like_image",
    "size_of",
    "timed_frames",
]

_PLUGINS = (
    JpegImagePlugin.JpegImageFile,
    MpoImagePlugin.MpoImageFile,
    PngImagePlugin.PngImageFile,
    GifImagePlugin.GifImageFile,
    WebPImagePlugin.WebPImageFile,
    BmpImagePlugin.BmpImageFile,
    TiffImagePlugin.TiffImageFile,
    PpmImagePlugin.PpmImageFile,
    AvifImagePlugin.AvifImageFile,
    Jpeg2KImagePlugin.Jpeg2KImageFile,
    IcoImagePlugin.IcoImageFile,
)
# Left out on purpose: EPS (starts Ghostscript), TGA (has no signature: any text may pass for one), and the long tail.
FORMATS: tuple[str, ...] = tuple(plugin.format for plugin in _PLUGINS)
# An MPO opens as JPEG and turns out to be one; asking Pillow for the name is a KeyError.
_OPENED_AS = tuple(name for name in FORMATS if name != "MPO")

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".gif", ".webp", ".bmp", ".ico"}
    | {".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm", ".pfm", ".avif", ".avifs", ".jp2", ".j2k", ".jpx", ".jpc"}
)

# Of the formats in which several pictures are an animation; those of a TIFF are pages.
ANIMATION_SUFFIXES = frozenset({".gif", ".webp", ".png", ".apng", ".avif", ".avifs"})
_ANIMATED = frozenset({"GIF", "WEBP", "PNG", "AVIF"})
_DEFAULT_FRAME_S = 0.1  # of an animation that does not say how long it shows a frame; browsers take the same

MAX_PIXELS = 200_000_000  # the largest phone cameras take 199.8 million

# Pillow warns above its own limit and refuses at twice that, which is less than MAX_PIXELS by default; a caller's larger limit is kept.
if Image.MAX_IMAGE_PIXELS is not None:
    Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS, MAX_PIXELS // 2)

silence_pillow()

_ORIENTATION = 0x0112
_TRANSPOSES = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_QUARTER_TURNS = (5, 6, 7, 8)


def decode(data: bytes, *, min_side: int | None = None, frame: int = 0) -> Image.Image:
    """The picture in ``data``, the bytes of a file, as a PIL image of mode RGB (uint8, 0..255), upright, over white.

    ``min_side`` lets a JPEG be decoded at 1/8 to 4/8 of its size, several times faster, as long as its shorter side keeps at least
    ``min_side`` pixels; other formats come whole. ``frame`` picks a frame of an animation or a page of a TIFF, from 0.

    Raises ``ItemError``: ``not_an_image``, ``broken`` (empty, cut off or damaged), ``too_large`` (over ``MAX_PIXELS``, or more than memory
    holds), ``no_frame``.
    """
    with _border():
        image = _open(data)
        _seek(image, frame)
        return _finish(image, data, min_side)


def size_of(path: str) -> tuple[int, int] | None:
    """Width and height of the upright picture in a file, from its header alone; None where that cannot be read."""
    ignore_pillow_warnings()
    try:
        with Image.open(path, formats=_OPENED_AS) as image:
            width, height = image.size
            turned = "exif" in image.info and _orientation(image) in _QUARTER_TURNS
            return (height, width) if turned else (width, height)
    except Exception:  # noqa: BLE001  hostile bytes
        return None


def frame_count(data: bytes) -> int:
    """How many frames or pages ``data`` holds (at least 1): GIF, WebP, APNG, AVIF, TIFF. Raises ``ItemError`` as ``decode`` does.

    The further pictures of an MPO (a stereo pair, a preview) are not frames.
    """
    with _border():
        return _total(_open(data))


def frames(data: bytes, *, min_side: int | None = None) -> Iterator[Image.Image]:
    """Every frame or page of ``data`` in order, each as ``decode`` gives it and composed with those before it where the format says so.

    A file that is damaged in the middle gives its good frames, then raises ``ItemError``.
    """
    yield from (picture for _, _, picture in timed_frames(data, min_side=min_side))


def is_animated(data: bytes) -> bool:
    """Whether ``data`` is a moving picture: GIF, WebP, APNG or AVIF of several frames. Raises ``ItemError`` as ``decode`` does."""
    with _border():
        image = _open(data)
        return image.format in _ANIMATED and _total(image) > 1


def timed_frames(data: bytes, *, min_side: int | None = None) -> Iterator[tuple[float, float, Image.Image]]:
    """As ``frames``, each with its time in seconds since the first one, and the seconds that it is shown."""
    with _border():
        image = _open(data)
        total = _total(image)
    time = 0.0
    for number in range(total):
        with _border():
            image.seek(number)
            picture = _finish(image, data, min_side)
        shown = _shown_for(image)
        yield time, shown, picture
        time += shown


def _shown_for(image: Image.Image) -> float:
    """Seconds that the current frame, which is loaded, is shown."""
    milliseconds = image.info.get("duration")
    return milliseconds / 1000 if isinstance(milliseconds, int | float) and milliseconds > 0 else _DEFAULT_FRAME_S


def crop_extreme(image: Image.Image, max_ratio: int = 8) -> Image.Image:
    """``image``, or where one side is more than ``max_ratio`` times the other, the middle of the long side: ``max_ratio`` times the short.

    Resizing the shorter side of a 1x20000 picture to 256 would make a picture of 1.3 gigapixels; a centre crop taken from it afterwards
    sees the same pixels either way, because the length kept has the parity of the long side, so the centre does not move.
    """
    short, long = sorted(image.size)
    if long <= max_ratio * short:
        return image
    keep = max_ratio * short
    keep += (long - keep) % 2
    start = (long - keep) // 2
    if image.width > image.height:
        return image.crop((start, 0, start + keep, image.height))
    return image.crop((0, start, image.width, start + keep))


@contextmanager
def _border() -> Iterator[None]:
    """Where hostile bytes meet Pillow: whatever it raises becomes an ``ItemError``, and its warnings are dropped."""
    ignore_pillow_warnings()
    try:
        yield
    except ItemError:
        raise
    except (Image.DecompressionBombError, MemoryError) as error:
        raise ItemError("too_large", f"the image is too large to decode ({_reason(error)}); make it smaller first") from error
    except Exception as error:  # decoders raise nearly every built-in exception on damaged bytes
        raise ItemError("broken", f"the image is damaged ({_reason(error)})") from error


def _reason(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _open(data: bytes) -> Image.Image:
    if not data:
        raise ItemError("broken", "the file is empty")
    try:
        image = Image.open(io.BytesIO(data), formats=_OPENED_AS)
    except (Image.DecompressionBombError, MemoryError):
        raise
    except Exception as error:  # as in _border; here the first bytes decide between damaged and not an image at all
        raise _unidentified(data[:32]) from error
    _check_size(image)
    return image


def _unidentified(head: bytes) -> ItemError:
    if is_heic(head):
        return ItemError("not_an_image", "HEIC pictures are not supported; convert it to JPEG or PNG first")
    if looks_like_image(head):
        return ItemError("broken", "the image is damaged, or of a variety that Pillow does not read")
    return ItemError("not_an_image", "the file is not an image of a supported format (JPEG, PNG, WebP, GIF, TIFF, BMP, AVIF, ...)")


def _check_size(image: Image.Image) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise ItemError("too_large", f"the image has {width}x{height} pixels, over the limit of {MAX_PIXELS:,}; make it smaller first")
    if width < 1 or height < 1:
        raise ItemError("broken", f"the image is damaged (it claims {width}x{height} pixels)")


def _total(image: Image.Image) -> int:
    return 1 if image.format == "MPO" else max(1, int(getattr(image, "n_frames", 1)))


def _seek(image: Image.Image, frame: int) -> None:
    if frame == 0:
        return
    total = _total(image)
    if not 0 < frame < total:
        raise ItemError("no_frame", f"there is no frame {frame}; the image has {total}, counted from 0")
    image.seek(frame)


def _finish(image: Image.Image, data: bytes, min_side: int | None) -> Image.Image:
    """The current frame of an opened image as upright RGB."""
    _check_size(image)  # again, because the pages of a TIFF differ in size
    rgb = None
    if min_side is not None and isinstance(image, JpegImagePlugin.JpegImageFile):
        # Before the orientation, which is harmless: the shorter side is the same after a quarter turn.
        rgb = decode_smaller(data, image, max(1, min_side))
    if rgb is None:
        rgb = to_rgb(image, depth=bit_depth(image, data))
    method = _TRANSPOSES.get(_orientation(image))
    return rgb if method is None else rgb.transpose(method)


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # noqa: BLE001 - malformed EXIF must not lose a picture whose pixels are whole
        return 1
