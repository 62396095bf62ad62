"""Where a pipeline's weights come from: folders, checkpoints of one file, variants; and what is refused before it is read."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.generate_models import make_checkpoint, make_lora, make_pipeline
from visiontk import catalog
from visiontk.adapters.generate import Generated, Generator, Request, load
from visiontk.errors import ModelUnavailable, UsageError, VisiontkError
from visiontk.runtime import Runtime

CPU = Runtime(device="cpu", dtype="fp32")
WEIGHTS = ("text_encoder/model", "unet/diffusion_pytorch_model", "vae/diffusion_pytorch_model")


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_pipeline(tmp_path_factory.mktemp("generate") / "sd")


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    shutil.copytree(original, tmp_path / "sd")
    return tmp_path / "sd"


def picture(generator: Generator) -> Any:
    [answer] = generator.generate([Request("a red apple", seed=1, steps=2)])
    assert isinstance(answer, Generated)
    return np.asarray(answer.image)


def refusal(model: Path | str, **options: Any) -> str:
    with pytest.raises(VisiontkError) as caught:
        load(str(model), CPU, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_pipeline_of_the_tests_is_the_same_whenever_it_is_made(original: Path, tmp_path: Path) -> None:
    again = make_pipeline(tmp_path / "again")
    for name in WEIGHTS:
        assert (again / f"{name}.safetensors").read_bytes() == (original / f"{name}.safetensors").read_bytes()
    assert sum(file.stat().st_size for file in again.rglob("*") if file.is_file()) < 2_000_000


def test_the_revision_of_a_folder_is_over_its_weights_in_a_fixed_order(original: Path, folder: Path) -> None:
    lines = [f"{name}.safetensors {_digest(original / f'{name}.safetensors')}\n" for name in WEIGHTS]
    expected = "sha256:" + hashlib.sha256("".join(lines).encode()).hexdigest()
    assert load(str(original), CPU).revision == expected
    (folder / "notes.txt").write_text("what is no weights does not count")
    assert load(str(folder), CPU).revision == expected
    shutil.copy(make_pipeline(folder.parent / "other", seed=8) / "vae" / "diffusion_pytorch_model.safetensors", folder / "vae")
    assert load(str(folder), CPU).revision != expected


def _digest(file: Path) -> str:
    return "sha256:" + hashlib.sha256(file.read_bytes()).hexdigest()


def test_a_checkpoint_of_one_file_makes_the_same_picture(original: Path, tmp_path: Path) -> None:
    file = make_checkpoint(tmp_path / "it.safetensors", original, config=True)
    generator = load(str(file), CPU)
    assert np.array_equal(picture(generator), picture(load(str(original), CPU)))
    assert generator.revision == _digest(file)
    assert generator.tasks == {"text2image", "image2image", "inpaint"}
    assert "is one file and has no variant fp16" in refusal(file, variant="fp16")


def test_a_checkpoint_without_configuration_says_where_one_comes_from(original: Path, tmp_path: Path, hub_cache: Path) -> None:
    file = make_checkpoint(tmp_path / "it.safetensors", original, config=False)
    said = refusal(file)
    assert "is a checkpoint without a configuration" in said
    assert "visiontk models pull stable-diffusion-v1-5/stable-diffusion-v1-5; or put that folder, without its weights, beside it as" in said
    (tmp_path / "broken.safetensors").write_bytes(b"no weights")
    assert "cannot be read as a checkpoint" in refusal(tmp_path / "broken.safetensors")
    lora = make_lora(tmp_path / "lora", original)
    assert "is a LoRA and no model; add it to one" in refusal(lora)


@pytest.mark.parametrize("name", ["model.ckpt", "model.pt", "org/model.bin"])
def test_pickles_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(b"\x80\x02")
    assert "is a pickle, which could run code, so it is refused; convert it to safetensors" in refusal(name)


def test_a_folder_whose_weights_are_pickles_is_refused(folder: Path) -> None:
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    assert "has no safetensors for its unet (pickles are never read)" in refusal(folder)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"_class_name": ["pipeline.py", "Own"]}, "brings code of its own for its pipeline, which is never run"),
        (
            {"unet": ["own_unet", "Own"]},
            "the unet of .* is a Own of own_unet, which is neither diffusers nor transformers, so it is refused",
        ),
        ({"tokenizer": ["os.path", "join"]}, "the tokenizer of .* is a join of os.path, which is neither"),
        ({"_class_name": "StableDiffusionUpscalePipeline"}, "makes no images from a prompt alone"),
        ({"_class_name": "NothingAtAll"}, "is a NothingAtAll, which makes no images"),
    ],
)
def test_an_index_that_names_code_or_another_kind_of_pipeline_is_refused(folder: Path, change: dict[str, Any], said: str) -> None:
    index = folder / "model_index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | change))
    (folder / "unet" / "own_unet.py").write_text("raise SystemExit('it ran')")
    (folder / "pipeline.py").write_text("raise SystemExit('it ran')")
    with pytest.raises(VisiontkError, match=said):
        load(str(folder), CPU)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda folder: (folder / "model_index.json").write_text("{"), "the model_index.json of .* cannot be read"),
        (lambda folder: (folder / "model_index.json").write_text("{}"), "names no _class_name"),
        (lambda folder: (folder / "model_index.json").unlink(), "has no model_index.json; name the folder of a pipeline of diffusers"),
        (lambda folder: (folder / "unet" / "config.json").write_text("{"), "cannot be read"),
        (lambda folder: (folder / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"torn"), "cannot be read"),
        (lambda folder: _rewrite(folder / "unet" / "config.json", block_out_channels=[32, 32]), "cannot be read|do not fill"),
        (lambda folder: _drop(folder / "unet" / "diffusion_pytorch_model.safetensors", "conv_in.weight"), "do not fill its unet"),
        (lambda folder: _drop(folder / "text_encoder" / "model.safetensors", "final_layer_norm.weight"), "do not fill its text_encoder"),
    ],
)
def test_a_spoilt_folder_is_one_line(folder: Path, spoil: Any, said: str) -> None:
    spoil(folder)
    with pytest.raises(ModelUnavailable, match=said) as caught:
        load(str(folder), CPU)
    assert "\n" not in str(caught.value)


def _rewrite(file: Path, **changes: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def _drop(file: Path, ending: str) -> None:
    from safetensors.torch import load_file, save_file

    kept = {name: tensor for name, tensor in load_file(file).items() if not name.endswith(ending)}
    save_file(kept, file, {"format": "pt"})


def test_a_variant_is_taken_where_it_is_and_missed_where_it_is_not(original: Path, folder: Path) -> None:
    assert "has no variant fp16; it has none, so leave the variant out" in refusal(original, variant="fp16")
    half = make_pipeline(folder.parent / "half", variant="fp16", dtype="float16")
    assert not list(half.rglob("*model.safetensors"))
    only = load(str(half), CPU)  # the one that there is
    assert (only.variant, load(str(original), CPU).variant) == ("fp16", None)
    assert "has no variant bf16; its variants are fp16" in refusal(half, variant="bf16")
    for file in half.rglob("*.fp16.safetensors"):
        shutil.copy(file, folder / file.relative_to(half))
    assert np.array_equal(picture(load(str(folder), CPU)), picture(load(str(original), CPU)))
    assert np.array_equal(picture(load(str(folder), CPU, variant="fp16")), picture(only))
    assert load(str(folder), CPU, variant="fp16").revision == only.revision != load(str(folder), CPU).revision


def test_the_catalog_lists_models_that_make_images() -> None:
    entries = {entry.name: entry for entry in catalog.entries() if entry.task == "generate"}
    assert {"sd-1.5", "sdxl", "tiny-diffusion"} <= set(entries)
    assert catalog.recommended("generate").name == "sdxl"
    assert catalog.fallback("generate").name == "tiny-diffusion"
    assert (entries["z-image-turbo"].steps, entries["z-image-turbo"].guidance) == (8, 0.0)
    assert entries["sdxl"].size == (1024, 1024)
    assert catalog.find_id("Qwen/Qwen-Image@main", "generate") == entries["qwen-image"]
    for entry in entries.values():
        assert entry.licence
        assert entry.source
        assert entry.memory > 0
        assert entry.dtype in ("fp32", "bf16", "fp16")
        assert all(side % 16 == 0 for side in entry.size or ())


def test_the_catalog_fills_in_what_the_pipeline_would_take_otherwise(original: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = catalog.Entry(
        "generate", "turbo", "org/turbo", "MIT", 1, "-", "-", 1, bundled=str(original), steps=4, guidance=0.0, size=(16, 24), dtype="fp32"
    )
    monkeypatch.setattr(catalog, "entries", lambda: (entry,))
    resolved = load("turbo", CPU).resolve(Request("a red apple"))
    assert (resolved.steps, resolved.guidance, resolved.size) == (4, 0.0, (16, 24))
    with pytest.raises(UsageError, match="turbo ignores a negative prompt at guidance 0; leave it out, or give more than 1"):
        load("turbo", CPU).resolve(Request("a red apple", negative="a tree"))


def test_a_path_with_a_slip_of_the_pen_is_no_hub_id_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    assert refusal("./sb") == "there is no file or folder ./sb; check the path"
    (folder.parent / "models").mkdir()
    assert refusal("models/sb").startswith("there is no file or folder models/sb; and as a hub id: models/sb is not cached")
    assert refusal("sdlx") == "sdlx is no catalog name, hub id or local path; did you mean sdxl?"
    (folder.parent / "notes.txt").write_text("")
    assert "is neither the folder of a pipeline nor a .safetensors file" in refusal("./notes.txt")
