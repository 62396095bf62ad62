"""The examples that take longer or need no jq: the large vision model's clip, and the Python interface."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"


def environment() -> dict[str, str]:
    """This environment's visiontk, with the small models that come with it."""
    path = str(Path(sys.executable).parent) + os.pathsep + os.environ["PATH"]
    return {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1", "VISIONTK_MODEL_LVM": "tiny-lvm"}


@pytest.mark.skipif(shutil.which("jq") is None, reason="the example is written with jq, which is not installed")
def test_a_clip_is_continued_in_two_ways(tmp_path: Path) -> None:
    from PIL import Image

    command = [str(EXAMPLES / "continue-a-clip.sh"), "out"]
    done = subprocess.run(command, cwd=tmp_path, env=environment(), check=True, capture_output=True, text=True)
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    assert [(candidate, number) for candidate, number, _, _ in lines] == [(str(c), str(n)) for n in range(4) for c in range(2)]
    for _, _, image, _ in lines:
        with Image.open(tmp_path / image) as picture:
            picture.load()
    assert len({(tmp_path / image).read_bytes() for _, _, image, _ in lines}) > 1
    animations = {candidate: animation for candidate, _, _, animation in lines}
    assert len(set(animations.values())) == 2
    assert all((tmp_path / animation).stat().st_size > 100 for animation in animations.values())


def test_the_nearest_photos(tmp_path: Path, photos: Path) -> None:
    for name in ("chelsea.png", "coffee.jpg", "rocket.jpg"):
        shutil.copy(photos / name, tmp_path)
    shutil.copy(photos / "chelsea.png", tmp_path / "cat-again.png")
    command = [sys.executable, str(EXAMPLES / "nearest.py"), str(tmp_path)]
    done = subprocess.run(command, env=environment(), check=True, capture_output=True, text=True)
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["cat-again.png", "chelsea.png", "coffee.jpg", "rocket.jpg"]
    assert "tiger cat" in lines[0] and lines[0].endswith("nearest: chelsea.png (1.00)")
    assert "espresso" in lines[2] and not lines[2].endswith("(1.00)")


def test_ci_does_not_pass_over_the_scripts_where_jq_is_missing(tmp_path: Path) -> None:
    bash, dirname = shutil.which("bash"), shutil.which("dirname")
    assert bash and dirname
    (tmp_path / "dirname").symlink_to(dirname)
    done = subprocess.run([bash, str(ROOT / ".ci" / "run")], env={"PATH": str(tmp_path)}, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == ".ci/run: jq is missing, and the examples' tests need it; install it (Debian, Ubuntu: apt install jq)\n"
