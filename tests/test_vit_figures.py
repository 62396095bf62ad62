"""The vision transformer's figures: numbers against plain numpy and closed forms, drawings against their labels."""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np
import pytest
import timm
import torch

from visiontk.adapters import vit_figures, vit_plots
from visiontk.adapters.attention import attention_maps, patch_grid, patch_stride
from visiontk.errors import UsageError


def small(name: str, **changes: Any) -> Any:
    torch.manual_seed(0)
    return timm.create_model(name, **{"img_size": 64, "depth": 2, "num_classes": 10, **changes}).eval()


def test_filter_components_are_the_eigenvectors_of_the_filters_covariance() -> None:
    model = small("vit_tiny_patch16_224", patch_size=8)
    got = vit_figures.patch_filter_components(model, count=6)
    filters = model.patch_embed.proj.weight.detach().double().numpy().reshape(192, -1)
    values, vectors = np.linalg.eigh(np.cov(filters, rowvar=False))
    assert got.images.shape == (6, 8, 8, 3) and got.images.dtype == torch.float32
    np.testing.assert_allclose(got.explained.numpy(), values[::-1][:6] / values.sum(), rtol=1e-5)
    for index in range(6):
        vector = vectors[:, -1 - index]
        vector = vector if abs(vector.max()) > abs(vector.min()) else -vector
        wanted = ((vector - vector.min()) / np.ptp(vector)).reshape(3, 8, 8).transpose(1, 2, 0)
        np.testing.assert_allclose(got.images[index].numpy(), wanted, atol=1e-4)
        assert (float(got.images[index].min()), float(got.images[index].max())) == (0.0, 1.0)


def test_filter_components_find_a_planted_filter_and_stop_at_the_rank() -> None:
    model = small("vit_tiny_patch16_224", embed_dim=12, num_heads=3, patch_size=8)
    planted = torch.linspace(-0.5, 1, 3 * 8 * 8).reshape(3, 8, 8)
    with torch.no_grad():
        model.patch_embed.proj.weight.copy_(torch.linspace(-3, 5, 12).reshape(-1, 1, 1, 1) * planted)
        model.patch_embed.proj.weight.add_(1e-4 * torch.randn(12, 3, 8, 8))
    got = vit_figures.patch_filter_components(model)
    assert len(got.images) == len(got.explained) == 11
    assert float(got.explained[0]) > 0.999
    torch.testing.assert_close(got.images[0], ((planted + 0.5) / 1.5).permute(1, 2, 0), atol=1e-3, rtol=0)
    assert len(vit_figures.patch_filter_components(model.bfloat16(), count=2).images) == 2


@pytest.mark.parametrize(
    ("name", "prefix"), [("vit_tiny_patch16_224", 1), ("deit3_small_patch16_224", 0), ("deit_tiny_distilled_patch16_224", 2)]
)
def test_position_similarity_equals_an_explicit_loop(name: str, prefix: int) -> None:
    model = small(name, img_size=(32, 64))
    got = vit_figures.position_similarity(model)
    table = model.pos_embed.detach().double().numpy()[0, prefix:]
    assert got.shape == (2, 4, 2, 4) and got.dtype == torch.float32
    for i in range(8):
        for j in range(8):
            wanted = table[i] @ table[j] / math.sqrt((table[i] @ table[i]) * (table[j] @ table[j]))
            assert float(got[i // 4, i % 4, j // 4, j % 4]) == pytest.approx(wanted, abs=1e-6)


def test_attention_distance_where_it_is_known() -> None:
    itself = torch.eye(13).expand(2, 3, 13, 13)  # one prefix token and 3 x 4 patches
    uniform = torch.full((2, 3, 6, 6), 1 / 6)  # a line of 5 patches and one prefix token
    assert torch.equal(vit_figures.mean_attention_distance([itself, itself], (3, 4), 16), torch.zeros(2, 3))
    # The mean of |i - j| over all ordered pairs of n points is (n^2 - 1) / (3 n): 24 / 15 = 1.6 patches.
    torch.testing.assert_close(vit_figures.mean_attention_distance([uniform], (1, 5), 16), torch.full((1, 3), 25.6))
    assert vit_figures.uniform_attention_distance((1, 5), 16) == pytest.approx(25.6)
    torch.testing.assert_close(vit_figures.mean_attention_distance([uniform], (1, 5), (99, 10)), torch.full((1, 3), 16.0))
    torch.testing.assert_close(vit_figures.mean_attention_distance([uniform], (5, 1), (10, 99)), torch.full((1, 3), 16.0))


def test_attention_distance_of_one_diagonal_step_and_of_sinks() -> None:
    step = torch.zeros(1, 1, 4, 4)
    step[..., [0, 1, 2, 3], [3, 2, 1, 0]] = 1  # on a 2 x 2 grid every patch looks at the opposite corner
    torch.testing.assert_close(vit_figures.mean_attention_distance([step], (2, 2), (30, 40)), torch.tensor([[50.0]]))
    sink = torch.zeros(1, 1, 5, 5)
    sink[..., 0] = 1  # all weight on the prefix token, none on the image
    assert float(vit_figures.mean_attention_distance([sink], (2, 2), 16)) == 0.0
    sink[..., 1:, 1:], sink[..., 0] = 0.01 * step, 0.99  # renormalised over the patches: the prefix token's share does not matter
    torch.testing.assert_close(vit_figures.mean_attention_distance([sink], (2, 2), (30, 40)), torch.tensor([[50.0]]))
    with pytest.raises(ValueError, match="3 x 3 patches"):
        vit_figures.mean_attention_distance([step], (3, 3), 16)


def test_attention_distance_of_a_model_equals_an_explicit_loop() -> None:
    model = small("vit_medium_patch16_reg4_gap_256", img_size=(32, 48), embed_dim=96, num_heads=3)
    images = torch.randn(2, 3, 32, 48)
    maps = attention_maps(model, images)
    got = vit_figures.mean_attention_distance(maps, patch_grid(model, 32, 48), patch_stride(model))
    for layer, one in enumerate(maps):
        for head in range(3):
            means = []
            for weights in one[:, head, 4:, 4:].double().numpy():
                for query in range(6):
                    away = [16 * math.dist(divmod(query, 3), divmod(key, 3)) for key in range(6)]
                    means.append(float(weights[query] @ np.array(away) / weights[query].sum()))
            assert float(got[layer, head]) == pytest.approx(np.mean(means), abs=1e-4)


def test_available_figures_give_the_reason_that_making_them_would_raise() -> None:
    assert vit_figures.available_figures(small("vit_tiny_patch16_224")) == {"filters": None, "position": None, "distance": None}
    beit = vit_figures.available_figures(small("beit_base_patch16_224", embed_dim=96, num_heads=3))
    assert (beit["filters"], beit["distance"]) == (None, None) and "position embedding" in str(beit["position"])
    hybrid = small("vit_tiny_r_s16_p8_224")
    assert "RGB patches" in str(vit_figures.available_figures(hybrid)["filters"])
    with pytest.raises(UsageError, match=r"^vit_tiny_r_s16_p8_224 does not embed RGB patches by one projection; "):
        vit_figures.patch_filter_components(hybrid)
    swin = timm.create_model("swin_tiny_patch4_window7_224", depths=(1, 1, 1, 1))
    assert [name for name, reason in vit_figures.available_figures(swin).items() if reason is None] == ["filters"]
    lite = timm.create_model("tf_efficientnet_lite0")
    assert all(reason and reason.startswith("tf_efficientnet_lite0 ") for reason in vit_figures.available_figures(lite).values())
    with pytest.raises(UsageError, match="no learned absolute position embedding"):
        vit_figures.position_similarity(lite)


def test_drawings_have_titles_labels_and_units_and_touch_no_global_state() -> None:
    model = small("vit_tiny_patch16_224")
    filters = vit_plots.plot_filters(vit_figures.patch_filter_components(model, count=9), "vit-tiny")
    assert [axis.get_title() for axis in filters.axes if axis.get_title()][8].startswith("9: ")
    assert filters.get_suptitle().endswith("\nvit-tiny")
    position = vit_plots.plot_position_similarity(vit_figures.position_similarity(model))
    assert [axis.get_ylabel() for axis in position.axes] == ["Input patch row", "Cosine similarity"]
    assert [label.get_text() for label in position.axes[0].get_xticklabels()] == ["1", "2", "3", "4"]
    distance = vit_plots.plot_attention_distance(torch.tensor([[10.0, 20.0], [30.0, 40.0]]), "vit-tiny", uniform=50.0)
    axis = distance.axes[0]
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("Network depth (layer)", "Mean attention distance (pixels)")
    assert axis.get_ylim()[0] == 0 and axis.get_ylim()[1] > 50
    picture = vit_plots.to_image(distance)
    assert picture.mode == "RGB" and picture.size == (1040, 760)
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or not pyplot.get_fignums()


def test_the_position_mosaic_puts_each_patchs_map_in_its_place_and_thins_large_grids() -> None:
    similarity = torch.zeros(2, 3, 2, 3)
    for row in range(2):
        for column in range(3):
            similarity[row, column, row, column] = 1
    drawn = vit_plots.plot_position_similarity(similarity).axes[0].get_images()[0].get_array()
    assert drawn is not None and drawn.shape == (2 * 3 - 1, 3 * 4 - 1)  # one line between neighbours
    assert sorted(zip(*np.nonzero(np.ma.filled(drawn == 1, False)), strict=True)) == [
        (3 * r + r, 4 * c + c) for r in range(2) for c in range(3)
    ]
    large = vit_plots.plot_position_similarity(torch.zeros(4, 32, 4, 32)).axes[0]
    assert [label.get_text() for label in large.get_xticklabels()] == [str(number) for number in range(1, 33, 2)]
