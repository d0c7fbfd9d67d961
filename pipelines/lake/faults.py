"""What the operating system's errors mean for a lake, and how people mend them."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from pipelines.errors import LakeFull, LakeRefused

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
REFUSED = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST}  # the last: a file is in the way


@contextmanager
def os_errors_explained(where: str) -> Iterator[None]:
    """Turn full disks and missing permissions into errors of the lake; others pass."""
    try:
        yield
    except OSError as error:
        place = error.filename or where
        # polars and pyarrow keep the number only in the text: "No space left on device (os error 28)"
        if error.errno in FULL or f"os error {errno.ENOSPC}" in str(error):
            raise LakeFull(
                f"no space is left for {place}; free some or choose another place, then run again"
            ) from error
        if error.errno in REFUSED:
            reason = (error.strerror or str(error)).lower()
            raise LakeRefused(f"cannot use {place}: {reason}; check its owner and mode, or choose another") from error
        raise
