"""Search hyperparameters on the weeks before the cutoff, and print the JSON that a run takes.

    python -m pipelines.recommender.search --lake ./lake --run-id ID --trials 30

The last line on stdout is what was found, or what was given when the gain may be chance; the log has both.
Every trial is fitted and scored on weeks before the run's cutoff: later purchases are taken away before the search
begins. The best of many trials looks better than it is; a run with its parameters says how good.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from statistics import NormalDist
from typing import Annotated, Any

import numpy as np
import optuna
import typer

from pipelines.edge import run_app
from pipelines.lake import open_lake
from pipelines.logs import get_logger
from pipelines.recommender.fitting import Epoch, fit_ranker, ranked_hits, split_validation
from pipelines.recommender.hyperparameters import Hyperparameters, adapted, parse_hyperparameters
from pipelines.recommender.interactions import Float64, Int32
from pipelines.recommender.metrics import Interval, average_precision, bootstrap_mean
from pipelines.recommender.shop import INPUT_FILES, Shop, read_shop
from pipelines.recommender.training import Trainer, set_up_torch
from pipelines.settings import lake_uri
from pipelines.steps.step import read_manifest

N_CANDIDATES = (192, 256, 384)

log = get_logger()
app = typer.Typer(add_completion=False)


@dataclass(frozen=True)
class Searched:
    """The best that was found, beside what the given parameters reach on the same validation weeks."""

    hyperparameters: Hyperparameters
    map_at_12: float
    given_map_at_12: float
    difference: Interval
    """Best minus given, paired by customer, on the weeks that chose the best."""
    n_trials: int
    n_pruned: int

    @property
    def is_gain(self) -> bool:
        """Is the difference more than the luck of the best of so many trials (Bonferroni's correction)?"""
        deviation = (self.difference.high - self.difference.low) / (2 * NormalDist().inv_cdf(0.975))
        return self.difference.mean > deviation * NormalDist().inv_cdf(1 - 0.025 / self.n_trials)


class Search:
    """Fits trials on one shop before one cutoff; weeks are described once for each number of candidates."""

    def __init__(self, shop: Shop, cutoff_day: int, horizon_days: int, given: Hyperparameters) -> None:
        self._shop = shop
        self._past = shop.interactions.before(cutoff_day)
        self._cutoff_day = cutoff_day
        self._horizon_days = horizon_days
        self._given = adapted(given, self._past, horizon_days)
        self._trainers: dict[int, Trainer] = {}

    def run(self, n_trials: int) -> Searched:
        """Score the given parameters, then n_trials others: seeded TPE, stopping what falls behind the median."""
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        given_N, customers_N = self._precision(self._given)
        tried = [(given_N, self._given)]
        study = optuna.create_study(
            direction="maximize",
            sampler=optuna.samplers.TPESampler(seed=self._given.seed),
            pruner=optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=3),
        )

        def objective(trial: optuna.Trial) -> float:
            knobs = suggest(trial, self._given)
            precision_N, _ = self._precision(knobs, trial)
            tried.append((precision_N, knobs))
            log.info("trial", number=trial.number, map_at_12=round(float(precision_N.mean()), 5), **trial.params)
            return float(precision_N.mean())

        study.optimize(objective, n_trials=n_trials)
        best_N, best = max(tried, key=lambda one: float(one[0].mean()))  # the given ones, when nothing is better
        difference = bootstrap_mean(best_N - given_N, customers_N, self._given.seed)
        n_pruned = sum(trial.state == optuna.trial.TrialState.PRUNED for trial in study.trials)
        return Searched(best, float(best_N.mean()), float(given_N.mean()), difference, n_trials, n_pruned)

    def _precision(self, knobs: Hyperparameters, trial: optuna.Trial | None = None) -> tuple[Float64, Int32]:
        """Average precision of each validation customer, and who they are."""
        trainer = self._trainers.get(knobs.n_candidates)
        if trainer is None:
            shop = self._shop
            trainer = Trainer(self._past, shop.catalogue, shop.segments, self._horizon_days, knobs)
            self._trainers[knobs.n_candidates] = trainer
        training, validation = split_validation(trainer.label_weeks(self._cutoff_day), knobs)

        def on_epoch(epoch: Epoch) -> None:
            if trial:
                trial.report(epoch.validation_map_at_12, epoch.epoch)
                if trial.should_prune():
                    raise optuna.TrialPruned

        fit = fit_ranker(training, validation, knobs, on_epoch=on_epoch)
        parts = [average_precision(ranked_hits(fit.ranker, week, 12)[0], week.n_bought_N) for week in validation]
        return np.concatenate(parts), np.concatenate([week.customers_N for week in validation])


def differing(hyperparameters: Hyperparameters) -> dict[str, Any]:
    """Give what differs from the defaults: the `hyperparameters` of a run."""
    defaults = Hyperparameters.model_validate({}).model_dump()
    return {name: value for name, value in hyperparameters.model_dump().items() if value != defaults[name]}


def suggest(trial: optuna.Trial, given: Hyperparameters) -> Hyperparameters:
    """Choose a trial's parameters; what is not searched stays as it is given."""
    chosen: dict[str, Any] = {
        "learning_rate": trial.suggest_float("learning_rate", 1e-3, 5e-2, log=True),
        "weight_decay": trial.suggest_float("weight_decay", 1e-5, 1e-2, log=True),
        "dropout": trial.suggest_float("dropout", 0.0, 0.5, step=0.05),
        "hidden": trial.suggest_categorical("hidden", (0, 16, 32, 64)),
        "batch_size": trial.suggest_categorical("batch_size", (32, 64, 128, 256)),
    }
    allowed = [n for n in N_CANDIDATES if n >= 100 + given.max_history]
    if allowed:
        chosen["n_candidates"] = trial.suggest_categorical("n_candidates", allowed)
    return Hyperparameters.model_validate(given.model_dump() | chosen)


@app.command()
def main(
    run_id: Annotated[str, typer.Option(help="Run whose processed data is read.")],
    lake: Annotated[str, typer.Option(help="Folder or s3://bucket/prefix; empty = $S3_DATA_LAKE_BUCKET.")] = "",
    trials: Annotated[int, typer.Option(min=1, help="Parameters to try besides the given ones.")] = 30,
    hyperparameters: Annotated[str, typer.Option(help="JSON object of what is not searched, or starts it.")] = "{}",
) -> None:
    """Search hyperparameters; the last line on stdout is the JSON for a run's `-p hyperparameters=…`.

    It is what was given when what was found may be no better than that by more than chance.
    """
    given = parse_hyperparameters(hyperparameters)
    set_up_torch()
    opened = open_lake(lake_uri(lake))
    processed = read_manifest(opened, "process", run_id)
    with opened.scratch() as scratch:
        shop, split = read_shop({name: opened.fetch(processed.files[name], scratch) for name in INPUT_FILES})
        searched = Search(shop, split["cutoff_day"], split["horizon_days"], given).run(trials)
    difference = searched.difference
    log.info(
        "searched",
        found=differing(searched.hyperparameters),
        map_at_12=round(searched.map_at_12, 5),
        given_map_at_12=round(searched.given_map_at_12, 5),
        difference=[round(value, 5) for value in (difference.mean, difference.low, difference.high)],
        verdict="more than the luck of so many trials: take what was found, and let a run say how good it is"
        if searched.is_gain
        else "may be chance: keep what was given",
        n_trials=trials,
        n_pruned=searched.n_pruned,
    )
    typer.echo(json.dumps(differing(searched.hyperparameters if searched.is_gain else given), sort_keys=True))


if __name__ == "__main__":
    run_app(app)
