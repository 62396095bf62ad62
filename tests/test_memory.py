"""How much memory is left, as Linux's files say it: of the machine, and of the groups that containers are."""

from __future__ import annotations

from pathlib import Path

import pytest

from visiontk.memory import available_memory

GIB = 2**30


def files(root: Path, texts: dict[str, str]) -> Path:
    for name, text in texts.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, "utf-8", "surrogateescape")
    return root


MACHINE = {"proc/meminfo": f"MemTotal:  {64 * GIB // 1024} kB\nMemFree:  1000 kB\nMemAvailable:  {32 * GIB // 1024} kB\n"}


def test_without_groups_it_is_what_the_machine_has(tmp_path: Path) -> None:
    assert available_memory(files(tmp_path, MACHINE)) == 32 * GIB


def test_a_system_that_does_not_say_it(tmp_path: Path) -> None:
    assert available_memory(tmp_path) is None


@pytest.mark.parametrize("own", ["/", "/jobs/7", "/on/the/host", "/jöbs/\udcff"])
def test_the_limit_of_a_container_counts_less_what_is_used_of_it_without_cache(tmp_path: Path, own: str) -> None:
    """Version 2; the group is the root of what a container sees, and it may be named as the host sees it."""
    groups = {
        "proc/self/cgroup": f"0::{own}\n",
        "sys/fs/cgroup/memory.max": f"{4 * GIB}\n",
        "sys/fs/cgroup/memory.current": f"{3 * GIB}\n",
        "sys/fs/cgroup/memory.stat": f"anon {2 * GIB}\ninactive_file {GIB}\nactive_file 5\n",
        "sys/fs/cgroup/jobs/7/memory.max": "max\n",
        "sys/fs/cgroup/jobs/7/memory.current": f"{3 * GIB}\n",
    }
    assert available_memory(files(tmp_path, MACHINE | groups)) == 2 * GIB


def test_the_narrowest_of_the_groups_one_in_another(tmp_path: Path) -> None:
    groups = {
        "proc/self/cgroup": "0::/user/job\n",
        "sys/fs/cgroup/user/memory.max": f"{20 * GIB}\n",
        "sys/fs/cgroup/user/memory.current": f"{19 * GIB}\n",
        "sys/fs/cgroup/user/job/memory.max": f"{8 * GIB}\n",
        "sys/fs/cgroup/user/job/memory.current": f"{2 * GIB}\n",
    }
    assert available_memory(files(tmp_path, MACHINE | groups)) == GIB


def test_version_1_and_limits_that_are_none(tmp_path: Path) -> None:
    memory = "sys/fs/cgroup/memory"
    groups = {
        "proc/self/cgroup": "9:name=systemd:/\n4:cpu,memory:/box:1\n0::/\n",
        f"{memory}/memory.limit_in_bytes": "9223372036854771712\n",
        f"{memory}/memory.usage_in_bytes": f"{40 * GIB}\n",
        f"{memory}/box:1/memory.limit_in_bytes": f"{6 * GIB}\n",
        f"{memory}/box:1/memory.usage_in_bytes": f"{5 * GIB}\n",
        f"{memory}/box:1/memory.stat": f"inactive_file 7\ntotal_inactive_file {2 * GIB}\n",
    }
    root = files(tmp_path, MACHINE | groups)
    assert available_memory(root) == 3 * GIB
    (root / f"{memory}/box:1/memory.limit_in_bytes").write_text("9223372036854771712\n")
    assert available_memory(root) == 32 * GIB


def test_a_group_that_uses_more_than_its_limit_has_nothing_left(tmp_path: Path) -> None:
    groups = {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "100\n", "sys/fs/cgroup/memory.current": "200\n"}
    assert available_memory(files(tmp_path, MACHINE | groups)) == 0
