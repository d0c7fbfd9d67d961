"""Score models and baselines on the same customers and label weeks, with intervals and slices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pipelines.recommender.interactions import Bool, Int32, Int64
from pipelines.recommender.label_week import LabelWeek
from pipelines.recommender.metrics import (
    Float64,
    Interval,
    average_precision,
    bootstrap_mean,
    hit_rate,
    ndcg,
    recall,
)
from pipelines.recommender.tables import AGE_BANDS

WARM_DAYS = 91
"""A customer is warm with a purchase in the last 13 weeks, lapsed with an older one, cold without any."""


@dataclass(frozen=True)
class Outcome:
    """One model's (or rule's) hits over the buyers of one or more label weeks; rows agree across models."""

    customers_N: Int32
    n_bought_N: Int64
    hits_NK: Bool
    """Is the article at each rank among the bought? K = 100 for a model, 12 for a rule."""

    @property
    def average_precision_N(self) -> Float64:  # noqa: N802 - the suffix is its shape
        return average_precision(self.hits_NK, self.n_bought_N, 12)


def pool(outcomes: Sequence[Outcome]) -> Outcome:
    """Put the customer-weeks of several label weeks together."""
    width = min(outcome.hits_NK.shape[1] for outcome in outcomes)
    return Outcome(
        np.concatenate([outcome.customers_N for outcome in outcomes]),
        np.concatenate([outcome.n_bought_N for outcome in outcomes]),
        np.concatenate([outcome.hits_NK[:, :width] for outcome in outcomes]),
    )


def baseline_outcomes(week: LabelWeek) -> dict[str, Outcome]:
    return {name: Outcome(week.customers_N, week.n_bought_N, hits) for name, hits in week.baseline_hits_NK.items()}


def metric_values(outcome: Outcome) -> dict[str, Float64]:
    """Every metric of each customer-week."""
    values = {
        "map_at_12": outcome.average_precision_N,
        "recall_at_12": recall(outcome.hits_NK, outcome.n_bought_N, 12),
        "ndcg_at_12": ndcg(outcome.hits_NK, outcome.n_bought_N, 12),
        "hit_rate_at_12": hit_rate(outcome.hits_NK, 12),
    }
    if outcome.hits_NK.shape[1] > 12:
        values["recall_at_100"] = recall(outcome.hits_NK, outcome.n_bought_N, 100)
    return values


def summarise(outcome: Outcome, seed: int) -> dict[str, dict[str, float | int]]:
    """Mean and 95 % interval of each metric."""
    return {
        name: asdict(bootstrap_mean(values, outcome.customers_N, seed))
        for name, values in metric_values(outcome).items()
    }


def paired_difference(challenger: Outcome, other: Outcome, seed: int) -> Interval:
    """Difference in map_at_12 on the same customer-weeks, with its paired 95 % interval."""
    if not np.array_equal(challenger.customers_N, other.customers_N):
        raise ValueError("outcomes are not of the same customers in the same order")
    difference = challenger.average_precision_N - other.average_precision_N
    return bootstrap_mean(difference, challenger.customers_N, seed)


def slices_of(weeks: Sequence[LabelWeek], segments: npt.NDArray[np.uint8]) -> dict[str, Bool]:
    """Name → which customer-weeks belong to it: by recency of the history and by age band."""
    idle = np.concatenate([week.idle_days_N for week in weeks])
    segment = segments[np.concatenate([week.customers_N for week in weeks])]
    slices: dict[str, Bool] = {
        "warm": (idle >= 0) & (idle <= WARM_DAYS),
        "lapsed": idle > WARM_DAYS,
        "cold": idle < 0,
    }
    bounds = [*AGE_BANDS[1:], 0.0]
    for number, (low, high) in enumerate(zip(AGE_BANDS, bounds, strict=True), start=1):
        name = (
            f"age under {high:.0f}"
            if not low
            else f"age {low:.0f} and over"
            if not high
            else f"age {low:.0f} to {high - 1:.0f}"
        )
        slices[name] = segment == number
    slices["age unknown"] = segment == len(AGE_BANDS) + 1
    return slices


def slice_table(outcomes: Mapping[str, Outcome], slices: Mapping[str, Bool]) -> dict[str, dict[str, Any]]:
    """map_at_12 of each model in each slice that has customers."""
    table: dict[str, dict[str, Any]] = {}
    for name, rows in slices.items():
        if rows.any():
            means = {model: float(outcome.average_precision_N[rows].mean()) for model, outcome in outcomes.items()}
            table[name] = {"n": int(rows.sum()), "map_at_12": means}
    return table
