"""Settings and where each comes from: flag, environment, ``visiontk.toml`` here, the user's file, default; the first that speaks wins."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import UsageError

TASKS = ("classify", "segment", "generate", "lvm")
DEFAULTS: dict[str, str] = {"device": "auto", "dtype": "auto", "compile": "false", "batch-size": "auto", "seed": "0", "threads": "auto"}


@dataclass(frozen=True)
class Setting:
    """One value in force, as text, and where it comes from, in words."""

    name: str
    value: str | None
    origin: str


@dataclass(frozen=True)
class Settings:
    """Every layer under the flags, strongest first: (origin, values by name)."""

    layers: tuple[tuple[str, Mapping[str, str]], ...]

    def get(self, name: str, flag: object | None = None) -> Setting:
        """The setting in force. ``name`` is as in `names`; ``flag`` is what the command line said, None if nothing."""
        if flag is not None:
            return Setting(name, _text(flag), f"--{name.split('.')[0]}")
        for origin, values in self.layers:
            if name in values:
                return Setting(name, values[name], f"{origin} {environment_name(name)}" if origin == "environment" else origin)
        return Setting(name, None, "default")


def names() -> list[str]:
    """All settings: the runtime's, and ``model.TASK`` for each task."""
    return [*DEFAULTS, *(f"model.{task}" for task in TASKS)]


def environment_name(name: str) -> str:
    """``model.classify`` is ``VISIONTK_MODEL_CLASSIFY``."""
    return "VISIONTK_" + name.replace(".", "_").replace("-", "_").upper()


def user_file() -> Path:
    """The user's own settings file; it need not exist."""
    from platformdirs import user_config_path

    return user_config_path("visiontk") / "visiontk.toml"


def read(folder: Path | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """Read the settings that hold in ``folder`` (default: the current one).

    Raises:
        UsageError: a file is not TOML, or holds a name that is no setting.
    """
    environ = os.environ if environ is None else environ
    from_environment = {name: environ[environment_name(name)] for name in names() if environ.get(environment_name(name))}
    layers: list[tuple[str, Mapping[str, str]]] = [("environment", from_environment)]
    files = [file for file in ((folder or Path()) / "visiontk.toml", user_file()) if os.path.isfile(file)]  # noqa: PTH113  Path.is_file may raise
    layers += [(str(file), _read_file(file)) for file in files]
    return Settings((*layers, ("default", DEFAULTS)))


def _read_file(file: Path) -> dict[str, str]:
    try:
        table = tomllib.loads(file.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{file} cannot be read as TOML ({error}); mend or remove it") from error
    values: dict[str, str] = {}
    for name, value in table.items():
        entries = {f"{name}.{task}": model for task, model in value.items()} if isinstance(value, dict) else {name: value}
        for key, entry in entries.items():
            if key not in names():
                raise UsageError(f'{file}: "{key}" is no setting; there are {", ".join(names())}')
            values[key] = _text(entry)
    return values


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
