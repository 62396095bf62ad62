"""The adapter of the large vision models: pictures and tokens, loading, and what it refuses."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import visiontk
from tests.lvm_models import TOKENS, make_lvm, shrink_300m, vqgan_config
from tests.lvm_public import SMALL, tensors
from visiontk import catalog, hub
from visiontk.adapters import lvm_files
from visiontk.adapters.lvm import Sampling, VisualSentenceModel, load
from visiontk.adapters.weights_file import sha256
from visiontk.errors import ModelUnavailable, OutOfMemory, UsageError
from visiontk.runtime import Runtime

CPU = Runtime(device="cpu", dtype="fp32")


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_lvm(tmp_path_factory.mktemp("lvm") / "tiny")


@pytest.fixture(scope="module")
def model(folder: Path) -> VisualSentenceModel:
    return load(str(folder), CPU)


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    """One to break."""
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def pictures(*sizes: tuple[int, int]) -> list[Image.Image]:
    chance = np.random.default_rng(0)
    return [Image.fromarray(chance.integers(0, 256, (height, width, 3), dtype=np.uint8)) for width, height in sizes]


def test_what_a_model_says_of_itself(folder: Path, model: VisualSentenceModel) -> None:
    assert (model.name, model.warning) == (str(folder), None)
    assert (model.image_size, model.frame_tokens, model.codes, model.context_frames) == (16, TOKENS, 24, 6)
    assert isinstance(visiontk.load("lvm", str(folder), CPU), VisualSentenceModel)


def revision_of(*files: Path) -> str:
    """What the shell makes of them."""
    sums = "".join(sha256(file).removeprefix("sha256:") + "\n" for file in files)
    return "sha256:" + hashlib.sha256(sums.encode()).hexdigest()


def test_the_revision_is_of_all_files_of_weights(folder: Path, copy: Path, model: VisualSentenceModel) -> None:
    from safetensors.torch import load_file, save_file

    vqgan = copy / "vqgan" / "diffusion_pytorch_model.safetensors"
    assert model.revision == revision_of(folder / "llama" / "model.safetensors", folder / vqgan.relative_to(copy))
    weights = load_file(vqgan)
    weights["decoder.conv_out.bias"] += 0.1
    save_file(weights, vqgan, {"format": "pt"})
    changed = load(str(copy), CPU).revision
    assert changed == revision_of(copy / "llama" / "model.safetensors", vqgan) != model.revision


def test_pictures_of_any_size_become_the_codes_that_diffusers_finds(folder: Path, model: VisualSentenceModel) -> None:
    from diffusers import VQModel

    reference = VQModel.from_pretrained(folder / "vqgan").eval()
    images = [*pictures((16, 16), (40, 24), (7, 90)), Image.new("L", (5, 5), 200)]
    tokens = model.encode(images)
    assert (tokens.shape, tokens.dtype) == ((4, TOKENS), torch.int64)
    for image, found in zip(images, tokens, strict=True):
        # Bicubic, without the aspect, in [0, 1] and no mean or deviation: read_image_to_tensor of LVM's evaluation.
        pixels = np.asarray(image.convert("RGB").resize((16, 16)), dtype=np.float32) / 255
        with torch.no_grad():
            latents = reference.encode(torch.from_numpy(pixels).permute(2, 0, 1)[None]).latents
            _, _, (_, _, want) = reference.quantize(latents)
        assert torch.equal(found, want.flatten())
    assert len({*tokens.flatten().tolist()}) > 5
    assert model.encode([]).shape == (0, TOKENS)


def test_codes_become_the_pictures_that_diffusers_decodes(folder: Path, model: VisualSentenceModel) -> None:
    from diffusers import VQModel

    reference = VQModel.from_pretrained(folder / "vqgan").eval()
    tokens = torch.randint(0, 24, (5, TOKENS), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        want = reference.decode(tokens, force_not_quantize=True, shape=(5, 4, 4, 4)).sample.clamp(0, 1).permute(0, 2, 3, 1) * 255
    for image, pixels in zip(model.decode(tokens), want.numpy(), strict=True):
        assert (image.size, image.mode) == ((16, 16), "RGB")
        assert np.abs(np.asarray(image) - pixels).max() <= 0.501


def test_frames_come_one_by_one_with_their_pictures(model: VisualSentenceModel) -> None:
    done: list[int] = []
    sentence = model.encode(pictures((16, 16), (16, 16)))
    running = model.continue_([sentence], 3, Sampling(seed=1, candidates=2), done.append)
    assert done == []
    for number, frames in enumerate(running):
        assert done == list(range(1, number + 2))
        assert [(frame.candidate, frame.number) for frame in frames] == [(0, number), (1, number)]
        for frame in frames:
            assert frame.image.tobytes() == model.decode(frame.tokens[None])[0].tobytes()
            assert (frame.tokens.shape, frame.tokens.device.type) == ((TOKENS,), "cpu")
            assert 0 < frame.nll < 20
    assert done == [1, 2, 3]


def test_a_run_that_is_broken_off_keeps_its_frames_and_the_next_begins_anew(model: VisualSentenceModel) -> None:
    sentence = torch.zeros(2, TOKENS, dtype=torch.int64)
    whole = [frames[0].tokens.tolist() for frames in model.continue_([sentence], 3, Sampling(seed=4))]
    running = model.continue_([sentence], 3, Sampling(seed=4))
    assert next(running)[0].tokens.tolist() == whole[0]
    running.close()  # type: ignore[attr-defined]
    assert [frames[0].tokens.tolist() for frames in model.continue_([sentence], 3, Sampling(seed=4))] == whole


@pytest.mark.parametrize(
    ("sampling", "complaint"),
    [
        (Sampling(temperature=0), "the temperature is 0"),
        (Sampling(temperature=float("nan")), "the temperature is nan"),
        (Sampling(top_k=0), "top-k is 0"),
        (Sampling(top_p=0), "top-p is 0"),
        (Sampling(top_p=1.5), "top-p is 1.5"),
        (Sampling(candidates=0), "0 candidates"),
        (Sampling(seed=-1), "the seed is -1"),
    ],
)
def test_sampling_that_makes_no_sense_is_refused(model: VisualSentenceModel, sampling: Sampling, complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        model.continue_([torch.zeros(1, TOKENS, dtype=torch.int64)], 1, sampling)


@pytest.mark.parametrize(
    ("sentence", "complaint"),
    [
        (torch.zeros(0, TOKENS, dtype=torch.int64), "a sentence without frames"),
        (torch.zeros(1, TOKENS + 1, dtype=torch.int64), r"are int64 \(1, 17\) and not int64 \(frames, 16\)"),
        (torch.zeros(1, TOKENS), r"are float32 \(1, 16\)"),
        (torch.full((1, TOKENS), 24), "a token is none of the 24 codes"),
        (torch.full((1, TOKENS), -1), "a token is none of the 24 codes"),
    ],
)
def test_what_are_no_tokens_of_the_model_is_refused(model: VisualSentenceModel, sentence: torch.Tensor, complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        model.continue_([sentence], 1)


def test_a_sentence_that_is_too_long_to_score_is_refused(model: VisualSentenceModel) -> None:
    with pytest.raises(UsageError, match=r"the sentence has 7 frames; .* scores 1 to 6 at once"):
        model.score(torch.zeros(7, TOKENS, dtype=torch.int64))
    with pytest.raises(UsageError, match="0 frames are asked for"):
        model.continue_([torch.zeros(1, TOKENS, dtype=torch.int64)], 0)


def test_no_memory_for_the_prompts_is_told_as_such(model: VisualSentenceModel, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: Any) -> Any:
        raise torch.OutOfMemoryError

    monkeypatch.setattr("visiontk.adapters.lvm.Continuation", none)
    with pytest.raises(OutOfMemory):
        next(iter(model.continue_([torch.zeros(2, TOKENS, dtype=torch.int64)], 1, Sampling(greedy=True))))


def test_running_out_of_memory_is_told_as_such(model: VisualSentenceModel, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(model.decoder, "prefill", fail)
    with pytest.raises(OutOfMemory):
        list(model.continue_([torch.zeros(1, TOKENS, dtype=torch.int64)], 1, Sampling(candidates=100)))


def edit(file: Path, **changes: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def without(file: Path, name: str) -> None:
    from safetensors.torch import load_file, save_file

    save_file({key: tensor for key, tensor in load_file(file).items() if key != name}, file, {"format": "pt"})


def also(file: Path, name: str) -> None:
    from safetensors.torch import load_file, save_file

    save_file({**load_file(file), name: torch.zeros(32)}, file, {"format": "pt"})


def other_vqgan(folder: Path, **changes: Any) -> None:
    """Another VQGAN, whose weights fit its own configuration."""
    from diffusers import VQModel

    VQModel(**{**vqgan_config(), **changes}).save_pretrained(folder)


LLAMA, VQGAN = Path("llama") / "model.safetensors", Path("vqgan") / "diffusion_pytorch_model.safetensors"
BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "a LLaMA cut off": (lambda at: cut(at / LLAMA), "the LLaMA of .* cannot be read"),
    "a VQGAN cut off": (
        lambda at: cut(at / VQGAN),
        r"diffusion_pytorch_model.safetensors cannot be read as weights \(.+\); it is cut off, or no file of weights: fetch it again",
    ),
    "a LLaMA that lacks a tensor": (lambda at: without(at / LLAMA, "model.norm.weight"), "lacks 1 tensors, model.norm.weight among them"),
    "a VQGAN that lacks a tensor": (lambda at: without(at / VQGAN, "quant_conv.bias"), r"quant_conv.bias is missing"),
    "a LLaMA with one tensor more": (
        lambda at: also(at / LLAMA, "model.layers.0.self_attn.q_proj.bias"),
        r"does not fit its configuration \(model.layers.0.self_attn.q_proj.bias is unknown\)",
    ),
    "a LLaMA of fewer layers": (
        lambda at: edit(at / "llama/config.json", num_hidden_layers=1),
        r"does not fit its configuration \(model.layers.1.input_layernorm.weight is unknown\)",
    ),
    "angles that change with the length": (
        lambda at: edit(at / "llama/config.json", rope_scaling={"rope_type": "longrope"}),
        "turns by longrope, whose angles change with the length",
    ),
    "a VQGAN of grey pictures": (
        lambda at: other_vqgan(at / "vqgan", in_channels=1, out_channels=1),
        r"is of another kind \(1 channels in, 1 out, norm_type 'group'\)",
    ),
    "a VQGAN of another norm": (
        lambda at: other_vqgan(at / "vqgan", norm_type="spatial", block_out_channels=[32] * 3),
        r"is of another kind \(3 channels in, 3 out, norm_type 'spatial'\)",
    ),
    "a VQGAN of one token": (lambda at: edit(at / "vqgan/config.json", sample_size=4), "has one token a frame"),
    "a LLaMA of another shape": (lambda at: edit(at / "llama/config.json", hidden_size=64, head_dim=16), "the LLaMA of .* cannot be read"),
    "a VQGAN of another shape": (lambda at: edit(at / "vqgan/config.json", vq_embed_dim=8), r"has the shape \[.*\] and not \["),
    "a context too short": (
        lambda at: edit(at / "llama/config.json", max_position_embeddings=31),
        "the context of .* is 31 tokens, too short",
    ),
    "no size of pictures": (lambda at: edit(at / "vqgan/config.json", sample_size=17), "sample_size is 17, no multiple of 4 pixels"),
    "another language model": (lambda at: edit(at / "llama/config.json", model_type="gpt2"), "is a gpt2 and no llama"),
    "a torn configuration": (lambda at: cut(at / "llama/config.json"), "config.json cannot be read"),
    "no VQGAN": (lambda at: shutil.rmtree(at / "vqgan"), "has no vqgan/"),
    "no LLaMA": (lambda at: shutil.rmtree(at / "llama"), "has no llama/config.json with llama/model.safetensors or"),
    "a VQGAN without weights": (lambda at: (at / VQGAN).unlink(), "has none of diffusion_pytorch_model.safetensors"),
}


@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_model_is_told_in_one_line(copy: Path, broken: str) -> None:
    spoil, complaint = BROKEN[broken]
    spoil(copy)
    with pytest.raises(ModelUnavailable, match=complaint) as caught:
        load(str(copy), CPU)
    assert "\n" not in str(caught.value)
    assert "; " in str(caught.value)


def test_a_vqgan_with_more_codes_than_the_llama_has_tokens_is_refused(tmp_path: Path) -> None:
    folder = make_lvm(tmp_path / "lvm", codes=24, vocabulary=20)
    with pytest.raises(ModelUnavailable, match="has 24 codes, more than the 20 tokens of the LLaMA; name two that fit"):
        load(str(folder), CPU)


def test_a_llama_of_far_more_tokens_than_codes_is_of_something_else(tmp_path: Path) -> None:
    """As one of texts, or a small VQGAN beside the large model's LLaMA; a few tokens more, as the public model has, are none's."""
    folder = make_lvm(tmp_path / "lvm", codes=24, vocabulary=49)
    with pytest.raises(ModelUnavailable, match="has 24 codes and the LLaMA 49 tokens, which are of something else; name two that fit"):
        load(str(folder), CPU)


def test_weights_in_shards_are_read_and_a_missing_one_is_named(folder: Path, copy: Path, model: VisualSentenceModel) -> None:
    from transformers import LlamaForCausalLM

    (copy / LLAMA).unlink()
    LlamaForCausalLM.from_pretrained(folder / "llama").save_pretrained(copy / "llama", max_shard_size="30KB")
    shards = sorted((copy / "llama").glob("model-*.safetensors"))
    assert len(shards) > 1
    words = torch.arange(2 * TOKENS).reshape(2, TOKENS) % 24
    sharded = load(str(copy), CPU)
    torch.testing.assert_close(sharded.score(words), model.score(words), equal_nan=True)
    shards[0].unlink()
    with pytest.raises(ModelUnavailable, match=f"{shards[0].name} is missing"):
        load(str(copy), CPU)


def test_pickled_weights_in_shards_are_read_and_a_cut_one_is_told(folder: Path, copy: Path, model: VisualSentenceModel) -> None:
    from safetensors.torch import load_file

    found = sorted(load_file(copy / LLAMA).items())
    (copy / LLAMA).unlink()
    shards = {"pytorch_model-00001-of-00002.bin": dict(found[:9]), "pytorch_model-00002-of-00002.bin": dict(found[9:])}
    for name, shard in shards.items():
        torch.save(shard, copy / "llama" / name)
    index = {"metadata": {}, "weight_map": {key: name for name, shard in shards.items() for key in shard}}
    (copy / "llama" / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    words = torch.arange(2 * TOKENS).reshape(2, TOKENS) % 24
    torch.testing.assert_close(load(str(copy), CPU).score(words), model.score(words), equal_nan=True)
    last = copy / "llama" / "pytorch_model-00002-of-00002.bin"
    last.write_bytes(last.read_bytes()[:-2000])
    with pytest.raises(ModelUnavailable, match=r"the LLaMA of .* cannot be read"):
        load(str(copy), CPU)


def test_the_public_files_are_read_as_they_are_without_running_code(
    folder: Path, copy: Path, model: VisualSentenceModel, tmp_path: Path
) -> None:
    """Pickles of tensors in two folders, to which one folder has links."""
    from safetensors.torch import load_file

    weights = copy / "llama" / "pytorch_model.bin"
    torch.save(load_file(copy / LLAMA), weights)
    (copy / LLAMA).unlink()
    (tmp_path / "vqvae_ckpts").mkdir()
    (tmp_path / "vqvae_ckpts" / "config.json").write_text(json.dumps(SMALL))
    torch.save(tensors(SMALL), tmp_path / "vqvae_ckpts" / "pytorch_model.bin")
    both = tmp_path / "both"
    both.mkdir()
    (both / "llama").symlink_to(copy / "llama")
    (both / "vqgan").symlink_to(tmp_path / "vqvae_ckpts")
    found = load(str(both), CPU)
    words = torch.arange(2 * TOKENS).reshape(2, TOKENS) % 24
    torch.testing.assert_close(found.score(words), model.score(words), equal_nan=True)
    assert found.revision == revision_of(weights, tmp_path / "vqvae_ckpts" / "pytorch_model.bin") and len(found.decode(words)) == 2
    apart = load(str(copy / "llama"), CPU, vqgan=str(tmp_path / "vqvae_ckpts"))
    assert (apart.name, apart.revision) == (str(copy / "llama"), found.revision)
    torch.testing.assert_close(apart.score(words), model.score(words), equal_nan=True)

    class Code:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(tmp_path / "it-ran"),)

    torch.save({"model.norm.weight": Code()}, weights)
    with pytest.raises(ModelUnavailable, match=r"the LLaMA of .* cannot be read"):
        load(str(both), CPU)
    assert not (tmp_path / "it-ran").exists()


def test_without_a_name_and_a_hub_the_bundled_one_runs_and_says_so(hub_cache: Path) -> None:
    found = load(None, CPU)
    assert found.name == "tiny-lvm" and found.warning is not None and "\n" not in found.warning
    assert "lvm-7b" in found.warning and "is not cached and the model hub cannot be had" in found.warning


def test_the_public_model_is_two_repositories_in_the_cache(folder: Path, hub_cache: Path) -> None:
    """As huggingface_hub lays a cache out."""
    for repo, part in (("Emma02/LVM_ckpts", "llama"), ("Emma02/vqvae_ckpts", "vqgan")):
        assert hub.cached("Emma02/LVM_ckpts") is None
        place = hub_cache / f"models--{repo.replace('/', '--')}"
        shutil.copytree(folder / part, place / "snapshots" / "abc123")
        (place / "refs").mkdir()
        (place / "refs" / "main").write_text("abc123")
    found = load(None, CPU)
    assert (found.name, found.revision) == ("lvm-7b", "abc123+abc123")
    words = torch.arange(2 * TOKENS).reshape(2, TOKENS) % 24
    torch.testing.assert_close(found.score(words), load(str(folder), CPU).score(words), equal_nan=True)
    assert catalog.recommended("lvm").name == "lvm-7b"


def test_the_vqgan_is_of_another_model_or_alone_where_that_is_named(folder: Path, copy: Path, model: VisualSentenceModel) -> None:
    """The LLaMA of one, the pictures of the other."""
    from safetensors.torch import load_file, save_file

    save_file({name: tensor + 0.01 for name, tensor in load_file(copy / VQGAN).items()}, copy / VQGAN)
    other, words = load(str(copy), CPU), torch.arange(2 * TOKENS).reshape(2, TOKENS) % 24
    drawn = [np.asarray(image) for image in other.decode(words)]
    assert not np.array_equal(drawn, [np.asarray(image) for image in model.decode(words)])
    for llama, vqgan in ((folder, copy), (folder / "llama", copy / "vqgan"), (folder / "llama", copy), (folder, copy / "vqgan")):
        found = load(str(llama), CPU, vqgan=str(vqgan))
        assert np.array_equal(drawn, [np.asarray(image) for image in found.decode(words)])
        torch.testing.assert_close(found.score(words), model.score(words), equal_nan=True)
        assert (found.name, found.revision) == (str(llama), revision_of(folder / LLAMA, copy / VQGAN))


def test_a_catalog_name_means_the_same_whatever_folder_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny-lvm").mkdir()
    (tmp_path / "tiny-lvm" / "config.json").write_text("{}")
    _, bundled = lvm_files.find("tiny-lvm")
    assert lvm_files.find("tiny-lvm", "tiny-lvm")[1] == bundled and bundled.vqgan.parent == bundled.llama.parent != tmp_path / "tiny-lvm"


def test_of_the_public_model_the_vqgan_alone_is_asked_for(folder: Path, hub_cache: Path) -> None:
    """The LLaMA beside it has thirteen gigabytes."""
    place = hub_cache / "models--Emma02--vqvae_ckpts"
    shutil.copytree(folder / "vqgan", place / "snapshots" / "abc2")
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text("abc2")
    for name in ("lvm-7b", "Emma02/LVM_ckpts", "Emma02/vqvae_ckpts"):
        assert lvm_files.vqgan_folder(name) == place / "snapshots" / "abc2"


def test_two_repositories_that_are_named_are_one_model(folder: Path, hub_cache: Path) -> None:
    for repo, part, commit in (("org/language", "llama", "abc1"), ("org/pictures", "vqgan", "abc2")):
        place = hub_cache / f"models--{repo.replace('/', '--')}"
        shutil.copytree(folder / part, place / "snapshots" / commit)
        (place / "refs").mkdir()
        (place / "refs" / "main").write_text(commit)
    found = load("org/language", CPU, vqgan="org/pictures")
    assert (found.name, found.revision) == ("org/language", "abc1+abc2")
    whole = hub_cache / "models--org--lvm"
    shutil.copytree(folder, whole / "snapshots" / "abc3")
    (whole / "refs").mkdir()
    (whole / "refs" / "main").write_text("abc3")
    assert load("org/lvm", CPU).revision == "abc3"
    assert load("org/lvm", CPU, vqgan="org/pictures").revision == "abc3+abc2", "either may be of a repository of both"
    assert load("org/language", CPU, vqgan="org/lvm").revision == "abc1+abc3"
    mixed = load("org/language", CPU, vqgan=str(folder))
    assert mixed.revision == revision_of(folder / LLAMA, folder / VQGAN), "one of them has no commit"


@pytest.mark.parametrize(
    ("model", "vqgan", "complaint"),
    [
        (
            "llama",
            None,
            "llama holds one network alone; name the other as well (--vqgan; for models convert lvm after the LLaMA), or a folder of both",
        ),
        ("llama", "tiny-lvm", "the VQGAN of tiny-lvm has 1024 codes, more than the 32 tokens of the LLaMA; name two that fit"),
        ("llama", "llama", "has no channel_mult and sizes of open-muse's VQGANModel; name another model"),
        ("llama", "llama/config.json", "config.json is a file; name the folder of the VQGAN"),
        ("llama", "lvm-8b", "lvm-8b is no catalog name, folder or hub id, of which the VQGAN could come"),
        ("lvm-8b", "vqgan", "lvm-8b is no catalog name, folder or hub id, of which the LLaMA could come"),
        ("vqgan", "vqgan", "has no config.json with model.safetensors"),
        ("llama", "", "the model's name is empty"),
        ("llama", "n" * 300, "is no catalog name, folder or hub id"),
        ("n" * 300, None, "is no catalog name, hub id or local path"),
        ("llama", "org/none", "org/none is not cached and the model hub cannot be had"),
    ],
)
def test_networks_that_are_named_apart_and_are_none_are_told(copy: Path, model: str, vqgan: str | None, complaint: str) -> None:
    names = [str(copy / name) if name and os.path.exists(copy / name) else name for name in (model, vqgan)]  # noqa: PTH110  no errors
    with pytest.raises(ModelUnavailable) as told:
        load(names[0], CPU, vqgan=names[1])
    assert complaint in str(told.value) and "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("name", "words"), [("lvm-8b", "lvm-8b is no catalog name"), ("vit-base", "vit-base is a model for classify, not for lvm")]
)
def test_a_name_that_is_none_of_an_lvm_is_refused(name: str, words: str) -> None:
    with pytest.raises(ModelUnavailable, match=words):
        load(name)


def test_random_weights_of_a_size_are_for_measuring(monkeypatch: pytest.MonkeyPatch) -> None:
    shrink_300m(monkeypatch)
    one, two, other = (load(random_weights="300m", runtime=Runtime("cpu", "fp32", seed=seed)) for seed in (1, 1, 2))
    assert (one.name, one.revision, one.image_size, one.frame_tokens, one.codes, one.context_frames) == (
        "random-300m",
        "seed:1",
        256,
        256,
        8192,
        16,
    )
    words = torch.arange(256).reshape(1, 256)
    assert torch.equal(one.score(words).nan_to_num(), two.score(words).nan_to_num())
    assert not torch.equal(one.score(words).nan_to_num(), other.score(words).nan_to_num())


def test_options_of_loading_that_make_no_sense_are_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="there is no size '9b'; use 300m, 600m, 1b, 3b, 7b"):
        load(random_weights="9b")
    with pytest.raises(UsageError, match="exclude each other"):
        load(str(folder), random_weights="300m")
    with pytest.raises(UsageError, match="random weights of 300m and the VQGAN tiny-lvm exclude each other"):
        load(random_weights="300m", vqgan="tiny-lvm")
    with pytest.raises(UsageError, match="tiny-lvm replaces the VQGAN of a model, and none is named; name it with --model"):
        load(vqgan="tiny-lvm")
    with pytest.raises(UsageError, match="quantization 'int3' is unknown; use int8"):
        load(str(folder), quantize="int3")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match="needs the package torchao"):
        load(str(folder), quantize="int8")
