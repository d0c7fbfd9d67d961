"""What a training run does on processed data: fit, evaluate, export, certify, register, decide, report."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from inference.errors import BundleError
from pipelines.errors import ArtefactError
from pipelines.lake import Lake
from pipelines.logs import get_logger
from pipelines.registry.bundles import register
from pipelines.registry.champion import read_champion
from pipelines.registry.layout import bundle_folder
from pipelines.steps.challenge import champion_outcome, changes, days_behind, held_against, objection, promote, seal
from pipelines.steps.step import StepManifest, read_manifest

if TYPE_CHECKING:  # torch is imported where the work is done: a step that is reused answers at once
    from pipelines.recommender.checkpoints import Checkpoints
    from pipelines.recommender.hyperparameters import Hyperparameters
    from pipelines.recommender.shop import Shop
    from pipelines.recommender.training import Evaluated, Trainer
    from pipelines.recommender.workers import Workers

log = get_logger()


@dataclass(frozen=True)
class Run:
    """What was asked of this training run, by whom and when."""

    knobs: Hyperparameters
    model_version: str
    backtest: int
    metric_threshold: float
    metric_ceiling: float
    git_commit: str | None
    who: str
    clock: Callable[[], datetime]
    workers: Workers
    checkpoints: Checkpoints


def open_trainer(
    lake: Lake,
    processed: StepManifest,
    knobs: Hyperparameters,
    scratch: Path,
    workers: Workers,
    checkpoints: Checkpoints | None = None,
    *,
    backtest: int,
) -> tuple[Trainer, Shop, dict[str, Any]]:
    """Read the processed shop; returns its trainer, the shop, and split.json.

    What the hyperparameters leave to the data is settled by what came before the earliest of the `backtest` + 1
    cutoffs: one setting for all weeks, and none of them had a say in it.
    """
    from pipelines.recommender.shop import INPUT_FILES, read_shop
    from pipelines.recommender.training import Trainer, set_up_torch

    set_up_torch()
    shop, split = read_shop({name: lake.fetch(processed.files[name], scratch) for name in INPUT_FILES})
    trainer = Trainer(
        shop.interactions,
        shop.catalogue,
        shop.segments,
        split["horizon_days"],
        knobs,
        known_before=split["cutoff_day"] - backtest * split["horizon_days"],
        workers=workers,
        checkpoints=checkpoints,
    )
    return trainer, shop, split


def train_once(lake: Lake, processed: StepManifest, run: Run, scratch: Path, output: Path) -> dict[str, Any]:
    """Do the step: every file for the reader goes to `output`, every other to `scratch`."""
    from pipelines.gate import WEAK, decide
    from pipelines.recommender.ablation import ablate
    from pipelines.recommender.bundling import draft_bundle
    from pipelines.recommender.examples import story
    from pipelines.recommender.measurements import headline, intervals, measured
    from pipelines.recommender.report import render_training_report
    from pipelines.recommender.serving_cost import measure_apart

    trainer, shop, split = open_trainer(
        lake, processed, run.knobs, scratch, run.workers, run.checkpoints, backtest=run.backtest
    )
    trainer.check_backtest(split["cutoff_day"], run.backtest)
    evaluated = _evaluate(trainer, split, run.backtest)
    champion = read_champion(lake)
    metrics, baselines = headline(evaluated)
    check_ceilings(evaluated, run.metric_ceiling, date.fromisoformat(split["first_day"]))
    facts = {
        "cutoff_date": split["cutoff_date"],
        "metrics": metrics,
        "intervals": intervals(evaluated, run.knobs.seed),
        "baselines": baselines,
        "git_commit": run.git_commit,
        "source": _source(lake, processed),
        "inputs": {"processed": processed.content_sha256, **processed.inputs},
        "parameters": trainer.hyperparameters.model_dump(),
    }
    try:
        draft = draft_bundle(shop, trainer, evaluated[0], split["last_day_index"], facts, scratch)
        manifest = seal(lake, draft, run.model_version, champion)
    except BundleError as error:
        raise ArtefactError(f"the trained model makes no valid bundle, and is not registered: {error}") from error
    held_against_version = held_against(lake, champion, manifest)
    customer_keys = np.load(draft.folder / "customer_keys.npy", allow_pickle=False)
    doubt = objection(lake, held_against_version, manifest, list(shop.catalogue.article_ids), customer_keys, scratch)
    parent = (
        champion_outcome(lake, held_against_version, shop, split, evaluated[0], scratch)
        if held_against_version and not doubt
        else None
    )
    rivals, champion_rival, document = measured(evaluated, shop.interactions, shop.segments, parent, run.knobs.seed)
    map_at_12 = metrics["backtest_map_at_12" if run.backtest else "map_at_12"]
    decision = decide(float(map_at_12 or 0.0), rivals, champion_rival, run.metric_threshold, doubt, run.metric_ceiling)
    n_covered = min(split["label_end_day"], split["last_day_index"] + 1) - split["cutoff_day"]
    if n_covered < split["horizon_days"]:
        decision.reasons.append(
            f"{WEAK}: the data covers {n_covered} of the label window's {split['horizon_days']} days"
        )
    if parent:
        behind = document["champion"]["days_behind"] = days_behind(lake, parent[0], manifest)
        if behind:
            decision.reasons.append(
                f"champion {parent[0]} answered the label week as it was evaluated, without the {behind:,} days before "
                "it: it is as far behind that week as the one that customers have is behind this model, or less"
            )
    register(lake, draft.folder, manifest, draft.evaluated_folder)
    is_promoted = promote(lake, champion, manifest.version, decision, run.who, run.clock())
    log.info("decided", version=manifest.version, is_promoted=is_promoted, reasons=decision.reasons)
    document |= story(shop, split, trainer, draft.recommender, evaluated[0])
    document["serving_cost"] = measure_apart(draft.folder)
    if run.knobs.ablation:
        document["ablation"] = ablate(trainer, evaluated[0])
    if held_against_version:
        document["changes"] = changes(lake, held_against_version, shop, draft, scratch)
    document |= {"bundle": manifest.model_dump(mode="json"), "is_promoted": is_promoted, "reasons": decision.reasons}
    trainer.release()
    _write_json(output / "metrics.json", document)
    (output / "report.html").write_text(render_training_report(document), encoding="utf-8")
    return {
        "bundle_version": manifest.version,
        "bundle": bundle_folder(manifest.version),
        "promoted": is_promoted,
        "reasons": decision.reasons,
        "metrics": metrics,
        "baselines": baselines,
        "cutoff_date": split["cutoff_date"],
    }


def _evaluate(trainer: Trainer, split: dict[str, Any], backtest: int) -> list[Evaluated]:
    """Evaluate at the cutoff, then at the `backtest` cutoffs before it; newest first."""
    evaluated = []
    for number in range(backtest + 1):
        day = split["cutoff_day"] - number * split["horizon_days"]
        one = trainer.evaluate_at(day, on_epoch=lambda epoch: log.info("epoch", **asdict(epoch)))
        evaluated.append(one)
        means = {name: round(float(outcome.average_precision_N.mean()), 5) for name, outcome in one.baselines.items()}
        log.info("evaluated", day=day, map_at_12=round(float(one.model.average_precision_N.mean()), 5), **means)
    return evaluated


def check_ceilings(evaluated: list[Evaluated], ceiling: float, first_day: date) -> None:
    """Look at the label week, and at each week of a backtest with enough buyers for a mean to say something."""
    from pipelines.gate import MIN_CUSTOMERS, check_ceiling

    for number, one in enumerate(evaluated):
        if number == 0 or len(one.week.customers_N) >= MIN_CUSTOMERS:
            map_at_12 = float(one.model.average_precision_N.mean())
            check_ceiling(map_at_12, one.n_live, ceiling, first_day + timedelta(days=one.week.day))


def _source(lake: Lake, processed: StepManifest) -> Any:
    """Say where the purchases came from, with size and hash of each file; None when raw data was read anew since."""
    raw = read_manifest(lake, "ingest", processed.run_id)
    return raw.facts["source"] if raw.content_sha256 == processed.inputs["raw"] else None


def _write_json(path: Path, document: Any) -> None:
    path.write_text(json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
