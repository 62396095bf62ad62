"""The photos nearest to each photo, by the cosine of a model's pooled features: the Python interface, and reading the features' file.

usage: nearest.py [FOLDER]
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image

import visiontk


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "photos"
    paths = sorted(path for path in folder.iterdir() if path.suffix in (".jpg", ".png"))
    classifier = visiontk.load("classify", "efficientnet-lite0", visiontk.Runtime(device="cpu"))
    found = classifier.predict([Image.open(path).convert("RGB") for path in paths], top_k=1)
    features = np.stack([classification.embedding for classification in found])
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    likeness = features @ features.T - 2 * np.eye(len(paths))
    for path, classification, row in zip(paths, found, likeness, strict=True):
        print(f"{path.name:<14} {classification.labels[0].label:<18} nearest: {paths[row.argmax()].name} ({row.max():.2f})")


if __name__ == "__main__":
    main()
