"""The registry in the lake: immutable bundles, the champion pointer, and who moved it when and why.

registry/bundles/{version}/…          sealed files, manifest.json last
registry/champion.json                {"version", "previous", "promoted_at", "who", "why"}
registry/audit/{time}-{version}.json  one event each, never rewritten

python -m pipelines.registry list --lake ./lake
python -m pipelines.registry rollback --lake ./lake --reason "returns went up"
"""

from __future__ import annotations

import getpass
import json
import os
import shutil
import socket
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from inference.bundle import load_bundle, verify_bundle
from inference.engine import Engine
from inference.errors import BundleError
from inference.manifest import Manifest, parse_manifest
from pipelines.edge import run_app
from pipelines.errors import ArtefactError, LakeConflict, LakeKeyMissing, UsageError
from pipelines.lake import open_lake
from pipelines.lake.base import FileEntry, Lake
from pipelines.settings import lake_uri

CHAMPION_KEY = "registry/champion.json"


@dataclass(frozen=True)
class Champion:
    """The version that is served, and the etag that a conditional move needs."""

    version: str
    previous: str | None
    etag: str


def bundle_folder(version: str) -> str:
    return f"registry/bundles/{version}"


def evaluation_folder(version: str) -> str:
    """Where the model as it was evaluated lies: fitted before the cutoff, so that later ones can be held against it."""
    return f"registry/evaluations/{version}"


def register(lake: Lake, folder: Path, manifest: Manifest, evaluated: Path) -> bool:
    """Copy a sealed bundle into the registry, manifest last; False when the same bundle is already there.

    `evaluated` is a folder with the model as it was evaluated, which never saw its label week.

    Raises UsageError when the version exists with other content: versions are immutable.
    """
    key = f"{bundle_folder(manifest.version)}/manifest.json"
    sealed = (folder / "manifest.json").read_bytes()
    if lake.exists(key):
        if lake.read_bytes(key) == sealed:
            return False
        raise UsageError(
            f"{lake.uri_of(key)} exists with other content, and versions are immutable; "
            "choose another model-version, or 'auto'"
        )
    for path in sorted(evaluated.iterdir()):
        lake.upload(path, f"{evaluation_folder(manifest.version)}/{path.name}")
    for name in sorted(manifest.files):
        lake.upload(folder / name, f"{bundle_folder(manifest.version)}/{name}")
    try:
        lake.write_bytes(key, sealed, if_absent=True)
    except LakeConflict:
        if lake.read_bytes(key) != sealed:  # two runs at once with different bundles under one chosen name
            raise
    return True


def fetch_evaluated(lake: Lake, version: str, folder: Path) -> None:
    """Copy the model as it was evaluated into a folder."""
    keys = lake.list(f"{evaluation_folder(version)}/")
    if not keys:
        raise ArtefactError(
            f"{lake.uri_of(evaluation_folder(version))} is gone, so champion {version} cannot be compared; "
            "promote another version by hand: python -m pipelines.registry promote VERSION --reason …"
        )
    for key in keys:
        (folder / key.rsplit("/", 1)[1]).write_bytes(lake.read_bytes(key))


def list_versions(lake: Lake) -> list[str]:
    """Versions with a manifest, sorted."""
    return sorted(key.split("/")[2] for key in lake.list("registry/bundles/") if key.endswith("/manifest.json"))


def read_bundle_manifest(lake: Lake, version: str) -> Manifest:
    key = f"{bundle_folder(version)}/manifest.json"
    try:
        return parse_manifest(lake.read_bytes(key), where=lake.uri_of(key))
    except LakeKeyMissing:
        known = ", ".join(list_versions(lake)) or "none yet"
        raise UsageError(f"there is no bundle {version!r} in {lake.uri_of('registry')}; there are: {known}") from None
    except BundleError as error:
        raise ArtefactError(str(error)) from error


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


def read_champion(lake: Lake) -> Champion | None:
    try:
        text, etag = lake.read_versioned(CHAMPION_KEY)
    except LakeKeyMissing:
        return None
    try:
        document = json.loads(text)
        return Champion(document["version"], document.get("previous"), etag)
    except (ValueError, KeyError, TypeError) as error:
        raise ArtefactError(
            f"{lake.uri_of(CHAMPION_KEY)} is no champion pointer ({error}); promote a version by hand: "
            "python -m pipelines.registry promote VERSION --reason …"
        ) from error


def move_champion(
    lake: Lake, version: str, expected: Champion | None, *, action: str, why: str, who: str, now: datetime
) -> None:
    """Point to another version, if nobody else has moved the pointer since `expected` was read; then note it.

    Raises LakeConflict (exit 75) when another promotion won.
    """
    previous = expected.version if expected else None
    event = {
        "action": action,
        "from": previous,
        "to": version,
        "who": who,
        "why": why,
        "when": now.isoformat(timespec="seconds"),
    }
    pointer = {"version": version, "previous": previous, "who": who, "why": why, "promoted_at": event["when"]}
    text = (json.dumps(pointer, indent=1, ensure_ascii=False) + "\n").encode()
    if expected is None:
        lake.write_bytes(CHAMPION_KEY, text, if_absent=True)
    else:
        lake.write_bytes(CHAMPION_KEY, text, if_match=expected.etag)
    lake.write_bytes(
        f"registry/audit/{now.strftime('%Y%m%dT%H%M%S.%fZ')}-{version}.json",
        (json.dumps(event, indent=1, ensure_ascii=False) + "\n").encode(),
    )


def read_audit(lake: Lake) -> list[dict[str, Any]]:
    """Every move of the champion, oldest first."""
    return [json.loads(lake.read_bytes(key)) for key in lake.list("registry/audit/")]


def check_and_move(lake: Lake, version: str, *, action: str, why: str, who: str, now: datetime) -> None:
    """Fetch, verify and load a bundle, replay its golden requests, and only then move the champion to it."""
    expected = read_champion(lake)
    if expected and expected.version == version:
        raise UsageError(f"{version} is the champion already")
    with lake.scratch() as scratch:
        folder = scratch / "bundle"
        fetch_bundle(lake, version, folder)
        try:
            Engine(load_bundle(folder)).certify()
        except BundleError as error:
            raise ArtefactError(f"bundle {version} does not answer: {error}") from error
    move_champion(lake, version, expected, action=action, why=why, who=who, now=now)


def current_user() -> str:
    """Who moves the pointer: the pod's workflow, or the person at this machine."""
    workflow = os.environ.get("ARGO_WORKFLOW_NAME")
    return f"workflow {workflow}" if workflow else f"{getpass.getuser()}@{socket.gethostname()}"


app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Bundles, the champion, and who moved it when and why."
)
LakeOption = Annotated[str, typer.Option("--lake", help="Folder or s3://bucket/prefix; empty = $S3_DATA_LAKE_BUCKET.")]
ReasonOption = Annotated[str, typer.Option("--reason", help="Why; kept in the audit for ever.")]


@app.command("list")
def list_command(lake: LakeOption = "") -> None:
    """List all bundles, newest data last, the champion marked."""
    opened = open_lake(lake_uri(lake))
    champion = read_champion(opened)
    table = Table("", "version", "evaluated from", "trained through", "map_at_12", "best baseline", "parent")
    for version in list_versions(opened):
        manifest = read_bundle_manifest(opened, version)
        best = max((values.get("map_at_12") or 0.0 for values in manifest.baselines.values()), default=0.0)
        is_champion = champion is not None and champion.version == version
        table.add_row(
            "champion" if is_champion else "",
            version,
            str(manifest.cutoff_date),
            str(manifest.trained_through),
            f"{manifest.metrics.get('map_at_12') or float('nan'):.4f}",
            f"{best:.4f}",
            manifest.parent or "",
        )
    Console().print(table)


@app.command("show")
def show_command(
    version: Annotated[str, typer.Argument(help="Version, or 'champion'; with no version, the audit.")] = "",
    lake: LakeOption = "",
) -> None:
    """Print a bundle's manifest as JSON, or every move of the champion."""
    opened = open_lake(lake_uri(lake))
    if not version:
        for event in read_audit(opened):
            typer.echo(json.dumps(event, ensure_ascii=False))
        return
    if version == "champion":
        champion = read_champion(opened)
        if champion is None:
            raise UsageError(f"{opened.uri_of('registry')} has no champion yet; run python -m pipelines.submit --local")
        version = champion.version
    typer.echo(read_bundle_manifest(opened, version).to_json(), nl=False)


@app.command("promote")
def promote_command(version: str, reason: ReasonOption, lake: LakeOption = "") -> None:
    """Make a version the champion by hand, after verifying and loading it."""
    check_and_move(
        open_lake(lake_uri(lake)), version, action="promote", why=reason, who=current_user(), now=datetime.now(UTC)
    )
    typer.echo(f"champion is now {version}")


@app.command("rollback")
def rollback_command(reason: ReasonOption, lake: LakeOption = "") -> None:
    """Go back to the champion before this one, after verifying and loading it."""
    opened = open_lake(lake_uri(lake))
    champion = read_champion(opened)
    if champion is None or champion.previous is None:
        raise UsageError("there is no earlier champion to go back to; see: python -m pipelines.registry show")
    check_and_move(opened, champion.previous, action="rollback", why=reason, who=current_user(), now=datetime.now(UTC))
    typer.echo(f"champion is now {champion.previous}")


if __name__ == "__main__":
    run_app(app)
