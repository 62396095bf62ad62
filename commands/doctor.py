"""`visiontk doctor`."""

from __future__ import annotations

import contextlib
import os
import platform
import sys
from collections.abc import Iterator
from importlib import metadata

from visiontk import catalog, settings
from visiontk.errors import VisiontkError

from . import options

PACKAGES = (
    *("visiontk", "torch", "torchvision", "timm", "sam2", "diffusers", "transformers", "peft", "huggingface_hub", "safetensors"),
    *("pillow", "av", "numpy", "typer", "rich"),
)


def doctor(debug: options.Debug = False) -> int:
    """Say what is installed and what would run.

    Versions, devices, memory, settings and where each comes from, models on this disk, and what runs by default.
    The exit code is 0 when everything that is asked for can be had, and 1 when something is amiss.

    \b
    visiontk doctor
    VISIONTK_DEVICE=cuda visiontk doctor || echo "no GPU"
    """
    problems: list[str] = []
    for title, lines in (
        ("versions", _versions(problems)),
        ("devices", _devices()),
        ("settings", _settings(problems)),
        ("models", _models()),
        ("what runs by default", _defaults(problems)),
    ):
        sys.stdout.write(f"{title}\n")
        for name, value in lines:
            sys.stdout.write(f"  {name:<20} {value}\n")
        sys.stdout.flush()
    for problem in problems:
        sys.stdout.write(f"problem: {problem}\n")
    sys.stdout.write("" if problems else "all is well\n")
    return 1 if problems else 0


def _versions(problems: list[str]) -> Iterator[tuple[str, str]]:
    yield "python", f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    for package in PACKAGES:
        try:
            yield package, metadata.version(package)
        except metadata.PackageNotFoundError:
            problems.append(f"{package} is not installed; install visiontk again")
            yield package, "missing"


def _devices() -> Iterator[tuple[str, str]]:
    import torch

    from visiontk.runtime import multiplies_bf16_fast

    bf16 = "fast" if multiplies_bf16_fast(torch.device("cpu")) else "slow"
    yield "cpu", f"{os.cpu_count()} cores, {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}, bf16 {bf16}"
    yield "memory", _memory()
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        properties = torch.cuda.get_device_properties(index)
        free, total = torch.cuda.mem_get_info(index)
        memory = f"{total / 2**30:.0f} GiB, {free / 2**30:.0f} GiB free"
        yield f"cuda:{index}", f"{properties.name}, {memory}, compute capability {properties.major}.{properties.minor}"
    if not torch.cuda.is_available():
        yield "cuda", "none"
    yield "mps", "yes" if torch.backends.mps.is_available() else "none"


def _memory() -> str:
    try:
        page = os.sysconf("SC_PAGE_SIZE")
        return f"{page * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB, {page * os.sysconf('SC_AVPHYS_PAGES') / 2**30:.0f} GiB free"
    except (ValueError, OSError):
        return "unknown"


def _settings(problems: list[str]) -> Iterator[tuple[str, str]]:
    try:
        in_force = settings.read()
    except VisiontkError as error:
        problems.append(str(error))
        return
    for name in settings.names():
        setting = in_force.get(name)
        yield name, f"{setting.value or 'none'} ({setting.origin})"
    known = {settings.environment_name(name) for name in settings.names()}
    unknown = sorted(name for name in os.environ if name.startswith("VISIONTK_") and name not in known)
    problems += [f"{name} is no setting; there are {', '.join(sorted(known))}" for name in unknown]
    yield "user file", str(settings.user_file())
    for variable in ("HF_HOME", "HF_HUB_OFFLINE", "HF_ENDPOINT"):
        if variable in os.environ:
            yield variable, os.environ[variable]
    try:
        started = options.runtime(in_force).start()
        yield "runs on", f"{started.device}, {started.dtype_name}"
    except VisiontkError as error:
        problems.append(str(error))


def _models() -> Iterator[tuple[str, str]]:
    from visiontk import hub

    yield "hub", "answers" if hub.answers() else "offline or does not answer"
    for entry in catalog.entries():
        cached = None if entry.bundled else hub.cached(entry.id, variant=entry.variant)
        yield entry.name, "bundled" if entry.bundled else f"cached, {cached.revision[:12]}" if cached else "not cached"


def _cannot_be_had(model: str, task: str) -> str | None:
    """Why a model that is set could not be loaded, as far as that is known without loading it."""
    from visiontk import hub

    entry = catalog.find(model, task)
    if entry and entry.bundled:
        return None
    if not entry and os.path.exists(os.path.expanduser(model)):  # noqa: PTH110, PTH111  those of Path may raise
        return None
    repo = entry.id if entry else catalog.hub_id(model)
    if repo is None and task == "classify":
        from visiontk.adapters import classify

        with contextlib.suppress(VisiontkError):
            repo = classify.hub_id(model)
    if repo is None:
        return "and there is no such file, folder or model; mend the setting"
    if hub.cached(repo, variant=entry.variant if entry else None) or hub.answers():
        return None
    return "is not cached, and the hub does not answer; unset it or fetch it"


def _defaults(problems: list[str]) -> Iterator[tuple[str, str]]:
    from visiontk import hub

    try:
        in_force = settings.read()
    except VisiontkError:
        return
    for task in settings.TASKS:
        chosen = in_force.get(f"model.{task}").value
        best = catalog.recommended(task)
        if chosen is not None:
            if problem := _cannot_be_had(chosen, task):
                problems.append(f"the model {chosen} is set for {task}, {problem}")
            yield task, chosen
        elif hub.cached(best.id, variant=best.variant) or hub.answers():
            yield task, f"{best.name} ({best.figure})"
        else:
            try:
                small = catalog.fallback(task)
                instead = f"{small.name} ({small.figure})"
            except VisiontkError:
                instead = "nothing"
            yield task, f"{instead}, as {best.name} is not cached and the hub does not answer"
