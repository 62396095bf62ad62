"""The bundled ViT's figures on freshly rendered pictures, fixed seeds, against floors a little under what was measured.

`python -m tests.quality.test_tiny_vit` prints them as the model card and the README give them.
"""

from __future__ import annotations

from collections import Counter
from functools import cache

import numpy as np
import pytest
import torch
from PIL import Image

import visiontk
from visiontk.adapters.classify import Classifier, Views
from visiontk.tiny import world

SEED, COUNT = 20_000, 1_000  # no training run renders from this seed
FLOORS = {"noto": 0.975, "fluent": 0.975, "twemoji": 0.76}
ROLLOUT_GAIN = 1.25  # of the mass inside the box over the box's share of the picture


@cache
def classifier() -> Classifier:
    return visiontk.load("classify", "tiny-vit", visiontk.Runtime(device="cpu", dtype="fp32"))


def prepared(images: torch.Tensor) -> list[Views]:
    """Through the same preprocessing as any file."""
    return [classifier().prepare(Image.fromarray(image.permute(1, 2, 0).numpy())) for image in images]


@cache
def answers(style: str) -> list[tuple[int, int]]:
    """The class and the first answer for `COUNT` fresh pictures of one style."""
    scenes = world.render_scenes(SEED, COUNT, size=64, styles=(style,))
    given: list[int] = []
    for start in range(0, COUNT, 100):
        found = classifier().predict_prepared(prepared(scenes.images[start : start + 100]), top_k=1)
        given += [answer.labels[0].index for answer in found]  # type: ignore[union-attr]
    return list(zip(scenes.labels[:, 0].tolist(), given, strict=True))


def accuracy(style: str) -> float:
    """Top-1 over these pictures."""
    return sum(label == given for label, given in answers(style)) / COUNT


def confusions(style: str, most: int = 10) -> list[str]:
    """The commonest wrong answers, and of how many pictures of the thing they were given."""
    names, shown = world.names(), Counter(label for label, _ in answers(style))
    wrong = Counter(pair for pair in answers(style) if pair[0] != pair[1])
    ranked = sorted(wrong.items(), key=lambda item: (-item[1], names[item[0][0]], names[item[0][1]]))
    return [f"{names[label]} -> {names[given]}: {count} of {shown[label]}" for (label, given), count in ranked[:most]]


def hardest(style: str, most: int = 10) -> list[str]:
    """The things that are known least often."""
    names, shown = world.names(), Counter(label for label, _ in answers(style))
    right = Counter(label for label, given in answers(style) if label == given)
    ranked = sorted(shown, key=lambda label: (right[label] / shown[label], names[label]))
    return [f"{names[label]} {right[label]} of {shown[label]}" for label in ranked[:most]]


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


def test_its_confusions_are_counted_from_its_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    names = world.names()
    dog, cat, car = (names.index(name) for name in ("dog", "cat", "car"))
    given = [(dog, cat)] * 3 + [(dog, dog)] + [(car, car)] * 2 + [(cat, dog), (cat, cat)]
    monkeypatch.setitem(globals(), "answers", lambda style: given)
    assert confusions("any") == ["dog -> cat: 3 of 4", "cat -> dog: 1 of 2"]
    assert hardest("any", 2) == ["dog 1 of 4", "cat 1 of 2"]


if __name__ == "__main__":
    for name in FLOORS:
        print(f"top-1 {name:<8} {accuracy(name):.3f}")
    within, share = rollout_share()
    print(f"rollout mass inside the box {within:.3f}, the box's share of the picture {share:.3f}, ratio {within / share:.2f}")
    print(f"\nconfusions in {world.HELD_OUT_STYLE}:", *confusions(world.HELD_OUT_STYLE), sep="\n  ")
    print(f"known least in {world.HELD_OUT_STYLE}:", *hardest(world.HELD_OUT_STYLE), sep="\n  ")
