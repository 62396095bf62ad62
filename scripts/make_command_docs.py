"""Write docs/commands.md from the program's own help. A test compares them, so the docs cannot drift.

usage: python scripts/make_command_docs.py
"""

from __future__ import annotations

import contextlib
import io
import os
from importlib.metadata import entry_points
from pathlib import Path

COMMANDS = (
    "",
    "classify",
    "segment",
    "generate",
    "replay",
    "inspect",
    "models",
    "models list",
    "models show",
    "models pull",
    "models rm",
    "train",
    "train classify",
    "train segment",
    "eval",
    "eval segment",
    "tiny",
    "tiny render",
    "tiny render images",
    "tiny render clips",
    "doctor",
    "schema",
)
TARGET = Path(__file__).parent.parent / "docs" / "commands.md"


def render() -> str:
    """The whole page: the help of every command, as printed on a terminal of 80 columns."""
    os.environ.pop("COLUMNS", None)
    (entry,) = entry_points(group="console_scripts", name="visiontk")
    main = entry.load()
    parts = ["# Commands\n\nMade from `--help` by `python scripts/make_command_docs.py`.\n"]
    for command in COMMANDS:
        text = io.StringIO()
        with contextlib.redirect_stdout(text):
            main([*command.split(), "--help"])
        parts.append(f"## visiontk {command}".rstrip() + "\n\n```\n" + text.getvalue().strip() + "\n```\n")
    return "\n".join(parts)


if __name__ == "__main__":
    TARGET.write_text(render(), "utf-8")
