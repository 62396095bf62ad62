"""`make demo` where it cannot begin: one line that says what is missing, and nothing was installed or made."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")


def make(folder: Path, *arguments: str) -> str:
    """What make says, run in a folder with nothing but what it reads, and without this environment's programs."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, folder)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    done = subprocess.run(["make", *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert not (folder / ".venv").exists()
    # make puts its own name and the line's number before the message, and "Stop." after it.
    said = re.fullmatch(r"Makefile:\d+: \*\*\* (.*)\.  Stop\.\n", done.stderr)
    assert said is not None, done.stderr
    return said[1]


def fake_python(path: Path, answers: str) -> Path:
    """An interpreter that does what a shell script says of the program after ``-c``."""
    path.write_text(f'#!/bin/sh\ncase "$2" in\n{answers}\n*) echo called >> "{path}.log"; exit 1;;\nesac\n')
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("target", ["demo", "test", "lint"])
def test_a_python_that_is_not_there(tmp_path: Path, target: str) -> None:
    said = make(tmp_path, target, "PYTHON=/nope")
    assert said == "no Python 3.11 or newer (tried: /nope); install one, or name it: make PYTHON=/path/to/python3"


def test_a_python_that_is_too_old(tmp_path: Path) -> None:
    old = fake_python(tmp_path / "python3", "*version_info*) exit 1;;")
    assert make(tmp_path, "demo", f"PYTHON={old}").startswith(f"no Python 3.11 or newer (tried: {old})")


def test_a_python_without_venv(tmp_path: Path) -> None:
    bare = fake_python(tmp_path / "python3", "*version_info*) exit 0;;\n*ensurepip*) exit 1;;")
    said = make(tmp_path, "demo", f"PYTHON={bare}")
    assert said.startswith(f"{bare} lacks venv or ensurepip; install them (Debian, Ubuntu: apt install python3-venv)")
    assert not Path(f"{bare}.log").exists(), "nothing else was asked of it"
