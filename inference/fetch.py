"""Fetch the champion's bundle from S3 into a cache folder and verify it; run by the server as a process of its own.

    python -m inference.fetch --registry s3://bucket/prefix/registry --cache DIR [--known FINGERPRINT …]

One JSON object on stdout: `fingerprint` with `folder` (verified, ready to load), with `refused` (what, where, mend) or
with neither when the fingerprint is known; or `failed`, a message, when trying again may help. With S3 gone and nothing
known, the cached bundle of the last good fetch is given with a `warning`.
"""

import argparse
import json
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inference.bundle import verify_bundle
from inference.champion import CHAMPION_NAME, MAX_CHAMPION_BYTES, parse_champion
from inference.errors import BundleError, FetchFailed, FileDamaged
from inference.manifest import MANIFEST_NAME, MAX_MANIFEST_BYTES, parse_manifest

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

N_CACHED_BUNDLES = 2  # the champion and the one before it, for a rollback without a download
SPARE_BYTES = 8 << 20


def main(arguments: Sequence[str] | None = None) -> None:
    """Print what was found; a message instead of a traceback for everything that can go wrong outside."""
    parser = argparse.ArgumentParser(prog="python -m inference.fetch", description="Fetch the champion's bundle.")
    parser.add_argument("--registry", required=True)
    parser.add_argument("--cache", required=True, type=Path)
    parser.add_argument("--known", action="append", default=[])
    options = parser.parse_args(arguments)
    try:
        found = fetch_champion(options.registry, options.cache, options.known)
    except FetchFailed as failure:
        found = {"failed": str(failure)} if options.known else _cached(options.cache, str(failure))
    print(json.dumps(found))


def fetch_champion(registry: str, cache: Path, known: Sequence[str]) -> dict[str, Any]:
    """Bring the champion's bundle into the cache; FetchFailed when S3 or the disk does not let us."""
    from botocore.exceptions import BotoCoreError, ClientError

    bucket, _, prefix = registry.removeprefix("s3://").partition("/")
    prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
    client = _open_client(registry)
    try:
        text, etag = _read_object(client, bucket, prefix + CHAMPION_NAME, MAX_CHAMPION_BYTES)
        try:
            version = parse_champion(text, f"s3://{bucket}/{prefix}{CHAMPION_NAME}")
        except BundleError as error:
            return {"fingerprint": f"@{etag}", "refused": _facts(error)}
        fingerprint = f"{version}@{etag}"
        if fingerprint in known:
            return {"fingerprint": fingerprint}
        try:
            folder = _fetch_bundle(client, bucket, f"{prefix}bundles/{version}/", cache, version)
        except BundleError as error:
            return {"fingerprint": fingerprint, "refused": _facts(error)}
        (cache / CHAMPION_NAME).write_text(json.dumps({"version": version, "fingerprint": fingerprint}))
        _prune(cache, version)
        return {"fingerprint": fingerprint, "folder": str(folder)}
    except ClientError as error:
        code, mend = error.response["Error"].get("Code", ""), "see to the bucket, the credentials and their policy"
        if code in ("NoSuchKey", "404"):
            mend = "a first run of the pipeline makes a champion"
        raise FetchFailed(f"{registry}: S3 answers {code} ({error.operation_name}); {mend}") from error
    except BotoCoreError as error:
        raise FetchFailed(f"{registry}: {error}; see to the network, AWS_ENDPOINT_URL and the credentials") from error
    except OSError as error:
        raise FetchFailed(f"{cache}: {error}; MODEL_CACHE names a folder that can be written") from error
    finally:
        client.close()


def _open_client(registry: str) -> "S3Client":
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    config = Config(connect_timeout=5, read_timeout=30, retries={"mode": "standard", "max_attempts": 3})
    try:
        return boto3.session.Session().client("s3", config=config)
    except (BotoCoreError, ValueError) as error:
        raise FetchFailed(f"{registry}: {error}; see to AWS_ENDPOINT_URL, AWS_REGION and the profile") from error


def _read_object(client: "S3Client", bucket: str, key: str, max_bytes: int) -> tuple[bytes, str]:
    answer = client.get_object(Bucket=bucket, Key=key)
    return answer["Body"].read(max_bytes + 1), answer["ETag"].strip('"')


def _fetch_bundle(client: "S3Client", bucket: str, prefix: str, cache: Path, version: str) -> Path:
    from boto3.s3.transfer import TransferConfig
    from botocore.exceptions import ClientError

    folder = cache / version
    if folder.exists():
        try:
            verify_bundle(folder)
            return folder
        except BundleError:
            shutil.rmtree(folder)
    cache.mkdir(parents=True, exist_ok=True)
    partial = cache / f".partial-{os.getpid()}"
    where = f"s3://{bucket}/{prefix}"
    partial.mkdir()
    try:
        text, _ = _read_object(client, bucket, prefix + MANIFEST_NAME, MAX_MANIFEST_BYTES)
        manifest = parse_manifest(text, where=where + MANIFEST_NAME)  # refuses names that leave the folder
        needed = sum(record.size_bytes for record in manifest.files.values()) + SPARE_BYTES
        free = shutil.disk_usage(cache).free
        if free < needed:
            raise FetchFailed(f"{cache}: {free >> 20} MiB free, the bundle needs {needed >> 20}; make room")
        few = TransferConfig(max_concurrency=2)  # each holds 8 MiB
        for name in manifest.files:
            client.download_file(bucket, prefix + name, str(partial / name), Config=few)
        (partial / MANIFEST_NAME).write_bytes(text)
        verify_bundle(partial)
        partial.rename(folder)
    except ClientError as error:
        if error.response["Error"].get("Code") in ("NoSuchKey", "404"):
            mend = "copy the bundle to the registry again, the manifest last"
            raise FileDamaged("a file that belongs to the bundle is missing", where=where, mend=mend) from error
        raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def _prune(cache: Path, version: str) -> None:
    bundles = [path for path in cache.iterdir() if path.is_dir() and path.name != version]
    fetching = [path for path in bundles if path.name.startswith(".partial-")]
    kept = sorted(set(bundles) - set(fetching), key=lambda path: path.stat().st_mtime, reverse=True)
    dead = [path for path in fetching if not Path(f"/proc/{path.name.removeprefix('.partial-')}").exists()]
    for path in [*kept[N_CACHED_BUNDLES - 1 :], *dead]:
        shutil.rmtree(path, ignore_errors=True)


def _cached(cache: Path, failure: str) -> dict[str, Any]:
    try:
        last = json.loads((cache / CHAMPION_NAME).read_bytes())
        folder = cache / parse_champion(json.dumps(last).encode(), str(cache / CHAMPION_NAME))
        verify_bundle(folder)
        return {"fingerprint": str(last["fingerprint"]), "folder": str(folder), "warning": failure}
    except (OSError, ValueError, KeyError, BundleError):
        return {"failed": failure}


def _facts(error: BundleError) -> dict[str, str]:
    return {"what": error.what, "where": error.where, "mend": error.mend}


if __name__ == "__main__":
    main()
    sys.stdout.flush()
