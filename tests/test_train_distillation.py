"""Learning from a teacher: what the loss is, which of its features are hints, and where it comes from."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import timm
import torch
from torch.nn import functional

from tests.test_train_run import NEW, metrics, solid_colours
from visiontk.errors import UsageError
from visiontk.training.distillation import HINT, Student, Teacher
from visiontk.training.network import data_config, make_network
from visiontk.training.plan import Plan
from visiontk.training.recipe import Normaliser

if TYPE_CHECKING:
    from tests.conftest import Run, TinyModel

CPU = torch.device("cpu")
TAUGHT = ["--teacher", "resnet10t", "--teacher-args", "channels=(8,8,16,16)", "--teacher-steps", "4", "-b", "6"]


def vit() -> torch.nn.Module:
    torch.manual_seed(0)
    return make_network(Plan("d", from_scratch="test_vit", arch_args="patch_size=8", size=64), "abcd")


def convnet(**arguments: Any) -> Any:
    torch.manual_seed(1)
    return timm.create_model("resnet10t", num_classes=4, channels=(8, 12, 16, 20), **arguments)


def test_the_loss_is_the_divergence_from_the_answers_and_the_distance_from_the_standardised_features() -> None:
    student, teacher = vit(), convnet()
    config = data_config(student)
    taught = Teacher(teacher, config, student, config, CPU)
    pixels, logits = torch.randn(3, 3, 64, 64), torch.randn(3, 4)
    hinted = torch.randn(3, taught.channels, 8, 8)

    p, q = teacher(pixels).softmax(1), logits.softmax(1)
    apart = (p * (p.log() - q.log())).sum(1).mean()
    seen = teacher.layer2(teacher.layer1(teacher.maxpool(teacher.act1(teacher.bn1(teacher.conv1(pixels))))))
    standard = (seen - seen.mean(1, keepdim=True)) / (seen.var(1, keepdim=True, correction=0) + 1e-5).sqrt()
    distance = (hinted - standard).square().mean()
    assert taught.loss(pixels, logits, hinted).item() == pytest.approx((apart + HINT * distance).item(), rel=1e-4)
    assert taught.loss(pixels, teacher(pixels), standard).item() == pytest.approx(0, abs=1e-5)


def test_the_hints_are_the_last_map_that_is_as_fine_as_the_students() -> None:
    student = vit()  # 8 x 8 patches of 64 pixels
    config = data_config(student)
    assert Teacher(convnet(), config, student, config, CPU).channels == 12  # the third of maps of 32, 16, 8, 4 and 2 pixels
    other = convnet()  # with a last map of 2 pixels
    assert Teacher(vit(), config, other, config, CPU).channels == 64  # all of a ViT's are as fine; the width of test_vit
    assert Teacher(convnet(), config, other, config, CPU).channels == 20


def test_the_teacher_sees_the_pictures_as_it_was_trained_to_and_learns_no_more() -> None:
    student, teacher = vit(), convnet()
    config, own = data_config(student), {**data_config(student), "mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 0.6)}
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    taught = Teacher(teacher, own, student, config, CPU)
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    answer = teacher(Normaliser(own, CPU)(images))
    hinted = torch.zeros(2, taught.channels, 8, 8)
    pixels = Normaliser(config, CPU)(images)
    same, other = taught.loss(pixels, answer, hinted), taught.loss(pixels, answer.flip(1), hinted)
    assert same.item() == pytest.approx(HINT, abs=1e-3)  # of features of deviation 1 that are taken to be 0
    assert other > same
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    assert not any(value.requires_grad for value in teacher.parameters())


def test_a_student_answers_as_the_network_alone_and_reads_hints_from_its_last_map() -> None:
    network = vit().eval()
    first, again = Student(network, 5, (3, 64, 64), seed=3), Student(network, 5, (3, 64, 64), seed=3)
    pixels = torch.randn(2, 3, 64, 64)
    logits, hinted = first(pixels)
    assert torch.allclose(logits, network(pixels), atol=1e-5)
    tokens: list[torch.Tensor] = []
    network.blocks[-1].register_forward_hook(lambda block, given, out: tokens.append(out))  # type: ignore[index, union-attr]
    network(pixels)
    read = functional.linear(tokens[0][:, 1:], first.hint.weight.flatten(1), first.hint.bias)  # without the class token
    assert torch.allclose(hinted, read.transpose(1, 2).reshape(2, 5, 8, 8), atol=1e-4)
    assert torch.equal(first.hint.weight, again.hint.weight)


def test_a_teacher_is_trained_first_and_said_to_be(run: Run, tmp_path: Path) -> None:
    solid_colours(tmp_path / "data", each=10)
    longer = [*TAUGHT, "--teacher-steps", "40"]
    result = run("train", "classify", "data", *NEW, *longer, "--steps", "60", "--lr", "1e-2", "--size", "32", "-o", "out")
    assert result.code == 0, result.stderr
    lines = result.records[:-1]
    teachers = [line for line in lines if line.get("network") == "teacher"]
    assert teachers[-1]["step"] == 40 and lines[: len(teachers)] == teachers
    assert metrics("out/teacher") and all("network" not in line for line in metrics("out"))
    assert result.records[-1]["figures"]["val"]["accuracy"] > 0.9  # of three classes, without having seen a label
    card = Path("out/README.md").read_text("utf-8")
    assert "taught by the answers and features of `resnet10t`, trained first for 40 steps" in card
    assert "--teacher resnet10t --teacher-args 'channels=(8,8,16,16)' --teacher-steps 40" in card
    assert json.loads(Path("out/teacher/config.json").read_text())["architecture"] == "resnet10t"


def test_a_taught_run_that_was_stopped_anywhere_comes_to_the_same_weights(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from visiontk.training import chance, loop

    solid_colours(tmp_path / "data", each=6)
    command = ["train", "classify", "data", *NEW, *TAUGHT, "--steps", "6", "--size", "32", "--save-every", "2", "--ema", "0.9"]
    assert run(*command, "-o", "whole").code == 0
    for moment in (3, 9):  # in the teacher's training, in the student's
        calls = 0

        def press(seed: int, moment: int = moment) -> None:
            nonlocal calls
            calls += 1
            if calls == moment:
                os.kill(os.getpid(), signal.SIGINT)
            chance.seed_everything(seed)

        monkeypatch.setattr(loop, "seed_everything", press)
        stopped = run(*command, "-o", f"stopped{moment}")
        monkeypatch.undo()
        assert stopped.code == 130 and "go on with the same command" in stopped.stderr
        monkeypatch.chdir(tmp_path)
        result = run(*command, "-o", f"stopped{moment}")
        assert result.code == 0 and re.search(r"goes on from step \d of", result.stderr), result.stderr
        for name in ("model.safetensors", "teacher/model.safetensors"):
            assert Path(f"stopped{moment}", name).read_bytes() == Path("whole", name).read_bytes()
        assert metrics(f"stopped{moment}") == metrics("whole")


def test_a_model_that_is_there_teaches(run: Run, tmp_path: Path, tiny_model: TinyModel) -> None:
    solid_colours(tmp_path / "data", each=6)
    other = run("train", "classify", "data", *NEW, "--teacher", tiny_model.folder, "--steps", "2", "-o", "out")
    assert other.code == 2 and "the teacher: " in other.error and "other classes than data has" in other.error
    assert "--same-classes" not in other.error and not Path("out").exists()
    assert run("train", "classify", "data", *NEW, "--steps", "2", "-o", "first").code == 0
    result = run("train", "classify", "data", *NEW, "--teacher", "./first", "--steps", "2", "-b", "6", "-o", "second")
    assert result.code == 0, result.stderr
    assert not Path("second/teacher").exists()
    assert "taught by the answers and features of `./first`" in Path("second/README.md").read_text("utf-8")
    assert run("train", "classify", "data", *NEW, "--steps", "2", "--seed", "3", "-o", "first", "--overwrite").code == 0
    again = run("train", "classify", "data", *NEW, "--teacher", "./first", "--steps", "2", "-b", "6", "-o", "second")
    assert again.code == 2 and "teacher_revision was sha256:" in again.error, "another teacher makes another run"


@pytest.mark.parametrize(
    ("given", "code", "words"),
    [
        (["--teacher", "resnet10tt", "--teacher-steps", "2"], 4, "no architecture resnet10tt"),
        (["--teacher", "nowhere"], 4, "nowhere"),
        (["--teacher", "resnet10t", "--teacher-steps", "2", "--teacher-args", "a=b=c"], 2, "--teacher-args a=b=c cannot be read"),
        (["--teacher", "resnet10t", "--teacher-steps", "2", "--teacher-args", "colour=3"], 2, "change --teacher-args"),
        (["--teacher", "resnet10t", "--teacher-steps", "2", "--arch-args", "patch_size=8,patch_drop_rate=0.5"], 2, "patch_drop_rate"),
        (["--teacher", "resnet10t", "--teacher-steps", "2", "--arch-args", "patch_size=8,img_size=(16,32)"], 2, "16 x 32; give --size N"),
    ],
)
def test_a_teacher_that_will_not_do_is_told_before_anything_is_written(
    run: Run, tmp_path: Path, given: list[str], code: int, words: str
) -> None:
    solid_colours(tmp_path / "data", each=3)
    student = ["--from-scratch", "test_vit", "--dtype", "fp32", "--threads", "1"]
    student += [] if "--arch-args" in given else ["--arch-args", "patch_size=8"]
    student += [] if "img_size" in str(given) else ["--size", "16"]
    result = run("train", "classify", "data", *student, *given, "--steps", "2", "-o", "out")
    assert result.code == code and words in result.error
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"teacher_steps": 3}, "--teacher-steps and --teacher-args are of a --teacher"),
        ({"teacher": "resnet18", "teacher_args": "a=1"}, "say for how long with --teacher-steps"),
        ({"teacher": "resnet18", "label_smoothing": 0.1}, "no labels to smooth"),
        ({"teacher": "resnet18", "patch_drop": 0.5}, "--patch-drop leaves parts out"),
    ],
)
def test_options_that_contradict_a_teacher_are_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Plan("d", from_scratch="test_vit", **given).check()
