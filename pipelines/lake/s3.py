"""A lake below a prefix of an S3 bucket, on AWS or any server with conditional writes; boto3 reads AWS_* for it."""

import os
import re
import secrets
import tempfile
from base64 import b64encode
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from hashlib import sha256 as hash_sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import botocore.session
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from tenacity import Retrying, retry_if_exception, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from pipelines.errors import LakeConflict, LakeDamaged, LakeKeyMissing, LakeRefused, UsageError
from pipelines.lake.base import FileEntry, Lake, check_content, checked_key, checked_upload, file_sha256
from pipelines.lake.faults import full_disk_explained, os_errors_explained
from pipelines.lake.s3_faults import s3_errors_explained, status_of
from pipelines.lake.scratch import scratch_folder

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
ATTEMPTS = 5  # of each request, with jittered waits up to 8 s: outlives a throttled minute, not a wrong address
TRANSFER = TransferConfig(multipart_threshold=8 << 20, multipart_chunksize=8 << 20, max_concurrency=4)


class S3Lake(Lake):
    """Keys are object keys below the prefix; each object carries its sha256 as metadata.

    Parts are checksummed in transit by S3 itself (SHA-256), whole files are checked against their manifest on fetch.
    """

    def __init__(self, bucket: str, prefix: str = "") -> None:
        if not BUCKET.fullmatch(bucket):
            raise UsageError(f"{bucket!r} is no bucket name: 3 to 63 lower-case letters, digits, '-' or '.'")
        self.bucket = bucket
        self.prefix = f"{checked_key(prefix.strip('/'))}/" if prefix.strip("/") else ""
        self.uri = f"s3://{bucket}/{self.prefix}".rstrip("/")
        self._bucket_seen = False
        self._client = _new_client()

    @classmethod
    def from_uri(cls, uri: str) -> "S3Lake":
        bucket, _, prefix = uri.partition("://")[2].partition("/")
        return cls(bucket, prefix)

    def read_versioned(self, key: str) -> tuple[bytes, str]:
        def read() -> tuple[bytes, str]:
            response = self._client.get_object(Bucket=self.bucket, Key=self._object_key(key))
            try:
                return response["Body"].read(), response["ETag"]
            except BotoCoreError as error:  # boto3 repeats requests, and not the reading of their answer
                raise BrokenAnswerError(str(error)) from error

        with self._explained(key):
            return _repeated(retry_if_exception_type(BrokenAnswerError))(read)

    def write_bytes(self, key: str, data: bytes, *, if_match: str | None = None, if_absent: bool = False) -> str:
        self._check_bucket()
        digest = hash_sha256(data)
        write_id = secrets.token_hex(16)
        request: dict[str, Any] = {
            "Bucket": self.bucket,
            "Key": self._object_key(key),
            "Body": data,
            "ChecksumSHA256": b64encode(digest.digest()).decode(),
            "Metadata": {"sha256": digest.hexdigest(), "write-id": write_id},
        }
        if if_absent:
            request["IfNoneMatch"] = "*"
        if if_match is not None:
            request["IfMatch"] = if_match
        try:
            with self._explained(key):
                # 409 is no verdict: S3 asks for the same request again, and then says who won
                response = _repeated(retry_if_exception(lambda error: status_of(error) == 409))(
                    self._client.put_object, **request
                )
                return str(response["ETag"])
        except LakeKeyMissing:
            raise LakeConflict(f"{self.uri_of(key)} was deleted in between; read it and decide again") from None
        except LakeConflict as error:
            # A request whose answer got lost is sent again, and then meets its own first success.
            if _was_repeated(error) and (etag := self._etag_of_write(key, write_id)):
                return etag
            raise

    def _etag_of_write(self, key: str, write_id: str) -> str | None:
        with self._explained(key):
            found = self._client.head_object(Bucket=self.bucket, Key=self._object_key(key))
        return found["ETag"] if found["Metadata"].get("write-id") == write_id else None

    def exists(self, key: str) -> bool:
        try:
            with self._explained(key):
                self._client.head_object(Bucket=self.bucket, Key=self._object_key(key))
        except LakeKeyMissing:
            return False
        return True

    def sizes(self, prefix: str = "") -> dict[str, int]:
        found: dict[str, int] = {}
        with self._explained(prefix):
            pages = self._client.get_paginator("list_objects_v2")
            for page in pages.paginate(Bucket=self.bucket, Prefix=self.prefix + prefix):
                for stored in page.get("Contents", ()):
                    if not stored["Key"].endswith("/"):  # the folders that consoles make
                        found[stored["Key"].removeprefix(self.prefix)] = stored["Size"]
        return found

    def written_at(self, key: str) -> datetime:
        with self._explained(key):
            return self._client.head_object(Bucket=self.bucket, Key=self._object_key(key))["LastModified"]

    def delete(self, key: str) -> None:
        with self._explained(key):
            self._client.delete_object(Bucket=self.bucket, Key=self._object_key(key))

    def upload(self, path: Path, key: str, *, move: bool = False, sha256: str | None = None) -> FileEntry:
        self._check_bucket()
        checked_upload(path)
        entry = FileEntry(key=key, size_bytes=path.stat().st_size, sha256=sha256 or file_sha256(path))
        with self._explained(key):
            self._client.upload_file(
                str(path),
                self.bucket,
                self._object_key(key),
                ExtraArgs={"ChecksumAlgorithm": "SHA256", "Metadata": {"sha256": entry.sha256}},
                Config=TRANSFER,
            )
        if move:
            path.unlink()
        return entry

    def fetch(self, entry: FileEntry, scratch: Path, *, verify: bool = True) -> Path:
        target = scratch / checked_key(entry.key)
        if target.exists():  # fetched before into this scratch, and checked then
            return target
        part = target.with_name(f"{target.name}.{secrets.token_hex(4)}.part")

        def download() -> None:
            self._client.download_file(self.bucket, self._object_key(entry.key), str(part), Config=TRANSFER)
            check_content(part, entry, self.uri_of(entry.key), verify=verify)

        with self._explained(entry.key), os_errors_explained(str(target)):
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                _repeated(retry_if_exception_type(LakeDamaged))(download)  # damaged on its way, or where it lies?
                part.replace(target)
            finally:
                part.unlink(missing_ok=True)
        return target

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        root = Path(tempfile.gettempdir(), f"fashion-lake-{os.getuid()}")
        with ExitStack() as held:
            with os_errors_explained(str(root)):
                root.mkdir(mode=0o700, parents=True, exist_ok=True)
                folder = held.enter_context(scratch_folder(root))
            with full_disk_explained(f"{folder} (TMPDIR says where such folders go)"):
                yield folder

    def close(self) -> None:
        self._client.close()

    def _object_key(self, key: str) -> str:
        return self.prefix + checked_key(key)

    def _check_bucket(self) -> None:
        """Make sure, once, that the bucket is there and ours: some servers create one on the first write."""
        if not self._bucket_seen:
            with self._explained(""):
                self._client.list_objects_v2(Bucket=self.bucket, Prefix=self.prefix, MaxKeys=1)
            self._bucket_seen = True

    @contextmanager
    def _explained(self, key: str) -> Iterator[None]:
        endpoint = self._client.meta.endpoint_url
        try:
            with s3_errors_explained(f"{self.uri}/{key}".rstrip("/"), bucket=self.bucket, endpoint=endpoint):
                yield
        except (LakeKeyMissing, LakeRefused) as error:
            if isinstance(error.__cause__, ClientError) and error.__cause__.operation_name == "HeadObject":
                self._check_bucket()  # HEAD answers with a bare 403 or 404: ask again in a way that gives the reason
            raise


class BrokenAnswerError(BotoCoreError):
    """The connection broke while an object was being read."""

    def __init__(self, reason: str) -> None:
        Exception.__init__(self, reason)


def _new_client() -> "S3Client":
    with s3_errors_explained("s3://", bucket="", endpoint="AWS_ENDPOINT_URL"):
        core = botocore.session.get_session()
        attempts = core.get_config_variable("max_attempts") or ATTEMPTS  # AWS_MAX_ATTEMPTS
        return boto3.Session(botocore_session=core).client(
            "s3",
            config=Config(
                connect_timeout=5,
                read_timeout=60,
                max_pool_connections=32,  # steps transfer several files at once, each in several parts
                retries={"mode": "standard", "total_max_attempts": attempts},
            ),
        )


def _repeated(condition: Any) -> Retrying:
    return Retrying(
        retry=condition, stop=stop_after_attempt(3), wait=wait_random_exponential(multiplier=0.2, max=2), reraise=True
    )


def _was_repeated(error: LakeConflict) -> bool:
    cause = error.__cause__
    return isinstance(cause, ClientError) and cause.response["ResponseMetadata"].get("RetryAttempts", 0) > 0
