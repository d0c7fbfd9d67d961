"""The challenger beside the champion: what it is compared with, what changes for customers, and who answers them."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from inference.errors import BundleError
from pipelines.data.synthetic.size import SCHEME as SYNTHETIC
from pipelines.edge import this_python
from pipelines.errors import ArtefactError, LakeConflict, UsageError
from pipelines.lake import Lake
from pipelines.registry.bundles import bound_parent, fetch_array, fetch_bundle, fetch_evaluated, read_bundle_manifest
from pipelines.registry.champion import Champion, complete_audit, move_champion, read_champion

if TYPE_CHECKING:  # torch is imported where the work is done: a step that is reused answers at once
    from inference.manifest import Manifest
    from pipelines.gate import Decision
    from pipelines.recommender.bundling import Draft
    from pipelines.recommender.evaluation import Outcome
    from pipelines.recommender.shop import Shop
    from pipelines.recommender.training import Evaluated


SAME_SHOP_SHARE = 0.1
"""A shop's tables keep more than this of the articles, and of the customers, that an earlier champion knows."""


def seal(lake: Lake, draft: Draft, model_version: str, champion: Champion | None) -> Manifest:
    """Name the bundle and its parent: the champion of today, or for a bundle made once more, the one it had."""
    version = draft.content_version if model_version == "auto" else model_version
    return draft.seal(version, bound_parent(lake, version, champion.version if champion else None))


def held_against(lake: Lake, champion: Champion | None, manifest: Manifest) -> str | None:
    """Name the version to compare with: the champion, or for the champion itself the one before it.

    The latter is a run that was killed after its promotion, and is held against what it was held against then. A
    champion of made-up purchases is no bar for a model of real ones.
    """
    if champion is None:
        return None
    version = champion.version if champion.version != manifest.version else manifest.parent
    if version is None:
        return None
    try:
        is_demo = _is_made_up(read_bundle_manifest(lake, version))
    except (ArtefactError, UsageError):  # objection() says what is wrong with it
        return version
    return None if is_demo and not _is_made_up(manifest) else version


def objection(
    lake: Lake,
    version: str | None,
    manifest: Manifest,
    article_ids: list[str],
    customer_keys: npt.NDArray[np.uint64],
    scratch: Path,
) -> str | None:
    """Say why a champion cannot be compared on this label week.

    It saw the week, is fresher as it serves than as it was evaluated, is of another shop, or cannot be read.
    `article_ids` and `customer_keys` (see customer_key) are those of the challenger's shop. Leaves the model as it was
    evaluated in `scratch`, where champion_outcome finds it.
    """
    if version is None:
        return None
    from pipelines.recommender.rivals import known_share, open_model

    command = f"{this_python()} -m pipelines.registry promote {manifest.version} --lake {lake.uri} --reason '…'"
    by_hand = f"promote by hand: {command}"
    try:
        champion = read_bundle_manifest(lake, version)
    except (ArtefactError, UsageError) as error:
        return f"champion {version} cannot be compared ({error}); {by_hand}"
    if _is_made_up(manifest) and not _is_made_up(champion):
        return (
            f"champion {version} was trained on real purchases, and made-up ones replace none; "
            "give the --source of the real ones, or another --lake"
        )
    if champion.cutoff_date > manifest.cutoff_date:
        return (
            f"champion {version} was evaluated from {champion.cutoff_date}, so it was fitted on the label week from "
            f"{manifest.cutoff_date} and cannot be compared there; a look back replaces no champion ({by_hand})"
        )
    behind = (manifest.cutoff_date - champion.cutoff_date).days
    lag = (manifest.trained_through - champion.trained_through).days
    if behind > lag:
        return (
            f"champion {version} was evaluated {behind:,} days before this label week, and is {lag:,} days behind as "
            f"it serves: its evaluation lacks what it knows, and a comparison would flatter this model; {by_hand}"
        )
    folder = scratch / "champion"
    folder.mkdir()
    try:
        fetch_evaluated(lake, version, folder)
        open_model(folder)
        customers = fetch_array(lake, champion, "customer_keys.npy", scratch)
        shares = {
            "articles": known_share(folder, article_ids),
            "customers": float(np.isin(customers, customer_keys).mean()) if len(customers) else 1.0,
        }
    except ArtefactError as error:
        return f"champion {version} cannot be compared: {error}; {by_hand}"
    for what, share in shares.items():
        if share < SAME_SHOP_SHARE:
            return (
                f"champion {version} is of another shop: of its {what} {share:.0%} are in this {what} table; "
                f"use another --lake for another shop, or {by_hand}"
            )
    return None


def champion_outcome(
    lake: Lake, version: str, shop: Shop, split: dict[str, Any], at_cutoff: Evaluated, scratch: Path
) -> tuple[str, Outcome]:
    """Score the champion, as it was evaluated before its own label week, on this run's label week.

    It is as many days behind this week as the champion that answers customers is behind this model, or fewer (see
    objection), and unlike that one it never saw this week.
    """
    from pipelines.recommender.rivals import champion_outcome

    max_history = read_bundle_manifest(lake, version).max_history
    outcome = champion_outcome(
        scratch / "champion",
        shop.interactions,
        shop.catalogue,
        shop.segments,
        at_cutoff.week,
        split["horizon_days"],
        max_history,
    )
    return version, outcome


def days_behind(lake: Lake, version: str, manifest: Manifest) -> int:
    """Count the days before this run's cutoff that a champion, as it was evaluated, does not know."""
    return (manifest.cutoff_date - read_bundle_manifest(lake, version).cutoff_date).days


def changes(lake: Lake, version: str, shop: Shop, draft: Draft, scratch: Path) -> dict[str, Any]:
    """Ask the champion as it is served beside the new bundle; one that cannot be asked is said, and stops nothing."""
    from pipelines.recommender.changes import changed_answers

    try:
        fetch_bundle(lake, version, scratch / "served")
        return {"since": version, **changed_answers(shop, scratch / "served", draft.folder)}
    except (ArtefactError, BundleError, UsageError) as error:
        return {"since": version, "error": str(error)}


LOST_RACE = "another run moved the champion"
"""Begins the reason of a decision that is void: it was made against a champion of before."""


def promote(lake: Lake, champion: Champion | None, version: str, decision: Decision, who: str, now: datetime) -> bool:
    """Move the champion when the gate says so; another promotion in between is an answer, not an error."""
    if champion and champion.version == version:
        complete_audit(lake, champion)
        if not decision.is_promoted:
            decision.reasons.append(f"{version} is the champion already, by another decision than this one")
        return True
    if not decision.is_promoted:
        return False
    try:
        move_champion(lake, version, champion, action="promote", why="; ".join(decision.reasons), who=who, now=now)
    except LakeConflict:
        now_champion = read_champion(lake)
        if now_champion and now_champion.version == version:  # two equal runs at once: both are right
            return True
        decision.reasons.append(
            f"{LOST_RACE} to {now_champion.version if now_champion else 'nothing'} meanwhile; "
            "run again to be compared with it"
        )
        return False
    return True


def _is_made_up(manifest: Manifest) -> bool:
    return isinstance(manifest.source, dict) and manifest.source.get("kind") == SYNTHETIC
