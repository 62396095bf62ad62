"""What `--compile` makes of the bundled models with the real backend, which wants a C++ compiler: the same answers."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from visiontk.media.masks import decode_rle

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Run

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile writes C++ and there is no compiler")


@pytest.fixture
def frames(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    assert run("tiny", "render", "clips", "-n", "1", "--frames", "4", "--objects", "1", "-o", "clips").code == 0
    return "clips/JPEGImages/000001"


def test_a_compiled_segmenter_finds_the_same_masks(run: Run, frames: str) -> None:
    arguments = ("segment", frames, "-m", "tiny-sam2", "-p", "mask:clips/Annotations/000001/00000.png", "--dtype", "fp32", "--end", "2")
    masks = []
    for more in ((), ("--compile",)):
        done = run(*arguments, *more)
        assert done.code == 0, done.error
        masks.append([decode_rle(record["segment"]["objects"][0]["rle"]) for record in done.records])
    assert len(masks[0]) == 3 and all(mask.any() for mask in masks[0])
    assert np.mean(np.stack(masks[0]) != np.stack(masks[1])) < 0.001, "sums are rounded otherwise"


def test_a_compiled_sentence_goes_on_likewise(run: Run, frames: str) -> None:
    arguments = ("lvm-continue", frames, "-m", "tiny-lvm", "--greedy", "--score", "--dtype", "fp32", "--no-strip")
    plain, compiled = (run(*arguments, "-o", f"{name}/", *more) for name, more in (("plain", ()), ("compiled", ("--compile",))))
    assert (plain.code, compiled.code) == (0, 0), compiled.error
    (one,), (other,) = plain.records, compiled.records
    assert other["lvm"]["nll"] == pytest.approx(one["lvm"]["nll"], rel=1e-3)
    assert other["lvm"]["prompt_nll"] == pytest.approx(one["lvm"]["prompt_nll"], rel=1e-3)
    pictures = [np.asarray(Image.open(record["path"]).convert("RGB"), dtype=float) for record in (one, other)]
    assert np.abs(pictures[0] - pictures[1]).mean() < 2, "of 255; sums are rounded otherwise, and a code may be another"
