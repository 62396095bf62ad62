"""Main memory that is left, on the machine and in the control groups that containers and batch systems put a process in."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

# Where the files of groups are, and what they call their limit, what is used of it, and what of that is cache that is given up when asked.
_GROUPS = {
    "": ("sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"),  # version 2, which has all controllers in one tree
    "memory": ("sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}


def available_memory(root: Path = Path("/")) -> int | None:
    """Bytes that this process can still have, where the system says it, as Linux does; None elsewhere.

    Args:
        root: where ``proc`` and ``sys`` are.
    """
    machine = _number(_text(root / "proc/meminfo"), r"^MemAvailable: +(\d+) kB")
    found = [1024 * machine] if machine is not None else []
    return min([*found, *_left(root)], default=None)


def _left(root: Path) -> Iterator[int]:
    """Of each group with a limit that the process is in."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, own = line.split(":", 2)
        for controller in set(controllers.split(",")) & _GROUPS.keys():
            tree, limit_file, used_file, cache = _GROUPS[controller]
            own_folder = root / tree / own.lstrip("/")
            # A limit of any group above counts as well. A container may name its own as the host sees it: those folders are not there.
            for folder in (own_folder, *own_folder.parents):
                limit, used = (_number(_text(folder / name), r"^(\d+)$") for name in (limit_file, used_file))
                if limit is not None and used is not None:
                    yield max(0, limit - used + (_number(_text(folder / "memory.stat"), rf"^{cache} (\d+)$") or 0))
                if folder == root / tree:
                    break


def _text(path: Path) -> str:
    """Empty where there is none that can be read."""
    try:
        return path.read_text("utf-8", "surrogateescape")  # a group may have any name
    except OSError:
        return ""


def _number(text: str, pattern: str) -> int | None:
    found = re.search(pattern, text, re.MULTILINE)
    return int(found[1]) if found else None
