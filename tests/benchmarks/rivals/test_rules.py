"""The rules beside ours: what they recommend, and that none sees the label window."""

import numpy as np
import pytest

from benchmarks.rivals.comparison import RULES
from benchmarks.rivals.past import Past
from benchmarks.rivals.rules import Rival, copurchase, frequency, segment_popularity
from benchmarks.rivals.two_stage import TwoStage
from pipelines.recommender.interactions import Interactions
from pipelines.recommender.shop import Shop
from tests.pipelines.recommender.small_shop import absurd_future, random_shop, shop_of

DAY = 56
EVERYBODY = np.arange(40, dtype=np.int32)


def past_of(shop: Shop, day: int, purchases: Interactions | None = None) -> Past:
    return Past((purchases or shop.interactions).before(day), shop.catalogue, shop.segments, day)


def two_stage(shop: Shop, purchases: Interactions) -> Rival:
    return TwoStage(lambda day: past_of(shop, day, purchases), purchases, horizon_days=7).answer


def test_what_others_bought_in_the_same_week_is_recommended() -> None:
    together = [(customer, 10, article) for customer in (0, 1, 2) for article in (3, 4)]
    shop = shop_of([*together, (3, 15, 3), (4, 15, 9)], n_customers=5, n_articles=10)
    answers = copurchase(past_of(shop, 20), np.array([3, 4], dtype=np.int32), 2)
    assert answers[0, 0] == 4
    assert answers[1].tolist() == [3, 9]  # nothing goes with article 9: best sellers of the last week


def test_what_was_bought_most_leads() -> None:
    often = [(0, day, 3) for day in (1, 5, 9)]
    shop = shop_of([*often, (0, 15, 4), (1, 19, 5)], n_customers=2, n_articles=6)
    assert frequency(past_of(shop, 20), np.array([0], dtype=np.int32), 3).tolist() == [[3, 4, 5]]


def test_best_sellers_are_those_of_the_own_age_band() -> None:
    young = [(0, 19, 1)] * 400
    old = [(1, 19, 2)] * 300
    shop = shop_of([*young, *old], n_customers=3, n_articles=4, segments=[1, 5, 5])
    answers = segment_popularity(past_of(shop, 20), np.array([0, 2], dtype=np.int32), 2)
    assert answers.tolist() == [[1, 2], [2, 1]]


@pytest.mark.parametrize("name", RULES)
def test_answers_are_distinct_articles_and_as_many_as_asked(name: str) -> None:
    answers = RULES[name](past_of(random_shop(), DAY), EVERYBODY, 12)
    assert answers.shape == (40, 12)
    assert (answers >= 0).all()
    assert all(len(set(row)) == 12 for row in answers.tolist())


@pytest.mark.parametrize("name", RULES)
def test_purchases_of_the_cutoff_day_and_later_change_nothing(name: str) -> None:
    shop = random_shop()
    future = absurd_future(shop.interactions, DAY)
    now = RULES[name](past_of(shop, DAY), EVERYBODY, 12)
    assert (RULES[name](past_of(shop, DAY, future), EVERYBODY, 12) == now).all()


def test_the_two_stage_ranker_does_not_see_the_label_window() -> None:
    shop = random_shop()
    future = absurd_future(shop.interactions, DAY)
    now = two_stage(shop, shop.interactions)(past_of(shop, DAY), EVERYBODY, 12)
    assert (two_stage(shop, future)(past_of(shop, DAY, future), EVERYBODY, 12) == now).all()


def test_the_two_stage_ranker_learns_from_label_weeks_that_people_come_back_for_what_they_bought() -> None:
    rng = np.random.default_rng(3)
    weekly = [(customer, 7 * week + customer % 7, 100 + customer) for customer in range(40) for week in range(10)]
    noise = [(int(rng.integers(40)), int(rng.integers(70)), int(rng.integers(100))) for _ in range(600)]
    shop = shop_of([*weekly, *noise], n_customers=40, n_articles=140)
    answers = two_stage(shop, shop.interactions)(past_of(shop, 63), EVERYBODY, 12)
    assert (answers[:, 0] == 100 + EVERYBODY).mean() > 0.9
