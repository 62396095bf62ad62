"""Runtime and settings: what is asked for, where from, and what there is."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from visiontk import runtime, settings
from visiontk.errors import DeviceError, OutOfMemory, UsageError
from visiontk.runtime import Runtime

if TYPE_CHECKING:
    from tests.conftest import Run


@pytest.fixture
def user_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "user" / "visiontk.toml"
    file.parent.mkdir()
    monkeypatch.setattr(settings, "user_file", lambda: file)
    return file


def test_flag_beats_environment_beats_folder_beats_user_beats_default(tmp_path: Path, user_file: Path) -> None:
    user_file.write_text('device = "mps"\nseed = 3\nthreads = 7\ndtype = "fp16"\n[model]\nclassify = "vit-tiny"\n')
    (tmp_path / "visiontk.toml").write_text('device = "cuda"\nseed = 2\nthreads = 5\ncompile = true\n')
    read = settings.read(tmp_path, {"VISIONTK_DEVICE": "cpu", "VISIONTK_SEED": "1", "VISIONTK_MODEL_CLASSIFY": "vit-large"})
    got = {name: (setting.value, setting.origin) for name in settings.names() for setting in [read.get(name)]}
    assert got == {
        "device": ("cpu", "environment VISIONTK_DEVICE"),
        "dtype": ("fp16", str(user_file)),
        "compile": ("true", str(tmp_path / "visiontk.toml")),
        "batch-size": ("auto", "default"),
        "seed": ("1", "environment VISIONTK_SEED"),
        "threads": ("5", str(tmp_path / "visiontk.toml")),
        "model.classify": ("vit-large", "environment VISIONTK_MODEL_CLASSIFY"),
        "model.segment": (None, "default"),
        "model.generate": (None, "default"),
        "model.lvm": (None, "default"),
    }
    assert read.get("seed", 9) == settings.Setting("seed", "9", "--seed")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("device = ", "cannot be read as TOML"),
        ('devise = "cpu"', '"devise" is no setting'),
        ('[model]\npaint = "x"', '"model.paint" is no setting'),
    ],
)
def test_a_settings_file_that_is_wrong_says_where(tmp_path: Path, user_file: Path, text: str, complaint: str) -> None:
    (tmp_path / "visiontk.toml").write_text(text)
    with pytest.raises(UsageError, match=complaint) as caught:
        settings.read(tmp_path, {})
    assert str(tmp_path / "visiontk.toml") in str(caught.value)


def test_settings_become_a_runtime() -> None:
    assert Runtime.parse("cpu", "bf16", "true", "4", "1", "2") == Runtime("cpu", "bf16", True, 4, 1, 2)
    assert Runtime.parse() == Runtime()


@pytest.mark.parametrize(
    "wrong",
    [
        {"device": "gpu"},
        {"device": "cuda:x"},
        {"dtype": "int8"},
        {"compile": "yes"},
        {"batch_size": "0"},
        {"seed": "-1"},
        {"threads": "many"},
        {"threads": "0"},
        {"threads": "1025"},
        {"threads": "1" * 5000},
        {"seed": str(2**63)},
        {"seed": "99999999999999999999999"},
        {"batch_size": "1048577"},
        {"device": "cuda:²"},
        {"device": "cuda:128"},
        {"device": "cuda:99999999999999999999"},
    ],
)
def test_values_that_make_no_sense_are_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(UsageError, match=next(iter(wrong)).replace("_", "-")):
        Runtime.parse(**wrong)


def test_the_largest_values_that_are_taken_work() -> None:
    largest = Runtime.parse("cpu", seed=str(2**63 - 1), threads="1024", batch_size="1048576")
    assert (largest.seed, largest.threads, largest.batch_size) == (2**63 - 1, 1024, 1048576)
    Runtime(device="cpu", seed=2**63 - 1).start()
    assert torch.initial_seed() == 2**63 - 1


@pytest.mark.usefixtures("one_thread")  # which puts the number back
def test_threads_are_those_of_torch_and_of_the_decoders() -> None:
    Runtime(device="cpu", threads=3).start()
    assert torch.get_num_threads() == 3
    Runtime(device="cpu").start()
    assert torch.get_num_threads() == 3, "auto leaves it to torch"
    assert [Runtime(threads=count).decode_workers() for count in (1, 3, 64)] == [1, 3, 8]


@pytest.mark.parametrize("where", ["flag", "environment", "file"])
@pytest.mark.parametrize(("name", "value"), [("threads", "100000"), ("seed", "99999999999999999999999"), ("batch-size", "9" * 40)])
def test_numbers_beyond_the_limits_are_one_line_wherever_they_come_from(
    run: Run, monkeypatch: pytest.MonkeyPatch, where: str, name: str, value: str
) -> None:
    if where == "environment":
        monkeypatch.setenv(settings.environment_name(name), value)
    if where == "file":
        Path("visiontk.toml").write_text(f"{name} = {value}\n")
    result = run("classify", "a.png", *([f"--{name}", value] if where == "flag" else []))
    assert (result.code, result.stdout, result.stderr.count("\n")) == (2, b"", 1)
    assert result.error.startswith(f"{name} is '{value[:30]}'; use a whole number from ")


def test_a_device_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(DeviceError, match="there is no device cuda"):
        Runtime(device="cuda").start()


@pytest.mark.parametrize(("fast", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_auto_is_bf16_only_where_the_hardware_multiplies_it_fast(monkeypatch: pytest.MonkeyPatch, fast: bool, dtype: torch.dtype) -> None:
    monkeypatch.setattr(runtime, "multiplies_bf16_fast", lambda device: fast)
    assert Runtime(device="cpu").start().dtype is dtype
    assert Runtime(device="cpu", dtype="fp32").start().dtype is torch.float32


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")]
)
def test_out_of_memory_is_recognised_on_every_device(error: RuntimeError) -> None:
    with pytest.raises(OutOfMemory), runtime.memory_errors():
        raise error


def test_other_errors_are_left_as_they_are() -> None:
    with pytest.raises(RuntimeError, match="shape"), runtime.memory_errors():
        raise RuntimeError("shape mismatch")


def test_a_settings_file_in_a_folder_that_may_not_be_searched_is_none(user_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: object, *_: object, **__: object) -> os.stat_result:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "stat", refuse)
    assert settings.read(Path("nowhere"), {}).get("device").value == "auto"
