"""Drawings of a vision transformer's inner life, after Figure 7 of Dosovitskiy et al. 2020 (arXiv 2010.11929), of ``vit_figures``' numbers.

Each function returns a matplotlib ``Figure`` of its own (no pyplot, no global state): ``figure.savefig(...)`` or ``to_image(figure)``.
"""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from PIL import Image
    from torch import Tensor

    from visiontk.adapters.vit_figures import FilterComponents

_DPI = 200
_MAX_TILES = 16  # more position maps than this in a row are too small to see: then every second, third ... row and column is drawn


def plot_filters(components: FilterComponents, model_name: str = "") -> Figure:
    """The patch-embedding filters' principal components (Figure 7 left), seven in a row, numbered, with the variance each explains."""
    columns = 7
    rows = -(-len(components.images) // columns)
    figure = _figure(width=6.4, height=0.5 + 1.07 * rows)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes:
        axis.set_axis_off()
    for index, (axis, image, share) in enumerate(zip(axes, components.images.numpy(), components.explained.tolist(), strict=False)):
        axis.imshow(image, interpolation="nearest")
        axis.set_title(f"{index + 1}: {share:.1%}", fontsize=8, pad=2)
    total = float(components.explained.sum())
    _title(figure, f"RGB embedding filters: principal components 1 to {len(components.images)} ({total:.0%} of variance)", model_name)
    return figure


def plot_position_similarity(similarity: Tensor, model_name: str = "") -> Figure:
    """Position-embedding similarity (Figure 7 centre): one small map per patch, placed where its patch is.

    Args:
        similarity: (rows, columns, rows, columns) in [-1, 1], from ``position_similarity``. Where there are more than 16 rows or columns
            every second, third ... map is drawn, and the labels say which. The mosaic's sides are kept within 1:2 by stretching it.
    """
    rows, columns = similarity.shape[:2]
    step = -(-max(rows, columns) // _MAX_TILES)
    shown = similarity.numpy()[::step, ::step]
    mosaic = _mosaic(shown)
    natural = mosaic.shape[0] / mosaic.shape[1]
    ratio = min(max(natural, 0.5), 2.0)
    figure = _figure(width=1.6 + 4.8 / max(1.0, ratio), height=1.0 + 4.8 * min(1.0, ratio))
    axis = figure.subplots()
    drawn = axis.imshow(mosaic, vmin=-1, vmax=1, cmap="viridis", interpolation="nearest", aspect=ratio / natural)
    _label_tiles(axis, shown.shape, step)
    figure.colorbar(drawn, ax=axis, label="Cosine similarity", ticks=[-1, -0.5, 0, 0.5, 1], pad=0.03, aspect=25)
    _title(figure, "Position embedding similarity", model_name)
    return figure


def plot_attention_distance(distances: Tensor, model_name: str = "", *, uniform: float | None = None) -> Figure:
    """Mean attention distance by depth (Figure 7 right): a dot for each head.

    Args:
        distances: (layers, heads) in pixels, from ``mean_attention_distance``.
        uniform: the distance of uniform attention, from ``uniform_attention_distance``; drawn as a dashed line.
    """
    from matplotlib.ticker import MaxNLocator

    layers, heads = distances.shape
    figure = _figure(width=5.2, height=3.8)
    axis = figure.subplots()
    depth = np.arange(1, layers + 1)
    axis.plot(depth, distances.mean(dim=1).numpy(), color="0.6", linewidth=1, label="mean of heads", zorder=1)
    for head in range(heads):
        label = f"head ({heads} per layer)" if head == 0 else None
        axis.scatter(depth, distances[:, head].numpy(), s=16, color="C0", alpha=0.65, linewidths=0, label=label, zorder=2)
    if uniform is not None:
        axis.axhline(uniform, color="0.35", linestyle="--", linewidth=1, label="uniform attention", zorder=0)
    axis.set_xlabel("Network depth (layer)")
    axis.set_ylabel("Mean attention distance (pixels)")
    axis.set_xlim(0.5, layers + 0.5)
    axis.set_ylim(0, 1.12 * max(float(distances.max()), uniform or 0.0, 1.0))
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.grid(axis="y", color="0.92")
    axis.set_axisbelow(True)
    axis.legend(fontsize=8, loc="lower right")
    _title(figure, "Mean attention distance", model_name)
    return figure


def to_image(figure: Figure) -> Image.Image:
    """The figure as an RGB image, 200 dots per inch."""
    from PIL import Image

    buffer = BytesIO()
    figure.savefig(buffer, format="png")
    return Image.open(buffer).convert("RGB")


def _figure(*, width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=_DPI, layout="constrained")


def _title(figure: Figure, title: str, model_name: str) -> None:
    figure.suptitle(f"{title}\n{model_name}" if model_name else title, fontsize=10)


def _mosaic(maps: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> np.ma.MaskedArray[tuple[int, ...], np.dtype[np.float32]]:
    """Maps (tile rows, tile columns, rows, columns) side by side, with one masked (white) line between neighbours."""
    padded = np.pad(maps, ((0, 0), (0, 0), (0, 1), (0, 1)), constant_values=np.nan)
    tall = padded.transpose(0, 2, 1, 3).reshape(padded.shape[0] * padded.shape[2], -1)
    return np.ma.masked_invalid(tall[:-1, :-1])


def _label_tiles(axis: Axes, shape: tuple[int, ...], step: int) -> None:
    """Numbers each tile row and column by its patch, from 1; ``shape`` is (tile rows, tile columns, rows, columns)."""
    tile_rows, tile_columns, rows, columns = shape
    axis.set_yticks([i * (rows + 1) + (rows - 1) / 2 for i in range(tile_rows)], [str(1 + i * step) for i in range(tile_rows)])
    axis.set_xticks([j * (columns + 1) + (columns - 1) / 2 for j in range(tile_columns)], [str(1 + j * step) for j in range(tile_columns)])
    axis.tick_params(length=0, labelsize=8)
    for spine in axis.spines.values():
        spine.set_visible(False)
    axis.set_xlabel("Input patch column")
    axis.set_ylabel("Input patch row")
