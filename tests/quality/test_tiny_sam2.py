"""The bundled SAM 2's figures on freshly rendered pictures and clips, fixed seeds, against floors a little under what was measured.

`python -m tests.quality.test_tiny_sam2` prints them over 100 pictures and 100 clips, as the model card and the README give them, and with a
number after it over so many clips.
"""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from visiontk import Runtime
from visiontk.media.video import probe
from visiontk.training.segment_measure import Counts, measure

if TYPE_CHECKING:
    from tests.conftest import Run

CPU = Runtime(device="cpu", dtype="fp32")
QUICK = Counts(pictures=40, clips=12, frames=12)
# (training styles, held-out style)
FLOORS = {
    "pictures, one click: mIoU": (0.86, 0.78),
    "pictures, a box: mIoU": (0.86, 0.80),
    "clips, one click: J&F": (0.72, 0.67),
    "clips, a mask: J&F": (0.76, 0.71),
}


@cache
def figures() -> dict[str, dict[str, float]]:
    return measure("tiny-sam2", CPU, QUICK)


@pytest.mark.parametrize("figure", FLOORS)
def test_it_finds_and_follows_things(figure: str) -> None:
    training, held_out = FLOORS[figure]
    assert figures()[figure]["training"] >= training
    assert figures()[figure]["held_out"] >= held_out


def test_without_a_hub_it_follows_a_click_through_a_real_video(run: Run, bunny: Path) -> None:
    """It knows no photographs, nor films: what is asked here is that each frame has its answer, and the overlay its frames."""
    result = run("segment", bunny, "--prompt", "point", "-o", "overlay.mp4")
    assert result.code == 0 and "tiny-sam2" in result.stderr
    assert [record["frame"] for record in result.records] == list(range(60))
    assert all(len(record["segment"]["objects"]) == 1 for record in result.records)
    assert result.records[0]["segment"]["objects"][0]["area"] > 0
    found, original = probe("overlay.mp4"), probe(str(bunny))
    assert (found.width, found.height, found.frames_estimate) == (original.width, original.height, 60)
    assert found.fps == pytest.approx(original.fps)


if __name__ == "__main__":
    counts = Counts(clips=int(sys.argv[1]) if len(sys.argv) > 1 else 100)
    for name, found in measure("tiny-sam2", CPU, counts).items():
        print(f"{name:<26} training styles {found['training']:.3f}   held-out style {found['held_out']:.3f}")
