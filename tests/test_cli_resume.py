"""A run that is stopped, at any byte and in any way, goes on to the lines of a run that was left alone."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

if TYPE_CHECKING:
    from tests.conftest import DiskOf, Record, Run, TinyModel

LINES = 2000


def start(model: TinyModel, *arguments: str, **streams: Any) -> subprocess.Popen[bytes]:
    program = str(Path(sys.executable).with_name("visiontk"))
    command = [program, "classify", "-m", str(model.folder), "--dtype", "fp32", *arguments]
    return subprocess.Popen(command, **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams})


def solid(name: str, colour: tuple[int, int, int]) -> str:
    Image.new("RGB", (40, 30), colour).save(name)
    return name


def read(file: Path) -> list[Record]:
    data = file.read_bytes()
    assert data == b"" or data.endswith(b"\n")
    return [json.loads(line) for line in data.splitlines()]


def same(ours: list[Record], wanted: list[Record]) -> None:
    """The same lines as a set, scores within what another batch may change, but for the time that each took."""

    def about(record: Record) -> tuple[Any, ...]:
        value = record["classify"]
        if "error" in value:
            return record["path"], value["error"]["kind"]
        return record["path"], record.get("frame"), value["model"], value["revision"]

    assert Counter(map(about, ours)) == Counter(map(about, wanted))
    by_item = {about(record): record for record in wanted}
    for record in ours:
        other = by_item[about(record)]["classify"]
        found = {label["index"]: label["score"] for label in record["classify"].get("labels", [])}
        assert found == pytest.approx({label["index"]: label["score"] for label in other.get("labels", [])}, abs=1e-4)


def wait_for(file: Path, lines: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while not file.exists() or file.read_bytes().count(b"\n") < lines:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_kill_and_interrupt_in_the_middle_of_two_thousand(classify: Run, tiny_model: TinyModel, tmp_path: Path) -> None:
    for number in range(7):
        solid(f"{number}.png", (number * 36, 255 - number * 30, number * 11))
    Path("6.png").write_bytes(b"broken")
    Path("in").mkdir()
    for number in range(LINES):
        Path(f"in/{number:04d}é.png").symlink_to(f"../{number % 7}.png")
    out, job = tmp_path / "out.jsonl", ["in", "-k", "10", "--batch-size", "32"]

    killed = start(tiny_model, *job, "--threads", "1", "--resume", str(out))
    wait_for(out, LINES // 5, killed)
    killed.kill()
    killed.communicate()
    done = out.read_bytes().count(b"\n")
    assert LINES // 5 <= done < LINES, "it was stopped in the middle"

    interrupted = start(tiny_model, *job, "--threads", "1", "--resume", str(out))
    wait_for(out, done + LINES // 5, interrupted)
    interrupted.send_signal(signal.SIGINT)
    _, stderr = interrupted.communicate(timeout=20)
    assert interrupted.returncode == 130
    assert stderr.decode().splitlines()[-1].startswith("visiontk: interrupted after ")
    assert f"--resume {out}" in stderr.decode() and b"Traceback" not in stderr
    held = read(out)
    assert done < len(held) < LINES

    finished = classify(*job, "--resume", out)
    assert (finished.code, finished.stdout) == (3, b"")
    undisturbed = classify(*job)
    assert read(out)[: len(held)] == held
    assert len(read(out)) == LINES
    same(read(out), undisturbed.records)

    assert classify(*job, "--resume", out).code == 0
    assert len(read(out)) == LINES, "there is nothing left to do"


def test_a_file_cut_at_every_kind_of_byte(classify: Run, tmp_path: Path, bunny: Path) -> None:
    names = [solid(f"{name}.png", (number * 90, 0, 50)) for number, name in enumerate(["a", "é🎈", "c"])]
    arguments = [names[0], "nowhere.png", names[1], str(bunny), "--every", "50", names[2], names[0]]
    out = tmp_path / "out.jsonl"
    assert classify(*arguments, "--resume", out).code == 3
    whole = out.read_bytes()
    assert whole.count(b"\n") >= 7
    wanted = read(out)
    lines = whole.splitlines(keepends=True)
    starts = [sum(map(len, lines[:number])) for number in range(len(lines) + 1)]
    emoji = whole.index("🎈".encode())
    for cut in {0, 1, 2, 5, starts[1] - 2, starts[1] - 1, starts[1], starts[1] + 1, emoji + 1, emoji + 3, starts[4] + 60, len(whole) - 1}:
        out.write_bytes(whole[:cut])
        result = classify(*arguments, "--resume", out)
        assert result.code in (0, 3), (cut, result.stderr)
        kept = max(start for start in starts if start <= cut)
        assert out.read_bytes().startswith(whole[:kept]), cut
        same(read(out), wanted)


def test_lines_that_pass_through_are_resumed_too(classify: Run, tmp_path: Path) -> None:
    name = solid("a.png", (1, 2, 3))
    stdin = b'{"input": "x"}\n{"path": "-", "generate": 1}\nnot there.png\n{torn\n{}\n' + name.encode() + b"\n"
    out = tmp_path / "out.jsonl"
    classify("--resume", out, stdin=stdin)
    whole = out.read_bytes()
    assert whole.count(b"\n") == 6
    for keep in range(1, 7):
        out.write_bytes(b"".join(whole.splitlines(keepends=True)[:keep]) + b'{"pa')
        classify("--resume", out, stdin=stdin)
        assert [[*record] for record in read(out)] == [[*json.loads(line)] for line in whole.splitlines()]


def test_the_same_path_twice_is_answered_twice(classify: Run, tmp_path: Path) -> None:
    name, out = solid("a.png", (1, 2, 3)), tmp_path / "out.jsonl"
    for times in (1, 2, 2, 3):
        assert classify(*[name] * times, "--resume", out).code == 0
        assert len(read(out)) == times


@pytest.mark.parametrize(
    "content",
    [
        b"my shopping list\n",
        b"no line end",
        b'{"a": 1}',
        b'{\n  "a": 1\n}\n',
        b"\x89PNG\r\n\x1a\n\0\0",
        b'{"path": "a.png", "other": {"labels": []}}\n',
        b'{"path": "a.png", "other": {"labels": []}}',
        b'{"path": "a.png", "classify": {"model": "m", "labels": []}}\nthen something else\n{"pa',
    ],
)
def test_a_file_of_something_else_is_left_alone(classify: Run, tmp_path: Path, content: bytes) -> None:
    out = tmp_path / "out.jsonl"
    out.write_bytes(content)
    result = classify(solid("a.png", (1, 2, 3)), "--resume", out)
    assert result.code == 2
    assert str(out) in result.error
    assert out.read_bytes() == content


def test_another_model_does_not_write_into_the_same_file(run: Run, classify: Run, tiny_convnet: TinyModel, tmp_path: Path) -> None:
    name, out = solid("a.png", (1, 2, 3)), tmp_path / "out.jsonl"
    classify(name, "--resume", out)
    before = out.read_bytes()
    result = run("classify", name, solid("b.png", (3, 2, 1)), "-m", tiny_convnet.folder, "--resume", out)
    assert result.code == 2
    assert str(tiny_convnet.folder) in result.error and "--model" in result.error
    assert out.read_bytes() == before


def test_what_was_answered_before_the_run_ended_is_there(classify: Run) -> None:
    name = solid("a.png", (1, 2, 3))
    refused = classify(stdin=f'{name}\n{{"path": "{name}", "classify": {{"labels": []}}}}\n'.encode())
    assert refused.code == 2
    assert [record["path"] for record in refused.records] == [name]


def test_a_reader_that_goes_away_ends_the_run_quietly(tiny_model: TinyModel) -> None:
    solid("a.png", (1, 2, 3))
    names = ["a.png"] * 300
    streams = [start(tiny_model, *names), start(tiny_model, *names, "--format", "table")]
    for process in streams:
        assert process.stdout is not None and process.stderr is not None
        assert b"a.png" in process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(timeout=20) == 141


def test_artefacts_of_a_stopped_run_are_kept_and_numbered_on(classify: Run, tmp_path: Path) -> None:
    """Two files of one name: the second's picture is `-2` in an undisturbed run, and so it is after a stop between picture and line."""
    for folder, colour in (("a", (200, 0, 0)), ("b", (0, 0, 200))):
        Path(folder).mkdir()
        Image.new("RGB", (64, 64), colour).save(f"{folder}/x.png")
    names = ["a/x.png", "b/x.png"]

    def pictures(folder: str) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}

    assert classify(*names, "--attention", "-o", "whole", "--resume", "whole.jsonl").code == 0
    assert sorted(pictures("whole")) == ["x-attention-2.npy", "x-attention-2.png", "x-attention.npy", "x-attention.png"]
    first, _ = Path("whole.jsonl").read_bytes().splitlines(keepends=True)
    Path("cut").mkdir()
    Path("cut.jsonl").write_bytes(first.replace(b"whole/", b"cut/"))
    for name, data in pictures("whole").items():  # those of the second are newer than the line of the first
        (Path("cut") / name).write_bytes(data if "2" not in name else b"half")
    result = classify(*names, "--attention", "-o", "cut", "--resume", "cut.jsonl")
    assert (result.code, result.stderr) == (0, "")
    assert [record["path"] for record in read(Path("cut.jsonl"))] == names
    assert pictures("cut") == pictures("whole")
    Path("cut.jsonl").write_bytes(first.replace(b"whole/", b"cut/"))  # and now they are older, so another run's
    result = classify(*names, "--attention", "-o", "cut", "--resume", "cut.jsonl")
    assert result.code == 3 and "x-attention-2.png exists" in result.stderr
    assert pictures("cut") == pictures("whole")


def as_usual() -> None:
    """The tests may run under nohup."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGHUP])
def test_a_scheduler_that_ends_the_run_loses_no_row(tiny_model: TinyModel, signum: signal.Signals) -> None:
    process = start(tiny_model, "-", "--embed", "-o", "feat.npz", stdin=subprocess.PIPE, preexec_fn=as_usual)
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(solid("a.png", (200, 10, 10)).encode() + b"\n")
    process.stdin.flush()
    assert json.loads(process.stdout.readline())["classify"]["embedding"] == {"file": "feat.npz", "row": 0}
    process.send_signal(signum)
    _, said = process.communicate()
    assert process.returncode == 128 + signum
    with np.load("feat.npz") as file:
        assert file["features"].shape[0] == 1
    assert b"interrupted after 1 items\n" in said, "such a run cannot be gone on with"


def test_signals_that_come_in_pairs_are_one(tiny_model: TinyModel) -> None:
    process = start(tiny_model, "-", "--embed", "-o", "feat.npz", stdin=subprocess.PIPE, preexec_fn=as_usual)
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(solid("a.png", (200, 10, 10)).encode() + b"\n")
    process.stdin.flush()
    process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    for _ in range(200):
        if process.poll() is not None:
            break
        process.send_signal(signal.SIGHUP)
        time.sleep(0.01)
    process.communicate()
    assert process.returncode in (128 + signal.SIGTERM, 128 + signal.SIGHUP)
    with np.load("feat.npz") as file:
        assert file["features"].shape[0] == 1


def test_a_second_run_waits_its_turn_and_the_first_goes_on(tiny_model: TinyModel, tmp_path: Path, classify: Run) -> None:
    names = [solid(f"{number}.png", (60 * number, 90, 200)) for number in range(3)]
    first = start(tiny_model, "--resume", "out.jsonl", cwd=tmp_path, stdin=subprocess.PIPE)
    assert first.stdin
    first.stdin.write(names[0].encode() + b"\n")
    first.stdin.flush()
    wait_for(tmp_path / "out.jsonl", 1, first)
    second = classify(*names, "--resume", "out.jsonl")
    assert (second.code, second.error) == (2, "another run is writing to out.jsonl; wait until it ends, or name another file")
    first.stdin.write("\n".join(names[1:]).encode())
    first.stdin.close()
    assert first.wait(60) == 0
    assert classify(*names, "--resume", "out.jsonl").code == 0
    assert [record["path"] for record in read(Path("out.jsonl"))] == names


# What a stopped run wrote of an item whose line it wrote no more is made again


@pytest.fixture
def pictures() -> list[str]:
    return [solid(f"{number}.png", (60 * number, 90, 200)) for number in range(3)]


def test_a_picture_whose_line_had_no_room(classify: Run, pictures: list[str], disk_of: DiskOf) -> None:
    long = json.dumps({"path": pictures[0], "note": "x" * 300_000}).encode()
    lines = b"\n".join([long, *(name.encode() for name in pictures[1:]), b""])
    arguments = ["--attention", "-o", "out", "--resume", "out.jsonl"]
    with disk_of(300_700):
        stopped = classify(*arguments, stdin=lines)
    assert stopped.code == 6 and len(read(Path("out.jsonl"))) == 1
    left = [path for path in Path("out").iterdir() if path.name != "0-attention.png"]
    assert left, "the next picture was there before its line"
    assert classify(*arguments, stdin=lines).code == 0
    assert [record["path"] for record in read(Path("out.jsonl"))] == pictures


def test_a_picture_whose_line_is_torn(classify: Run, pictures: list[str]) -> None:
    arguments = [*pictures, "--attention", "-o", "out", "--resume", "out.jsonl"]
    assert classify(*arguments).code == 0
    lines = Path("out.jsonl").read_bytes()
    torn = lines[: lines.rindex(b'{"path"') + 40]
    Path("out.jsonl").write_bytes(torn)  # which is later than all pictures
    assert classify(*arguments).code == 0
    assert ["error" in record["classify"] for record in read(Path("out.jsonl"))] == [False] * 3


def test_the_first_picture_whose_line_is_torn(classify: Run, pictures: list[str]) -> None:
    arguments = [*pictures, "--attention", "-o", "out", "--resume", "out.jsonl"]
    assert classify(pictures[0], *arguments[3:]).code == 0
    Path("out.jsonl").write_bytes(Path("out.jsonl").read_bytes()[:40])
    assert classify(*arguments).code == 0
    assert ["error" in record["classify"] for record in read(Path("out.jsonl"))] == [False] * 3


def test_the_first_picture_of_a_run_without_a_line(classify: Run, pictures: list[str]) -> None:
    arguments = ["--attention", "-o", "out"]
    Path("out.jsonl").touch()
    assert classify(pictures[0], *arguments).code == 0
    assert classify(*pictures, *arguments, "--resume", "out.jsonl").code == 0
    Path("out.jsonl").write_bytes(b"")
    refused = classify(*pictures, *arguments, "--resume", "out.jsonl")
    assert refused.code == 3, "pictures that are older than the file are not of its run"
