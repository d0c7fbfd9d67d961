"""Bundles on the server's own disk: copied from where they are published, verified once, and known by their content.

    MODEL_CACHE/{key of the registry}/{version}-{12 digits of the manifest's sha256}/   a bundle, with .verified
    MODEL_CACHE/{key of the registry}/champion.json                the last one that was good, and what failed in use

A bundle is served from here and never from the lake itself: a file that somebody truncates there would end the server,
which has it mapped. The manifest lists the sha256 of every file, so its own hash stands for them all.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from inference.errors import BundleError
from inference.manifest import MANIFEST_NAME, Manifest, parse_manifest

CHAMPION_NAME = "champion.json"
PARTIAL_PREFIX = ".partial-"
VERIFIED_NAME = ".verified"
N_CACHED_BUNDLES = 2  # the champion and the one before it, for a rollback without a download
SPARE_BYTES = 8 << 20


def registry_folder(cache: Path, uri: str) -> Path:
    """Give the part of the cache that belongs to one registry, so that no server answers from another's."""
    return cache / hashlib.sha256(uri.encode()).hexdigest()[:12]


def bundle_folder(folder: Path, version: str, manifest_text: bytes) -> Path:
    """Name a bundle by its content: the same version sealed again is another one."""
    return folder / f"{version}-{hashlib.sha256(manifest_text).hexdigest()[:12]}"


def mark_verified(folder: Path) -> None:
    """Note what a bundle's files look like now that all of them were hashed and checked."""
    (folder / VERIFIED_NAME).write_text(json.dumps(_state(folder)))


def is_verified(folder: Path) -> bool:
    """Say whether the files are still those that were checked, by size, time and inode; False when in doubt."""
    try:
        noted = json.loads((folder / VERIFIED_NAME).read_bytes())
        return bool(noted == _state(folder))
    except (OSError, ValueError):
        return False


def _state(folder: Path) -> dict[str, list[int]]:
    manifest = parse_manifest((folder / MANIFEST_NAME).read_bytes(), where=str(folder))
    states = {}
    for name in (MANIFEST_NAME, *manifest.files):
        found = (folder / name).stat()
        states[name] = [found.st_size, found.st_mtime_ns, found.st_ino]
    return states


def missing_bytes(folder: Path, manifest: Manifest) -> int:
    """Say how much room the disk lacks for one more bundle; 0 when it suffices."""
    needed = sum(record.size_bytes for record in manifest.files.values()) + SPARE_BYTES
    return max(0, needed - shutil.disk_usage(folder).free)


def note_champion(folder: Path, fingerprint: str, bundle: Path, rolled_back: Mapping[str, str]) -> None:
    """Remember the champion that answers, for a restart without the registry; a bundle served in place is not ours.

    `rolled_back` says of fingerprints why they are not to be tried again.
    """
    if bundle.parent != folder:
        return
    partial = folder / f".{CHAMPION_NAME}-{os.getpid()}"
    noted = {"fingerprint": fingerprint, "folder": bundle.name, "rolled_back": dict(rolled_back)}
    partial.write_text(json.dumps(noted))
    partial.replace(folder / CHAMPION_NAME)


def last_champion(folder: Path) -> tuple[str, Path] | None:
    """Give fingerprint and folder of the last good champion, if its files are still those that were verified."""
    try:
        noted = json.loads((folder / CHAMPION_NAME).read_bytes())
        bundle = folder / Path(noted["folder"]).name
        return (str(noted["fingerprint"]), bundle) if is_verified(bundle) else None
    except (OSError, ValueError, KeyError, TypeError, BundleError):
        return None


def rolled_back_champions(folder: Path) -> dict[str, str]:
    """Give what was rolled back by this server or one before it: fingerprint → why."""
    try:
        noted = json.loads((folder / CHAMPION_NAME).read_bytes())
        return {str(fingerprint): str(reason) for fingerprint, reason in noted["rolled_back"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def hold(partial: Path) -> int:
    """Mark a folder as being fetched into until the descriptor is closed, by the death of the process at the latest."""
    lock = os.open(partial, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    return lock


def remove_dead(folder: Path) -> None:
    """Remove what dead fetches left; a process number would not tell, for a container's begin anew with it."""
    for partial in folder.glob(f"{PARTIAL_PREFIX}*"):
        with contextlib.suppress(OSError):  # held, or gone meanwhile
            lock = os.open(partial, os.O_RDONLY)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(partial, ignore_errors=True)
            finally:
                os.close(lock)


def prune(folder: Path, kept: Path) -> None:
    """Remove all but `kept`, the last good one and the newest others, and what dead fetches left."""
    good = last_champion(folder)  # however many came after it: a bundle that verifies may still fail when it is loaded
    folders = [path for path in folder.iterdir() if path.is_dir() and path != kept]
    bundles = [path for path in folders if not path.name.startswith(PARTIAL_PREFIX)]
    bundles.sort(key=lambda path: (good is not None and path == good[1], path.stat().st_mtime), reverse=True)
    for path in bundles[N_CACHED_BUNDLES - 1 :]:
        shutil.rmtree(path, ignore_errors=True)
    remove_dead(folder)
