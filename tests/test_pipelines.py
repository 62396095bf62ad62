"""Which files of a pipeline's repository one run needs, as its index and their names tell."""

from __future__ import annotations

import pytest

from visiontk import pipelines
from visiontk.errors import ModelUnavailable

INDEX = {
    "_class_name": "StableDiffusionPipeline",
    "unet": ["diffusers", "UNet2DConditionModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "scheduler": ["diffusers", "PNDMScheduler"],
    "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
    "image_encoder": [None, None],
}
REPOSITORY = [
    "README.md",
    "model_index.json",
    "it-pruned.ckpt",
    "it-pruned.safetensors",
    "pipeline.py",
    "unet/config.json",
    "unet/own.py",
    "unet/diffusion_pytorch_model.bin",
    "unet/diffusion_pytorch_model.safetensors.index.json",
    "unet/diffusion_pytorch_model-00001-of-00002.safetensors",
    "unet/diffusion_pytorch_model-00002-of-00002.safetensors",
    "unet/diffusion_pytorch_model.fp16.safetensors",
    "unet/diffusion_pytorch_model.non_ema.safetensors",
    "unet/diffusion_flax_model.msgpack",
    "unet/model.onnx",
    "tokenizer/vocab.json",
    "tokenizer/merges.txt",
    "scheduler/scheduler_config.json",
    "safety_checker/config.json",
    "safety_checker/model.safetensors",
    "safety_checker/pytorch_model.bin",
    "image_encoder/model.safetensors",
    "vae_decoder/model.onnx",
]


def test_of_a_repository_only_what_a_run_needs_is_fetched() -> None:
    configs = ("model_index.json", "safety_checker/config.json", "scheduler/scheduler_config.json", "tokenizer/merges.txt")
    plain = pipelines.parts(INDEX, REPOSITORY, "it")
    assert plain.configs == (*configs, "tokenizer/vocab.json", "unet/config.json", "unet/diffusion_pytorch_model.safetensors.index.json")
    assert plain.weights == (
        "safety_checker/model.safetensors",
        "unet/diffusion_pytorch_model-00001-of-00002.safetensors",
        "unet/diffusion_pytorch_model-00002-of-00002.safetensors",
    )
    half = pipelines.parts(INDEX, REPOSITORY, "it", "fp16")
    assert half.weights == ("safety_checker/model.safetensors", "unet/diffusion_pytorch_model.fp16.safetensors")
    assert (plain.lacking, half.lacking, plain.variant, half.variant) == ((), (), None, "fp16")
    torn = [name for name in REPOSITORY if "00001-of" not in name]
    assert pipelines.parts(INDEX, torn, "it").lacking == ("unet",)
    unsafe = pipelines.parts(INDEX, [name for name in REPOSITORY if name != "safety_checker/model.safetensors"], "it")
    assert unsafe.lacking == ("safety_checker",)
    with pytest.raises(ModelUnavailable, match=r"has its weights only as variants \(fp16, non_ema\)"):
        pipelines.parts(INDEX, [name for name in REPOSITORY if "-of-" not in name], "it")
