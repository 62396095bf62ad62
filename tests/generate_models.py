"""Tiny pipelines with random weights on disk, made in a second: no model for pictures, but every part that a real one has."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from visiontk.adapters.generate_quiet import importing, quiet

WORDS = ("a", "an", "red", "green", "blue", "apple", "car", "tree", "on", "the", "grass")


def make_pipeline(
    folder: Path,
    *,
    seed: int = 7,
    side: int = 32,
    variant: str | None = None,
    dtype: str = "float32",
    blocks: bool | None = None,
    scheduler: str = "PNDMScheduler",
    prediction_type: str = "epsilon",
    mask_channels: bool = False,
    window: int = 24,
) -> Path:
    """A ``StableDiffusionPipeline`` of 32 x 32 pixels (VAE f4), as diffusers saves it; about 1.5 MB.

    Args:
        seed: of the weights.
        side: in pixels, a multiple of 8.
        variant: saved under names with it, as ``fp16``.
        dtype: of the weights in the files.
        blocks: whether its safety checker blocks everything or nothing; None for a pipeline without one.
        mask_channels: a UNet for inpainting alone, which takes a mask and the masked image.
        window: tokens that the text encoder reads, the two special ones included.
    """
    import torch

    with importing():
        import diffusers
        from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
        from transformers import CLIPTextConfig, CLIPTextModel

    state = torch.random.get_rng_state()
    torch.manual_seed(seed)
    tokenizer = _tokenizer(folder / "tokenizer", window)
    unet = UNet2DConditionModel(
        sample_size=side // 4,
        in_channels=9 if mask_channels else 4,
        out_channels=4,
        block_out_channels=(16, 32),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=32,
        attention_head_dim=2,
        norm_num_groups=8,
    )
    vae = AutoencoderKL(
        block_out_channels=(8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=side,
        scaling_factor=0.5,
    )
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=4,
        num_attention_heads=2,
        max_position_embeddings=window,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    text_encoder = CLIPTextModel(config)
    sampler = getattr(diffusers, scheduler)
    options: dict[str, Any] = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
    with torch.no_grad():
        for network in (unet, vae):  # as they are initialised their answers hardly depend on what they are asked
            for parameter in network.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
        for parameter in text_encoder.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    with quiet():
        pipeline = StableDiffusionPipeline(
            vae=vae,
            text_encoder=text_encoder,
            tokenizer=tokenizer,
            unet=unet,
            scheduler=sampler(**options, prediction_type=prediction_type, **({"skip_prk_steps": True} if "PNDM" in scheduler else {})),
            safety_checker=None if blocks is None else _safety_checker(blocks),
            feature_extractor=None if blocks is None else _feature_extractor(),
            requires_safety_checker=blocks is not None,
        )
        pipeline.to(getattr(torch, dtype), silence_dtype_warnings=True)
        pipeline.save_pretrained(folder, safe_serialization=True, variant=variant)
    if mask_channels:
        rename(folder, "StableDiffusionInpaintPipeline")
    torch.random.set_rng_state(state)
    return folder


def make_xl_pipeline(folder: Path, *, seed: int = 7, side: int = 32, window: int = 24) -> Path:
    """A ``StableDiffusionXLPipeline``: two text encoders, and sizes among what the UNet is told. 3 MB."""
    import torch

    with importing():
        from diffusers import AutoencoderKL, EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
        from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

    base = make_pipeline(folder / "parts", seed=seed, side=side, window=window)
    state = torch.random.get_rng_state()
    torch.manual_seed(seed + 1)
    tokenizer = CLIPTokenizer.from_pretrained(base / "tokenizer")
    config = CLIPTextConfig.from_pretrained(base / "text_encoder", projection_dim=32)
    unet = UNet2DConditionModel(
        sample_size=side // 4,
        in_channels=4,
        out_channels=4,
        block_out_channels=(16, 32),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=64,
        attention_head_dim=2,
        norm_num_groups=8,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=6 * 8 + 32,
    )
    second = CLIPTextModelWithProjection(config)
    with torch.no_grad():
        for parameter in (*unet.parameters(), *second.parameters()):
            parameter.add_(0.1 * torch.randn_like(parameter))
    with quiet():
        StableDiffusionXLPipeline(
            vae=AutoencoderKL.from_pretrained(base / "vae"),
            text_encoder=CLIPTextModel.from_pretrained(base / "text_encoder"),
            text_encoder_2=second,
            tokenizer=tokenizer,
            tokenizer_2=tokenizer,
            unet=unet,
            scheduler=EulerDiscreteScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, timestep_spacing="leading"),
        ).save_pretrained(folder / "xl", safe_serialization=True)
    torch.random.set_rng_state(state)
    return folder / "xl"


def rename(folder: Path, kind: str) -> None:
    """Make the index say that the pipeline is of another class."""
    index = folder / "model_index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | {"_class_name": kind}))


def make_lora(folder: Path, model: Path, *, rank: int = 2, seed: int = 3, width: int | None = None, prefix: str = "unet") -> Path:
    """A LoRA for the attention of a pipeline's UNet, as diffusers saves it. ``width`` makes it one for another architecture."""
    import torch
    from safetensors.torch import load_file, save_file

    weights = load_file(next((model / "unet").glob("*.safetensors")))
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, weight in weights.items():
        layer = name.removesuffix(".weight")
        if layer.endswith(("to_q", "to_k", "to_v")):
            rows, columns = weight.shape
            tensors[f"{prefix}.{layer}.lora_A.weight"] = torch.randn(rank, width or columns, generator=generator)
            tensors[f"{prefix}.{layer}.lora_B.weight"] = torch.randn(width or rows, rank, generator=generator)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "pytorch_lora_weights.safetensors")
    return folder / "pytorch_lora_weights.safetensors"


def _tokenizer(folder: Path, window: int) -> Any:
    """A BPE of its own: letters, and a few whole words."""
    from transformers import CLIPTokenizer

    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)] + list("0123456789,.")
    tokens = letters + [f"{letter}</w>" for letter in letters]
    merges: list[tuple[str, str]] = []
    for word in WORDS:
        parts = [*word[:-1], f"{word[-1]}</w>"]
        while len(parts) > 1:
            pair = (parts[0], parts[1])
            if pair not in merges:
                merges.append(pair)
            parts[:2] = ["".join(pair)]
            if parts[0] not in tokens:
                tokens.append(parts[0])
    vocabulary = {token: index for index, token in enumerate([*tokens, "<|startoftext|>", "<|endoftext|>"])}
    tokenizer = CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=window, pad_token="<|endoftext|>")
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(folder)
    return tokenizer


def _safety_checker(blocks: bool) -> Any:
    """The checker of Stable Diffusion: every picture is more like its concepts than the thresholds allow, or none is."""
    import torch
    from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
    from transformers import CLIPConfig

    vision = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 32,
        "patch_size": 16,
    }
    checker = StableDiffusionSafetyChecker(CLIPConfig(vision_config=vision, projection_dim=16))
    with torch.no_grad():
        checker.concept_embeds_weights.fill_(-2.0 if blocks else 2.0)
        checker.special_care_embeds_weights.fill_(2.0)
    return checker


def _feature_extractor() -> Any:
    from transformers import CLIPImageProcessor

    return CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})


def make_checkpoint(file: Path, model: Path, *, config: bool) -> Path:
    """All weights of a pipeline in one file under the names that CompVis gave them, as checkpoints are passed around.

    ``config`` puts the pipeline's configuration into the folder ``config`` beside it.
    """
    import shutil

    from safetensors.torch import load_file, save_file

    tensors: dict[str, Any] = {}
    for part, prefix, rename in (
        ("unet", "model.diffusion_model.", _original_unet),
        ("vae", "first_stage_model.", _original_vae),
        ("text_encoder", "cond_stage_model.transformer.text_model.", lambda name: name.removeprefix("text_model.")),
    ):
        for name, tensor in load_file(next((model / part).glob("*.safetensors"))).items():
            flat = part == "vae" and ".attentions." in name and tensor.ndim == 2  # the attention of the VAE was one of convolutions
            tensors[prefix + rename(name)] = tensor[:, :, None, None].contiguous() if flat else tensor
    save_file(tensors, file)
    if config:
        shutil.copytree(model, file.with_name("config"), ignore=shutil.ignore_patterns("*.safetensors"))
    return file


_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_ENDS = {"time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2", "conv_in": "input_blocks.0.0"}
_ENDS |= {"conv_norm_out": "out.0", "conv_out": "out.2"}


def _original_unet(name: str) -> str:
    """Blocks of one layer, counted through: each takes two places, one for its layer and one for its resampling."""
    import re

    layer, _, kind = name.rpartition(".")
    if layer in _ENDS:
        return f"{_ENDS[layer]}.{kind}"
    if found := re.fullmatch(r"mid_block\.(resnets|attentions)\.(\d)\.(.*)", name):
        part, place, rest = found[1], int(found[2]), found[3]
        return f"middle_block.{1 if part == 'attentions' else 2 * place}.{_in_resnet(rest) if part == 'resnets' else rest}"
    found = re.fullmatch(r"(down|up)_blocks\.(\d)\.(resnets|attentions|downsamplers|upsamplers)\.(\d)\.(.*)", name)
    assert found, name
    side, block, part, place, rest = found[1], int(found[2]), found[3], int(found[4]), found[5]
    index = 2 * block + (1 if side == "down" else 0) + place + (part == "downsamplers") + (part == "upsamplers")
    start = f"{'input' if side == 'down' else 'output'}_blocks.{index}"
    if part == "resnets":
        return f"{start}.0.{_in_resnet(rest)}"
    if part == "attentions":
        return f"{start}.1.{rest}"
    return f"{start}.0.op.{kind}" if part == "downsamplers" else f"{start}.1.conv.{kind}"


def _in_resnet(rest: str) -> str:
    layer, _, kind = rest.rpartition(".")
    return f"{_RESNET[layer]}.{kind}"


def _original_vae(name: str, blocks: int = 3) -> str:
    import re

    name = re.sub(r"down_blocks\.(\d)\.resnets\.", r"down.\1.block.", name)
    name = re.sub(r"down_blocks\.(\d)\.downsamplers\.0", r"down.\1.downsample", name)
    name = re.sub(r"up_blocks\.(\d)\.resnets\.", lambda match: f"up.{blocks - 1 - int(match[1])}.block.", name)
    name = re.sub(r"up_blocks\.(\d)\.upsamplers\.0", lambda match: f"up.{blocks - 1 - int(match[1])}.upsample", name)
    name = re.sub(r"mid_block\.resnets\.(\d)", lambda match: f"mid.block_{int(match[1]) + 1}", name)
    name = name.replace("mid_block.attentions.0", "mid.attn_1").replace("conv_shortcut", "nin_shortcut")
    name = name.replace("conv_norm_out", "norm_out")
    for new, old in (("group_norm", "norm"), ("to_q", "q"), ("to_k", "k"), ("to_v", "v"), ("to_out.0", "proj_out")):
        name = name.replace(f"attn_1.{new}.", f"attn_1.{old}.")
    return name
