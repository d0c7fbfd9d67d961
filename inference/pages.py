"""What the system keeps in memory of a bundle's files: told how they are read, and what may go first.

A container's limit and the kubelet's figure for it count file pages that were read more than once as in use, although
they can be read again at any time. The server says which of them need not stay, so that the pod counts as large as the
memory that it cannot do without.
"""

import contextlib
import ctypes
import mmap
import os
from collections.abc import Iterable
from pathlib import Path

from inference.arrays import Array

_COLD = 20  # MADV_COLD (Linux 5.4): keep the pages, but take them before any others; Python has no name for it


def expect_random_reads(arrays: Iterable[Array]) -> None:
    """Read only the page that is asked for: one customer's history is not followed by the next one's."""
    for array in arrays:
        _advise(array, mmap.MADV_RANDOM)


def let_cool(arrays: Iterable[Array]) -> None:
    """Let pages of mapped files be the first to go when memory is short; a read still finds those that are there."""
    for array in arrays:
        _advise(array, _COLD)


def drop_written(path: Path) -> None:
    """Write a file out and drop its pages."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
    drop_pages(path)


def drop_pages(path: Path) -> None:
    """Let the system forget those pages of a file that are written out and that nobody has mapped."""
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def drop_folder(folder: Path) -> None:
    """Let the system forget the files of a bundle that answers no more; it may be gone."""
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            drop_pages(path)


def _advise(array: Array, advice: int) -> None:
    """Advise on all pages that an array touches; a kernel that does not know the advice loses nothing."""
    address: int = array.__array_interface__["data"][0]
    start = address - address % mmap.PAGESIZE
    # Through ctypes, which lets other threads run meanwhile; the mmap behind an array is not reachable from it.
    ctypes.CDLL(None).madvise(ctypes.c_void_p(start), ctypes.c_size_t(address + array.nbytes - start), advice)
