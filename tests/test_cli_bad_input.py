"""Bad input: each has its own line or error, the others are unharmed, and no answer stands under another file's name."""

from __future__ import annotations

import io
import json
import os
import pickle
import random
import shutil
import struct
import subprocess
import sys
import threading
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

if TYPE_CHECKING:
    from tests.conftest import DiskOf, Record, Run, TinyModel

FULL = Path("/dev/full")


def solid(name: str | bytes, colour: tuple[int, int, int], size: tuple[int, int] = (40, 30)) -> str:
    """A picture of one colour; returns its name as Python has it."""
    with open(name, "wb") as file:  # noqa: PTH123  names may be bytes
        Image.new("RGB", size, colour).save(file, "PNG")
    return os.fsdecode(name)


def bomb() -> bytes:
    """A PNG of a few bytes that says it is 60000 x 60000."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


def bad_files(photos: Path) -> dict[str, str]:
    """Names of inputs that cannot be classified, made in the current folder, and the kind of each one's error."""
    jpeg, png = (photos / "coffee.jpg").read_bytes(), (photos / "camera.png").read_bytes()
    contents = {
        "truncated.jpg": (jpeg[: len(jpeg) // 2], "broken"),
        "truncated.png": (png[:5000], "broken"),
        "empty.png": (b"", "broken"),
        "text.jpg": (b"I am a letter, not a picture.\n", "not_an_image"),
        "bomb.png": (bomb(), "too_large"),
        "noise.mp4": (random.Random(1).randbytes(5000), "broken"),
        os.fsdecode(b"bad \xff\xfe.jpg"): (jpeg[:100], "broken"),
    }
    for name, (data, _) in contents.items():
        Path(name).write_bytes(data)
    Path("hollow/deep").mkdir(parents=True)
    Path("hollow/notes.txt").write_text("nothing to see")
    return {name: kind for name, (_, kind) in contents.items()} | {
        "hollow": "no_images",
        "nowhere.png": "missing",
        "nowhere.mp4": "missing",
        "n" * 5000: "unreadable",
        "https://127.0.0.1/x.png": "refused",
    }


def good_files() -> dict[str, tuple[int, int, int]]:
    """Pictures of one colour each, under every kind of name and of shape, and their colours."""
    palette = [(r, g, b) for r in (0, 120, 255) for g in (10, 250) for b in (0, 130, 240)]
    names: list[str | bytes] = ['a "quoted" name.png', "a\nnew line.png", "emoji 🎈.png", b"not \xffUTF\xc3-8.png", "tab\there.png"]
    names += [" spaces .png", "-dash.png", "{brace}.png", "%s$(x)`y`.png", "back\\slash.png", "no suffix"]
    files = {solid(name, colour): colour for name, colour in zip(names, palette, strict=False)}
    shapes = {"one.png": (1, 1), "tall.png": (1, 20000), "wide.png": (20000, 1)}
    rest = zip(shapes.items(), palette[len(names) :], strict=False)
    return files | {solid(name, colour, shape): colour for (name, shape), colour in rest}


@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_no_answer_stands_under_the_wrong_name(classify: Run, tiny_model: TinyModel, photos: Path, batch_size: int) -> None:
    bad, good = bad_files(photos), good_files()
    wanted = dict(zip(good, tiny_model.logits(*(Image.new("RGB", (64, 64), colour) for colour in good.values())), strict=True))
    rows = np.stack(list(wanted.values()))
    apart = np.abs(rows[:, None] - rows[None]).max(-1) + 9 * np.eye(len(rows))
    assert apart.min() > 0.02, "the pictures must be told apart by their answers"

    names = [*bad, *good, *good]
    random.Random(batch_size).shuffle(names)
    result = classify("--logits", "-0", "--batch-size", str(batch_size), stdin=b"\0".join(os.fsencode(name) for name in names))
    assert result.code == 3
    assert [record["path"] for record in result.records] == names
    for record in result.records:
        if record["path"] in bad:
            assert record["classify"].keys() == {"error"}
            assert record["classify"]["error"]["kind"] == bad[record["path"]], record
            assert "\n" not in record["classify"]["error"]["message"]
        else:
            np.testing.assert_allclose(record["classify"]["logits"], wanted[record["path"]], atol=2e-3, err_msg=record["path"])
    warnings = result.stderr.splitlines()
    assert all(line.startswith("visiontk: warning: ") for line in warnings)
    assert warnings[-1] == f"visiontk: warning: {len(bad)} of {len(names)} images failed; their lines say why"
    assert len(warnings) == 11, "the first ten failures, and the sum"


def test_names_of_any_bytes_go_through_two_stages(classify: Run, photos: Path) -> None:
    names = list(good_files())
    first = classify(*[f"./{name}" for name in names])
    assert first.code == 0
    first.stdout.decode("utf-8")  # a line is UTF-8 whatever the name
    second = classify("--as", "again", stdin=first.stdout)
    assert [record["path"] for record in second.records] == [f"./{name}" for name in names]
    for record in second.records:
        assert record["again"]["labels"] == record["classify"]["labels"]
    assert os.fsencode(second.records[3]["path"]) == b"./not \xffUTF\xc3-8.png"


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_a_fifo_that_closes_early(classify: Run, photos: Path, suffix: str) -> None:
    data = (photos / "coffee.jpg").read_bytes()
    os.mkfifo(f"pipe.{suffix}")

    def write() -> None:
        with Path(f"pipe.{suffix}").open("wb") as pipe:
            pipe.write(data[:9000])

    writer = threading.Thread(target=write)
    writer.start()
    solid("a.png", (1, 2, 3))
    result = classify("a.png", f"pipe.{suffix}", "a.png")
    writer.join()
    one, fifo, two = result.records
    assert result.code == 3
    assert fifo["classify"]["error"]["kind"] == "broken"
    assert one["classify"]["labels"] == two["classify"]["labels"]


def test_half_an_image_in_the_pipe(classify: Run, photos: Path) -> None:
    (record,) = classify(stdin=(photos / "coffee.jpg").read_bytes()[:9000]).records
    assert record == {"path": "-", "classify": {"error": record["classify"]["error"]}}
    assert record["classify"]["error"]["kind"] == "broken"


def test_a_folder_with_bad_files_in_it(classify: Run, photos: Path) -> None:
    Path("in").mkdir()
    os.chdir("in")
    bad_files(photos)
    solid("z.png", (9, 9, 9))
    Path("gone.jpg").symlink_to("nowhere")
    Path("loop").symlink_to(".")
    os.chdir("..")
    result = classify("in")
    answered = {record["path"]: "labels" in record["classify"] for record in result.records}
    assert answered.pop("in/z.png") is True
    assert set(answered.values()) == {False}
    assert {"in/gone.jpg", "in/bomb.png", "in/text.jpg"} < set(answered)
    assert not any("loop" in path for path in answered)


# Outputs that cannot be written


def test_a_full_disk_under_the_lines(classify: Run, disk_of: DiskOf) -> None:
    names = [solid(f"{number}.png", (number * 20, 0, 0)) for number in range(8)]
    for arguments, where in ((["--resume", "/dev/full"], None), ([], FULL), (["--format", "csv"], FULL), (["--format", "table"], FULL)):
        result = classify(*names, *arguments, stdout=where)
        assert result.code == 6, arguments
        assert "No space left" in result.error
        assert result.stderr.count("\n") == 1

    with disk_of(1200):
        result = classify(*names, "--resume", "out.jsonl")
    assert result.code == 6 and "--resume" in result.error
    held = Path("out.jsonl").read_bytes()
    assert 0 < len(held) < 1200 and held.endswith(b"\n"), "the half line was taken back"
    assert classify(*names, "--resume", "out.jsonl").code == 0
    lines = Path("out.jsonl").read_bytes()
    assert lines.startswith(held)
    assert [json.loads(line)["path"] for line in lines.splitlines()] == names


@pytest.mark.parametrize("place", ["file/under", "/proc/nothing", "/dev/full"])
def test_artefacts_in_a_place_that_cannot_be_written(classify: Run, place: str) -> None:
    Path("file").write_text("not a folder")
    name = solid("a.png", (1, 2, 3))
    for arguments in (["--attention", "-o", place], ["--embed", "-o", f"{place}/x.npz"], ["--resume", f"{place}/x.jsonl"]):
        result = classify(name, *arguments)
        assert (result.code, result.stdout) == (6, b""), arguments
        assert place in result.error
        assert result.stderr.count("\n") == 1
    assert Path("file").read_text() == "not a folder"


def test_a_full_disk_under_the_artefacts(classify: Run, photos: Path, disk_of: DiskOf) -> None:
    for arguments in (["--attention", "-o", "out"], ["--embed", "-o", "out/x.npz"], ["--embed", "-o", "out/x.safetensors"]):
        with disk_of(150):
            result = classify(photos / "camera.png", *arguments)
        assert result.code == 6, arguments
        assert result.error.startswith("cannot write out/")
        assert list(Path("out").iterdir()) == [], "nothing half written is left"


def test_other_commands_on_a_full_disk(run: Run) -> None:
    for arguments in (["schema"], ["doctor"], ["models", "list"], ["models", "show", "vit-base"], ["--version"], ["--help"]):
        result = run(*arguments, stdout=FULL)
        assert result.code == 6, arguments
        assert "No space left" in result.error


# Models that are bad or hostile


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("the code ran").absolute(),)


@pytest.mark.parametrize("form", ["pickle", "torch", "legacy"])
def test_a_pickle_bomb_does_not_go_off(run: Run, tiny_model: TinyModel, form: str) -> None:
    import torch

    loaded = {"head.weight": Bomb()}
    buffer = io.BytesIO()
    if form == "pickle":
        buffer.write(pickle.dumps(loaded))
    else:
        torch.save(loaded, buffer, _use_new_zipfile_serialization=form == "torch")
    Path("m.pt").write_bytes(buffer.getvalue())
    Path("folder").mkdir()
    Path("folder/pytorch_model.bin").write_bytes(buffer.getvalue())
    shutil.copy(tiny_model.folder / "config.json", "folder/config.json")
    solid("a.png", (1, 2, 3))
    for arguments in (["-m", "m.pt", "--arch", "test_vit"], ["-m", "./folder"], ["-m", "folder/pytorch_model.bin"]):
        result = run("classify", "a.png", *arguments)
        assert (result.code, result.stdout) == (4, b"")
        assert "safetensors" in result.error
        assert result.stderr.count("\n") == 1
    assert not Path("the code ran").exists()
    pickle.loads(pickle.dumps(Bomb()))
    assert Path("the code ran").exists(), "or the bomb proves nothing"


def test_weights_from_a_torch_file(run: Run, tiny_convnet: TinyModel) -> None:
    import timm
    import torch
    from safetensors.torch import load_file
    from timm.data import create_transform, resolve_data_config

    weights = load_file(tiny_convnet.folder / "model.safetensors")
    torch.save({"epoch": 3, "state_dict": {f"module.{name}": tensor for name, tensor in weights.items()}}, "m.pt")
    network = timm.create_model("test_resnet", num_classes=10).eval()
    network.load_state_dict(weights)
    transform = create_transform(**resolve_data_config(model=network, use_test_size=True), is_training=False)
    name = solid("a.png", (200, 100, 0))
    with torch.inference_mode():
        wanted = network(transform(Image.open(name))[None]).numpy()[0]
    (record,) = run("classify", name, "-m", "m.pt", "--arch", "test_resnet", "--dtype", "fp32", "--logits").records
    np.testing.assert_allclose(record["classify"]["logits"], wanted, atol=1e-3)
    assert run("classify", name, "-m", "m.pt").code == 4


CONFIG = '{"architecture": "test_vit", "num_classes": 10, "model_args": {"img_size": 64}, "pretrained_cfg": %s}'
CONFIGS: dict[str, str | bytes] = {
    "empty": "",
    "torn": '{"architecture": "test_vit"',
    "not text": b"\xff\xfe\x00",
    "a list": "[]",
    "no architecture": "{}",
    "a number": '{"architecture": 5}',
    "unknown": '{"architecture": "no_such_net"}',
    "elsewhere": '{"architecture": "hf-hub:someone/else"}',
    "deep": "[" * 100_000,
    "cfg is text": CONFIG % '"x"',
    "cfg is null": CONFIG % "null",
    "args are text": '{"architecture": "test_vit", "num_classes": 10, "model_args": "xy"}',
    "args are unknown": '{"architecture": "test_vit", "num_classes": 10, "model_args": {"no_such": 1}}',
    "classes are text": '{"architecture": "test_vit", "num_classes": "many"}',
    "classes are many": '{"architecture": "test_vit", "num_classes": 11}',
    "mean is text": CONFIG % '{"mean": "abc"}',
    "size is short": CONFIG % '{"input_size": [3]}',
    "crop is text": CONFIG % '{"crop_pct": "x"}',
}


@pytest.mark.parametrize("case", CONFIGS)
def test_a_garbled_configuration(run: Run, tiny_model: TinyModel, case: str) -> None:
    config = CONFIGS[case]
    Path("m").mkdir()
    shutil.copy(tiny_model.folder / "model.safetensors", "m")
    Path("m/config.json").write_bytes(config if isinstance(config, bytes) else config.encode())
    result = run("classify", solid("a.png", (1, 2, 3)), "-m", "./m")
    assert (result.code, result.stdout) == (4, b""), result.stderr
    assert len(result.error) < 400
    assert result.stderr.count("\n") == 1


def test_garbled_weights(run: Run, tiny_model: TinyModel, tiny_convnet: TinyModel) -> None:
    name = solid("a.png", (1, 2, 3))
    whole = (tiny_model.folder / "model.safetensors").read_bytes()
    other = (tiny_convnet.folder / "model.safetensors").read_bytes()
    Path("m").mkdir()
    shutil.copy(tiny_model.folder / "config.json", "m")
    for data in (b"", whole[:5000], whole[:-1], b"\xff" * 100, other):
        Path("m/model.safetensors").write_bytes(data)
        result = run("classify", name, "-m", "./m")
        assert (result.code, result.stdout) == (4, b"")
        assert result.error
    Path("m/model.safetensors").unlink()
    assert run("classify", name, "-m", "./m").code == 4


def test_weights_that_are_not_finite_fail_the_items(run: Run, tiny_model: TinyModel) -> None:
    from safetensors.torch import load_file, save_file

    shutil.copytree(tiny_model.folder, "m")
    weights = load_file("m/model.safetensors")
    weights["head.bias"][3] = float("nan")
    save_file(weights, "m/model.safetensors")
    result = run("classify", solid("a.png", (1, 2, 3)), "-m", "./m")
    assert (result.code, result.records[0]["classify"]["error"]["kind"]) == (3, "not_finite")


# What can be seen only of a whole process


def start(*arguments: str, **streams: Any) -> subprocess.Popen[bytes]:
    program = str(Path(sys.executable).with_name("visiontk"))
    return subprocess.Popen([program, *arguments], **{"stderr": subprocess.PIPE, **streams})


def test_the_end_of_a_process_is_as_quiet_as_its_run(tiny_model: TinyModel) -> None:
    names = [solid(f"{number}.png", (number * 20, 0, 0)) for number in range(3)]
    command = ["classify", "-m", str(tiny_model.folder), *names]
    with FULL.open("wb") as full:
        table = start(*command, "--format", "table", stdout=full)
        silent = start(*command, "nowhere.png", stdout=subprocess.PIPE, stderr=full)
        schema = start("schema", stdout=full)
        for process in (table, schema):
            _, stderr = process.communicate(timeout=60)
            assert process.returncode == 6
            assert stderr.startswith(b"visiontk: error: cannot write to the output")
            assert stderr.count(b"\n") == 1
        stdout, _ = silent.communicate(timeout=60)
        assert silent.returncode == 3
        records: list[Record] = [json.loads(line) for line in stdout.splitlines()]
        assert [record["path"] for record in records] == [*names, "nowhere.png"]


def test_a_number_that_is_too_large_for_any_reader_fails_its_line_alone(classify: Run, photos: Path) -> None:
    good = json.dumps({"path": str(photos / "coffee.jpg")}).encode() + b"\n"
    result = classify("-", stdin=good + b'{"path": "a.jpg", "time": 1e400}\n' + good)
    assert result.code == 3
    assert ["error" in record["classify"] for record in result.records] == [False, True, False]


def test_a_folder_that_may_not_be_read_is_an_item_that_failed(classify: Run, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("in/private").mkdir(parents=True)
    shutil.copy(photos / "coffee.jpg", "in/a.jpg")
    scan, opened = os.scandir, Path.open

    def refuse(path: Any = ".") -> Any:  # the tests may run as root, who may read everything
        if str(path).endswith("private"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    def refuse_too(self: Path, *arguments: Any, **options: Any) -> Any:
        if self.name == "private":
            raise PermissionError(13, "Permission denied", str(self))
        return opened(self, *arguments, **options)

    monkeypatch.setattr(os, "scandir", refuse)
    monkeypatch.setattr(Path, "open", refuse_too)
    result = classify("in")
    assert result.code == 3
    assert [(record["path"], record["classify"].get("error", {}).get("kind")) for record in result.records] == [
        ("in/a.jpg", None),
        ("in/private", "unreadable"),
    ]


def test_what_the_pipe_holds_is_named_and_not_split_into_names(classify: Run, photos: Path) -> None:
    heic = b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic" + bytes(range(256)) * 4
    [record] = classify("-", stdin=heic).records
    assert (record["path"], record["classify"]["error"]["message"].split(";")[0]) == ("-", "HEIC pictures are not supported")
    [record] = classify("-", stdin=b"a.jpg\0b.jpg\0").records
    assert "want --null" in record["classify"]["error"]["message"]
    long = "GTSRB/" + "x" * 87  # with its end as long as half a packet of a transport stream
    names = [record["path"] for record in classify("-", stdin=f"{long}\n{long}\n{long}\n".encode()).records]
    assert names == [long] * 3


def test_views_take_values_of_any_kind_from_the_pipe(classify: Run, photos: Path) -> None:
    line = json.dumps({"path": str(photos / "coffee.jpg"), "time": "2024-05-01 12:30"}).encode() + b"\n"
    assert "2024-05-01 12:30" in classify("-", "--format", "table", stdin=line).stdout.decode()
    assert classify("-", "--format", "csv", stdin=b'{"classify": null}\n').code == 0


@pytest.mark.parametrize("model", ["~nobody99/x", "x" * 300, "./" + "x" * 300])
def test_names_that_no_model_can_have(run: Run, photos: Path, model: str) -> None:
    result = run("classify", photos / "coffee.jpg", "-m", model)
    assert result.code == 4 and result.error


def test_without_an_output_the_run_ends_quietly(tiny_model: TinyModel, photos: Path) -> None:
    program = str(Path(sys.executable).with_name("visiontk"))
    command = f"{program} classify -q -m {tiny_model.folder} {photos / 'coffee.jpg'} --resume out.jsonl >&-"
    done = subprocess.run(["sh", "-c", command], stderr=subprocess.PIPE, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert len(Path("out.jsonl").read_bytes().splitlines()) == 1


def test_names_that_end_in_nul_bytes_are_names_whatever_they_look_like(classify: Run) -> None:
    """As long as this one, the letter stands where packets of a transport stream have their mark."""
    Path("GOPRO").mkdir()
    names = [solid(f"GOPRO/GOPR{number:04d}.JPG", (number, 0, 0)) for number in range(20)]
    result = classify("-0", stdin=b"".join(name.encode() + b"\0" for name in names))
    assert (result.code, [record["path"] for record in result.records]) == (0, names)


def test_a_file_larger_than_memory_costs_its_own_item_alone(classify: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from visiontk.media import files

    monkeypatch.setattr(files, "LARGE_BYTES", 100_000)
    solid("a.png", (1, 2, 3))
    Image.effect_noise((400, 400), 50).save("large.png")
    Path("disk.img").write_bytes(bytes(200_000))
    opened, read = list[str](), Path.read_bytes

    def watched(path: Path) -> bytes:
        opened.append(path.name)
        if path.name == "large.png":
            raise MemoryError
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", watched)
    result = classify("disk.img", "large.png", "a.png")
    errors = [record["classify"].get("error", {}).get("kind") for record in result.records]
    assert (result.code, errors) == (3, ["not_an_image", "too_large", None])
    assert "disk.img" not in opened, "what its beginning says is not read to its end"


def test_a_view_shows_the_name_of_a_picture_that_no_terminal_takes() -> None:
    from rich.console import Console

    from commands import classify_view

    value = {"labels": [], "attention": {"picture": "out/a\udcff\x1b[31m-attention.png"}}
    screen = io.StringIO()
    Console(file=screen, width=200).print(classify_view.view("classify", {"path": "a\udcff.jpg", "classify": value}))
    assert "-attention.png" in screen.getvalue() and "\x1b" not in screen.getvalue()
    screen.getvalue().encode()
