"""Delete one version so that a kill at any moment leaves it whole, or invisible and finished by whoever comes next.

The deletion is announced in registry/pruned/{version}.json, then the manifest goes, then the rest.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from pipelines.errors import ArtefactError
from pipelines.lake.base import Lake
from pipelines.registry.layout import bundle_folder, contents_key, evaluation_folder, note_key


def announce(lake: Lake, note: Mapping[str, Any]) -> None:
    """Write down that a version is about to be deleted: `version`, `who`, `why`, `when`."""
    _write(lake, {**note, "is_finished": False})


def withdraw(lake: Lake, version: str) -> None:
    """Forget an announcement that nothing has followed."""
    lake.delete(note_key(version))


def delete(lake: Lake, version: str) -> None:
    """Delete an announced version."""
    lake.delete(f"{bundle_folder(version)}/manifest.json")
    for key in files_of(lake, version):
        lake.delete(key)
    lake.delete(contents_key(version))  # last: the name is taken until all of it is gone
    _write(lake, {**_read(lake, version), "is_finished": True})


def finish_deletion(lake: Lake, version: str) -> None:
    """Finish the deletion of a version if one was killed; one that had not begun is forgotten."""
    if not lake.exists(note_key(version)) or _read(lake, version)["is_finished"]:
        return
    if lake.exists(f"{bundle_folder(version)}/manifest.json"):
        withdraw(lake, version)
    else:
        delete(lake, version)


def is_going(lake: Lake, version: str, now: datetime) -> bool:
    """Say whether a version is being deleted, or gone; an announcement that nothing followed in an hour was killed."""
    if not lake.exists(note_key(version)):
        return False
    if not lake.exists(f"{bundle_folder(version)}/manifest.json"):
        return True
    note = _read(lake, version)
    try:
        is_recent = now - datetime.fromisoformat(str(note.get("when"))) < timedelta(hours=1)
    except (ValueError, TypeError):
        is_recent = False
    return is_recent and not note["is_finished"]


def announced(lake: Lake) -> list[str]:
    """Name every version that was deleted, or is about to be."""
    return [key.rsplit("/", 1)[1].removesuffix(".json") for key in lake.list("registry/pruned/")]


def files_of(lake: Lake, version: str) -> dict[str, int]:
    """Key → size in bytes of a version's bundle and of the model as it was evaluated."""
    return lake.sizes(f"{bundle_folder(version)}/") | lake.sizes(f"{evaluation_folder(version)}/")


def _write(lake: Lake, note: Mapping[str, Any]) -> None:
    text = json.dumps(note, indent=1, ensure_ascii=False, sort_keys=True) + "\n"
    lake.write_bytes(note_key(note["version"]), text.encode())


def _read(lake: Lake, version: str) -> dict[str, Any]:
    key = note_key(version)
    try:
        note = json.loads(lake.read_bytes(key))
        return {**note, "version": version, "is_finished": bool(note["is_finished"])}
    except (ValueError, KeyError, TypeError) as error:
        raise ArtefactError(
            f"{lake.uri_of(key)} is no note of a deletion ({type(error).__name__}: {error}); delete it: bundle "
            f"{version} then stays if its manifest is still there"
        ) from error
