"""The parts of the bundled text-to-image model, with random weights: Stable Diffusion's (Rombach et al. 2022, arXiv 2112.10752), small.

Noise follows the scaled-linear schedule, stretched to end in pure noise, and the U-Net predicts the velocity (Lin et al. 2023,
arXiv 2305.08891): otherwise the first step would see the picture's mean brightness, and plain backgrounds come out grey.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .generate_vae import LATENTS, new_autoencoder
from .generate_words import TOKENS, tokenizer

CHANNELS = (48, 96, 192)
TEXT_WIDTH, TEXT_LAYERS = 192, 2
POOLING_HEADS = 8


@dataclass
class Parts:
    """What a ``StableDiffusionPipeline`` is made of, without a safety checker."""

    vae: Any
    text_encoder: Any
    tokenizer: Any
    unet: Any
    scheduler: Any

    def pipeline(self) -> Any:
        """Joined."""
        from diffusers import StableDiffusionPipeline

        parts: Any = dict(vars(self))
        return StableDiffusionPipeline(**parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False)


def new_parts(size: int) -> Parts:
    """With random weights, seeded by the caller, for pictures of ``size`` pixels a side."""
    from diffusers import UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    words = tokenizer()
    text = CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=TEXT_WIDTH,
        intermediate_size=4 * TEXT_WIDTH,
        projection_dim=TEXT_WIDTH,
        num_hidden_layers=TEXT_LAYERS,
        num_attention_heads=TEXT_WIDTH // 48,
        max_position_embeddings=TOKENS,
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
    )
    text_encoder = CLIPTextModel(text)
    text_encoder.get_input_embeddings().weight.data.normal_()  # words differ from the first step; CLIP's own deviation is 0.02
    finer = len(CHANNELS) - 1
    unet = UNet2DConditionModel(
        sample_size=size // 4,
        in_channels=LATENTS,
        out_channels=LATENTS,
        block_out_channels=CHANNELS,
        layers_per_block=1,
        # The finer levels have no attention: it would be half of the work, and words say what is where on a coarser scale.
        down_block_types=(*["DownBlock2D"] * finer, "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", *["UpBlock2D"] * finer),
        # The whole sentence, pooled, scales and shifts every level as the time does, and not only through attention to its words.
        addition_embed_type="text",
        addition_embed_type_num_heads=POOLING_HEADS,
        resnet_time_scale_shift="scale_shift",
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=8,
        norm_num_groups=16,
    )
    return Parts(new_autoencoder(), text_encoder, words, unet, schedule())


def schedule() -> Any:
    """The noise, and DDIM as the sampler."""
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )


def read_parts(folder: str) -> Parts:
    """Of a pipeline that `visiontk train generate` wrote. Raises what diffusers raises."""
    from diffusers import StableDiffusionPipeline

    made: Any = StableDiffusionPipeline.from_pretrained(folder, local_files_only=True, safety_checker=None, requires_safety_checker=False)
    for part in (made.vae, made.text_encoder, made.unet):
        part.float()
    return Parts(made.vae, made.text_encoder, made.tokenizer, made.unet, made.scheduler)
