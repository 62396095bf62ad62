"""`visiontk lvm-prompt`: which pictures make which sentence, what is in its files, and what cannot be made."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from visiontk.media import sentence_tasks
from visiontk.media.masks import encode_rle
from visiontk.media.sentence_tasks import SentenceTask, squared

if TYPE_CHECKING:
    from tests.conftest import ColourTracker, Record, Result, Run, Valid

RED, BLUE, GROUND = (220, 40, 40), (40, 60, 220), (20, 20, 20)
WIDTH, HEIGHT = 60, 40

Prompt = Callable[..., "Result"]


@pytest.fixture
def prompt(run: Run) -> Prompt:
    def call(*arguments: str | Path, stdin: bytes | None = None) -> Result:
        return run("lvm-prompt", *arguments, stdin=stdin)

    return call


def drawn(number: int) -> Image.Image:
    """A red square in the middle, and in every second picture a blue one."""
    image = Image.new("RGB", (WIDTH, HEIGHT), GROUND)
    image.paste(RED, (20 + number, 10, 40 + number, 30))
    if number % 2:
        image.paste(BLUE, (2, 2, 12, 12))
    return image


@pytest.fixture
def pictures() -> list[str]:
    """``a.png`` to ``d.png``."""
    names = [f"{letter}.png" for letter in "abcd"]
    for number, name in enumerate(names):
        drawn(number).save(name)
    return names


def pixels(file: str | Path) -> npt.NDArray[np.uint8]:
    image = Image.open(file)
    assert image.mode == "RGB"
    return np.asarray(image)


def square(number: int, side: int = WIDTH) -> Image.Image:
    return squared(drawn(number), side)


def index_png(file: str, *numbers: int, size: tuple[int, int] = (WIDTH, HEIGHT)) -> None:
    """An index map with a column of pixels for each number."""
    found = np.zeros(size[::-1], np.uint8)
    for place, number in enumerate(numbers):
        found[:, 10 * place : 10 * place + 10] = number
    Path(file).parent.mkdir(exist_ok=True, parents=True)
    Image.fromarray(found).save(file)


def only(records: list[Record]) -> dict[str, Any]:
    [record] = records
    value: dict[str, Any] = record["lvm_prompt"]
    return value


def test_the_last_picture_is_the_query_and_the_others_make_pairs(prompt: Prompt, pictures: list[str], valid: Valid) -> None:
    [record] = valid(prompt("grayscale", *pictures, "-o", "out"))
    value = record["lvm_prompt"]
    assert record["path"] == "d.png" and (value["task"], value["pairs"], value["seed"]) == ("grayscale", 3, 0)
    assert [Path(file).name for file in value["frames"]] == [
        "a-grayscale-1-image.png",
        "a-grayscale-1-answer.png",
        "b-grayscale-2-image.png",
        "b-grayscale-2-answer.png",
        "c-grayscale-3-image.png",
        "c-grayscale-3-answer.png",
        "d-grayscale-query.png",
    ]
    assert all(Path(file).is_absolute() and Path(file).parent == Path("out").resolve() for file in [*value["frames"], value["truth"]])
    for place, number in enumerate((0, 1, 2)):
        assert np.array_equal(pixels(value["frames"][2 * place]), np.asarray(sentence_tasks.grey(square(number))))
        assert np.array_equal(pixels(value["frames"][2 * place + 1]), np.asarray(square(number)))
    assert np.array_equal(pixels(value["frames"][-1]), np.asarray(sentence_tasks.grey(square(3))))
    assert np.array_equal(pixels(value["truth"]), np.asarray(square(3)))
    assert value["truth"] not in value["frames"] and len(list(Path("out").iterdir())) == 8


def test_with_query_all_pictures_make_pairs_and_each_query_has_its_line(prompt: Prompt, pictures: list[str], valid: Valid) -> None:
    records = valid(prompt("inpaint", *pictures[:2], "--query", "c.png", "--query", "d.png", "--seed", "4", "-o", "out"))
    first, second = (record["lvm_prompt"] for record in records)
    assert [record["path"] for record in records] == ["c.png", "d.png"]
    assert first["frames"][:4] == second["frames"][:4] and first["pairs"] == second["pairs"] == 2
    task = SentenceTask("inpaint", seed=4)
    for place, file in enumerate([first["frames"][0], first["frames"][2], first["frames"][4], second["frames"][4]]):
        assert np.array_equal(pixels(file), np.asarray(task.pair(square(place), place)[0]))
    alone = only(valid(prompt("inpaint", *pictures[:3], "--seed", "4", "-o", "alone")))
    assert np.array_equal(pixels(alone["frames"][-1]), pixels(first["frames"][-1]))


@pytest.mark.parametrize(
    ("arguments", "task"),
    [
        (["edges"], SentenceTask("edges")),
        (["inpaint", "--patches", "--seed", "2"], SentenceTask("inpaint", seed=2, patches=True)),
        (["rotate"], SentenceTask("rotate", angle=90)),
        (["rotate", "--angle", "-30.5"], SentenceTask("rotate", angle=-30.5)),
    ],
)
def test_options_reach_every_picture_of_the_sentence(
    prompt: Prompt, pictures: list[str], valid: Valid, arguments: list[str], task: SentenceTask
) -> None:
    value = only(valid(prompt(*arguments, *pictures[:3])))
    files = [*value["frames"], value["truth"]]
    for place in range(3):
        for file, wanted in zip(files[2 * place :][:2], task.pair(square(place), place), strict=True):
            assert np.array_equal(pixels(file), np.asarray(wanted))
    assert value.get("angle") == (task.angle if task.name == "rotate" else None)


def test_the_side_is_the_first_pictures_and_at_most_256(prompt: Prompt, pictures: list[str], valid: Valid) -> None:
    Image.new("RGB", (900, 300)).save("large.png")
    sizes = {}
    for name, arguments in {
        "small": pictures[:2],
        "large": ["large.png", "a.png"],
        "asked": ["a.png", "large.png", "--size", "100"],
    }.items():
        value = only(valid(prompt("grayscale", *arguments, "-o", name)))
        sizes[name] = {Image.open(file).size for file in [*value["frames"], value["truth"]]}
    assert sizes == {"small": {(60, 60)}, "large": {(256, 256)}, "asked": {(100, 100)}}


def test_what_lines_hold_stays_and_comes_out_again(prompt: Prompt, pictures: list[str], valid: Valid) -> None:
    lines = [{"path": "a.png"}, {"path": "b.png", "classify": {"x": 1}}, {"note": "no path"}, {"path": "c.png", "mine": 5}]
    stdin = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    result = prompt("edges", "-", stdin=stdin)
    passed, record = result.records
    assert passed == {"note": "no path"} and "1 lines without a path were passed through" in result.stderr
    assert list(record) == ["path", "mine", "lvm_prompt"] and record["mine"] == 5 and record["lvm_prompt"]["pairs"] == 2
    again = prompt(
        "edges",
        "-",
        stdin=b"a.png\n" + json.dumps(record).encode() + b"\n",
    )
    assert again.code == 3 and "already" in again.records[0]["lvm_prompt"]["error"]["message"]


def test_frames_of_a_video_are_pictures(prompt: Prompt, bunny: Path, valid: Valid) -> None:
    from visiontk.media.video import read_frames

    frames = [frame.image for frame, _ in zip(read_frames(str(bunny)), range(3), strict=False)]
    frames[0].save("first.png")
    stdin = b"".join(json.dumps({"path": str(bunny), "frame": number}).encode() + b"\n" for number in (1, 2))
    [record] = valid(prompt("rotate", "first.png", "-", "--size", "32", stdin=stdin))
    assert (record["frame"], record["lvm_prompt"]["pairs"]) == (2, 2)
    assert Path(record["lvm_prompt"]["frames"][-1]).name == "bunny-000002-rotate-query.png"
    assert np.array_equal(pixels(record["lvm_prompt"]["frames"][2]), np.asarray(squared(frames[1], 32)))


def test_verbose_says_how_long_it_took_and_else_nothing_is_said(prompt: Prompt, pictures: list[str]) -> None:
    assert re.search(r"1 sentence in \d+\.\d s, \d+\.\d a second", prompt("grayscale", *pictures, "-v", "-o", "out").stderr)
    assert prompt("grayscale", *pictures, "-o", "again").stderr == ""


def test_files_are_never_replaced_unasked(prompt: Prompt, pictures: list[str], valid: Valid) -> None:
    value = only(valid(prompt("grayscale", *pictures, "-o", "out")))
    before = {file: Path(file).read_bytes() for file in value["frames"]}
    refused = prompt("grayscale", *pictures, "-o", "out", "--size", "20")
    assert refused.code == 3 and "a-grayscale-1-image.png exists; pass --overwrite" in refused.error and refused.stdout == b""
    assert {file: Path(file).read_bytes() for file in value["frames"]} == before
    replaced = only(valid(prompt("grayscale", *pictures, "-o", "out", "--size", "20", "--overwrite")))
    assert replaced["frames"] == value["frames"] and {Image.open(file).size for file in replaced["frames"]} == {(20, 20)}


def test_what_is_read_is_never_written_over(prompt: Prompt, pictures: list[str], valid: Valid) -> None:
    """Also what is read later: pictures of pairs, queries, and masks."""
    Path("o").mkdir()
    for number, kind in enumerate(("edges-1-answer", "edges-query", "segment-1-image")):
        drawn(number).save(f"o/{kind}.png")
    index_png("o/segment-query.png", 1)
    index_png("m.png", 1)
    before = {path: path.read_bytes() for path in Path("o").iterdir()}
    options = ["-o", "o/{kind}.png", "--overwrite"]
    ended = prompt("edges", "o/edges-1-answer.png", "b.png", *options)
    assert (ended.code, ended.error) == (3, "o/edges-1-answer.png is what was read; choose another place with -o")
    ended = prompt("segment", "o/segment-1-image.png", "b.png", "--masks", "m.png", "--masks", "m.png", *options)
    assert (ended.code, ended.error) == (3, "o/segment-1-image.png is what was read; choose another place with -o")
    assert {path: path.read_bytes() for path in Path("o").iterdir()} == before
    for file, inputs in {
        "o/edges-query.png": ["edges", "a.png", "--query", "b.png", "--query", "o/edges-query.png"],
        "o/segment-query.png": ["segment", "a.png", "--query", "b.png", "--masks", "m.png", "--masks", "o/segment-query.png"],
    }.items():
        failed = valid(prompt(*inputs, *options), 3)[0]
        assert failed["lvm_prompt"]["error"]["message"] == f"{file} is what was read; choose another place with -o"
        assert Path(file).read_bytes() == before[Path(file)]


def test_a_query_whose_files_exist_fails_alone(prompt: Prompt, pictures: list[str], valid: Valid) -> None:
    Path("out").mkdir()
    Path("out/c-edges-truth.png").write_text("mine")
    result = prompt("edges", *pictures[:2], "--query", "c.png", "--query", "d.png", "-o", "out")
    first, second = valid(result, 3)
    assert first["lvm_prompt"]["error"]["kind"] == "exists" and second["lvm_prompt"]["pairs"] == 2
    assert Path("out/c-edges-truth.png").read_text() == "mine" and not Path("out/c-edges-query.png").exists()


def test_without_a_place_files_get_the_next_free_number(prompt: Prompt, pictures: list[str], valid: Valid) -> None:
    first, second = (only(valid(prompt("grayscale", *pictures[:2], "--size", size))) for size in ("60", "40"))
    assert Path(first["truth"]) == Path("visiontk-out/b-grayscale-truth.png").resolve()
    assert Path(second["truth"]) == Path("visiontk-out/b-grayscale-truth-2.png").resolve()


@pytest.mark.parametrize("place", [[], ["-o", "out"]])
def test_the_same_request_again_is_the_same_files(prompt: Prompt, pictures: list[str], valid: Valid, place: list[str]) -> None:
    arguments = ["inpaint", *pictures, "--seed", "4", *place]
    first = only(valid(prompt(*arguments)))
    Path(first["frames"][1]).unlink()
    times = {file: Path(file).stat().st_mtime_ns for file in [*first["frames"][::2], first["truth"]]}
    again = only(valid(prompt(*arguments)))
    assert {**again, "seconds": 0} == {**first, "seconds": 0}
    assert {file: Path(file).stat().st_mtime_ns for file in times} == times and Path(first["frames"][1]).is_file()
    assert len(list(Path(first["truth"]).parent.iterdir())) == 8


def test_what_is_written_already_is_compared_once(
    prompt: Prompt, pictures: list[str], valid: Valid, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = only(valid(prompt("edges", *pictures[:2], "-o", "out")))
    read: list[str] = []
    whole = Path.read_bytes

    def noted(path: Path) -> bytes:
        read.append(str(path))
        return whole(path)

    monkeypatch.setattr(Path, "read_bytes", noted)
    for options in ([], ["--overwrite"]):
        read.clear()
        assert prompt("edges", *pictures[:2], "-o", "out", *options).code == 0
        assert sorted(Path(name).name for name in read if "edges" in name) == sorted(
            Path(name).name for name in (*first["frames"], first["truth"])
        )


def lines(file: str) -> list[Record]:
    return [json.loads(line) for line in Path(file).read_bytes().splitlines()]


@pytest.mark.parametrize("place", [[], ["-o", "out"]])
def test_a_run_that_was_stopped_goes_on_with_the_queries_that_have_no_line(
    prompt: Prompt, pictures: list[str], valid: Valid, place: list[str]
) -> None:
    """Two queries are called alike, one cannot be read, and each picture of the task has a place of its own for what is black."""
    Path("other").mkdir()
    drawn(5).save("other/c.png")
    queries = [word for name in ("c.png", "gone.png", "other/c.png", "d.png") for word in ("--query", name)]
    arguments = ["inpaint", *pictures[:2], *queries, "--seed", "4", *place]
    wanted = valid(prompt(*arguments), 3)
    folder = Path("out" if place else "visiontk-out")
    made = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert len(made) == 4 + 6 and "c-inpaint-query-2.png" in made
    text = "".join(json.dumps(record) + "\n" for record in wanted)
    for keep in range(5):
        cut = len("".join(text.splitlines(keepends=True)[:keep]))
        Path("out.jsonl").write_text(text[: cut + 10])  # the next line is torn
        kept = {Path(name).name for record in wanted[:keep] for name in record["lvm_prompt"].get("frames", [])}
        for name in made:
            if name not in kept and "truth" not in name:
                (folder / name).unlink(missing_ok=True)
        result = prompt(*arguments, "--resume", "out.jsonl")
        assert result.code == (3 if keep < 2 else 0) and result.stdout == b"", result.stderr
        found = lines("out.jsonl")
        for record in (*found, *wanted):
            record["lvm_prompt"].pop("seconds", None)
        assert found == wanted
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == made


def test_files_that_lines_name_and_that_are_gone_are_written_again(prompt: Prompt, pictures: list[str]) -> None:
    for number, name in enumerate("mnop"):
        index_png(f"{name}.png", number + 1)
    masks = [word for name in "mnop" for word in ("--masks", f"{name}.png")]
    arguments = ["segment", *pictures[:2], "--query", "c.png", "--query", "d.png", *masks, "-o", "out", "--resume", "out.jsonl"]
    assert prompt(*arguments).code == 0
    made, text = {path: path.read_bytes() for path in Path("out").iterdir()}, Path("out.jsonl").read_bytes()
    for lost in (["c-segment-query.png"], ["d-segment-truth.png", "d-segment-query.png", "a-segment-1-image.png"], [p.name for p in made]):
        for name in lost:
            Path("out", name).unlink()
        assert prompt(*arguments).code == 0
        assert {path: path.read_bytes() for path in Path("out").iterdir()} == made and Path("out.jsonl").read_bytes() == text


@pytest.mark.parametrize(
    ("change", "words"), [(lambda: Path("c.png").unlink(), "no such file"), (lambda: drawn(9).save("c.png"), "not what its picture comes")]
)
def test_a_file_that_is_gone_and_cannot_be_made_again_fails_its_query(
    prompt: Prompt, pictures: list[str], change: Callable[[], None], words: str
) -> None:
    arguments = ["edges", *pictures[:2], "--query", "c.png", "--query", "d.png", "-o", "out", "--resume", "out.jsonl"]
    assert prompt(*arguments).code == 0
    change()
    Path("out/c-edges-query.png").unlink()
    assert (prompt(*arguments).code, prompt(*arguments).code) == (3, 0), "it is said once"
    *_, failed = lines("out.jsonl")
    assert len(lines("out.jsonl")) == 3 and words in failed["lvm_prompt"]["error"]["message"]


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (["edges", "a.png", "b.png"], "was written with the task rotate, and this run has edges"),
        (["rotate", "a.png", "b.png", "--angle", "3"], "was written with the angle 90.0, and this run has 3.0"),
        (["rotate", "a.png", "b.png", "--seed", "3"], "was written with the seed 0, and this run has 3"),
        (["rotate", "b.png", "c.png"], "was written with other pairs"),
        (["rotate", "a.png", "b.png", "--size", "20", "-o", "out", "--overwrite"], "was written with other pairs"),
    ],
)
def test_sentences_of_other_tasks_or_pairs_do_not_come_into_one_file(
    prompt: Prompt, pictures: list[str], other: list[str], words: str
) -> None:
    assert prompt("rotate", "a.png", "b.png", "-o", "out", "--resume", "out.jsonl").code == 0
    before = {path: path.read_bytes() for path in (Path("out.jsonl"), *Path("out").iterdir())}
    result = prompt(*other, "-o", "out", "--resume", "out.jsonl")
    assert result.code == 2 and words in result.error and "name a new file" in result.error
    assert {path: path.read_bytes() for path in (Path("out.jsonl"), *Path("out").iterdir())} == before


def test_masks_of_queries_that_have_their_lines_are_not_left_over(prompt: Prompt, pictures: list[str]) -> None:
    index_png("m.png", 1)
    arguments = ["segment", "a.png", "--query", "b.png", *["--masks", "m.png"] * 2, "-o", "out", "--resume", "out.jsonl"]
    assert prompt(*arguments).code == 0
    assert (prompt(*arguments).stderr, len(lines("out.jsonl"))) == ("", 1)


def test_templates_name_the_files(prompt: Prompt, pictures: list[str], valid: Valid) -> None:
    value = only(valid(prompt("rotate", *pictures[:2], "-o", "out/{index}/{kind}-{stem}.png")))
    names = [str(Path(file).relative_to(Path.cwd())) for file in [*value["frames"], value["truth"]]]
    assert names[:2] == ["out/000000/rotate-1-image-a.png", "out/000000/rotate-1-answer-a.png"]
    assert names[2:] == ["out/000001/rotate-query-b.png", "out/000001/rotate-truth-b.png"]


# --- masks


def test_masks_of_a_folder_go_by_name_and_their_colours_are_one_palette(prompt: Prompt, pictures: list[str], valid: Valid) -> None:
    index_png("masks/a.png", 1, 2)
    index_png("masks/b.png", 0, 3)
    index_png("masks/c.png", 2)
    value = only(valid(prompt("segment", *pictures[:3], "--masks", "masks", "--seed", "3")))
    colours = sentence_tasks.palette(3, 3)
    assert value["palette"] == [list(colour) for colour in colours] and len(value["palette"]) == 4
    background = [*colours[:1]] * 6
    answers = [[tuple(pixel) for pixel in pixels(file)[30, 5:60:10].tolist()] for file in (*value["frames"][1:4:2], value["truth"])]
    assert answers[0] == [colours[1], colours[2], *background[2:]]
    assert answers[1] == [colours[0], colours[3], *background[2:]]
    assert answers[2] == [colours[2], *background[1:]]
    assert np.array_equal(pixels(value["frames"][0]), np.asarray(square(0)))


def test_masks_of_frames_lie_in_a_folder_of_their_video(prompt: Prompt, pictures: list[str], valid: Valid) -> None:
    """As `visiontk segment --save masks` and `visiontk tiny render clips` lay them out; frames of all videos are called alike."""
    for video, columns in (("x", (1,)), ("y", (0, 1))):
        Path(video).mkdir()
        drawn(len(columns)).save(f"{video}/00000.png")
        index_png(f"masks/{video}/00000.png", *columns)
    value = only(valid(prompt("segment", "x/00000.png", "--query", "y/00000.png", "--masks", "masks")))
    behind, thing = value["palette"]
    rows = [pixels(file)[30, 5:60:10].tolist() for file in (value["frames"][1], value["truth"])]
    assert rows == [[thing if column == wanted else behind for column in range(6)] for wanted in (0, 1)]
    wrong = prompt("segment", "x/00000.png", "--query", "y/00000.png", "--masks", "masks/x")
    assert wrong.code == 3 and "masks/x/00000.png is that of x/00000.png, which is called alike" in wrong.stderr


def test_masks_may_be_files_in_the_order_of_the_pictures(prompt: Prompt, pictures: list[str], valid: Valid) -> None:
    for name in ("x", "y", "z"):
        index_png(f"{name}.png", *{"x": (255,), "y": (0, 255), "z": (0, 0, 255)}[name])  # binary: thing 1
    result = prompt("segment", *pictures[:3], "--masks", "x.png", "--masks", "y.png", "--masks", "z.png")
    value = only(valid(result))
    things, behind = value["palette"][1], value["palette"][0]
    assert len(value["palette"]) == 2 and result.stderr == ""
    for place, file in enumerate((*value["frames"][1:4:2], value["truth"])):
        assert pixels(file)[30, 5:60:10].tolist() == [things if column == place else behind for column in range(6)]


def test_a_query_without_a_mask_has_no_truth(prompt: Prompt, pictures: list[str], valid: Valid) -> None:
    index_png("masks/a.png", 1)
    index_png("masks/b.png", 1)
    records = valid(prompt("segment", "a.png", "--masks", "masks", "--query", "c.png", "--query", "b.png"))
    assert ["truth" in record["lvm_prompt"] for record in records] == [False, True]
    assert len(records[0]["lvm_prompt"]["frames"]) == 3


def test_masks_of_an_earlier_stage_are_taken_from_the_line(
    prompt: Prompt, pictures: list[str], valid: Valid, trackers: list[ColourTracker]
) -> None:
    lines = b""
    for number, name in enumerate(pictures[:2]):
        mask = (np.asarray(drawn(number)) == RED).all(-1)
        one = {"id": 2, "rle": encode_rle(mask), "box": [0, 0, 1, 1], "area": int(mask.sum()), "score": 1, "iou": 1}
        lines += json.dumps({"path": name, "segment": {"model": "m", "revision": "r", "objects": [one], "seconds": 0}}).encode() + b"\n"
    [record] = valid(prompt("segment", "-", stdin=lines))
    colours = record["lvm_prompt"]["palette"]
    assert trackers == [] and len(colours) == 2 and record["segment"]["model"] == "m", "one for the only number"
    assert pixels(record["lvm_prompt"]["truth"])[30, [30, 5]].tolist() == [colours[1], colours[0]]


def test_masks_whose_numbers_no_map_holds_fail_alone(prompt: Prompt, pictures: list[str]) -> None:
    """As SA-V counts its objects, from 0."""
    everything = encode_rle(np.ones((HEIGHT, WIDTH), bool))
    numbered = zip(pictures, (1, 2, 0), strict=False)
    lines = [{"path": name, "segment": {"objects": [{"id": number, "rle": everything}]}} for name, number in numbered]
    result = prompt("segment", "-", stdin="".join(json.dumps(line) + "\n" for line in lines).encode())
    [record] = result.records
    assert result.code == 3 and "numbers an object 0; `visiontk segment` counts from 1" in record["lvm_prompt"]["error"]["message"]


def test_queries_come_through_the_pipe(prompt: Prompt, pictures: list[str], valid: Valid) -> None:
    records = valid(prompt("edges", "a.png", "b.png", "--query", "-", stdin=b"c.png\nd.png\n"))
    assert [record["path"] for record in records] == ["c.png", "d.png"]
    nothing = prompt("edges", "a.png", "b.png", "--query", "-", "-o", "none/", stdin=b"")
    assert nothing.code == 2 and "there is no query" in nothing.error and not Path("none").exists()
    both = prompt("edges", "-", "--query", "-", stdin=b"a.png\n")
    assert both.code == 2 and "the IMAGES or the queries" in both.error


def test_the_segmenter_is_asked_as_visiontk_segment_asks_it(
    prompt: Prompt, pictures: list[str], valid: Valid, trackers: list[ColourTracker]
) -> None:
    value = only(valid(prompt("segment", *pictures[:3], "-o", "point")))
    assert len(trackers) == 1 and [asked[0].points for asked in trackers[0].asked] == [((30.0, 20.0),)] * 3
    assert len(value["palette"]) == 2 and pixels(value["frames"][1])[30, [30, 3]].tolist() == value["palette"][::-1]
    value = only(valid(prompt("segment", *pictures[:3], "-p", "auto", "-o", "auto")))
    assert len(value["palette"]) == 3  # red and blue in the second picture
    assert (pixels(value["frames"][3]) == value["palette"][2]).all(-1).any() and (pixels(value["frames"][3]) == value["palette"][1]).all(
        -1
    ).any()
    value = only(valid(prompt("segment", *pictures[:3], "-p", "auto", "--colours", "1", "-o", "alike")))
    assert len(value["palette"]) == 2
    inside = (pixels(value["frames"][3]) == value["palette"][1]).all(-1)
    assert inside[30, 30] and inside[8, 7] and not inside[50, 5]


# --- what cannot be made


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["grayscale", "a.png"], "one picture is a query without pairs"),
        (["grayscale", "a.png", "b.png", "--angle", "3"], "--angle goes with the task rotate, and this is grayscale"),
        (["rotate", "a.png", "b.png", "--patches"], "--patches goes with the task inpaint"),
        (["rotate", "a.png", "b.png", "--angle", "nan"], "use a number of degrees"),
        (["edges", "a.png", "b.png", "--masks", "a.png"], "--masks goes with the task segment"),
        (["edges", "a.png", "b.png", "-m", "tiny-sam2"], "--model goes with the task segment"),
        (["segment", "a.png", "b.png", "--masks", "a.png", "-p", "auto"], "leave it out, or --prompt and --model"),
        (["segment", "a.png", "b.png", "--masks", "nowhere"], "there is no nowhere"),
        (["segment", "a.png", "b.png", "--masks", ".", "--masks", "a.png"], "name one folder, or files alone"),
        (["segment", "a.png", "b.png", "-p", "circle"], "circle"),
        (["segment", "a.png", "b.png", "--masks", ".", "--colours", "999"], "--colours is 999, and there are"),
        (["grayscale", "a.png", "b.png", "-o", "-"], "a sentence is several files"),
        (["grayscale", "a.png", "b.png", "-o", "one.png"], "a sentence is several files"),
        (["grayscale", "a.png", "b.png", "-o", "out/{stem}.png"], "which {kind} tells apart"),
        (["grayscale", "a.png", "b.png", "--format", "xml"], "format"),
        (["painting", "a.png", "b.png"], "painting"),
        (["edges", "a.png", "b.png", "--size", "8"], "--size"),
    ],
)
def test_what_makes_no_sense_is_said_before_any_file_is_made(prompt: Prompt, pictures: list[str], arguments: list[str], words: str) -> None:
    result = prompt(*arguments)
    assert result.code == 2 and words in result.error and result.stdout == b""
    assert sorted(path.name for path in Path().glob("*")) == pictures


def test_a_pairs_picture_that_cannot_be_read_ends_the_run(prompt: Prompt, pictures: list[str]) -> None:
    Path("b.png").write_bytes(b"\x89PNG\r\n\x1a\nnot much")
    result = prompt("grayscale", *pictures)
    assert result.code == 3 and result.stdout == b"" and not Path("visiontk-out").exists()
    assert result.error.startswith("b.png: ") and "mend it or leave it out" in result.error
    assert prompt("grayscale", "a.png", "gone.png", "c.png").error.startswith("gone.png: there is no such file")
    alone = prompt("grayscale", "gone/")
    assert alone.code == 3 and alone.error.startswith("gone/: there is no such file; name pictures for the pairs")


def test_a_query_that_cannot_be_read_fails_alone(prompt: Prompt, pictures: list[str], valid: Valid) -> None:
    result = prompt("grayscale", "a.png", "--query", "gone.png", "--query", "b.png")
    first, second = valid(result, 3)
    assert first == {"path": "gone.png", "lvm_prompt": {"error": {"kind": "missing", "message": "there is no such file"}}}
    assert second["lvm_prompt"]["pairs"] == 1 and "1 of 2 sentences failed" in result.stderr


@pytest.mark.parametrize("value", [None, 5, [1], {"frames": []}, {"error": "x"}, {"frames": ["a"], "pairs": "x", "task": "edges"}])
def test_what_passes_through_may_hold_anything_under_the_key(prompt: Prompt, pictures: list[str], value: Any) -> None:
    stdin = json.dumps({"note": 1, "lvm_prompt": value}).encode() + b"\nc.png\n"
    arguments = ["edges", *pictures[:2], "--query", "-"]
    for form, comma in (("csv", ","), ("tsv", "\t")):
        result = prompt(*arguments, "--format", form, stdin=stdin)
        _, passed, made = result.stdout.decode().splitlines()
        assert result.code == 0 and passed == comma * 7 and made.startswith("c.png"), result.stderr
    shown = prompt(*arguments, "--format", "table", stdin=stdin)
    assert shown.code == 0 and shown.stdout.decode().splitlines()[0] == "?  passed through"


@pytest.mark.parametrize("value", [3, None, "x", {"task": "edges"}])
def test_a_query_whose_line_is_a_prompt_already_fails_alone(prompt: Prompt, pictures: list[str], valid: Valid, value: Any) -> None:
    stdin = json.dumps({"path": "c.png", "lvm_prompt": value}).encode() + b"\n"
    result = prompt("edges", *pictures[:2], "-", stdin=stdin)
    if value is None:
        assert only(valid(result))["pairs"] == 2
        return
    assert result.code == 3 and 'holds "lvm_prompt" already' in only(result.records)["error"]["message"]


def test_masks_that_lack_or_do_not_fit(prompt: Prompt, pictures: list[str], valid: Valid) -> None:
    index_png("masks/a.png", 1)
    result = prompt("segment", "a.png", "b.png", "c.png", "--masks", "masks")
    assert result.code == 3 and result.error.startswith("b.png: there is no mask of it")
    index_png("masks/b.png", 1, size=(30, 20))
    result = prompt("segment", "a.png", "b.png", "c.png", "--masks", "masks")
    assert result.code == 3 and "has 30x20 pixels, and the picture 60x40" in result.error
    [record] = valid(prompt("segment", "a.png", "--query", "b.png", "--masks", "masks"), 3)
    assert record["lvm_prompt"]["error"]["kind"] == "bad_prompt"
    result = prompt("segment", "a.png", "c.png", "--masks", "masks/a.png", "--masks", "masks/a.png", "--masks", "masks/b.png", "-o", "o")
    assert result.code == 0 and "1 files of --masks belong to no picture" in result.stderr


def test_other_formats(prompt: Prompt, pictures: list[str]) -> None:
    result = prompt("rotate", "a.png", "--query", "b.png", "--query", "gone.png", "--format", "csv", "-o", "out")
    heading, first, second = csv.reader(io.StringIO(result.stdout.decode()))
    assert heading == ["path", "frame", "task", "pairs", "query", "truth", "seed", "error"]
    assert first == ["b.png", "", "rotate", "1", *(str(Path(f"out/b-rotate-{kind}.png").resolve()) for kind in ("query", "truth")), "0", ""]
    assert second == ["gone.png", "", "", "", "", "", "", "there is no such file"]
    table = prompt("rotate", "a.png", "b.png", "--format", "table", "-o", "again").stdout.decode()
    assert "b.png  rotate, 1 pair  →" in table


def test_masks_have_the_names_that_segment_gives_them(prompt: Prompt, pictures: list[str], valid: Valid) -> None:
    for name in ("a", "b", "c"):
        index_png(f"masks/{name}-masks.png", 1)
    assert len(only(valid(prompt("segment", *pictures[:3], "--masks", "masks")))["frames"]) == 5
