"""Fit, evaluate, export, certify, register, decide: processed/{run_id} becomes a bundle, and perhaps the champion."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from inference.manifest import SAFE_NAME
from pipelines.edge import run_app
from pipelines.errors import ArtefactError, UsageError
from pipelines.gate import METRIC_CEILING
from pipelines.lake import Lake, open_lake
from pipelines.logs import get_logger
from pipelines.registry.champion import current_user
from pipelines.settings import lake_uri, load_settings
from pipelines.steps.challenge import LOST_RACE
from pipelines.steps.fingerprint import step_fingerprint
from pipelines.steps.step import StepManifest, read_manifest, run_step
from pipelines.steps.training_run import Run, open_trainer, train_once

if TYPE_CHECKING:  # torch is imported where the work is done: a step that is reused answers at once
    from pipelines.recommender.workers import Workers

CODE = (
    "pipelines.steps.train",
    "pipelines.steps.training_run",
    "pipelines.steps.challenge",
    "pipelines.recommender",
    "pipelines.gate",
    "pipelines.registry",
    "pipelines.report",
    "inference",
)
LIBRARIES = ("torch", "numpy", "polars", "onnx", "onnxscript", "onnxruntime", "altair", "jinja2", "vl-convert-python")

log = get_logger()
app = typer.Typer(add_completion=False)


def train(
    lake: Lake,
    *,
    run_id: str,
    hyperparameters: str = "{}",
    model_version: str = "auto",
    backtest: int = 0,
    metric_threshold: float = 0.0,
    metric_ceiling: float = METRIC_CEILING,
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
    if not 0 < metric_ceiling <= 1:
        raise UsageError(f"metric-ceiling must be above 0 and at most 1, got {metric_ceiling}")
    if backtest < 0:
        raise UsageError(f"backtest must be 0 or more weekly cutoffs, got {backtest}")
    processed = read_manifest(lake, "process", run_id)

    parameters = {
        "hyperparameters": knobs.model_dump(),
        "model_version": model_version,
        "backtest": backtest,
        "metric_threshold": metric_threshold,
        "metric_ceiling": metric_ceiling,
    }
    inputs = {"processed": processed.content_sha256}
    checkpoints = Checkpoints(lake, step_fingerprint("train", parameters, inputs, CODE, LIBRARIES))
    workers = workers or Workers()

    has_worked = False

    def work(folder: Path) -> Mapping[str, Any]:
        nonlocal has_worked
        has_worked = True
        workers.told(True)  # there is something to follow
        with lake.scratch() as scratch:
            run = Run(
                knobs,
                model_version,
                backtest,
                metric_threshold,
                metric_ceiling,
                git_commit,
                who,
                clock,
                workers,
                checkpoints,
            )
            return train_once(lake, processed, run, scratch, folder)

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
    is_void = not has_worked and any(reason.startswith(LOST_RACE) for reason in manifest.facts["reasons"])
    if is_void or not (has_worked or _is_whole(lake, manifest.facts["bundle"])):
        manifest = step(force=True)  # the work was done before: it lost a race then, or its bundle is whole no more
    checkpoints.clear()
    workers.told(False)
    return manifest


def _is_whole(lake: Lake, bundle: str) -> bool:
    """Find a registered bundle as it was sealed."""
    from pipelines.registry.bundles import fetch_bundle

    try:
        with lake.scratch() as scratch:
            fetch_bundle(lake, bundle.rsplit("/", 1)[1], scratch / "bundle")
    except (ArtefactError, UsageError) as error:
        log.warning("bundle_damaged", bundle=lake.uri_of(bundle), problem=str(error))
        return False
    return True


def follow(lake: Lake, *, run_id: str, hyperparameters: str, backtest: int, workers: Workers) -> None:
    """Help the writer among the workers, which calls `train`; publish nothing."""
    from pipelines.recommender.hyperparameters import parse_hyperparameters

    knobs = parse_hyperparameters(hyperparameters)
    while workers.told(False):
        with lake.scratch() as scratch:
            processed = read_manifest(lake, "process", run_id)
            trainer, _, _ = open_trainer(lake, processed, knobs, scratch, workers, backtest=backtest)
            trainer.follow()


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
    metric_ceiling: Annotated[
        float, typer.Option(help="A map_at_12 above it means that the label week leaked, and stops with exit 3.")
    ] = METRIC_CEILING,
) -> None:
    """Train, evaluate, export, register, and promote if the gate says so.

    Several processes: torchrun --nproc-per-node 2 -m pipelines.steps.train --run-id …
    """
    from pipelines.recommender.workers import joined

    settings = load_settings(lake)
    opened = open_lake(lake_uri(lake))
    with joined() as workers:
        if not workers.is_writer:
            follow(opened, run_id=run_id, hyperparameters=hyperparameters, backtest=backtest, workers=workers)
            return
        manifest = train(
            opened,
            run_id=run_id,
            hyperparameters=hyperparameters,
            model_version=model_version,
            backtest=backtest,
            metric_threshold=settings.metric_threshold,
            metric_ceiling=metric_ceiling,
            git_commit=git_commit(),
            who=current_user(),
            clock=lambda: datetime.now(UTC),
            workers=workers,
        )
        log.info("report", uri=opened.uri_of(manifest.files["report.html"].key))
        typer.echo(json.dumps(manifest.facts))


if __name__ == "__main__":
    run_app(app)
