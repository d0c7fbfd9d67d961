"""python -m pipelines.registry list|show|promote|rollback|prune."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from operator import itemgetter
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from inference.manifest import Manifest
from pipelines.edge import run_app, this_python
from pipelines.errors import ArtefactError, UsageError
from pipelines.lake import Lake, LocalLake, open_lake
from pipelines.registry.bundles import by_age, list_versions, read_bundle_manifest
from pipelines.registry.champion import current_user, promote, read_audit, read_champion, roll_back
from pipelines.registry.retention import AUDIT_DAYS, plan, prune
from pipelines.settings import lake_uri

LAKE_FOLDERS = ("raw", "processed", "registry")
"""Any of them is in a lake behind its first step."""

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Bundles, the champion, and who moved it when and why."
)
LakeOption = Annotated[str, typer.Option("--lake", help="Folder or s3://bucket/prefix; empty = $S3_DATA_LAKE_BUCKET.")]


def _lake(uri: str) -> Lake:
    """Open a lake that is there: a mistyped folder must not look like one without bundles."""
    lake = open_lake(lake_uri(uri))
    if isinstance(lake, LocalLake):
        if not lake.root.is_dir():
            raise UsageError(f"there is no folder {lake.root}; give the --lake that the runs were made with")
        found = sorted(path.name for path in lake.root.iterdir() if not path.name.startswith("."))
        if found and not set(found) & set(LAKE_FOLDERS):
            near = [*lake.root.parents, *(lake.root / name for name in found)]
            lakes = [str(folder) for folder in near if (folder / "registry").is_dir()]
            raise UsageError(
                f"{lake.root} is no lake, which would hold {', '.join(LAKE_FOLDERS)}; "
                + (f"did you mean --lake {lakes[0]}?" if lakes else "give the --lake that the runs were made with")
            )
    return lake


def _said(reason: str) -> str:
    if not reason.strip():
        raise typer.BadParameter("say why: it is kept in the audit for ever")
    try:
        reason.encode()
    except UnicodeEncodeError:
        raise typer.BadParameter("it is no UTF-8 text, and could not be kept") from None
    return reason.strip()


ReasonOption = Annotated[str, typer.Option("--reason", callback=_said, help="Why; kept in the audit for ever.")]


@app.command("list")
def list_command(lake: LakeOption = "") -> None:
    """List all bundles, the newest data last and of the same data what was registered last; the champion is marked.

    map_at_12, and the best baseline beside it, are of the label week alone; "backtested" is over a backtest's weeks.
    """
    opened = _lake(lake)
    champion = read_champion(opened)
    versions = list_versions(opened)
    if not versions:
        typer.echo(f"no bundles in {opened.uri_of('registry')}")
        return
    manifests: list[Manifest] = []
    for version in versions:
        try:
            manifests.append(read_bundle_manifest(opened, version))
        except ArtefactError as error:
            typer.echo(f"left out: {error}", err=True)
    table = Table()
    for name in (
        "",
        "version",
        "trained through",
        "registered (UTC)",
        "evaluated from",
        "map_at_12",
        "best baseline",
        "backtested",
        "parent",
    ):
        table.add_column(name, overflow="fold")
    for (_, registered_at, _), manifest in sorted(((by_age(opened, one), one) for one in manifests), key=itemgetter(0)):
        best = max((values.get("map_at_12") or 0.0 for values in manifest.baselines.values()), default=0.0)
        map_at_12 = manifest.metrics.get("map_at_12")
        table.add_row(
            "champion" if champion is not None and champion.version == manifest.version else "",
            manifest.version,
            str(manifest.trained_through),
            f"{registered_at.astimezone(UTC):%Y-%m-%d %H:%M}",
            str(manifest.cutoff_date),
            "" if map_at_12 is None else f"{map_at_12:.4f}",
            f"{best:.4f}",
            "" if (pooled := manifest.metrics.get("backtest_map_at_12")) is None else f"{pooled:.4f}",
            manifest.parent or "",
        )
    # Into a pipe or a file every row is one line, however long.
    Console(width=None if sys.stdout.isatty() else 1000).print(table)


@app.command("show")
def show_command(
    version: Annotated[str, typer.Argument(help="Version, or 'champion'; with no version, the audit.")] = "",
    lake: LakeOption = "",
) -> None:
    """Print a bundle's manifest as JSON, or every move of the champion."""
    opened = _lake(lake)
    if not version:
        for event in read_audit(opened):
            typer.echo(json.dumps(event, ensure_ascii=False))
        return
    if version == "champion":
        champion = read_champion(opened)
        if champion is None:
            mend = f"run {this_python()} -m pipelines.submit --local"
            raise UsageError(f"{opened.uri_of('registry')} has no champion yet; {mend}")
        version = champion.version
    typer.echo(read_bundle_manifest(opened, version).to_json(), nl=False)


@app.command("promote")
def promote_command(version: str, reason: ReasonOption, lake: LakeOption = "") -> None:
    """Make a version the champion by hand, after verifying and loading it."""
    promote(_lake(lake), version, why=reason, who=current_user(), now=datetime.now(UTC))
    typer.echo(f"champion is now {version}")


@app.command("rollback")
def rollback_command(reason: ReasonOption, lake: LakeOption = "") -> None:
    """Go back to the champion before this one, after verifying and loading it; twice goes back by two."""
    earlier = roll_back(_lake(lake), why=reason, who=current_user(), now=datetime.now(UTC))
    typer.echo(f"champion is now {earlier}")


@app.command("prune")
def prune_command(
    keep: Annotated[int, typer.Option(help="How many of the newest bundles stay in any case.")],
    audit_days: Annotated[
        int, typer.Option(max=36_500, help="What was champion, or stopped being it, in so many days stays.")
    ] = AUDIT_DAYS,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would go, and why the others stay.")
    ] = False,
    reason: Annotated[str, typer.Option(help="Why; kept beside the name of what was deleted.")] = "retention",
    lake: LakeOption = "",
) -> None:
    """Delete old bundles; never the champion, the line it comes from, or what a rollback may want."""
    opened, now = _lake(lake), datetime.now(UTC)
    if dry_run:
        bundles = plan(opened, keep=keep, audit_days=audit_days, now=now)
    else:
        bundles = prune(opened, keep=keep, audit_days=audit_days, why=reason, who=current_user(), now=now)
    gone = "would go" if dry_run else "deleted"
    for one in bundles:
        typer.echo(f"{one.version}  {one.size_bytes / 2**20:.1f} MiB  {'; '.join(one.reasons) or gone}")
    freed = [one.size_bytes for one in bundles if not one.reasons]
    typer.echo(f"{len(freed)} of {len(bundles)} bundles {gone}, {sum(freed) / 2**20:.1f} MiB")


if __name__ == "__main__":
    run_app(app)
