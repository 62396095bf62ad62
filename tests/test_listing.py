"""What names stand for."""

from __future__ import annotations

from pathlib import Path

import pytest

from visiontk import listing
from visiontk.artefacts import Naming


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("%010d.png", ["0000000001.png", "0000000002.png"]),
        ("f%012d.jpg", ["f000000000001.jpg"]),
        ("%d.png", ["7.png", "0000000001.png"]),
        ("f%5d.jpg", ["f12345.jpg", "f000000000001.jpg"]),
    ],
)
def test_a_pattern_of_ffmpegs_finds_numbers_of_at_least_so_many_digits(
    pattern: str, names: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("0000000001.png", "0000000002.png", "f000000000001.jpg", "7.png", "f12345.jpg", "x1.png"):
        Path(name).touch()
    found = listing.matching(pattern)
    assert listing.is_numbered(pattern) and set(names) <= set(found), found
    assert all(len(Path(name).stem.strip("fx")) >= len(Path(names[0]).stem.strip("f")) for name in found)


@pytest.mark.parametrize(("path", "parent"), [("../photo.jpg", "up"), ("a/../b.jpg", "here"), ("c/d.jpg", "c"), ("e.jpg", "")])
def test_the_folder_of_a_name_leads_nowhere_else(path: str, parent: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = tmp_path / "up" / "here"
    here.mkdir(parents=True)
    monkeypatch.chdir(here)
    assert Naming("out/{parent}/{stem}.png").path({"path": path}, 0, "", ".png") == Path("out", parent, Path(path).stem + ".png")
