"""Score models and baselines on the same customers and label weeks, with intervals and slices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pipelines.recommender.baselines import BASELINES
from pipelines.recommender.interactions import Bool, Float64, Int32, Int64, Interactions
from pipelines.recommender.label_week import LabelWeek, is_among, purchase_keys
from pipelines.recommender.metrics import (
    Interval,
    average_precision,
    bootstrap_mean,
    bootstrap_means,
    hit_rate,
    ndcg,
    novelty,
    recall,
    self_information,
)
from pipelines.recommender.tables import AGE_BANDS

WARM_DAYS = 91
"""A customer is warm with a purchase in the last 13 weeks, lapsed with an older one, cold without any."""
NOVELTY_DAYS = 91
"""Sales of the 13 weeks before the label week say how rare an article is."""
CHANNELS = {1: "store", 2: "online"}
"""sales_channel_id, as the H&M competition numbers it."""


@dataclass(frozen=True)
class Outcome:
    """One model's (or rule's) hits over the buyers of one or more label weeks; rows agree across models."""

    customers_N: Int32
    n_bought_N: Int64
    hits_NK: Bool
    """Is the article at each rank among the bought? K = 100 for a model, 12 for a rule."""

    articles_NK: Int32
    """article_index of the first 12 answers, best first; -1 pads."""
    novelty_N: Float64

    @property
    def average_precision_N(self) -> Float64:
        return average_precision(self.hits_NK, self.n_bought_N, 12)


def outcome_of(week: LabelWeek, hits_NK: Bool, articles_NK: Int32 | Int64, interactions: Interactions) -> Outcome:
    """Judge a model's answers to a week's buyers: hits at every rank, and which articles the first 12 are."""
    recent = interactions.between(week.day - NOVELTY_DAYS, week.day)
    information_A = self_information(np.bincount(recent.article, minlength=interactions.n_articles))
    first = articles_NK[:, :12].astype(np.int32)
    return Outcome(week.customers_N, week.n_bought_N, hits_NK, first, novelty(first, information_A))


def baseline_outcomes(week: LabelWeek, interactions: Interactions, horizon_days: int) -> dict[str, Outcome]:
    """Ask each rule for the week's buyers, from the purchases before it."""
    past = interactions.before(week.day)
    bought_keys = purchase_keys(interactions.between(week.day, week.day + horizon_days))
    outcomes = {}
    for name, rule in BASELINES.items():
        articles_NK = rule(past, week.customers_N, week.day, 12)
        hits_NK = is_among(articles_NK, week.customers_N, bought_keys, interactions.n_articles)
        outcomes[name] = outcome_of(week, hits_NK, articles_NK, interactions)
    return outcomes


def pool(outcomes: Sequence[Outcome]) -> Outcome:
    """Put the customer-weeks of several label weeks together."""
    width = min(outcome.hits_NK.shape[1] for outcome in outcomes)
    narrow = min(outcome.articles_NK.shape[1] for outcome in outcomes)
    return Outcome(
        np.concatenate([outcome.customers_N for outcome in outcomes]),
        np.concatenate([outcome.n_bought_N for outcome in outcomes]),
        np.concatenate([outcome.hits_NK[:, :width] for outcome in outcomes]),
        np.concatenate([outcome.articles_NK[:, :narrow] for outcome in outcomes]),
        np.concatenate([outcome.novelty_N for outcome in outcomes]),
    )


def metric_values(outcome: Outcome) -> dict[str, Float64]:
    """Every metric of each customer-week; all are shares but novelty_at_12, which is in bits."""
    values = {
        "map_at_12": outcome.average_precision_N,
        "recall_at_12": recall(outcome.hits_NK, outcome.n_bought_N, 12),
        "ndcg_at_12": ndcg(outcome.hits_NK, outcome.n_bought_N, 12),
        "hit_rate_at_12": hit_rate(outcome.hits_NK, 12),
        "novelty_at_12": outcome.novelty_N,
    }
    if outcome.hits_NK.shape[1] > 12:
        values["recall_at_100"] = recall(outcome.hits_NK, outcome.n_bought_N, 100)
    return values


def coverage(outcome: Outcome, live_N: Int64) -> float:
    """Share of the live articles that somebody finds among the first 12."""
    return float(np.isin(live_N, outcome.articles_NK).mean())


def summarise(outcome: Outcome, seed: int) -> dict[str, dict[str, float | int]]:
    """Mean and 95 % interval of each metric."""
    values = metric_values(outcome)
    intervals = bootstrap_means(np.stack(list(values.values()), axis=1), outcome.customers_N, seed)
    return {name: asdict(interval) for name, interval in zip(values, intervals, strict=True)}


def paired_difference(challenger: Outcome, other: Outcome, seed: int) -> Interval:
    """Difference in map_at_12 on the same customer-weeks, with its paired 95 % interval."""
    if not np.array_equal(challenger.customers_N, other.customers_N):
        raise ValueError("outcomes are not of the same customers in the same order")
    difference = challenger.average_precision_N - other.average_precision_N
    return bootstrap_mean(difference, challenger.customers_N, seed)


def main_channel(past: Interactions, customers_N: Int32) -> npt.NDArray[np.int8]:
    """The channel of most of each customer's purchases, of the newest where it is even; 0 without purchases."""
    if not len(past):
        return np.zeros(len(customers_N), dtype=np.int8)
    n_online = np.concatenate([[0], np.cumsum(past.channel == 2)])
    starts, ends = past.offsets[customers_N], past.offsets[customers_N + 1]
    n_all = ends - starts
    balance = 2 * (n_online[ends] - n_online[starts]) - n_all
    newest = past.channel[np.maximum(ends - 1, 0)]
    channel = np.where(balance > 0, 2, np.where(balance < 0, 1, newest))
    return np.where(n_all > 0, channel, 0).astype(np.int8)


def slices_of(
    weeks: Sequence[LabelWeek], segments: npt.NDArray[np.uint8], interactions: Interactions
) -> dict[str, Bool]:
    """Name → which customer-weeks belong to it: by recency of the history, by age band and by main channel.

    All of it is known before the label week; the slices of one kind part the customer-weeks.
    """
    idle = np.concatenate([week.idle_days_N for week in weeks])
    segment = segments[np.concatenate([week.customers_N for week in weeks])]
    channel = np.concatenate([main_channel(interactions.before(week.day), week.customers_N) for week in weeks])
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
    slices |= {f"channel {name}": channel == number for number, name in CHANNELS.items()}
    slices["channel none"] = channel == 0
    return slices


def slice_table(
    model: Outcome, baselines: Mapping[str, Outcome], slices: Mapping[str, Bool], seed: int
) -> dict[str, dict[str, Any]]:
    """Each slice that has customers: map_at_12 of the model and each rule, and the paired differences to the rules."""
    table: dict[str, dict[str, Any]] = {}
    outcomes = {"model": model, **baselines}
    for name, rows in slices.items():
        if not rows.any():
            continue
        values = {who: outcome.average_precision_N[rows] for who, outcome in outcomes.items()}
        gains_NM = np.stack([values["model"] - values[rule] for rule in baselines], axis=1)
        intervals = bootstrap_means(gains_NM, model.customers_N[rows], seed)
        table[name] = {
            "n": int(rows.sum()),
            "map_at_12": {who: float(value.mean()) for who, value in values.items()},
            "differences": {rule: asdict(interval) for rule, interval in zip(baselines, intervals, strict=True)},
        }
    return table
