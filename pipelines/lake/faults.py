"""What the operating system's errors mean for a lake, and how people mend them."""

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipelines.errors import LakeFull, LakeRefused, PipelineError

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
REFUSED = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG, errno.ELOOP}
REFUSED |= {errno.ENOTDIR, errno.EEXIST}  # a file is in the way
RUST_ERROR = re.compile(r"\(os error (\d+)\)")  # polars keeps the number only in the text, below any class of its own


@contextmanager
def full_disk_explained(where: str) -> Iterator[None]:
    """Turn a full disk into LakeFull, whatever library met it; all else passes."""
    try:
        yield
    except PipelineError:
        raise
    except Exception as error:
        if _errno(error) not in FULL:
            raise
        place = getattr(error, "filename", None) or where
        raise LakeFull(f"no space is left for {place}; free some or choose another place, then run again") from error


@contextmanager
def os_errors_explained(where: str) -> Iterator[None]:
    """Turn full disks and missing permissions into errors of the lake; others pass."""
    try:
        with full_disk_explained(where):
            yield
    except OSError as error:
        if error.errno not in REFUSED:
            raise
        place, reason = error.filename or where, (error.strerror or str(error)).lower()
        raise LakeRefused(f"cannot use {place}: {reason}; check its owner and mode, or choose another") from error


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, unless they are there; LakeRefused where none can be made."""
    with os_errors_explained(str(folder)):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except FileNotFoundError as error:  # although those above were asked for: below /proc, for example
            raise LakeRefused(f"cannot make {folder}: folders cannot be made there; choose another place") from error


def _errno(error: Exception) -> int | None:
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    said = RUST_ERROR.search(str(error))
    return int(said[1]) if said else None
