"""Attention maps of a vision transformer: the softmaxed weights of every layer, attention rollout, and the heads of the last layer.

Sources: rollout is Abnar & Zuidema 2020, arXiv 2005.00928, section 3; it is Figure 6 and Appendix D.8 of Dosovitskiy et al. 2020,
arXiv 2010.11929 ("ViT"). Token order is timm's: prefix tokens (class, distillation, registers) first, then the patches row by row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from visiontk.errors import UsageError


def architecture(model: nn.Module) -> str:
    """The name that messages call ``model`` by: timm's architecture name, else the class name."""
    config = getattr(model, "pretrained_cfg", None)
    name = config.get("architecture") if isinstance(config, dict) else None
    return str(name or type(_uncompiled(model)).__name__)


def reads_class_token(model: nn.Module) -> bool:
    """Whether ``model`` has a class token *and* its classifier reads it.

    BEiT, EVA-02 and DINOv3 carry a class token but average the patch tokens for their output: a map drawn from that class token would
    not be of what the classifier saw, so they count as having none.
    """
    return getattr(model, "cls_token", None) is not None and getattr(model, "global_pool", None) in ("token", "")


def check_attention(model: nn.Module, *, class_token: bool) -> None:
    """Refuse, before any work, a model whose attention maps cannot be read or (``class_token``) cannot be rolled out from a class token.

    Rollout needs ``class_token=True``; the heads of the last layer and the attention distance do not.

    Raises:
        UsageError: one line that names the architecture, the reason and what to use instead.
    """
    _attention_layers(model)
    if class_token and not reads_class_token(model):
        reason = "has no class token" if getattr(model, "cls_token", None) is None else "does not classify from its class token"
        raise UsageError(
            f"{architecture(model)} {reason}, and attention rollout starts there; "
            "use --attention heads, or choose a ViT with a class token such as vit-base"
        )


def patch_grid(model: nn.Module, height: int, width: int) -> tuple[int, int]:
    """(rows, columns) of patches that ``model`` makes of an image of ``height`` x ``width`` pixels."""
    embed: Any = model.patch_embed
    rows, columns = embed.dynamic_feat_size((height, width))
    return int(rows), int(columns)


def patch_stride(model: nn.Module) -> tuple[int, int]:
    """(vertical, horizontal) step from patch to patch, in pixels of the input image: the patch size, times a conv stem's stride."""
    embed: Any = model.patch_embed
    vertical, horizontal = embed.feat_ratio(as_scalar=False)
    return int(vertical), int(horizontal)


def attention_maps(model: nn.Module, images: Tensor) -> list[Tensor]:
    """Softmaxed attention weights of every layer, first layer first.

    Memory grows as layers x B x heads x N x N; the two heatmap functions below keep less.

    Args:
        model: a timm ViT (also DeiT, CLIP, DINO, EVA, BEiT). Run in eval mode, and left exactly as it was found.
        images: (B, 3, H, W), preprocessed for the model, with the model's own dtype and device.

    Returns:
        One float32 tensor (B, heads, N, N) per layer, ``[b, h, query, key]``, N = prefix tokens + patches. Rows sum to 1 within the
        precision of the model's dtype.

    Raises:
        UsageError: see ``check_attention``.
    """
    maps: list[Tensor] = []
    _visit_attention(model, images, lambda attention: maps.append(attention.float()))
    return maps


def rollout(maps: Sequence[Tensor]) -> Tensor:
    """Attention rollout: per layer, the mean over heads plus the identity (the skip connection), rows renormalised; multiplied through.

    Args:
        maps: one (B, heads, N, N) per layer, first layer first, as from ``attention_maps``.

    Returns:
        (B, N, N) of the maps' dtype; row i says how much of each input token flows into token i after the last layer; rows sum to 1.

    Raises:
        ValueError: ``maps`` is empty.
    """
    if not maps:
        raise ValueError("rollout needs the maps of at least one layer")
    identity = torch.eye(maps[0].shape[-1], dtype=maps[0].dtype, device=maps[0].device)
    joint = identity.expand(maps[0].shape[0], -1, -1)
    for attention in maps:
        mixed = attention.mean(dim=1) + identity
        joint = mixed / mixed.sum(dim=-1, keepdim=True) @ joint
    return joint


def rollout_heatmap(model: nn.Module, images: Tensor) -> Tensor:
    """Rollout from the class token to the patches (ViT, Figure 6). Prefix tokens are dropped.

    Args:
        model, images: as for ``attention_maps``. Only the mean over heads of each layer is kept in memory.

    Returns:
        float32 (B, rows, columns), each map non-negative with sum 1.

    Raises:
        UsageError: no attention maps, or no class token that the classifier reads.
    """
    check_attention(model, class_token=True)
    means: list[Tensor] = []
    _visit_attention(model, images, lambda attention: means.append(attention.float().mean(dim=1, keepdim=True)))
    return _on_patches(model, images, rollout(means)[:, 0])


def head_heatmaps(model: nn.Module, images: Tensor) -> Tensor:
    """Where each head of the last layer looks on behalf of the classifier.

    With a class token that the classifier reads: the class token's row. Without one (global average or attention pooling): the mean of
    the rows of all patch tokens, which are what is pooled.

    Args:
        model, images: as for ``attention_maps``. Only the last layer is kept in memory.

    Returns:
        float32 (B, heads, rows, columns), each head's map non-negative with sum 1.

    Raises:
        UsageError: no attention maps.
    """
    last: dict[str, Tensor] = {}
    _visit_attention(model, images, lambda attention: last.update(map=attention))
    attention = last["map"].float()
    row = attention[:, :, 0] if reads_class_token(model) else attention[:, :, _prefix_tokens(model) :].mean(dim=2)
    return _on_patches(model, images, row)


def _on_patches(model: nn.Module, images: Tensor, row: Tensor) -> Tensor:
    """(..., N) weights over tokens -> (..., rows, columns) over patches, each with sum 1."""
    patches = row[..., _prefix_tokens(model) :]
    patches = patches / patches.sum(dim=-1, keepdim=True).clamp_min(torch.finfo(patches.dtype).tiny)
    return patches.reshape(*row.shape[:-1], *patch_grid(model, images.shape[-2], images.shape[-1]))


def _prefix_tokens(model: nn.Module) -> int:
    return int(getattr(model, "num_prefix_tokens", 0))


def _uncompiled(model: nn.Module) -> nn.Module:
    """What ``torch.compile(model)`` wraps, or ``model`` itself."""
    inner = getattr(model, "_orig_mod", model)
    return inner if isinstance(inner, nn.Module) else model


def _attention_layers(model: nn.Module) -> list[Any]:
    """The self-attention module of each block, known by its ``fused_attn`` and ``attn_drop``; UsageError for any other structure."""
    from timm.models.beit import Beit
    from timm.models.eva import Eva
    from timm.models.vision_transformer import VisionTransformer
    from timm.models.vision_transformer_relpos import VisionTransformerRelPos

    model = _uncompiled(model)
    if not isinstance(model, Beit | Eva | VisionTransformer | VisionTransformerRelPos):
        raise UsageError(f"{architecture(model)} has no attention between all of its patches; choose a ViT such as vit-base")
    blocks: Any = model.blocks
    layers = [[m for m in block.modules() if hasattr(m, "fused_attn") and hasattr(m, "attn_drop")] for block in blocks]
    if any(len(found) != 1 for found in layers) or any(hasattr(found[0], "lambda_init") for found in layers):
        raise UsageError(f"{architecture(model)} has no single softmax attention in each layer; choose a plain ViT such as vit-base")
    return [found[0] for found in layers]


@contextmanager
def _as_found(modules: Sequence[Any], flag: str) -> Iterator[None]:
    """Puts the attribute ``flag`` of each module back on leaving."""
    before = [getattr(module, flag) for module in modules]
    try:
        yield
    finally:
        for module, value in zip(modules, before, strict=True):
            setattr(module, flag, value)


def _visit_attention(model: nn.Module, images: Tensor, visit: Callable[[Tensor], None]) -> None:
    """Run ``model`` once and hand each layer's weights, (B, heads, N, N) of the model's dtype, to ``visit`` as they are made.

    With fused attention off, every timm attention passes its softmaxed weights to ``attn_drop``, so a hook sees the weights that were used.
    timm's own ``AttentionExtract`` hooks the same place but neither turns fused attention off nor takes its hooks away again.
    """
    layers = _attention_layers(model)
    model = _uncompiled(model)
    with ExitStack() as stack:
        stack.enter_context(_as_found(list(model.modules()), "training"))
        stack.enter_context(_as_found(layers, "fused_attn"))
        stack.enter_context(torch.no_grad())
        stack.enter_context(torch.compiler.set_stance("force_eager"))
        model.eval()
        for layer in layers:
            layer.fused_attn = False
            stack.callback(layer.attn_drop.register_forward_pre_hook(lambda _module, inputs: visit(inputs[0])).remove)
        model(images)
