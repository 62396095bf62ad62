"""Write docs/commands.md from the program's own help. A test compares them, so the docs cannot drift.

usage: python scripts/make_command_docs.py
"""

from __future__ import annotations

import contextlib
import io
import os
import re
from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from pathlib import Path

TARGET = Path(__file__).parent.parent / "docs" / "commands.md"


def render() -> str:
    """The whole page: the help of every command, as printed on a terminal of 80 columns."""
    os.environ.pop("COLUMNS", None)
    (entry,) = entry_points(group="console_scripts", name="visiontk")
    parts = [f"## {' '.join(['visiontk', *words])}\n\n```\n{text}\n```\n" for words, text in helps(entry.load(), [])]
    return "\n".join(["# Commands\n\nMade from `--help` by `python scripts/make_command_docs.py`.\n", *parts])


def helps(main: Callable[[list[str]], int], words: list[str]) -> Iterator[tuple[list[str], str]]:
    """The help of a command, and after it those of the commands that it lists."""
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        main([*words, "--help"])
    yield words, text.getvalue().strip()
    for listed in text.getvalue().split("\nCommands:\n")[1:]:
        for name in re.findall(r"^  (\S+)", listed, re.MULTILINE):
            yield from helps(main, [*words, name])


if __name__ == "__main__":
    TARGET.write_text(render(), "utf-8")
