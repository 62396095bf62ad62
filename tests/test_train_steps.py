"""Trainings that go step by step, stopped at any moment: their lines are those of a run that was left alone."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.training_runs import course

STEPS = 12


class Counting:
    """Learns nothing: the loss of a step is its number."""

    def advance(self, step: int) -> Mapping[str, float]:
        return {"loss": float(step)}

    def rate(self, step: int) -> float:
        return 1.0

    def state(self) -> dict[str, Any]:
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        assert state == {}


def lines(folder: Path) -> list[tuple[int, float]]:
    return [(line["step"], line["train"]["loss"]) for line in map(json.loads, (folder / "metrics.jsonl").open())]


@pytest.mark.parametrize("stop", range(1, STEPS + 1))
def test_ctrl_c_while_a_step_is_computed_comes_after_it_and_loses_no_line(tmp_path: Path, stop: int) -> None:
    held = 0

    @contextmanager
    def hold() -> Iterator[None]:
        nonlocal held
        yield
        held += 1
        if held == stop:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        course(Counting(), STEPS, tmp_path, hold=hold)
    assert course(Counting(), STEPS, tmp_path).step == STEPS
    assert lines(tmp_path) == [(step + 1, float(step)) for step in range(STEPS)]
