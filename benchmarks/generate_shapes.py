"""Large pipelines with random weights: the shapes of published models, whose speed does not depend on the values.

``scale``, 1, 2 or 4, divides widths and depths, so that the building can be tried where the whole would not fit.
"""

from __future__ import annotations

from typing import Any

_CLIP_L = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12, "projection_dim": 768}
_CLIP_G = {
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "num_attention_heads": 20,
    "projection_dim": 1280,
    "hidden_act": "gelu",
}
_TOKENS = 77


def sdxl(scale: int = 1) -> Any:
    """Stable Diffusion XL, 1024x1024: a U-Net of 2.6 B parameters (Podell et al. 2023, arXiv 2307.01952)."""
    from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    words = _tokenizer()
    first, second = _text(_CLIP_L, words, scale), _text(_CLIP_G, words, scale)
    unet = UNet2DConditionModel(
        sample_size=128 // scale,
        block_out_channels=(320 // scale, 640 // scale, 1280 // scale),
        layers_per_block=2,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 2, max(1, 10 // scale)),
        attention_head_dim=(5, 10, 20),
        cross_attention_dim=first.hidden_size + second.hidden_size,
        addition_embed_type="text_time",
        addition_time_embed_dim=256,
        projection_class_embeddings_input_dim=second.projection_dim + 6 * 256,
        use_linear_projection=True,
        norm_num_groups=32 if scale == 1 else 4,
    )
    return StableDiffusionXLPipeline(
        vae=_vae(4, scale),
        text_encoder=CLIPTextModel(first),
        text_encoder_2=CLIPTextModelWithProjection(second),
        tokenizer=words,
        tokenizer_2=_tokenizer(),
        unet=unet,
        scheduler=EulerDiscreteScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1),
        add_watermarker=False,
    )


def sd3(scale: int = 1) -> Any:
    """Stable Diffusion 3.5 large, 1024x1024: a transformer of 8.1 B parameters (Esser et al. 2024, arXiv 2403.03206).

    Its T5 has two layers: it reads a prompt once, which is a small part of the whole, and a pipeline without one cannot be read back.
    """
    from diffusers import FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Pipeline
    from transformers import CLIPTextModelWithProjection

    words = _tokenizer()
    first, second = _text(_CLIP_L, words, scale), _text(_CLIP_G, words, scale)
    heads = 38 // scale
    transformer = SD3Transformer2DModel(
        sample_size=128 // scale,
        patch_size=2,
        in_channels=16,
        out_channels=16,
        num_layers=38 // scale,
        attention_head_dim=64,
        num_attention_heads=heads,
        joint_attention_dim=4096 // scale,
        caption_projection_dim=64 * heads,
        pooled_projection_dim=first.projection_dim + second.projection_dim,
        pos_embed_max_size=192,
        qk_norm="rms_norm",
    )
    return StableDiffusion3Pipeline(
        vae=_vae(16, scale, scaling_factor=1.5305, shift_factor=0.0609, use_quant_conv=False, use_post_quant_conv=False),
        text_encoder=CLIPTextModelWithProjection(first),
        text_encoder_2=CLIPTextModelWithProjection(second),
        text_encoder_3=_t5(4096 // scale),
        tokenizer=words,
        tokenizer_2=_tokenizer(),
        tokenizer_3=_t5_tokenizer(),
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
    )


def _tokenizer() -> Any:
    """Of the tiny world's words, as long as CLIP's."""
    from visiontk.training.generate_words import tokenizer

    words = tokenizer()
    words.model_max_length = _TOKENS
    return words


def _t5(width: int) -> Any:
    from transformers import T5Config, T5EncoderModel

    shape = {"d_model": width, "d_ff": width * 5 // 2, "d_kv": 64, "num_heads": width // 64, "num_layers": 2}
    return T5EncoderModel(T5Config(**shape, vocab_size=len(_t5_tokenizer()), feed_forward_proj="gated-gelu"))


def _t5_tokenizer() -> Any:
    """Of letters alone."""
    from transformers import T5TokenizerFast

    given: Any = [(piece, 0.0) for piece in ("<pad>", "</s>", "<unk>")] + [(letter, -1.0) for letter in "\u2581abcdefghijklmnopqrstuvwxyz"]
    return T5TokenizerFast(vocab=given, extra_ids=0)


def _text(shape: dict[str, Any], words: Any, scale: int) -> Any:
    from transformers import CLIPTextConfig

    numbers = {key: value // scale for key, value in shape.items() if key in ("hidden_size", "intermediate_size", "projection_dim")}
    layers = max(2, shape["num_hidden_layers"] // scale)  # the last but one is read
    special = {"bos_token_id": words.bos_token_id, "eos_token_id": words.eos_token_id, "pad_token_id": words.pad_token_id}
    given: Any = {**shape, **numbers, **special, "num_hidden_layers": layers, "vocab_size": len(words)}
    return CLIPTextConfig(**given, max_position_embeddings=_TOKENS)


def _vae(channels: int, scale: int, **more: Any) -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(128 // scale, 256 // scale, 512 // scale, 512 // scale),
        layers_per_block=2,
        latent_channels=channels,
        sample_size=1024 // scale,
        norm_num_groups=32 if scale == 1 else 4,
        force_upcast=False,  # published weights of the first kind overflow in fp16; these do not
        **more,
    )
