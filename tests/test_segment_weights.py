"""SAM 2 models from the catalog, the hub's cache, folders and files; and what none of them may do."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from safetensors.torch import save_file

import visiontk
from visiontk import catalog, hub, layouts
from visiontk.adapters.segment import Everything, Segmenter, load
from visiontk.adapters.segment_weights import _Uninitialised, build, find_config, read_config
from visiontk.errors import ModelUnavailable
from visiontk.runtime import Runtime

CONFIG = Path(__file__).parent / "data" / "random-sam2.yaml"
CPU = Runtime(device="cpu", dtype="fp32")
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def model() -> Any:
    torch.manual_seed(0)
    return instantiate(OmegaConf.load(CONFIG).model).eval()


@pytest.fixture
def folder(model: Any, tmp_path: Path) -> Path:
    """A model folder: ``config.yaml`` and ``model.safetensors``."""
    made = tmp_path / "model"
    made.mkdir()
    shutil.copy(CONFIG, made / "config.yaml")
    save_file(model.state_dict(), made / "model.safetensors")
    return made


def pretend_cached(cache: Path, repo: str, *files: Path) -> None:
    """A hub's cache as huggingface_hub lays it out."""
    root = cache / f"models--{repo.replace('/', '--')}"
    snapshot = root / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text(COMMIT)
    for file in files:
        shutil.copy(file, snapshot / file.name)


def same(found: Segmenter, model: Any) -> None:
    """The same weights, and everything that is computed and not stored: the same features and memories."""
    state = found.network.model.state_dict()
    assert list(state) == list(model.state_dict())
    assert all(torch.equal(state[name], tensor) for name, tensor in model.state_dict().items())
    assert not any(tensor.is_meta for tensor in state.values())
    for ours, theirs in zip(found.network.model.memory_attention.layers, model.memory_attention.layers, strict=True):
        assert torch.equal(ours.cross_attn_image.freqs_cis, theirs.cross_attn_image.freqs_cis)
    pixels = torch.randn(1, 3, 128, 128, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        ours, theirs = found.network.model.forward_image(pixels), model.forward_image(pixels)
        for key in ("backbone_fpn", "vision_pos_enc"):
            assert all(torch.equal(one, other) for one, other in zip(ours[key], theirs[key], strict=True))
        assert torch.equal(found.network.model.sam_prompt_encoder.get_dense_pe(), model.sam_prompt_encoder.get_dense_pe())


def test_a_folder(folder: Path, model: Any) -> None:
    found = visiontk.load("segment", str(folder), CPU)
    same(found, model)
    assert (found.name, found.image_size, found.warning) == (str(folder), 128, None)
    assert found.revision == "sha256:" + hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


def test_the_settings_for_tracking_are_metas_without_the_filling_of_holes(folder: Path) -> None:
    network = load(str(folder), CPU).network.model
    decoder = network.sam_mask_decoder
    assert (decoder.dynamic_multimask_via_stability, decoder.dynamic_multimask_stability_delta) == (True, 0.05)
    assert (decoder.dynamic_multimask_stability_thresh, network.binarize_mask_from_pts_for_mem_enc) == (0.98, True)


def test_half_precision_weights_become_float32(folder: Path, model: Any) -> None:
    save_file({name: tensor.half() for name, tensor in model.state_dict().items()}, folder / "model.safetensors")
    weights = load(str(folder), CPU).network.model.state_dict()
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32}
    assert torch.equal(weights["no_mem_embed"], model.state_dict()["no_mem_embed"].half().float())


def test_a_checkpoint_with_its_configuration_beside_it(folder: Path, model: Any) -> None:
    for name, config in (("checkpoint.pt", "config.yaml"), ("other.pt", "other.yaml")):
        (folder / "config.yaml").exists() and (folder / "config.yaml").rename(folder / config)
        torch.save({"model": model.state_dict(), "epoch": 3}, folder / name)
        same(load(str(folder / name), CPU), model)


def test_metas_file_names_have_their_configurations(tmp_path: Path) -> None:
    widths = {"sam2.1_hiera_tiny.pt": 96, "sam2_hiera_small.pt": 96, "sam2.1_hiera_base_plus.pt": 112, "sam2.1_hiera_large.pt": 144}
    for name, width in widths.items():
        config = read_config(find_config(tmp_path / name))
        assert config["image_encoder"]["trunk"].get("embed_dim", 96) == width
        assert ("no_obj_embed_spatial" in config) == name.startswith("sam2.1")


def test_a_checkpoint_of_which_nothing_is_known(tmp_path: Path) -> None:
    torch.save({"model": {"weight": torch.zeros(1)}}, tmp_path / "mine.pt")
    with pytest.raises(
        ModelUnavailable, match=r"mine.pt has no configuration, .*sam2.1_hiera_tiny.pt.*put a config.yaml of sam2 beside it"
    ):
        load(str(tmp_path / "mine.pt"), CPU)


def test_the_catalogs_models_are_metas_and_their_sizes_are_right() -> None:
    from sam2.build_sam import HF_MODEL_ID_TO_FILENAMES

    listed = [entry for entry in catalog.entries() if entry.task == "segment" and not entry.bundled]
    assert {entry.id for entry in listed} == set(HF_MODEL_ID_TO_FILENAMES)
    for entry in listed:
        _, weights = HF_MODEL_ID_TO_FILENAMES[entry.id]
        [layout] = layouts.of(entry.id)
        assert layout.weights == (weights,)
        config = read_config(find_config(Path(weights)))
        with _Uninitialised():
            state = instantiate(config).state_dict()
        built = build(config, state, entry.name)
        count = sum(parameter.numel() for parameter in built.parameters())
        assert count == pytest.approx(entry.parameters, rel=0.005) and 4e-6 * count == pytest.approx(entry.memory, rel=0.01)
        assert built.image_size == 1024 and built.pred_obj_scores and built.num_maskmem == 7
        del state, built
    assert [entry.name for entry in listed if entry.recommended] == ["sam2.1-tiny"]


@pytest.mark.parametrize("name", ["sam2.1-base-plus", "facebook/sam2.1-hiera-base-plus"])
def test_a_cached_model_of_metas_is_its_checkpoint_and_not_the_one_for_transformers(name: str, hub_cache: Path, tmp_path: Path) -> None:
    files = [tmp_path / file for file in ("config.json", "model.safetensors", "sam2.1_hiera_base_plus.pt")]
    for file in files:
        file.write_bytes(b"{}")
    pretend_cached(hub_cache, "facebook/sam2.1-hiera-base-plus", *files)
    location = catalog.locate("segment", name)
    assert location is not None
    assert (location.name, location.weights.name, location.revision) == (name, "sam2.1_hiera_base_plus.pt", COMMIT)
    assert find_config(location.weights).name == "sam2.1_hiera_b+.yaml"


def test_a_cached_repository_of_someone_else(hub_cache: Path, folder: Path, model: Any) -> None:
    pretend_cached(hub_cache, "org/mine", folder / "config.yaml", folder / "model.safetensors")
    found = load("org/mine", CPU)
    same(found, model)
    assert (found.name, found.revision) == ("org/mine", COMMIT)
    assert hub.cached("org/mine") == hub.cached("org/mine", layouts.SAM2) != hub.cached("org/mine", layouts.TIMM)


def test_what_is_fetched_from_the_hub(hub_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub.errors import EntryNotFoundError

    held = {"facebook/sam2-hiera-small": {"config.json", "model.safetensors", "sam2_hiera_small.pt"}}
    held |= {"org/mine": {"config.yaml", "model.safetensors"}, "org/timm": {"config.json", "pytorch_model.bin"}, "org/empty": {"README.md"}}
    fetched: list[str] = []

    def download(repo: str, file: str, **_: object) -> str:
        if file not in held[repo]:
            raise EntryNotFoundError(f"no {file}")
        fetched.append(file)
        return f"/snapshots/{COMMIT}/{file}"

    monkeypatch.setattr(hub, "answers", lambda: True)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    for repo, files in (("facebook/sam2-hiera-small", ["sam2_hiera_small.pt"]), ("org/mine", ["config.yaml", "model.safetensors"])):
        for layout in (layouts.SAM2, None):  # with the task known, and without, as `visiontk models pull` fetches
            fetched.clear()
            found = hub.fetch(repo, layout)
            assert (fetched, found.weights.name, found.revision) == (files, files[-1], COMMIT)
    assert hub.fetch("org/timm").weights.name == "pytorch_model.bin"
    with pytest.raises(ModelUnavailable, match=r"org/timm has no config.yaml, so it is not a SAM 2 model; name another"):
        hub.fetch("org/timm", layouts.SAM2)
    with pytest.raises(
        ModelUnavailable,
        match=r"org/empty has no config.json or config.yaml or model_index.json, so it is not a timm or SAM 2 or diffusers model",
    ):
        hub.fetch("org/empty")


def test_without_a_name_and_a_hub_the_bundled_model_is_chosen_and_said_so(hub_cache: Path) -> None:
    location = catalog.locate_default("segment")
    assert location.name == "tiny-sam2" and location.weights.parts[-2:] == ("tiny-sam2", "model.safetensors")
    assert location.warning and "sam2.1-tiny" in location.warning and "choose with --model" in location.warning


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("sam2.1-tyni", "no catalog name, hub id or local path; did you mean sam2.1-tiny?"),
        ("./nowhere", "there is no file or folder"),
        ("org/missing", "not cached and the model hub cannot be had"),
    ],
)
def test_models_that_cannot_be_had(name: str, message: str, hub_cache: Path) -> None:
    with pytest.raises(ModelUnavailable, match=message):
        load(name, CPU)


def test_a_folder_without_a_model(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match=r"has no config.yaml with model.safetensors beside it"):
        load(str(tmp_path), CPU)


TARGETS = [
    "os.system",
    "sam2.build_sam.os.system",
    "builtins.eval",
    "sam2.benchmark.main",
    "torch.nn.Linear",
    "sam2.modeling.nowhere.Module",
]


@pytest.mark.parametrize("target", [*TARGETS, "sam2.modeling.sam2_base.torch.hub.load", "sam2.modeling.sam2_utils.copy.copy", "sam2", 3])
def test_a_configuration_that_would_run_something_else(target: object, folder: Path, tmp_path: Path) -> None:
    config = OmegaConf.load(folder / "config.yaml")
    config.model.image_encoder.trunk = {"_target_": target, "command": f"touch {tmp_path / 'was-here'}"}
    OmegaConf.save(config, folder / "config.yaml")
    with pytest.raises(ModelUnavailable, match=rf"names {target}, which is no module of sam2, so it is refused"):
        load(str(folder), CPU)
    assert not (tmp_path / "was-here").exists()


def test_a_configuration_hides_nothing_in_lists_or_interpolations(folder: Path) -> None:
    config = OmegaConf.load(folder / "config.yaml")
    config.model.what = "os.system"
    config.model.image_encoder.trunk.stages = [{"_target_": "${model.what}", "_args_": ["true"]}]
    OmegaConf.save(config, folder / "config.yaml")
    with pytest.raises(ModelUnavailable, match=r"names os.system, which is no module of sam2"):
        load(str(folder), CPU)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no `model:` with a `_target_`"),
        ("model: 3", "no `model:` with a `_target_`"),
        ("model: [", "cannot be read"),
        ("model: !!python/object/apply:os.system ['true']", "cannot be read"),
        ("model: {_target_: a, b: '${nowhere}'}", "cannot be read"),
    ],
)
def test_configurations_that_are_none(text: str, message: str, folder: Path) -> None:
    (folder / "config.yaml").write_text(text)
    with pytest.raises(ModelUnavailable, match=message) as raised:
        load(str(folder), CPU)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("size", ["big", [1], 0, -8, None, True, 1.5])
def test_a_configuration_with_a_size_that_is_none(size: object, folder: Path) -> None:
    config = OmegaConf.load(folder / "config.yaml")
    config.model.image_size = size
    OmegaConf.save(config, folder / "config.yaml")
    with pytest.raises(ModelUnavailable, match="has an image_size that is no number of pixels"):
        load(str(folder), CPU)


def test_a_configuration_with_values_that_make_no_sense(folder: Path) -> None:
    config = OmegaConf.load(folder / "config.yaml")
    config.model.image_encoder.trunk.colour = "red"
    OmegaConf.save(config, folder / "config.yaml")
    with pytest.raises(ModelUnavailable, match=r"does not build Hiera .*colour") as raised:
        load(str(folder), CPU)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("no_mem_embed"), "no_mem_embed is missing"),
        (lambda state: state.update(no_mem_embed=torch.zeros(1, 1, 3)), r"no_mem_embed has the shape \[1, 1, 3\] and not \[1, 1, 32\]"),
        (lambda state: state.update(extra=torch.zeros(1)), "extra is unknown"),
    ],
)
def test_weights_that_do_not_fit(change: Any, message: str, folder: Path, model: Any) -> None:
    state = dict(model.state_dict())
    change(state)
    save_file(state, folder / "model.safetensors")
    with pytest.raises(ModelUnavailable, match=f"do not fit its configuration .{message}"):
        load(str(folder), CPU)


class Malicious:
    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> Any:
        import os

        return os.system, (self.command,)


def test_a_checkpoint_that_would_run_something(folder: Path, tmp_path: Path) -> None:
    torch.save({"model": Malicious(f"touch {tmp_path / 'was-here'}")}, folder / "model.pt")
    with pytest.raises(ModelUnavailable, match="is a pickle that could run code, so it is refused"):
        load(str(folder / "model.pt"), CPU)
    assert not (tmp_path / "was-here").exists()


@pytest.mark.parametrize("content", [b"", b"no weights", {"model": {}}, {"model": {"a": 3}}, [1, 2]])
def test_files_that_hold_no_weights(content: Any, folder: Path) -> None:
    file = folder / "model.pt"
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        torch.save(content, file)
    with pytest.raises(
        ModelUnavailable, match=r"model.pt (cannot be read as weights|holds no dictionary of tensors|is a pickle)"
    ) as raised:
        load(str(file), CPU)
    assert "\n" not in str(raised.value)


def test_small_models_run_in_float32_on_a_cpu_unless_told_otherwise(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("visiontk.runtime.multiplies_bf16_fast", lambda device: True)
    assert load(str(folder), Runtime(device="cpu")).runtime.dtype_name == "fp32"
    assert load(str(folder), Runtime(device="cpu", dtype="bf16")).runtime.dtype_name == "bf16"


def test_weights_of_layers_that_autocast_casts_are_cast_once(folder: Path) -> None:
    network = load(str(folder), Runtime(device="cpu", dtype="bf16")).network.model
    assert network.image_encoder.trunk.patch_embed.proj.weight.dtype == torch.bfloat16
    assert network.maskmem_tpos_enc.dtype == network.image_encoder.trunk.blocks[0].norm1.weight.dtype == torch.float32


def test_a_model_for_small_pictures_has_its_own_knobs(folder: Path) -> None:
    assert load(str(folder), CPU).knobs.points_per_side < Everything().points_per_side


def test_hydra_is_left_as_it_was_and_nothing_heavy_is_imported(folder: Path) -> None:
    code = (
        "import sys, visiontk; visiontk.load('segment', sys.argv[1], visiontk.Runtime(device='cpu'))\n"
        "from hydra.core.global_hydra import GlobalHydra\n"
        "heavy = {'timm', 'torchvision', 'transformers', 'torch._dynamo'}\n"
        "print(GlobalHydra.instance().is_initialized(), sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code, str(folder)], check=True, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("False []\n", "")
