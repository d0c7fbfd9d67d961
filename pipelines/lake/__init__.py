"""The lake: one URI, a local folder or `s3://bucket/prefix`, through which steps hand files to each other."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

from pipelines.errors import UsageError
from pipelines.lake.base import FileEntry, Lake
from pipelines.lake.local import LocalLake

__all__ = ["FileEntry", "Lake", "LocalLake", "open_lake"]


def open_lake(uri: str) -> Lake:
    """Open `./folder`, `/folder`, `file:///folder` or `s3://bucket/prefix`; nothing is read or created yet."""
    if not uri.strip():
        raise UsageError(
            "no lake is given; pass --lake ./lake or --lake s3://bucket/prefix, or set S3_DATA_LAKE_BUCKET"
        )
    scheme, separator, _ = uri.partition("://")
    if not separator:
        if uri.lower().startswith(("s3:", "file:")):
            raise UsageError(f"lake {uri!r} lacks slashes; write s3://bucket/prefix or file:///absolute/path")
        return LocalLake(Path(uri))
    match scheme.lower():
        case "file":
            parts = urlsplit(uri)
            if parts.netloc not in ("", "localhost"):
                raise UsageError(f"lake {uri!r} names the host {parts.netloc!r}; a folder is file:///absolute/path")
            return LocalLake(Path(unquote(parts.path)))
        case "s3":
            from pipelines.lake.s3 import S3Lake  # boto3 takes 0.3 s to import, and only these lakes need it

            return S3Lake.from_uri(uri)
    raise UsageError(f"lake {uri!r} has the unknown scheme {scheme!r}; known are a folder, file:// and s3://")
