"""`scripts/build_sprites.py` brings every drawing to the same size and place."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

SCRIPT: dict[str, Any] = runpy.run_path(str(Path(__file__).parent.parent / "scripts" / "build_sprites.py"))


@pytest.mark.parametrize(("width", "height"), [(40, 20), (12, 33), (90, 90)])
def test_a_drawing_is_cut_out_scaled_and_put_into_the_middle(width: int, height: int) -> None:
    pixels = np.zeros((128, 160, 4), np.uint8)
    pixels[..., :3] = (0, 255, 0)  # under what is transparent: it must not seep in
    pixels[7 : 7 + height, 60 : 60 + width] = (200, 40, 10, 255)
    cell = np.asarray(SCRIPT["fit"](Image.fromarray(pixels)))
    assert cell.shape == (64, 64, 4)
    rows, columns = (np.flatnonzero((cell[..., 3] > 127).any(axis=axis)) for axis in (1, 0))
    sides = len(columns), len(rows)
    assert max(sides) == 58 and sides == (round(58 * width / max(width, height)), round(58 * height / max(width, height)))
    for places in (rows, columns):
        assert abs((places[0] + places[-1] + 1) / 2 - 32) <= 0.5
    drawn = cell[cell[..., 3] > 0]
    assert np.median(drawn[:, :3], axis=0).tolist() == [200, 40, 10]
    assert drawn[:, 1].max() < 60  # Lanczos overshoots at an edge by a quarter at most
    assert (cell[cell[..., 3] == 0] == 0).all()
