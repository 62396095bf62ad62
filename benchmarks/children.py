"""Other processes, and what they used."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

VISIONTK = str(Path(sys.executable).parent / "visiontk")

# The kernel counts the memory of whoever starts a process as the process's own until it has become the new program, and ours is large; so
# a small Python starts it and reports. It never ends a child, and passes on its exit code.
_STARTER = """
import json, os, sys, time
begun = time.perf_counter()
child = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ)
_, status, used = os.wait4(child, 0)
wall = time.perf_counter() - begun
print(json.dumps([os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime, used.ru_maxrss, wall]), file=sys.stderr)
"""


@dataclass(frozen=True)
class Usage:
    """What a process used: CPU seconds (user and system), peak resident memory in MiB, and seconds from start to end."""

    cpu_s: float
    peak_mib: float
    wall_s: float


def _environment() -> dict[str, str]:
    """No hub; and byte code is kept, as it is for who runs a program twice, whatever the shell of this run says."""
    return {**{name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}, "HF_HUB_OFFLINE": "1"}


def run(arguments: list[str], stdin: Path | None = None) -> Usage:
    """Run a program to its end, its output to the null device.

    Raises:
        RuntimeError: it failed.
    """
    with open(stdin or os.devnull, "rb") as file:  # noqa: PTH123  os.devnull is no Path
        starter = subprocess.run(
            [sys.executable, "-I", "-S", "-c", _STARTER, *arguments],
            stdin=file,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=_environment(),
            check=True,
        )
    *said, last = starter.stderr.decode(errors="replace").splitlines()
    code, cpu_s, peak, wall_s = json.loads(last)
    if code != 0:
        raise RuntimeError(f"{' '.join(arguments)} ended with {code}: {' '.join(said)}")
    return Usage(cpu_s, peak / (2**20 if sys.platform == "darwin" else 2**10), wall_s)
