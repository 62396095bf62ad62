"""The bundled ViT's figures on freshly rendered pictures, fixed seeds, against floors a little under what was measured.

`python -m tests.quality.test_tiny_vit` prints them as the model card and the README give them.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from PIL import Image

import visiontk
from visiontk.adapters.classify import Classifier, Views
from visiontk.tiny import world

SEED, COUNT = 20_000, 1_000  # no training run renders from this seed
FLOORS = {"noto": 0.95, "fluent": 0.955, "twemoji": 0.49}
ROLLOUT_GAIN = 1.7  # of the mass inside the box over the box's share of the picture


@cache
def classifier() -> Classifier:
    return visiontk.load("classify", "tiny-vit", visiontk.Runtime(device="cpu", dtype="fp32"))


def prepared(images: torch.Tensor) -> list[Views]:
    """Through the same preprocessing as any file."""
    return [classifier().prepare(Image.fromarray(image.permute(1, 2, 0).numpy())) for image in images]


def accuracy(style: str) -> float:
    """Top-1 over `COUNT` fresh pictures of one style."""
    scenes = world.render_scenes(SEED, COUNT, size=64, styles=(style,))
    right = 0
    for start in range(0, COUNT, 100):
        found = classifier().predict_prepared(prepared(scenes.images[start : start + 100]), top_k=1)
        labels = scenes.labels[start : start + 100, 0].tolist()
        right += sum(answer.labels[0].index == label for answer, label in zip(found, labels, strict=True))  # type: ignore[union-attr]
    return right / COUNT


def rollout_share(count: int = 200) -> tuple[float, float]:
    """The share of attention rollout's mass inside the object's box, and the box's share of the picture; means over fresh pictures."""
    scenes = world.render_scenes(SEED + 1, count, size=64)
    heats = classifier().attention(prepared(scenes.images))
    inside, areas = [], []
    for heat, box in zip(heats, scenes.boxes[:, 0].tolist(), strict=True):
        x0, y0, x1, y1 = box
        pixels = np.kron(heat, np.ones((64 // heat.shape[0], 64 // heat.shape[1]))) / (64 // heat.shape[0]) / (64 // heat.shape[1])
        inside.append(pixels[int(y0) : int(np.ceil(y1)), int(x0) : int(np.ceil(x1))].sum())
        areas.append((x1 - x0) * (y1 - y0) / 64**2)
    return float(np.mean(inside)), float(np.mean(areas))


@pytest.mark.parametrize("style", FLOORS)
def test_it_knows_the_things(style: str) -> None:
    assert accuracy(style) >= FLOORS[style]


def test_attention_rollout_lies_on_the_thing() -> None:
    inside, area = rollout_share()
    assert inside >= ROLLOUT_GAIN * area


def test_its_labels_are_the_worlds_names() -> None:
    assert classifier().labels == world.names()


if __name__ == "__main__":
    for name in FLOORS:
        print(f"top-1 {name:<8} {accuracy(name):.3f}")
    within, share = rollout_share()
    print(f"rollout mass inside the box {within:.3f}, the box's share of the picture {share:.3f}, ratio {within / share:.2f}")
