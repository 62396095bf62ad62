"""The public VQGAN of LVM as that of diffusers: its configuration and the names of its tensors.

The tokenizer is open-muse's ``VQGANModel`` (muse/modeling_taming_vqgan.py), which computes what diffusers' ``VQModel`` does.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from visiontk import layouts
from visiontk.errors import ModelUnavailable, first_line

from . import lvm_sizes, weights_file
from .weights_file import StateDict

_DOWN = re.compile(r"encoder\.down\.(\d+)\.(block\.(\d+)|downsample)\.(.+)")
_UP = re.compile(r"decoder\.up\.(\d+)\.(block\.(\d+)|upsample)\.(.+)")
_MIDDLE = re.compile(r"(encoder|decoder)\.mid\.block_([12])\.(.+)")
_TOP = re.compile(r"(encoder|decoder)\.(conv_in|conv_out|norm_out)\.(weight|bias)")
_CODES = re.compile(r"(quant_conv|post_quant_conv)\.(weight|bias)|quantize\.embedding\.weight")


def diffusers_name(name: str, levels: int) -> str | None:
    """The name in a ``VQModel`` of ``levels`` resolutions of a tensor of a ``VQGANModel``; None for one that has no place there."""
    if found := _DOWN.fullmatch(name):
        level, part, block, rest = found[1], found[2], found[3], _in_block(found[4])
        return (
            f"encoder.down_blocks.{level}.downsamplers.0.{rest}"
            if part == "downsample"
            else f"encoder.down_blocks.{level}.resnets.{block}.{rest}"
        )
    if found := _UP.fullmatch(name):  # the original counts from the finest, diffusers from the coarsest
        level, part, block, rest = levels - 1 - int(found[1]), found[2], found[3], _in_block(found[4])
        return (
            f"decoder.up_blocks.{level}.upsamplers.0.{rest}" if part == "upsample" else f"decoder.up_blocks.{level}.resnets.{block}.{rest}"
        )
    if found := _MIDDLE.fullmatch(name):
        return f"{found[1]}.mid_block.resnets.{int(found[2]) - 1}.{_in_block(found[3])}"
    if found := _TOP.fullmatch(name):
        return f"{found[1]}.{found[2].replace('norm_out', 'conv_norm_out')}.{found[3]}"
    return name if _CODES.fullmatch(name) else None


def _in_block(rest: str) -> str:
    return rest.replace("nin_shortcut.", "conv_shortcut.")


def diffusers_config(config: dict[str, Any], name: str) -> dict[str, Any]:
    """The configuration of a ``VQModel`` for one of a ``VQGANModel``.

    Raises:
        ModelUnavailable: it has parts that a ``VQModel`` of this kind has not.
    """
    levels = tuple(config.get("channel_mult") or ())
    hidden = config.get("hidden_channels", 128)
    whole = [*levels, hidden, *(config.get(key, 1) for key in ("resolution", "num_res_blocks", "z_channels", "num_embeddings"))]
    if not levels or not all(type(number) is int and number > 0 for number in whole):
        raise ModelUnavailable(f"the configuration of {name} has no channel_mult and sizes of open-muse's VQGANModel; name another model")
    resolution = config.get("resolution", 256)
    sides = {resolution >> level for level in range(len(levels))}
    extra = [
        key for key in ("decoder_channel_mult", "decoder_hidden_channels", "decoder_res_blocks", "extra_mid_res_blocks") if config.get(key)
    ]
    if sides & set(config.get("attn_resolutions") or ()) or not config.get("no_attn_mid_block", False):
        extra.append("attention")
    if not config.get("resample_with_conv", True):
        extra.append("pooling")
    if extra:
        raise ModelUnavailable(f"the VQGAN of {name} has {' and '.join(extra)}, which LVM's has not; name another model")
    return lvm_sizes.VQGAN | {
        "in_channels": config.get("num_channels", 3),
        "out_channels": config.get("num_channels", 3),
        "down_block_types": ["DownEncoderBlock2D"] * len(levels),
        "up_block_types": ["UpDecoderBlock2D"] * len(levels),
        "block_out_channels": [hidden * factor for factor in levels],
        "layers_per_block": config.get("num_res_blocks", 2),
        "latent_channels": config.get("z_channels", 256),
        "vq_embed_dim": config.get("quantized_embed_dim", 256),
        "num_vq_embeddings": config.get("num_embeddings", 1024),
        "sample_size": resolution,
    }


def rename(tensors: StateDict, levels: int, name: str) -> StateDict:
    """Tensors of a ``VQGANModel`` under the names of a ``VQModel``. Raises ModelUnavailable for one that has no place there."""
    named = {original: diffusers_name(original, levels) for original in tensors}
    unknown = next((original for original, new in named.items() if new is None), None)
    if unknown is not None:
        raise ModelUnavailable(f"the VQGAN of {name} has a tensor {unknown}, which open-muse's VQGANModel has not; name another model")
    return {str(new): tensors[original] for original, new in named.items()}


def read_vqgan(folder: Path, name: str) -> tuple[dict[str, Any], StateDict]:
    """Configuration and tensors of a ``VQModel``, float32, from a folder of it or of a ``VQGANModel``; that may lack its configuration.

    Raises:
        ModelUnavailable: a file is missing, broken, or of another kind of model.
    """
    weights = layouts.VQGAN.find(folder)
    if weights is None:
        none = f"{folder} has none of {', '.join(layouts.VQGAN.weights or ())}"
        cure = f"name the folder of a model, with {folder.name}/ in it" if str(folder) != name else "name the folder of a VQGAN"
        raise ModelUnavailable(f"{none}; {cure}")
    tensors = {key: tensor.float() for key, tensor in weights_file.tensors(weights_file.read(weights), weights).items()}
    config = read_config(folder / "config.json") if (folder / "config.json").is_file() else None
    if config is not None and config.get("_class_name") == "VQModel":
        return config, tensors
    config = lvm_sizes.VQGAN if config is None else diffusers_config(config, name)
    return config, rename(tensors, len(config["block_out_channels"]), name)


def read_config(file: Path) -> dict[str, Any]:
    """A JSON object. Raises ModelUnavailable."""
    try:
        config = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ModelUnavailable(f"{file} cannot be read ({first_line(error)}); fetch the model again") from error
    if not isinstance(config, dict):
        raise ModelUnavailable(f"{file} holds no configuration; fetch the model again")
    return config
