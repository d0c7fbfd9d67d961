"""What the container may use, from its cgroup: memory and processors; version 2, and version 1 beside it."""

import ctypes
import os
import threading
from dataclasses import dataclass
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")
NICENESS = 10
UNLIMITED = 1 << 60  # version 1 writes nearly 2**63 for "no limit"


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes of a cgroup."""

    limit_bytes: int
    usage_bytes: int
    inactive_file_bytes: int
    active_file_bytes: int = 0

    @property
    def working_set_bytes(self) -> int:
        """As the kubelet counts it: usage without the file pages that nobody touched lately."""
        return self.usage_bytes - self.inactive_file_bytes

    @property
    def free_bytes(self) -> int:
        """What can still be had: file pages give way, touched or not, before anything fails."""
        return self.limit_bytes - self.usage_bytes + self.inactive_file_bytes + self.active_file_bytes


def read_memory(root: Path = CGROUP, process: Path = Path("/proc/self")) -> Memory | None:
    """Give the limit and use of the innermost cgroup that limits this process; None when nothing does."""
    for folder, limit_name, usage_name, prefix in _memory_folders(root, process):
        limit = _number(folder / limit_name)
        usage = _number(folder / usage_name)
        if limit is not None and usage is not None and limit < UNLIMITED:
            inactive, active = (
                _statistic(folder / "memory.stat", f"{prefix}{name}") for name in ("inactive_file", "active_file")
            )
            return Memory(limit, usage, inactive, active)
    return None


def count_processors(root: Path = CGROUP, process: Path = Path("/proc/self")) -> float:
    """Give the processors that this process may use at once: its CPU quota, at most those that it may run on."""
    allowed = float(len(os.sched_getaffinity(0)))
    for folder in (*_folders(root, process, ""), *_folders(root, process, "cpu")):
        try:
            quota, period = (folder / "cpu.max").read_text().split()
        except (OSError, ValueError):
            quota, period = str(_number(folder / "cpu.cfs_quota_us")), str(_number(folder / "cpu.cfs_period_us"))
        if quota.isdigit() and period.isdigit() and int(period):
            return min(allowed, int(quota) / int(period))
    return allowed


def yield_processor() -> None:
    """Let this thread, and what it starts, work in the time that answers leave: a tenth of a busy processor at least.

    Linux keeps niceness for each thread, whatever POSIX says; nobody but root can take it back.
    """
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)


def give_back_memory() -> None:
    """Return freed memory to the system; glibc otherwise keeps what a replaced model leaves."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:  # musl has none
        trim(0)


def _memory_folders(root: Path, process: Path) -> list[tuple[Path, str, str, str]]:
    version_2 = [(f, "memory.max", "memory.current", "") for f in _folders(root, process, "")]
    version_1 = [
        (f, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_") for f in _folders(root, process, "memory")
    ]
    return [*version_2, *version_1]


def _folders(root: Path, process: Path, controller: str) -> list[Path]:
    """List the folders of a controller from the process's own up to the root; in a container the own is the root."""
    try:
        lines = (process / "cgroup").read_text().splitlines()
    except OSError:
        return [root]
    found = []
    for line in lines:
        _, names, path = line.split(":", 2)
        if controller in names.split(","):
            base = root / controller if names else root
            inner = base / path.lstrip("/")
            found += [inner, *(parent for parent in inner.parents if parent.is_relative_to(base))]
    return found


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _statistic(path: Path, name: str) -> int:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(f"{name} ")), 0)
