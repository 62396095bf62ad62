"""`visiontk train classify` from end to end: it learns, it survives being killed, and what it writes runs and is what its card says."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

import visiontk
from visiontk import Runtime

if TYPE_CHECKING:
    from tests.conftest import OnTerminal, Run, TinyModel

PROBED = "efficientnet-lite0"
COLOURS = {"blue": (30, 30, 220), "green": (20, 200, 40), "red": (220, 20, 20)}
NEW = ["--from-scratch", "test_vit", "--arch-args", "patch_size=8", "--size", "16", "--dtype", "fp32", "--threads", "1"]


def solid_colours(folder: Path, each: int = 20, *, broken: bool = False) -> Path:
    """An ImageFolder that anything can learn."""
    generator = np.random.default_rng(0)
    for name, colour in COLOURS.items():
        (folder / name).mkdir(parents=True)
        for number in range(each):
            shade = np.clip(np.array(colour) + generator.integers(-15, 16, 3), 0, 255).astype(np.uint8)
            Image.new("RGB", (24, 20), tuple(shade.tolist())).save(folder / name / f"{number}.png")
    if broken:
        (folder / "red" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    return folder


def metrics(folder: str) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl without the times."""
    lines = [json.loads(line) for line in Path(folder, "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        line.get("train", {}).pop("images_per_s", None)
    return lines


def test_solid_colours_are_learnt_and_the_card_states_what_load_gives(run: Run, tmp_path: Path) -> None:
    data = solid_colours(tmp_path / "data", broken=True)
    more = ["--steps", "30", "-b", "16", "--lr", "1e-3", "--half", "--label-smoothing", "0.1", "--val-share", "0.2"]
    result = run("train", "classify", data, *NEW, *more, "-o", "out")
    assert result.code == 0, result.stderr
    assert result.stderr.count("broken.png") == 1
    *lines, last = result.records
    assert [{**line, "train": {**line["train"], "images_per_s": 0}} if "train" in line else line for line in lines] == [
        {**line, "train": {**line["train"], "images_per_s": 0}} if "train" in line else line for line in metrics("out")
    ]
    assert last["figures"]["val"]["accuracy"] >= 0.95

    classifier = visiontk.load("classify", "out", Runtime(dtype="fp32", threads=1))
    assert classifier.labels == sorted(COLOURS)
    assert list(classifier.data_config["input_size"]) == [3, 16, 16]
    card = Path("out/README.md").read_text("utf-8")
    row = re.search(r"\| val: [^|]*\| ([\d.]+) \| [\d.]+ \| (\d+) \|", card)
    assert row is not None and "visiontk train classify" in card and "1 images could not be read" in card and "fp16" in card

    from visiontk.training.examples import read_examples

    val = [example for example in read_examples(str(data), 0.2, 0).val if "broken" not in example[0]]
    answers = classifier.predict([Image.open(path).convert("RGB") for path, _ in val])
    right = [answer.labels[0].index == label for answer, (_, label) in zip(answers, val, strict=True)]
    assert float(row[1]) == pytest.approx(sum(right) / len(right), abs=1e-4) and int(row[2]) == len(val)
    with Image.open("out/curves.png") as curves:
        assert curves.width > 800


def test_a_run_that_was_killed_comes_to_the_same_weights(run: Run, tmp_path: Path) -> None:
    solid_colours(tmp_path / "data", each=10)
    more = ["--steps", "40", "-b", "12", "--accumulate", "2", "--ema", "0.9", "--mixup", "0.2", "--augment", "strong", "--save-every", "3"]
    more += ["--patch-drop", "0.5", "--whole-after", "30"]
    command = ["train", "classify", "data", *NEW, *more, "--arch-args", "patch_size=8,drop_rate=0.1,drop_path_rate=0.1"]
    assert run(*command, "-o", "whole").code == 0

    program = Path(sys.executable).parent / "visiontk"
    killed = subprocess.Popen(
        [program, *command, "-o", "killed"],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    checkpoint = tmp_path / "killed" / "checkpoints" / "last.pt"
    deadline = time.monotonic() + 60
    while not checkpoint.exists() and killed.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    time.sleep(0.05)  # somewhere after that, perhaps in the middle of writing the next
    killed.send_signal(signal.SIGKILL)
    _, said = killed.communicate()
    assert killed.returncode == -signal.SIGKILL, said
    assert not Path("killed/model.safetensors").exists()

    result = run(*command, "-o", "killed")
    assert result.code == 0 and re.search(r"goes on from step \d+ of 40", result.stderr), result.stderr
    assert Path("killed/model.safetensors").read_bytes() == Path("whole/model.safetensors").read_bytes()
    assert metrics("killed") == metrics("whole")
    assert not list(Path("killed").rglob(".*.pt.*"))


@pytest.mark.parametrize("moment", ["pass", "measuring"])
def test_ctrl_c_saves_says_how_to_go_on_and_loses_nothing(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    from visiontk.training import loop

    solid_colours(tmp_path / "data", each=6)
    command = ["train", "classify", "data", *NEW, "--steps", "9", "-b", "6", "--eval-every", "3"]
    assert run(*command, "-o", "whole").code == 0
    calls = 0
    target = "measure" if moment == "measuring" else "seed_everything"
    original = getattr(loop, target)

    def press(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return original(*arguments, **named)

    monkeypatch.setattr(loop, target, press)
    stopped = run(*command, "-o", "stopped")
    monkeypatch.undo()
    assert stopped.code == 130 and "go on with the same command" in stopped.stderr
    monkeypatch.chdir(tmp_path)
    assert run(*command, "-o", "stopped").code == 0
    assert Path("stopped/model.safetensors").read_bytes() == Path("whole/model.safetensors").read_bytes()
    assert metrics("stopped") == metrics("whole")


def test_transfer_goes_on_from_a_model_at_another_size(run: Run, tmp_path: Path, tiny_model: TinyModel) -> None:
    solid_colours(tmp_path / "data", each=6)
    more = ["--size", "32", "--steps", "2", "-b", "6", "--dtype", "fp32", "--workers", "1"]
    result = run("train", "classify", "data", "-m", tiny_model.folder, *more, "-o", "out")
    assert result.code == 0, result.stderr
    assert result.records[0]["train"]["loss"] == pytest.approx(np.log(3), abs=1e-5)  # the head starts at zero
    assert list(visiontk.load("classify", "out").data_config["input_size"]) == [3, 32, 32]
    assert run("train", "classify", "data", "-m", tiny_model.folder, *more, "-o", "out").code == 0  # once more changes nothing
    assert json.loads(Path("out/metrics.jsonl").read_text().splitlines()[-1])["step"] == 2


def test_a_folder_of_another_run_is_not_touched(run: Run, tmp_path: Path) -> None:
    solid_colours(tmp_path / "data", each=4)
    command = ["train", "classify", "data", *NEW, "-b", "4", "-o", "out"]
    assert run(*command, "--steps", "2").code == 0
    before = Path("out/model.safetensors").read_bytes()
    other = run(*command, "--steps", "3", "--lr", "0.5")
    assert other.code == 2 and "steps was 2 and is 3" in other.error and "lr was None and is 0.5" in other.error
    assert Path("out/model.safetensors").read_bytes() == before
    assert run(*command, "--steps", "3", "--overwrite").code == 0
    Path("full").mkdir()
    Path("full/thesis.txt").write_text("all of it")
    assert "not empty" in run(*command[:-1], "full").error


def test_a_loss_that_is_no_number_stops_with_advice(run: Run, tmp_path: Path) -> None:
    solid_colours(tmp_path / "data", each=4)
    result = run("train", "classify", "data", *NEW, "--steps", "30", "-b", "4", "--lr", "1e30", "--warmup", "0", "-o", "out")
    assert result.code == 2 and "lower --lr" in result.error
    assert not Path("out/model.safetensors").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["nowhere", "-m", "test_vit"], 2, "no folder or file"),
        (["data"], 2, "--model NAME or --from-scratch NAME"),
        (["data", "-m", "a", "--from-scratch", "b"], 2, "--model NAME or --from-scratch NAME"),
        (["data", "--from-scratch", "test_vit", "--linear-probe"], 2, "--model"),
        (["data", "-m", "a", "--linear-probe", "--few-shot", "1"], 2, "one after the other"),
        (["data", "-m", "a", "--few-shot", "1,x"], 2, "1,5,10,25"),
        (["data", "-m", "a", "--steps", "1", "--epochs", "1"], 2, "one of them"),
        (["data", "-m", "no-such-model"], 4, "no-such-model"),
        (["data", "--from-scratch", "no-such-model"], 4, "no-such-model"),
        (["data", "--from-scratch", "test_vit", "--size", "17", "--arch-args", "patch_size=x"], 2, "cannot be built"),
        (["data", "--from-scratch", "test_vit", "--workers", "many"], 2, "workers"),
        (["data", "--from-scratch", "test_vit", "--dtype", "fp16", "--device", "cpu"], 2, "fp16"),
        (["data", "--from-scratch", "test_vit", "--mixup", "0.1", "-b", "3"], 2, "odd"),
    ],
)
def test_bad_input_is_one_line(run: Run, tmp_path: Path, arguments: list[str], code: int, words: str) -> None:
    solid_colours(tmp_path / "data", each=2)
    result = run("train", "classify", *arguments, "-o", "out")
    assert result.code == code and words in result.error
    assert result.stdout == b"" and not Path("out/model.safetensors").exists()


def test_nothing_that_can_be_read_is_said_and_not_waited_for(run: Run, tmp_path: Path) -> None:
    data = solid_colours(tmp_path / "data", each=2)
    for file in data.rglob("*.png"):
        file.write_bytes(b"nothing")
    result = run("train", "classify", "data", *NEW, "--steps", "2", "-o", "out")
    assert result.code == 2 and "none of the training images can be read" in result.error
    assert "no place" not in result.stderr
    assert "pass -o DIR" in run("train", "classify", "data", *NEW).error


def test_the_linear_probe_makes_a_model_that_classify_runs(run: Run, tmp_path: Path) -> None:
    data = solid_colours(tmp_path / "data", each=8, broken=True)
    result = run("train", "classify", data, "-m", PROBED, "--linear-probe", "-o", "probe", "--dtype", "fp32")
    assert result.code == 0, result.stderr
    assert result.records[-1]["figures"]["val"]["accuracy"] == 1.0
    assert "broken.png" in result.stderr
    card = Path("probe/README.md").read_text("utf-8")
    assert "Linear probe" in card and "1 images could not be read" in card and "curves.png" not in card
    (data / "red" / "broken.png").unlink()
    labelled = run("classify", "-m", "probe", data / "red", "--top-k", "1")
    assert {line["classify"]["labels"][0]["label"] for line in labelled.records} == {"red"}


def test_the_cards_front_matter_has_the_licence(run: Run, tmp_path: Path) -> None:
    data = solid_colours(tmp_path / "data", each=4)
    assert run("train", "classify", data, "-m", PROBED, "--linear-probe", "-o", "probe").code == 0
    card = Path("probe/README.md").read_text("utf-8")
    assert card.split("---")[1].splitlines()[1:3] == ["library_name: timm", "license: apache-2.0"]  # the base model's, of the catalog
    assert "\n\n\n" not in card and re.search(r"\| \d+ \|\n\n\*\*How it was made", card)
    assert run("train", "classify", data, *NEW, "--steps", "1", "-b", "4", "-o", "new").code == 0
    card = Path("new/README.md").read_text("utf-8")
    assert "\nlicense: other\n" in card and "\n\n\n" not in card
    assert re.search(r"\| \d+ \|\n\nThe weights are those of step 1 of 1, [^\n]*\n\n\*\*How it was made", card)


def test_probes_with_options_of_a_training_write_nothing(run: Run, tmp_path: Path) -> None:
    data = solid_colours(tmp_path / "data", each=4)
    result = run("train", "classify", data, "-m", PROBED, "--linear-probe", "--epochs", "3", "--lr", "0.1", "--compile", "-o", "probe")
    assert result.code == 2 and result.error == "--linear-probe trains no weights; leave out --epochs, --lr and --compile"
    assert not Path("probe").exists()


def test_a_class_with_fewer_images_than_shots_is_said_once(run: Run, tmp_path: Path) -> None:
    data = solid_colours(tmp_path / "data", each=8)
    for file in sorted((data / "red").iterdir())[4:]:
        file.unlink()
    solid_colours(tmp_path / "test", each=2).rename(data / "test")
    for name in COLOURS:
        (data / "train").mkdir(exist_ok=True)
        (data / name).rename(data / "train" / name)
    arguments = ["train", "classify", str(data), "-m", PROBED, "--dtype", "fp32"]
    result = run(*arguments, "--few-shot", "1,5,25", "-o", "shots")
    assert result.code == 0, result.stderr
    assert [line for line in result.stderr.splitlines() if "warning" in line] == [
        f"visiontk: warning: {data}/test is not used, only {data}/train",
        "visiontk: warning: 25 images per class were asked for; 3 classes have fewer, the least 3",
    ]
    assert result.records[-1]["classes_with_fewer"] == {"5": 1, "25": 3}
    enough = run(*arguments, "--few-shot", "1,3", "-o", "enough")
    assert "per class" not in enough.stderr and "classes_with_fewer" not in enough.records[-1]


def test_two_processes_come_to_the_weights_of_one(run: Run, tmp_path: Path) -> None:
    solid_colours(tmp_path / "data", each=6)
    programs = Path(sys.executable).parent
    command = ["train", "classify", "data", *NEW, "--steps", "4", "-b", "8", "--device", "cpu", "--eval-every", "2", "--clip", "0.5"]
    assert run(*command, "-o", "one").code == 0
    launcher = [str(programs / "torchrun"), "--standalone", "--nproc_per_node=2", "--no-python", str(programs / "visiontk")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([*launcher, *command, "-o", "two"], cwd=tmp_path, env=environment, check=True, capture_output=True, timeout=300)

    from safetensors.numpy import load_file

    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    assert one.keys() == two.keys()
    for name, weights in one.items():
        np.testing.assert_allclose(two[name], weights, atol=1e-5, err_msg=name)
    figures = [[line["val"]["accuracy"] for line in metrics(str(tmp_path / name)) if "val" in line] for name in ("one", "two")]
    assert figures[0] == figures[1]


def test_the_few_shot_probe_prints_and_writes_its_accuracies(run: Run, tmp_path: Path) -> None:
    data = solid_colours(tmp_path / "data", each=8)
    result = run("train", "classify", data, "-m", PROBED, "--few-shot", "1,5,25", "-o", "shots", "--dtype", "fp32")
    assert result.code == 0, result.stderr
    found = result.records[-1]["few_shot"]["val"]
    assert list(found) == ["1", "5", "25"]
    assert found["5"]["accuracy"] == 1.0 and len(found["5"]["each"]) == 3
    assert json.loads(Path("shots/few_shot.json").read_text())["few_shot"]["val"] == found
    assert not Path("shots/model.safetensors").exists()


def crops_of_the_photos(folder: Path, each: int = 16) -> Path:
    """An ImageFolder of photographs as a camera's are: pieces of the example photos, one class for each photo."""
    generator = np.random.default_rng(1)
    for path in sorted((Path(__file__).parent.parent / "examples" / "photos").iterdir()):
        photo = Image.open(path).convert("RGB")
        (folder / path.stem).mkdir(parents=True)
        for number in range(each):
            side = int(min(photo.size) * generator.uniform(0.45, 0.7))
            left, top = (int(generator.integers(0, extent - side + 1)) for extent in photo.size)
            photo.crop((left, top, left + side, top + side)).save(folder / path.stem / f"{number}.jpg", quality=90)
    return folder


def test_a_linear_probe_on_photographs_learns_to_tell_them_apart(run: Run, tmp_path: Path) -> None:
    data = crops_of_the_photos(tmp_path / "data")
    result = run("train", "classify", data, "--model", PROBED, "--linear-probe", "--val-share", "0.25", "--dtype", "fp32", "-o", "probe")
    assert result.code == 0, result.stderr
    assert result.records[-1]["figures"]["val"]["accuracy"] >= 0.85 and result.records[-1]["figures"]["val"]["images"] == 20
    photos = sorted((Path(__file__).parent.parent / "examples" / "photos").iterdir())
    whole = run("classify", *photos, "--model", "probe", "--top-k", "1")
    assert [record["classify"]["labels"][0]["label"] for record in whole.records] == [photo.stem for photo in photos]


@pytest.mark.parametrize("task", ["classify", "segment", "generate", "lvm"])
def test_a_model_that_cannot_be_had_leaves_no_folder_behind(run: Run, task: str) -> None:
    result = run("train", task, "tiny", "--model", "nowhere", "-o", "out")
    assert result.code == 4 and "nowhere" in result.error
    assert not Path("out").exists()


def test_a_terminal_sees_steps_times_and_the_latest_figures(on_terminal: OnTerminal, tmp_path: Path) -> None:
    data = solid_colours(tmp_path / "data", each=6)
    more = ["--steps", "60", "-b", "6", "--eval-every", "20", "-o", str(tmp_path / "out")]
    drawn = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", on_terminal("train", "classify", str(data), *NEW, *more, TERM="xterm-256color"))
    assert re.search(r"\d+/60\s+\d:\d\d:\d\d\s+(\d:\d\d:\d\d|-:--:--)", drawn), "steps, time gone, time left"
    assert re.search(r"train +loss \d\.\d{4} +accuracy [01]\.\d{4} +images/s \d+", drawn)
    assert re.search(r"val +accuracy [01]\.\d{4} +loss \d\.\d{4} +\d images", drawn)
