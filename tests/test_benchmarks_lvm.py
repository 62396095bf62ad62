"""The programs behind the figures of docs/benchmarks.md, on small networks: that they run, and that what is compared is equal."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from benchmarks import lvm_decoding, lvm_frames, lvm_sliding
from tests.lvm_models import shrink_300m
from visiontk.adapters import lvm_sizes
from visiontk.runtime import Runtime

CPU = Runtime(device="cpu", dtype="fp32")

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    shrink_300m(monkeypatch)
    monkeypatch.setattr(lvm_frames, "copy_bandwidth", lambda *_: 1e9)
    monkeypatch.setattr(lvm_decoding, "copy_bandwidth", lambda *_: 1e9)


def test_the_loop_that_is_timed_makes_the_tokens_of_transformers(small: None) -> None:
    material = lvm_decoding.Material("300m", CPU.start())
    with torch.inference_mode():
        speed, share = lvm_decoding.tables(material, [16, 64], 8, 2)
    assert [(row[0], row[-1]) for row in speed.rows] == [("16", "equal"), ("64", "equal")]
    assert [row[0] for row in share.rows] == ["16", "64"]


def test_a_frame_of_a_size_is_timed_with_weights_of_either_kind(small: None, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    count = lvm_frames._read

    def noted(*arguments: Any) -> int:
        read.append(count(*arguments))
        return read[-1]

    monkeypatch.setattr(lvm_frames, "_read", noted)
    table = lvm_frames.table("300m", CPU, [(None, False), ("int8", False)], [256], 1)
    assert [row[0] for row in table.rows] == ["fp32, eager, behind 256", "int8, eager, behind 256"]
    assert read[1] < read[0]


def test_frames_past_the_context_are_timed_from_one_sliding_to_the_next(small: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lvm_sizes, "CONTEXT", 64)
    material = lvm_decoding.Material("300m", CPU.start())
    with torch.inference_mode():
        table = lvm_sliding.table(material, 8, 2)
    assert [row[-1] for row in table.rows] == ["7 to 7", "7 to 7", "6 to 7"]
    assert table.rows[0][3] == "1.00 x" and "2 frames of 8 tokens" in table.notes[0]


def test_read_anew_both_make_the_same_frames(small: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lvm_sizes, "CONTEXT", 64)
    material = lvm_decoding.Material("300m", CPU.start())
    seen = torch.randint(0, 8192, (1, 7, 8), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        assert torch.equal(lvm_sliding._one(material, seen)[0], lvm_decoding.theirs(material, seen.flatten(1), 8))
