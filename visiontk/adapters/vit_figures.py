"""The numbers of Figure 7 of the vision transformer paper (Dosovitskiy et al. 2020, arXiv 2010.11929): what a ViT's weights look like.

Left: principal components of the patch-embedding filters. Centre: similarity of the position embeddings. Right (Appendix D.7): mean
attention distance of each head by depth. Drawing is in ``vit_plots``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from visiontk.adapters.attention import architecture, check_attention
from visiontk.errors import UsageError


class FilterComponents(NamedTuple):
    """Principal components of the patch-embedding filters, the strongest first.

    images: float32 (count, p, p, 3), RGB, each component scaled to [0, 1] by its own minimum and maximum, for viewing.
    explained: float32 (count,), the share of the filters' variance along each component, in [0, 1], descending.
    """

    images: Tensor
    explained: Tensor


def patch_filter_components(model: nn.Module, count: int = 28) -> FilterComponents:
    """Principal components of the RGB patch-embedding filters (ViT, Figure 7 left, shows the first 28).

    Each of the D filters of the patch projection is one sample of 3 * p * p values; the samples are centred. A component's sign is
    arbitrary: here its entry of largest magnitude is positive.

    Args:
        model: a timm model whose ``patch_embed`` is one convolution over RGB with stride = patch size.
        count: how many components, at least 1; no more than min(D - 1, 3 * p * p) are returned.

    Raises:
        UsageError: the model has a convolutional stem or no patch embedding at all.
    """
    weight = _patch_projection(model).weight.detach()
    filters = weight.to("cpu", torch.float64).flatten(1)
    _, singular, components = torch.linalg.svd(filters - filters.mean(dim=0), full_matrices=False)
    count = min(count, filters.shape[0] - 1, filters.shape[1])
    components = components[:count]
    peak = components.gather(1, components.abs().argmax(dim=1, keepdim=True))
    components = components * peak.sign()
    low, high = components.amin(dim=1, keepdim=True), components.amax(dim=1, keepdim=True)
    images = ((components - low) / (high - low)).reshape(count, *weight.shape[1:]).permute(0, 2, 3, 1)
    variance = singular.square()
    return FilterComponents(images.float(), (variance / variance.sum())[:count].float())


def position_similarity(model: nn.Module) -> Tensor:
    """Cosine similarity of each patch's position embedding with all the others' (ViT, Figure 7 centre). Prefix tokens are dropped.

    Returns:
        float32 (rows, columns, rows, columns) in [-1, 1]; ``[i, j]`` is the map of patch (i, j), 1 at (i, j) itself.

    Raises:
        UsageError: the model has no learned absolute position embedding (rotary, relative or none).
    """
    embedding, (rows, columns) = _position_embedding(model)
    unit = nn.functional.normalize(embedding.detach().to("cpu", torch.float32), dim=-1)
    return (unit @ unit.T).clamp(-1, 1).reshape(rows, columns, rows, columns)


def mean_attention_distance(maps: Sequence[Tensor], grid: tuple[int, int], patch_size: int | tuple[int, int]) -> Tensor:
    """How far each head looks: the distance between query and key patch, weighted by attention (ViT, Figure 7 right, Appendix D.7).

    Distances are Euclidean between patch centres in pixels of the model's input, averaged over queries and images. Prefix tokens are
    dropped from queries and keys, and each query's weights are renormalised over the patches: a head that mostly reads the class token or
    a register is measured by the little that it reads of the image.

    Args:
        maps: one (B, heads, N, N) per layer, as from ``attention_maps``; N = prefix tokens + rows * columns, prefix first.
        grid: (rows, columns) of patches, as from ``patch_grid``.
        patch_size: pixels from patch to patch, one number or (vertical, horizontal), as from ``patch_stride``.

    Returns:
        float32 (layers, heads), pixels.

    Raises:
        ValueError: ``maps`` is empty or holds fewer tokens than ``grid`` has patches.
    """
    patches = grid[0] * grid[1]
    if not maps or any(attention.shape[-1] < patches for attention in maps):
        raise ValueError(f"attention distance needs the maps of at least one layer, over at least the {grid[0]} x {grid[1]} patches")
    distances = _patch_distances(grid, patch_size)
    return torch.stack([_attention_distance(attention[..., -patches:, -patches:], distances) for attention in maps])


def uniform_attention_distance(grid: tuple[int, int], patch_size: int | tuple[int, int]) -> float:
    """The mean attention distance, in pixels, of a head that weighs all patches alike: the yardstick for ``mean_attention_distance``."""
    return float(_patch_distances(grid, patch_size).mean())


def available_figures(model: nn.Module) -> dict[str, str | None]:
    """Which of Figure 7's three parts ``model`` allows: ``filters``, ``position``, ``distance`` -> None, or the reason why not.

    Each reason is the one line of the UsageError that making the figure would raise. Nothing is computed.
    """
    return {
        "filters": _reason(lambda: _patch_projection(model)),
        "position": _reason(lambda: _position_embedding(model)),
        "distance": _reason(lambda: check_attention(model, class_token=False)),
    }


def _reason(check: Callable[[], object]) -> str | None:
    try:
        check()
    except UsageError as error:
        return str(error)
    return None


def _patch_projection(model: nn.Module) -> nn.Conv2d:
    """The convolution that turns RGB patches into tokens."""
    projection = getattr(getattr(model, "patch_embed", None), "proj", None)
    if not isinstance(projection, nn.Conv2d) or projection.in_channels != 3 or projection.kernel_size != projection.stride:
        raise UsageError(f"{architecture(model)} does not embed RGB patches by one projection; choose a ViT such as vit-base")
    return projection


def _position_embedding(model: nn.Module) -> tuple[Tensor, tuple[int, int]]:
    """Position embedding of the patches, (rows * columns, D), and the (rows, columns) that it was learned for."""
    embedding = getattr(model, "pos_embed", None)
    grid: Any = getattr(getattr(model, "patch_embed", None), "grid_size", None)
    if not isinstance(embedding, Tensor) or embedding.ndim != 3 or grid is None or embedding.shape[1] < grid[0] * grid[1]:
        raise UsageError(f"{architecture(model)} has no learned absolute position embedding per patch; choose a ViT such as vit-base")
    rows, columns = int(grid[0]), int(grid[1])
    return embedding[0, -rows * columns :], (rows, columns)


def _patch_distances(grid: tuple[int, int], patch_size: int | tuple[int, int]) -> Tensor:
    """float32 (rows * columns, rows * columns): pixels between patch centres, patches row by row."""
    vertical, horizontal = (patch_size, patch_size) if isinstance(patch_size, int) else patch_size
    ys, xs = torch.meshgrid(torch.arange(grid[0]) * float(vertical), torch.arange(grid[1]) * float(horizontal), indexing="ij")
    return torch.hypot(ys.reshape(-1, 1) - ys.reshape(1, -1), xs.reshape(-1, 1) - xs.reshape(1, -1))


def _attention_distance(attention: Tensor, distances: Tensor) -> Tensor:
    """Patch-to-patch weights (B, heads, P, P) and distances (P, P) -> float32 (heads,) on the CPU."""
    weights = attention.float()
    total = weights.sum(dim=-1).clamp_min(torch.finfo(torch.float32).tiny)
    weighted = (weights * distances.to(weights.device)).sum(dim=-1)
    return (weighted / total).mean(dim=(0, 2)).cpu()
