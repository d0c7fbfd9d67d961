"""Which bundles may go: neither the champion, nor the line that it comes from, nor what the audit still names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from inference.manifest import Manifest
from pipelines.edge import this_python
from pipelines.errors import ArtefactError, UsageError
from pipelines.lake.base import Lake
from pipelines.registry.bundles import by_age, list_versions, read_bundle_manifest
from pipelines.registry.champion import CHAMPION_KEY, earlier_champion, read_audit, read_champion
from pipelines.registry.deletion import announce, announced, delete, files_of, finish_deletion, withdraw

AUDIT_DAYS = 90
"""A version that was champion, or was left, in so many days may be wanted back."""


@dataclass(frozen=True)
class Retained:
    """One version, how much it takes, and why it stays; no reason: it goes."""

    version: str
    size_bytes: int
    reasons: tuple[str, ...]


def plan(lake: Lake, *, keep: int, audit_days: int, now: datetime) -> list[Retained]:
    """Say of each version why it stays; the newest first: by its data, then by when it was registered.

    Stay: the newest `keep`, the champion, its parent and that one's parent and so on, the one that a rollback would
    lead to, and whatever the audit of the last `audit_days` names. A manifest that cannot be read stays, too.
    """
    if keep < 1:
        raise UsageError(f"--keep {keep} would leave no bundle to go back to; keep at least 1")
    if audit_days < 0:
        raise UsageError(f"--audit-days {audit_days} is negative; give 0 or more")
    manifests: dict[str, Manifest] = {}
    reasons: dict[str, list[str]] = {version: [] for version in list_versions(lake)}
    for version in reasons:
        try:
            manifests[version] = read_bundle_manifest(lake, version)
        except ArtefactError as error:
            reasons[version].append(f"not readable ({error})")
    newest = sorted(manifests, key=lambda version: by_age(lake, manifests[version]), reverse=True)
    for version in newest[:keep]:
        reasons[version].append(f"among the newest {keep}")
    for version, why in _in_use(lake, manifests, audit_days=audit_days, now=now):
        if version in reasons and why not in reasons[version]:
            reasons[version].append(why)
    order = [*newest, *sorted(reasons.keys() - manifests.keys())]
    return [Retained(version, sum(files_of(lake, version).values()), tuple(reasons[version])) for version in order]


def _in_use(lake: Lake, manifests: Mapping[str, Manifest], *, audit_days: int, now: datetime) -> list[tuple[str, str]]:
    champion = read_champion(lake)
    if champion is None:
        if events := read_audit(lake):
            raise ArtefactError(
                f"{lake.uri_of(CHAMPION_KEY)} is gone, while the audit names {events[-1]['to']} as the champion: "
                f"nothing is deleted; {this_python()} -m pipelines.registry promote {events[-1]['to']} --reason … first"
            )
        return []
    found = [(champion.version, "the champion")]
    seen, child = {champion.version}, champion.version
    while child in manifests and (parent := manifests[child].parent) and parent not in seen:
        found.append((parent, f"parent of {child}"))
        seen.add(parent)
        child = parent
    if earlier := earlier_champion(lake, champion):
        found.append((earlier, "a rollback leads to it"))
    since = now - timedelta(days=audit_days)
    for event in read_audit(lake):
        when = _moment(event)
        if when is None or when >= since:
            found += [(str(event[end]), f"in the audit of {str(event.get('when'))[:10]}") for end in ("from", "to")]
    return found


def _moment(event: Mapping[str, Any]) -> datetime | None:
    try:
        when = datetime.fromisoformat(str(event.get("when")))
    except ValueError:
        return None
    return when if when.tzinfo else None


def prune(lake: Lake, *, keep: int, audit_days: int = AUDIT_DAYS, why: str, who: str, now: datetime) -> list[Retained]:
    """Delete what nothing holds (see `plan`), and finish what a killed run began; returns the plan it followed."""
    for version in announced(lake):
        finish_deletion(lake, version)
    followed = plan(lake, keep=keep, audit_days=audit_days, now=now)
    for one in followed:
        if one.reasons:
            continue
        announce(lake, {"version": one.version, "who": who, "why": why, "when": now.isoformat(timespec="seconds")})
        again = plan(lake, keep=keep, audit_days=audit_days, now=now)
        if any(other.reasons for other in again if other.version == one.version):  # promoted a moment ago
            withdraw(lake, one.version)
        else:
            delete(lake, one.version)
    return followed
