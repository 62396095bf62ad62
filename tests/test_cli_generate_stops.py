"""Runs of `visiontk generate` that are stopped or have no room: no picture half done, no line lost or twice, no other name."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

if TYPE_CHECKING:
    from tests.conftest import DiskOf, Record, Run

VISIONTK = str(Path(sys.executable).with_name("visiontk"))
SIDE = 32
pytestmark = pytest.mark.usefixtures("generators_loaded_once")


@pytest.fixture
def job(pipeline: Path) -> list[str]:
    """Eleven lines in batches of three, among them one whose name is taken, a broken line, one that changes a photo; and a sheet."""
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (SIDE, SIDE, 3), np.uint8)).save("photo.png")
    lines: list[Record] = [{"prompt": "a car", "n": 2}, {"prompt": ""}]
    lines += [{"prompt": "a tree", "init": "photo.png", "strength": 0.9}, {"prompt": "grass", "seed": "4,2"}]
    Path("p.jsonl").write_text("\n".join(map(json.dumps, lines)))
    Path("o").mkdir()
    Path("o/a-tree.jpg").write_bytes(b"mine")
    return ["generate", "-m", str(pipeline), "--prompts", "p.jsonl", "--sweep", "steps=2,3", "-b", "3", "-o", "o/{prompt_slug}.jpg"]


def read(file: str) -> list[Record]:
    data = Path(file).read_bytes()
    assert data == b"" or data.endswith(b"\n")
    return [json.loads(line) for line in data.splitlines()]


def about(records: list[Record]) -> list[tuple[Any, ...]]:
    """What lines say, but for the time and what another batch may round."""
    kept = ("prompt", "seed", "steps", "strength", "init", "size", "error")
    return [(record.get("path"), record.get("input"), *(json.dumps(record["generate"].get(key)) for key in kept)) for record in records]


def files() -> dict[str, Any]:
    """Names and pixels of the pictures."""
    found = {}
    for path in Path("o").iterdir():
        if path.read_bytes() != b"mine" and not path.name.startswith("sheet"):
            with Image.open(path) as image:
                found[path.name] = np.asarray(image).astype(int)
    return found


def same(found: dict[str, Any], wanted: dict[str, Any]) -> None:
    assert found.keys() == wanted.keys()
    for name, pixels in wanted.items():
        assert np.abs(found[name] - pixels).max() <= 12, "but for rounding, which JPEG makes larger"


def test_a_file_cut_anywhere_goes_on_to_the_same_lines_and_pictures(run: Run, job: list[str]) -> None:
    first = run(*job)
    assert first.code == 3, first.stderr
    wanted, lines, pictures = first.records, first.stdout.splitlines(keepends=True), files()
    assert [record.get("path") for record in wanted] == [
        *["o/a-car.jpg", "o/a-car-2.jpg", "o/a-car-3.jpg", "o/a-car-4.jpg"],
        *[None, None, "o/a-tree-2.jpg"],
        *["o/grass.jpg", "o/grass-2.jpg", "o/grass-3.jpg", "o/grass-4.jpg"],
    ]
    assert pictures.keys() == {Path(record["path"]).name for record in wanted if "path" in record}
    for keep in (0, 1, 2, 4, 5, 7, 10, 11):
        rest = lines[keep:]
        torn = rest[0][: len(rest[0]) * keep // 11] if rest else b""
        Path("out.jsonl").write_bytes(b"".join(lines[:keep]) + torn)
        for record in wanted[keep + (keep % 2) :]:  # every second time the next picture is there, and its line is not
            if "path" in record:
                Path(record["path"]).unlink()
        result = run(*job, "--resume", "out.jsonl")
        assert result.code == (3 if any("error" in record["generate"] for record in wanted[keep:]) else 0), result.stderr
        assert about(read("out.jsonl")) == about(wanted), keep
        same(files(), pictures)
        assert Path("o/a-tree.jpg").read_bytes() == b"mine"
        assert "a contact sheet is in o/sheet-" in result.stderr, "of all of them, those that were made before as well"


def test_another_order_takes_no_picture_from_its_line(run: Run, pipeline: Path) -> None:
    arguments = ["generate", "-m", str(pipeline), "--steps", "1", "-o", "o/{index}.png"]
    first = run(*arguments, "a car", "a tree", "grass").stdout.splitlines(keepends=True)
    Path("out.jsonl").write_bytes(b"".join(first[1:]))  # as if the lines of another run were missing
    before = {path: path.read_bytes() for path in (Path("o/000001.png"), Path("o/000002.png"))}
    result = run(*arguments, "grass", "a car", "a tree", "--resume", "out.jsonl")
    assert result.code == 0, result.stderr
    assert {path: path.read_bytes() for path in before} == before
    assert read("out.jsonl")[-1]["path"] == "o/000001-2.png"


def test_what_another_run_left_is_no_leftover(run: Run, pipeline: Path) -> None:
    arguments = ["generate", "-m", str(pipeline), "--steps", "1", "-o", "o/{index}.png"]
    lines = run(*arguments, "a car", "a tree").stdout.splitlines(keepends=True)
    run(*arguments, "grass", "grass", "--seed", "9", "--overwrite")  # the second file is of another picture now
    Path("out.jsonl").write_bytes(lines[0])
    result = run(*arguments, "a car", "a tree", "--resume", "out.jsonl")
    assert result.code == 3
    assert read("out.jsonl")[1]["generate"]["error"]["kind"] == "exists"


def test_another_models_file_is_refused(run: Run, pipeline: Path) -> None:
    line = run("generate", "a car", "-m", pipeline, "--steps", "1").stdout
    other = json.loads(line) | {"generate": {**json.loads(line)["generate"], "revision": "sha256:0"}}
    Path("out.jsonl").write_text(json.dumps(other) + "\n")
    result = run("generate", "a car", "-m", pipeline, "--steps", "1", "--resume", "out.jsonl")
    assert result.code == 2 and "another revision" in result.error


def interrupt_at(monkeypatch: pytest.MonkeyPatch, call: int, step: int) -> None:
    """Ctrl-C comes in that step of that pass of the model."""
    from visiontk.adapters.generate import Generator

    whole: Callable[..., Any] = Generator.generate
    calls = []

    def generate(self: Any, requests: Any, on_step: Any = None) -> Any:
        calls.append(requests)

        def told(at: Any) -> None:
            on_step(at)
            if len(calls) == call and at.done == step:
                os.kill(os.getpid(), signal.SIGINT)

        return whole(self, requests, told)

    monkeypatch.setattr(Generator, "generate", generate)


def test_ctrl_c_leaves_whole_pictures_alone_and_says_how_to_go_on(run: Run, pipeline: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["generate", "a car", "-n", "6", "-b", "2", "--steps", "4", "-m", str(pipeline), "--resume", "out.jsonl", "--preview", "2"]
    interrupt_at(monkeypatch, call=2, step=3)
    result = run(*arguments)
    assert result.code == 130
    assert "interrupted after 2 items; go on with the same command and --resume out.jsonl" in result.stderr
    there = sorted(path.name for path in Path("visiontk-out").iterdir())
    assert [name for name in there if "preview" not in name] == ["000000-a-car-0.png", "000001-a-car-1.png"]
    assert "000003-a-car-3-preview-0002.png" in there
    assert run(*arguments).code == 0
    assert [record["generate"]["seed"] for record in read("out.jsonl")] == [0, 1, 2, 3, 4, 5]
    assert not list(Path("visiontk-out").glob(".*"))
    previews = {path for record in read("out.jsonl") for path in record["generate"]["previews"]}
    assert previews == {str(path) for path in Path("visiontk-out").glob("*preview*")}, "those of the stopped picture were replaced"


def test_a_killed_run_goes_on(run: Run, pipeline: Path) -> None:
    arguments = ["generate", "a car", "-n", "40", "-b", "1", "--steps", "3", "-m", str(pipeline), "--resume", "out.jsonl"]
    process = subprocess.Popen([VISIONTK, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while not Path("out.jsonl").exists() or Path("out.jsonl").read_bytes().count(b"\n") < 3:
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.01)
    process.kill()
    process.communicate()
    done = Path("out.jsonl").read_bytes().count(b"\n")
    assert 3 <= done < 40, "it was stopped in the middle"
    for path in Path("visiontk-out").glob("*.png"):
        with Image.open(path) as image:
            image.load()
    arguments[3] = str(done + 2)
    assert run(*arguments).code == 0
    records = read("out.jsonl")
    assert [record["generate"]["seed"] for record in records] == list(range(done + 2))
    assert [record["path"] for record in records] == [f"visiontk-out/{seed:06d}-a-car-{seed}.png" for seed in range(done + 2)]
    assert all(Path(record["path"]).exists() for record in records)


@pytest.mark.parametrize("options", [[], ["--preview", "1"]])
def test_a_full_disk(run: Run, pipeline: Path, options: list[str], disk_of: DiskOf) -> None:
    arguments = ["generate", "a car", "-n", "2", "--steps", "2", "-m", str(pipeline), *options]
    with disk_of(1500):
        result = run(*arguments, stdout=Path(os.devnull))
    assert result.code == 6 and "cannot write visiontk-out/" in result.error and "room" in result.error
    assert list(Path("visiontk-out").iterdir()) == []
    full = run(*arguments, stdout=Path("/dev/full"))
    assert full.code == 6 and "the output" in full.error
    with Image.open("visiontk-out/000000-a-car-0.png") as image:
        image.load()


def test_no_folder_to_write_to(run: Run, pipeline: Path) -> None:
    Path("file").write_text("")
    result = run("generate", "a car", "--steps", "1", "-m", pipeline, "-o", "file/x.png")
    assert result.code == 6 and "cannot write file/x.png" in result.error


def test_other_numbers_do_not_write_into_the_same_file(run: Run, pipeline: Path) -> None:
    arguments = ["generate", "-m", str(pipeline), "--steps", "1", "--resume", "out.jsonl", "a car"]
    assert run(*arguments).code == 0
    result = run(*arguments, "a tree", "--dtype", "bf16")
    assert result.code == 2
    assert result.error == "out.jsonl was written with dtype fp32 and this run has bf16; give --dtype fp32, or name a new file"
    assert len(read("out.jsonl")) == 1


def test_a_file_that_says_nothing_of_itself_is_nobodys_leftover(run: Run, pipeline: Path) -> None:
    arguments = ["generate", "-m", str(pipeline), "--steps", "1", "--no-metadata", "-o", "o/{prompt_slug}.png", "--resume", "out.jsonl"]
    assert run(*arguments, "a car").code == 0
    Path("o/a-tree.png").write_bytes(b"mine")
    assert run(*arguments, "a car", "a tree").code == 3
    assert Path("o/a-tree.png").read_bytes() == b"mine"


def test_killed_before_the_first_line(run: Run, pipeline: Path) -> None:
    arguments = ["generate", "-m", str(pipeline), "--steps", "1", "-o", "o/", "--resume", "out.jsonl", "a car"]
    assert run(*arguments).code == 0
    Path("out.jsonl").write_bytes(b"")
    assert run(*arguments).code == 0
    assert [record["path"] for record in read("out.jsonl")] == ["o/000000-a-car-0.png"]
