"""What every lake can do, whatever it is stored on."""

import hashlib
from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from pipelines.errors import ArtefactError, LakeDamaged, UsageError

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
RESERVED = (".scratch", ".lock")  # what a folder lake keeps beside its files; never a key


class FileEntry(BaseModel):
    """One stored file; key is relative to the lake's root, with `/` between its parts."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str
    size_bytes: Annotated[int, Field(ge=0)]
    sha256: Sha256


class Lake(ABC):
    """Keyed files with atomic writes: a reader sees the whole old content, the whole new content or nothing.

    An etag is opaque: it changes whenever the content does, and is only good for `if_match` on the same lake.
    All methods raise the Lake… errors of `pipelines.errors`; all are safe in threads.
    """

    uri: str

    def uri_of(self, key: str) -> str:
        """Give the address of a key, for people and other tools; whether it exists is not checked."""
        return f"{self.uri}/{checked_key(key)}"

    def read_bytes(self, key: str) -> bytes:
        """Read a small file whole; LakeKeyMissing when there is none."""
        return self.read_versioned(key)[0]

    @abstractmethod
    def read_versioned(self, key: str) -> tuple[bytes, str]:
        """Read a small file and the etag that this content has."""

    @abstractmethod
    def write_bytes(self, key: str, data: bytes, *, if_match: str | None = None, if_absent: bool = False) -> str:
        """Write a small file whole and give its etag.

        With `if_match` only over content of that etag, with `if_absent` only where nothing is: of any number of
        racers exactly one wins, and the others get LakeConflict.
        """

    @abstractmethod
    def exists(self, key: str) -> bool: ...

    @abstractmethod
    def sizes(self, prefix: str = "") -> dict[str, int]:
        """Give key → size_bytes of all keys that begin with the prefix (text, not only whole folder names)."""

    def list(self, prefix: str = "") -> list[str]:
        """List the keys that begin with the prefix, sorted."""
        return sorted(self.sizes(prefix))

    @abstractmethod
    def written_at(self, key: str) -> datetime:
        """Say when this lake got the file, to the second at least; LakeKeyMissing when there is none.

        A copy of a lake has times of its own, unless whoever copied it kept them.
        """

    @abstractmethod
    def delete(self, key: str) -> None:
        """Remove a file; one that is not there is no error."""

    @abstractmethod
    def upload(self, path: Path, key: str, *, move: bool = False, sha256: str | None = None) -> FileEntry:
        """Store a local file of any size.

        With `move` the local file is given up (a rename, when it lies in this lake's scratch). A `sha256` that is
        known already spares one reading of the file.
        """

    @abstractmethod
    def fetch(self, entry: FileEntry, scratch: Path, *, verify: bool = True) -> Path:
        """Give a local path to read the file from: in place for a folder, else a copy below `scratch`.

        Never write to it. Size and, unless told otherwise, sha256 are checked: LakeDamaged when they differ.
        """

    @abstractmethod
    def scratch(self) -> AbstractContextManager[Path]:
        """Give an empty folder that is gone afterwards; those of processes that died are cleared first."""

    def close(self) -> None:  # noqa: B027 - most lakes have nothing to let go of
        """Let go of idle connections; the lake stays usable."""


def checked_key(key: str) -> str:
    """Give the key back, or say why it cannot be one (it could leave the lake or mean two things)."""
    parts = key.split("/")
    if not all(parts) or {".", ".."} & set(parts) or "\\" in key or not key.isprintable() or parts[0] in RESERVED:
        raise UsageError(
            f"{key!r} is no key of a lake: keys are names joined by '/', as in 'raw/run-1/articles.parquet'"
        )
    return key


def file_sha256(path: Path) -> str:
    """Hash a file in hexadecimal, in constant memory."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_content(path: Path, entry: FileEntry, uri: str, *, verify: bool) -> None:
    """Compare a local file with its entry; raises LakeDamaged."""
    mend = "delete it and run the step that wrote it again"
    size_bytes = path.stat().st_size
    if size_bytes != entry.size_bytes:
        raise LakeDamaged(f"{uri} has {size_bytes} bytes, its manifest says {entry.size_bytes}; {mend}")
    if verify and (sha256 := file_sha256(path)) != entry.sha256:
        raise LakeDamaged(f"{uri} has sha256 {sha256}, its manifest says {entry.sha256}; {mend}")


def checked_upload(path: Path) -> Path:
    """Give the path back when it is a plain file."""
    if not path.is_file():
        raise ArtefactError(f"{path} cannot be stored in the lake: it is not a file")
    return path
