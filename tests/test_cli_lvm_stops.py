"""Runs of `visiontk lvm-continue` that are stopped or have no room: finished frames stay, no line is lost or comes twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from tests.lvm_models import SIDE, make_lvm
from visiontk.adapters.lvm import VisualSentenceModel

if TYPE_CHECKING:
    from tests.conftest import DiskOf, Record, Run

VISIONTK = str(Path(sys.executable).with_name("visiontk"))
pytestmark = pytest.mark.usefixtures("lvms_loaded_once")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_lvm(tmp_path_factory.mktemp("lvm") / "tiny")


def row(count: int, folder: str = "in") -> list[str]:
    Path(folder).mkdir(exist_ok=True)
    names = [f"{folder}/{number}.png" for number in range(count)]
    for number, name in enumerate(names):
        chance = np.random.default_rng(number)
        Image.fromarray(chance.integers(0, 256, (SIDE, SIDE, 3), np.uint8)).save(name)
    return names


def read(file: str) -> list[Record]:
    data = Path(file).read_bytes()
    assert data == b"" or data.endswith(b"\n")
    return [json.loads(line) for line in data.splitlines()]


def about(records: list[Record]) -> list[Record]:
    """What lines say, but for the time that each took."""
    return [{**record, "lvm": {key: value for key, value in record["lvm"].items() if key != "seconds"}} for record in records]


def files(folder: str = "o") -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


@pytest.fixture
def job(folder: Path) -> tuple[list[str], bytes]:
    """Options and a pipe that make nine lines: sentences that are called alike, two that fail, and pictures, one of them missing."""
    a, b = row(3, "a"), row(5, "b")[2:]
    lines: list[Record] = [
        {"path": "a/2.png", "lvm_prompt": {"frames": a}},
        {"path": "x.png", "lvm_prompt": {"frames": a[:2]}},
        {"path": "a/2.png", "lvm_prompt": {"frames": [a[0], "gone.png", a[2]]}},
        {"path": "a/2.png", "lvm_prompt": {"frames": [a[0], b[0], a[2]]}},
        {"path": "b/2.png"},
        {"path": "gone.png"},
        {"path": "b/4.png", "lvm_prompt": {"frames": b}},
    ]
    options = ["lvm-continue", "-m", str(folder), "--candidates", "2", "-b", "4", "-o", "o/", "--animate"]
    return options, "\n".join(map(json.dumps, lines)).encode()


def test_a_file_cut_anywhere_goes_on_to_the_same_lines_and_files(run: Run, job: tuple[list[str], bytes]) -> None:
    options, pipe = job
    first = run(*options, stdin=pipe)
    assert first.code == 3, first.stderr
    wanted, lines, made = first.records, first.stdout.splitlines(keepends=True), files()
    assert [record["path"] for record in wanted if "error" not in record["lvm"]] == [
        *[f"o/2-c{candidate}-answer{again}.png" for again in ("", "-3") for candidate in (0, 1)],
        *[f"o/4-c{candidate}-answer.png" for candidate in (0, 1)],
    ]
    assert sorted(record["path"] for record in wanted if "error" in record["lvm"]) == ["a/2.png", "gone.png", "x.png"]
    assert len(made) == 6 + 3 + 6
    for keep in range(len(lines) + 1):
        rest = lines[keep:]
        torn = rest[0][: len(rest[0]) * keep // len(lines)] if rest else b""
        Path("out.jsonl").write_bytes(b"".join(lines[:keep]) + torn)
        named = {record["path"] for record in wanted[: keep + keep % 2]} | {record["lvm"].get("strip") for record in wanted[:keep]}
        for name in made:  # every second time the next image is there, and its line is not
            if f"o/{name}" not in named:
                Path("o", name).unlink()
        result = run(*options, "--resume", "out.jsonl", stdin=pipe)
        assert result.code == (3 if any("error" in record["lvm"] for record in wanted[keep:]) else 0), result.stderr
        found = read("out.jsonl")
        assert about(found[:keep]) == about(wanted[:keep])
        assert sorted(map(json.dumps, about(found))) == sorted(map(json.dumps, about(wanted))), keep
        assert files() == made, "strips and animations of sentences that had all their lines, too"


def test_more_candidates_than_before_are_made_beside_those_that_are_there(run: Run, folder: Path) -> None:
    base = ["lvm-continue", "-m", str(folder), *row(2), "-n", "2"]
    assert run(*base, "--candidates", "3", "-o", "whole/").code == 0
    for count in ("1", "3", "3"):
        assert run(*base, "--candidates", count, "-o", "o/", "--resume", "out.jsonl").code == 0
    found = read("out.jsonl")
    assert sorted((one["lvm"]["candidate"], one["lvm"]["number"]) for one in found) == [(c, n) for c in range(3) for n in range(2)]
    for one in found:
        whole = f"whole/1-c{one['lvm']['candidate']}-next-{one['lvm']['number']:03d}.png"
        assert Path(one["path"]).read_bytes() == Path(whole).read_bytes(), "the same draws"


def test_more_images_than_before_go_on_with_the_same_draws(run: Run, folder: Path) -> None:
    names = row(2)
    base = ["lvm-continue", "-m", str(folder), *names]
    assert run(*base, "-n", "3", "--candidates", "2", "-o", "o/").code == 0
    whole = files()
    for path in Path("o").iterdir():
        path.unlink()
    for count in ("1", "3", "3"):
        assert run(*base, "-n", count, "--candidates", "2", "-o", "o/", "--resume", "out.jsonl").code == 0
    assert files() == whole, "and the strip has all of them"
    assert [(record["lvm"]["number"], record["lvm"]["candidate"]) for record in read("out.jsonl")] == [
        (n, c) for n in range(3) for c in (0, 1)
    ]
    fewer = run(*base, "-n", "1", "--candidates", "2", "-o", "o/", "--resume", "out.jsonl")
    assert fewer.code == 0 and len(read("out.jsonl")) == 6
    assert "4 lines of out.jsonl are of other sentences or of more images than this run asks for; they stay" in fewer.stderr


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        ([], ["--seed", "1"], "--seed 0 and this run has --seed 1"),
        (["--temperature", "0.5", "--top-k", "4"], ["--temperature", "0.5"], "--top-k 4 and this run has no --top-k"),
        (["--top-p", "0.5"], [], "--top-p 0.5 and this run has no --top-p"),
        (["--greedy"], ["--seed", "3"], "--greedy and this run has no --greedy"),
        ([], ["--quantize", "int8"], "no --quantize and this run has --quantize int8"),
        (["--animate", "mp4"], ["--animate", "webp"], "--animate mp4 and this run has --animate webp"),
        ([], ["--score", "--temperature", "2"], "--temperature 1.0, no --score and this run has --temperature 2.0, --score"),
    ],
)
def test_a_run_of_other_settings_is_refused_before_the_model_is_loaded(
    run: Run, folder: Path, first: list[str], second: list[str], words: str
) -> None:
    names = row(2)
    assert run("lvm-continue", "-m", folder, *names, *first, "--resume", "out.jsonl").code == 0
    before = Path("out.jsonl").read_bytes()
    result = run("lvm-continue", "-m", "./nowhere", *names, *second, "--resume", "out.jsonl")
    assert result.code == 2 and f"out.jsonl was written with {words}; give the same, or name a new file" in result.error
    assert Path("out.jsonl").read_bytes() == before
    again = run("lvm-continue", "-m", folder, *names, *first, "--resume", "out.jsonl")
    assert (again.code, again.stderr) == (0, "") and Path("out.jsonl").read_bytes() == before


def test_a_run_in_another_dtype_is_refused(run: Run, folder: Path) -> None:
    base = ["lvm-continue", "-m", str(folder), *row(2), "--resume", "out.jsonl", "-o", "o/"]
    assert run(*base, "--dtype", "bf16").code == 0
    [line] = read("out.jsonl")
    assert line["lvm"]["dtype"] == "bf16"
    again = run(*base, "--dtype", "fp32", "-n", "2")
    assert again.code == 2
    assert again.error == "out.jsonl was written in bf16 and this run computes in fp32; give --dtype bf16, or name a new file"
    assert run(*base, "--dtype", "bf16", "-n", "2").code == 0 and len(read("out.jsonl")) == 2


def test_an_image_that_is_not_what_is_made_now_is_not_gone_on_from(run: Run, folder: Path) -> None:
    """As in bf16, where another number of candidates rounds otherwise. Nothing is written, the strip neither."""
    names = row(2)
    base = ["lvm-continue", "-m", str(folder), *names, "-o", "o/", "--resume", "out.jsonl"]
    assert run(*base, "-n", "2").code == 0
    with Image.open("o/1-next-001.png") as image:  # the same pixels in other bytes are the same image
        image.copy().save("o/1-next-001.png", compress_level=0)
    assert run(*base, "-n", "3").code == 0 and len(read("out.jsonl")) == 3
    Image.new("RGB", (SIDE, SIDE)).save("o/1-next-001.png")
    before = files()
    again = run(*base, "-n", "4")
    said = "o/1-next-001.png was changed, or is not what its sentence comes to now, so nothing can follow it"
    assert again.code == 3 and said in again.stderr and files() == before
    assert [record["lvm"].get("error", {}).get("kind") for record in read("out.jsonl")] == [None, None, None, "exists"]
    assert run(*base, "-n", "2").code == 0, "of which nothing follows"
    Path("o/1-next-001.png").unlink()
    assert run(*base, "-n", "4").code == 0 and sorted(files()) == [*(f"1-next-00{number}.png" for number in range(4)), "1-strip.png"]


def test_images_that_are_gone_are_made_again_and_have_no_second_line(run: Run, folder: Path) -> None:
    base = ["lvm-continue", "-m", str(folder), *row(2), "-n", "3", "--candidates", "2", "-o", "o/", "--resume", "out.jsonl"]
    assert run(*base).code == 0
    whole, lines = files(), Path("out.jsonl").read_bytes()
    for lost in (["1-c0-next-001.png"], ["1-c1-next-002.png", "1-c0-next-000.png", "1-strip.png"], list(whole)):
        for name in lost:
            Path("o", name).unlink()
        again = run(*base)
        assert again.code == 0 and files() == whole and Path("out.jsonl").read_bytes() == lines
        count = sum("next" in name for name in lost)
        assert f"{count} images that out.jsonl names were gone and are made again" in again.stderr
    assert run(*base).stderr == ""


@pytest.mark.parametrize("place", [0, 2])
def test_an_image_that_is_gone_is_not_made_again_beside_a_changed_one(run: Run, folder: Path, place: int) -> None:
    base = ["lvm-continue", "-m", str(folder), *row(2), "-n", "3", "-o", "o/", "--resume", "out.jsonl"]
    assert run(*base).code == 0
    Image.new("RGB", (SIDE, SIDE)).save("o/1-next-001.png")
    Path(f"o/1-next-00{place}.png").unlink()
    again = run(*base)
    assert again.code == 3 and "o/1-next-001.png was changed, or is not what its sentence comes to now" in again.stderr
    assert Path("o/1-next-002.png").exists() == (place == 0), "nothing is made after it"
    assert run(*base).code == 0 and len(read("out.jsonl")) == 4, "it is said once"


def test_pairs_are_another_sentence_than_pictures_that_go_on(run: Run, folder: Path) -> None:
    base = ["lvm-continue", "-m", str(folder), *row(3), "-o", "o/", "--resume", "out.jsonl"]
    assert (run(*base).code, run(*base, "--pairs").code, run(*base, "--pairs").code) == (0, 0, 0)
    assert [(record["path"], record["lvm"].get("pairs")) for record in read("out.jsonl")] == [
        ("o/2-next-000.png", None),
        ("o/2-answer.png", 1),
    ]


def test_what_cannot_be_read_is_said_once_without_a_model(run: Run) -> None:
    options = ["lvm-continue", "-m", "./nowhere", *row(2), "gone.png", "--resume", "out.jsonl"]
    assert (run(*options).code, run(*options).code) == (3, 0)
    assert [(record["path"], record["lvm"]["error"]["kind"]) for record in read("out.jsonl")] == [("gone.png", "missing")]


def interrupt_after(monkeypatch: pytest.MonkeyPatch, frames: int, *, inside: bool) -> None:
    """Ctrl-C comes when so many frames are done: while the next is made, or between the two."""
    from visiontk.adapters.lvm_decoding import Decoder

    whole, step = VisualSentenceModel.continue_, Decoder.step
    done = 0

    def counted(self: Any, *arguments: Any) -> Any:
        nonlocal done
        for made in whole(self, *arguments):
            done += 1
            if done == frames and not inside:
                os.kill(os.getpid(), signal.SIGINT)
            yield made

    def stepped(self: Any, *arguments: Any) -> Any:
        if done == frames and inside:
            os.kill(os.getpid(), signal.SIGINT)
        return step(self, *arguments)

    monkeypatch.setattr(VisualSentenceModel, "continue_", counted)
    monkeypatch.setattr(Decoder, "step", stepped)


def test_ctrl_c_leaves_the_frames_that_are_finished_and_a_strip_of_them(run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = row(3)
    options = ["lvm-continue", "-m", str(folder), *names, "-n", "5", "--animate", "--resume", "out.jsonl", "-o", "o/"]
    assert run("lvm-continue", "-m", folder, *names, "-n", "2", "--animate", "-o", "two/").code == 0
    with monkeypatch.context() as patch:
        interrupt_after(patch, 2, inside=True)
        result = run(*options)
    assert result.code == 130
    assert "interrupted after 2 items; go on with the same command and --resume out.jsonl" in result.stderr
    assert files() == files("two"), "images, strip and animation, as of a run of two"
    records = read("out.jsonl")
    assert [record["path"] for record in records] == ["o/2-next-000.png", "o/2-next-001.png"]
    assert all(Path(record["lvm"][name]).exists() for record in records for name in ("strip", "animation"))
    assert run(*options).code == 0
    assert run("lvm-continue", "-m", folder, *names, "-n", "5", "--animate", "-o", "five/").code == 0
    assert files() == files("five")
    assert [record["lvm"]["number"] for record in read("out.jsonl")] == [0, 1, 2, 3, 4]


def test_ctrl_c_between_frames_and_before_the_first(run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = row(2)
    options = ["lvm-continue", "-m", str(folder), *names, "-n", "3"]
    with monkeypatch.context() as patch:
        interrupt_after(patch, 2, inside=False)
        result = run(*options, "-o", "o/")
    assert result.code == 130 and len(result.records) == 1
    assert sorted(files()) == ["1-next-000.png", "1-strip.png"]
    with monkeypatch.context() as patch:
        interrupt_after(patch, 0, inside=True)
        result = run(*options, "-o", "p/")
    assert result.code == 130 and result.stdout == b"" and not Path("p").exists()


def test_a_killed_run_goes_on(run: Run, folder: Path) -> None:
    names = row(2)
    options = ["lvm-continue", "-m", str(folder), *names, "-n", "60", "--resume", "out.jsonl", "--animate", "--threads", "1"]
    process = subprocess.Popen([VISIONTK, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 300
    while not Path("out.jsonl").exists() or Path("out.jsonl").read_bytes().count(b"\n") < 2:
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.005)
    process.kill()
    process.communicate()
    done = Path("out.jsonl").read_bytes().count(b"\n")
    assert 2 <= done < 60, "it was stopped in the middle"
    options[options.index("60")] = str(done + 2)
    assert run(*options).code == 0
    records = read("out.jsonl")
    assert [record["lvm"]["number"] for record in records] == list(range(done + 2))
    assert [record["path"] for record in records] == [f"visiontk-out/1-next-{number:03d}.png" for number in range(done + 2)]
    for record in records:
        with Image.open(record["path"]) as image:
            image.load()
    assert {record["lvm"]["strip"] for record in records} == {"visiontk-out/1-strip.png"} and Path("visiontk-out/1-strip.png").exists()


def test_what_others_left_is_no_leftover(run: Run, folder: Path) -> None:
    names = row(2)
    options = ["lvm-continue", "-m", str(folder), *names, "-o", "o/", "--resume", "out.jsonl"]
    assert run(*options).code == 0
    for number in (1, 2, 3):
        Path(f"o/1-next-{number:03d}.png").write_bytes(b"mine")
    assert run(*options, "-n", "4").code == 3, "one may be what the stopped run wrote last, and there are three"
    assert [path.read_bytes() for path in sorted(Path("o").glob("1-next-00[123].png"))] == [b"mine"] * 3
    assert read("out.jsonl")[-1]["lvm"]["error"]["kind"] == "exists"


@pytest.mark.parametrize("cure", [["-o", "o/", "--overwrite"], ["-o", "elsewhere/"]])
def test_what_was_in_the_way_is_made_when_there_is_room(run: Run, folder: Path, cure: list[str]) -> None:
    """As its error says. Until then nothing else is replaced than what this run itself would make."""
    options = ["lvm-continue", "-m", str(folder), *row(2), "--resume", "out.jsonl"]
    Path("o").mkdir()
    Path("o/1-next-000.png").write_bytes(b"mine")
    assert run(*options, "-o", "o/").code == 3 and Path("o/1-next-000.png").read_bytes() == b"mine"
    [refused] = read("out.jsonl")
    assert refused["lvm"]["error"]["kind"] == "exists"
    assert run(*options, "-o", "o/").code == 0 and read("out.jsonl") == [refused], "it is said once"
    assert run(*options, *cure).code == 0
    [_, made] = read("out.jsonl")
    assert made["path"] == f"{cure[1]}1-next-000.png" and files(cure[1])["1-next-000.png"] != b"mine"


def test_one_file_of_another_program_is_no_leftover_either(run: Run, folder: Path) -> None:
    options = ["lvm-continue", "-m", str(folder), *row(2), "-o", "o/", "--resume", "out.jsonl"]
    assert run(*options).code == 0
    Path("o/1-next-001.png").write_bytes(b"mine")
    assert run(*options, "-n", "3").code == 3 and Path("o/1-next-001.png").read_bytes() == b"mine"
    assert Path("o/1-next-002.png").exists(), "the others are made"


def test_a_run_killed_between_its_first_image_and_its_line_goes_on(run: Run, folder: Path) -> None:
    options = ["lvm-continue", "-m", str(folder), *row(2), "-o", "o/", "--no-strip"]
    whole = run(*options).records
    before = files()
    assert run(*options, "--resume", "out.jsonl").code == 0
    assert about(read("out.jsonl")) == about(whole) and files() == before


def test_a_sentence_goes_on_when_its_picture_is_mended(run: Run, folder: Path) -> None:
    names = row(3)
    whole = Path(names[2]).read_bytes()
    options = ["lvm-continue", "-m", str(folder), *names, "-o", "o/", "--resume", "out.jsonl"]
    Path(names[2]).write_bytes(whole[: len(whole) // 2])
    assert run(*options).code == 3 and "error" in read("out.jsonl")[0]["lvm"]
    Path(names[2]).write_bytes(whole)
    result = run(*options)
    assert result.code == 0 and "of other sentences" not in result.stderr
    assert read("out.jsonl")[1]["lvm"]["sentence"] == names


def test_a_file_of_another_model_or_stage_is_refused(run: Run, folder: Path, tmp_path: Path) -> None:
    names = row(2)
    assert run("lvm-continue", "-m", folder, *names, "--resume", "out.jsonl").code == 0
    other = make_lvm(tmp_path / "other", seed=8)
    result = run("lvm-continue", "-m", other, *names, "--resume", "out.jsonl")
    assert result.code == 2 and "was written by" in result.error
    result = run("lvm-continue", "-m", folder, *names, "--resume", "out.jsonl", "--as", "again")
    assert result.code == 2 and 'has no "again"' in result.error


def test_a_full_disk(run: Run, folder: Path, disk_of: DiskOf) -> None:
    names = row(2)
    options = ["lvm-continue", "-m", str(folder), *names, "-n", "2"]
    with disk_of(100):
        result = run(*options, stdout=Path(os.devnull))
    assert result.code == 6 and "cannot write visiontk-out/1-next-000.png" in result.error and "room" in result.error
    assert list(Path("visiontk-out").iterdir()) == []
    full = run(*options, stdout=Path("/dev/full"))
    assert full.code == 6 and "the output" in full.error
    assert sorted(files("visiontk-out")) == ["1-next-000.png", "1-strip.png"], "what was finished can be looked at"
    Path("file").write_text("")
    assert "cannot write file/" in run(*options, "-o", "file/x.png").error
