"""Folders for work in progress that vanish with their process, however it ends."""

import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from pipelines.lake.faults import make_folder


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of that file: one holder at a time over threads, processes and containers on this file system.

    The kernel drops it when its holder dies, so there is nothing to clean up after a kill.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def scratch_folder(root: Path) -> Iterator[Path]:
    """Make an empty folder below root, remove it at the end, and those of dead processes at the start.

    Each folder has a lock file that its process holds: a lock that can be taken belongs to nobody alive. (A process
    id would not do: it is reused, and means nothing in another container.)
    """
    make_folder(root)
    name = f"{os.getpid()}-{secrets.token_hex(4)}"
    folder = root / name
    with ExitStack() as held:
        with locked(root / ".lock"):  # nobody mistakes a folder that is just being made for a dead one
            stale = [path for path in root.glob("*.lock") if path.name != ".lock" and _try_lock(path, held)]
            held.enter_context(locked(root / f"{name}.lock"))
            folder.mkdir()
        try:
            for lock in stale:
                _remove(lock)
            yield folder
        finally:
            _remove(root / f"{name}.lock")


def _try_lock(path: Path, held: ExitStack) -> bool:
    """Take a lock unless someone alive holds it."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except (FileNotFoundError, PermissionError):  # just cleared by its owner; another user's
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return False
    held.callback(os.close, descriptor)
    return True


def _remove(lock: Path) -> None:
    # The lock goes last: a kill in between leaves it for the next process to find.
    shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
    lock.unlink(missing_ok=True)
