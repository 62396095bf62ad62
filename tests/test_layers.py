"""Who may import whom: the table of docs/design.md, held to."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MAY_IMPORT = {
    "errors": set(),
    "records": {"errors"},
    "settings": {"errors"},
    "memory": set(),
    "runtime": {"errors"},
    "pipelines": {"errors"},
    "layouts": {"pipelines"},
    "hub": {"errors", "layouts", "pipelines"},
    "catalog": {"errors", "hub", "layouts"},
    "prompts": {"errors"},
    "seeds": {"errors"},
    "loras": {"errors"},
    "orders": {"errors", "loras", "records", "seeds"},
    "stream": {"errors", "records"},
    "resume": {"errors", "records"},
    "artefacts": {"errors", "records"},
    "embeddings": {"errors", "records", "artefacts"},
    "listing": {"errors", "media"},
    "sources": {"errors", "listing", "records", "media"},
    "media": {"errors", "media"},
    "metrics": {"metrics"},
    "adapters": {"errors", "adapters", "media", "runtime", "catalog", "hub", "layouts", "loras", "pipelines"},
    "tiny": {"errors", "records", "artefacts", "tiny"},
    "training": {
        "errors",
        "records",
        "artefacts",
        "adapters",
        "media",
        "metrics",
        "runtime",
        "catalog",
        "listing",
        "tiny",
        "training",
    },
    "__init__": {"errors", "loras", "runtime", "adapters"},
}
HEAVY = {"torch", "numpy", "timm", "torchvision", "PIL", "av", "rich", "matplotlib", "huggingface_hub", "safetensors", "accelerate"}


def ours(file: Path) -> set[str]:
    """The first names under ``visiontk`` that a module imports, anywhere in it."""
    inside = file.parent.name if file.parent.name != "visiontk" else ""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom):
            if node.level:
                base = [inside] if inside and node.level == 1 else []
                names = [*base, *(node.module or "").split(".")] if node.module or base else [alias.name for alias in node.names]
                found |= {names[0]} if names[0] else {alias.name for alias in node.names}
            elif node.module and node.module.split(".")[0] == "visiontk":
                found |= {node.module.split(".")[1]} if "." in node.module else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("visiontk.")}
    return found


def rooms() -> list[tuple[str, Path]]:
    package = ROOT / "visiontk"
    return [(file.stem if file.parent == package else file.relative_to(package).parts[0], file) for file in sorted(package.rglob("*.py"))]


@pytest.mark.parametrize(("room", "file"), rooms(), ids=lambda value: value.name if isinstance(value, Path) else value)
def test_a_room_imports_only_what_it_may(room: str, file: Path) -> None:
    assert room in MAY_IMPORT, f"{room} is a new room: add it here and in docs/design.md"
    assert ours(file) <= MAY_IMPORT[room]


def test_commands_name_the_installed_package_nowhere() -> None:
    for file in (ROOT / "commands").glob("*.py"):
        assert "visiontk.commands" not in file.read_text("utf-8"), file


@pytest.mark.parametrize("file", [*(ROOT / "commands").glob("*.py"), *(ROOT / "visiontk").glob("*.py")], ids=lambda file: file.name)
def test_heavy_imports_stand_in_the_functions_that_need_them(file: Path) -> None:
    lazily_imported = {"sources.py", "embeddings.py"}
    for node in ast.parse(file.read_text("utf-8")).body:
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
        heavy = {name.split(".")[0] for name in names} & HEAVY
        assert not heavy or file.name in lazily_imported, f"{file.name} imports {heavy} when it is imported itself"
