"""Rebuild ``visiontk/tiny/sprites`` from emoji packages, and ``visiontk/tiny/backgrounds`` from the example photos.

    mkdir packages && cd packages
    npm pack emoji-datasource-google@16.0.0 emoji-datasource-twitter@16.0.0 @lobehub/fluent-emoji-3d@1.1.0
    for name in *.tgz; do mkdir "${name%.tgz}" && tar -xzf "$name" -C "${name%.tgz}"; done
    cd .. && python scripts/build_sprites.py packages

``names.toml`` says which things there are. Every sprite is cut to its opaque part, brought to the same size and put into the middle of
its cell.
"""

from __future__ import annotations

import argparse
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
TINY = ROOT / "visiontk" / "tiny"
SOURCES = {
    "noto": "emoji-datasource-google-*/package/img/google/64/{}.png",
    "fluent": "lobehub-fluent-emoji-3d-*/package/assets/{}.webp",
    "twemoji": "emoji-datasource-twitter-*/package/img/twitter/64/{}.png",
}
CELL, MARGIN, COLUMNS = 64, 3, 10
OPAQUE = 16 / 255  # alpha above which a pixel counts as part of the thing
PHOTO_SIDE, PHOTO_QUALITY = 128, 85
# Left and upper corner and side of each crop in pixels: pieces in which none of the world's things can be seen.
CROPS = {
    "camera.png": [(320, 95, 190), (370, 290, 140)],
    "chelsea.png": [(25, 150, 115), (355, 160, 95)],
    "coffee.jpg": [(440, 0, 160), (470, 210, 130)],
    "helmet.jpg": [(18, 45, 58), (45, 165, 130)],
    "rocket.jpg": [(0, 0, 190), (110, 30, 170), (70, 255, 165), (480, 60, 160)],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("packages", type=Path, help="the folder with the three unpacked packages")
    parser.add_argument("--out", type=Path, default=TINY, help="the folder to write (default: visiontk/tiny)")
    args = parser.parse_args()

    things = tomllib.loads((TINY / "sprites" / "names.toml").read_text("utf-8"))["things"]
    for style, pattern in SOURCES.items():
        sheet = build_sheet([fit(Image.open(find(args.packages, pattern, thing["codepoint"]))) for thing in things])
        save(args.out / "sprites" / f"{style}.webp", sheet, lossless=True, quality=100, method=6, exact=False)
    for name, crops in CROPS.items():
        with Image.open(ROOT / "examples" / "photos" / name) as photo:
            for number, crop in enumerate(crops, 1):
                path = args.out / "backgrounds" / f"{Path(name).stem}-{number}.jpg"
                save(path, cut(photo, crop), quality=PHOTO_QUALITY, subsampling=0)


def find(packages: Path, pattern: str, codepoint: str) -> Path:
    """A thing's picture in one package; some names carry the variation selector U+FE0F."""
    for name in (codepoint, f"{codepoint}-fe0f"):
        for path in sorted(packages.glob(pattern.format(name))):
            return path
    raise SystemExit(f"{packages} holds no {pattern.format(codepoint)}")


def fit(image: Image.Image) -> Image.Image:
    """The opaque part of ``image``, its longer side brought to the cell without the margins, in the middle of a cell; RGBA.

    Colours are multiplied by alpha before they are resized and divided afterwards: what lies under transparent pixels cannot seep in.
    """
    pixels = np.asarray(image.convert("RGBA"), dtype=np.float32) / 255
    pixels = np.concatenate([pixels[..., :3] * pixels[..., 3:], pixels[..., 3:]], axis=2)
    rows, columns = (np.flatnonzero((pixels[..., 3] > OPAQUE).any(axis=axis)) for axis in (1, 0))
    box = (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
    scale = (CELL - 2 * MARGIN) / max(box[2] - box[0], box[3] - box[1])
    width, height = (max(1, round(side * scale)) for side in (box[2] - box[0], box[3] - box[1]))
    left, top = (CELL - width) // 2, (CELL - height) // 2
    cell = np.zeros((CELL, CELL, 4), np.float32)
    for channel in range(4):
        plane = Image.fromarray(np.ascontiguousarray(pixels[..., channel]))
        resized = np.asarray(plane.resize((width, height), Image.Resampling.LANCZOS, box=box))
        cell[top : top + height, left : left + width, channel] = resized
    return Image.fromarray(_straight(cell.clip(0, 1)))


def _straight(premultiplied: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """RGBA uint8 (H, W, 4) of premultiplied floats; black where nothing is."""
    alpha = np.rint(premultiplied[..., 3:] * 255)
    colours = np.where(alpha > 0, premultiplied[..., :3] / np.maximum(premultiplied[..., 3:], 1 / 510), 0).clip(0, 1)
    return np.concatenate([np.rint(colours * 255), alpha], axis=2).astype(np.uint8)


def build_sheet(sprites: list[Image.Image]) -> Image.Image:
    sheet = Image.new("RGBA", (COLUMNS * CELL, -(-len(sprites) // COLUMNS) * CELL))
    for number, sprite in enumerate(sprites):
        sheet.paste(sprite, (number % COLUMNS * CELL, number // COLUMNS * CELL))
    return sheet


def cut(photo: Image.Image, crop: tuple[int, int, int]) -> Image.Image:
    left, top, side = crop
    box = (left, top, left + side, top + side)
    return photo.convert("RGB").resize((PHOTO_SIDE, PHOTO_SIDE), Image.Resampling.LANCZOS, box=box)


def save(path: Path, image: Image.Image, **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)
    print(f"{path.stat().st_size:>9,} bytes  {path}")


if __name__ == "__main__":
    main()
