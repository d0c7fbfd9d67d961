"""Where a bundle is copied from: a folder here, or a prefix of a bucket (fetch_s3)."""

import os
import stat
from pathlib import Path
from typing import Protocol

from inference.errors import FetchFailed, FileDamaged
from inference.manifest import MANIFEST_NAME, has_manifest

CHUNK_BYTES = 8 << 20


class Missing(Exception):
    """A file that is not there; the message says where."""


class Origin(Protocol):
    """Files by their names below a root; every method raises Missing for what is not there."""

    def is_bundle(self) -> bool:
        """Say whether the root is a bundle itself, rather than a registry."""
        ...

    def where(self, name: str) -> str:
        """Name a file for people."""
        ...

    def read(self, name: str, max_bytes: int) -> bytes:
        """Read a small file; of a longer one only max_bytes + 1."""
        ...

    def state(self, name: str) -> str:
        """Give what changes when the file does."""
        ...

    def copy(self, name: str, target: Path) -> None:
        """Copy a file of any size."""
        ...


class FolderOrigin:
    """A bundle folder, or a registry folder; told apart anew each time, since either may appear later."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def is_bundle(self) -> bool:
        """Say whether the folder holds a manifest."""
        return has_manifest(self._root)

    def where(self, name: str) -> str:
        """Give the path."""
        return str(self._root / name)

    def read(self, name: str, max_bytes: int) -> bytes:
        """Read a small file."""
        path = self._root / name
        try:
            if not stat.S_ISREG(path.stat().st_mode):  # reading a pipe would never end
                raise FetchFailed(f"{path}: not a regular file")
            with path.open("rb") as file:
                return file.read(max_bytes + 1)
        except FileNotFoundError as error:
            if name == MANIFEST_NAME or "/" in name:
                raise Missing(str(path)) from error
            raise FetchFailed(
                f"{path}: no champion ({error.strerror}); MODEL_URI names a bundle folder or a lake's registry, "
                "and a run of the pipeline that beats its rules makes a champion (see the reasons of the last one)"
            ) from error
        except OSError as error:
            raise FetchFailed(f"{path}: {error.strerror}; see to its permissions") from error

    def state(self, name: str) -> str:
        """Give time and size; empty when there is no such file."""
        try:
            found = (self._root / name).stat()
        except OSError:
            return ""
        return f"{found.st_mtime_ns}:{found.st_size}"

    def copy(self, name: str, target: Path) -> None:
        """Copy a file."""
        source = self._root / name
        if source.resolve().parent != source.parent.resolve():
            raise FileDamaged("a link out of the folder", where=str(source), mend="do not serve this bundle")
        try:
            with source.open("rb") as read, target.open("wb", buffering=0) as written:
                while chunk := read.read(CHUNK_BYTES):
                    written.write(chunk)
                    # Neither side's pages are wanted again; kept, they would count as the pod's memory.
                    os.fdatasync(written.fileno())
                    for file in (read, written):
                        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        except FileNotFoundError as error:
            raise Missing(str(source)) from error
