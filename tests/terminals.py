"""What the program draws for a person."""

from __future__ import annotations

import contextlib
import os
import pty
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path


def draw(*arguments: str, lines: Path | None = None, source: Path | None = None, environment: Mapping[str, str]) -> tuple[int, str]:
    """The exit code of one run on a terminal of 100 columns, and all that it draws there.

    Args:
        lines: gets stdout, which is not drawn then.
        source: what is read instead of the terminal.
        environment: added to that of the tests.
    """
    master, terminal = pty.openpty()
    command = [str(Path(sys.executable).with_name("visiontk")), *arguments]
    variables = {**os.environ, "COLUMNS": "100", **environment}
    with contextlib.ExitStack() as stack:
        given = stack.enter_context(source.open("rb")) if source else terminal
        out = stack.enter_context(lines.open("wb")) if lines else terminal
        process = subprocess.Popen(command, stdin=given, stdout=out, stderr=terminal, env=variables)
    os.close(terminal)
    drawn = b""
    with contextlib.suppress(OSError):  # how Linux says that nobody holds the terminal any more
        while part := os.read(master, 65536):
            drawn += part
    os.close(master)
    return process.wait(), drawn.decode()
