"""The command line as tests meet it: `run` calls the installed entry point in this process with its three file descriptors redirected."""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from tests.terminals import draw

if TYPE_CHECKING:
    from tests.hub_server import Server

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


class Valid(Protocol):
    def __call__(self, result: Result, code: int = 0) -> list[Record]: ...


class OnTerminal(Protocol):
    def __call__(self, *arguments: str, **environment: str) -> str: ...


DiskOf = Callable[[int], AbstractContextManager[None]]


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
    models = [f"VISIONTK_MODEL_{task}" for task in ("CLASSIFY", "SEGMENT", "GENERATE", "LVM")]
    for name in (*models, "VISIONTK_DEVICE", "FORCE_COLOR", "CLICOLOR_FORCE", "COLUMNS"):
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


@pytest.fixture
def on_terminal() -> OnTerminal:
    """All that one run draws on a terminal of 100 columns, stdout and stderr together."""

    def call(*arguments: str, **environment: str) -> str:
        code, drawn = draw(*arguments, environment=environment)
        assert code in (0, 3), drawn
        return drawn

    return call


@pytest.fixture(scope="session")
def disk_of() -> DiskOf:
    """``with disk_of(N)``: no file may grow beyond N bytes, what a full disk looks like in the middle of a write."""

    @contextmanager
    def limited(size: int) -> Iterator[None]:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return limited


@pytest.fixture(scope="session")
def schema() -> Record:
    """The JSON Schema of the records."""
    return dict(json.loads((Path(__file__).parents[1] / "visiontk" / "record.schema.json").read_text("utf-8")))


@pytest.fixture(scope="session")
def valid(schema: Record) -> Valid:
    """The records of a run that ended with the code, each valid against the schema."""
    import jsonschema

    def call(result: Result, code: int = 0) -> list[Record]:
        assert result.code == code, result.stderr
        for record in result.records:
            jsonschema.validate(record, schema)
        return result.records

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


@pytest.fixture
def one_thread() -> Iterator[None]:
    """For tests that compute without the command line."""
    with _one_thread():
        yield


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


@pytest.fixture(scope="session")
def tiny_sam2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SAM 2 of the bundled model's size with random weights, which takes every object for visible."""
    import shutil

    import torch
    from hydra.utils import instantiate
    from omegaconf import OmegaConf
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("tiny") / "sam2"
    folder.mkdir()
    shutil.copy(Path(__file__).parents[1] / "visiontk" / "weights" / "tiny-sam2" / "config.yaml", folder)
    config: Any = OmegaConf.load(folder / "config.yaml")
    torch.manual_seed(7)
    weights = instantiate(config.model).state_dict()
    weights["sam_mask_decoder.pred_obj_score_head.layers.2.bias"].fill_(5.0)
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, folder / "model.safetensors")
    return folder


@pytest.fixture(scope="session")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline of diffusers with random weights, for pictures of 32 x 32."""
    from tests.generate_models import make_pipeline

    return make_pipeline(tmp_path_factory.mktemp("tiny") / "pipe")


@pytest.fixture(scope="module")
def generators_loaded_once() -> Iterator[None]:
    from visiontk.adapters import generate

    with loaded_once(generate):
        yield


@pytest.fixture(scope="module")
def lvms_loaded_once() -> Iterator[None]:
    from visiontk.adapters import lvm

    with loaded_once(lvm):
        yield


@contextmanager
def loaded_once(adapter: ModuleType) -> Iterator[None]:
    """Runs with the same options share what the adapter's ``load`` gives, as reading a model takes longer than a tiny picture."""
    kept: dict[str, Any] = {}
    whole = adapter.load

    def load(*arguments: Any, **options: Any) -> Any:
        key = repr((arguments, sorted(options.items())))
        if key not in kept:
            kept[key] = whole(*arguments, **options)
        return kept[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(adapter, "load", load)
        yield


class ColourTracker:
    """Stands in for a segmenter: an object is what has the colour under its first positive point, its box's middle or its mask.

    So masks are known beforehand. Like the real one it reads up to 16 frames ahead at its second step.

    Attributes:
        asked: the prompts or knobs of each call for a picture; of each video, a dict of what came.
        alive: how many frames of a video were in memory, on each 20th frame.
    """

    name, revision, warning, image_size = "colours", "sha256:0", None, 128

    def __init__(self) -> None:
        from visiontk.adapters.segment import Everything
        from visiontk.runtime import Runtime

        self.knobs, self.runtime = Everything(), Runtime(dtype="fp32", device="cpu").start()
        self.asked: list[Any] = []
        self.alive: list[int] = []

    def image(self, image: Any, prompts: Any) -> list[Any]:
        self.asked.append(list(prompts))
        return [self._found(image, prompt.object_id, self._colour(image, prompt)) for prompt in prompts]

    def everything(self, image: Any, knobs: Any) -> list[Any]:
        self.asked.append(knobs)
        return self._all(image, knobs)

    def video(self, frames: Any, prompts: Any, *, reverse: bool = False, auto: Any = None, length: int | None = None) -> Iterator[Any]:
        import gc
        from collections import deque

        from visiontk.adapters.segment import FrameMasks
        from visiontk.media.video import VideoFrame

        seen: list[int] = []
        self.asked.append({"frames": seen, "prompts": list(prompts), "reverse": reverse, "auto": auto, "length": length})
        colours: dict[int, Any] = {}
        ahead: deque[Any] = deque()
        frames = iter(frames)
        while True:
            while len(ahead) < (15 if len(seen) == 1 else 1) and (pair := next(frames, None)) is not None:
                ahead.append(pair)
                del pair
            if not ahead:
                return
            index, image = ahead.popleft()
            seen.append(index)
            here = [prompt for prompt in prompts if prompt.frame == index]
            colours |= {prompt.object_id: self._colour(image, prompt) for prompt in here if 1 in prompt.labels or not prompt.points}
            if auto and (len(seen) - 1) % (auto.every or 1 << 30) == 0:
                known = [self._found(image, 0, colour).mask for colour in colours.values()]
                new = [one.mask for one in self._all(image, auto.knobs) if not any((one.mask & mask).any() for mask in known)]
                colours |= {len(colours) + number: self._at(image, mask) for number, mask in enumerate(new, 1)}
            if len(seen) % 20 == 0:
                self.alive.append(sum(type(one) is VideoFrame for one in gc.get_objects()))
            objects = [self._found(image, number, colours[number]) for number in sorted(colours)]
            del image
            yield FrameMasks(index, objects)

    def _all(self, image: Any, knobs: Any) -> list[Any]:
        import numpy as np

        left = (np.abs(np.asarray(image).astype(int) - image.getpixel((0, 0))) > 40).any(-1)
        found: list[Any] = []
        while left.any():
            one = self._found(image, len(found) + 1, self._at(image, left))
            left &= ~one.mask
            if one.mask.sum() >= max(9, knobs.min_area):
                found.append(one)
        return found

    def _colour(self, image: Any, prompt: Any) -> Any:
        if prompt.mask is not None:
            return self._at(image, prompt.mask)
        x, y = prompt.points[prompt.labels.index(1)] if prompt.points else [sum(prompt.box[axis::2]) / 2 for axis in (0, 1)]
        return image.getpixel((min(int(x), image.width - 1), min(int(y), image.height - 1)))

    def _at(self, image: Any, mask: Any) -> Any:
        rows, columns = mask.nonzero()
        return image.getpixel((int(columns[0]), int(rows[0])))

    def _found(self, image: Any, number: int, colour: Any) -> Any:
        import numpy as np

        from visiontk.adapters.segment import ObjectMask

        mask = (np.abs(np.asarray(image).astype(int) - colour) < 40).all(-1)
        return ObjectMask(number, mask, 0.75, 1.0 if mask.any() else 0.0)


@pytest.fixture
def tracker_class() -> type[ColourTracker]:
    """What `trackers` are, for a test that changes what they do."""
    return ColourTracker


@pytest.fixture
def trackers(monkeypatch: pytest.MonkeyPatch) -> list[ColourTracker]:
    """Segmenters are stand-ins in this test; the list has those that its runs loaded, in order."""
    made: list[ColourTracker] = []

    def load(*_: Any) -> ColourTracker:
        made.append(ColourTracker())
        return made[-1]

    monkeypatch.setattr("visiontk.adapters.segment.load", load)
    return made


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache of the model hub, for this test alone."""
    from huggingface_hub import constants

    folder = tmp_path / ".hub"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder))
    yield folder


@pytest.fixture
def server(hub_cache: Path) -> Iterator[Server]:
    """The model hub is a server on this machine, without repositories."""
    from tests.hub_server import serving

    with serving() as running:
        yield running
