"""The bundled text-to-image model's figures over all things, fixed seeds, against floors a little under what was measured.

`python -m tests.quality.test_tiny_diffusion` prints them over more pictures, as the model card and the README give them.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from visiontk import Runtime
from visiontk.training.generate_measure import Counts, background_colour, measure

if TYPE_CHECKING:
    from tests.conftest import Run

CPU = Runtime(device="cpu", dtype="fp32", threads=2)
QUICK = Counts(each=1, changed=20, steps=10)
FLOORS = {
    ("text to image", "thing"): 0.97,
    ("text to image", "background"): 0.97,
    ("image to image", "thing"): 0.95,
    ("image to image", "background"): 0.95,
    ("image to image", "near"): 0.9,
    ("inpainting", "thing"): 0.95,
    ("inpainting", "kept"): 1.0,
}


@cache
def figures() -> dict[str, dict[str, float]]:
    return measure("tiny-diffusion", CPU, QUICK)


@pytest.mark.parametrize(("task", "figure"), FLOORS)
def test_it_draws_what_the_prompt_names(task: str, figure: str) -> None:
    assert figures()[task][figure] >= FLOORS[task, figure]


def test_without_a_hub_it_draws_and_the_next_stage_looks_and_replay_gives_the_same_bytes(run: Run) -> None:
    made = run("generate", "a red apple on a blue background")
    assert made.code == 0 and "tiny-diffusion" in made.stderr
    seen = run("classify", "--model", "tiny-vit", "-q", stdin=made.stdout)
    [record] = seen.records
    assert record["generate"]["model"] == "tiny-diffusion" and record["classify"]["labels"][0]["label"] == "apple"
    assert background_colour(Image.open(record["path"])) == "blue"
    replayed = run("replay", record["path"])
    assert replayed.code == 0 and replayed.records[0]["replay"]["same"] is True
    assert Path(replayed.records[0]["path"]).read_bytes() == Path(json.loads(made.stdout)["path"]).read_bytes()


if __name__ == "__main__":
    for name, found in measure("tiny-diffusion", CPU).items():
        print(f"{name:<15} {'   '.join(f'{figure} {value:.3f}' for figure, value in found.items())}")
