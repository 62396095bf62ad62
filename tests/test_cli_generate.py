"""`visiontk generate` as its users meet it, on a tiny pipeline with random weights: which pictures, their files and their lines."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import numpy as np
import pytest
from PIL import Image

from tests.generate_models import make_pipeline
from visiontk.media import embedded
from visiontk.records import schema

if TYPE_CHECKING:
    from tests.conftest import Record, Result, Run

SIDE = 32
pytestmark = pytest.mark.usefixtures("generators_loaded_once")


@pytest.fixture
def generate(run: Run, pipeline: Path) -> Run:
    """With the tiny model; each line is held against the schema."""

    def call(*arguments: str | os.PathLike[str], stdin: bytes | None = None, stdout: Path | None = None) -> Result:
        steps = [] if any(str(one).startswith(("--steps", "steps=")) for one in arguments) else ["--steps", "2"]
        result = run("generate", "-m", pipeline, *steps, *arguments, stdin=stdin, stdout=stdout)
        if result.stdout.startswith(b"{"):
            for record in result.records:
                jsonschema.validate(record, schema())
        return result

    return call


def pixels(path: str | Path) -> Any:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def ok(result: Result) -> list[Record]:
    assert result.code == 0, result.stderr
    return result.records


def about(records: list[Record]) -> list[tuple[Any, ...]]:
    return [(record["path"], record["generate"]["prompt"], record["generate"]["seed"]) for record in records]


def error(record: Record) -> tuple[str, str]:
    value = record["generate"]["error"]
    return value["kind"], value["message"]


def photo(path: str = "photo.png", size: tuple[int, int] = (SIDE, SIDE)) -> str:
    x, y = np.meshgrid(np.arange(size[0]), np.arange(size[1]))
    Image.fromarray(np.stack([x * 7 % 256, y * 5 % 256, (x + y) * 3 % 256], -1).astype(np.uint8)).save(path)
    return path


def test_what_the_model_must_do_is_known_from_the_lines_of_the_prompts(run: Run, tmp_path: Path) -> None:
    """A model that inpaints alone runs where every line asks for it, and is refused before it is loaded where one does not."""
    folder = make_pipeline(tmp_path / "inpaint", mask_channels=True)
    photo()
    Image.fromarray(np.pad(np.full((8, 8), 255, np.uint8), 12)).save("hole.png")
    whole = {"prompt": "a red apple", "init": "photo.png", "mask": "hole.png"}

    def asked(*lines: dict[str, str], options: Sequence[str] = ()) -> Result:
        Path("prompts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        return run("generate", "-m", folder, "--steps", "2", "--prompts", "prompts.jsonl", "--overwrite", *options)

    assert [record["generate"]["prompt"] for record in ok(asked(whole, whole))] == ["a red apple"] * 2
    mask_alone = {key: value for key, value in whole.items() if key != "mask"}
    assert len(ok(asked(mask_alone, options=["--mask", "hole.png"]))) == 1
    for lines in ([{"prompt": "a red apple"}], [whole, {"prompt": "a red apple"}]):
        refused = asked(*lines)
        assert refused.code == 2 and "cannot do text to image, its family does inpainting alone" in refused.stderr and not refused.stdout


def test_a_line_for_each_picture_says_all_that_it_was_made_from(generate: Run, pipeline: Path) -> None:
    records = ok(generate("a red apple", "a green tree!", "--seed", "1,5-6", "--negative", "blue", "--guidance", "4", "--clip-skip", "1"))
    assert about(records) == [
        (f"visiontk-out/{index:06d}-{prompt.rstrip('!').replace(' ', '-')}-{seed}.png", prompt, seed)
        for index, (prompt, seed) in enumerate((prompt, seed) for prompt in ("a red apple", "a green tree!") for seed in (1, 5, 6))
    ]
    for record in records:
        value = record["generate"]
        drawn = pixels(record["path"])
        assert drawn.shape == (SIDE, SIDE, 3) and drawn.std() > 5
        assert value["pixels"] == hashlib.sha256(drawn.tobytes()).hexdigest()
        wanted = {"model": str(pipeline), "negative": "blue", "steps": 2, "guidance": 4.0, "clip_skip": 1, "size": [SIDE, SIDE]}
        assert {key: value[key] for key in wanted} == wanted
        assert value["revision"].startswith("sha256:") and value["device"]["type"] == "cpu" and value["batch"] == 6
        assert set(value["versions"]) == {"visiontk", "torch", "diffusers", "transformers"}
        assert not {"init", "mask", "loras", "quantize", "strength", "cut", "previews"} & value.keys()
        assert json.loads(embedded.read(Path(record["path"]).read_bytes())) == value, "the file says the same"
    assert len({record["generate"]["pixels"] for record in records}) == 6


def test_the_same_seed_is_the_same_picture_whatever_is_beside_it(generate: Run) -> None:
    first = pixels(ok(generate("a red apple", "-n", "3", "--seed", "4", "-o", "a/"))[2]["path"]).astype(int)
    alone = pixels(ok(generate("a red apple", "--seed", "6", "-o", "b/"))[0]["path"]).astype(int)
    assert np.abs(first - alone).max() <= 2


def test_the_default_seed_is_that_of_the_settings(generate: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISIONTK_SEED", "40")
    assert [record["generate"]["seed"] for record in ok(generate("a car", "-n", "2"))] == [40, 41]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["", "-n", "2"], "the prompt 1 is empty"),
        (["a", "  "], "the prompt 2 is empty"),
        (["a", "--seed", "1,2", "-n", "2"], "2 seeds make 2 pictures"),
        (["a", "--seed", "x"], "no list of seeds"),
        (["a", "--size", "64"], "write WIDTHxHEIGHT"),
        (["a", "--size", "33x32"], "sides are multiples of 8, so use 32 x 32"),
        (["a", "--strength", "0.5"], "there is none"),
        (["a", "--guidance", "nan"], "finite"),
        (["a", "--scheduler", "nought"], "no scheduler 'nought'"),
        (["a", "--sweep", "scheduler=ddim,nought"], "no scheduler 'nought'"),
        (["a", "--clip-skip", "9"], "clip skip 9"),
        (["a", "--negative", "b", "--guidance", "1"], "ignores a negative prompt"),
        (["a", "--steps", "2", "--sweep", "steps=1,2"], "--steps and --sweep steps"),
        (["a", "-n", "2", "--sweep", "seed=1,2"], "--seed or -n and --sweep seed"),
        (["a", "--mask", "gone"], "there is no mask gone"),
        (["a", "-o", "a.tiff"], ".tiff is not written"),
        (["a", "-o", "{colour}.png"], "no field of a template"),
        (["a", "-n", "2", "-o", "-"], "room for one image, and 2 were asked for"),
        (["a", "-o", "-", "--preview", "1"], "--preview writes files"),
        (["a", "-", "--init", "x.png"], "leave out - or the others"),
        (["--prompts", "gone.txt"], "gone.txt cannot be read"),
        (["a", "--lora", "x:heavy"], "weight of the LoRA"),
        (["a", "--quantize", "int3"], "quantization 'int3' is unknown"),
        (["a", "--resume", "x.jsonl", "--format", "csv"], "--resume keeps JSON lines"),
    ],
)
def test_a_wrong_option_ends_the_run_before_any_picture(generate: Run, arguments: list[str], complaint: str) -> None:
    result = generate(*arguments)
    assert (result.code, result.stdout) == (2, b"")
    assert complaint in result.error
    assert not Path("visiontk-out").exists()


# --- files


def test_the_suffix_decides_and_templates_have_their_fields(generate: Run) -> None:
    records = ok(generate("a red apple", "-n", "2", "--seed", "8", "-o", "x/{model}-{prompt_slug}.{seed}-{index}.webp"))
    assert [record["path"] for record in records] == ["x/pipe-a-red-apple.8-000000.webp", "x/pipe-a-red-apple.9-000001.webp"]
    for record in records:
        assert hashlib.sha256(pixels(record["path"]).tobytes()).hexdigest() == record["generate"]["pixels"], "without loss"
        assert json.loads(embedded.read(Path(record["path"]).read_bytes())) == record["generate"]
    [jpeg, second] = ok(generate("a red apple", "-n", "2", "-o", "one.jpg"))
    assert (jpeg["path"], second["path"], Image.open("one.jpg").format) == ("one.jpg", "one-2.jpg", "JPEG")
    assert json.loads(embedded.read(Path("one.jpg").read_bytes())) == jpeg["generate"]
    assert [record["path"] for record in ok(generate("!?", "-o", "{prompt_slug}"))] == ["picture.png"]


def test_one_picture_on_the_output_and_nothing_said_with_no_metadata(generate: Run) -> None:
    result = generate("a red apple", "-o", "-")
    assert result.code == 0
    Path("out.png").write_bytes(result.stdout)
    assert pixels("out.png").shape == (SIDE, SIDE, 3)
    assert json.loads(embedded.read(result.stdout))["prompt"] == "a red apple"
    [record] = ok(generate("a red apple", "--no-metadata", "-o", "bare.png"))
    assert "pixels" in record["generate"]
    assert Image.open("bare.png").info == {}
    np.testing.assert_array_equal(pixels("bare.png"), pixels("out.png"))
    two = generate("-", "-o", "-", stdin=b"a\nb\n")
    assert two.code == 2 and "there are several images" in two.error and two.stdout == b""


def test_what_exists_is_left_alone_and_known_before_the_model_works(generate: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from visiontk.adapters.generate import Generator

    asked: list[int] = []
    whole = Generator.generate

    def counted(self: Any, requests: Any, on_step: Any = None) -> Any:
        asked.append(len(requests))
        return whole(self, requests, on_step)

    monkeypatch.setattr(Generator, "generate", counted)
    Path("o").mkdir()
    Path("o/000000-a-car-0.png").write_bytes(b"mine")
    result = generate("a car", "a tree", "-o", "o", "--format", "jsonl")
    assert result.code == 3 and asked == [1], "and the one that exists was not computed"
    failed, made = result.records
    assert error(failed) == ("exists", "o/000000-a-car-0.png exists; pass --overwrite, or choose another place with -o")
    assert failed | {"generate": 0} == {"prompt": "a car", "seed": 0, "steps": 2, "generate": 0}, "what was asked for"
    assert Path("o/000000-a-car-0.png").read_bytes() == b"mine" and made["path"] == "o/000001-a-tree-0.png"
    assert "1 of 2 images failed" in result.stderr
    assert ok(generate("a car", "-o", "o", "--overwrite"))[0]["path"] == "o/000000-a-car-0.png"
    assert pixels("o/000000-a-car-0.png").shape == (SIDE, SIDE, 3)


def test_previews_are_the_picture_on_its_way(generate: Run) -> None:
    [first, second] = ok(generate("a car", "-n", "2", "--steps", "5", "--scheduler", "ddim", "--preview", "2", "-o", "p/{seed}.jpg"))
    assert first["generate"]["previews"] == ["p/0-preview-0002.png", "p/0-preview-0004.png"]
    assert second["generate"]["previews"] == ["p/1-preview-0002.png", "p/1-preview-0004.png"]
    previews = [Path(path) for one in (first, second) for path in one["generate"]["previews"]]
    assert set(Path("p").iterdir()) == {Path("p/0.jpg"), Path("p/1.jpg"), *previews}
    end = pixels("p/0.jpg").astype(int)
    far, near = (np.abs(pixels(path).astype(int) - end).mean() for path in first["generate"]["previews"])
    assert far > near > 0 and "previews" not in json.loads(embedded.read(Path("p/0.jpg").read_bytes()))


def test_previews_that_would_come_after_the_end_are_a_warning(generate: Run) -> None:
    result = generate("a car", "-n", "3", "-b", "1", "--steps", "3", "--scheduler", "ddim", "--preview", "3")
    assert all("previews" not in record["generate"] for record in ok(result))
    assert result.stderr.count("--preview 3 is not before the last of 3 steps, so there is no preview; give less") == 1
    assert "--preview" not in generate("a car", "--steps", "3", "--scheduler", "ddim", "--preview", "2", "-o", "p/").stderr


def test_rows_of_values(generate: Run) -> None:
    Path("p.txt").write_text("a car\n{broken\n")
    result = generate("--prompts", "p.txt", "--format", "csv", "--guidance", "3", "-o", "x.png")
    heading, made, failed = result.stdout.decode().splitlines()
    assert result.code == 3
    assert heading == "path,prompt,negative,seed,steps,guidance,scheduler,width,height,seconds,error"
    assert re.fullmatch(r"x\.png,a car,,0,2,3\.0,pndm,32,32,\d+\.\d+,", made)
    assert failed.startswith(",{broken,,,,,,,,,") and "line 2 of p.txt: not a JSON line" in failed
    shown = generate("a car", "--seed", "7", "--format", "table", "-o", "y.png").stdout.decode()
    assert "y.png" in shown and "a car" in shown and "seed 7" in shown and " s\n" in shown


def test_a_prompt_that_is_too_long_is_shown_where_it_was_cut(generate: Run) -> None:
    long = "a red apple on the grass " * 5
    result = generate(long, "a car", "-n", "2")
    cut = {record["generate"].get("cut") for record in ok(result) if record["generate"]["prompt"] == long}
    [end] = cut
    assert end and long.rstrip().endswith(end) and all("cut" not in record["generate"] for record in result.records[2:])
    warned = [line for line in result.stderr.splitlines() if "too long" in line]
    assert len(warned) == 1 and end in warned[0], "once for the prompt, and not for each picture"
    negative = generate("a car", "-n", "2", "--negative", long, "-o", "n/").stderr.splitlines()
    warned = [line for line in negative if "the negative prompt" in line and "too long" in line]
    assert len(warned) == 1 and end in warned[0]
    failed = generate(long, "--init", "gone.png", "-o", "f/").stderr
    assert f'"{long[:39]}…" seed 0: the init image gone.png' in failed, "shortened, where it only says which picture it is"


# --- prompts from files and pipes


def test_a_file_of_prompts_with_options_of_their_own(generate: Run) -> None:
    lines = [
        "a red apple",
        '{"prompt": "a car", "seed": "3,9", "steps": 1, "guidance": 2}',
        '{"prompt": "a tree", "n": 2, "size": "40x32", "scheduler": "ddim"}',
        '{"prompt": "a tree", "stpes": 4}',
        '{"prompt": "a tree", "size": "41x32"}',
        "",
        '{"prompt": "the grass", "negative": "a car"}',
        "",
    ]
    Path("p.jsonl").write_text("\ufeff" + "\r\n".join(lines), encoding="utf-8")
    result = generate("--prompts", "p.jsonl", "-o", "o")
    assert result.code == 3
    values = [record["generate"] for record in result.records]
    shown = [(one["prompt"], one["seed"], one["steps"], one["guidance"], one["size"]) for one in values if "error" not in one]
    assert shown == [
        ("a red apple", 0, 2, 7.5, [32, 32]),
        ("a car", 3, 1, 2.0, [32, 32]),
        ("a car", 9, 1, 2.0, [32, 32]),
        ("a tree", 0, 2, 7.5, [40, 32]),
        ("a tree", 1, 2, 7.5, [40, 32]),
        ("the grass", 0, 2, 7.5, [32, 32]),
    ]
    failed = [record for record in result.records if "error" in record["generate"]]
    assert [record["input"] for record in failed] == [lines[3], lines[4], ""]
    assert error(failed[0])[1].startswith('line 4 of p.jsonl: "stpes" is no option')
    assert error(failed[1])[1].startswith("line 5 of p.jsonl: ") and "multiples of 8, so use 40 x 32" in error(failed[1])[1]
    assert error(failed[2])[1].startswith("line 6 of p.jsonl: the prompt is empty")
    assert [error(record)[0] for record in failed] == ["bad_record", "bad_prompt", "bad_record"]
    assert "3 of 9 images failed" in result.stderr


def test_prompts_through_the_pipe_and_records_pass_on(generate: Run) -> None:
    lines = [b"a car", json.dumps({"id": 7, "prompt": "a tree", "seed": 5, "note": "x"}).encode(), b'{"id": 8}', b"caf\xe9", b"a car"]
    result = generate(stdin=b"\n".join(lines) + b"\n\n")
    assert result.code == 3
    first, second, third, fourth, last = result.records
    assert first["path"] == "visiontk-out/000000-a-car-0.png"
    assert list(second) == ["path", "id", "prompt", "seed", "note", "generate"]
    assert (second["generate"]["seed"], second["id"], second["note"]) == (5, 7, "x")
    assert third["id"] == 8 and "line 3 of the pipe" in error(third)[1] and 'no "prompt"' in error(third)[1]
    assert fourth["input"] == "caf\udce9" and "not UTF-8" in error(fourth)[1]
    assert last["path"] == "visiontk-out/000002-a-car-0.png" and last["generate"]["pixels"] == first["generate"]["pixels"]


def test_a_failed_line_can_be_sent_through_again(generate: Run) -> None:
    Path("o").mkdir()
    Path("o/car.png").write_bytes(b"mine")
    asked = ("a car", "--seed", "6", "--guidance", "3", "--size", "40x32", "-o", "o/car.png")
    failed = generate(*asked)
    again = generate("--steps", "9", "-o", "o/two.png", stdin=failed.stdout)
    [record] = ok(again)
    value = record["generate"]
    assert [value[key] for key in ("prompt", "seed", "guidance", "size", "steps")] == ["a car", 6, 3.0, [40, 32], 2]


def test_results_that_are_there_are_not_lost(generate: Run) -> None:
    line = generate("a car").stdout
    again = generate("-", stdin=line.replace(b'{"path"', b'{"prompt": "a tree", "path"'))
    assert again.code == 2 and "--as" in again.error
    [record] = ok(generate("-", "--as", "second", stdin=line.replace(b'{"path"', b'{"prompt": "a tree", "path"')))
    assert record["generate"]["prompt"] == "a car" and record["second"]["prompt"] == "a tree"


# --- sweeps


def test_a_sweep_makes_the_product_and_a_sheet(generate: Run) -> None:
    result = generate("a car", "--sweep", "steps=1,2", "--sweep", "guidance=1,3,7.5", "-o", "s")
    records = ok(result)
    assert [(one["generate"]["steps"], one["generate"]["guidance"]) for one in records] == [
        (steps, guidance) for steps in (1, 2) for guidance in (1.0, 3.0, 7.5)
    ]
    assert "a contact sheet is in s/sheet.png" in result.stderr
    sheet = pixels("s/sheet.png")
    for record in records:  # five times as large, pixel by pixel
        large = np.kron(pixels(record["path"]), np.ones((5, 5, 1), np.uint8))
        assert found(sheet, large) is not None
    places = [found(sheet, np.kron(pixels(record["path"]), np.ones((5, 5, 1), np.uint8))) for record in records]
    rows, columns = zip(*places, strict=True)
    assert rows == (rows[0],) * 3 + (rows[3],) * 3 and rows[0] < rows[3], "steps go down"
    assert columns[:3] == columns[3:] and columns[0] < columns[1] < columns[2], "guidance goes across"
    again = generate("a car", "--sweep", "steps=1,2", "-o", "s/{seed}-{index}-x.png")
    assert "s/sheet-2.png" in again.stderr, "the first one is left alone"


def test_the_sheet_says_which_picture_is_which(generate: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from visiontk.media import value_sheet

    blocks: list[value_sheet.Block] = []
    draw = value_sheet.draw

    def noted(given: list[value_sheet.Block]) -> Image.Image:
        blocks.extend(given)
        return draw(given)

    monkeypatch.setattr(value_sheet, "draw", noted)
    Path("o").mkdir()
    Path("o/000003-a-car-0.png").write_bytes(b"mine")
    sweeps = ("--sweep", "steps=1,2", "--sweep", "clip-skip=0,1", "--sweep", "scheduler=ddim,euler")
    generate("a car", "a tree", *sweeps, "-o", "o/")
    assert [block.title for block in blocks] == ["a car", "a tree"]
    for block in blocks:
        assert block.columns == [("scheduler ddim",), ("scheduler euler",)]
        assert block.rows == [(f"steps {steps}", f"clip skip {skip}") for steps in (1, 2) for skip in (0, 1)]
    assert blocks[0].cells[1][1] == "failed"
    shown = [[cell if isinstance(cell, str) else np.asarray(cell).tolist() for cell in row] for row in blocks[1].cells]
    assert shown == [[pixels(f"o/{index:06d}-a-tree-0.png").tolist() for index in (8 + 2 * row, 9 + 2 * row)] for row in range(4)]
    blocks.clear()
    generate("a car", "-n", "2", "--sweep", "guidance=3,7.5", "--sweep", "size=32x32,40x32", "--steps", "1", "-o", "p/")
    [block] = blocks
    assert block.rows == [("guidance 3",), ("guidance 7.5",)]
    assert block.columns == [(f"size {size}", f"seed {seed}") for size in ("32x32", "40x32") for seed in (0, 1)]
    cells = [[Image.new("RGB", (SIDE, SIDE))]]
    bare, named = (value_sheet.Block("a car", [row], [column], cells) for row, column in (((), ()), (("steps 1",), ("guidance 3",))))
    plain, labelled = (np.asarray(draw([one])) for one in (bare, named))
    assert labelled.shape[0] > plain.shape[0] and (labelled < 100).all(-1).sum() > (plain < 100).all(-1).sum() + 50, "and they are drawn"


def found(sheet: Any, picture: Any) -> tuple[int, int] | None:
    """Top and left of a picture on the sheet."""
    height, width = picture.shape[:2]
    for top, left in np.argwhere((sheet[: -height + 1, : -width + 1] == picture[0, 0]).all(-1)):
        if np.array_equal(sheet[top : top + height, left : left + width], picture):
            return int(top), int(left)
    return None


# --- init images and masks


def test_an_init_image_gives_the_size_and_its_fingerprint(generate: Run) -> None:
    photo("photo.png", (40, 48))
    [record] = ok(generate("a car", "--init", "photo.png", "--strength", "0.6", "--steps", "4", "-o", "{stem}-car.png"))
    value = record["generate"]
    assert (record["path"], value["size"], value["strength"]) == ("photo-car.png", [40, 48], 0.6)
    assert value["init"] == {"path": "photo.png", "sha256": hashlib.sha256(pixels("photo.png").tobytes()).hexdigest()}


def test_alpha_is_over_white_and_a_broken_init_image_is_its_own_pictures_error(generate: Run) -> None:
    clear = Image.new("RGBA", (SIDE, SIDE), (200, 0, 0, 0))
    clear.save("clear.png")
    Path("broken.png").write_bytes(Path("clear.png").read_bytes()[:60])
    lines = [{"prompt": "a car", "init": name} for name in ("clear.png", "broken.png", "gone.png")]
    Path("p.jsonl").write_text("\n".join(map(json.dumps, lines)))
    result = generate("--prompts", "p.jsonl", "--strength", "0.5")
    first, second, third = result.records
    assert result.code == 3
    assert first["generate"]["init"]["sha256"] == hashlib.sha256(b"\xff" * SIDE * SIDE * 3).hexdigest()
    assert error(second)[0] == "broken" and "the init image broken.png" in error(second)[1]
    assert error(third) == ("missing", "the init image gone.png: there is no such file") and third["init"] == "gone.png"


def test_only_what_is_white_in_a_mask_is_painted_anew(generate: Run) -> None:
    photo()
    white = np.zeros((SIDE, SIDE), np.uint8)
    white[8:20, 4:30] = 255
    Image.fromarray(white).save("mask.png")
    [record] = ok(generate("a car", "--init", "photo.png", "--mask", "mask.png", "-o", "new.png"))
    changed = (pixels("new.png") != pixels("photo.png")).any(-1)
    assert not changed[white == 0].any() and changed[white == 255].mean() > 0.9
    assert record["generate"]["mask"] == {"path": "mask.png", "sha256": hashlib.sha256(white.tobytes()).hexdigest()}
    Image.new("L", (8, 8), 255).save("small.png")
    Image.new("L", (SIDE, SIDE)).save("black.png")
    for name, complaint in (("small.png", "must be of one size"), ("black.png", "shows nothing"), ("no.png", "the mask no.png")):
        result = generate("a car", "--init", "photo.png", "--mask", name)
        assert result.code == 3 and complaint in error(result.records[0])[1]
    alone = generate("a car", "--mask", "mask.png")
    assert alone.code == 2 and "no init image" in alone.error


def test_an_object_is_replaced_in_one_pipe(generate: Run, run: Run, trackers: list[Any]) -> None:
    ground = np.full((SIDE, SIDE, 3), 20, np.uint8)
    first, second = np.zeros((2, SIDE, SIDE), bool)
    first[4:12, 4:14], second[18:28, 16:30] = True, True
    ground[first], ground[second] = (220, 40, 40), (40, 60, 220)
    Image.fromarray(ground).save("photo.png")
    lines = run("segment", "photo.png", "-p", "point:8,8", "-p", "point:20,20#2").stdout
    for mask, wanted in (("segment", first | second), ("segment#2", second)):
        [record] = ok(generate("a car", "--init", "-", "--mask", mask, "-o", f"{mask[-1]}.png", stdin=lines))
        changed = (pixels(record["path"]) != ground).any(-1)
        assert not changed[~wanted].any() and changed[wanted].mean() > 0.9
        assert list(record) == ["path", "segment", "generate"], "what the earlier stage found is still there"
        value = record["generate"]
        assert (value["init"]["path"], value["mask"]["key"], value["mask"]["rle"]["size"]) == ("photo.png", mask, [SIDE, SIDE])
        assert value["mask"]["sha256"] == embedded.mask_sha256(wanted)
    result = generate("a car", "--init", "-", "--mask", "segment#9", stdin=lines + b"gone.png\n")
    assert [error(record)[1].split(";")[0] for record in result.records] == [
        "the record has no object segment#9",
        "the init image gone.png: there is no such file",
    ]
    assert result.records[0]["path"] == "photo.png", "the line goes on as it came"


def test_each_piped_picture_is_changed(generate: Run) -> None:
    photo("a.png")
    photo("b.png", (40, 32))
    piped = b'a.png\n{"path": "b.png", "prompt": "a tree", "seed": 3, "n": 2, "time": 1.5}\n{"note": "no path"}\n'
    result = generate("a car", "--init", "-", "-o", "o/{stem}-{prompt_slug}-{seed}.png", stdin=piped)
    records = ok(result)
    assert [record.get("path") for record in records] == ["o/a-a-car-0.png", "o/b-a-tree-3.png", "o/b-a-tree-4.png", None]
    assert records[1]["generate"]["init"] | {"sha256": 0} == {"path": "b.png", "time": 1.5, "sha256": 0}
    assert "time" not in records[1], "a new picture is no moment of the old video"
    assert records[3] == {"note": "no path"}
    nothing = generate("--init", "-", stdin=b"a.png\n")
    assert nothing.code == 3 and 'no "prompt"' in error(nothing.records[0])[1]


# --- the model


def test_a_lora_is_in_the_line_with_its_weight(generate: Run, pipeline: Path, tmp_path: Path) -> None:
    from tests.generate_models import make_lora

    plain = ok(generate("a car"))[0]["generate"]
    file = make_lora(tmp_path / "style", pipeline)
    value = ok(generate("a car", "--lora", f"{file}:0.5", "-o", "l.png"))[0]["generate"]
    assert value["loras"] == [{"id": str(file), "weight": 0.5, "revision": value["loras"][0]["revision"]}]
    assert value["pixels"] != plain["pixels"]


def test_a_line_may_name_its_own_loras(generate: Run, pipeline: Path, tmp_path: Path) -> None:
    from tests.generate_models import make_lora

    style = str(make_lora(tmp_path / "style", pipeline))
    wide = str(make_lora(tmp_path / "wide", pipeline, width=64))
    lines = [{"prompt": "a car"}, {"prompt": "a car", "lora": []}, {"prompt": "a car", "lora": [f"{style}:0.25"]}]
    lines += [{"prompt": "a car", "lora": wide}, {"prompt": "a car", "lora": "gone.safetensors"}, {"prompt": "a car", "lora": 3}]
    Path("p.jsonl").write_text("\n".join(map(json.dumps, lines)))
    result = generate("--prompts", "p.jsonl", "--lora", style, "-b", "1", "-o", "o/")
    assert result.code == 3
    records = result.records
    weights = [[lora["weight"] for lora in record["generate"].get("loras", [])] for record in records[:3]]
    assert weights == [[1.0], [], [0.25]]
    assert len({record["generate"]["pixels"] for record in records[:3]}) == 3
    assert records[0]["generate"]["versions"].keys() - records[1]["generate"]["versions"].keys() == {"peft"}
    assert [error(record)[0] for record in records[3:]] == ["bad_prompt", "bad_prompt", "bad_record"]
    assert "does not fit" in error(records[3])[1] and "there is no LoRA gone.safetensors" in error(records[4])[1]
    assert records[3]["lora"] == [wide], "the line asks for the same again"
    assert 'line 6 of p.jsonl: "lora" is 3; write "ID:WEIGHT"' in error(records[5])[1]

    Path("r.jsonl").write_bytes(result.stdout)
    again = generate("--prompts", "p.jsonl", "--lora", style, "-b", "1", "-o", "o/", "--resume", "r.jsonl")
    assert len(again.records) == 0 and len(Path("r.jsonl").read_text().splitlines()) == 6, "a stopped run knows them by their LoRAs"


def test_the_weight_of_a_lora_is_swept(generate: Run, pipeline: Path, tmp_path: Path) -> None:
    from tests.generate_models import make_lora

    style = str(make_lora(tmp_path / "style", pipeline))
    result = generate("a car", "--sweep", f"lora=none,{style}:0.5,{style}:2", "--sweep", "steps=1,2", "-o", "o/")
    records = ok(result)
    assert [(len(record["generate"].get("loras", [])), record["generate"]["steps"]) for record in records] == [
        (0, 1),
        (0, 2),
        (1, 1),
        (1, 2),
        (1, 1),
        (1, 2),
    ]
    assert [record["generate"]["loras"][0]["weight"] for record in records[2:]] == [0.5, 0.5, 2.0, 2.0]
    assert len({record["generate"]["pixels"] for record in records}) == 6 and Path("o/sheet.png").exists()
    twice = generate("a car", "--lora", style, "--sweep", "lora=none,x")
    assert twice.code == 2 and "--lora and --sweep lora both say which" in twice.error
    early = generate("a car", "--sweep", "lora=none,gone.safetensors")
    assert early.code == 4 and "there is no LoRA gone.safetensors" in early.error and early.stdout == b""


def test_loading_otherwise_is_in_the_line_and_is_made_again(generate: Run, run: Run) -> None:
    pytest.importorskip("torchao")
    plain = ok(generate("a car", "-o", "p.png"))[0]["generate"]
    value = ok(generate("a car", "--quantize", "int8", "-o", "q.png"))[0]["generate"]
    assert value["quantize"] == "int8" and value["pixels"] != plain["pixels"]
    assert value["versions"].keys() - plain["versions"].keys() == {"torchao"}
    assert run("replay", "q.png").code == 0


def test_compiling_without_a_compiler_is_one_line(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._dynamo.exc import BackendCompilerFailed

    from visiontk.adapters import generate_speed

    def broken(pipeline: Any) -> None:
        def fail(*_: Any, **__: Any) -> None:
            raise BackendCompilerFailed(fail, RuntimeError("no g++"), None)

        generate_speed.denoiser(pipeline).forward = fail

    monkeypatch.setattr(generate_speed, "compile_denoiser", broken)
    result = run("generate", "a car", "-m", make_pipeline(tmp_path / "other"), "--steps", "1", "--compile")
    assert result.code == 5 and "torch.compile failed" in result.error and "leave out --compile" in result.error


def test_compiled_pictures_say_so(generate: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    graphs: list[Any] = []

    def keep(graph: Any, _: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=keep))  # generating code takes most of a minute
    plain = ok(generate("a car", "-o", "p.png"))[0]["generate"]
    value = ok(generate("a car", "--compile", "-o", "c.png"))[0]["generate"]
    assert value["compile"] is True and "compile" not in plain and graphs
    assert np.abs(pixels("c.png").astype(int) - pixels("p.png")).max() <= 1


def test_what_does_not_fit_the_model_ends_with_the_exit_code_of_models(generate: Run, pipeline: Path, tmp_path: Path) -> None:
    from tests.generate_models import make_lora

    variant = generate("a car", "--variant", "fp16")
    assert variant.code == 4 and "has no variant fp16; it has none, so leave the variant out" in variant.error
    other = generate("a car", "--lora", make_lora(tmp_path / "other", pipeline, prefix="transformer"))
    assert other.code == 4 and "trained for its architecture" in other.error
    assert variant.stdout == other.stdout == b""
    safe = generate("a car", "--no-safety")
    assert safe.code == 2 and "has no safety checker of its own to leave out" in safe.error


def test_a_picture_that_the_safety_checker_blocks_is_an_error_and_no_black_one(run: Run, tmp_path: Path) -> None:
    from tests.generate_models import make_pipeline

    folder = make_pipeline(tmp_path / "safe", blocks=True)
    result = run("generate", "a car", "-m", folder, "--steps", "1")
    assert result.code == 3 and error(result.records[0])[0] == "blocked" and not Path("visiontk-out").exists()
    assert result.records[0]["prompt"] == "a car"
    assert run("generate", "a car", "-m", folder, "--steps", "1", "--no-safety").code == 0


def test_memory_that_runs_out_halves_the_batch(generate: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from visiontk.adapters.generate import Generator
    from visiontk.errors import OutOfMemory

    whole = Generator.generate
    sizes: list[int] = []

    def small(self: Any, requests: Any, on_step: Any = None) -> Any:
        sizes.append(len(requests))
        if len(requests) > 2:
            raise OutOfMemory("the device is out of memory")
        return whole(self, requests, on_step)

    monkeypatch.setattr(Generator, "generate", small)
    result = generate("a car", "-n", "5", "-b", "4", "--steps", "1")
    assert [record["generate"]["seed"] for record in ok(result)] == [0, 1, 2, 3, 4] and sizes == [4, 2, 2, 1]
    assert "start with --batch-size 2" in result.stderr


def test_exit_codes_of_model_and_device(run: Run, generate: Run) -> None:
    missing = run("generate", "a car", "-m", "./gone")
    assert missing.code == 4 and "gone" in missing.error
    offload = generate("a car", "--offload", "model", "--device", "cpu")
    assert offload.code == 5 and "GPU" in offload.error


def test_verbose_says_what_the_model_can(generate: Run) -> None:
    said = generate("a car", "-v", "--steps", "1").stderr
    assert "image2image, inpaint, text2image" in said and "schedulers: ddim" in said
    assert re.search(r"1 image in \d+\.\d s, \d+\.\d a second", said), said


def test_a_picture_too_large_for_memory_fails_alone_where_the_size_is_its_own(generate: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from visiontk.adapters.generate import Generator
    from visiontk.errors import OutOfMemory

    whole = Generator.generate

    def small(self: Any, requests: Sequence[Any], on_step: Any = None) -> Any:
        if any(max(request.size or (0, 0)) > 64 for request in requests):
            raise OutOfMemory("the device is out of memory")
        return whole(self, requests, on_step)

    monkeypatch.setattr(Generator, "generate", small)
    lines = "".join(json.dumps({"prompt": "a car", **more}) + "\n" for more in ({}, {"size": "96x96"}, {"seed": 1}))
    result = generate("-b", "4", stdin=lines.encode())
    assert result.code == 3
    assert [record["generate"].get("seed") for record in result.records] == [0, None, 1]
    assert error(result.records[1]) == (
        "too_large",
        "it does not fit into memory (the device is out of memory); ask for a smaller size, or choose another --device",
    )
    assert generate("a car", "--size", "96x96", "-o", "other/").code == 5


@pytest.mark.parametrize("options", [["--mask", "mask.png"], ["--sweep", "strength=0.5,1"]])
def test_lines_bring_the_init_image_that_options_ask_for(generate: Run, options: list[str]) -> None:
    Image.new("L", (SIDE, SIDE), 255).save("mask.png")
    line = json.dumps({"prompt": "a lion", "init": photo()}).encode() + b"\n"
    piped = ok(generate(*options, stdin=line))
    assert len(piped) == (2 if "strength" in options[1] else 1)
    without = generate(*options, "-o", "other/", stdin=line + b'{"prompt": "a tree"}\n')
    assert without.code == 3
    assert [("error" in record["generate"]) for record in without.records] == [False] * len(piped) + [True] * len(piped)


def test_a_second_stage_changes_what_came_out_of_the_first(generate: Run) -> None:
    first = generate("-o", "one/", stdin=json.dumps({"prompt": "a car", "init": photo(), "n": 2}).encode())
    second = ok(generate("a green tree", "--init", "-", "--as", "second", "-o", "two/", stdin=first.stdout))
    assert [record["second"]["init"]["path"] for record in second] == [record["path"] for record in first.records]
    assert [record["seed"] for record in ok(generate("-o", "three/", stdin=b'{"prompt": "a car", "seed": "3,5"}\n'))] == [3, 5]


def test_previews_of_a_blocked_picture_do_not_stay(run: Run, tmp_path: Path) -> None:
    folder = make_pipeline(tmp_path / "safe", blocks=True)
    result = run("generate", "a car", "-m", folder, "--steps", "2", "--preview", "1", "-o", "o/")
    assert (result.code, result.records[0]["generate"]["error"]["kind"]) == (3, "blocked")
    assert not list(Path("o").glob("*"))


def test_previews_overwrite_no_others(generate: Run) -> None:
    one = ok(generate("a car", "--preview", "1", "-o", "pv/a.png"))[0]["generate"]["previews"]
    before = Path(one[0]).read_bytes()
    assert ok(generate("a tree", "--preview", "1", "-o", "pv/a.webp"))[0]["generate"]["previews"][0] == "pv/a-preview-0001-2.png"
    assert Path(one[0]).read_bytes() == before
    ok(generate("grass", "--preview", "1", "-o", "pv/a.webp", "--overwrite"))
    assert not [path.name for path in Path("pv").iterdir() if "-3" in path.name]


@pytest.mark.parametrize("template", ["x" * 300 + ".png", "{stem.foo}.png", "{seed[a]}.png", "{index:06d}.png"])
def test_names_that_no_file_can_have_are_one_line(generate: Run, template: str) -> None:
    result = generate("a car", "-o", template)
    assert result.code == (6 if "x" in template[:2] else 2) and result.stdout == b""
    assert "this is a bug" not in result.stderr and "visiontk: error: " in result.stderr


def test_a_long_prompt_and_a_long_stem_make_a_name_that_fits(generate: Run) -> None:
    name = photo("b" * 200 + ".png")
    record = ok(generate("一只" * 19 + " cat", "--init", name, "-o", "{stem}-{prompt_slug}-{seed}.png"))[0]
    assert len(os.fsencode(record["path"])) <= 255 and Path(record["path"]).is_file()


def test_a_mark_of_utf8_before_piped_prompts_is_none_of_their_words(generate: Run) -> None:
    [record] = ok(generate(stdin=b'\xef\xbb\xbf{"prompt": "a red apple", "seed": 7}\n'))
    assert (record["generate"]["prompt"], record["generate"]["seed"]) == ("a red apple", 7)


def test_numbers_beyond_all_measure_are_refused(generate: Run) -> None:
    assert generate("a car", "-n", "9" * 20).code == 2
    lines = b'{"prompt": "a car"}\n{"prompt": "a car", "guidance": 1' + b"0" * 400 + b"}\n"
    result = generate(stdin=lines)
    assert (result.code, error(result.records[1])[0]) == (3, "bad_record")
    assert "larger than any number" in error(result.records[1])[1]


def test_the_sheet_keeps_no_pixels_and_is_quiet_where_asked(generate: Run) -> None:
    result = generate("a car", "--init", photo(), "--sweep", "steps=2,3", "-q", "-o", "q/")
    assert (result.code, result.stderr) == (0, "") and Path("q/sheet.png").is_file()
