"""What a picture's file says of how the picture was made: written into PNG, JPEG and WebP, and read back; and fingerprints of pixels.

In a PNG it is the text of an iTXt chunk with the keyword ``visiontk``. In a JPEG or WebP it is Exif's UserComment, a JSON object whose one
key is ``visiontk``, as other programs write there too.
"""

from __future__ import annotations

import hashlib
import io
import json

import numpy as np
from PIL import Image, JpegImagePlugin, PngImagePlugin, UnidentifiedImageError, WebPImagePlugin

from visiontk.errors import ItemError
from visiontk.media.masks import Mask
from visiontk.media.quiet import ignore_pillow_warnings

KEY = "visiontk"
JPEG_QUALITY = 95
MOST = 1 << 20  # characters that are read

_EXIF, _USER_COMMENT = 0x8769, 0x9286
_ASCII = b"ASCII\0\0\0"  # how a UserComment says what its text is; Exif 2.3, table 9
_MOST_JPEG = 65_000  # bytes; one segment of a JPEG takes 65,533, and Exif's own tables some of them
_FORMATS = [plugin.format for plugin in (PngImagePlugin.PngImageFile, JpegImagePlugin.JpegImageFile, WebPImagePlugin.WebPImageFile)]


def encode(image: Image.Image, suffix: str, text: str | None = None) -> bytes:
    """The file's bytes of an RGB image, by its suffix: PNG, JPEG of quality 95 with full colour, or WebP without loss.

    ``text`` is JSON that goes into it. Raises ValueError where it does not fit into a JPEG (`fits`).
    """
    if text is not None and not fits(suffix, text):
        raise ValueError("the text is too long for a JPEG")
    data = io.BytesIO()
    if suffix == ".png":
        chunks = PngImagePlugin.PngInfo()
        if text is not None:
            chunks.add_itxt(KEY, text)
        image.save(data, format="PNG", pnginfo=chunks)
    else:
        exif = Image.Exif()
        if text is not None:
            exif.get_ifd(_EXIF)[_USER_COMMENT] = _comment(text)
        if suffix == ".webp":
            image.save(data, format="WEBP", lossless=True, exact=True, exif=exif.tobytes() if text is not None else b"")
        else:
            image.save(data, format="JPEG", quality=JPEG_QUALITY, subsampling=0, exif=exif.tobytes() if text is not None else b"")
    return data.getvalue()


def fits(suffix: str, text: str) -> bool:
    """Whether a file of that kind has room for the text."""
    return len(_comment(text)) <= _MOST_JPEG if suffix in (".jpg", ".jpeg") else len(text) <= MOST


def read(data: bytes) -> str:
    """The text in the bytes of a picture's file; it is whatever someone put there.

    Raises:
        ItemError: ``not_an_image``, not of a format that has it; ``broken``; ``no_parameters``, there is none.
    """
    ignore_pillow_warnings()
    try:
        image = Image.open(io.BytesIO(data), formats=_FORMATS)
        text = _png_text(image) if isinstance(image, PngImagePlugin.PngImageFile) else _exif_text(image)
    except UnidentifiedImageError as error:
        raise ItemError("not_an_image", "not a PNG, JPEG or WebP picture") from error
    except Exception as error:  # decoders raise nearly every built-in exception on damaged bytes
        raise ItemError("broken", f"the picture is damaged ({error})") from error
    if text is None:
        raise ItemError("no_parameters", "the picture does not say how it was made; it needs those that visiontk generate puts there")
    return text


def pixels_sha256(image: Image.Image) -> str:
    """Of the RGB bytes, row by row, in hexadecimal digits."""
    return hashlib.sha256(image.convert("RGB").tobytes()).hexdigest()


def mask_sha256(mask: Mask) -> str:
    """Likewise of a mask (H, W), a byte of 0 or 255 for each pixel."""
    return hashlib.sha256(np.where(mask, np.uint8(255), np.uint8(0)).tobytes()).hexdigest()


def _comment(text: str) -> bytes:
    return _ASCII + json.dumps({KEY: json.loads(text)}).encode("ascii")


def _png_text(image: PngImagePlugin.PngImageFile) -> str | None:
    found = image.info.get(KEY)
    return str(found) if isinstance(found, str) and len(found) <= MOST else None


def _exif_text(image: Image.Image) -> str | None:
    comment = image.getexif().get_ifd(_EXIF).get(_USER_COMMENT)
    if not isinstance(comment, bytes) or not comment.startswith(_ASCII) or len(comment) > MOST:
        return None
    try:
        found = json.loads(comment.removeprefix(_ASCII).rstrip(b"\0"))
    except (ValueError, RecursionError):
        return None
    return json.dumps(found[KEY]) if isinstance(found, dict) and KEY in found else None
