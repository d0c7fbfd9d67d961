"""Where purchases come from: a folder in Kaggle's format, an s3:// prefix with the same, or a synthetic shop."""

import difflib
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Protocol
from urllib.parse import unquote, urlsplit

from pipelines.data.synthetic.size import SCHEME, ShopSize, parse_shop_uri
from pipelines.errors import UsageError

# Table → file names that a source may give it.
TABLE_FILES = {
    "transactions": ("transactions_train", "transactions"),
    "articles": ("articles",),
    "customers": ("customers",),
}
FILE_KINDS = (".csv", ".csv.gz", ".parquet")


class SourceFile(Protocol):
    """One file of a source, readable from its beginning as often as needed."""

    @property
    def name(self) -> str: ...

    @property
    def size_bytes(self) -> int: ...

    @property
    def identity(self) -> Mapping[str, str | int]:
        """What changes whenever the content may have: cheap to tell, without reading the file."""

    @property
    def etag(self) -> str | None:
        """The store's own name for the content, where it has one."""

    @property
    def sha256(self) -> str | None:
        """Of the content, once reading has told it."""

    def open(self) -> AbstractContextManager[BinaryIO]:
        """Read from the beginning; raises TryAgainError when the file changes meanwhile."""

    def local_path(self, scratch: Path) -> Path:
        """Give a path for readers that jump about in the file."""


@dataclass(frozen=True, slots=True)
class FileSource:
    """A folder or prefix with one file for each table."""

    uri: str
    kind: str
    files: Mapping[str, SourceFile] = field(default_factory=dict)
    """table → file"""


@dataclass(frozen=True, slots=True)
class SyntheticSource:
    size: ShopSize
    kind: str = SCHEME

    @property
    def uri(self) -> str:
        return self.size.uri


Source = FileSource | SyntheticSource


def open_source(uri: str) -> Source:
    """Find what a source's address names; nothing of its content is read yet."""
    if not uri.strip():
        raise UsageError("no source is given; pass --source FOLDER, s3://bucket/prefix or synthetic://?customers=2000")
    scheme, separator, _ = uri.partition("://")
    if not separator:
        return _open_folder(Path(uri))
    match scheme.lower():
        case "synthetic":
            return SyntheticSource(parse_shop_uri(uri))
        case "file":
            return _open_folder(Path(unquote(urlsplit(uri).path)))
        case "s3":
            from pipelines.data.sources_s3 import list_objects  # boto3 takes 0.3 s to import

            objects = list_objects(uri)
            return FileSource(uri, "s3", choose_files(uri, objects, lambda name: objects[name]))
    raise UsageError(f"source {uri!r} has the unknown scheme {scheme!r}; known are a folder, s3:// and synthetic://")


def _open_folder(folder: Path) -> FileSource:
    from pipelines.data.sources_folder import LocalFile

    if folder.is_file():
        raise UsageError(f"source {folder} is a file; give the folder that holds transactions, articles and customers")
    if not folder.is_dir():
        near = _nearest(folder.name, (path.name for path in folder.parent.iterdir())) if folder.parent.is_dir() else ""
        raise UsageError(f"source {folder} does not exist{near}; give a folder, s3://… or synthetic://?customers=2000")
    names = [path.name for path in folder.iterdir()]
    return FileSource(
        str(folder.resolve()), "folder", choose_files(str(folder), names, lambda name: LocalFile(folder / name))
    )


def choose_files(where: str, names: Iterable[str], make: Callable[[str], SourceFile]) -> dict[str, SourceFile]:
    """Pick each table's file among the names; all that is missing or doubtful is said at once."""
    present = sorted(names)
    chosen: dict[str, SourceFile] = {}
    problems = []
    for table, stems in TABLE_FILES.items():
        found = [stem + kind for stem in stems for kind in FILE_KINDS if stem + kind in present]
        if len(found) == 1:
            chosen[table] = make(found[0])
        elif found:
            problems.append(f"it has {' and '.join(found)}: keep one of them")
        else:
            problems.append(f"no {' or '.join(f'{stem}.csv' for stem in stems)}{_nearest(stems[0] + '.csv', present)}")
    if problems:
        raise UsageError(
            f"source {where}: {'; '.join(problems)}. A source holds transactions_train (or transactions), articles "
            f"and customers, each as {', '.join(FILE_KINDS)}"
        )
    return chosen


def _nearest(name: str, names: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(names), n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""
