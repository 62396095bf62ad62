"""`visiontk inspect` through the entry point: which files it leaves, what is in them, and what it refuses before it draws anything."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

if TYPE_CHECKING:
    from tests.conftest import Record, Run, TinyModel


@pytest.fixture
def nothing_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever computes or draws anything fails."""
    from visiontk.adapters import vit_figures, vit_plots

    def drawn(*_: object, **__: object) -> None:
        raise AssertionError("drawn")

    for module, name in ((vit_figures, "patch_filter_components"), (vit_figures, "position_similarity"), (vit_plots, "plot_filters")):
        monkeypatch.setattr(module, name, drawn)


def array(record: Record, part: str) -> Any:
    return np.load(record["inspect"][part]["array"])


def test_all_three_figures_as_pictures_and_arrays(run: Run, tiny_model: TinyModel) -> None:
    result = run("inspect", tiny_model.folder, "--dtype", "fp32")
    [record] = result.records
    assert result.code == 0
    assert result.stderr == (
        "visiontk: no images are named, so the attention distance is averaged over small photos that come with the package\n"
    )
    assert record["model"] == str(tiny_model.folder) and record["revision"].startswith("sha256:")
    assert record["inspect"] == {
        "filters": {"picture": "visiontk-out/vit-filters.png", "array": "visiontk-out/vit-filters.npy"},
        "position": {"picture": "visiontk-out/vit-position.png", "array": "visiontk-out/vit-position.npy"},
        "distance": {"picture": "visiontk-out/vit-distance.png", "array": "visiontk-out/vit-distance.npy", "images": 12},
    }
    assert sorted(path.name for path in Path("visiontk-out").iterdir()) == [
        f"vit-{part}.{suffix}" for part in ("distance", "filters", "position") for suffix in ("npy", "png")
    ]
    for part in record["inspect"].values():
        with Image.open(part["picture"]) as picture:
            picture.load()
            assert picture.format == "PNG" and min(picture.size) > 100

    network, _ = tiny_model.network()
    patches = network.pos_embed.detach().numpy()[0, 1:]
    unit = patches / np.linalg.norm(patches, axis=1, keepdims=True)
    rows, columns = network.patch_embed.grid_size
    np.testing.assert_allclose(array(record, "position").reshape(rows * columns, -1), unit @ unit.T, atol=1e-5)

    filters = network.patch_embed.proj.weight.detach().numpy().reshape(network.embed_dim, -1)
    first = np.linalg.svd(filters - filters.mean(0), full_matrices=False)[2][0]
    shown = array(record, "filters")[0].transpose(2, 0, 1).ravel()
    assert abs(np.corrcoef(shown, first)[0, 1]) == pytest.approx(1, abs=1e-4)
    assert shown.min() == 0 and shown.max() == 1

    distances = array(record, "distance")
    assert distances.shape == (len(network.blocks), network.blocks[0].attn.num_heads)
    assert (distances > 0).all() and (distances < np.hypot(64, 64)).all()


def test_the_distance_is_the_mean_over_the_first_images_that_can_be_read(run: Run, tiny_model: TinyModel, photos: Path) -> None:
    def distance(*arguments: str | Path) -> tuple[Any, int, str]:
        result = run("inspect", tiny_model.folder, "--dtype", "fp32", "--figure", "distance", "--overwrite", *arguments)
        assert result.code == 0, result.stderr
        [record] = result.records
        assert record["inspect"].keys() == {"distance"}
        return array(record, "distance"), record["inspect"]["distance"]["images"], result.stderr

    one, two = photos / "chelsea.png", photos / "coffee.jpg"
    (first, _, quiet), (second, _, _) = distance(one), distance(two)
    both, count, warned = distance(one, "nowhere.png", two)
    assert (count, quiet, warned) == (2, "", "visiontk: warning: nowhere.png: there is no such file\n")
    np.testing.assert_allclose(both, (first + second) / 2, atol=1e-5)
    limited, count, _ = distance(two, one, "--images", "1")
    assert count == 1
    np.testing.assert_array_equal(limited, second)


def test_chosen_figures_go_where_they_are_told_and_replace_nothing_by_themselves(run: Run, tiny_model: TinyModel) -> None:
    command = ("inspect", tiny_model.folder, "--figure", "position", "--figure", "filters", "-o", "fig/{kind}-of-{stem}")
    [record] = run(*command).records
    assert list(record["inspect"]) == ["position", "filters"]
    files = sorted(str(path) for path in Path("fig").iterdir())
    assert files == ["fig/filters-of-vit.npy", "fig/filters-of-vit.png", "fig/position-of-vit.npy", "fig/position-of-vit.png"]
    Path("fig/filters-of-vit.npy").write_bytes(b"mine")
    Path("fig/position-of-vit.npy").unlink()
    refused = run(*command)
    assert (refused.code, refused.stdout) == (2, b"")
    assert refused.error == "fig/position-of-vit.png exists; pass --overwrite, or choose another place with -o"
    assert Path("fig/filters-of-vit.npy").read_bytes() == b"mine" and not Path("fig/position-of-vit.npy").exists()
    assert run(*command, "--overwrite").code == 0
    assert np.load("fig/filters-of-vit.npy").ndim == 4


def test_what_a_model_has_not_is_left_out_with_a_warning_or_refused_by_name(run: Run, tmp_path: Path) -> None:
    from tests.conftest import _save_tiny

    blind = _save_tiny(tmp_path / "blind", "test_vit", img_size=64, pos_embed="none")
    result = run("inspect", blind.folder, "-o", "all")
    assert result.code == 0
    assert list(result.records[0]["inspect"]) == ["filters", "distance"]
    reason = "test_vit has no learned absolute position embedding per patch; choose a ViT such as vit-base"
    assert f"visiontk: warning: left out position: {reason}\n" in result.stderr
    refused = run("inspect", blind.folder, "--figure", "position", "-o", "one")
    assert (refused.code, refused.error) == (2, reason)
    assert not Path("one").exists()
    assert run("inspect", blind.folder, "--figure", "filters", "-o", "silent", "-q").stderr == ""


@pytest.mark.usefixtures("nothing_drawn")
def test_what_can_be_refused_is_refused_before_anything_is_drawn(run: Run, tiny_model: TinyModel, tiny_convnet: TinyModel) -> None:
    Path("empty").mkdir()
    for inputs in (["nowhere.png"], ["empty"], ["https://127.0.0.1/x.png"]):
        result = run("inspect", tiny_model.folder, *inputs)
        assert (result.code, result.stdout) == (2, b"")
        assert result.error == "none of the inputs is an image that can be read; name some"
    convnet = run("inspect", tiny_convnet.folder, "nowhere.png")
    assert (convnet.code, convnet.stdout, convnet.stderr.count("\n")) == (2, b"", 1)
    assert "has none of the figures" in convnet.error
    for arguments, hint in ((["-o", "-"], "name a folder"), (["--images", "0"], "--images"), (["--figure", "x"], "--figure")):
        result = run("inspect", tiny_model.folder, *arguments)
        assert (result.code, result.stdout) == (2, b"")
        assert hint in result.error
    assert run("inspect", "vit-bsae").code == 4
    assert not Path("visiontk-out").exists()


def test_images_come_from_a_pipe_too(run: Run, tiny_model: TinyModel, photos: Path) -> None:
    shutil.copy(photos / "chelsea.png", "a.png")
    command = ("inspect", tiny_model.folder, "--dtype", "fp32", "--figure", "distance", "--overwrite")
    [named] = run(*command, "a.png").records
    wanted = array(named, "distance")
    for stdin in (b"a.png\n", Path("a.png").read_bytes()):
        [piped] = run(*command, "-", stdin=stdin).records
        np.testing.assert_array_equal(array(piped, "distance"), wanted)


@pytest.mark.usefixtures("nothing_drawn")
def test_images_that_nothing_would_be_drawn_of_are_refused(run: Run, tiny_model: TinyModel, photos: Path) -> None:
    result = run("inspect", tiny_model.folder, photos, "--figure", "filters")
    assert result.code == 2 and "images are for the attention distance" in result.error
