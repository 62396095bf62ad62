"""`visiontk models convert lvm`: the published files become one folder that says the same, or nothing at all is written."""

from __future__ import annotations

import errno
import json
import re
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.lvm_models import TOKENS, make_lvm
from tests.lvm_public import SMALL, tensors
from visiontk import hub
from visiontk.adapters import lvm_convert, lvm_copy
from visiontk.adapters.lvm import load
from visiontk.runtime import Runtime

if TYPE_CHECKING:
    from tests.conftest import DiskOf, OnTerminal, Run
    from tests.hub_server import Server

CPU = Runtime(device="cpu", dtype="fp32")
LLAMA, VQGAN = Path("LVM_ckpts"), Path("vqvae_ckpts")


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """transformers' LLaMA, in fp16 and shards of pickled tensors, and open-muse's VQGAN."""
    folder = tmp_path_factory.mktemp("public")
    shutil.move(make_lvm(folder / "lvm", eos=2) / "llama", folder / LLAMA)
    found = sorted((name, tensor.half()) for name, tensor in load_file(folder / LLAMA / "model.safetensors").items())
    (folder / LLAMA / "model.safetensors").unlink()
    found.append(("model.layers.0.self_attn.rotary_emb.inv_freq", torch.ones(4)))  # as old files have
    shards = {"pytorch_model-00001-of-00002.bin": dict(found[:9]), "pytorch_model-00002-of-00002.bin": dict(found[9:])}
    for name, shard in shards.items():
        torch.save(shard, folder / LLAMA / name)
    index = {"metadata": {}, "weight_map": {key: name for name, shard in shards.items() for key in shard}}
    (folder / LLAMA / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    (folder / VQGAN).mkdir()
    (folder / VQGAN / "config.json").write_text(json.dumps(SMALL))
    torch.save(tensors(SMALL), folder / VQGAN / "pytorch_model.bin")
    return folder


@pytest.fixture(autouse=True)
def public(original: Path) -> None:
    """Copies in the folder to work in."""
    for part in (LLAMA, VQGAN):
        shutil.copytree(original / part, part)


@pytest.fixture
def convert(run: Run) -> Run:
    def call(*arguments: Any, stdin: bytes | None = None, stdout: Path | None = None) -> Any:
        return run("models", "convert", "lvm", *arguments, stdin=stdin, stdout=stdout)

    return call


def llama_tensors() -> dict[str, torch.Tensor]:
    """What the published LLaMA holds, but for what follows from its configuration."""
    shards = [torch.load(file, weights_only=True) for file in LLAMA.glob("*.bin")]
    return {name: tensor for shard in shards for name, tensor in shard.items() if "inv_freq" not in name}


def held(folder: str) -> dict[str, bytes]:
    """The files of a folder by their names."""
    found = sorted(file for file in Path(folder).rglob("*") if file.is_file())
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in found}


def test_two_folders_become_one_of_safetensors_that_says_the_same(convert: Run) -> None:
    done = convert(LLAMA, VQGAN, "-o", "deep/lvm")
    assert (done.code, done.stdout) == (0, b"")
    assert list(held("deep/lvm")) == [
        "llama/config.json",
        "llama/model-00001-of-00002.safetensors",
        "llama/model-00002-of-00002.safetensors",
        "llama/model.safetensors.index.json",
        "vqgan/config.json",
        "vqgan/diffusion_pytorch_model.safetensors",
    ]
    Path("mine").touch()
    modes = {stat.S_IMODE(file.stat().st_mode) for file in Path("deep/lvm").rglob("*.*")}
    assert modes == {stat.S_IMODE(Path("mine").stat().st_mode)}
    written = {name: tensor for file in Path("deep/lvm/llama").glob("*.safetensors") for name, tensor in load_file(file).items()}
    wanted = llama_tensors()
    assert written.keys() == wanted.keys()
    assert all(written[name].dtype == torch.float16 and torch.equal(written[name], tensor) for name, tensor in wanted.items())
    model = load("./deep/lvm", CPU)
    assert (model.image_size, model.frame_tokens, model.codes, model.context_frames) == (16, TOKENS, 24, 6)
    different = len({*model.encode(lvm_convert.pictures(8)).flatten().tolist()})
    size = sum(file.stat().st_size for file in Path("deep/lvm").rglob("*.safetensors")) / 1e6
    count = len(wanted) + len(tensors(SMALL))
    assert done.stderr == (
        f"visiontk: deep/lvm is the model, {size:.1f} MB; {count} tensors are the same to the bit, "
        f"and 8 pictures have the same 128 codes ({different} different ones) as before\n"
    )
    assert different > 5


def test_the_published_names_are_fetched_and_converted_and_removed(convert: Run, run: Run, server: Server, hub_cache: Path) -> None:
    server.repos |= {"Emma02/LVM_ckpts": LLAMA.absolute(), "Emma02/vqvae_ckpts": VQGAN.absolute(), "org/pictures": VQGAN.absolute()}
    server.commits |= {"Emma02/vqvae_ckpts": "f" * 40, "org/pictures": "e" * 40}
    assert convert("Emma02/LVM_ckpts", "org/pictures", "-o", "one").code == 0
    assert hub.cached("Emma02/LVM_ckpts")
    asked = len(server.asked)
    assert convert("lvm-7b", "-o", "other").code == 0  # both networks, which are cached by now
    assert len(server.asked) == asked
    assert convert(LLAMA, VQGAN, "-o", "local").code == 0
    assert held("one") == held("other") == held("local")
    networks = list(hub_cache.rglob("models--Emma02--*/snapshots/*"))
    assert len(networks) == 2 and run("models", "rm", "lvm-7b").code == 0
    assert not any(path.exists() for path in networks), "both networks"
    assert run("models", "rm", "lvm-7b").code == 4


def test_a_model_in_one_repository_is_fetched_whole(convert: Run, server: Server) -> None:
    convert(LLAMA, VQGAN, "-o", "lvm")
    server.repos["org/lvm"] = Path("lvm").absolute()
    assert hub.cached("org/lvm") is None
    again = convert("org/lvm", "-o", "again")
    assert again.code == 0, again.stderr
    assert held("again") == held("lvm")
    fetched = load("org/lvm", CPU)
    words = torch.arange(2 * TOKENS).reshape(2, TOKENS) % 24
    torch.testing.assert_close(fetched.score(words), load("./lvm", CPU).score(words), equal_nan=True)
    (Path("lvm") / "llama" / "model-00002-of-00002.safetensors").unlink()
    server.repos["org/torn"] = Path("lvm").absolute()
    torn = convert("org/torn", "-o", "torn")
    assert torn.code == 4
    assert torn.error.startswith("org/torn could not be fetched (")
    shutil.rmtree("lvm/vqgan")
    server.repos["org/half"] = Path("lvm").absolute()
    assert "org/half has none of vqgan/diffusion_pytorch_model.safetensors, " in convert("org/half", "-o", "half").error


def test_a_model_that_is_there_is_replaced_only_when_that_is_asked_for(convert: Run) -> None:
    Path("lvm").mkdir()
    Path("lvm/README.md").write_text("mine")
    assert convert(LLAMA, VQGAN, "-o", "lvm", "-q").stderr == ""
    before = held("lvm")
    again = convert(LLAMA, VQGAN, "-o", "lvm")
    assert (again.code, again.error) == (2, "lvm/vqgan exists; pass --overwrite, or choose another place with -o")
    config = json.loads((LLAMA / "config.json").read_text())
    (LLAMA / "config.json").write_text(json.dumps(config | {"rms_norm_eps": 0.5}))
    assert convert(LLAMA, VQGAN, "-o", "lvm", "--overwrite").code == 0
    after = held("lvm")
    assert {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)} == {"llama/config.json"}
    assert json.loads(after["llama/config.json"])["rms_norm_eps"] == 0.5


def test_what_no_conversion_wrote_is_never_replaced(convert: Run) -> None:
    convert(LLAMA, VQGAN, "-o", "lvm")
    Path("lvm/llama/notes.txt").write_text("mine")
    refused = convert(LLAMA, VQGAN, "-o", "lvm", "--overwrite")
    assert (refused.code, refused.error.partition(",")[0]) == (2, "lvm/llama/notes.txt is no part of a model that a conversion wrote")
    Path("lvm/llama/notes.txt").unlink()
    itself = convert("./lvm", "-o", "lvm", "--overwrite")
    assert (itself.code, itself.error.partition(",")[0]) == (2, "lvm/llama is what is read")
    Path("file").write_text("mine")
    assert convert(LLAMA, VQGAN, "-o", "file", "--overwrite").error == "file is a file; name a folder with -o"
    assert convert("./lvm", "-o", "other").code == 0
    assert held("other") == held("lvm")


def truncate(file: Path) -> None:
    with file.open("r+b") as stream:
        stream.truncate(file.stat().st_size * 2 // 3)


def change(file: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    """Edit the tensors of a pickle, or a JSON object."""
    found: dict[str, Any] = json.loads(file.read_text()) if file.suffix == ".json" else torch.load(file, weights_only=True)
    edit(found)
    file.write_text(json.dumps(found)) if file.suffix == ".json" else torch.save(found, file)


class Code:
    def __reduce__(self) -> Any:
        return Path.touch, (Path("ran"),)


SHARD, NORM = LLAMA / "pytorch_model-00002-of-00002.bin", "model.norm.weight"
BAD: dict[str, tuple[Callable[[], object], str]] = {
    "a truncated shard": (lambda: truncate(SHARD), "pytorch_model-00002-of-00002.bin cannot be read as weights"),
    "a truncated VQGAN": (lambda: truncate(VQGAN / "pytorch_model.bin"), "vqvae_ckpts/pytorch_model.bin cannot be read as weights"),
    "a missing shard": (SHARD.unlink, "pytorch_model-00002-of-00002.bin is missing; fetch the model again"),
    "code in the LLaMA": (lambda: torch.save({NORM: Code()}, SHARD), "is a pickle that could run code, so it is refused"),
    "code in the VQGAN": (lambda: torch.save({"x": Code()}, VQGAN / "pytorch_model.bin"), "is a pickle that could run code"),
    "a tensor too few": (lambda: change(SHARD, lambda found: found.pop(NORM)), f"lacks 1 tensors, {NORM} among them; fetch"),
    "a tensor too many": (lambda: change(SHARD, lambda found: found.update(more=torch.ones(2))), "has a tensor more, which is none of"),
    "another shape": (
        lambda: change(SHARD, lambda found: found.update({NORM: torch.ones(33)})),
        rf"the tensor {NORM} in .* is float32 \[33\] and not of floats \[32\]",
    ),
    "another type": (lambda: change(SHARD, lambda found: found.update({NORM: torch.ones(32).int()})), r"is int32 \[32\] and not of floats"),
    "no llama": (lambda: change(LLAMA / "config.json", lambda found: found.update(model_type="gpt2")), "is a gpt2 and no llama"),
    "too few tokens": (
        lambda: change(LLAMA / "config.json", lambda found: found.update(vocab_size=20)),
        "codes, more than the 20 tokens",
    ),
    "too short a context": (
        lambda: change(LLAMA / "config.json", lambda found: found.update(max_position_embeddings=20)),
        "too short for a frame to see and a frame to make",
    ),
    "no weights": ((LLAMA / "pytorch_model.bin.index.json").unlink, "has no config.json with model.safetensors or"),
    "no VQGAN": ((VQGAN / "pytorch_model.bin").unlink, "has no diffusion_pytorch_model.safetensors or model.safetensors or"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_model_that_is_broken_leaves_nothing(convert: Run, what: str) -> None:
    spoil, complaint = BAD[what]
    spoil()
    done = convert(LLAMA, VQGAN, "-o", "new/lvm")
    assert done.code == 4
    assert re.search(complaint, done.error), done.error
    assert not Path("new/lvm").exists() and not Path("ran").exists()


@pytest.mark.parametrize(
    ("names", "code", "complaint"),
    [
        (
            [LLAMA],
            4,
            "the folder LVM_ckpts holds one network alone; "
            "name the other as well (--vqgan; for models convert lvm after the LLaMA), or a folder of both",
        ),
        ([LLAMA, "lvm-8b"], 4, "lvm-8b is no catalog name, folder or hub id, of which the VQGAN could come; name one of these"),
        ([LLAMA, VQGAN / "pytorch_model.bin"], 4, "vqvae_ckpts/pytorch_model.bin is a file; name the folder of the VQGAN"),
        (
            [LLAMA, "org/none"],
            4,
            "org/none is not cached and the model hub cannot be had; where it can, run: " + "visiontk models pull org/none",
        ),
        (["lvm-8b"], 4, "lvm-8b is no catalog name, hub id or local path; did you mean lvm-7b?"),
        (["./nowhere", VQGAN], 4, "there is no file or folder ./nowhere; check the path"),
    ],
)
def test_names_that_are_no_networks(convert: Run, hub_cache: Path, names: list[Path | str], code: int, complaint: str) -> None:
    done = convert(*names, "-o", "lvm")
    assert (done.code, done.error) == (code, complaint)
    assert not Path("lvm").exists()


def test_nothing_says_where_it_goes(convert: Run) -> None:
    done = convert(LLAMA, VQGAN)
    assert done.code == 2
    assert "--out" in done.error


def test_a_full_disk_leaves_what_was_there(convert: Run, disk_of: DiskOf) -> None:
    convert(LLAMA, VQGAN, "-o", "lvm")
    before = held("lvm")
    for room in (4_000, max(map(len, before.values())) - 1):
        with disk_of(room):
            full = convert(LLAMA, VQGAN, "-o", "lvm", "--overwrite")
            new = convert(LLAMA, VQGAN, "-o", "other")
        assert (full.code, new.code) == (6, 6)
        assert re.fullmatch(r"cannot write lvm \(.*File too large.*\); make room or choose another place with -o", full.error), full.error
        assert held("lvm") == before
        assert not Path("other").exists()


def test_a_stopped_conversion_leaves_what_was_there(convert: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    convert(LLAMA, VQGAN, "-o", "lvm")
    before = held("lvm")
    calls: list[Path] = []

    def stop(tensors: Any, file: Path, **options: Any) -> None:
        calls.append(file)
        if len(calls) == 2:
            raise KeyboardInterrupt
        save_file(tensors, file, **options)

    monkeypatch.setattr(lvm_copy, "save_file", stop)
    stopped = convert(LLAMA, VQGAN, "-o", "lvm", "--overwrite")
    assert (stopped.code, stopped.stderr) == (130, "visiontk: interrupted; nothing half done is left in lvm\n")
    assert held("lvm") == before
    assert {path.name for path in Path("lvm").iterdir()} == {"llama", "vqgan"}


@pytest.mark.parametrize("part", ["vqgan", "llama"])
def test_a_folder_that_cannot_be_moved_leaves_what_was_there(convert: Run, monkeypatch: pytest.MonkeyPatch, part: str) -> None:
    convert(LLAMA, VQGAN, "-o", "lvm")
    before = held("lvm")
    change(LLAMA / "config.json", lambda found: found.update(rms_norm_eps=0.5))
    whole = Path.rename

    def rename(path: Path, target: Path) -> Path:
        if path.parts[-2:] == ("made", part):
            raise OSError(errno.EACCES, "Permission denied")
        return whole(path, target)

    monkeypatch.setattr(Path, "rename", rename)
    for out in ("lvm", "other"):
        refused = convert(LLAMA, VQGAN, "-o", out, "--overwrite")
        assert (refused.code, refused.error) == (6, f"cannot write {out} (Permission denied); make room or choose another place with -o")
    assert held("lvm") == before
    assert not Path("other").exists()


def test_what_a_disk_gives_back_otherwise_is_no_model(convert: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def spoil(tensors: dict[str, torch.Tensor], file: Path, **options: Any) -> None:
        name = next(iter(tensors))
        save_file(tensors | {name: tensors[name].nextafter(torch.tensor(9.0).to(tensors[name]))}, file, **options)

    with monkeypatch.context() as patch:
        patch.setattr(lvm_copy, "save_file", spoil)
        done = convert(LLAMA, VQGAN, "-o", "lvm")
    assert done.code == 6
    assert "model-00001-of-00002.safetensors reads otherwise than it was written" in done.error
    assert not Path("lvm").exists()


def test_codes_are_compared_and_not_weights_alone(convert: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A configuration of the VQGAN that is written otherwise changes no weight."""
    from diffusers import VQModel

    whole = VQModel.save_pretrained

    def spoil(network: Any, folder: Path, **options: Any) -> None:
        whole(network, folder, **options)
        change(folder / "config.json", lambda found: found.update(norm_num_groups=4))

    monkeypatch.setattr(VQModel, "save_pretrained", spoil)
    done = convert(LLAMA, VQGAN, "-o", "lvm")
    assert done.code == 6
    assert "the VQGAN that was written finds other codes in pictures than the one that was read" in done.error


def test_tensors_that_share_memory_are_written_apart(convert: Run) -> None:
    """As pickles may hold them, and safetensors may not."""
    change(LLAMA / "config.json", lambda found: found.update(vocab_size=24))
    rows = torch.randn(32, 32)
    found = llama_tensors() | {"model.embed_tokens.weight": rows[:24], "lm_head.weight": rows[:24]}
    square = "model.layers.0.self_attn.{}_proj.weight".format
    found |= {square("q"): rows, square("k"): rows.T}
    for file in LLAMA.glob("*.bin*"):
        file.unlink()
    torch.save(found, LLAMA / "pytorch_model.bin")
    assert convert(LLAMA, VQGAN, "-o", "lvm").code == 0
    written = load_file("lvm/llama/model.safetensors")
    assert torch.equal(written["lm_head.weight"], rows[:24]) and torch.equal(written["model.embed_tokens.weight"], rows[:24])
    assert torch.equal(written[square("q")], rows) and torch.equal(written[square("k")], rows.T)


def test_on_a_terminal_it_shows_how_far_it_is(on_terminal: OnTerminal) -> None:
    drawn = on_terminal("models", "convert", "lvm", str(LLAMA), str(VQGAN), "-o", "lvm")
    assert "LLaMA" in drawn and "lvm is the model" in drawn
