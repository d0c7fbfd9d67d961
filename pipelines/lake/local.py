"""A lake in a folder: files appear by rename, conditions hold under a file lock."""

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from pipelines.errors import LakeConflict, LakeDamaged, LakeKeyMissing
from pipelines.lake.base import FileEntry, Lake, check_content, checked_key, checked_upload, file_sha256
from pipelines.lake.faults import full_disk_explained, os_errors_explained
from pipelines.lake.scratch import locked, scratch_folder


class LocalLake(Lake):
    """Keys are paths below root, and a folder goes with its last file.

    `.scratch/` (same file system, so moving is renaming) and `.lock` are its own.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(os.path.abspath(root.expanduser()))  # noqa: PTH100 - keeps symbolic links as given
        self.uri = str(self.root)

    def read_versioned(self, key: str) -> tuple[bytes, str]:
        with self._explained(key):
            data = self._path(key).read_bytes()
        return data, _etag(data)

    def write_bytes(self, key: str, data: bytes, *, if_match: str | None = None, if_absent: bool = False) -> str:
        with self._explained(key), self.scratch() as scratch:
            new = scratch / "new"
            with new.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            with locked(self.root / ".lock"):
                self._check_condition(key, if_match, if_absent)
                self._publish(new, key)
        return _etag(data)

    def _check_condition(self, key: str, if_match: str | None, if_absent: bool) -> None:
        if if_match is None and not if_absent:
            return
        try:
            current = _etag(self._path(key).read_bytes())
        except FileNotFoundError:
            current = None
        if if_absent and current is not None:
            raise LakeConflict(f"{self.uri_of(key)} exists already; another run was faster")
        if if_match is not None and current != if_match:
            raise LakeConflict(f"{self.uri_of(key)} was changed by another run in between; read it and decide again")

    def exists(self, key: str) -> bool:
        with self._explained(key):
            return self._path(key).is_file()

    def sizes(self, prefix: str = "") -> dict[str, int]:
        found: dict[str, int] = {}
        with self._explained(prefix):
            for folder, folders, files in os.walk(self.root / prefix.rpartition("/")[0]):
                if Path(folder) == self.root:
                    folders[:] = [name for name in folders if not name.startswith(".")]
                    files = [name for name in files if not name.startswith(".")]
                for name in files:
                    path = Path(folder, name)
                    key = path.relative_to(self.root).as_posix()
                    if key.startswith(prefix):
                        with suppress(FileNotFoundError):  # deleted since it was listed
                            found[key] = path.stat().st_size
        return found

    def written_at(self, key: str) -> datetime:
        with self._explained(key):
            return datetime.fromtimestamp(self._path(key).stat().st_mtime, UTC)

    def delete(self, key: str) -> None:
        with self._explained(key):
            path = self._path(key)
            if not path.exists():
                return
            with locked(self.root / ".lock"):  # nobody is just putting a file into a folder that is taken away
                path.unlink(missing_ok=True)
                for folder in path.parents:
                    if folder == self.root or any(folder.iterdir()):
                        break
                    folder.rmdir()

    def upload(self, path: Path, key: str, *, move: bool = False, sha256: str | None = None) -> FileEntry:
        with self._explained(key), self.scratch() as scratch:
            new = checked_upload(path)
            if not (move and new.is_relative_to(self.root / ".scratch")):
                new = Path(shutil.copyfile(path, scratch / "new"))
            with new.open("rb") as file:
                os.fsync(file.fileno())
            entry = FileEntry(key=key, size_bytes=new.stat().st_size, sha256=sha256 or file_sha256(new))
            with locked(self.root / ".lock"):
                self._publish(new, key)
            if move:
                path.unlink(missing_ok=True)
        return entry

    def fetch(self, entry: FileEntry, scratch: Path, *, verify: bool = True) -> Path:  # noqa: ARG002 - read in place
        path = self._path(entry.key)
        with self._explained(entry.key):
            check_content(path, entry, self.uri_of(entry.key), verify=verify)
        return path

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        with ExitStack() as held:
            with self._explained(".scratch"):
                folder = held.enter_context(scratch_folder(self.root / ".scratch"))
            with full_disk_explained(str(folder)):  # permissions and such are the affair of whoever works there
                yield folder

    def _path(self, key: str) -> Path:
        return self.root / checked_key(key)

    def _publish(self, new: Path, key: str) -> None:
        """Rename into place while .lock is held, and make the rename itself survive a power cut."""
        target = self._path(key)
        target.parent.mkdir(parents=True, exist_ok=True)
        new.replace(target)
        descriptor = os.open(target.parent, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    @contextmanager
    def _explained(self, key: str) -> Iterator[None]:
        where = f"{self.uri}/{key}"
        try:
            with os_errors_explained(where):
                yield
        except FileNotFoundError as error:
            if Path(error.filename or "") != self.root / key:
                raise
            raise LakeKeyMissing(f"{where} does not exist; run the step that writes it first") from None
        except IsADirectoryError:
            raise LakeDamaged(
                f"{where} is a folder where a file belongs; move it away and run the step again"
            ) from None


def _etag(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
