"""Files of a source that lie on this machine."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pipelines.errors import TryAgainError, UsageError


@dataclass(frozen=True, slots=True)
class LocalFile:
    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def size_bytes(self) -> int:
        return self.path.stat().st_size

    @property
    def etag(self) -> None:
        return None

    @property
    def sha256(self) -> None:
        return None

    @property
    def identity(self) -> Mapping[str, str | int]:
        return _identity(self.path.stat()) | {"path": str(self.path.resolve())}

    @contextmanager
    def open(self) -> Iterator[BinaryIO]:
        try:
            file = self.path.open("rb")
        except OSError as error:
            raise UsageError(f"{self.path} cannot be read: {error.strerror}") from error
        with file:
            before = _identity(os.fstat(file.fileno()))
            yield file
            if _identity(self.path.stat()) != before:
                raise TryAgainError(f"{self.path} changed while it was read; run again once it is complete")

    def local_path(self, scratch: Path) -> Path:  # noqa: ARG002 - it is here already
        return self.path


def _identity(stat: os.stat_result) -> dict[str, str | int]:
    return {
        "size_bytes": stat.st_size,
        "mtime_ns": stat.st_mtime_ns,
        "ctime_ns": stat.st_ctime_ns,
        "inode": stat.st_ino,
    }
