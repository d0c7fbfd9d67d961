"""Metrics against hand fractions and against ranx."""

import doctest
import warnings
from dataclasses import astuple
from typing import Any

import numpy as np
import pytest

from pipelines.recommender import metrics
from pipelines.recommender.metrics import (
    average_precision,
    average_precision_at_k,
    bootstrap_mean,
    bootstrap_means,
    hit_rate,
    ndcg,
    novelty,
    recall,
    self_information,
)

YES, NO = True, False


def test_doctests_hold() -> None:
    assert doctest.testmod(metrics) == (0, 2)


@pytest.mark.parametrize(
    ("recommended", "bought", "k", "expected"),
    [
        ("abc", "abc", 3, 1),
        ("xyz", "a", 3, 0),
        ("xya", "a", 3, 1 / 3),
        ("axb", "ab", 3, (1 / 1 + 2 / 3) / 2),
        ("xab", "abcd", 3, (1 / 2 + 2 / 3) / 3),  # 4 were bought, 3 places: a perfect answer scores 1
        ("abc", "abcd", 3, 1),
        ("a", "ab", 3, 1 / 2),  # a short answer
        ("xxxa", "a", 3, 0),  # a hit behind rank k is none
        ("aab", "ab", 3, (1 / 1 + 2 / 3) / 2),  # a repeated article counts once, and takes a place
        ("", "a", 3, 0),
    ],
)
def test_average_precision_equals_the_fraction_by_hand(recommended: str, bought: str, k: int, expected: float) -> None:
    assert average_precision_at_k(list(recommended), set(bought), k) == pytest.approx(expected)


def test_average_precision_of_a_customer_without_purchase_is_no_number() -> None:
    assert np.isnan(average_precision_at_k(["a"], set()))


def test_each_metric_equals_its_fraction_by_hand() -> None:
    hits_NK = np.array([[YES, NO, YES, NO], [NO, NO, NO, NO], [NO, YES, NO, NO]])
    n_bought_N = np.array([2, 1, 5])
    assert average_precision(hits_NK, n_bought_N, 4) == pytest.approx([(1 + 2 / 3) / 2, 0, (1 / 2) / 4])
    assert average_precision(hits_NK, n_bought_N, 2) == pytest.approx([1 / 2, 0, (1 / 2) / 2])
    assert recall(hits_NK, n_bought_N, 4) == pytest.approx([1, 0, 1 / 5])
    assert recall(hits_NK, n_bought_N, 1) == pytest.approx([1 / 2, 0, 0])
    assert hit_rate(hits_NK, 1) == pytest.approx([1, 0, 0])
    gain = 1 / np.log2([2, 3, 4, 5])
    expected = [(gain[0] + gain[2]) / gain[:2].sum(), 0, gain[1] / gain.sum()]
    assert ndcg(hits_NK, n_bought_N, 4) == pytest.approx(expected)


def test_novelty_equals_the_bits_by_hand() -> None:
    information_A = self_information(np.array([8, 4, 2, 1, 1, 0]))  # of 16 sales
    assert information_A.tolist() == [1, 2, 3, 4, 4, 4]
    answers_NK = np.array([[0, 1, 2], [5, 5, -1], [3, 0, 0], [-1, -1, -1]])
    assert novelty(answers_NK, information_A, 2).tolist() == [(1 + 2) / 2, 4, (4 + 1) / 2, 0]
    assert novelty(answers_NK, information_A).tolist() == [(1 + 2 + 3) / 3, 4, (4 + 1 + 1) / 3, 0]


def test_novelty_of_a_shop_without_sales_is_a_number() -> None:
    assert novelty(np.array([[0, 1]]), self_information(np.zeros(2, dtype=np.int64))).tolist() == [0]


def test_fewer_columns_than_k_count_as_misses() -> None:
    hits_NK = np.array([[YES, NO]])
    wide_NK = np.array([[YES, *([NO] * 11)]])
    for metric in (average_precision, recall, ndcg):
        assert metric(hits_NK, np.array([3]), 12) == pytest.approx(metric(wide_NK, np.array([3]), 12))


def ranked_and_bought(seed: int, k: int) -> tuple[list[list[str]], list[set[str]]]:
    """Random rankings of k of 40 articles, and baskets of 1 to 20."""
    rng = np.random.default_rng(seed)
    articles = [f"a{n:02d}" for n in range(40)]
    ranked = [rng.permutation(articles)[:k].tolist() for _ in range(60)]
    return ranked, [set(rng.permutation(articles)[: rng.integers(1, 21)].tolist()) for _ in range(60)]


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("k", [1, 5, 12])
def test_both_forms_of_average_precision_agree(seed: int, k: int) -> None:
    ranked, bought = ranked_and_bought(seed, 20)
    hits_NK = np.array([[article in own for article in row] for row, own in zip(ranked, bought, strict=True)])
    expected = [average_precision_at_k(row, own, k) for row, own in zip(ranked, bought, strict=True)]
    assert average_precision(hits_NK, np.array([len(own) for own in bought]), k) == pytest.approx(expected)


@pytest.fixture(scope="module")
def ranx_evaluate() -> Any:
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        warnings.simplefilter("ignore")
        patch.setenv("NUMBA_DISABLE_JIT", "1")  # compiling takes a minute, the formulas are the same without
        ranx = pytest.importorskip("ranx")

    def evaluate(ranked: list[list[str]], bought: list[set[str]], names: list[str]) -> dict[str, Any]:
        qrels = ranx.Qrels({f"q{n}": dict.fromkeys(sorted(own), 1) for n, own in enumerate(bought)})
        run = ranx.Run(
            {f"q{n}": {article: 1 - rank / 100 for rank, article in enumerate(row)} for n, row in enumerate(ranked)}
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # numba's
            ranx.evaluate(qrels, run, names, make_comparable=True)
        order = [f"q{n}" for n in range(len(ranked))]
        return {name: np.array([run.scores[name][query] for query in order]) for name in names}

    return evaluate


def test_metrics_agree_with_ranx(ranx_evaluate: Any) -> None:
    ranked, bought = ranked_and_bought(4, 12)
    theirs = ranx_evaluate(ranked, bought, ["map@12", "recall@12", "ndcg@12", "hit_rate@12"])
    hits_NK = np.array([[article in own for article in row] for row, own in zip(ranked, bought, strict=True)])
    n_bought_N = np.array([len(own) for own in bought])
    # ranx divides by the number of bought articles, the competition by at most 12 of them.
    as_ranx_divides = average_precision(hits_NK, n_bought_N, 12) * np.minimum(n_bought_N, 12) / n_bought_N
    assert (n_bought_N > 12).any()
    assert as_ranx_divides == pytest.approx(theirs["map@12"])
    assert recall(hits_NK, n_bought_N, 12) == pytest.approx(theirs["recall@12"])
    assert ndcg(hits_NK, n_bought_N, 12) == pytest.approx(theirs["ndcg@12"])
    assert hit_rate(hits_NK, 12) == pytest.approx(theirs["hit_rate@12"])


def test_interval_holds_the_mean_and_repeats_with_its_seed() -> None:
    values_N = np.random.default_rng(0).random(200)
    interval = bootstrap_mean(values_N, np.arange(200), seed=3, n_resamples=500)
    assert interval == bootstrap_mean(values_N, np.arange(200), seed=3, n_resamples=500)
    assert interval != bootstrap_mean(values_N, np.arange(200), seed=4, n_resamples=500)
    assert interval.low < interval.mean < interval.high
    # 1.96 standard errors to either side, roughly
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * values_N.std() / np.sqrt(200), rel=0.15)


def test_weeks_of_one_customer_are_one_unit() -> None:
    values_N = np.repeat(np.random.default_rng(0).random(30), 10)
    alone = bootstrap_mean(values_N, np.arange(300), seed=3, n_resamples=500)
    together = bootstrap_mean(values_N, np.repeat(np.arange(30), 10), seed=3, n_resamples=500)
    assert together.high - together.low > 2 * (alone.high - alone.low)


def test_columns_are_resampled_together() -> None:
    rng = np.random.default_rng(0)
    values_NM, customers_N = rng.random((60, 3)), rng.integers(0, 40, 60)
    alone = [bootstrap_mean(column, customers_N, seed=3, n_resamples=50) for column in values_NM.T]
    together = bootstrap_means(values_NM, customers_N, seed=3, n_resamples=50)
    for one, other in zip(alone, together, strict=True):
        assert astuple(one) == pytest.approx(astuple(other))


def test_interval_of_equal_values_has_no_width() -> None:
    interval = bootstrap_mean(np.full(5, 0.25), np.arange(5), seed=0, n_resamples=10)
    assert (interval.mean, interval.low, interval.high, interval.n) == (0.25, 0.25, 0.25, 5)


def test_interval_of_nobody_is_no_number() -> None:
    interval = bootstrap_mean(np.empty(0), np.empty(0, dtype=np.int64), seed=0)
    assert interval.n == 0
    assert np.isnan([interval.mean, interval.low, interval.high]).all()
