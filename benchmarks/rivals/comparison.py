"""Our recommender and the rivals on the same customers and label weeks: means, intervals, paired differences."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from rich.table import Table

from benchmarks.rivals.past import Past
from benchmarks.rivals.rules import (
    Rival,
    copurchase,
    frequency,
    implicit_als,
    implicit_bm25,
    repurchase,
    segment_popularity,
)
from benchmarks.rivals.two_stage import TwoStage
from pipelines.recommender.hyperparameters import Hyperparameters
from pipelines.recommender.interactions import Bool, Float64, Int32, Int64
from pipelines.recommender.label_week import buyers_of, is_among, purchase_keys
from pipelines.recommender.metrics import Interval, average_precision, bootstrap_mean, recall
from pipelines.recommender.shop import Shop
from pipelines.recommender.training import Trainer

OURS = "ours"
LIGHTGBM = "lightgbm"
RULES: dict[str, Rival] = {
    "repurchase": repurchase,
    "frequency": frequency,
    "segment_popularity": segment_popularity,
    "copurchase": copurchase,
    "implicit_als": implicit_als,
    "implicit_bm25": implicit_bm25,
}
NAMES = (OURS, *RULES, LIGHTGBM)


@dataclass(frozen=True)
class Answered:
    """One competitor's hits over the buyers of one or more label weeks; rows agree across competitors."""

    customers_N: Int32
    n_bought_N: Int64
    hits_NK: Bool

    @property
    def average_precision_N(self) -> Float64:
        return average_precision(self.hits_NK, self.n_bought_N, 12)


@dataclass
class Compared:
    """What each competitor did in each label week, newest first."""

    outcomes: dict[str, list[Answered]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    candidate_recall: list[float] = field(default_factory=list)
    importance: dict[str, float] = field(default_factory=dict)

    def add(self, name: str, outcome: Answered, seconds: float) -> None:
        self.outcomes.setdefault(name, []).append(outcome)
        self.seconds[name] = self.seconds.get(name, 0.0) + seconds


def compare(
    shop: Shop,
    cutoff_days: Sequence[int],
    horizon_days: int,
    names: Sequence[str],
    hyperparameters: Hyperparameters,
    on_outcome: Callable[[str, int, Answered], None] = lambda *_: None,
) -> Compared:
    """Fit every competitor strictly before each cutoff and score it on all buyers of the window that starts there."""
    purchases, compared = shop.interactions, Compared()
    known_before = min(cutoff_days)  # the data decides some settings: not by what any label window holds
    trainer = Trainer(
        purchases, shop.catalogue, shop.segments, horizon_days, hyperparameters, known_before=known_before
    )
    pasts: dict[int, Past] = {}

    def past_of(day: int) -> Past:
        if day not in pasts:
            pasts[day] = Past(purchases.before(day), shop.catalogue, shop.segments, day)
        return pasts[day]

    two_stage = TwoStage(past_of, purchases, horizon_days)
    for day in cutoff_days:
        bought = purchases.between(day, day + horizon_days)
        buyers, n_bought = buyers_of(bought)
        keys = purchase_keys(bought)
        for name in names:
            started = time.perf_counter()
            if name == OURS:
                model = trainer.evaluate_at(day).model
                outcome = Answered(model.customers_N, model.n_bought_N, model.hits_NK[:, :12])
            else:
                rule = two_stage.answer if name == LIGHTGBM else RULES[name]
                answers = rule(past_of(day), buyers, 12)
                outcome = Answered(buyers, n_bought, is_among(answers, buyers, keys, purchases.n_articles))
            compared.add(name, outcome, time.perf_counter() - started)
            on_outcome(name, day, outcome)
        if LIGHTGBM in names:
            found = np.isin(keys, np.concatenate(two_stage.candidate_keys)).astype(np.float64)
            row = np.searchsorted(buyers, keys // purchases.n_articles)
            compared.candidate_recall.append(float((np.bincount(row, found) / n_bought).mean()))
            compared.importance = two_stage.importance
        pasts.clear()
    return compared


def _pool(weeks: Sequence[Answered]) -> Answered:
    # A shop with fewer than 12 articles is answered with all of them.
    width = min(week.hits_NK.shape[1] for week in weeks)
    return Answered(
        np.concatenate([week.customers_N for week in weeks]),
        np.concatenate([week.n_bought_N for week in weeks]),
        np.concatenate([week.hits_NK[:, :width] for week in weeks]),
    )


def _difference(ours: Answered, other: Answered, seed: int) -> Interval:
    if not np.array_equal(ours.customers_N, other.customers_N):
        raise ValueError("outcomes are not of the same customers in the same order")
    return bootstrap_mean(ours.average_precision_N - other.average_precision_N, ours.customers_N, seed)


def summary(compared: Compared, seed: int) -> dict[str, Any]:
    """Pool the weeks: `rivals` by name, and `differences` of ours to each, with 95 % intervals over customers."""
    pooled = {name: _pool(outcomes) for name, outcomes in compared.outcomes.items()}
    rivals = {}
    for name, outcome in pooled.items():
        interval = bootstrap_mean(outcome.average_precision_N, outcome.customers_N, seed)
        rivals[name] = {
            "map_at_12": interval.mean,
            "low": interval.low,
            "high": interval.high,
            "recall_at_12": float(recall(outcome.hits_NK, outcome.n_bought_N, 12).mean()),
            "seconds": round(compared.seconds[name], 1),
        }
    document: dict[str, Any] = {"rivals": rivals, "n_customer_weeks": len(next(iter(pooled.values())).customers_N)}
    if OURS in pooled:
        document["differences"] = {
            name: asdict(_difference(pooled[OURS], outcome, seed))
            | {"ratio": rivals[OURS]["map_at_12"] / rivals[name]["map_at_12"] if rivals[name]["map_at_12"] else None}
            for name, outcome in pooled.items()
            if name != OURS
        }
    if compared.candidate_recall:
        document["lightgbm_candidate_recall"] = float(np.mean(compared.candidate_recall))
        document["lightgbm_importance"] = dict(sorted(compared.importance.items(), key=lambda item: -item[1])[:15])
    return document


def as_table(document: dict[str, Any], title: str) -> Table:
    """Lay out a summary for a terminal, best first."""
    table = Table(
        "model", "map_at_12", "95 %", "recall_at_12", "ours − it", "95 %", "ours / it", "seconds", title=title
    )
    differences = document.get("differences", {})
    for name, row in sorted(document["rivals"].items(), key=lambda item: -item[1]["map_at_12"]):
        gap = differences.get(name)
        table.add_row(
            name,
            f"{row['map_at_12']:.4f}",
            f"{row['low']:.4f} … {row['high']:.4f}",
            f"{row['recall_at_12']:.4f}",
            f"{gap['mean']:+.4f}" if gap else "",
            f"{gap['low']:+.4f} … {gap['high']:+.4f}" if gap else "",
            f"{gap['ratio']:.3f}" if gap and gap["ratio"] else "",
            f"{row['seconds']:,.1f}",
        )
    return table
