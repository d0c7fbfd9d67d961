"""Make the bundle that ships: refit on everything, export, certify, seal; and keep the model as it was evaluated."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from inference.bundle import seal_bundle
from inference.manifest import Manifest
from pipelines.recommender.certificate import certify_served
from pipelines.recommender.export import MAX_TOP_K, certify_parity, write_bundle_files
from pipelines.recommender.model import SIGNAL_GROUPS, Recommender
from pipelines.recommender.rivals import ARTICLES_NAME, MODEL_NAME
from pipelines.recommender.shop import Shop
from pipelines.recommender.training import Evaluated, Trainer
from pipelines.steps.fingerprint import canonical_json, text_sha256


@dataclass(frozen=True)
class Draft:
    """A bundle that is whole but for its name and parent."""

    recommender: Recommender
    folder: Path
    evaluated_folder: Path
    facts: dict[str, Any]
    content_version: str
    """Version by date and content: the same work gives the same name."""

    def seal(self, version: str, parent: str | None) -> Manifest:
        """Write the manifest; raises BundleError when the files make no valid bundle."""
        return seal_bundle(self.folder, self.facts | {"version": version, "parent": parent})


def draft_bundle(
    shop: Shop, trainer: Trainer, at_cutoff: Evaluated, last_day_index: int, facts: Mapping[str, Any], scratch: Path
) -> Draft:
    """Refit on every day up to the last, write the files and hold the serving engine against torch.

    `facts` are what the manifest says of data, parameters and metrics. Raises ArtefactError when the engine answers
    otherwise than torch, BundleError when the files make no valid bundle.
    """
    max_history = trainer.hyperparameters.max_history
    end_day = last_day_index + 1
    recommender, _ = trainer.refit(end_day, at_cutoff.fit.best_epoch)
    folder, evaluated = scratch / "bundle", scratch / "evaluated"
    folder.mkdir()
    evaluated.mkdir()
    write_bundle_files(folder, recommender, shop, end_day, max_history)
    trained_through = (shop.first_day + timedelta(days=last_day_index)).isoformat()
    known = dict(facts) | {
        "trained_through": trained_through,
        "max_history": max_history,
        "max_top_k": MAX_TOP_K,
        "signals": list(SIGNAL_GROUPS),
    }
    sealed = seal_bundle(folder, known | {"version": "draft"})
    parity = certify_parity(folder, recommender, shop, end_day, max_history)
    parity |= _certify_evaluated(shop, trainer, at_cutoff, known, evaluated, scratch / "as_evaluated")
    content = {name: record.sha256 for name, record in sealed.files.items()} | {"facts": known}
    version = f"{trained_through.replace('-', '')}-{text_sha256(canonical_json(content))[:10]}"
    return Draft(recommender, folder, evaluated, known | {"parity": parity}, version)


def _certify_evaluated(
    shop: Shop, trainer: Trainer, at_cutoff: Evaluated, known: Mapping[str, Any], evaluated: Path, scratch: Path
) -> dict[str, Any]:
    """Make a bundle of the model as it was evaluated, and serve the label week's buyers from it.

    What later challengers need of it stays in `evaluated`.
    """
    knobs, week = trainer.hyperparameters, at_cutoff.week
    recommender = trainer.recommender(at_cutoff.fit, at_cutoff.tables)
    scratch.mkdir()
    write_bundle_files(scratch, recommender, shop, week.day, knobs.max_history)
    last_known_day = (shop.first_day + timedelta(days=week.day - 1)).isoformat()
    seal_bundle(scratch, {**known, "version": "draft", "trained_through": last_known_day})
    certificate = certify_served(scratch, recommender, shop, week, trainer.horizon_days, knobs.max_history, knobs.seed)
    for source, name in (("model.onnx", MODEL_NAME), ("article_ids.npy", ARTICLES_NAME)):
        (scratch / source).rename(evaluated / name)
    shutil.rmtree(scratch)
    return certificate
