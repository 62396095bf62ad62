"""`visiontk replay`: the same picture again, byte for byte, or what differs; and nothing else from what anyone may have written."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import numpy as np
import pytest
from PIL import Image

from visiontk.media import embedded
from visiontk.records import schema

if TYPE_CHECKING:
    from tests.conftest import Record, Result, Run

SIDE = 32
pytestmark = pytest.mark.usefixtures("generators_loaded_once")


@pytest.fixture
def made(run: Run, pipeline: Path) -> Callable[..., list[Record]]:
    """Lines of pictures that were made just now."""

    def call(*arguments: str, stdin: bytes | None = None) -> list[Record]:
        result = run("generate", "-m", pipeline, "--steps", "2", *arguments, stdin=stdin)
        assert result.code == 0, result.stderr
        return result.records

    return call


@pytest.fixture
def replay(run: Run) -> Run:
    """With each line held against the schema."""

    def call(*arguments: str | os.PathLike[str], stdin: bytes | None = None, stdout: Path | None = None) -> Result:
        result = run("replay", *arguments, stdin=stdin, stdout=stdout)
        if result.stdout.startswith(b"{"):
            for record in result.records:
                jsonschema.validate(record, schema())
        return result

    return call


def photo(path: str, shift: int = 0) -> str:
    pixels = np.random.default_rng(1).integers(0, 200, (SIDE, SIDE, 3)) + shift
    Image.fromarray(pixels.astype(np.uint8)).save(path)
    return path


def differences(result: Result) -> str:
    [record] = result.records
    assert result.code == 3 and record["replay"]["same"] is False
    return "; ".join(record["replay"]["differences"])


def edited(path: str, **changes: Any) -> str:
    """A copy of a PNG that says other things of itself."""
    value = json.loads(embedded.read(Path(path).read_bytes())) | changes
    with Image.open(path) as image:
        Path("edited.png").write_bytes(embedded.encode(image.convert("RGB"), ".png", json.dumps(value)))
    return "edited.png"


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
def test_a_picture_of_a_batch_comes_out_byte_for_byte(made: Any, replay: Run, suffix: str) -> None:
    records = made("a red apple", "a car", "-n", "2", "--negative", "a tree", "--scheduler", "ddim", "-o", f"o/{{index}}{suffix}")
    name = records[3]["path"]
    result = replay(name)
    assert result.code == 0, result.stderr
    new = f"visiontk-out/000003-replay{suffix}"
    assert [record | {"replay": 0} for record in result.records] == [{"path": new, "replay": 0}]
    assert result.records[0]["replay"] | {"seconds": 0} == {"of": name, "same": True, "seconds": 0}
    assert Path(new).read_bytes() == Path(name).read_bytes()
    assert result.stderr == ""


def test_it_needs_no_original_and_makes_the_bytes_by_itself(made: Any, replay: Run, pipeline: Path) -> None:
    [record] = made("a red apple", "--clip-skip", "1", "--preview", "1", "-o", "x.png")
    before = Path("x.png").read_bytes()
    Path("x.png").unlink()
    Path("lines.jsonl").write_text(json.dumps(record | {"note": 5}) + "\n\n")
    for number, (argument, stdin) in enumerate((("lines.jsonl", None), ("-", json.dumps(record).encode()), (json.dumps(record), None))):
        result = replay(argument, "-o", f"{number}.png", stdin=stdin)
        assert result.code == 0, result.stderr
        assert Path(f"{number}.png").read_bytes() == before
        assert result.records[0]["generate"] == record["generate"], "what is known already passes on"
    assert replay(json.dumps(record), "-o", "-").stdout == before
    second = json.dumps({"path": "y.png", "second": record["generate"]})
    assert replay(second).code == 0, "under whatever key it stands"


def test_init_mask_and_lora_are_read_back(made: Any, replay: Run, pipeline: Path, tmp_path: Path) -> None:
    from tests.generate_models import make_lora

    lora = make_lora(tmp_path / "style", pipeline)
    photo("photo.png")
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[4:20, 6:28] = 255
    Image.fromarray(mask).save("mask.png")
    made("a car", "--init", "photo.png", "--mask", "mask.png", "--strength", "0.9", "--lora", f"{lora}:0.5", "-o", "o/x.png")
    assert replay("o/x.png").code == 0
    Path("o/photo.png").write_bytes(Path("photo.png").read_bytes())
    Path("photo.png").unlink()
    assert replay("o/x.png", "-o", "y.png").code == 0, "a file beside the picture will do"
    Path("o/photo.png").unlink()
    gone = replay("o/x.png", "--overwrite")
    assert differences(gone) == "the init image photo.png is missing" and gone.records[0]["path"] == "o/x.png"
    assert "o/x.png is not made again: the init image photo.png is missing" in gone.stderr
    photo("photo.png", shift=3)
    assert differences(replay("o/x.png", "--overwrite")) == "the init image photo.png has other pixels than it had"
    photo("photo.png")
    Image.fromarray(255 - mask).save("mask.png")
    assert differences(replay("o/x.png", "--overwrite")) == "the mask mask.png has other pixels than it had"


def test_a_mask_of_a_record_is_in_the_picture(made: Any, replay: Run) -> None:
    from visiontk.media.masks import encode_rle

    mask = np.zeros((SIDE, SIDE), bool)
    mask[4:20, 6:28] = True
    record = {"path": photo("photo.png"), "segment": {"objects": [{"id": 1, "rle": encode_rle(mask)}]}}
    made("a car", "--init", "-", "--mask", "segment", "-o", "x.png", stdin=json.dumps(record).encode())
    assert replay("x.png").code == 0


def test_what_differs_is_said(made: Any, replay: Run) -> None:
    made("a red apple", "-o", "x.png")
    value = json.loads(embedded.read(Path("x.png").read_bytes()))
    other = edited(
        "x.png", seed=1, versions={**value["versions"], "torch": "1.0"}, device={"type": "cpu", "name": "abacus"}, revision="sha256:0"
    )
    result = replay(other)
    said = differences(result)
    assert f"revision sha256:0, now {value['revision']}" in said
    assert f"torch 1.0, now {value['versions']['torch']}" in said
    assert f"device abacus, now {value['device']['name']}" in said and "diffusers" not in said
    assert "is of revision" in result.stderr, "and while it is loaded"
    assert result.records[0]["path"] == "visiontk-out/edited-replay.png"
    with Image.open("visiontk-out/edited-replay.png") as now, Image.open("x.png") as before:
        change = np.abs(np.asarray(now).astype(int) - np.asarray(before)).max(-1)
    assert result.records[0]["replay"]["changed"] == {"pixels": int((change > 0).sum()), "of": SIDE * SIDE, "most": int(change.max())}
    assert json.loads(embedded.read(Path("visiontk-out/edited-replay.png").read_bytes()))["versions"] == value["versions"]
    assert "arithmetic of the device" in differences(replay(edited("x.png", seed=1), "--overwrite"))


def test_a_picture_that_was_painted_over_is_not_the_same(made: Any, replay: Run) -> None:
    made("a red apple", "-o", "x.png")
    text = embedded.read(Path("x.png").read_bytes())
    with Image.open("x.png") as image:
        image.putpixel((3, 4), (255, 0, 255))
        Path("x.png").write_bytes(embedded.encode(image, ".png", text))
    result = replay("x.png")
    assert differences(result) == "the file's pixels were changed after it was made"
    assert result.records[0]["replay"]["changed"]["pixels"] == 1
    assert "1 of 1 images were not made again as they were" in result.stderr


def test_a_model_that_moved_is_named(made: Any, replay: Run, pipeline: Path) -> None:
    made("a red apple", "-o", "x.png")
    moved = edited("x.png", model="./elsewhere")
    refused = replay(moved)
    assert refused.code == 3 and "--model" in refused.records[0]["replay"]["error"]["message"]
    assert replay(moved, "-m", pipeline).code == 0


def test_no_options_but_those_that_it_was_made_with(made: Any, replay: Run) -> None:
    made("a red apple", "-o", "x.png")
    assert "dtype fp32, now bf16" in differences(replay("x.png", "--dtype", "bf16"))
    exists = replay("x.png", "-o", "x.png")
    assert exists.code == 3 and exists.records[0]["replay"]["error"]["kind"] == "exists"


def test_rows_and_the_view(made: Any, replay: Run) -> None:
    made("a red apple", "-o", "x.png")
    rows = replay("x.png", "gone.png", "--format", "tsv", "-o", "y/").stdout.decode().splitlines()
    assert rows == ["path\tof\tsame\tdifferences\terror", "y/x-replay.png\tx.png\tTrue\t\t", "gone.png\t\t\t\tthere is no such file"]
    assert "the same as x.png" in replay("x.png", "--format", "table", "-o", "z/").stdout.decode()


def test_what_says_nothing_is_an_error_of_its_own(made: Any, replay: Run) -> None:
    made("a red apple", "--no-metadata", "-o", "bare.png")
    Path("text.png").write_text("no picture")
    result = replay("bare.png", "text.png", "gone.png", '{"path": "a.png"}', '{"generate": {"error": {"kind": "exists", "message": "x"}}}')
    assert result.code == 3
    assert [record["replay"]["error"]["kind"] for record in result.records] == [
        "no_parameters",
        "not_an_image",
        "missing",
        "bad_record",
        "bad_record",
    ]


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": "1"},
        {"seed": -1},
        {"steps": 10**12},
        {"steps": None},
        {"size": "x"},
        {"size": [32]},
        {"prompt": ["a"]},
        {"prompt": ""},
        {"guidance": "high"},
        {"batch": 10**6},
        {"batch": True},
        {"pixels": "../x"},
        {"dtype": ["fp32"]},
        {"device": "cpu"},
        {"device": {"type": "tpu"}},
        {"threads": 10**6},
        {"versions": 3},
        {"model": 5},
        {"model": "https://example.org/model"},
        {"model": "no/such/place"},
        {"loras": {"id": "x"}},
        {"loras": [{"id": 5}]},
        {"loras": [{"id": "x", "weight": "y"}]},
        {"quantize": 5},
        {"init": "photo.png"},
        {"init": {"path": 5, "sha256": "0" * 64}},
        {"init": {"path": "x", "sha256": "0" * 64, "frame": "1"}},
        {"mask": {"path": "x", "sha256": "0" * 64}},
        {"init": {"path": "x", "sha256": "0" * 64}, "mask": {"sha256": "0" * 64}},
    ],
)
def test_what_is_written_by_anyone_is_not_believed(run: Run, changes: Record) -> None:
    value = {"model": "tiny-diffusion", "revision": "0", "prompt": "a", "seed": 0, "steps": 1, "scheduler": "ddim", "size": [32, 32]}
    value |= {"batch": 1, "pixels": "0" * 64, "dtype": "fp32", "device": {"type": "cpu", "name": ""}, "versions": {}, "seconds": 0}
    result = run("replay", json.dumps({"path": "a.png", "generate": value | changes}))
    assert result.code == 3
    assert result.records[0]["replay"]["error"]["kind"] == "bad_record", result.records


def test_devices_and_pipes_are_not_read(replay: Run, made: Any) -> None:
    made("a red apple", "-o", "x.png")
    os.mkfifo("pipe.png")
    for name in ("pipe.png", "/dev/zero", "-", "http://localhost/x.png"):
        other = edited("x.png", init={"path": name, "sha256": "0" * 64}, strength=0.5)
        assert "the init image" in differences(replay(other))


def test_of_a_chain_the_last_stage_made_the_picture(made: Any, run: Run, replay: Run, pipeline: Path) -> None:
    first = made("a red apple", "-o", "o/a.png")
    second = run(
        "generate", "a green pear", "--init", "-", "--as", "second", "-m", pipeline, "--steps", "2", "-o", "o/b.png",
        stdin=json.dumps(first[0]).encode(),
    )  # fmt: skip
    assert second.records[0]["generate"]["prompt"] == "a red apple"
    result = replay("-", stdin=second.stdout)
    assert (result.code, result.records[0]["replay"]["same"]) == (0, True)


def test_what_was_put_aside_for_a_gpu_is_made_without_one(made: Any, replay: Run) -> None:
    [line] = made("a car", "-o", "a.png")
    line["generate"]["offload"] = "model"
    Path("a.png").unlink()
    result = replay("-", stdin=json.dumps(line).encode())
    assert (result.code, result.records[0]["replay"]["same"]) == (0, True)
