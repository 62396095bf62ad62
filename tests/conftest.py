"""The command line as tests meet it: `run` calls the installed entry point in this process with its three file descriptors redirected."""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol

import pytest

# Read by huggingface_hub when it is imported, so they stand here and not in a fixture. Nothing in the tests speaks to a hub.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HOME"] = tempfile.mkdtemp(prefix="visiontk-tests-hf-")
for _name in [name for name in os.environ if name.startswith(("VISIONTK_", "HF_HUB_CACHE", "HF_ENDPOINT", "HUGGINGFACE_HUB_CACHE"))]:
    del os.environ[_name]

Record = dict[str, Any]
CLASSES = 10


@dataclass(frozen=True)
class Result:
    """What one run of the command line left behind."""

    code: int
    stdout: bytes
    stderr: str

    @property
    def records(self) -> list[Record]:
        assert self.stdout == b"" or self.stdout.endswith(b"\n"), self.stdout[-200:]
        return [json.loads(line) for line in self.stdout.splitlines()]

    @property
    def error(self) -> str:
        """The one line of stderr that says why the run ended."""
        lines = self.stderr.splitlines()
        assert lines and lines[-1].startswith("visiontk: error: "), self.stderr
        assert sum(line.startswith("visiontk: error: ") for line in lines) == 1, self.stderr
        assert all(line.startswith("visiontk: ") for line in lines), self.stderr
        return lines[-1].removeprefix("visiontk: error: ")


class Run(Protocol):
    def __call__(self, *arguments: str | os.PathLike[str], stdin: bytes | None = None, stdout: Path | None = None) -> Result: ...


@dataclass(frozen=True)
class TinyModel:
    """A timm folder with random weights, and its answers from timm alone: no code of ours but the bytes on disk."""

    folder: Path
    labels: list[str]
    _made: list[Any] = field(default_factory=list, repr=False)

    def network(self) -> tuple[Any, Any]:
        """The network as timm reads it from the folder, and timm's own evaluation transform for it."""
        import timm
        from timm.data import create_transform, resolve_data_config

        if not self._made:
            network = timm.create_model(f"local-dir:{self.folder}", pretrained=True).eval()
            self._made.extend([network, create_transform(**resolve_data_config(model=network, use_test_size=True), is_training=False)])
        return self._made[0], self._made[1]

    def logits(self, *images: Any) -> Any:
        """float32 (images, classes) of PIL images."""
        import torch

        network, transform = self.network()
        with torch.inference_mode():
            return network(torch.stack([transform(image.convert("RGB")) for image in images])).numpy()

    def features(self, *images: Any) -> Any:
        """float32 (images, features): pooled, before the classifier."""
        import torch

        network, transform = self.network()
        with torch.inference_mode():
            maps = network.forward_features(torch.stack([transform(image.convert("RGB")) for image in images]))
            return network.forward_head(maps, pre_logits=True).numpy()


@pytest.fixture(autouse=True)
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty folder to work in, no settings of the person who runs the tests, and colours off."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / ".config"))
    for name in ("VISIONTK_MODEL_CLASSIFY", "VISIONTK_DEVICE", "FORCE_COLOR", "CLICOLOR_FORCE", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def main() -> Callable[[list[str]], int]:
    """The console entry point, found as pip's script finds it."""
    (entry,) = metadata.entry_points(group="console_scripts", name="visiontk")
    loaded: Callable[[list[str]], int] = entry.load()
    return loaded


@pytest.fixture
def run(main: Callable[[list[str]], int], tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Call the command line in this process. It reads descriptor 0 and writes to 1 itself, so the descriptors are what is redirected."""
    folder = tmp_path_factory.mktemp("run")

    def call(*arguments: str | os.PathLike[str], stdin: bytes | None = None, stdout: Path | None = None) -> Result:
        out, err = stdout or folder / "stdout", folder / "stderr"
        with _redirected(stdin, out, err), _one_thread():
            code = main([os.fspath(argument) for argument in arguments])
        return Result(code, b"" if stdout else out.read_bytes(), err.read_text("utf-8", "surrogateescape"))

    return call


@contextmanager
def _one_thread() -> Iterator[None]:
    """On a busy machine two threads that wait for each other take ten times as long over a tiny model."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class _redirected:
    """Descriptors 0, 1, 2 and their Python faces, put back on leaving; so is the handler of Ctrl-C."""

    def __init__(self, stdin: bytes | None, out: Path, err: Path) -> None:
        self._stdin, self._out, self._err = stdin, out, err

    def __enter__(self) -> None:
        self._handler = signal.getsignal(signal.SIGINT)
        self._python = sys.stdin, sys.stdout, sys.stderr
        self._saved = [os.dup(descriptor) for descriptor in (0, 1, 2)]
        create = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        for descriptor, source in enumerate([_source(self._stdin), os.open(self._out, create), os.open(self._err, create)]):
            os.dup2(source, descriptor)
            os.close(source)
        sys.stdin = open(0, encoding="utf-8", closefd=False)
        sys.stdout = open(1, "w", encoding="utf-8", errors="surrogateescape", closefd=False)
        sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False)

    def __exit__(self, *_: object) -> None:
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.close()
            except OSError:
                continue
        sys.stdin, sys.stdout, sys.stderr = self._python
        for descriptor, saved in enumerate(self._saved):
            os.dup2(saved, descriptor)
            os.close(saved)
        signal.signal(signal.SIGINT, self._handler)


def _source(stdin: bytes | None) -> int:
    """A descriptor to read from: nothing, or a pipe that a thread fills."""
    if stdin is None:
        return os.open(os.devnull, os.O_RDONLY)
    reading, writing = os.pipe()

    def fill() -> None:
        try:
            with open(writing, "wb") as pipe:  # noqa: PTH123
                pipe.write(stdin)
        except BrokenPipeError:
            return

    threading.Thread(target=fill, daemon=True).start()
    return reading


@pytest.fixture(scope="session")
def photos() -> Path:
    """The example photos."""
    return Path(__file__).parents[1] / "examples" / "photos"


@pytest.fixture(scope="session")
def bunny() -> Path:
    """The example video."""
    return Path(__file__).parents[1] / "examples" / "bunny.mp4"


def _save_tiny(folder: Path, architecture: str, **arguments: Any) -> TinyModel:
    """A model for images of 64 x 64, as timm saves it."""
    import timm
    import torch
    from timm.models import save_for_hf

    torch.manual_seed(7)
    cfg = {"input_size": (3, 64, 64)}
    model = timm.create_model(architecture, pretrained=False, num_classes=CLASSES, pretrained_cfg_overlay=cfg, **arguments)
    with torch.no_grad():
        # As it is initialised a network says nearly the same of everything: spread its answers.
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    labels = [f"thing {index}" for index in range(CLASSES)]
    save_for_hf(model.eval(), str(folder), model_config={"label_names": labels}, model_args=arguments, safe_serialization=True)
    return TinyModel(folder, labels)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    """A vision transformer with a class token and ten classes that answers in a millisecond."""
    return _save_tiny(tmp_path_factory.mktemp("tiny") / "vit", "test_vit", img_size=64)


@pytest.fixture(scope="session")
def tiny_convnet(tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    """The same without attention."""
    return _save_tiny(tmp_path_factory.mktemp("tiny") / "convnet", "test_resnet")


@pytest.fixture
def classify(run: Run, tiny_model: TinyModel) -> Run:
    """`visiontk classify` with the tiny model in fp32."""

    def call(*arguments: str | os.PathLike[str], stdin: bytes | None = None, stdout: Path | None = None) -> Result:
        return run("classify", "-m", tiny_model.folder, "--dtype", "fp32", *arguments, stdin=stdin, stdout=stdout)

    return call


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache of the model hub, for this test alone."""
    from huggingface_hub import constants

    folder = tmp_path / ".hub"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder))
    yield folder
