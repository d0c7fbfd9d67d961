"""Immutable bundles in the lake, each with the model as it was evaluated."""

from __future__ import annotations

import hashlib
import json
import shutil
from contextlib import suppress
from datetime import date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from inference.bundle import load_bundle, verify_bundle
from inference.engine import Engine
from inference.errors import BundleError
from inference.manifest import Manifest, check_claim, parse_manifest
from pipelines.errors import ArtefactError, LakeConflict, LakeKeyMissing, UsageError
from pipelines.lake.base import FileEntry, Lake, file_sha256
from pipelines.registry.deletion import finish_deletion
from pipelines.registry.layout import bundle_folder, contents_key, evaluation_folder

EVALUATED_FILES = frozenset({"model.onnx", "article_ids.npy"})
"""Of the model as it was evaluated: what it takes to ask it."""


def register(lake: Lake, folder: Path, manifest: Manifest, evaluated: Path) -> bool:
    """Copy a sealed bundle into the registry, manifest last; False when the same bundle is already there.

    `evaluated` is a folder with the model as it was evaluated, which never saw its label week. Of a version that is
    there, the same files are stored once more, which mends those that were damaged; its manifest stays, though another
    champion may be the parent now.

    Raises UsageError when the version exists with other content: versions are immutable.
    """
    key = f"{bundle_folder(manifest.version)}/manifest.json"
    sealed = (folder / "manifest.json").read_bytes()
    is_there = lake.exists(key)
    if is_there:
        stored = lake.read_bytes(key)
        if _has_same_files(stored, manifest):
            _upload_files(lake, folder, manifest)
            return False
        claimed = _read_claim(lake, manifest.version).get("manifest")
        if claimed in (None, hashlib.sha256(stored).hexdigest()):
            raise UsageError(
                f"{lake.uri_of(key)} exists with other content, and versions are immutable; "
                "choose another model-version, or 'auto'"
            )
    finish_deletion(lake, manifest.version)
    entries = [
        FileEntry(
            key=f"{evaluation_folder(manifest.version)}/{path.name}",
            size_bytes=path.stat().st_size,
            sha256=file_sha256(path),
        )
        for path in sorted(evaluated.iterdir())
    ]
    _claim(lake, manifest, sealed, entries)
    for entry in entries:
        lake.upload(evaluated / entry.key.rsplit("/", 1)[1], entry.key, sha256=entry.sha256)
    _upload_files(lake, folder, manifest)
    try:
        lake.write_bytes(key, sealed, if_absent=not is_there)  # what is there is damaged: not what the claim binds
    except LakeConflict:
        if lake.read_bytes(key) != sealed:  # two runs at once with different bundles under one chosen name
            raise
    return True


def _has_same_files(stored: bytes, manifest: Manifest) -> bool:
    with suppress(BundleError):
        return parse_manifest(stored, where="").files == manifest.files
    return False


def _upload_files(lake: Lake, folder: Path, manifest: Manifest) -> None:
    for name in sorted(manifest.files):
        lake.upload(folder / name, f"{bundle_folder(manifest.version)}/{name}", sha256=manifest.files[name].sha256)


def _claim(lake: Lake, manifest: Manifest, sealed: bytes, evaluation: list[FileEntry]) -> None:
    """Bind the version to this manifest and these files before the first is uploaded.

    So two runs never mix theirs under one name.

    A run that was killed after it finds its own claim when it runs again.
    """
    contents = {
        "manifest": hashlib.sha256(sealed).hexdigest(),
        "parent": manifest.parent,
        "bundle": {name: record.sha256 for name, record in manifest.files.items()},
        "evaluation": [entry.model_dump() for entry in evaluation],
    }
    key, text = contents_key(manifest.version), (json.dumps(contents, indent=1, sort_keys=True) + "\n").encode()
    try:
        lake.write_bytes(key, text, if_absent=True)
    except LakeConflict:
        if lake.read_bytes(key) != text:
            raise UsageError(
                f"{lake.uri_of(key)} says that another run took the version {manifest.version!r} for other content, "
                "and versions are immutable; choose another model-version, or 'auto'"
            ) from None


def _read_claim(lake: Lake, version: str) -> dict[str, Any]:
    """Read what a version is bound to; empty when nothing is, or when it cannot be read."""
    with suppress(LakeKeyMissing, ValueError):
        claim = json.loads(lake.read_bytes(contents_key(version)))
        if isinstance(claim, dict):
            return claim
    return {}


def bound_parent(lake: Lake, version: str, otherwise: str | None) -> str | None:
    """Give the parent that a version has, or is bound to by a registration that did not end; else `otherwise`.

    So a run that is made again seals the same manifest, whoever became champion meanwhile.
    """
    with suppress(ArtefactError):
        if version in list_versions(lake):
            return read_bundle_manifest(lake, version).parent
    parent = _read_claim(lake, version).get("parent", otherwise)
    return parent if isinstance(parent, str) else None


def fetch_array(lake: Lake, manifest: Manifest, name: str, scratch: Path) -> npt.NDArray[Any]:
    """Read one array of a bundle; raises ArtefactError when it is gone or not what was sealed."""
    key = f"{bundle_folder(manifest.version)}/{name}"
    try:
        record = manifest.files[name]
        entry = FileEntry(key=key, size_bytes=record.size_bytes, sha256=record.sha256)
        array: npt.NDArray[Any] = np.load(lake.fetch(entry, scratch), allow_pickle=False)
    except (KeyError, ValueError, OSError) as error:
        raise ArtefactError(f"{lake.uri_of(key)} cannot be read ({type(error).__name__}: {error})") from error
    return array


def fetch_evaluated(lake: Lake, version: str, folder: Path) -> None:
    """Copy the model as it was evaluated into a folder; raises ArtefactError when it is gone or not what it was."""
    key = contents_key(version)
    try:
        entries = [FileEntry.model_validate(entry) for entry in json.loads(lake.read_bytes(key))["evaluation"]]
        for entry in entries:
            fetched, target = lake.fetch(entry, folder), folder / entry.key.rsplit("/", 1)[1]
            if fetched != target:
                shutil.copyfile(fetched, target)
        if missing := sorted(EVALUATED_FILES - {path.name for path in folder.iterdir()}):
            raise ArtefactError(f"{lake.uri_of(key)} names no {', '.join(missing)}")
    except (ArtefactError, ValueError, KeyError, TypeError) as error:
        raise ArtefactError(f"the model as it was evaluated is missing or damaged ({error})") from error


def list_versions(lake: Lake) -> list[str]:
    """Versions with a manifest, sorted."""
    return sorted(key.split("/")[2] for key in lake.list("registry/bundles/") if key.endswith("/manifest.json"))


def read_bundle_manifest(lake: Lake, version: str) -> Manifest:
    """Read what was registered under a version; raises ArtefactError for a manifest that was rewritten since."""
    key = f"{bundle_folder(version)}/manifest.json"
    try:
        text = lake.read_bytes(key)
        manifest = parse_manifest(text, where=lake.uri_of(key))
        with suppress(LakeKeyMissing):  # of one registered by hand the manifest is all there is
            check_claim(lake.read_bytes(contents_key(version)), version, text, where=lake.uri_of(contents_key(version)))
        if manifest.version != version:
            raise ArtefactError(f"{lake.uri_of(key)} is the manifest of {manifest.version!r}; restore it from a copy")
        return manifest
    except LakeKeyMissing:
        known = ", ".join(list_versions(lake)) or "none yet"
        raise UsageError(f"there is no bundle {version!r} in {lake.uri_of('registry')}; there are: {known}") from None
    except BundleError as error:
        raise ArtefactError(str(error)) from error


def by_age(lake: Lake, manifest: Manifest) -> tuple[date, datetime, str]:
    """Sort key, the oldest data first; of the same data, the bundle that was registered first."""
    made_at = lake.written_at(f"{bundle_folder(manifest.version)}/manifest.json")
    return manifest.trained_through, made_at, manifest.version


def fetch_bundle(lake: Lake, version: str, folder: Path) -> Manifest:
    """Copy a bundle out of the lake and verify it; raises ArtefactError when it is not what was sealed."""
    manifest = read_bundle_manifest(lake, version)
    folder.mkdir(parents=True, exist_ok=True)
    for name, record in manifest.files.items():
        key = f"{bundle_folder(version)}/{name}"
        entry = FileEntry(key=key, size_bytes=record.size_bytes, sha256=record.sha256)
        fetched = lake.fetch(entry, folder)
        if fetched != folder / name:
            shutil.copyfile(fetched, folder / name)
    (folder / "manifest.json").write_bytes(lake.read_bytes(f"{bundle_folder(version)}/manifest.json"))
    try:
        return verify_bundle(folder)
    except BundleError as error:
        raise ArtefactError(f"bundle {version} is damaged: {error}") from error


def check_answers(lake: Lake, version: str) -> None:
    """Fetch, verify and load a bundle and replay its golden requests, as a server would before serving it."""
    with lake.scratch() as scratch:
        folder = scratch / "bundle"
        fetch_bundle(lake, version, folder)
        try:
            Engine(load_bundle(folder)).certify()
        except BundleError as error:
            raise ArtefactError(f"bundle {version} does not answer: {error}") from error
