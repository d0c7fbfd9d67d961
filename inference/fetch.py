"""Copy the champion's bundle into the cache and verify it; run by the server as a process of its own.

    python -m inference.fetch --uri s3://bucket/prefix/registry --cache DIR [--known FINGERPRINT …]

One JSON object on stdout: `fingerprint` with `folder` (verified, ready to load), with `refused` (what, where, mend) or
with neither when the fingerprint is known; or `failed`, a message, when trying again may help. From S3 also `poll_url`
and `etag`: with them the server asks for changes without credentials and without boto3, which costs it 25 MiB.
"""

import argparse
import contextlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from inference.bundle import verify_bundle
from inference.cache import (
    CHAMPION_NAME,
    PARTIAL_PREFIX,
    bundle_folder,
    hold,
    is_verified,
    mark_verified,
    missing_bytes,
    prune,
    registry_folder,
    remove_dead,
)
from inference.champion import MAX_CHAMPION_BYTES, fingerprint_of, parse_champion
from inference.errors import BundleError, FetchFailed, FileDamaged
from inference.fetch_s3 import open_bucket
from inference.limits import yield_processor
from inference.manifest import MANIFEST_NAME, MAX_MANIFEST_BYTES, check_claim, parse_manifest
from inference.origin import FolderOrigin, Missing, Origin
from inference.pages import drop_written

LARGE_BYTES = 16 << 20  # histories; what every lookup begins with is smaller, and better warm


def main(arguments: Sequence[str] | None = None) -> None:
    """Print what was found; a message instead of a traceback for everything that can go wrong outside."""
    parser = argparse.ArgumentParser(prog="python -m inference.fetch", description="Fetch the champion's bundle.")
    parser.add_argument("--uri", required=True)
    parser.add_argument("--cache", required=True, type=Path)
    parser.add_argument("--known", action="append", default=[])
    options = parser.parse_args(arguments)
    try:
        found = fetch_champion(options.uri, options.cache, options.known)
    except FetchFailed as failure:
        found = {"failed": str(failure)}
    print(json.dumps(found))


def fetch_champion(uri: str, cache: Path, known: Sequence[str]) -> dict[str, Any]:
    """Bring the champion's bundle into the cache; FetchFailed when the registry or the disk does not let us."""
    folder = registry_folder(cache, uri)
    try:
        if uri.startswith("s3://"):
            with open_bucket(uri) as bucket:
                return _fetch(bucket, folder, known) | bucket.poll_facts()
        return _fetch(FolderOrigin(Path(uri.removeprefix("file://"))), folder, known)
    except OSError as error:
        where = f"{error.filename or cache}: {error.strerror}"
        raise FetchFailed(f"{where}; MODEL_CACHE names a folder that can be written") from error


def _fetch(origin: Origin, cache: Path, known: Sequence[str]) -> dict[str, Any]:
    prefix, text, state = "", b"", ""
    if not origin.is_bundle():
        text = origin.read(CHAMPION_NAME, MAX_CHAMPION_BYTES)
        try:
            prefix = f"bundles/{parse_champion(text, origin.where(CHAMPION_NAME))}/"
        except BundleError as error:
            return {"fingerprint": fingerprint_of(text, ""), "refused": _facts(error)}
    state = origin.state(prefix + MANIFEST_NAME)
    fingerprint = fingerprint_of(text, state)
    if fingerprint in known:
        return {"fingerprint": fingerprint}
    try:
        _check_registered(origin, prefix)
        try:
            bundle = _copy(origin, prefix, cache)
        except OSError:
            if not isinstance(origin, FolderOrigin):
                raise
            verify_bundle(Path(origin.where(prefix)))
            bundle = None
    except BundleError as error:
        return {"fingerprint": fingerprint, "refused": _facts(error)}
    if bundle is None:
        return {"fingerprint": fingerprint, "folder": origin.where(prefix.rstrip("/")), "in_place": True}
    prune(cache, bundle)
    return {"fingerprint": fingerprint, "folder": str(bundle)}


def _check_registered(origin: Origin, prefix: str) -> None:
    """Hold a registry's manifest against what the version was bound to; of one put there by hand there is nothing."""
    if not prefix:
        return
    version = prefix.split("/")[1]
    claim = f"contents/{version}.json"
    with contextlib.suppress(Missing):  # a manifest that is missing is found out, and said, by the copy
        text = origin.read(claim, MAX_MANIFEST_BYTES)
        check_claim(text, version, origin.read(prefix + MANIFEST_NAME, MAX_MANIFEST_BYTES), where=origin.where(claim))


def _copy(origin: Origin, prefix: str, cache: Path) -> Path | None:
    """Copy and verify one bundle; None when a folder's does not fit the disk, for it can be served where it is."""
    where = origin.where(prefix + MANIFEST_NAME)
    try:
        text = origin.read(prefix + MANIFEST_NAME, MAX_MANIFEST_BYTES)
        manifest = parse_manifest(text, where=where)  # refuses names that leave the folder
        folder = bundle_folder(cache, manifest.version, text)
        if folder.exists():
            if is_verified(folder):
                os.utime(folder)
                return folder
            shutil.rmtree(folder)
        cache.mkdir(parents=True, exist_ok=True)
        remove_dead(cache)
        if lacking := missing_bytes(cache, manifest):
            if isinstance(origin, FolderOrigin):
                verify_bundle(Path(origin.where(prefix)))
                return None
            raise FetchFailed(f"{cache}: {lacking >> 20} MiB more are needed for the bundle; make room")
        partial = Path(tempfile.mkdtemp(prefix=PARTIAL_PREFIX, dir=cache))
        lock = hold(partial)
        try:
            for name in manifest.files:
                origin.copy(prefix + name, partial / name)
                drop_written(partial / name)
            (partial / MANIFEST_NAME).write_bytes(text)
            verify_bundle(partial)
            mark_verified(partial)
            for name, record in manifest.files.items():
                if record.size_bytes >= LARGE_BYTES:
                    drop_written(partial / name)
            partial.chmod(0o755)
            partial.rename(folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
            os.close(lock)
    except Missing as error:
        mend = "copy the bundle to the registry again, the manifest last"
        raise FileDamaged("a file that belongs to the bundle is missing", where=str(error), mend=mend) from error
    return folder


def _facts(error: BundleError) -> dict[str, str]:
    return {"what": error.what, "where": error.where, "mend": error.mend}


if __name__ == "__main__":
    if "--known" in sys.argv:  # a model answers beside this
        yield_processor()
    main()
    sys.stdout.flush()
