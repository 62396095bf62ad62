"""Large JPEGs decoded smaller than they are, several times faster: libjpeg-turbo scales in the DCT, by eighths (Pillow: by halves)."""

from __future__ import annotations

import simplejpeg
from PIL import Image

_MODES = ("RGB", "L")


def decode_smaller(data: bytes, image: Image.Image, min_side: int) -> Image.Image | None:
    """The JPEG ``data`` in RGB at the smallest of 1/8, 2/8, 3/8 and 4/8 of its size whose shorter side keeps ``min_side`` pixels.

    ``image`` is what Pillow opened, not loaded. None where Pillow has to decode: a picture half of which is too small, CMYK, and data that
    is not quite in order, as Pillow decides what of that is good enough.
    """
    if image.mode not in _MODES or -(-min(image.size) // 2) < min_side:
        return None
    try:
        # 5/8 to 7/8, which a factor below 2 allows, have no fast code and would take longer than the whole.
        pixels = simplejpeg.decode_jpeg(data, "RGB", min_height=min_side, min_width=min_side, min_factor=2)
    except ValueError:
        return None
    return Image.fromarray(pixels)
