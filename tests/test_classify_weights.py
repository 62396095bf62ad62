"""Models from files: the same function as timm's own loading, whatever form the weights come in."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from timm.models import save_for_hf
from torch import Tensor, nn

import visiontk
from visiontk.adapters.classify import Classifier
from visiontk.errors import DeviceError, ModelUnavailable, UsageError

CPU = visiontk.Runtime(device="cpu", dtype="fp32")


def make(folder: Path, architecture: str = "test_vit", **arguments: Any) -> nn.Module:
    torch.manual_seed(0)
    model: nn.Module = timm.create_model(architecture, **arguments).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.02)  # zero-initialised heads would hide what was not loaded
    save_for_hf(model, str(folder), safe_serialization=True)
    return model


def pixels(classifier: Classifier) -> Tensor:
    return torch.randn(2, *classifier.data_config["input_size"], generator=torch.Generator().manual_seed(1))


def agree(classifier: Classifier, model: nn.Module) -> None:
    images = pixels(classifier)
    with torch.inference_mode():
        torch.testing.assert_close(classifier.forward(images)[0], model(images), rtol=0, atol=1e-6)


@pytest.mark.parametrize("architecture", ["test_vit", "test_byobnet", "test_efficientnet", "vit_pwee_patch16_reg1_gap_256"])
def test_a_folder_gives_timms_own_model(tmp_path: Path, architecture: str) -> None:
    model = make(tmp_path, architecture)
    agree(visiontk.load("classify", str(tmp_path), CPU), model)


def test_no_weight_is_initialised_that_is_read_from_the_file(tmp_path: Path) -> None:
    """The model is built without memory, on ``meta``: torch's random numbers, which initialising takes, stay where they were."""
    make(tmp_path)
    torch.manual_seed(CPU.seed)
    before = torch.get_rng_state()
    visiontk.load("classify", str(tmp_path), CPU)
    assert torch.equal(torch.get_rng_state(), before)
    timm.create_model("test_vit")
    assert not torch.equal(torch.get_rng_state(), before), "or they prove nothing"


def test_buffers_that_are_computed_and_not_stored_are_there(tmp_path: Path) -> None:
    model = make(tmp_path, "eva02_tiny_patch14_224", depth=2, img_size=56, num_classes=10)
    assert any(name.startswith("rope") for name, _ in model.named_buffers())
    agree(visiontk.load("classify", str(tmp_path), CPU), model)


def test_a_training_checkpoint_is_unpacked(tmp_path: Path) -> None:
    model = make(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    wrapped = {f"module.{name}": tensor for name, tensor in model.state_dict().items()}
    torch.save({"epoch": 3, "state_dict": wrapped}, tmp_path / "pytorch_model.bin")
    agree(visiontk.load("classify", str(tmp_path), CPU), model)


def test_a_lone_file_takes_its_architecture_from_the_option_and_its_classes_from_its_shape(tmp_path: Path) -> None:
    model = make(tmp_path / "folder", num_classes=7)
    file = tmp_path / "weights.safetensors"
    file.write_bytes((tmp_path / "folder" / "model.safetensors").read_bytes())
    with pytest.raises(ModelUnavailable, match="--arch"):
        visiontk.load("classify", str(file), CPU)
    classifier = visiontk.load("classify", str(file), CPU, architecture="test_vit")
    assert classifier.labels == [f"class {index}" for index in range(7)]
    agree(classifier, model)


def test_weights_of_another_architecture_are_refused(tmp_path: Path) -> None:
    make(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "architecture": "test_efficientnet"}))
    with pytest.raises(ModelUnavailable, match="do not fit test_efficientnet"):
        visiontk.load("classify", str(tmp_path), CPU)


def test_a_missing_tensor_is_refused_and_not_left_random(tmp_path: Path) -> None:
    make(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    weights.pop("head.weight")
    save_file(weights, tmp_path / "model.safetensors")
    with pytest.raises(ModelUnavailable, match="do not fit"):
        visiontk.load("classify", str(tmp_path), CPU)


def test_half_precision_weights_run_in_the_asked_dtype(tmp_path: Path) -> None:
    make(tmp_path)
    file = tmp_path / "model.safetensors"
    save_file({name: tensor.half() for name, tensor in load_file(file).items()}, file)
    classifier = visiontk.load("classify", str(tmp_path), CPU)
    assert {parameter.dtype for parameter in classifier.model.parameters()} == {torch.float32}


def test_labels_come_from_the_configuration(tmp_path: Path) -> None:
    model = make(tmp_path, num_classes=3)
    config = {"label_names": ["n1", "n2", "n3"], "label_descriptions": {"n1": "cat", "n2": "dog"}}
    save_for_hf(model, str(tmp_path), model_config=config, safe_serialization=True)
    assert visiontk.load("classify", str(tmp_path), CPU).labels == ["cat", "dog", "n3"]


def test_a_model_without_classes_is_no_classifier(tmp_path: Path) -> None:
    make(tmp_path, num_classes=0)
    with pytest.raises(UsageError, match="no classes"):
        visiontk.load("classify", str(tmp_path), CPU)


def test_compiled_batches_are_padded_to_one_shape_and_answers_stay_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path)
    shapes: list[int] = []

    def compile_eagerly(function: Callable[[Tensor], object]) -> Callable[[Tensor], object]:
        def compiled(batch: Tensor) -> object:
            shapes.append(len(batch))
            return function(batch)

        return compiled

    monkeypatch.setattr(torch, "compile", compile_eagerly)  # the real one needs a C++ compiler
    plain = visiontk.load("classify", str(tmp_path), visiontk.Runtime(device="cpu", dtype="fp32", batch_size=4))
    compiled = visiontk.load("classify", str(tmp_path), visiontk.Runtime(device="cpu", dtype="fp32", batch_size=4, compile=True))
    for count in (1, 4, 6):
        images = torch.randn(count, *plain.data_config["input_size"])
        with torch.inference_mode():
            torch.testing.assert_close(compiled.forward(images), plain.forward(images), rtol=0, atol=1e-5)
    assert set(shapes) == {4}


def test_a_compiler_that_fails_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path)

    def fails(*_: object) -> None:
        raise torch._dynamo.exc.Unsupported("no g++")

    monkeypatch.setattr(torch, "compile", lambda function: fails)
    classifier = visiontk.load("classify", str(tmp_path), visiontk.Runtime(device="cpu", dtype="fp32", compile=True))
    with pytest.raises(DeviceError, match=r"torch.compile failed \(no g\+\+\); install a C\+\+ compiler, or leave out --compile"):
        classifier.forward(pixels(classifier))
