"""What control groups let a process have, in both versions."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from minivault.control_group import spare_memory, usable_cores

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def groups(folder: Path, own: str, files: dict[str, str]) -> tuple[Path, Path]:
    mounted, named = folder / "cgroup", folder / "own"
    mounted.mkdir()
    named.write_text(own, encoding="ascii")
    for name, text in files.items():
        (mounted / name).parent.mkdir(parents=True, exist_ok=True)
        (mounted / name).write_text(text, encoding="ascii")
    return mounted, named


def test_no_groups_limit_nothing(tmp_path: Path) -> None:
    assert usable_cores(tmp_path, tmp_path / "none") == CORES
    assert spare_memory(tmp_path, tmp_path / "none") is None


@pytest.mark.parametrize(
    ("own", "name", "text"),
    [
        ("0::/\n", "cpu.max", "50000 100000\n"),
        ("0::/system.slice/minivault.service\n", "system.slice/minivault.service/cpu.max", "100000 100000\n"),
        ("0::/pods/one\n", "pods/cpu.max", "100000 100000\n"),
        ("0::/../../of/the/host\n", "cpu.max", "90000 100000\n"),
        ("0::/of/the/host\n", "cpu.max", "90000 100000\n"),
    ],
    ids=["a container", "a service", "the group above", "a path that leads out", "a path that is not here"],
)
def test_a_share_of_time_bounds_the_cores(tmp_path: Path, own: str, name: str, text: str) -> None:
    assert usable_cores(*groups(tmp_path, own, {name: text})) == 1


def test_a_share_is_rounded_up_and_never_more_than_there_are(tmp_path: Path) -> None:
    mounted, own = groups(tmp_path, "0::/\n", {"cpu.max": "150000 100000\n"})
    assert usable_cores(mounted, own) == min(CORES, 2)
    (mounted / "cpu.max").write_text("9900000 100000\n", encoding="ascii")
    assert usable_cores(mounted, own) == CORES
    (mounted / "cpu.max").write_text("max 100000\n", encoding="ascii")
    assert usable_cores(mounted, own) == CORES


def test_version_1(tmp_path: Path) -> None:
    own = "4:memory:/docker/a\n2:cpu,cpuacct:/docker/a\n1:name=systemd:/docker/a\n"
    files = {
        "cpu/docker/a/cpu.cfs_quota_us": "100000\n",
        "cpu/docker/a/cpu.cfs_period_us": "100000\n",
        "cpu/cpu.cfs_quota_us": "-1\n",
        "cpu/cpu.cfs_period_us": "100000\n",
        "memory/docker/a/memory.limit_in_bytes": "1000\n",
        "memory/docker/a/memory.usage_in_bytes": "600\n",
        "memory/docker/a/memory.stat": "cache 300\ninactive_file 100\n",
        "memory/memory.limit_in_bytes": "9223372036854771712\n",
        "memory/memory.usage_in_bytes": "600\n",
    }
    mounted, named = groups(tmp_path, own, files)
    assert usable_cores(mounted, named) == 1
    assert spare_memory(mounted, named) == 500


def test_the_group_that_runs_out_first_counts(tmp_path: Path) -> None:
    files = {
        "memory.max": "5000\n",
        "memory.current": "4900\n",
        "a/memory.max": "max\n",
        "a/memory.current": "100\n",
        "a/b/memory.max": "1000\n",
        "a/b/memory.current": "100\n",
    }
    assert spare_memory(*groups(tmp_path, "0::/a/b\n", files)) == 100
