"""What a file's first bytes say it is: an image, a video, or neither. Names and suffixes are not asked."""

from __future__ import annotations

import re
from pathlib import Path

_IMAGE_PREFIXES = (
    b"\xff\xd8\xff",  # JPEG, MPO
    b"\x89PNG\r\n\x1a\n",
    b"GIF87a",
    b"GIF89a",
    b"II*\x00",  # TIFF, little endian
    b"MM\x00*",  # TIFF, big endian
    b"II+\x00",  # BigTIFF, both endian
    b"MM\x00+",
    b"\x00\x00\x00\x0cjP  \r\n\x87\n",  # JPEG 2000, boxed
    b"\xff\x4f\xff\x51",  # JPEG 2000, bare codestream
)
# "P3 is a fine road" begins like a PPM too: only white space and digits (or a comment) may follow the two letters.
_PNM = re.compile(rb"P(?:[1-6]|f)(?:\s+\d|\s*#|\s+-)")
_BMP_HEADER_SIZES = frozenset({12, 16, 40, 52, 56, 64, 108, 124})
_AVIF_BRANDS = frozenset({b"avif", b"avis", b"mif1", b"msf1"})
_HEIC_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"})
_AUDIO_BRANDS = frozenset({b"M4A ", b"M4B ", b"M4P "})

_VIDEO_PREFIXES = (
    b"\x1a\x45\xdf\xa3",  # Matroska, WebM
    b"FLV\x01",
    b"\x30\x26\xb2\x75\x8e\x66\xcf\x11",  # ASF, WMV
    b"\x00\x00\x01\xba",  # MPEG programme stream
    b"\x00\x00\x01\xb3",  # MPEG-1/2 elementary stream
    b"YUV4MPEG2 ",
    b"nut/multimedia container\x00",
    b"DKIF",  # IVF
    b"\x06\x0e\x2b\x34\x02\x05\x01\x01",  # MXF
)
# Bare H.264 and HEVC: a start code, and what such a stream begins with: parameter sets, the mark of a picture, or x264's words.
_ANNEX_B = re.compile(rb"\x00?\x00\x00\x01(?:[\x67\x27\x47]|\x09[\x10\x30\x50\x70\x90\xb0\xd0\xf0]|\x06\x05|[\x40\x46]\x01)")
_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1f]")  # no text has them
HEAD = 200  # bytes that tell any of them
_TS_PACKET = 188
_M2TS_PACKET = 192


def looks_like_image(head: bytes) -> bool:
    """Whether ``head``, the first 32 bytes of a file (fewer if it is shorter), is the start of an image format of ``images.FORMATS``."""
    if head.startswith(_IMAGE_PREFIXES) or _PNM.match(head):
        return True
    if head[:4] == b"RIFF":
        return head[8:12] == b"WEBP"
    if head[:2] == b"BM":
        return int.from_bytes(head[14:18], "little") in _BMP_HEADER_SIZES
    if head[:4] == b"\x00\x00\x01\x00":  # ICO: then the number of pictures, and a reserved zero in the first entry
        return 0 < int.from_bytes(head[4:6], "little") < 1024 and head[9:10] == b"\x00"
    return head[4:8] == b"ftyp" and head[8:12] in _AVIF_BRANDS and not is_heic(head)


def is_heic(head: bytes) -> bool:
    """Whether ``head`` starts a HEIC picture, as phones take them; Pillow alone does not read those."""
    if head[4:8] != b"ftyp":
        return False
    # mif1 and msf1 name the container alone; the compatible brands that follow (from byte 16) tell HEVC from AV1.
    compatible = {head[at : at + 4] for at in range(16, len(head), 4)}
    return head[8:12] in _HEIC_BRANDS or (head[8:12] in {b"mif1", b"msf1"} and bool(compatible & _HEIC_BRANDS))


def looks_like_video(head: bytes) -> bool:
    """Whether ``head`` is the start of a video container. 32 bytes suffice, but for MPEG-TS (``HEAD``) and Ogg (64 bytes)."""
    if head.startswith(_VIDEO_PREFIXES) or _ANNEX_B.match(head):
        return True
    if head[4:8] == b"ftyp":
        return head[8:12] not in _AVIF_BRANDS | _HEIC_BRANDS | _AUDIO_BRANDS
    if head[4:8] in {b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"}:  # QuickTime older than ftyp
        return head[:1] == b"\x00"
    if head[:4] == b"RIFF":
        return head[8:12] == b"AVI "
    if head[:4] == b"OggS":  # Ogg holds music as often: ask for a video codec's header
        return any(name in head for name in (b"\x80theora", b"OVP80", b"BBCD"))
    return _is_transport_stream(head)


def is_video_file(path: str) -> bool:
    """Whether a file starts like a video; one that cannot be read does not."""
    try:
        with Path(path).open("rb") as file:
            head = file.read(HEAD)
    except OSError:
        return False
    return looks_like_video(head) and not looks_like_image(head)


def may_be_transport_stream(head: bytes) -> bool:
    """Whether ``head`` has the first mark of an MPEG transport stream, which is also the "G" of any text."""
    return b"G" in (head[:1], head[4:5])


def _is_transport_stream(head: bytes) -> bool:
    # Each packet begins with the mark, so the second one's is asked as well; and names as long as a packet may begin with its letter.
    marks = ((0, _TS_PACKET), (4, 4 + _M2TS_PACKET))
    found = any(head[first : first + 1] == head[second : second + 1] == b"\x47" for first, second in marks)
    return found and _CONTROL.search(head) is not None
