"""Baselines: what they recommend, their ties, and what they may see."""

import numpy as np
import pytest

from pipelines.recommender.baselines import (
    BASELINES,
    frequency_then_popularity,
    recent_popularity,
    repurchase_then_popularity,
)
from tests.pipelines.recommender.small_shop import absurd_future, interactions_of, random_shop

EVERYBODY = np.arange(3, dtype=np.int32)


def test_best_sellers_of_the_last_week_lead_and_older_ones_follow() -> None:
    past = interactions_of(
        [
            (0, 10, 4),  # the week before day 20 begins on day 13
            (1, 10, 4),
            (2, 12, 3),
            (0, 13, 2),
            (1, 19, 1),
            (2, 19, 1),
        ],
        n_customers=3,
        n_articles=6,
    )
    articles = recent_popularity(past, EVERYBODY, day=20, k=5)
    assert articles.tolist() == [[1, 2, 4, 3, -1]] * 3  # article 0 and 5 were never sold


def test_ties_go_to_the_smaller_article_index() -> None:
    past = interactions_of([(0, 19, article) for article in (5, 3, 4)], n_customers=3, n_articles=6)
    assert recent_popularity(past, EVERYBODY[:1], day=20, k=3).tolist() == [[3, 4, 5]]


def test_own_purchases_come_newest_first_then_best_sellers() -> None:
    past = interactions_of(
        [(0, 1, 5), (0, 2, 4), (0, 2, 4), (0, 3, 5), (1, 19, 0), (1, 19, 1), (2, 19, 0)], n_customers=3, n_articles=6
    )
    articles = repurchase_then_popularity(past, EVERYBODY, day=20, k=4)
    assert articles.tolist() == [[5, 4, 0, 1], [1, 0, 4, 5], [0, 1, 4, 5]]


def test_a_customer_without_history_gets_the_best_sellers() -> None:
    past = interactions_of([(0, 19, 2)], n_customers=3, n_articles=3)
    cold = np.array([2], dtype=np.int32)
    assert repurchase_then_popularity(past, cold, 20, 2).tolist() == recent_popularity(past, cold, 20, 2).tolist()


def test_what_was_bought_before_two_hundred_repeats_is_still_found() -> None:
    past = interactions_of([(0, 1, 7), *((0, 2, 3) for _ in range(200)), (1, 19, 0)], n_customers=2, n_articles=9)
    assert repurchase_then_popularity(past, EVERYBODY[:1], day=20, k=3).tolist() == [[3, 7, 0]]


def test_what_was_bought_most_comes_first_unless_it_is_long_ago() -> None:
    past = interactions_of(
        [*((0, day, 5) for day in (400, 401, 402)), (0, 790, 4), (0, 795, 4), (0, 799, 3), (0, 799, 2), (1, 799, 1)],
        n_customers=3,
        n_articles=6,
    )
    articles = frequency_then_popularity(past, EVERYBODY, day=800, k=5)
    assert articles[0].tolist() == [4, 3, 2, 5, 1]
    assert articles[1].tolist() == [1, 4, 2, 3, 5]


@pytest.mark.parametrize("name", BASELINES)
def test_a_shop_without_a_sale_is_answered_with_padding(name: str) -> None:
    past = interactions_of([], n_customers=3, n_articles=2)
    assert BASELINES[name](past, EVERYBODY, 20, 4).tolist() == [[-1] * 4] * 3


@pytest.mark.parametrize("name", BASELINES)
def test_articles_are_distinct_and_as_many_as_there_are(name: str) -> None:
    past = random_shop(n_articles=8).interactions
    customers = np.arange(past.n_customers, dtype=np.int32)
    for row in BASELINES[name](past, customers, 70, 12).tolist():
        assert sorted(row) == [-1] * 4 + list(range(8))


@pytest.mark.parametrize("name", BASELINES)
def test_the_future_changes_no_recommendation(name: str) -> None:
    interactions = random_shop().interactions
    customers = np.arange(interactions.n_customers, dtype=np.int32)
    then, now = (
        BASELINES[name](each.before(56), customers, 56, 12) for each in (interactions, absurd_future(interactions, 56))
    )
    assert np.array_equal(then, now)
