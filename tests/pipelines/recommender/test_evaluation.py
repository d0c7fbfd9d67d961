"""Outcomes on the same customers: pooled, compared, sliced, and what the gate and the report are told."""

import json
import weakref
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from pipelines.recommender.baselines import BASELINES
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
from pipelines.recommender.evaluation import outcome_of as judged
from pipelines.recommender.label_week import LabelWeek
from pipelines.recommender.measurements import headline, measured, rival_of
from pipelines.recommender.training import Evaluated, Trainer
from tests.pipelines.recommender.small_shop import KNOBS, absurd_future, interactions_of, random_shop
from tests.pipelines.recommender.test_fitting import synthetic_week


def outcome_of(hits: list[list[int]], n_bought: list[int], customers: list[int] | None = None) -> Outcome:
    hits_NK = np.zeros((len(hits), 12), dtype=np.bool_)
    for row, ranks in enumerate(hits):
        hits_NK[row, [rank - 1 for rank in ranks]] = True
    names = range(len(hits)) if customers is None else customers
    articles_NK = np.tile(np.arange(12, dtype=np.int32), (len(hits), 1))
    return Outcome(
        np.array(names, dtype=np.int32),
        np.array(n_bought, dtype=np.int64),
        hits_NK,
        articles_NK,
        np.full(len(hits), 3.0),
    )


def test_a_rival_counts_customers_beside_their_weeks() -> None:
    model, rule = (outcome_of([[1], ranks, [2]], [1, 1, 1], customers=[4, 4, 9]) for ranks in ([1], []))
    rival = rival_of("rule", model, rule, {}, seed=7)
    assert (rival.difference.n, rival.n_units) == (3, 2)


@pytest.fixture(scope="module")
def trainer() -> Trainer:
    shop = random_shop()
    return Trainer(shop.interactions, shop.catalogue, shop.segments, 7, KNOBS)


@pytest.fixture(scope="module")
def evaluated(trainer: Trainer) -> list[Evaluated]:
    return [trainer.evaluate_at(day) for day in (63, 56)]


def test_metrics_carry_their_full_names() -> None:
    outcome = outcome_of([[1, 3], []], [2, 1])
    values = {name: float(each.mean()) for name, each in metric_values(outcome).items()}
    assert values == pytest.approx(
        {
            "map_at_12": (1 + 2 / 3) / 2 / 2,
            "recall_at_12": 1 / 2,
            "ndcg_at_12": (1 + 1 / 2) / (1 + 1 / np.log2(3)) / 2,
            "hit_rate_at_12": 1 / 2,
            "novelty_at_12": 3,
        }
    )


def test_recall_at_100_is_only_said_of_what_ranks_a_hundred() -> None:
    wide = replace(outcome_of([[]], [1]), hits_NK=np.eye(1, 100, 50, dtype=np.bool_))
    assert metric_values(wide)["recall_at_100"].tolist() == [1.0]
    assert metric_values(wide)["recall_at_12"].tolist() == [0.0]


def test_summaries_hold_mean_and_interval() -> None:
    summary = summarise(outcome_of([[1], [1], []], [1, 1, 1]), seed=0)["map_at_12"]
    assert summary["mean"] == pytest.approx(2 / 3)
    assert 0 <= summary["low"] < summary["mean"] < summary["high"] <= 1
    assert summary["n"] == 3


def test_pooling_keeps_every_customer_week() -> None:
    first, second = outcome_of([[1], []], [1, 2], [4, 5]), outcome_of([[2]], [1], [4])
    both = pool([first, second])
    assert both.customers_N.tolist() == [4, 5, 4]
    assert both.average_precision_N.tolist() == [1, 0, 0.5]


def test_difference_is_paired() -> None:
    # Both are noisy, and one is better by the same amount on everyone: the interval has no width.
    hits = [[1], [1, 2], [1]] * 5
    better = outcome_of(hits, [2] * 15)
    worse = outcome_of([[2], [1], [2]] * 5, [2] * 15)
    difference = paired_difference(better, worse, seed=0)
    expected = [(1 - 1 / 2) / 2, 1 - 1 / 2, (1 - 1 / 2) / 2]
    assert difference.mean == pytest.approx(np.mean(expected))
    assert difference.low >= min(expected)
    assert paired_difference(better, better, seed=0).high == 0


def test_outcomes_of_other_customers_are_not_compared() -> None:
    with pytest.raises(ValueError, match="not of the same customers"):
        paired_difference(outcome_of([[1]], [1], [1]), outcome_of([[1]], [1], [2]), seed=0)


def test_slices_part_the_customers_by_recency_and_by_age() -> None:
    week = replace(synthetic_week(6), idle_days_N=np.array([-1, 1, 91, 92, 400, -1]))
    nothing = interactions_of([], n_customers=6, n_articles=20)
    slices = slices_of([week], np.array([1, 2, 3, 4, 5, 6], dtype=np.uint8), nothing)
    recency = {name: rows.tolist() for name, rows in slices.items() if not name.startswith(("age", "channel"))}
    assert recency == {
        "warm": [False, True, True, False, False, False],
        "lapsed": [False, False, False, True, True, False],
        "cold": [True, False, False, False, False, True],
    }
    ages = [name for name in slices if name.startswith("age")]
    assert ages == ["age under 25", "age 25 to 34", "age 35 to 44", "age 45 to 54", "age 55 and over", "age unknown"]
    assert np.stack([slices[name] for name in ages]).tolist() == np.eye(6, dtype=np.bool_).tolist()


def test_slices_part_the_customers_by_main_channel_before_the_week() -> None:
    # Customer 0 is even, the newest online; 1 is even, the newest in a store; 2 went online only in the label week.
    rows = [(0, 1, 1, 1), (0, 2, 1, 2), (1, 1, 1, 2), (1, 2, 1, 1), (2, 3, 1, 1), (2, 9, 1, 2), (2, 10, 1, 2)]
    rows += [(3, 1, 1, 2), (3, 2, 1, 2), (3, 3, 1, 1), (4, 10, 1, 2)]
    usual = interactions_of([row[:3] for row in rows], n_customers=6, n_articles=20)
    interactions = replace(usual, channel=np.array([row[3] for row in rows], dtype=np.int8))
    week = replace(synthetic_week(6), day=9)
    slices = slices_of([week], np.full(6, 6, dtype=np.uint8), interactions)
    channels = {name: np.flatnonzero(rows).tolist() for name, rows in slices.items() if name.startswith("channel")}
    assert channels == {"channel store": [1, 2], "channel online": [0, 3], "channel none": [4, 5]}


def test_each_slice_says_how_sure_its_difference_is() -> None:
    model, rule = outcome_of([[1], [1], []], [1, 1, 1]), outcome_of([[], [2], []], [1, 1, 1])
    rows = {"warm": np.array([True, True, False]), "cold": np.array([False, False, False])}
    table = slice_table(model, {"rule": rule}, rows, seed=0)
    assert set(table) == {"warm"}  # nobody is cold
    assert table["warm"]["n"] == 2
    assert table["warm"]["map_at_12"] == {"model": 1.0, "rule": (0 + 1 / 2) / 2}
    assert table["warm"]["differences"] == {"rule": {"mean": 0.75, "low": 0.5, "high": 1.0, "n": 2}}


def test_novelty_counts_the_sales_of_the_quarter_before_the_week() -> None:
    # Of 4 sales 2 are of article 0, 1 bit, and 1 of 1 and 3 each, 2 bits; 2 sold before and after, as if once.
    sales = [(0, 99, 0), (1, 98, 0), (0, 99, 1), (1, 9, 3), (2, 8, 2), (0, 8, 2), (1, 100, 2), (2, 100, 2)]
    interactions = interactions_of(sales, n_customers=3, n_articles=4)
    answers_NK = np.array([[0, 1, -1], [3, 2, -1], [0, -1, -1]])
    outcome = judged(replace(synthetic_week(3), day=100), np.zeros((3, 3), np.bool_), answers_NK, interactions)
    assert outcome.novelty_N.tolist() == [(1 + 2) / 2, (2 + 2) / 2, 1]


def test_coverage_is_of_live_articles() -> None:
    outcome = replace(outcome_of([[], []], [1, 1]), articles_NK=np.array([[0, 1, -1], [1, 9, -1]], dtype=np.int32))
    assert coverage(outcome, np.array([0, 1, 2, 3])) == 2 / 4  # 9 is dead


def test_headline_is_of_the_label_week_and_the_backtest_of_all(evaluated: list[Evaluated]) -> None:
    metrics, baselines = headline(evaluated)
    alone, _ = headline(evaluated[:1])
    assert alone == {name: value for name, value in metrics.items() if not name.startswith("backtest_")}
    means, sizes = zip(
        *((one.model.average_precision_N.mean(), len(one.week.customers_N)) for one in evaluated), strict=True
    )
    assert metrics["map_at_12"] == pytest.approx(means[0])
    assert metrics["backtest_map_at_12"] == pytest.approx(np.average(means, weights=sizes))
    assert metrics["backtest_n_customers"] == sum(sizes)
    assert set(baselines) == set(BASELINES)
    for one in (metrics, *baselines.values()):
        assert 0 < one["catalogue_coverage"] <= 1  # type: ignore[operator]
        assert one["novelty_at_12"] > 0  # type: ignore[operator]
    assert metrics["novelty_at_12"] > baselines["recent_popularity"]["novelty_at_12"]  # type: ignore[operator]


def test_measurements_are_json_and_name_every_week_and_rival(trainer: Trainer, evaluated: list[Evaluated]) -> None:
    champion = ("v1", evaluated[0].baselines["recent_popularity"])
    rivals, held_against, document = measured(evaluated, trainer.interactions, trainer.segments, champion, seed=7)
    text: dict[str, Any] = json.loads(json.dumps(document, allow_nan=False))
    assert [week["day"] for week in text["weeks"]] == [63, 56]
    assert set(rivals) == set(BASELINES)
    assert held_against is not None
    assert held_against.difference.n == len(evaluated[0].week.customers_N)  # the label week alone
    assert rivals["recent_popularity"].difference.n == sum(len(one.week.customers_N) for one in evaluated)
    assert text["champion"]["version"] == "v1"
    assert set(text["champion"]["slices"]) <= set(text["slices"])


def test_without_a_champion_none_is_reported(trainer: Trainer, evaluated: list[Evaluated]) -> None:
    _, held_against, document = measured(evaluated[:1], trainer.interactions, trainer.segments, None, seed=7)
    assert held_against is None
    assert "champion" not in document


def test_rows_after_the_label_week_change_no_measurement(trainer: Trainer, evaluated: list[Evaluated]) -> None:
    later = absurd_future(trainer.interactions, 70)
    again = Trainer(later, trainer.catalogue, trainer.segments, 7, KNOBS).evaluate_at(63)
    assert headline([again]) == headline(evaluated[:1])


def test_chunks_of_customers_are_evaluated_as_the_whole_week(
    trainer: Trainer, evaluated: list[Evaluated], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.recommender.training.EVALUATION_CHUNK", 5)
    chunked = trainer.evaluate_at(63)
    assert len(chunked.week.customers_N) > 10
    assert np.array_equal(chunked.model.hits_NK, evaluated[0].model.hits_NK)
    assert chunked.week.idle_days_N.tolist() == evaluated[0].week.idle_days_N.tolist()
    assert headline([chunked]) == headline(evaluated[:1])


def test_a_chunk_of_customers_is_let_go_before_the_next_but_one(
    trainer: Trainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    described: list[weakref.ref[Any]] = []
    n_held = []

    def describe(*args: Any, **which: Any) -> LabelWeek:
        n_held.append(sum(features() is not None for features in described))
        week = Trainer._describe(trainer, *args, **which)
        described.append(weakref.ref(week.features_RCF))
        return week

    monkeypatch.setattr("pipelines.recommender.training.EVALUATION_CHUNK", 5)
    trainer.fit_before(63)
    monkeypatch.setattr(trainer, "_describe", describe)
    trainer.evaluate_at(63)
    assert len(n_held) > 3
    assert max(n_held) <= 1, "memory grows with the number of buyers"
