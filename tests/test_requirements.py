"""Versions: each dependency has a lower bound, and a pin that keeps it and names no host."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent


def pins() -> dict[str, str]:
    lines = [line for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines() if line and not line.startswith("#")]
    found = [re.fullmatch(r"([\w.-]+)==([\w.+!]+)( *;.*)?", line) for line in lines]
    assert all(found), [line for line, match in zip(lines, found, strict=True) if match is None]
    return {canonicalize_name(match[1]): match[2] for match in found if match}


def test_every_dependency_is_pinned_at_or_above_its_lower_bound() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    extras = [text for group in project["project"]["optional-dependencies"].values() for text in group]
    wanted = [Requirement(text) for text in [*project["build-system"]["requires"], *project["project"]["dependencies"], *extras]]
    pinned = pins()
    for requirement in wanted:
        assert [bound.operator for bound in requirement.specifier] == [">="], requirement
        assert requirement.specifier.contains(pinned[canonicalize_name(requirement.name)]), requirement
    assert "uv" in pinned, "what installs them"


def test_no_host_is_named() -> None:
    for name in ("constraints.txt", "pyproject.toml", "Makefile", ".ci/run"):
        assert "://" not in (ROOT / name).read_text("utf-8"), name
