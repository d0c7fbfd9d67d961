"""What a source's files hold, told without reading them again: stat or ETag seen before stands for its sha256."""

import hashlib
import json
from collections.abc import Mapping
from datetime import datetime

from pipelines.data.sources import SourceFile
from pipelines.errors import LakeKeyMissing
from pipelines.lake import Lake
from pipelines.logs import get_logger

# A file written to in the very tick of its mtime could change once more without showing; git calls such racily clean.
SETTLED_NS = 2_000_000_000

log = get_logger()


def content_identities(lake: Lake, files: Mapping[str, SourceFile], now: datetime) -> dict[str, str]:
    """Give table → what stands for its file's content; files whose identity is known from before are not read.

    Of a local file this is its sha256. An object on S3 is known by its ETag: hashing it first would fetch it twice.
    """
    return {
        table: f"etag:{file.etag}:{file.size_bytes}" if file.etag else _content_sha256(lake, file, now)
        for table, file in files.items()
    }


def _content_sha256(lake: Lake, file: SourceFile, now: datetime) -> str:
    identity = dict(file.identity)
    name = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    key = f"index/sources/{name}.json"
    try:
        known = json.loads(lake.read_bytes(key))
        if known["identity"] == identity:
            return str(known["sha256"])
    except LakeKeyMissing:
        pass
    except (ValueError, KeyError, TypeError):
        log.warning("source_index_ignored", key=key)
    with file.open() as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()  # type: ignore[arg-type]
    changed_ns = max(int(identity.get("mtime_ns", 0)), int(identity.get("ctime_ns", 0)))
    if now.timestamp() * 1e9 - changed_ns > SETTLED_NS:
        lake.write_bytes(key, json.dumps({"identity": identity, "sha256": digest}).encode())
    return digest
