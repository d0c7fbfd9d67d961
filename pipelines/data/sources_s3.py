"""Files of a source that lie below an s3:// prefix, read as streams that survive a broken connection."""

import hashlib
import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from pipelines.errors import LakeConflict, LakeRefused, TryAgainError, UsageError
from pipelines.lake.base import file_sha256
from pipelines.lake.s3_faults import s3_errors_explained

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

ATTEMPTS = 5  # to go on behind a break; each begins where the last one ended


@dataclass(slots=True)
class S3File:
    bucket: str
    key: str
    size_bytes: int
    etag: str
    client: "S3Client" = field(repr=False)
    sha256: str | None = None
    """known once the file has been read to its end"""

    @property
    def name(self) -> str:
        return self.key.rpartition("/")[2]

    @property
    def uri(self) -> str:
        return f"s3://{self.bucket}/{self.key}"

    @property
    def identity(self) -> Mapping[str, str | int]:
        return {"etag": self.etag, "size_bytes": self.size_bytes}

    @contextmanager
    def open(self) -> Iterator[BinaryIO]:
        with _explained(self.uri, self.bucket, self.client):
            yield cast(BinaryIO, _ResumingStream(self))

    def local_path(self, scratch: Path) -> Path:
        path = scratch / self.name
        with _explained(self.uri, self.bucket, self.client):
            self.client.download_file(self.bucket, self.key, str(path))
        self.sha256 = file_sha256(path)
        return path


class _ResumingStream(io.RawIOBase):
    """Read an object in order; a break is answered by asking for the rest of the same version."""

    def __init__(self, file: S3File) -> None:
        self._file = file
        self._body: Any = None
        self._position = 0
        self._digest = hashlib.sha256()

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        left = self._file.size_bytes - self._position
        wanted = left if size < 0 else min(size, left)
        pieces = []
        while wanted > 0:
            piece = self._read_again(wanted)
            pieces.append(piece)
            self._position += len(piece)
            self._digest.update(piece)
            wanted -= len(piece)
        if self._position == self._file.size_bytes:
            self._file.sha256 = self._digest.hexdigest()
        return b"".join(pieces)

    def _read_again(self, size: int) -> bytes:
        retrying = Retrying(
            retry=retry_if_exception_type((BotoCoreError, OSError)),
            stop=stop_after_attempt(ATTEMPTS),
            wait=wait_random_exponential(multiplier=0.2, max=5),
            reraise=True,
        )
        return retrying(self._read_once, size)

    def _read_once(self, size: int) -> bytes:
        if self._body is None:
            file = self._file
            answer = file.client.get_object(
                Bucket=file.bucket, Key=file.key, Range=f"bytes={self._position}-", IfMatch=file.etag
            )
            self._body = answer["Body"]
        try:
            piece = self._body.read(size)
        except (BotoCoreError, OSError):
            self._body = None
            raise
        if not piece:
            self._body = None
            raise ConnectionError(f"{self._file.uri} ended after {self._position:,} of {self._file.size_bytes:,} bytes")
        return bytes(piece)


def list_objects(uri: str) -> dict[str, S3File]:
    """Give name → file of the objects that lie directly below an s3:// prefix."""
    bucket, _, prefix = uri.partition("://")[2].partition("/")
    if not bucket:
        raise UsageError(f"source {uri!r} names no bucket; write s3://bucket/prefix")
    prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
    # A session of its own: the default one keeps the credentials that it saw first.
    client = boto3.Session().client(
        "s3", config=Config(connect_timeout=5, read_timeout=60, retries={"mode": "standard", "total_max_attempts": 5})
    )
    found = {}
    with _explained(uri, bucket, client):
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix, Delimiter="/")
        for page in pages:
            for stored in page.get("Contents", ()):
                name = stored["Key"].removeprefix(prefix)
                if name:
                    found[name] = S3File(bucket, stored["Key"], stored["Size"], stored["ETag"], client)
    if not found:
        raise UsageError(f"source {uri} holds nothing; give the prefix below which transactions.csv and so on lie")
    return found


@contextmanager
def _explained(uri: str, bucket: str, client: "S3Client") -> Iterator[None]:
    try:
        with s3_errors_explained(uri, bucket=bucket, endpoint=client.meta.endpoint_url):
            yield
    except LakeRefused as error:
        said = str(error).replace("--lake", "--source").replace("a lake needs", "a source needs")
        raise UsageError(f"source: {said}") from error.__cause__
    except LakeConflict as error:
        raise TryAgainError(f"{uri} changed while it was read; run again once it is complete") from error.__cause__
