"""Draw docs/images/tiny-attention.png: pictures of the tiny world, and where the bundled ViT looks in them.

usage: python scripts/make_attention_picture.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

import visiontk
from visiontk.adapters.classify import Classification
from visiontk.media.draw import overlay_heatmap
from visiontk.tiny import world

TARGET = Path(__file__).parent.parent / "docs" / "images" / "tiny-attention.png"
COUNT, SIDE = 8, 160


def main() -> None:
    """Above the picture, below the same with its attention rollout; the last four in the held-out style."""
    classifier = visiontk.load("classify", "tiny-vit", visiontk.Runtime(device="cpu", dtype="fp32"))
    half = COUNT // 2
    scenes = [world.render_scenes(21_000, half, size=64, styles=styles) for styles in (world.TRAIN_STYLES, (world.HELD_OUT_STYLE,))]
    pictures = [Image.fromarray(image.permute(1, 2, 0).contiguous().numpy()) for part in scenes for image in part.images]
    labels = [world.names()[label] for part in scenes for label in part.labels[:, 0].tolist()]
    views = [classifier.prepare(picture) for picture in pictures]
    sheet = Image.new("RGB", (COUNT * SIDE, 2 * SIDE))
    for number, (picture, heat) in enumerate(zip(pictures, classifier.attention(views), strict=True)):
        large = picture.resize((SIDE, SIDE), Image.Resampling.LANCZOS)
        sheet.paste(large, (number * SIDE, 0))
        sheet.paste(overlay_heatmap(large, np.asarray(heat)), (number * SIDE, SIDE))
    sheet.save(TARGET, optimize=True)
    for label, answer in zip(labels, classifier.predict_prepared(views, top_k=1), strict=True):
        assert isinstance(answer, Classification)
        print(f"{label}: {answer.labels[0].label} {answer.labels[0].score:.2f}")


if __name__ == "__main__":
    main()
