"""What a person sees on a terminal: tables unasked, progress with speed and time left, no escape codes where they are unwanted."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tests.terminals import draw

if TYPE_CHECKING:
    from tests.conftest import OnTerminal, TinyModel


VISIONTK = str(Path(sys.executable).parent / "visiontk")


def test_a_table_for_each_image_and_progress_with_speed_and_time_left(tiny_model: TinyModel, photos: Path, on_terminal: OnTerminal) -> None:
    drawn = on_terminal("classify", str(photos), str(photos / "gone.jpg"), "-m", str(tiny_model.folder), TERM="xterm-256color")
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", drawn).replace("\r", "\n")
    for name in ("camera.png", "chelsea.png", "coffee.jpg", "helmet.jpg", "rocket.jpg"):
        assert name in plain
    assert re.search(r"\d\.\d% [█▏▎▍▌▋▊▉ ]+ +thing \d", plain)
    assert re.search(r"\d+/6", plain), "counted beforehand"
    assert re.search(r"[\d.]+ images/s", plain)
    assert re.search(r"\d:\d\d:\d\d (\d:\d\d:\d\d|-:--:--)", plain), "time taken and time left"
    assert "there is no such file" in plain
    assert re.search(r"visiontk: 6 images in [\d.]+ s, [\d.]+ a second", plain)
    assert "visiontk: warning: 1 of 6 images failed; their lines say why" in plain


def test_progress_goes_to_stderr_and_nothing_but_lines_to_the_file(tiny_model: TinyModel, photos: Path) -> None:
    names = [str(photos / name) for name in ("camera.png", "coffee.jpg")]
    lines = Path("lines.jsonl")
    code, drawn = draw("classify", *names, "-m", str(tiny_model.folder), lines=lines, environment={"TERM": "xterm-256color"})
    assert code == 0
    assert [json.loads(line)["path"] for line in lines.read_bytes().splitlines()] == names
    assert "images/s" in drawn and "camera.png" not in drawn
    assert re.search(r"visiontk: 2 images in [\d.]+ s, [\d.]+ a second", drawn)


def test_the_bar_of_a_run_that_goes_on_counts_what_was_answered_before(tiny_model: TinyModel, photos: Path) -> None:
    job = ("classify", str(photos), "-m", str(tiny_model.folder))
    environment = {"TERM": "xterm-256color"}
    assert draw(*job, lines=Path("whole.jsonl"), environment=environment)[0] == 0
    Path("out.jsonl").write_bytes(b"".join(Path("whole.jsonl").read_bytes().splitlines(keepends=True)[:3]))
    code, drawn = draw(*job, "--resume", "out.jsonl", environment=environment)
    assert code == 0
    assert "5/5" in drawn and "2/5" not in drawn
    assert re.search(r"visiontk: 2 images in [\d.]+ s", drawn), "the speed is of those that were made now"


def test_no_colour_is_honoured(tiny_model: TinyModel, photos: Path, on_terminal: OnTerminal) -> None:
    drawn = on_terminal("classify", str(photos / "coffee.jpg"), "-q", "-m", str(tiny_model.folder), NO_COLOR="1", TERM="xterm-256color")
    assert "coffee.jpg" in drawn
    assert not re.search(r"\x1b\[(3|4|9)\d", drawn)


def test_without_input_a_terminal_gets_an_error_and_not_a_wait() -> None:
    master, terminal = pty.openpty()
    done = subprocess.run([VISIONTK, "classify"], stdin=terminal, capture_output=True, text=True, timeout=60)
    os.close(master)
    os.close(terminal)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "visiontk: error: there is no input; name images, folders or videos, or send paths through a pipe\n"
