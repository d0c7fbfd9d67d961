"""Fit, evaluate, export, certify, register, decide: processed/{run_id} becomes a bundle, and perhaps the champion."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from inference.errors import BundleError
from inference.manifest import SAFE_NAME
from pipelines.edge import run_app
from pipelines.errors import ArtefactError, UsageError
from pipelines.lake import Lake, open_lake
from pipelines.logs import get_logger
from pipelines.registry.bundles import (
    register,
)
from pipelines.registry.champion import current_user, read_champion
from pipelines.registry.layout import bundle_folder
from pipelines.settings import lake_uri, load_settings
from pipelines.steps.challenge import champion_outcome, changes, held_against, objection, promote, seal
from pipelines.steps.fingerprint import step_fingerprint
from pipelines.steps.step import StepManifest, read_manifest, run_step

if TYPE_CHECKING:  # torch is imported where the work is done: a step that is reused answers at once
    from pipelines.recommender.checkpoints import Checkpoints
    from pipelines.recommender.hyperparameters import Hyperparameters
    from pipelines.recommender.shop import Shop
    from pipelines.recommender.training import Evaluated, Trainer
    from pipelines.recommender.workers import Workers

CODE = (
    "pipelines.steps.train",
    "pipelines.steps.challenge",
    "pipelines.recommender",
    "pipelines.gate",
    "pipelines.registry",
    "pipelines.report",
    "inference",
)
LIBRARIES = ("torch", "numpy", "polars", "onnx", "onnxscript", "onnxruntime", "altair", "jinja2", "vl-convert-python")

app = typer.Typer(add_completion=False)
log = get_logger()


@dataclass(frozen=True)
class Run:
    """What was asked of this training run, by whom and when."""

    knobs: Hyperparameters
    model_version: str
    backtest: int
    metric_threshold: float
    git_commit: str | None
    who: str
    clock: Callable[[], datetime]
    workers: Workers
    checkpoints: Checkpoints


def train(
    lake: Lake,
    *,
    run_id: str,
    hyperparameters: str = "{}",
    model_version: str = "auto",
    backtest: int = 0,
    metric_threshold: float = 0.0,
    git_commit: str | None = None,
    who: str,
    clock: Callable[[], datetime],
    workers: Workers | None = None,
) -> StepManifest:
    """Train on a run's processed data. Whether the champion moves is a fact of the result, never an error.

    Killed anywhere, the same call goes on from the last checkpoint and ends with the same bundle. The other `workers`
    call `follow`.
    """
    from pipelines.recommender.checkpoints import Checkpoints
    from pipelines.recommender.hyperparameters import parse_hyperparameters
    from pipelines.recommender.workers import Workers

    knobs = parse_hyperparameters(hyperparameters)
    model_version = model_version or "auto"
    if not SAFE_NAME.fullmatch(model_version) or model_version == "champion":
        raise UsageError(
            f"model-version {model_version!r} cannot name a bundle; use at most 100 letters, digits, '.', '_' and '-' "
            "(not the word 'champion'), or 'auto'"
        )
    if backtest < 0:
        raise UsageError(f"backtest must be 0 or more weekly cutoffs, got {backtest}")
    processed = read_manifest(lake, "process", run_id)

    parameters = {
        "hyperparameters": knobs.model_dump(),
        "model_version": model_version,
        "backtest": backtest,
        "metric_threshold": metric_threshold,
    }
    inputs = {"processed": processed.content_sha256}
    checkpoints = Checkpoints(lake, step_fingerprint("train", parameters, inputs, CODE, LIBRARIES))
    workers = workers or Workers()

    def work(folder: Path) -> Mapping[str, Any]:
        workers.told(True)  # there is something to follow
        with lake.scratch() as scratch:
            run = Run(knobs, model_version, backtest, metric_threshold, git_commit, who, clock, workers, checkpoints)
            return _work(lake, processed, run, scratch, folder)

    def step(*, force: bool) -> StepManifest:
        return run_step(
            lake,
            step="train",
            run_id=run_id,
            parameters=parameters,
            inputs=inputs,
            code=CODE,
            libraries=LIBRARIES,
            work=work,
            force=force,
        )

    manifest = step(force=False)
    if not lake.exists(f"{manifest.facts['bundle']}/manifest.json"):
        manifest = step(force=True)  # the work was done before, and its bundle was deleted since
    checkpoints.clear()
    workers.told(False)
    return manifest


def follow(lake: Lake, *, run_id: str, hyperparameters: str, workers: Workers) -> None:
    """Help the writer among the workers, which calls `train`; publish nothing."""
    from pipelines.recommender.hyperparameters import parse_hyperparameters

    knobs = parse_hyperparameters(hyperparameters)
    while workers.told(False):
        with lake.scratch() as scratch:
            trainer, _, _ = _trainer(lake, read_manifest(lake, "process", run_id), knobs, scratch, workers)
            trainer.follow()


def _trainer(
    lake: Lake,
    processed: StepManifest,
    knobs: Hyperparameters,
    scratch: Path,
    workers: Workers,
    checkpoints: Checkpoints | None = None,
) -> tuple[Trainer, Shop, dict[str, Any]]:
    """Read the processed shop; returns its trainer, the shop, and split.json."""
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
        known_before=split["cutoff_day"],
        workers=workers,
        checkpoints=checkpoints,
    )
    return trainer, shop, split


def _work(lake: Lake, processed: StepManifest, run: Run, scratch: Path, output: Path) -> dict[str, Any]:
    """Do the step: every file for the reader goes to `output`, every other to `scratch`."""
    from pipelines.gate import check_ceiling, decide
    from pipelines.recommender.ablation import ablate
    from pipelines.recommender.bundling import draft_bundle
    from pipelines.recommender.examples import story
    from pipelines.recommender.measurements import headline, intervals, measured
    from pipelines.recommender.report import render_training_report
    from pipelines.recommender.serving_cost import measure_apart

    trainer, shop, split = _trainer(lake, processed, run.knobs, scratch, run.workers, run.checkpoints)
    trainer.check_backtest(split["cutoff_day"], run.backtest)
    evaluated = _evaluate(trainer, split, run.backtest)
    champion = read_champion(lake)
    metrics, baselines = headline(evaluated)
    check_ceiling(float(metrics["map_at_12"] or 0.0), evaluated[0].n_live)
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
    held_against_version = held_against(champion, manifest)
    doubt = objection(lake, held_against_version, split["cutoff_date"])
    parent = (
        champion_outcome(lake, held_against_version, shop, split, evaluated[0], scratch)
        if held_against_version and not doubt
        else None
    )
    rivals, champion_rival, document = measured(evaluated, shop.interactions, shop.segments, parent, run.knobs.seed)
    map_at_12 = metrics["backtest_map_at_12" if run.backtest else "map_at_12"]
    decision = decide(float(map_at_12 or 0.0), rivals, champion_rival, run.metric_threshold, doubt)
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


def _source(lake: Lake, processed: StepManifest) -> Any:
    """Say where the purchases came from, with size and hash of each file; None when raw data was read anew since."""
    raw = read_manifest(lake, "ingest", processed.run_id)
    return raw.facts["source"] if raw.content_sha256 == processed.inputs["raw"] else None


def _write_json(path: Path, document: Any) -> None:
    path.write_text(json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")


def git_commit() -> str | None:
    """Say which commit this code is: GIT_COMMIT of the image, or git's own answer in a checkout."""
    if os.environ.get("GIT_COMMIT"):
        return os.environ["GIT_COMMIT"]
    here = Path(__file__).resolve().parent
    try:
        answer = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return answer.stdout.strip() or None


@app.command()
def main(
    run_id: Annotated[str, typer.Option(help="Run whose processed data is read.")],
    lake: Annotated[str, typer.Option(help="Folder or s3://bucket/prefix; empty = $S3_DATA_LAKE_BUCKET.")] = "",
    hyperparameters: Annotated[str, typer.Option(help='JSON object, such as {"hidden": 16}.')] = "{}",
    model_version: Annotated[str, typer.Option(help="Name of the bundle; auto = from date and content.")] = "auto",
    backtest: Annotated[int, typer.Option(help="More weekly cutoffs before cutoff_date to evaluate on.")] = 0,
) -> None:
    """Train, evaluate, export, register, and promote if the gate says so.

    Several processes: torchrun --nproc-per-node 2 -m pipelines.steps.train --run-id …
    """
    from pipelines.recommender.workers import joined

    settings = load_settings(lake)
    opened = open_lake(lake_uri(lake))
    with joined() as workers:
        if not workers.is_writer:
            follow(opened, run_id=run_id, hyperparameters=hyperparameters, workers=workers)
            return
        manifest = train(
            opened,
            run_id=run_id,
            hyperparameters=hyperparameters,
            model_version=model_version,
            backtest=backtest,
            metric_threshold=settings.metric_threshold,
            git_commit=git_commit(),
            who=current_user(),
            clock=lambda: datetime.now(UTC),
            workers=workers,
        )
        typer.echo(json.dumps(manifest.facts))


if __name__ == "__main__":
    run_app(app)
