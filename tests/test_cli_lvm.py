"""`visiontk lvm-continue`: sentences of pictures in, the next pictures out, with lines, files, strips and animations."""

from __future__ import annotations

import csv
import glob
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from tests.films import LOSSLESS, save_film
from tests.lvm_models import SIDE, make_lvm, shrink_300m
from visiontk.adapters.lvm import Sampling, VisualSentenceModel, load
from visiontk.errors import OutOfMemory
from visiontk.runtime import Runtime

if TYPE_CHECKING:
    from tests.conftest import Record, Result, Run, Valid

CONTEXT = 6  # frames of the tiny model, the one in the making among them
pytestmark = pytest.mark.usefixtures("lvms_loaded_once")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_lvm(tmp_path_factory.mktemp("lvm") / "tiny", frames=CONTEXT)


@pytest.fixture(scope="module")
def model(folder: Path) -> VisualSentenceModel:
    """The model itself, for what the command should make of it."""
    return load(str(folder), Runtime(device="cpu", dtype="fp32"))


@pytest.fixture
def go_on(run: Run, folder: Path) -> Run:
    """`visiontk lvm-continue` with the tiny model."""

    def call(*arguments: str | os.PathLike[str], stdin: bytes | None = None, stdout: Path | None = None) -> Result:
        return run("lvm-continue", "-m", folder, *arguments, stdin=stdin, stdout=stdout)

    return call


def save(path: str, shade: int, size: tuple[int, int] = (40, 24)) -> str:
    """A picture whose codes differ from those of other shades."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    chance = np.random.default_rng(shade)
    Image.fromarray(chance.integers(0, 256, (size[1], size[0], 3), np.uint8)).save(path)
    return path


def row(count: int, folder: str = "in") -> list[str]:
    """Pictures 0.png, 1.png ... of a folder."""
    return [save(f"{folder}/{number}.png", number) for number in range(count)]


def film(path: str, frames: int) -> str:
    shown = np.full((frames, 48, 48, 3), 20, np.uint8)
    for number, pixels in enumerate(shown):
        pixels[6:30, number : number + 20] = (220, 40, 40)
    return save_film(path, map(Image.fromarray, shown), options={**LOSSLESS, "bf": "0"})


def pixels(path: str | Path) -> Any:
    with Image.open(path) as image:
        assert (image.size, image.mode) == ((SIDE, SIDE), "RGB")
        return np.asarray(image)


def prompts(*sentences: list[str]) -> bytes:
    """Lines as `visiontk lvm-prompt` writes them."""
    lines = [
        {
            "path": frames[-1],
            "kept": len(frames),
            "lvm_prompt": {"task": "edges", "pairs": len(frames) // 2, "frames": frames, "seed": 0, "seconds": 0.1},
        }
        for frames in sentences
    ]
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


def lvm(records: list[Record], *names: str) -> list[tuple[Any, ...]]:
    return [tuple(record["lvm"].get(name) for name in names) for record in records]


def test_a_sentence_is_continued_by_what_the_model_makes_of_it(go_on: Run, valid: Valid, folder: Path, model: VisualSentenceModel) -> None:
    names = row(3)
    records = valid(go_on(*names, "-n", "2", "--candidates", "2", "--seed", "5"))
    tokens = model.encode([Image.open(name) for name in names])
    wanted = [frame for frames in model.continue_([tokens], 2, Sampling(seed=5, candidates=2)) for frame in frames]
    assert [(record["lvm"]["number"], record["lvm"]["candidate"]) for record in records] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    for record, frame in zip(records, wanted, strict=True):
        assert pixels(record["path"]).tobytes() == frame.image.tobytes()
        assert record["path"] == f"visiontk-out/2-c{frame.candidate}-next-{frame.number:03d}.png"
        assert record["lvm"]["context"] == list(frame.context) == list(range(3 + frame.number))
        assert record["lvm"]["sentence"] == names
        assert (record["lvm"]["model"], record["lvm"]["revision"]) == (str(folder), model.revision)
        assert (record["lvm"]["temperature"], record["lvm"]["seed"], record["lvm"]["seconds"] > 0) == (1.0, 5, True)
        assert not {"nll", "prompt_nll", "top_k", "top_p", "greedy", "dropped", "pairs"} & record["lvm"].keys()
    assert len({pixels(record["path"]).tobytes() for record in records}) == 4, "candidates differ"


def test_the_same_seed_gives_the_same_bytes_and_candidates_may_be_made_in_parts(go_on: Run) -> None:
    names = row(2)
    found = {}
    for out, options in {"a": [], "b": [], "c": ["-b", "1"], "d": ["-b", "2"], "e": ["--seed", "1"]}.items():
        assert go_on(*names, "-n", "2", "--candidates", "3", "-o", f"{out}/", "--animate", *options).code == 0
        found[out] = {path.name: path.read_bytes() for path in Path(out).iterdir()}
    assert len(found["a"]) == 6 + 1 + 3
    assert found["a"] == found["b"] == found["c"] == found["d"]
    assert found["a"] != found["e"] and found["a"].keys() == found["e"].keys()


def test_sampling_options_reach_the_model(go_on: Run, valid: Valid, model: VisualSentenceModel) -> None:
    names = row(2)
    tokens = model.encode([Image.open(name) for name in names])

    def made(sampling: Sampling) -> bytes:
        return next(iter(model.continue_([tokens], 1, sampling)))[0].image.tobytes()

    [cold] = valid(go_on(*names, "--temperature", "0.5", "--top-k", "4", "--top-p", "0.9", "-o", "cold.png"))
    assert pixels("cold.png").tobytes() == made(Sampling(0.5, 4, 0.9))
    assert [cold["lvm"][name] for name in ("temperature", "top_k", "top_p")] == [0.5, 4, 0.9]
    [sure] = valid(go_on(*names, "--greedy", "-o", "sure.png"))
    assert pixels("sure.png").tobytes() == made(Sampling(greedy=True)) != made(Sampling())
    assert sure["lvm"]["greedy"] is True and not {"temperature", "seed"} & sure["lvm"].keys()


def test_score_writes_nats_per_token(go_on: Run, valid: Valid, model: VisualSentenceModel) -> None:
    import torch

    names = row(3)
    tokens = model.encode([Image.open(name) for name in names])
    given = torch.nanmean(model.score(tokens), 1).tolist()
    records = valid(go_on(*names, "-n", "2", "--score"))
    assert [record["lvm"]["prompt_nll"] for record in records] == [pytest.approx(given, abs=1e-5)] * 2
    made = torch.stack([frames[0].tokens for frames in model.continue_([tokens], 2)])
    whole = model.score(torch.cat([tokens, made]))[3:].mean(1).tolist()  # teacher forced, in one pass over all of it
    assert [record["lvm"]["nll"] for record in records] == pytest.approx(whole, abs=1e-3)


def test_more_pictures_than_fit_lose_the_oldest_and_the_line_says_what_was_seen(go_on: Run, valid: Valid) -> None:
    names = row(9)
    result = go_on(*names, "-n", "4")
    records = valid(result)
    assert "9 pictures up to in/8.png, and" in result.stderr and "sees 5 at once: the oldest 4 are dropped" in result.stderr
    assert lvm(records, "sentence", "dropped") == [(names[4:], 4)] * 4
    # The context of six holds five that are seen; when it is full it goes down to four.
    assert lvm(records, "context") == [([0, 1, 2, 3, 4],), ([2, 3, 4, 5],), ([2, 3, 4, 5, 6],), ([4, 5, 6, 7],)]
    assert "dropped" not in go_on(*names, "-n", "1", "-q", "--overwrite").stderr
    short = valid(go_on(*names[4:], "-n", "4", "-o", "short/"))
    for long, other in zip(records, short, strict=True):
        assert pixels(long["path"]).tobytes() == pixels(other["path"]).tobytes(), "what was dropped has no part in it"


def test_folders_globs_and_records_are_one_sentence_in_order(go_on: Run, valid: Valid) -> None:
    row(2, "a")
    row(2, "b")
    inputs = {"in/0.png": save("in/0.png", 7)}
    [record] = valid(go_on("a", "b/*.png", "in/0.png"))
    assert record["lvm"]["sentence"] == ["a/0.png", "a/1.png", "b/0.png", "b/1.png", *inputs]
    lines = b'a/0.png\n{"path": "a/1.png", "kept": [1], "other": 1}\n{"path": "b/0.png", "kept": [1], "other": 2}\n'
    [record] = valid(go_on("-o", "o/", stdin=lines))
    assert record["lvm"]["sentence"] == ["a/0.png", "a/1.png", "b/0.png"] and "kept" not in record
    [record] = valid(go_on("-o", "p/", stdin=lines.split(b"\n", 1)[1]))
    assert list(record) == ["path", "kept", "lvm"] and record["kept"] == [1], "what all lines say alike passes on"


def test_numbers_in_names_count_as_numbers(go_on: Run, valid: Valid) -> None:
    names = [save(f"in/f{number}.png", number) for number in (9, 10, 11)]
    for inputs in ("in", "in/*.png"):
        [record] = valid(go_on(inputs, "-o", "o/", "--overwrite"))
        assert record["lvm"]["sentence"] == names


def test_each_folder_is_thinned_for_itself(go_on: Run, valid: Valid) -> None:
    row(3, "a")
    row(3, "b")
    alone = save("x.png", 5)
    [record] = valid(go_on("a", "b", "a", alone, "--frames", "1"))
    assert record["lvm"]["sentence"] == ["a/0.png", "b/0.png", "a/0.png", alone]
    for number, lines in enumerate((b"a\nb\n", b'{"path": "a"}\n{"path": "b"}\n', b"a/0.png\na/1.png\nb/0.png\nb/2.png\n")):
        [record] = valid(go_on("--frames", "1", "-o", f"pipe{number}/", stdin=lines))
        assert record["lvm"]["sentence"] == ["a/0.png", "b/0.png"], "and so is what a pipe names"
    mixed = b"a/0.png\nb/0.png\na/1.png\nb/1.png\na/2.png\n"
    [record] = valid(go_on("--stride", "2", "-o", "mixed/", stdin=mixed))
    assert record["lvm"]["sentence"] == ["a/0.png", "b/0.png", "a/2.png"]
    film("c.mp4", 4)
    [record] = valid(go_on("c.mp4", "c.mp4", "--frames", "2", "-o", "o/"))
    assert record["lvm"]["sentence"] == ["c.mp4@0", "c.mp4@1"] * 2
    named = b"".join(b'{"path": "c.mp4", "frame": %d}\n' % number for number in (0, 1, 3))
    [record] = valid(go_on("--stride", "2", "-o", "p/", stdin=named))
    assert record["lvm"]["sentence"] == ["c.mp4@0", "c.mp4@1", "c.mp4@3"], "a frame that is named is wanted, with or without its time"


def test_one_line_of_a_folder_passes_its_keys_on_and_lines_without_a_path_go_through(go_on: Run, valid: Valid) -> None:
    row(3, "clip")
    line = {"path": "clip", "tiny": {"text": "a lion"}}
    passed = {"note": "no path"}
    result = go_on("-n", "2", stdin="\n".join(map(json.dumps, (passed, line))).encode())
    first, *records = valid(result)
    assert first == passed and "1 lines without a path were passed through" in result.stderr
    assert [record["tiny"] for record in records] == [{"text": "a lion"}] * 2
    assert lvm(records, "sentence") == [(["clip/0.png", "clip/1.png", "clip/2.png"],)] * 2


def test_frames_of_a_video_with_a_stride(go_on: Run, valid: Valid, model: VisualSentenceModel) -> None:
    from visiontk.media.video import read_frames

    clip = film("clip.mp4", 20)
    [record] = valid(go_on(clip))
    assert record["lvm"]["sentence"] == [f"clip.mp4@{number}" for number in range(15, 20)] and record["lvm"]["dropped"] == 15
    [record] = valid(go_on(clip, "--stride", "3", "--frames", "4", "-o", "o/"))
    assert record["lvm"]["sentence"] == [f"clip.mp4@{number}" for number in (0, 3, 6, 9)]
    assert record["path"] == "o/clip-000009-next-000.png" and "frame" not in record and "time" not in record
    tokens = model.encode([frame.image for frame in read_frames(clip) if frame.index in (0, 3, 6, 9)])
    assert pixels(record["path"]).tobytes() == next(iter(model.continue_([tokens], 1)))[0].image.tobytes()
    [record] = valid(go_on("clip.mp4", save("x.png", 1), "clip.mp4", "--frames", "2", "--stride", "5", "-o", "p/"))
    assert record["lvm"]["sentence"] == ["clip.mp4@0", "clip.mp4@5", "x.png", "clip.mp4@0", "clip.mp4@5"], "each for itself"
    frames = b'{"path": "clip.mp4", "frame": 4, "time": 0.4}\n{"path": "clip.mp4", "frame": 5, "time": 0.5}\n'
    [record] = valid(go_on("-o", "q/", "--stride", "2", stdin=frames))
    assert record["lvm"]["sentence"] == ["clip.mp4@4", "clip.mp4@5"], "a frame that is named is wanted"


@pytest.mark.parametrize("stride", ["2", "3", "4", "5"])
def test_a_stride_does_not_leave_out_what_cannot_be_read(go_on: Run, stride: str) -> None:
    whole = Path(film("whole.ts", 24)).read_bytes()
    Path("cut.ts").write_bytes(whole[: len(whole) * 3 // 5])
    result = go_on("cut.ts", "--stride", stride, "-o", "o/")
    assert result.code == 3 and "error" in result.records[-1]["lvm"], result.stderr
    Path("broken.mp4").write_bytes(b"no film")
    for before in (1, 2, 3):
        names = [*row(before), "broken.mp4", save("x.png", 1), save("y.png", 2)]
        result = go_on(*names, "--stride", stride, "--frames", "2", "-o", "p/")
        assert result.code == 3 and "broken.mp4" in result.stderr, (before, result.stderr)


def test_what_lies_behind_the_frames_that_are_wanted_may_be_damaged(go_on: Run, valid: Valid) -> None:
    whole = Path(film("whole.ts", 24)).read_bytes()
    Path("cut.ts").write_bytes(whole[: len(whole) * 3 // 5])
    [record] = valid(go_on("cut.ts", "--stride", "2", "--frames", "3"))
    assert record["lvm"]["sentence"] == ["cut.ts@0", "cut.ts@2", "cut.ts@4"]


def test_a_stride_over_pictures_in_a_row_and_over_an_animation(go_on: Run, valid: Valid) -> None:
    names = row(7)
    [record] = valid(go_on(*names, "--stride", "2", "--frames", "3"))
    assert record["lvm"]["sentence"] == [names[0], names[2], names[4]]
    first, *rest = [Image.open(name) for name in names]
    first.save("moving.gif", save_all=True, append_images=rest)
    [record] = valid(go_on("moving.gif", "--all-frames", "--stride", "3", "-o", "o/"))
    assert record["lvm"]["sentence"] == ["moving.gif@0", "moving.gif@3", "moving.gif@6"]
    first.save("pages.tif", save_all=True, append_images=rest)
    [record] = valid(go_on("pages.tif", "--all-frames", "--stride", "3", "-o", "p/"))
    assert record["lvm"]["sentence"] == ["pages.tif@0", "pages.tif@3", "pages.tif@6"]


def test_pairs_make_the_answer_of_the_query(go_on: Run, valid: Valid, model: VisualSentenceModel) -> None:
    names = row(5)
    [record] = valid(go_on(*names, "--pairs", "--greedy"))
    tokens = model.encode([Image.open(name) for name in names])
    assert (
        pixels("visiontk-out/4-answer.png").tobytes() == next(iter(model.continue_([tokens], 1, Sampling(greedy=True))))[0].image.tobytes()
    )
    assert record["lvm"]["pairs"] == 2 and record["lvm"]["sentence"] == names


def test_pairs_are_dropped_as_a_whole(run: Run, valid: Valid, tmp_path: Path) -> None:
    even = make_lvm(tmp_path / "seven", frames=7)  # six are seen, which are no pairs and a query
    names = row(9)
    [record] = valid(run("lvm-continue", "-m", even, "--pairs", *names))
    assert record["lvm"]["sentence"] == names[4:] and (record["lvm"]["dropped"], record["lvm"]["pairs"]) == (4, 2)
    short = make_lvm(tmp_path / "three", frames=3)
    result = run("lvm-continue", "-m", short, "--pairs", *names)
    assert result.code == 2 and "sees 2 pictures at once, which is no pair and a query" in result.error


@pytest.mark.parametrize(
    ("count", "complaint"), [(2, "2 images are no pairs and a query; name an odd number"), (1, "one image only: a query")]
)
def test_pairs_are_counted(go_on: Run, count: int, complaint: str) -> None:
    names = row(count)
    result = go_on("--pairs", *names)
    assert (result.code, result.stdout) == (2, b"") and complaint in result.error
    piped = go_on("--pairs", stdin="\n".join(names).encode())
    assert (piped.code, piped.stdout) == (2, b"") and complaint in piped.error


def test_one_image_shows_no_motion(go_on: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    [name] = row(1)
    piped = go_on(stdin=name.encode())
    assert piped.code == 2 and "there is one image only: it does not show how to go on; name two images or more" in piped.error
    monkeypatch.setattr("visiontk.adapters.lvm.load", None)  # not so much as loaded
    assert go_on(name).error == piped.error
    assert go_on(name, "in").code != 2


@pytest.mark.parametrize("thinning", [["--frames", "1"], ["--stride", "9"], ["--stride", "2", "--frames", "1"]])
def test_options_that_leave_one_image_are_named(go_on: Run, thinning: list[str]) -> None:
    row(5)
    result = go_on("in/", *thinning)
    said = f"{' '.join(thinning)} leaves one image only: it does not show how to go on; leave more of them, or name two or more"
    assert (result.code, result.error) == (2, said)


def test_a_file_of_lines_is_sent_through_the_pipe(go_on: Run) -> None:
    Path("my prompts.jsonl").write_bytes(prompts(row(3)))
    for others in ([], ["in/0.png"]):
        result = go_on(*others, "my prompts.jsonl")
        said = "my prompts.jsonl holds lines; send it through the pipe: visiontk lvm-continue < 'my prompts.jsonl'"
        assert (result.code, result.error) == (2, said)
    assert go_on(stdin=Path("my prompts.jsonl").read_bytes()).code == 0


def test_each_line_of_lvm_prompt_is_a_sentence_and_several_are_one_batch(
    go_on: Run, valid: Valid, model: VisualSentenceModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = row(9)
    batches: list[list[int]] = []
    whole = VisualSentenceModel.continue_

    def counted(self: Any, sentences: Any, *arguments: Any) -> Any:
        batches.append([len(sentence) for sentence in sentences])
        return whole(self, sentences, *arguments)

    monkeypatch.setattr(VisualSentenceModel, "continue_", counted)
    sentences = [names[:3], names[2:7], names[5:8], names]
    records = valid(go_on("--candidates", "2", stdin=prompts(*sentences)))
    assert batches == [[3, 5, 3, 5]]
    assert [(record["lvm"]["sentence"], record["lvm"]["candidate"]) for record in records] == [
        (frames[-5:], candidate) for frames in sentences for candidate in (0, 1)
    ]
    assert [record["kept"] for record in records] == [3, 3, 5, 5, 3, 3, 9, 9], "a line's own keys pass through"
    assert records[0]["lvm_prompt"]["frames"] == names[:3] and lvm(records[::2], "task", "pairs") == [("edges", n) for n in (1, 2, 1, 2)]
    for record in records[::2]:
        tokens = model.encode([Image.open(name) for name in record["lvm"]["sentence"]])
        assert pixels(record["path"]).tobytes() == next(iter(whole(model, [tokens], 1)))[0].image.tobytes(), "as if it were alone"
    batches.clear()
    assert go_on("-b", "2", "-o", "o/", stdin=prompts(*sentences)).code == 0
    assert sum(map(len, batches)) == 4 and max(map(len, batches)) <= 2


def test_sentences_and_pictures_in_one_pipe(go_on: Run, valid: Valid) -> None:
    names = row(5)
    records = valid(go_on(stdin=f"{names[0]}\n".encode() + prompts(names[1:4]) + names[4].encode()))
    assert lvm(records, "sentence", "pairs") == [(names[1:4], 1), ([names[0], names[4]], None)]


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        (5, 'its "lvm_prompt" has no list of "frames"'),
        ({"frames": ["a", 3, "b"]}, 'its "lvm_prompt" has no list of "frames"'),
        ({"frames": ["a", "b"]}, 'its "lvm_prompt" has 2 frames, which are no pairs and a query'),
        ({"frames": ["a"]}, 'its "lvm_prompt" has 1 frames'),
        ({"error": {"kind": "missing", "message": "no such file"}}, "its prompt was not made (no such file)"),
        ({"frames": ["in/0.png", "gone.png", "in/1.png"]}, "gone.png: there is no such file"),
    ],
)
def test_a_line_that_is_no_sentence_fails_alone(go_on: Run, value: Any, complaint: str) -> None:
    names = row(3)
    line = {"path": "in/0.png", "kept": 1, "lvm_prompt": value}
    result = go_on(stdin=json.dumps(line).encode() + b"\n" + prompts(names))
    assert result.code == 3, result.stderr
    broken, good = result.records
    assert complaint in broken["lvm"]["error"]["message"] and {**broken, "lvm": 0} == {**line, "lvm": 0}
    assert good["lvm"]["sentence"] == names


def test_a_pipe_of_lvm_prompt_may_be_run_again(go_on: Run, run: Run) -> None:
    def pipe(*arguments: str) -> Result:
        return go_on(*arguments, stdin=run("lvm-prompt", "grayscale", *names).stdout)

    names = row(3)
    assert pipe("--resume", "lines.jsonl").code == 0
    record = json.loads(Path("lines.jsonl").read_bytes())
    assert record["path"] == "visiontk-out/2-grayscale-answer.png" and record["lvm_prompt"]["pairs"] == 2
    files = {path: path.read_bytes() for path in Path("visiontk-out").iterdir()}
    assert len(files) == 6 + 2, "pairs, query and truth; answer and strip"
    refused = pipe()
    assert refused.code == 3 and "visiontk-out/2-grayscale-answer.png exists" in refused.records[0]["lvm"]["error"]["message"]
    assert pipe("--resume", "lines.jsonl").code == 0 and Path("lines.jsonl").read_bytes().count(b"\n") == 1
    assert {path: path.read_bytes() for path in Path("visiontk-out").iterdir()} == files


def test_a_query_from_a_pipe_is_continued(go_on: Run, run: Run, valid: Valid) -> None:
    names = row(3)
    line = run("lvm-prompt", "edges", *names[:2], "-", stdin=Path(names[2]).read_bytes())
    assert line.records[0]["path"] == "-"
    [record] = valid(go_on(stdin=line.stdout))
    assert record["path"] == "visiontk-out/stdin-edges-answer.png" and record["lvm"]["sentence"] == line.records[0]["lvm_prompt"]["frames"]


def test_whole_sentences_are_not_thinned_and_have_one_answer(go_on: Run) -> None:
    names = row(3)
    assert "taken whole" in go_on("--stride", "2", stdin=prompts(names)).error
    result = go_on("-n", "2", stdin=prompts(names))
    assert result.code == 2 and "ends with one answer, and -n is 2" in result.error


def test_a_picture_that_does_not_decode_has_its_line_and_the_sentence_is_not_continued(go_on: Run, valid: Valid) -> None:
    names = row(3)
    Path("in/1.png").write_bytes(Path("in/1.png").read_bytes()[:60])
    Path("in/3.png").write_text("no picture")
    result = go_on(*names, "in/3.png", "gone.png")
    records = valid(result, 3)
    assert [(record["path"], record["lvm"]["error"]["kind"]) for record in records] == [
        ("in/1.png", "broken"),
        ("in/3.png", "not_an_image"),
        ("gone.png", "missing"),
    ]
    assert "the sentence is not continued, as 3 of its pictures cannot be read" in result.stderr
    assert "3 of 3 images failed" in result.stderr and not Path("visiontk-out").exists()
    assert valid(go_on("gone.png"), 3)[0]["lvm"]["error"]["kind"] == "missing", "and not that it is one image only"
    Path("cut.mp4").write_bytes(Path(film("clip.mp4", 20)).read_bytes()[:-400])
    assert [record["path"] for record in valid(go_on("cut.mp4"), 3)] == ["cut.mp4"]


def test_what_cannot_be_read_ends_a_sentence_that_has_no_room_for_it(go_on: Run, valid: Valid) -> None:
    """Where that shows without decoding: a file that is missing, a pattern of nothing, a video that is cut off."""
    names = row(9)
    Path("in/0.png").write_bytes(Path("in/0.png").read_bytes()[:60])  # which only decoding would tell
    for options, rest in (([], names[1:]), (["--pairs"], names[2:])):
        for gone in ("gone.png", "gone*.png"):
            result = go_on(*options, stdin="\n".join(["in/0.png", gone, *rest]).encode())
            [record] = valid(result, 3)
            assert (record["path"], record["lvm"]["error"]["kind"]) == (gone, "missing")
            assert "the sentence is not continued, as 1 of its pictures cannot be read" in result.stderr
    Path("cut.mp4").write_bytes(Path(film("whole.mp4", 20)).read_bytes()[:-400])
    [record] = valid(go_on("cut.mp4", "whole.mp4"), 3)
    assert record["path"] == "cut.mp4" and "error" in record["lvm"]
    assert not Path("visiontk-out").exists()
    assert go_on(stdin="\n".join(names).encode()).code == 0


def test_what_shows_at_once_to_be_no_sentence_costs_no_loading_of_a_model(run: Run, valid: Valid) -> None:
    names = row(3)
    Path("notes.txt").write_text("no picture")
    Path("empty").mkdir()
    kinds = {"gone.png": "missing", "notes.txt": "not_an_image", "empty": "no_images", "gone*.png": "missing", "gone.mp4": "missing"}
    for name, kind in kinds.items():
        [record] = valid(run("lvm-continue", "-m", "./nowhere", *names, name), 3)
        assert (record["path"], record["lvm"]["error"]["kind"]) == (name, kind)
    result = run("lvm-continue", "-m", "./nowhere", *names, "gone.png", "-o", "-")
    assert (result.code, result.stdout) == (3, b"") and "gone.png: there is no such file" in result.stderr
    shutil.copy(film("clip.mp4", 4), "clip")
    (Path("empty") / "0.png").write_bytes(Path(names[0]).read_bytes())
    assert run("lvm-continue", "-m", "./nowhere", *names, "clip", "clip.mp4", "empty", "in/*.png").code == 4, "all of it may be pictures"


def test_a_pipe_without_anything_is_told(go_on: Run) -> None:
    for options in ([], ["--pairs"], ["-o", "-"]):
        result = go_on(*options, stdin=b"\n" if options else b"")
        assert (result.code, result.stdout) == (2, b"") and "there is no image; name two or more" in result.error


def test_the_bar_counts_images_that_are_made_at_once_as_one_step(go_on: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib import import_module

    from rich.progress import Progress

    clock = 0.0
    bars: list[Progress] = []
    report = import_module("visiontk.commands.lvm_progress").ContinueReport
    whole = VisualSentenceModel.continue_

    def slow(*arguments: Any) -> Any:
        nonlocal clock
        for frames in whole(*arguments):
            clock += 2.0
            yield frames

    def with_bar(self: Any, *arguments: Any, **options: Any) -> None:
        plain(self, *arguments, **options)
        bars.append(Progress(get_time=lambda: clock, disable=True))
        self._progress, self._task = bars[0], bars[0].add_task("", total=None)

    plain = report.__init__
    monkeypatch.setattr(VisualSentenceModel, "continue_", slow)
    monkeypatch.setattr(report, "__init__", with_bar)
    assert go_on("--candidates", "3", stdin=prompts(row(3), row(3, "p"))).code == 0
    [task] = bars[0].tasks
    assert (task.completed, task.speed) == (6, 3.0), "two sentences of three candidates in two seconds"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--temperature", "0"], "the temperature is 0"),
        (["--top-p", "1.5"], "top-p is 1.5"),
        (["--top-k", "0"], "top-k"),
        (["--greedy", "--candidates", "2"], "--greedy leaves nothing to chance"),
        (["--greedy", "--temperature", "0.3"], "--greedy takes the likeliest token always, so --temperature would change nothing"),
        (["--greedy", "--top-p", "0.3"], "so --top-p would change nothing; leave one of them out"),
        (["--pairs", "-n", "2"], "-n is 2; leave out -n"),
        (["--pairs", "--stride", "2"], "leave out --stride and --frames"),
        (["-o", "x.gif"], ".gif is not written"),
        (["-o", "{nothing}.png"], "no field of a template"),
        (["-o", "-", "-n", "2"], "-o - has room for one image, and 2 were asked for"),
        (["-o", "-", "--animate"], "-o - puts one image on the output"),
        (["-o", "-", "--resume", "x"], "cannot be resumed"),
        (["--format", "xml"], "the format 'xml' is unknown"),
        (["--quantize", "int3"], "quantization 'int3' is unknown"),
        (["--animate=gif"], "gif"),
        (["--random-weights", "300m"], "exclude each other"),
        (["--device", "tpu"], "device 'tpu' is unknown"),
    ],
)
def test_a_wrong_option_ends_the_run_before_any_picture(go_on: Run, arguments: list[str], complaint: str) -> None:
    result = go_on(*row(3), *arguments)
    assert (result.code, result.stdout) == (2, b"") and complaint in result.error
    assert not Path("visiontk-out").exists()


def test_the_two_networks_may_be_named_apart(run: Run, go_on: Run, valid: Valid, folder: Path) -> None:
    """As the public ones lie, in two folders; a run goes on with the same two alone."""
    names = row(3)

    def apart(vqgan: Path, *more: str) -> Result:
        return run("lvm-continue", "-m", folder / "llama", "--vqgan", vqgan, *names, "-o", "apart/", *more)

    (record,) = valid(apart(folder / "vqgan"))
    (whole,) = valid(go_on(*names, "-o", "whole/"))
    assert Path(record["path"]).read_bytes() == Path(whole["path"]).read_bytes()
    assert (record["lvm"]["model"], record["lvm"]["vqgan"]) == (str(folder / "llama"), str(folder / "vqgan"))
    assert record["lvm"]["revision"] == whole["lvm"]["revision"] and "vqgan" not in whole["lvm"]
    Path("held.jsonl").write_text(json.dumps(record) + "\n")
    other = make_lvm(Path("other"), frames=CONTEXT, seed=1)
    result = apart(other, "--resume", "held.jsonl")
    assert result.code == 2 and "was written by another revision" in result.error
    alone = run("lvm-continue", "-m", folder / "llama", *names)
    assert (
        alone.code == 4
        and "holds one network alone; name the other as well (--vqgan; for models convert lvm after the LLaMA), or a folder of both"
        in alone.error
    )


def test_models_that_cannot_be_had(run: Run, folder: Path, tmp_path: Path) -> None:
    names = row(2)
    assert run("lvm-continue", "-m", "./nowhere", *names).code == 4
    cut = Path(shutil.copytree(folder, tmp_path / "cut"))
    weights = cut / "llama" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    result = run("lvm-continue", "-m", cut, *names)
    assert result.code == 4 and "the LLaMA of" in result.error
    other = make_lvm(tmp_path / "other", codes=40, vocabulary=40)
    shutil.rmtree(other / "llama")
    shutil.copytree(folder / "llama", other / "llama")
    result = run("lvm-continue", "-m", other, *names)
    assert result.code == 4 and "has 40 codes, more than the 32 tokens of the LLaMA" in result.error
    short = make_lvm(tmp_path / "short", frames=1)
    result = run("lvm-continue", "-m", short, *names)
    assert result.code == 4 and "too short for a frame to see and a frame to make" in result.error


def test_names_by_folder_file_and_template(go_on: Run, valid: Valid) -> None:
    names = row(2)
    template = "t/{sentence}-{stem}-{number}-{candidate}-{seed}-{model}.webp"
    records = valid(go_on(*names, "-n", "2", "--candidates", "2", "--seed", "3", "-o", template))
    assert [record["path"] for record in records] == [f"t/0000-1-{n:03d}-{c}-3-tiny.webp" for n in (0, 1) for c in (0, 1)]
    assert pixels(records[0]["path"]).shape == (SIDE, SIDE, 3) and records[0]["lvm"]["strip"] == "t/1-strip.png"
    records = valid(go_on(*names, "-n", "2", "-o", "one/x.jpg", "--animate", "mp4"))
    assert [record["path"] for record in records] == ["one/x.jpg", "one/x-2.jpg"]
    assert lvm(records, "strip", "animation") == [("one/x-strip.png", "one/x-animation.mp4")] * 2
    records = valid(go_on(stdin=prompts(row(3, "p"), row(3, "q"))))
    assert [record["path"] for record in records] == ["visiontk-out/2-edges-answer.png", "visiontk-out/2-edges-answer-2.png"]
    assert lvm(records, "strip") == [("visiontk-out/2-strip.png",), ("visiontk-out/2-strip-2.png",)]


def test_nothing_is_overwritten_unless_it_is_said(go_on: Run, valid: Valid, monkeypatch: pytest.MonkeyPatch) -> None:
    names = row(2)
    valid(go_on(*names, "-n", "2", "-o", "o/"))
    before = {path: path.read_bytes() for path in Path("o").iterdir()}
    Path("o/1-next-000.png").unlink()
    with monkeypatch.context() as patch:
        patch.setattr(VisualSentenceModel, "continue_", None)  # it is known before the model works
        [failed] = valid(go_on(*names, "-n", "2", "-o", "o/", "--seed", "9"), 3)
    assert failed["lvm"]["error"]["kind"] == "exists" and "o/1-next-001.png exists; pass --overwrite" in failed["lvm"]["error"]["message"]
    assert {path: path.read_bytes() for path in Path("o").iterdir()}.items() <= before.items()
    records = valid(go_on(*names, "-n", "2", "-o", "o/", "--seed", "9", "--overwrite"))
    assert len(list(Path("o").iterdir())) == 3 and records[0]["lvm"]["strip"] == "o/1-strip.png"
    assert Path("o/1-strip.png").read_bytes() != before[Path("o/1-strip.png")]
    Path("o/1-next-000.png").unlink()
    [record] = valid(go_on(*names, "-o", "o/"))
    assert record["lvm"]["strip"] == "o/1-strip-2.png", "a strip that is there is left alone"


def test_one_image_on_the_output(go_on: Run) -> None:
    names = row(3)
    result = go_on(*names, "-o", "-")
    assert result.code == 0 and not Path("visiontk-out").exists()
    both = go_on(*names, "-o", "-", "--format", "csv")
    assert (both.code, both.stdout) == (2, b"") and both.error.startswith("-o - puts a file on the output, and --format csv the lines")
    assert go_on(*names, "-o", "x.png").code == 0
    assert pixels("x.png").tobytes() == np.asarray(Image.open(io.BytesIO(result.stdout))).tobytes()
    several = go_on("-o", "-", stdin=prompts(names, names))
    assert (several.code, several.stdout) == (2, b"") and "there are several sentences" in several.error


def colours(sheet: Any) -> tuple[Any, Any]:
    """Where the film is grey, and where it is orange: bool (H, W) each."""
    from visiontk.media import film_strip

    return (sheet == film_strip._GIVEN).all(-1), (sheet == film_strip._MADE).all(-1)


def places(sheet: Any, picture: Any) -> list[tuple[int, int]]:
    """Left upper corners of a picture on the sheet, at the strip's scale."""
    wanted = np.repeat(np.repeat(picture, 128 // SIDE, 0), 128 // SIDE, 1)
    starts = np.argwhere((sheet[: sheet.shape[0] - 127, : sheet.shape[1] - 127] == wanted[0, 0]).all(-1))
    return [(int(x), int(y)) for y, x in starts if (sheet[y : y + 128, x : x + 128] == wanted).all()]


def test_the_strip_has_what_was_given_and_beside_it_what_was_made(go_on: Run, valid: Valid, model: VisualSentenceModel) -> None:
    names = row(3)
    result = go_on(*names, "-n", "2", "--candidates", "2")
    records = valid(result)
    assert "a film strip is in visiontk-out/2-strip.png" in result.stderr
    with Image.open("visiontk-out/2-strip.png") as image:
        sheet = np.asarray(image)
    grey, orange = colours(sheet)
    given = [places(sheet, np.asarray(model.fit(Image.open(name)))) for name in names]
    made = {(c, n): places(sheet, pixels(f"visiontk-out/2-c{c}-next-{n:03d}.png")) for c in (0, 1) for n in (0, 1)}
    assert all(len(found) == 1 for found in (*given, *made.values())), "each is on it once"
    assert [x for [(x, _)] in given] == sorted(x for [(x, _)] in given)
    assert made[0, 0][0][1] == made[0, 1][0][1] < made[1, 0][0][1] == made[1, 1][0][1], "candidates are rows"
    assert given[2][0][0] < made[0, 0][0][0] == made[1, 0][0][0] < made[0, 1][0][0]
    for [(x, y)] in given:
        assert grey[y - 1, x] and not orange[y - 1, x]
    for [(x, y)] in made.values():
        assert orange[y - 1, x] and not grey[y - 1, x]
    assert lvm(records, "strip") == [("visiontk-out/2-strip.png",)] * 4
    assert "strip" not in valid(go_on(*names, "--no-strip", "-o", "o/"))[0]["lvm"] and len(list(Path("o").iterdir())) == 1


def test_the_strip_of_pairs_has_the_answers_below_their_pictures(go_on: Run, valid: Valid, model: VisualSentenceModel) -> None:
    names = row(5)
    valid(go_on(*names, "--pairs", "--candidates", "2"))
    with Image.open("visiontk-out/4-strip.png") as image:
        sheet = np.asarray(image)
    given = [places(sheet, np.asarray(model.fit(Image.open(name))))[0] for name in names]
    assert given[0][0] == given[1][0] < given[2][0] == given[3][0] < given[4][0]
    assert given[0][1] == given[2][1] == given[4][1] < given[1][1] == given[3][1]
    [first], [second] = (places(sheet, pixels(f"visiontk-out/4-c{candidate}-answer.png")) for candidate in (0, 1))
    assert first == (given[4][0], given[1][1]) and second[0] > first[0] and second[1] == first[1]


def test_a_long_strip_goes_on_below(go_on: Run) -> None:
    assert go_on(*row(3), "-n", "19").code == 0
    with Image.open("visiontk-out/2-strip.png") as image:
        sheet = np.asarray(image)
    found = [places(sheet, pixels(f"visiontk-out/2-next-{number:03d}.png"))[0] for number in range(19)]
    assert len({y for _, y in found[:17]}) == 1 and found[17][1] == found[18][1] > found[16][1]
    assert found[17][0] < found[0][0], "from the left edge on"


def test_a_film_keeps_no_more_pictures_than_it_shows(go_on: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from visiontk.media import film_strip

    drawn: list[list[int]] = []
    whole = film_strip.draw

    def counted(given: Any, made: Any, **options: Any) -> Any:
        drawn.append([len(images) for images in made])
        return whole(given, made, **options)

    monkeypatch.setattr(film_strip, "draw", counted)
    monkeypatch.setattr(film_strip, "MOST", 2)
    assert go_on(*row(3), "-n", "4", "-o", "a/").code == 0
    assert go_on(*row(3), "-n", "4", "-o", "b/", "--animate").code == 0
    assert drawn == [[2], [4]]
    with Image.open("b/2-animation.webp") as film:
        assert film.n_frames == 3 + 4  # type: ignore[attr-defined]


def test_an_animation_plays_what_was_given_and_then_what_was_made(go_on: Run, valid: Valid, model: VisualSentenceModel) -> None:
    from visiontk.media import files, images
    from visiontk.media.video import read_frames

    names = row(3)
    result = go_on("--animate", *names, "-n", "2", "--candidates", "2")  # --animate takes no file for its value
    records = valid(result)
    assert "an animation is in visiontk-out/2-c1-animation.webp" in result.stderr
    assert lvm(records, "animation") == [(f"visiontk-out/2-c{c}-animation.webp",) for c in (0, 1, 0, 1)]
    wanted = [np.asarray(model.fit(Image.open(name))) for name in names] + [pixels(f"visiontk-out/2-c1-next-{n:03d}.png") for n in (0, 1)]
    shown = [(time, image) for time, _, image in images.timed_frames(files.read("visiontk-out/2-c1-animation.webp"))]
    assert [time for time, _ in shown] == pytest.approx([0, 0.125, 0.25, 0.375, 0.5])
    for (_, image), picture in zip(shown, wanted, strict=True):
        assert (np.asarray(image) == np.repeat(np.repeat(picture, 16, 0), 16, 1)).all(), "enlarged, pixel for pixel"
    [record] = valid(go_on(*names, "--animate", "mp4", "-o", "o/"))
    frames = [np.asarray(frame.image).astype(int) for frame in read_frames(record["lvm"]["animation"])]
    shown_in_it = [*wanted[:3], pixels(record["path"])]
    large = [np.repeat(np.repeat(picture.astype(int), 16, 0), 16, 1) for picture in shown_in_it]
    assert [int(np.argmin([np.abs(frame - one).mean() for one in large])) for frame in frames] == [0, 1, 2, 3]
    assert all(np.abs(frame - one).mean() < 12 for frame, one in zip(frames, large, strict=True))


def without_numbers(folder: Path, copy: Path) -> Path:
    """A model whose LLaMA gives NaN."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(folder, copy)
    weights = load_file(copy / "llama" / "model.safetensors")
    weights["lm_head.weight"].fill_(float("nan"))
    save_file(weights, copy / "llama" / "model.safetensors", {"format": "pt"})
    return copy


@pytest.mark.parametrize("options", [[], ["--score"], ["--greedy", "--candidates", "1", "-n", "2"]])
def test_a_model_that_gives_no_numbers_makes_no_pictures(run: Run, folder: Path, tmp_path: Path, options: list[str]) -> None:
    broken = without_numbers(folder, tmp_path / "broken")
    result = run("lvm-continue", "-m", broken, *row(2), *options)
    [record] = result.records
    assert result.code == 3 and not list(Path("visiontk-out").glob("*"))
    assert record["lvm"]["error"] == {"kind": "not_finite", "message": f"{broken} gave NaN or infinity in fp32; try --dtype fp32"}


def test_the_least_temperature_takes_the_likeliest(go_on: Run, valid: Valid) -> None:
    names = row(2)
    [greedy] = valid(go_on(*names, "--greedy", "-o", "p/"))
    for number, least in enumerate(("1e-38", "1e-46", "1e-320")):
        [coldest] = valid(go_on(*names, "--temperature", least, "-o", f"o{number}/"))
        assert Path(coldest["path"]).read_bytes() == Path(greedy["path"]).read_bytes()


def test_on_a_cpu_no_more_is_made_at_once_than_there_is_memory_for(model: VisualSentenceModel, monkeypatch: pytest.MonkeyPatch) -> None:
    from commands import lvm_making, lvm_room

    assert model.row_bytes == model.decoder.shape.bytes(1, CONTEXT * model.frame_tokens) > 0
    for room, rows in ((None, 40), (10 * model.row_bytes, 8), (0, 1), (10**9 * model.row_bytes, 40)):
        monkeypatch.setattr(lvm_room, "available_memory", lambda room=room: room)
        assert lvm_making.rows_at_once(None, model, 40) == rows
        assert lvm_making.rows_at_once(7, model, 40) == 7


def test_candidates_that_there_is_no_memory_for_are_made_one_after_the_other(
    go_on: Run, valid: Valid, model: VisualSentenceModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    lvm_room = import_module("visiontk.commands.lvm_room")

    names = row(2)
    wanted = valid(go_on(*names, "--candidates", "5", "-o", "a/"))
    asked: list[tuple[int, int]] = []
    whole = VisualSentenceModel.continue_

    def noted(self: Any, sentences: Any, count: int, sampling: Sampling, *rest: Any) -> Any:
        asked.append((sampling.first_candidate, sampling.candidates))
        yield from whole(self, sentences, count, sampling, *rest)

    monkeypatch.setattr(VisualSentenceModel, "continue_", noted)
    monkeypatch.setattr(lvm_room, "available_memory", lambda: int(2.5 * model.row_bytes / lvm_room.SHARE))
    records = valid(go_on(*names, "--candidates", "5", "-o", "b/"))
    assert asked == [(0, 2), (2, 2), (4, 1)]
    for one, other in zip(wanted, records, strict=True):
        assert Path(one["path"]).read_bytes() == Path(other["path"]).read_bytes()


def test_memory_that_runs_out_halves_the_candidates_and_goes_on(go_on: Run, valid: Valid, monkeypatch: pytest.MonkeyPatch) -> None:
    names = row(2)
    whole = VisualSentenceModel.continue_
    asked: list[tuple[int, int]] = []

    def small(self: Any, sentences: Any, count: int, sampling: Sampling, *rest: Any) -> Any:
        asked.append((sampling.first_candidate, sampling.candidates))
        for number, frames in enumerate(whole(self, sentences, count, sampling, *rest)):
            if len(frames) > 2 and number == (1 if len(frames) == 5 else 0):  # five fail late, with a frame of each on disk
                raise OutOfMemory("the device is out of memory")
            yield frames

    wanted = valid(go_on(*names, "-n", "2", "--candidates", "5", "-o", "a/"))
    monkeypatch.setattr(VisualSentenceModel, "continue_", small)
    result = go_on(*names, "-n", "2", "--candidates", "5", "-o", "b/")
    records = valid(result)
    assert asked == [(0, 5), (0, 3), (0, 2), (2, 1), (3, 2)]
    assert "memory ran out, so the batch size was halved to 2; start with --batch-size 2" in result.stderr
    assert sorted(lvm(records, "candidate", "number")) == sorted(lvm(wanted, "candidate", "number")), "each once"
    assert {path.name: path.read_bytes() for path in Path("a").iterdir()} == {path.name: path.read_bytes() for path in Path("b").iterdir()}
    asked.clear()
    sentences = [row(3, folder) for folder in ("p", "q", "r")]
    records = valid(go_on("--candidates", "2", "-o", "c/", stdin=prompts(*sentences)))
    assert asked == [(0, 2)] * 4, "all sentences at once, then each alone"
    assert lvm(records, "sentence", "candidate") == [(names, candidate) for names in sentences for candidate in (0, 1)]


def test_frames_that_come_out_otherwise_when_memory_runs_out_are_not_gone_on_from(
    go_on: Run, valid: Valid, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In bf16 fewer rows may draw another token, and what is on the disk is not what would be continued."""
    names = row(2)
    whole = VisualSentenceModel.continue_

    def other(self: Any, sentences: Any, count: int, sampling: Sampling, *rest: Any) -> Any:
        for number, frames in enumerate(whole(self, sentences, count, sampling, *rest)):
            if len(frames) == 2 and number == 2:
                raise OutOfMemory("the device is out of memory")
            changed = [replace(frame, tokens=(frame.tokens + 1) % self.codes) for frame in frames]
            yield frames if len(frames) == 2 or frames[0].candidate == 0 else changed

    monkeypatch.setattr(VisualSentenceModel, "continue_", other)
    result = go_on(*names, "-n", "4", "--candidates", "2", "-o", "o/")
    records = valid(result, 3)
    made = [(record["lvm"]["candidate"], record["lvm"]["number"]) for record in records if "error" not in record["lvm"]]
    assert made == [(0, 0), (1, 0), (0, 1), (1, 1), (0, 2), (0, 3)] and len(list(Path("o").glob("*next*"))) == 6
    said = "memory ran out, and fewer at once come to another image 1 in fp32, which could not be followed; begin anew with --batch-size 1"
    assert records[-1]["lvm"]["error"] == {"kind": "too_large", "message": said}


def test_what_is_read_is_never_written_over(go_on: Run, valid: Valid) -> None:
    names = row(3)
    before = [Path(name).read_bytes() for name in names]
    for out in ("in/{stem}.png", "in/1.png"):
        [failed] = valid(go_on(*names, "-o", out, "--overwrite"), 3)
        read = "in/2.png" if "{" in out else "in/1.png"
        assert failed["lvm"]["error"] == {"kind": "exists", "message": f"{read} is what was read; choose another place with -o"}
    assert [Path(name).read_bytes() for name in names] == before
    first, *rest = [Image.open(name) for name in names]
    first.save("in/moving.webp", save_all=True, append_images=rest, lossless=True)
    moving = Path("in/moving.webp").read_bytes()
    [failed] = valid(go_on("in/moving.webp", "--all-frames", "-o", "in/moving.webp", "--overwrite"), 3)
    assert failed["lvm"]["error"]["message"] == "in/moving.webp is what was read; choose another place with -o"
    line = {"path": "in/2.png", "lvm_prompt": {"task": "rotate", "pairs": 1, "frames": row(3, "p"), "seed": 0, "seconds": 0}}
    [failed] = valid(go_on("-o", "in/{stem}.png", "--overwrite", stdin=json.dumps(line).encode()), 3)
    assert failed["lvm"]["error"]["message"] == "in/2.png is what was read; choose another place with -o"
    assert Path("in/moving.webp").read_bytes() == moving and Path(names[2]).read_bytes() == before[2]


@pytest.mark.parametrize(
    ("options", "out", "file"),
    [
        (["-n", "3"], "in/{number}.png", "in/000.png"),  # of nine, five are seen
        (["--pairs"], "in/{number}.png", "in/000.png"),
        (["--frames", "3"], "in/005.png", "in/005.png"),
        (["--stride", "4"], "in/001.png", "in/001.png"),
        (["--stride", "4"], "link.png", "link.png"),
    ],
)
def test_pictures_that_a_sentence_has_no_room_for_are_not_written_over(
    go_on: Run, valid: Valid, options: list[str], out: str, file: str
) -> None:
    before = {path: Path(path).read_bytes() for path in [save(f"in/{number:03d}.png", number) for number in range(9)]}
    Path("link.png").symlink_to("in/002.png")
    for inputs, pipe in ((["in/"], None), ([], "\n".join(before).encode())):
        [failed] = valid(go_on(*inputs, *options, "-o", out, "--overwrite", stdin=pipe), 3)
        assert failed["lvm"]["error"] == {"kind": "exists", "message": f"{file} is what was read; choose another place with -o"}
    assert {path: Path(path).read_bytes() for path in before} == before and Path("link.png").is_symlink()


def test_what_lines_of_a_batch_read_is_not_written_over(go_on: Run, valid: Valid) -> None:
    a, p = row(3, "a"), [save(f"p/000{number}.png", number) for number in range(3)]
    before = {path: Path(path).read_bytes() for path in (*a, *p)}
    refused = [f"p/000{number}.png is what was read; choose another place with -o" for number in (0, 1)]
    for lines in (prompts(a, p), prompts(p, a)):  # by a line that comes later, and by one that was there before
        both = valid(go_on("-o", "p/{sentence}.png", "--overwrite", stdin=lines), 3)
        assert [record["lvm"]["error"]["message"] for record in both] == refused
    [failed] = valid(go_on("-o", "p/{sentence}.png", "--overwrite", stdin=prompts([*p, *a, *a[:1]])), 3)
    assert failed["lvm"]["error"]["message"] == refused[0], "also where the model has no room for it"
    line = json.loads(prompts(a))
    line["lvm_prompt"]["truth"] = p[0]
    [failed] = valid(go_on("-o", "p/{sentence}.png", "--overwrite", stdin=json.dumps(line).encode()), 3)
    assert failed["lvm"]["error"]["message"] == refused[0], "nor is the truth"
    assert {path: Path(path).read_bytes() for path in before} == before


def test_a_strip_is_not_drawn_over_what_another_line_reads(go_on: Run, valid: Valid) -> None:
    names, strip = row(3, "a"), save("a/2-strip.png", 6)
    before = Path(strip).read_bytes()
    assert len(valid(go_on("-o", "a/", "--overwrite", stdin=prompts(names, [*names[:2], strip])))) == 2
    assert Path(strip).read_bytes() == before


def test_films_and_images_never_share_a_name(go_on: Run, valid: Valid) -> None:
    names = row(3)
    records = valid(go_on(*names, "-n", "2", "-o", "o/{stem}-strip.png"))
    assert [record["path"] for record in records] == ["o/2-strip.png", "o/2-strip-2.png"]
    assert lvm(records, "strip") == [("o/2-strip-3.png",)] * 2
    [record] = valid(go_on(*names, "-o", "p/{stem}-animation.webp", "--animate", "--no-strip"))
    assert record["path"] == "p/2-animation.webp" and record["lvm"]["animation"] == "p/2-animation-2.webp"
    assert pixels("p/2-animation.webp").shape == (SIDE, SIDE, 3)


def test_a_video_is_known_by_its_bytes(go_on: Run, valid: Valid) -> None:
    save_film("clip", [Image.open(name).resize((32, 32)) for name in row(4)], format="mp4")
    [record] = valid(go_on("clip"))
    assert record["lvm"]["sentence"] == [f"clip@{number}" for number in range(4)]


def test_a_video_through_a_pipe_and_that_it_may_be_another_when_it_is_gone_on_with(go_on: Run, valid: Valid) -> None:
    data = Path(film("a.mkv", 12)).read_bytes()
    options = ["-", "--stride", "3", "--frames", "4", "-o", "o/", "--resume", "out.jsonl"]
    first = go_on(*options, stdin=data)
    assert first.code == 0 and "of the pipe" not in first.stderr
    [line] = [json.loads(text) for text in Path("out.jsonl").read_text().splitlines()]
    assert line["lvm"]["sentence"] == ["-@0", "-@3", "-@6", "-@9"]
    [named] = valid(go_on("a.mkv", "--stride", "3", "--frames", "4", "-o", "p/"))
    assert (pixels(line["path"]) == pixels(named["path"])).all()
    again = go_on(*options, stdin=Path(film("b.mkv", 30)).read_bytes())
    assert again.code == 0 and "images that out.jsonl has of the pipe count as made; for another video name a new file" in again.stderr
    assert len(Path("out.jsonl").read_text().splitlines()) == 1


def test_a_strip_shows_so_many_candidates(go_on: Run) -> None:
    from visiontk.media import film_strip

    side = Image.new("RGB", (SIDE, SIDE))
    assert film_strip.draw([side], [[side]] * 1000).size == film_strip.draw([side], [[side]] * film_strip.MOST_ROWS).size


def test_memory_for_not_even_one_candidate(go_on: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: Any) -> Any:
        raise OutOfMemory("the device is out of memory")

    monkeypatch.setattr(VisualSentenceModel, "continue_", none)
    result = go_on(*row(2), "--candidates", "4")
    assert result.code == 5 and "one candidate of one sentence does not fit into memory" in result.error


def test_memory_for_not_even_the_model_or_the_pictures(go_on: Run, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    def none(*_: Any) -> Any:
        raise OutOfMemory("the device is out of memory")

    def none_at_all(*_: Any) -> Any:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(VisualSentenceModel, "encode", none)
    result = go_on(*row(2))
    assert result.code == 5 and "the pictures of a sentence do not fit into memory" in result.error and "smaller model" in result.error
    monkeypatch.setattr("visiontk.adapters.lvm_weights.random", none_at_all)
    result = run("lvm-continue", *row(2), "--random-weights", "300m")
    assert result.code == 5 and "out of memory; choose a smaller model" in result.error


def test_rows_of_values_and_the_view_of_a_terminal(go_on: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    names = row(2)
    table = list(csv.DictReader(io.StringIO(go_on(*names, "-n", "2", "--score", "--format", "csv").stdout.decode())))
    assert [(one["after"], one["number"], one["context"], one["error"]) for one in table] == [
        (names[1], "0", "2", ""),
        (names[1], "1", "3", ""),
    ]
    assert all(float(one["nll"]) > 0 for one in table) and table[0]["strip"] == "visiontk-out/1-strip.png"
    failed = go_on(*names, "gone.png", "--format", "tsv").stdout.decode().splitlines()
    assert failed[1].split("\t")[0] == "gone.png" and failed[1].endswith("there is no such file")
    shown = go_on(*names, "-n", "2", "--score", "-o", "o/", "--format", "table").stdout.decode()
    assert "o/1-next-001.png  after in/1.png  +2  from 3 pictures  nll " in " ".join(shown.split("\n")[1:])
    assert (
        "o/4-answer.png  answers p/4.png  from 5 pictures"
        in go_on(*row(5, "p"), "--pairs", "-o", "o/", "--format", "table").stdout.decode()
    )
    lines = json.dumps({"no": "path"}) + "\ngone.png\n"
    assert go_on("--format", "table", stdin=lines.encode()).stdout.decode().split("\n")[:2] == [
        "?  passed through",
        "gone.png  there is no such file",
    ]


@pytest.mark.parametrize("value", [None, 5, [1], {"x": 1}, {"error": "x"}, {"sentence": [], "context": [], "number": 0, "seconds": 1}])
def test_what_passes_through_may_hold_anything_under_the_key(go_on: Run, value: Any) -> None:
    names = row(2)
    lines = b"".join(json.dumps(line).encode() + b"\n" for line in ({"path": "-", "lvm": value}, {"note": 1, "lvm": value}))
    for number, (form, comma) in enumerate((("csv", ","), ("tsv", "\t"))):
        result = go_on("--format", form, "-o", f"o{number}/", stdin=lines + "\n".join(names).encode())
        _, *passed, made = result.stdout.decode().splitlines()
        assert result.code == 0 and passed == ["-" + comma * 9, comma * 9] and made.startswith(f"o{number}/1-next-000.png"), result.stderr
    shown = go_on("--format", "table", stdin=lines + "\n".join(names).encode())
    assert shown.code == 0 and shown.stdout.decode().splitlines()[:2] == ["-  passed through", "?  passed through"]


def test_key_of_another_name_and_results_that_are_there(go_on: Run, valid: Valid) -> None:
    names = row(2)
    [record] = go_on(*names, "--as", "other").records
    assert "lvm" not in record and record["other"]["number"] == 0
    lines = "".join(json.dumps({"path": name, "lvm": {"model": "x"}}) + "\n" for name in names).encode()
    assert 'hold "lvm" already' in go_on(stdin=lines).error


def test_verbose_says_what_the_model_is_and_quiet_says_nothing(go_on: Run, folder: Path) -> None:
    names = row(9)
    said = go_on(*names, "-v").stderr
    assert f"{folder} sha256:" in said and "images of 16 pixels in 16 tokens, 6 of them at once" in said
    assert re.search(r"1 image in \d+\.\d s, \d+\.\d a second", said), said
    assert go_on(*names, "-q", "-o", "o/").stderr == ""


def test_the_model_of_the_settings_and_int8(run: Run, valid: Valid, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISIONTK_MODEL_LVM", str(folder))
    [record] = valid(run("lvm-continue", *row(2), "--quantize", "int8"))
    assert (record["lvm"]["model"], record["lvm"]["quantize"]) == (str(folder), "int8")


def test_random_weights_make_a_picture(run: Run, valid: Valid, monkeypatch: pytest.MonkeyPatch) -> None:
    shrink_300m(monkeypatch)
    options = ["lvm-continue", *row(2), "--random-weights", "300m"]
    made = [valid(run(*options, "--seed", seed, "-o", f"{number}/"))[0] for number, seed in enumerate("112")]
    assert {(one["lvm"]["model"], one["lvm"]["revision"]) for one in made} == {("random-300m", "seed:1"), ("random-300m", "seed:2")}
    first, again, other = (np.asarray(Image.open(record["path"])) for record in made)
    assert first.shape == (256, 256, 3) and (first == again).all() and (first != other).any()


def test_random_weights_of_a_size_of_the_paper(run: Run, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    asked: dict[str, Any] = {}
    monkeypatch.setenv("VISIONTK_MODEL_LVM", "set-for-other-runs")

    def made(name: str | None, runtime: Runtime, **options: Any) -> Any:
        asked.update(options, name=name)
        return load(str(folder), runtime)

    monkeypatch.setattr("visiontk.adapters.lvm.load", made)
    assert run("lvm-continue", *row(2), "--random-weights", "300m").code == 0
    assert asked == {"name": None, "vqgan": None, "quantize": None, "random_weights": "300m"}


@pytest.mark.skipif(shutil.which("jq") is None, reason="the example is written with jq, which is not installed")
def test_the_example_script_runs(folder: Path) -> None:
    bin_folder = str(Path(sys.executable).parent)
    environment = {**os.environ, "PATH": bin_folder + os.pathsep + os.environ["PATH"], "VISIONTK_MODEL_LVM": str(folder)}
    script = Path(__file__).parents[1] / "examples" / "continue-a-clip.sh"
    done = subprocess.run([str(script), "made"], env=environment, check=True, capture_output=True, text=True)
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    assert [(candidate, number) for candidate, number, *_ in lines] == [(str(c), str(n)) for n in range(4) for c in (0, 1)]
    assert all(Path(path).stat().st_size and Path(animation).stat().st_size for _, _, path, animation in lines)


def test_the_commands_of_the_documentation_run(run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISIONTK_MODEL_LVM", str(folder))
    texts = [(Path(__file__).parents[1] / "docs" / name).read_text("utf-8") for name in ("lvm.md", "lvm-prompts.md")]
    commands = [line.strip() for text in texts for line in text.splitlines() if line.startswith("    visiontk ")]
    assert len(commands) == 9
    row(3, "photos")
    assert run("tiny", "render", "images", "-n", "4", "--objects", "2", "-o", "things").code == 0
    for command in commands:
        piped: bytes | None = None
        for part in command.split(" | "):
            words = [found for word in shlex.split(part)[1:] for found in (sorted(glob.glob(word)) if "[" in word else [word])]  # noqa: PTH207
            result = run(*words, stdin=piped)
            assert result.code == 0, (command, result.stderr)
            piped = result.stdout
    assert Path("answer-strip.png").exists() and len(list(Path("edges").glob("*.png"))) == 3 and len(list(Path("three").glob("*"))) == 13
