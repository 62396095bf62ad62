"""Fetching from a hub, which is a small server on this machine."""

from __future__ import annotations

import json
import shutil
import socket
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.generate_models import make_lora, make_pipeline
from tests.hub_server import COMMIT
from visiontk import hub, layouts, pipelines
from visiontk.errors import ModelUnavailable

if TYPE_CHECKING:
    from tests.conftest import Run, TinyModel
    from tests.hub_server import Server


def test_a_hub_model_is_fetched_once_and_then_runs_without_the_hub(run: Run, server: Server, tiny_model: TinyModel, photos: Path) -> None:
    server.repos["org/tiny"] = tiny_model.folder
    photo = photos / "coffee.jpg"
    first = run("classify", "-q", "-m", "org/tiny", photo)
    assert first.code == 0, first.stderr
    assert first.records[0]["classify"]["model"] == "org/tiny"
    assert first.records[0]["classify"]["revision"] == COMMIT
    server.shutdown()
    asked = len(server.asked)
    second = run("classify", "-q", "-m", "hf-hub:org/tiny", photo)
    assert second.records[0]["classify"]["labels"] == first.records[0]["classify"]["labels"]
    assert len(server.asked) == asked


def test_pull_show_and_rm(run: Run, server: Server, tiny_model: TinyModel, hub_cache: Path) -> None:
    server.repos["org/tiny"] = tiny_model.folder
    assert run("models", "pull", "org/tiny").code == 0
    shown = json.loads(run("models", "show", "org/tiny").stdout)
    assert (shown["cached"], shown["revision"]) == (True, COMMIT)
    assert run("models", "rm", "org/tiny").code == 0
    assert run("models", "show", "org/tiny").code == 4


def test_the_recommended_model_runs_when_the_hub_answers(run: Run, server: Server, tiny_model: TinyModel, photos: Path) -> None:
    server.repos["timm/vit_base_patch16_clip_224.laion2b_ft_in12k_in1k"] = tiny_model.folder
    done = run("classify", photos / "coffee.jpg")
    assert done.records[0]["classify"]["model"] == "vit-base"
    assert "bundled" not in done.stderr


def test_a_repository_that_is_not_there_or_is_no_model(run: Run, server: Server, tmp_path: Path, photos: Path) -> None:
    (tmp_path / "empty").mkdir()
    server.repos["org/empty"] = tmp_path / "empty"
    missing = run("classify", "-m", "org/missing", photos)
    assert (missing.code, missing.error) == (4, "the hub has no model org/missing; see `visiontk models list` for names that work")
    empty = run("classify", "-m", "org/empty", photos)
    assert (empty.code, empty.error) == (4, "org/empty has no config.json, so it is not a timm model; name another")
    with pytest.raises(
        ModelUnavailable, match=r"org/empty has no config.json or config.yaml or model_index.json, so it is not a timm or SAM 2 or"
    ):
        hub.download("org/empty")


@pytest.mark.parametrize("layout", [layouts.TIMM, layouts.DIFFUSERS])
def test_a_network_that_fails_in_the_middle_is_not_taken_for_a_missing_file(
    server: Server, monkeypatch: pytest.MonkeyPatch, layout: layouts.Layout
) -> None:
    from huggingface_hub.errors import LocalEntryNotFoundError

    def gone(*_: object, **__: object) -> str:
        raise LocalEntryNotFoundError("the connection is lost")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", gone)
    with pytest.raises(
        ModelUnavailable, match=r"org/tiny could not be fetched \(LocalEntryNotFoundError: the connection is lost\); try again"
    ):
        hub.download("org/tiny", layout)


def test_a_connection_that_breaks_off_is_no_bug_and_the_bundled_model_runs(
    run: Run, server: Server, tiny_model: TinyModel, photos: Path
) -> None:
    server.repos["org/tiny"] = server.repos["timm/vit_base_patch16_clip_224.laion2b_ft_in12k_in1k"] = tiny_model.folder
    server.broken = ".safetensors"
    named = run("classify", "-m", "org/tiny", photos / "coffee.jpg")
    assert named.code == 4 and "org/tiny could not be fetched" in named.error and named.stderr.count("\n") == 1, named.stderr
    default = run("classify", photos / "coffee.jpg")
    assert default.code == 0 and default.records[0]["classify"]["model"] == "efficientnet-lite0", default.stderr


def test_what_answers_garbage_is_no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    failed: list[object] = []
    monkeypatch.setattr(threading, "excepthook", failed.append)
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"who are you\r\n\r\n")

        threading.Thread(target=answer, daemon=True).start()
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{listening.getsockname()[1]}")
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        hub.answers.cache_clear()
        assert not hub.answers()
        hub.answers.cache_clear()
    assert failed == []


@pytest.fixture
def pipeline(server: Server, tmp_path: Path) -> Path:
    """A repository with a pipeline in two variants and much else, of which a run needs little."""
    folder = make_pipeline(tmp_path / "sd")
    for file in list(folder.rglob("*.safetensors")):
        shutil.copy(file, file.with_suffix(".fp16.safetensors"))
        shutil.copy(file, file.with_suffix(".bin"))
    for name in ("sd.ckpt", "sd.safetensors", "unet/own.py", "unet/model.onnx", "README.md"):
        (folder / name).write_bytes(b"not wanted")
    server.repos["org/sd"] = folder
    return folder


def test_of_a_pipeline_only_what_it_needs_is_fetched_and_then_it_runs_without_the_hub(run: Run, server: Server, pipeline: Path) -> None:
    from visiontk.adapters.generate import Generated, Request, load
    from visiontk.runtime import Runtime

    fetched = hub.fetch("org/sd", layouts.DIFFUSERS)
    assert sorted(file.relative_to(fetched.folder).as_posix() for file in fetched.folder.rglob("*") if file.is_file()) == [
        "model_index.json",
        "scheduler/scheduler_config.json",
        "text_encoder/config.json",
        "text_encoder/model.safetensors",
        "tokenizer/tokenizer.json",
        "tokenizer/tokenizer_config.json",
        "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors",
        "vae/config.json",
        "vae/diffusion_pytorch_model.safetensors",
    ]
    asked = len(server.asked)
    generator = load("org/sd", Runtime(device="cpu", dtype="fp32"))
    assert (generator.name, generator.revision, len(server.asked)) == ("org/sd", COMMIT, asked)
    [here], [there] = (one.generate([Request("a tree", steps=2)]) for one in (generator, load(str(pipeline), Runtime(device="cpu"))))
    assert isinstance(here, Generated)
    assert isinstance(there, Generated)
    assert here.image.tobytes() == there.image.tobytes()
    shown = json.loads(run("models", "show", "org/sd").stdout)
    assert shown["bytes"] == sum(file.stat().st_size for file in fetched.files) > 1_000_000
    assert run("models", "rm", "org/sd").code == 0
    assert hub.cached("org/sd") is None


def test_a_variant_is_fetched_beside_the_plain_weights_and_a_missing_one_is_told(server: Server, pipeline: Path) -> None:
    plain = hub.fetch("org/sd", layouts.DIFFUSERS)
    assert hub.cached("org/sd", layouts.DIFFUSERS, "fp16") is None
    half = hub.fetch("org/sd", layouts.DIFFUSERS, "fp16")
    assert {file.name.split(".")[1] for file in half.files} == {"fp16"}
    assert (plain.folder, len(half.files)) == (half.folder, 3)
    with pytest.raises(ModelUnavailable, match="org/sd has no variant bf16; its variants are fp16"):
        hub.fetch("org/sd", layouts.DIFFUSERS, "bf16")


def test_a_variant_that_is_cached_by_chance_does_not_decide_which_weights_run(server: Server, pipeline: Path) -> None:
    hub.fetch("org/sd", layouts.DIFFUSERS, "fp16")
    plain = hub.fetch("org/sd", layouts.DIFFUSERS)
    assert plain.variant is None and not any("fp16" in file.name for file in plain.files)
    asked = len(server.asked)
    assert (hub.fetch("org/sd", layouts.DIFFUSERS), len(server.asked)) == (plain, asked)


def test_a_download_that_was_broken_off_is_no_cached_model_and_goes_on(server: Server, pipeline: Path) -> None:
    kept = pipeline.parent / "kept.safetensors"
    weights = pipeline / "vae" / "diffusion_pytorch_model.safetensors"
    listing = pipelines.listed(pipeline)
    weights.rename(kept)
    (pipeline / "vae" / "diffusion_pytorch_model.fp16.safetensors").unlink()
    with pytest.raises(ModelUnavailable, match="org/sd has no safetensors for its vae, and pickles are never read"):
        hub.fetch("org/sd", layouts.DIFFUSERS)
    kept.rename(weights)
    assert "vae/diffusion_pytorch_model.safetensors" in listing
    hub.fetch("org/sd", layouts.DIFFUSERS)
    [stored] = [file for file in hub.fetch("org/sd", layouts.DIFFUSERS).files if file.parent.name == "vae"]
    stored.unlink()
    assert hub.cached("org/sd", layouts.DIFFUSERS) is None
    before = len(server.asked)
    assert hub.fetch("org/sd", layouts.DIFFUSERS).files[-1].is_file()
    assert any("vae" in path for path in server.asked[before:])


def test_a_pipeline_with_code_of_its_own_is_not_fetched(server: Server, pipeline: Path) -> None:
    index = pipeline / "model_index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | {"unet": ["own", "Net"]}))
    with pytest.raises(ModelUnavailable, match="is a Net of own, which is neither diffusers nor transformers, so it is refused"):
        hub.fetch("org/sd", layouts.DIFFUSERS)
    assert not any(path.endswith((".py", ".safetensors")) for path in server.asked)


def test_the_configuration_of_a_family_is_fetched_without_its_weights(server: Server, pipeline: Path) -> None:
    folder = hub.configuration("org/sd")
    assert (folder / "unet" / "config.json").is_file()
    assert not list(folder.rglob("*.safetensors"))
    assert hub.cached("org/sd", layouts.DIFFUSERS) is None
    assert hub.configuration("org/sd") == folder


def test_a_task_that_the_family_cannot_do_is_told_before_weights_are_fetched(run: Run, server: Server, tmp_path: Path) -> None:
    server.repos["org/paint"] = make_pipeline(tmp_path / "paint", mask_channels=True)
    result = run("generate", "a car", "-m", "org/paint")
    assert result.code == 2 and "org/paint cannot do text to image, its family does inpainting alone" in result.error
    assert server.asked and not [path for path in server.asked if "safetensors" in path]


def test_a_lora_comes_from_the_hub_by_its_only_file_or_by_name(server: Server, pipeline: Path, tmp_path: Path) -> None:
    from visiontk.adapters.generate_lora import find

    server.repos["org/style"] = make_lora(tmp_path / "style", pipeline).parent
    assert find("org/style").read_bytes() == (tmp_path / "style" / "pytorch_lora_weights.safetensors").read_bytes()
    asked = len(server.asked)
    assert find("org/style") == find("org/style/pytorch_lora_weights.safetensors")
    assert len(server.asked) == asked
    shutil.copy(tmp_path / "style" / "pytorch_lora_weights.safetensors", tmp_path / "style" / "b.safetensors")
    server.repos["org/two"] = tmp_path / "style"
    with pytest.raises(
        ModelUnavailable, match=r"org/two has several files of weights \(b.safetensors, pytorch_.*; name one of them as org/two/FILE"
    ):
        find("org/two")
    assert find("org/two/b.safetensors").name == "b.safetensors"
    with pytest.raises(ModelUnavailable, match=r"org/two has no c.safetensors, and pickles are never read"):
        find("org/two/c.safetensors")


def test_a_hub_that_never_answers_is_asked_once_and_not_waited_for(monkeypatch: pytest.MonkeyPatch, hub_cache: Path) -> None:
    from huggingface_hub import constants

    def fetch_thrice() -> None:
        for _ in range(3):
            with pytest.raises(ModelUnavailable, match="the model hub cannot be had"):
                hub.fetch("org/tiny")

    assert hub.PROBE_S <= 3
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        hub.answers.cache_clear()
        # Without a limit of its own this would wait for ever; with one, a busy machine may take several times as long.
        asking = threading.Thread(target=fetch_thrice, daemon=True)
        asking.start()
        asking.join(60)
        assert not asking.is_alive()
        silent.settimeout(0.1)
        silent.accept()[0].close()
        with pytest.raises(TimeoutError):
            silent.accept()
    hub.answers.cache_clear()


def test_a_name_that_takes_for_ever_to_look_up_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    released = threading.Event()

    def look_up(*_: object, **__: object) -> None:
        released.wait(120)
        raise OSError("too late")

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    monkeypatch.setattr(hub, "PROBE_S", 0.2)
    hub.answers.cache_clear()
    found: list[bool] = []
    asking = threading.Thread(target=lambda: found.append(hub.answers()), daemon=True)
    asking.start()
    asking.join(60)
    assert found == [False]
    released.set()
    hub.answers.cache_clear()


@pytest.mark.parametrize(
    "repo", ["", "a/b/c", "a b", "org/", "/name", "org/na..me", "org/name@", "org/name@../x", "org/name@a b", "n" * 200, "-/-", "../x"]
)
def test_what_can_be_no_hub_id_is_refused_before_the_cache_or_the_hub_is_asked(monkeypatch: pytest.MonkeyPatch, repo: str) -> None:
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", None)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", None)
    monkeypatch.setattr(hub, "answers", None)
    for ask in (hub.cached, hub.fetch, hub.download, hub.configuration):
        with pytest.raises(ModelUnavailable, match=r"is no hub id; a hub id is org/name or org/name@revision$"):
            ask(repo)


@pytest.mark.parametrize("model", ["hf-hub:", "hf-hub:a b", "hf_hub:a/b/c", "hf-hub:org/name@", "org/na..me"])
def test_an_impossible_id_is_one_line_for_every_command(run: Run, model: str) -> None:
    for arguments in (["classify", "a.png", "-m", model], ["inspect", model], ["models", "show", model], ["models", "pull", model]):
        result = run(*arguments)
        assert (result.code, result.stdout, result.stderr.count("\n")) == (4, b"", 1), arguments
        assert "is no hub id" in result.error
    assert run("models", "rm", model).code == 4


def test_models_take_the_timm_names_that_classify_takes(run: Run, server: Server, tiny_model: TinyModel, photos: Path) -> None:
    name, repo = "resnet50.a1_in1k", "timm/resnet50.a1_in1k"
    server.repos[repo] = tiny_model.folder
    pulled = run("models", "pull", name)
    assert (pulled.code, pulled.stderr.startswith(f"visiontk: {name} is in ")) == (0, True)
    shown = json.loads(run("models", "show", name).stdout)
    assert (shown["name"], shown["id"], shown["revision"]) == (name, repo, COMMIT)
    asked = len(server.asked)
    [record] = run("classify", "-q", "-m", name, photos / "coffee.jpg").records
    assert (record["classify"]["model"], record["classify"]["revision"], len(server.asked)) == (name, COMMIT, asked)
    assert run("models", "rm", f"{repo}@another").code == 4
    assert run("models", "rm", name).code == 0
    assert hub.cached(repo) is None
    for unknown, hint in (("resnet50.nobody", "timm.list_pretrained()"), ("no-such-net", "visiontk models list")):
        result = run("models", "pull", unknown)
        assert (result.code, hint in result.error) == (4, True)


def test_rm_takes_models_alone_and_says_what_stays(
    run: Run, server: Server, tiny_model: TinyModel, hub_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.repos["org/tiny"] = tiny_model.folder
    assert run("models", "pull", "org/tiny").code == 0
    shutil.copytree(hub_cache / "models--org--tiny", hub_cache / "datasets--org--tiny", symlinks=True)
    assert run("models", "rm", "org/tiny").code == 0
    assert (hub_cache / "datasets--org--tiny" / "snapshots" / COMMIT).is_dir()
    assert run("models", "pull", "org/tiny").code == 0
    monkeypatch.setattr("huggingface_hub.utils._cache_manager.DeleteCacheStrategy.execute", lambda self: None)
    stays = run("models", "rm", "org/tiny")
    assert stays.code == 6 and "cannot be removed" in stays.error


def test_pull_without_a_hub_does_not_advise_to_pull(run: Run) -> None:
    result = run("models", "pull", "vit-base")
    assert result.code == 4
    assert result.error == "vit-base cannot be fetched, because the model hub cannot be had; run this again where it can"
