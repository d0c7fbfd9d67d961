"""Limits are read from cgroups of either version, in a container and outside."""

from pathlib import Path

import pytest

from inference.limits import Memory, count_processors, read_memory

MIB = 1 << 20


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text + "\n")


@pytest.fixture
def process(tmp_path: Path) -> Path:
    return tmp_path / "proc"


def test_version_2_in_a_container(tmp_path: Path, process: Path) -> None:
    write(process, {"cgroup": "0::/"})
    stat = f"anon 1\ninactive_file {30 * MIB}\nactive_file {20 * MIB}"
    write(
        tmp_path,
        {
            "memory.max": str(320 * MIB),
            "memory.current": str(150 * MIB),
            "memory.stat": stat,
            "cpu.max": "150000 100000",
        },
    )
    memory = read_memory(tmp_path, process)
    assert memory == Memory(320 * MIB, 150 * MIB, 30 * MIB, 20 * MIB)
    assert memory.working_set_bytes == 120 * MIB
    assert memory.free_bytes == 220 * MIB
    assert count_processors(tmp_path, process) == 1.5


def test_version_1_where_a_parent_has_the_limit(tmp_path: Path, process: Path) -> None:
    write(process, {"cgroup": "4:memory:/pods/ours\n1:cpu,cpuacct:/pods/ours"})
    unlimited = str(9_223_372_036_854_771_712)
    write(
        tmp_path / "memory/pods",
        {
            "memory.limit_in_bytes": str(320 * MIB),
            "memory.usage_in_bytes": str(100 * MIB),
            "memory.stat": f"inactive_file 1\ntotal_inactive_file {40 * MIB}",
            "ours/memory.limit_in_bytes": unlimited,
            "ours/memory.usage_in_bytes": "1",
        },
    )
    write(tmp_path / "cpu/pods", {"ours/cpu.cfs_quota_us": "20000", "ours/cpu.cfs_period_us": "100000"})
    assert read_memory(tmp_path, process) == Memory(320 * MIB, 100 * MIB, 40 * MIB, 0)
    assert count_processors(tmp_path, process) == 0.2


def test_without_limits_there_is_none(tmp_path: Path, process: Path) -> None:
    write(process, {"cgroup": "0::/"})
    write(tmp_path, {"memory.max": "max", "memory.current": "1", "cpu.max": "max 100000"})
    assert read_memory(tmp_path, process) is None
    assert read_memory(tmp_path / "nowhere", tmp_path / "no-process") is None
    assert count_processors(tmp_path, process) >= 1
