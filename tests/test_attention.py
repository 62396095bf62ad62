"""Attention maps, rollout and heatmaps against computations that share no code with them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import timm
import torch
from torch import Tensor, nn

from visiontk.adapters import attention
from visiontk.errors import UsageError

Array = np.ndarray[tuple[int, ...], np.dtype[np.float64]]

SMALL: dict[str, dict[str, Any]] = {
    "vit_tiny_patch16_224": {"img_size": 64},
    "deit3_small_patch16_224": {"img_size": 64},
    "deit_tiny_distilled_patch16_224": {"img_size": 64},
    "vit_base_patch16_clip_224": {"img_size": 64, "embed_dim": 96, "num_heads": 4},
    "vit_medium_patch16_reg4_gap_256": {"img_size": 64, "embed_dim": 96, "num_heads": 4, "qk_norm": True},
    "vit_base_patch16_siglip_224": {"img_size": 64, "embed_dim": 96, "num_heads": 4},
    "beit_base_patch16_224": {"img_size": 64, "embed_dim": 96, "num_heads": 4},
    "eva02_tiny_patch14_224": {"img_size": 56},
    "vit_small_patch16_dinov3": {"img_size": 64},
    "vit_relpos_small_patch16_224": {"img_size": 64},
}


def small(name: str, **changes: Any) -> Any:
    """A shallow model with random weights, large enough that its attention is far from uniform."""
    torch.manual_seed(0)
    model = timm.create_model(name, **{"depth": 3, "num_classes": 10, **SMALL.get(name, {"img_size": 64}), **changes})
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.15 * torch.randn_like(parameter))
    return model.eval()


def photos(model: nn.Module, count: int = 2) -> Tensor:
    embed: Any = model.patch_embed
    return torch.randn(count, 3, *embed.img_size, generator=torch.Generator().manual_seed(1))


def softmax(scores: Array) -> Array:
    weights: Array = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    return weights


def numpy_vit(model: nn.Module, images: Tensor) -> list[Array]:
    """A plain ViT's forward pass, equations 1 to 3 of arXiv 2010.11929, from its state dict in float64; the attention of every layer."""
    w: dict[str, Array] = {key: value.double().numpy() for key, value in model.state_dict().items()}
    config: Any = model
    p, heads = config.patch_embed.patch_size[0], config.blocks[0].attn.num_heads

    def norm(x: Array, name: str) -> Array:
        centred: Array = x - x.mean(axis=-1, keepdims=True)
        centred /= np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-6)
        return centred * w[f"{name}.weight"] + w[f"{name}.bias"]

    def linear(x: Array, name: str) -> Array:
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    b, _, height, width = images.shape
    cut = images.double().numpy().reshape(b, 3, height // p, p, width // p, p).transpose(0, 2, 4, 1, 3, 5)
    weight = w["patch_embed.proj.weight"]
    x: Array = cut.reshape(b, -1, 3 * p * p) @ weight.reshape(len(weight), -1).T + w["patch_embed.proj.bias"]
    first = [np.repeat(w[name], b, axis=0) for name in ("cls_token", "reg_token") if name in w]
    after = w["pos_embed"].shape[1] == x.shape[1]  # no_embed_class: positions are added before the prefix tokens are put in front
    x = np.concatenate([*first, x + w["pos_embed"]], axis=1) if after else np.concatenate([*first, x], axis=1) + w["pos_embed"]
    maps = []
    for layer in range(len(config.blocks)):
        at = f"blocks.{layer}"
        qkv = linear(norm(x, f"{at}.norm1"), f"{at}.attn.qkv").reshape(b, x.shape[1], 3, heads, -1)
        q, k, v = (qkv[:, :, i].transpose(0, 2, 1, 3) for i in range(3))
        maps.append(softmax(q @ k.transpose(0, 1, 3, 2) / math.sqrt(q.shape[-1])))
        mixed = (maps[-1] @ v).transpose(0, 2, 1, 3).reshape(x.shape)
        x = x + linear(mixed, f"{at}.attn.proj") * w.get(f"{at}.ls1.gamma", np.ones(1))
        hidden = linear(norm(x, f"{at}.norm2"), f"{at}.mlp.fc1")
        hidden = hidden * 0.5 * (1 + np.vectorize(math.erf)(hidden / math.sqrt(2)))
        x = x + linear(hidden, f"{at}.mlp.fc2") * w.get(f"{at}.ls2.gamma", np.ones(1))
    return maps


def numpy_rollout(maps: list[Array]) -> Array:
    """arXiv 2005.00928, section 3: per image and layer 0.5 W + 0.5 I over the mean head, then the recursion A~(l) = A(l) A~(l-1)."""
    images = []
    for b in range(maps[0].shape[0]):
        joint: Array | None = None
        for layer in maps:
            weights = sum(layer[b, h] for h in range(layer.shape[1])) / layer.shape[1]
            mixed = 0.5 * weights + 0.5 * np.eye(weights.shape[0])
            joint = mixed if joint is None else mixed @ joint
        assert joint is not None
        images.append(joint)
    return np.stack(images)


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "deit3_small_patch16_224"])
def test_every_layer_equals_a_forward_pass_in_numpy(name: str) -> None:
    model = small(name)
    images = photos(model)
    got, wanted = attention.attention_maps(model, images), numpy_vit(model, images)
    assert len(got) == len(wanted) == 3
    assert float(np.abs(wanted[0] - 1 / wanted[0].shape[-1]).max()) > 0.2, "the test's attention must not be uniform"
    for one, other in zip(got, wanted, strict=True):
        np.testing.assert_allclose(one.numpy(), other, atol=1e-4)


@pytest.mark.parametrize("name", SMALL)
def test_maps_are_the_softmax_of_what_the_fused_path_is_given(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = small(name)
    images = photos(model)
    fused = nn.functional.scaled_dot_product_attention
    wanted: list[Array] = []

    def listen(q: Tensor, k: Tensor, v: Tensor, attn_mask: Tensor | None = None, **rest: Any) -> Tensor:
        bias = 0 if attn_mask is None else attn_mask.detach().double().numpy()
        if k.shape[2] == q.shape[2]:  # not SigLIP's pooling head, which has one query
            scores = q.detach().double().numpy() @ k.detach().double().numpy().swapaxes(2, 3)
            wanted.append(softmax(scores / math.sqrt(q.shape[-1]) + bias))
        return fused(q, k, v, attn_mask=attn_mask, **rest)

    monkeypatch.setattr(nn.functional, "scaled_dot_product_attention", listen)
    with torch.no_grad():
        model(images)
    monkeypatch.undo()
    got = attention.attention_maps(model, images)
    assert len(got) == len(wanted) == 3
    for one, other in zip(got, wanted, strict=True):
        assert one.dtype == torch.float32 and one.shape == other.shape
        np.testing.assert_allclose(one.numpy(), other, atol=1e-5)
        np.testing.assert_allclose(one.sum(-1).numpy(), 1, atol=1e-5)


@pytest.mark.parametrize(
    "name", ["vit_tiny_patch16_224", "vit_medium_patch16_reg4_gap_256", "eva02_tiny_patch14_224", "beit_base_patch16_224"]
)
def test_the_model_is_left_as_it_was_and_gives_the_same_logits(name: str) -> None:
    model = small(name).train()
    model.blocks[1].eval()
    model.blocks[2].attn.fused_attn = False
    images = photos(model)
    with torch.no_grad():
        before = model.eval()(images)
    model.train().blocks[1].eval()
    flags = [(m.training, getattr(m, "fused_attn", None), len(m._forward_pre_hooks)) for m in model.modules()]
    seen: list[Tensor] = []
    model.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    attention.attention_maps(model, images)
    assert flags == [(m.training, getattr(m, "fused_attn", None), len(m._forward_pre_hooks)) for m in model.modules()]
    torch.testing.assert_close(seen[0], before, atol=1e-5 * float(before.abs().max()), rtol=1e-5)
    with torch.no_grad():
        assert torch.equal(model.eval()(images), before)


def test_an_interrupted_run_also_leaves_the_model_as_it_was() -> None:
    model = small("vit_tiny_patch16_224").train()
    with pytest.raises(AssertionError):
        attention.attention_maps(model, torch.zeros(1, 3, 32, 32))
    assert all(m.training for m in model.modules())
    assert all(block.attn.fused_attn and not block.attn.attn_drop._forward_pre_hooks for block in model.blocks)


def test_a_compiled_model_gives_the_same_maps_without_compiling_again() -> None:
    def backend(_graph: object, _inputs: object) -> Callable[..., Any]:
        raise AssertionError("compiled")

    model = small("vit_tiny_patch16_224")
    images = photos(model)
    wanted = attention.rollout_heatmap(model, images)
    wrapped: Any = torch.compile(model, backend=backend)
    assert torch.equal(attention.rollout_heatmap(wrapped, images), wanted)
    model.compile(backend=backend)
    assert torch.equal(attention.rollout_heatmap(model, images), wanted)


def test_a_bfloat16_model_gives_float32_maps() -> None:
    model = small("vit_tiny_patch16_224")
    images = photos(model)
    wanted = attention.attention_maps(model, images)[0]
    got = attention.attention_maps(model.bfloat16(), images.bfloat16())[0]
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, wanted, atol=0.05, rtol=0)
    torch.testing.assert_close(attention.rollout_heatmap(model, images.bfloat16()).sum((1, 2)), torch.ones(2))


def test_rollout_equals_the_papers_recursion_in_numpy() -> None:
    model = small("vit_tiny_patch16_224")
    maps = attention.attention_maps(model, photos(model))
    wanted = numpy_rollout([one.double().numpy() for one in maps])
    np.testing.assert_allclose(attention.rollout(maps).numpy(), wanted, atol=1e-6)


def test_rollout_in_closed_form() -> None:
    identity = torch.eye(5).expand(2, 3, 5, 5)
    assert torch.equal(attention.rollout([identity] * 4), torch.eye(5).expand(2, 5, 5))
    # With U the uniform matrix, U @ U = U: the product of L times (I + U) / 2 is I / 2^L + (1 - 1 / 2^L) U.
    uniform = torch.full((2, 3, 5, 5), 0.2)
    wanted = torch.eye(5) / 2**4 + (1 - 1 / 2**4) * torch.full((5, 5), 0.2)
    torch.testing.assert_close(attention.rollout([uniform] * 4), wanted.expand(2, 5, 5))
    with pytest.raises(ValueError, match="at least one layer"):
        attention.rollout([])


def test_rollout_multiplies_later_layers_from_the_left() -> None:
    """Layer 1 copies token 2 into token 1, layer 2 copies token 1 into token 0: token 0 has seen token 2, and token 2 has seen nothing."""
    first, second = torch.eye(3), torch.eye(3)
    first[1], second[0] = torch.tensor([0.0, 0, 1]), torch.tensor([0.0, 1, 0])
    got = attention.rollout([first[None, None], second[None, None]])[0]
    torch.testing.assert_close(got[0], torch.tensor([0.5, 0.25, 0.25]))
    torch.testing.assert_close(got[2], torch.tensor([0.0, 0, 1]))


@pytest.mark.parametrize(("name", "prefix"), [("vit_tiny_patch16_224", 1), ("deit_tiny_distilled_patch16_224", 2)])
def test_rollout_heatmap_is_the_class_tokens_row_over_the_patches(name: str, prefix: int) -> None:
    model = small(name)
    images = photos(model)
    got = attention.rollout_heatmap(model, images)
    row = numpy_rollout([one.double().numpy() for one in attention.attention_maps(model, images)])[:, 0, prefix:]
    np.testing.assert_allclose(got.numpy(), (row / row.sum(axis=1, keepdims=True)).reshape(2, 4, 4), atol=1e-6)


def test_head_heatmaps_with_and_without_a_class_token() -> None:
    rows: dict[str, Callable[[Array], Array]] = {
        "vit_tiny_patch16_224": lambda last: last[:, :, 0, 1:],
        "vit_medium_patch16_reg4_gap_256": lambda last: last[:, :, 4:, 4:].mean(axis=2),
        "beit_base_patch16_224": lambda last: last[:, :, 1:, 1:].mean(axis=2),
    }
    for name, row_of in rows.items():
        model = small(name)
        images = photos(model)
        row = row_of(attention.attention_maps(model, images)[-1].double().numpy())
        wanted = (row / row.sum(axis=-1, keepdims=True)).reshape(2, row.shape[1], 4, 4)
        np.testing.assert_allclose(attention.head_heatmaps(model, images).numpy(), wanted, atol=1e-6)


def test_grids_that_are_not_square_and_sizes_that_vary() -> None:
    fixed = small("vit_tiny_patch16_224", img_size=(32, 96))
    assert attention.rollout_heatmap(fixed, torch.randn(1, 3, 32, 96)).shape == (1, 2, 6)
    varying = small("vit_tiny_patch16_224", dynamic_img_size=True)
    assert attention.head_heatmaps(varying, torch.randn(1, 3, 80, 48)).shape == (1, 3, 5, 3)
    padded = small("vit_tiny_patch16_224", dynamic_img_size=True, dynamic_img_pad=True)
    assert attention.rollout_heatmap(padded, torch.randn(1, 3, 70, 48)).shape == (1, 5, 3)
    assert attention.patch_stride(fixed) == (16, 16)


def test_a_heatmap_lies_the_right_way_round() -> None:
    """Patch (row 1, column 4) alone differs; a head whose keys follow that difference must light up there."""
    model = small("vit_tiny_patch16_224", img_size=(32, 96), depth=1)
    plain = torch.zeros(1, 3, 32, 96)
    marked = plain.clone()
    marked[:, :, 16:32, 64:80] = 3.0
    change = (attention.head_heatmaps(model, marked) - attention.head_heatmaps(model, plain)).abs()[0].sum(0)
    assert divmod(int(change.argmax()), 6) == (1, 4)


@pytest.mark.parametrize("name", ["tf_efficientnet_lite0", "swin_tiny_patch4_window7_224", "samvit_base_patch16"])
def test_models_without_readable_attention_are_refused_in_one_line(name: str) -> None:
    changes = {"depth": 1} if name.startswith("sam") else {"depths": (1, 1, 1, 1)} if name.startswith("swin") else {}
    model = timm.create_model(name, **changes)
    for refused in (
        lambda: attention.check_attention(model, class_token=False),
        lambda: attention.attention_maps(model, torch.zeros(1, 3, 224, 224)),
        lambda: attention.head_heatmaps(model, torch.zeros(1, 3, 224, 224)),
    ):
        with pytest.raises(UsageError, match=f"^{name} has no attention .*; choose a ViT such as vit-base$"):
            refused()


@pytest.mark.parametrize("block", ["vit_dpwee_patch16_reg1_gap_256", "vit_small_patch16_18x2_224"])
def test_differential_and_parallel_attention_are_refused(block: str) -> None:
    with pytest.raises(UsageError, match="no single softmax attention in each layer"):
        attention.check_attention(timm.create_model(block, depth=2), class_token=False)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("vit_medium_patch16_reg4_gap_256", "has no class token"),
        ("vit_base_patch16_siglip_224", "has no class token"),
        ("beit_base_patch16_224", "does not classify from its class token"),
        ("eva02_tiny_patch14_224", "does not classify from its class token"),
    ],
)
def test_rollout_needs_a_class_token_that_the_classifier_reads(name: str, reason: str) -> None:
    model = small(name)
    attention.check_attention(model, class_token=False)
    with pytest.raises(UsageError, match=f"^{name} {reason}, .* use --attention heads") as caught:
        attention.check_attention(model, class_token=True)
    assert "\n" not in str(caught.value)
    with pytest.raises(UsageError, match=reason):
        attention.rollout_heatmap(model, photos(model))
