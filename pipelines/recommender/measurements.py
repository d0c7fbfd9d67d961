"""What a training run measured, as plain dictionaries: for the bundle's manifest, the gate and the report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from math import isfinite
from typing import Any

import numpy as np
import numpy.typing as npt

from pipelines.gate import Rival
from pipelines.recommender.evaluation import (
    Outcome,
    coverage,
    metric_values,
    paired_difference,
    pool,
    slice_table,
    slices_of,
    summarise,
)
from pipelines.recommender.interactions import Interactions
from pipelines.recommender.metrics import bootstrap_mean
from pipelines.recommender.training import Evaluated


def headline(evaluated: Sequence[Evaluated]) -> tuple[dict[str, float | None], dict[str, dict[str, float | None]]]:
    """Metrics of the label week (evaluated[0]) by their full names, and each baseline's beside them.

    With a backtest, `backtest_…` is pooled over all evaluated weeks, the label week among them.
    """
    metrics = _means(evaluated[0].model)
    metrics["catalogue_coverage"] = coverage(evaluated[0].model, evaluated[0].tables.live_N)
    metrics["n_customers"] = float(len(evaluated[0].week.customers_N))
    baselines = {name: _means(outcome) for name, outcome in evaluated[0].baselines.items()}
    for name, outcome in evaluated[0].baselines.items():
        baselines[name]["catalogue_coverage"] = coverage(outcome, evaluated[0].tables.live_N)
    if len(evaluated) > 1:
        pooled, pooled_baselines = pooled_outcomes(evaluated)
        metrics |= {f"backtest_{name}": value for name, value in _means(pooled).items()}
        metrics["backtest_n_customers"] = float(len(pooled.customers_N))
        for name, outcome in pooled_baselines.items():
            baselines[name] |= {f"backtest_{metric}": value for metric, value in _means(outcome).items()}
    return metrics, baselines


def intervals(evaluated: Sequence[Evaluated], seed: int) -> dict[str, tuple[float, float]]:
    """95 % intervals of the metrics that `headline` gives as means over customers."""
    found = {name: (each["low"], each["high"]) for name, each in summarise(evaluated[0].model, seed).items()}
    if len(evaluated) > 1:
        pooled = summarise(pooled_outcomes(evaluated)[0], seed)
        found |= {f"backtest_{name}": (each["low"], each["high"]) for name, each in pooled.items()}
    return found


def pooled_outcomes(evaluated: Sequence[Evaluated]) -> tuple[Outcome, dict[str, Outcome]]:
    """Put all evaluated weeks together: the model, and each baseline."""
    model = pool([one.model for one in evaluated])
    return model, {name: pool([one.baselines[name] for one in evaluated]) for name in evaluated[0].baselines}


def _without_nan(values: dict[str, Any]) -> dict[str, Any]:
    """Write what could not be measured as null: JSON has no nan."""
    return {name: None if isinstance(value, float) and not isfinite(value) else value for name, value in values.items()}


def _means(outcome: Outcome) -> dict[str, float | None]:
    return {name: float(values.mean()) for name, values in metric_values(outcome).items()}


def rival_of(name: str, model: Outcome, other: Outcome, slices: dict[str, npt.NDArray[np.bool_]], seed: int) -> Rival:
    """Hold a model against another on the same customer-weeks, overall and in each slice."""
    difference_N = model.average_precision_N - other.average_precision_N
    present = {key: rows for key, rows in slices.items() if rows.any()}
    return Rival(
        name=name,
        map_at_12=float(other.average_precision_N.mean()),
        difference=paired_difference(model, other, seed),
        slice_differences={
            key: bootstrap_mean(difference_N[rows], model.customers_N[rows], seed) for key, rows in present.items()
        },
        slice_map_at_12={key: float(other.average_precision_N[rows].mean()) for key, rows in present.items()},
        n_customers=len(np.unique(model.customers_N)),
    )


def measured(
    evaluated: Sequence[Evaluated],
    interactions: Interactions,
    segments: npt.NDArray[np.uint8],
    champion: tuple[str, Outcome] | None,
    seed: int,
) -> tuple[dict[str, Rival], Rival | None, dict[str, Any]]:
    """Rivals for the gate, and the full tables with intervals for metrics.json and the report.

    Baselines are compared over all evaluated weeks, the champion on the label week alone, which it has not seen.
    """
    model, baselines = pooled_outcomes(evaluated)
    slices = slices_of([one.week for one in evaluated], segments, interactions)
    rivals = {name: rival_of(name, model, outcome, {}, seed) for name, outcome in baselines.items()}
    outcomes = {"model": model, **baselines}
    document: dict[str, Any] = {
        "metrics": {name: summarise(outcome, seed) for name, outcome in outcomes.items()},
        "differences": {name: asdict(rival.difference) for name, rival in rivals.items()},
        "slices": slice_table(model, baselines, slices, seed),
        "weeks": [
            {
                "day": one.week.day,
                "n_customers": len(one.week.customers_N),
                "map_at_12": {
                    name: float(outcome.average_precision_N.mean())
                    for name, outcome in {"model": one.model, **one.baselines}.items()
                },
                "best_epoch": one.fit.best_epoch,
                "n_live": one.n_live,
            }
            for one in evaluated
        ],
        "curve": [_without_nan(asdict(epoch)) for epoch in evaluated[0].fit.curve],
        "best_epoch": evaluated[0].fit.best_epoch,
        "n_training_customers": evaluated[0].fit.n_training_customers,
        "n_validation_customers": evaluated[0].fit.n_validation_customers,
        "n_live": evaluated[0].n_live,
    }
    held_against = None
    if champion:
        name, outcome = champion
        week_slices = slices_of([evaluated[0].week], segments, interactions)
        held_against = rival_of(name, evaluated[0].model, outcome, week_slices, seed)
        document["champion"] = {
            "version": name,
            "map_at_12": held_against.map_at_12,
            "metrics": summarise(outcome, seed) | {"catalogue_coverage": coverage(outcome, evaluated[0].tables.live_N)},
            "difference": asdict(held_against.difference),
            "slices": {key: asdict(value) for key, value in held_against.slice_differences.items()},
        }
    return rivals, held_against, document
