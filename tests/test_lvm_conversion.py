"""The public files: the original's names and shapes, its arithmetic, and what is written from them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from tests.lvm_models import make_lvm, vqgan_config
from tests.lvm_public import PUBLIC, SMALL, original, tensors
from visiontk.adapters import lvm_sizes
from visiontk.adapters.generate_quiet import importing
from visiontk.adapters.lvm import convert, load
from visiontk.adapters.lvm_public import diffusers_config, read_vqgan, rename
from visiontk.adapters.lvm_weights import build_vqgan, frame_tokens
from visiontk.errors import ModelUnavailable
from visiontk.runtime import Runtime

CPU = Runtime(device="cpu", dtype="fp32")


class Original:
    """The original's forward pass, by its own names, in plain functions of torch."""

    def __init__(self, weights: dict[str, Tensor], config: dict[str, Any]) -> None:
        self.weights, self.levels, self.blocks = weights, len(config["channel_mult"]), config["num_res_blocks"]

    def convolution(self, name: str, x: Tensor, stride: int = 1, padding: int = 1) -> Tensor:
        return functional.conv2d(x, self.weights[f"{name}.weight"], self.weights[f"{name}.bias"], stride, padding)

    def activated(self, name: str, x: Tensor) -> Tensor:
        return functional.silu(functional.group_norm(x, 32, self.weights[f"{name}.weight"], self.weights[f"{name}.bias"], 1e-6))

    def block(self, name: str, x: Tensor) -> Tensor:
        y = self.convolution(f"{name}.conv1", self.activated(f"{name}.norm1", x))
        y = self.convolution(f"{name}.conv2", self.activated(f"{name}.norm2", y))
        shortcut = f"{name}.nin_shortcut"
        return y + (self.convolution(shortcut, x, padding=0) if f"{shortcut}.weight" in self.weights else x)

    def encode(self, x: Tensor) -> Tensor:
        """The code of each place: int64 (N, places)."""
        x = self.convolution("encoder.conv_in", x)
        for level in range(self.levels):
            for place in range(self.blocks):
                x = self.block(f"encoder.down.{level}.block.{place}", x)
            if level < self.levels - 1:
                x = self.convolution(f"encoder.down.{level}.downsample.conv", functional.pad(x, (0, 1, 0, 1)), 2, 0)
        x = self.block("encoder.mid.block_2", self.block("encoder.mid.block_1", x))
        x = self.convolution("encoder.conv_out", self.activated("encoder.norm_out", x))
        x = self.convolution("quant_conv", x, padding=0).permute(0, 2, 3, 1).flatten(1, 2)
        book = self.weights["quantize.embedding.weight"]
        return (x[:, :, None].double() - book.double()).square().sum(-1).argmin(-1)

    def decode(self, codes: Tensor, side: int) -> Tensor:
        x = self.weights["quantize.embedding.weight"][codes].reshape(len(codes), side, side, -1).permute(0, 3, 1, 2)
        x = self.convolution("decoder.conv_in", self.convolution("post_quant_conv", x, padding=0))
        x = self.block("decoder.mid.block_2", self.block("decoder.mid.block_1", x))
        for level in reversed(range(self.levels)):
            for place in range(self.blocks + 1):
                x = self.block(f"decoder.up.{level}.block.{place}", x)
            if level > 0:
                x = self.convolution(f"decoder.up.{level}.upsample.conv", functional.interpolate(x, scale_factor=2.0, mode="nearest"))
        return self.convolution("decoder.conv_out", self.activated("decoder.norm_out", x))


def test_every_tensor_of_the_public_vqgan_has_its_place_and_shape() -> None:
    shapes = original(PUBLIC)
    assert len(shapes) == 277
    assert sum(torch.Size(shape).numel() for shape in shapes.values()) == 146_244_675
    with importing():
        from diffusers import VQModel
    with torch.device("meta"):
        theirs = {name: torch.empty(shape) for name, shape in shapes.items()}
        wanted = VQModel.from_config(diffusers_config(PUBLIC, "it")).state_dict()
    renamed = rename(theirs, 5, "it")
    assert len(renamed) == 277
    assert {name: tensor.shape for name, tensor in renamed.items()} == {name: tensor.shape for name, tensor in wanted.items()}


@pytest.mark.parametrize("configured", [False, True])
def test_a_pickle_of_every_tensor_of_the_public_vqgan_is_read_and_built(tmp_path: Path, configured: bool) -> None:
    """Each tensor has its shape and one number in the file, so it is small."""
    torch.save({name: torch.full((), 0.5).expand(shape) for name, shape in original(PUBLIC).items()}, tmp_path / "pytorch_model.bin")
    if configured:
        (tmp_path / "config.json").write_text(json.dumps(PUBLIC))
    config, renamed = read_vqgan(tmp_path, "it")
    vqgan = build_vqgan(config, renamed, "it")
    assert sum(value.numel() for value in vqgan.state_dict().values()) == 146_244_675
    assert (vqgan.config.num_vq_embeddings, frame_tokens(vqgan)) == (8192, 256)
    assert all((value == 0.5).all() for value in vqgan.state_dict().values())


def test_the_public_configuration_is_known_where_the_file_is_missing() -> None:
    assert diffusers_config(PUBLIC, "it") == lvm_sizes.VQGAN


def test_the_renamed_vqgan_computes_what_the_original_does() -> None:
    weights = tensors(SMALL)
    vqgan = build_vqgan(diffusers_config(SMALL, "it"), rename(weights, 3, "it"), "it")
    reference = Original(weights, SMALL)
    pictures = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        codes = vqgan.quantize(vqgan.encode(pictures).latents)[2][2].reshape(3, 16)
        want = reference.encode(pictures)
        assert torch.equal(codes, want)
        assert len({*want.flatten().tolist()}) > 5
        decoded = vqgan.decode(want, force_not_quantize=True, shape=(3, 4, 4, 5)).sample
        torch.testing.assert_close(decoded, reference.decode(want, 4), atol=5e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("size", "shape", "billions"),
    [
        ("300m", (1024, 2688, 22, 8), 0.3),
        ("600m", (1536, 4096, 22, 16), 0.6),
        ("1b", (2048, 5504, 22, 16), 1.1),
        ("3b", (3200, 8640, 26, 32), 3.3),
        ("7b", (4096, 11008, 32, 32), 6.544),
    ],
)
def test_the_sizes_of_the_paper(size: str, shape: tuple[int, int, int, int], billions: float) -> None:
    with importing():
        from transformers import LlamaConfig, LlamaForCausalLM
    config = LlamaConfig(**lvm_sizes.llama(size))
    with torch.device("meta"):
        network = LlamaForCausalLM(config)
    hidden, intermediate, layers, heads = shape
    assert (config.num_attention_heads, config.num_key_value_heads, config.max_position_embeddings) == (heads, heads, 4096)
    parameters = layers * (4 * hidden**2 + 3 * hidden * intermediate + 2 * hidden) + 2 * 8292 * hidden + hidden
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters == pytest.approx(billions * 1e9, rel=0.1)
    assert (config.eos_token_id, config.bos_token_id, config.rope_parameters["rope_theta"], config.rms_norm_eps) == (None, None, 1e4, 1e-6)
    assert not config.tie_word_embeddings


@pytest.fixture
def public(tmp_path: Path) -> tuple[Path, Path]:
    """The two folders as they are published: a LLaMA whose end is a code, and a VQGAN as a pickle of tensors."""
    llama = make_lvm(tmp_path / "other", eos=2) / "llama"
    vqgan = tmp_path / "vqvae_ckpts"
    vqgan.mkdir()
    (vqgan / "config.json").write_text(json.dumps(SMALL))
    torch.save(tensors(SMALL), vqgan / "pytorch_model.bin")
    return llama, vqgan


def test_converted_folders_hold_safetensors_and_say_the_same(public: tuple[Path, Path], tmp_path: Path) -> None:
    llama, vqgan = public
    convert(llama, vqgan, tmp_path / "lvm")
    written = sorted(file.relative_to(tmp_path / "lvm").as_posix() for file in (tmp_path / "lvm").rglob("*") if file.is_file())
    assert written == [
        "llama/config.json",
        "llama/model.safetensors",
        "vqgan/config.json",
        "vqgan/diffusion_pytorch_model.safetensors",
    ]
    config = json.loads((tmp_path / "lvm" / "llama" / "config.json").read_text())
    assert not any(config.get(f"{kind}_token_id") for kind in ("bos", "eos", "pad"))
    model = load(str(tmp_path / "lvm"), CPU)
    assert (model.image_size, model.frame_tokens, model.codes, model.context_frames) == (16, 16, 24, 6)
    words = torch.randint(0, 24, (2, 16))
    drawn = Original(tensors(SMALL), SMALL).decode(words, 4).clamp(0, 1)
    for image, want in zip(model.decode(words), drawn, strict=True):
        got = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).reshape(16, 16, 3).permute(2, 0, 1)
        assert (got.float() - want * 255).abs().max() <= 0.51


def test_it_is_told_how_many_bytes_are_done(public: tuple[Path, Path], tmp_path: Path) -> None:
    llama, vqgan = public
    told: list[tuple[str, int, int]] = []
    converted = convert(llama, vqgan, tmp_path / "lvm", lambda *state: told.append(state))
    first = 4 * sum(torch.Size(shape).numel() for shape in original(SMALL).values())
    total = first + (llama / "model.safetensors").stat().st_size
    assert told == [("VQGAN", 0, total), ("LLaMA", first, total), ("LLaMA", total, total)]
    assert converted.size == sum(file.stat().st_size for file in (tmp_path / "lvm").rglob("*.safetensors"))


def test_the_llama_may_be_a_pickle_of_tensors_and_nothing_else(public: tuple[Path, Path], tmp_path: Path) -> None:
    from safetensors.torch import load_file

    llama, vqgan = public
    weights = load_file(llama / "model.safetensors")
    (llama / "model.safetensors").unlink()
    torch.save(weights, llama / "pytorch_model.bin")
    convert(llama, vqgan, tmp_path / "lvm")
    again = load_file(tmp_path / "lvm" / "llama" / "model.safetensors")
    assert all(torch.equal(again[name], tensor) for name, tensor in weights.items())

    class Code:
        def __reduce__(self) -> Any:
            return print, ("run",)

    torch.save({"encoder.conv_in.weight": Code()}, vqgan / "pytorch_model.bin")
    with pytest.raises(ModelUnavailable, match="is a pickle that could run code, so it is refused"):
        convert(llama, vqgan, tmp_path / "other")


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"no_attn_mid_block": False}, "has attention, which LVM's has not"),
        ({"attn_resolutions": [4]}, "has attention"),
        ({"resample_with_conv": False}, "has pooling"),
        ({"decoder_channel_mult": [1, 2, 4]}, "has decoder_channel_mult"),
        ({"channel_mult": None}, "has no channel_mult and sizes"),
        ({"z_channels": "six"}, "has no channel_mult and sizes"),
        ({"num_embeddings": 48}, r"quantize.embedding.weight has the shape \[24, 5\] and not \[48, 5\]"),
        ({"num_res_blocks": 2}, "is missing"),
    ],
)
def test_a_vqgan_of_another_kind_is_refused(public: tuple[Path, Path], tmp_path: Path, change: dict[str, Any], complaint: str) -> None:
    llama, vqgan = public
    (vqgan / "config.json").write_text(json.dumps(SMALL | change))
    with pytest.raises(ModelUnavailable, match=complaint) as caught:
        convert(llama, vqgan, tmp_path / "lvm")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "lvm").exists()


def test_a_tensor_that_the_original_has_not_is_refused(public: tuple[Path, Path]) -> None:
    _, vqgan = public
    torch.save(tensors(SMALL) | {"decoder.mid.attn_1.q.weight": torch.zeros(1)}, vqgan / "pytorch_model.bin")
    with pytest.raises(ModelUnavailable, match=r"has a tensor decoder.mid.attn_1.q.weight, which open-muse's VQGANModel has not"):
        read_vqgan(vqgan, "it")


def test_a_vqmodel_is_read_as_it_is(tmp_path: Path) -> None:
    config, found = read_vqgan(make_lvm(tmp_path / "lvm") / "vqgan", "it")
    assert {key: config[key] for key in vqgan_config()} == vqgan_config()
    assert set(build_vqgan(config, found, "it").state_dict()) == set(found)
