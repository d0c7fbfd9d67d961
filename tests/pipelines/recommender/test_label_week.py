"""Label weeks: who bought what, from which the past alone gives candidates and features."""

from dataclasses import fields, replace

import numpy as np
import pytest

from pipelines.recommender.interactions import Interactions
from pipelines.recommender.label_week import LabelWeek, build_label_week, buyers_of, is_among, purchase_keys
from pipelines.recommender.shop import Shop
from pipelines.recommender.tables import build_tables
from tests.pipelines.recommender.small_shop import KNOBS, absurd_future, interactions_of, random_shop, with_purchases

DAY = 56


def week_of(
    shop: Shop, interactions: Interactions | None = None, horizon_days: int = 7, **options: object
) -> LabelWeek:
    rows = shop.interactions if interactions is None else interactions
    tables = build_tables(rows, shop.catalogue, shop.segments, DAY, KNOBS)
    return build_label_week(rows, tables, shop.segments, horizon_days, KNOBS, **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def shop() -> Shop:
    return random_shop()


@pytest.fixture(scope="module")
def week(shop: Shop) -> LabelWeek:
    return week_of(shop, keep_all=True)


def test_the_cutoff_day_is_a_label_and_no_history() -> None:
    shop = random_shop()
    rows = interactions_of(
        [(0, DAY - 1, 3), (0, DAY, 4), (1, DAY + 6, 5), (2, DAY + 7, 6)], n_customers=40, n_articles=300
    )
    week = week_of(shop, rows, keep_all=True)
    assert week.customers_N.tolist() == [0, 1]
    assert week.n_history_N.tolist() == [1, 0]
    assert week.idle_days_N.tolist() == [1, -1]
    assert [row[hit].tolist() for row, hit in zip(week.candidates_RC, week.is_bought_RC, strict=True)] == [[4], [5]]


@pytest.mark.parametrize(("horizon_days", "expected"), [(1, [0]), (7, [0, 1]), (8, [0, 1, 2])])
def test_the_horizon_ends_the_label_window(shop: Shop, horizon_days: int, expected: list[int]) -> None:
    rows = interactions_of([(0, DAY, 4), (1, DAY + 6, 5), (2, DAY + 7, 6)], n_customers=40, n_articles=300)
    assert week_of(shop, rows, horizon_days).customers_N.tolist() == expected


def test_buyers_count_different_articles_once() -> None:
    bought = interactions_of([(1, 0, 2), (1, 3, 2), (1, 3, 0), (4, 1, 2)], n_customers=5, n_articles=3)
    customers, n_bought = buyers_of(bought)
    assert customers.tolist() == [1, 4]
    assert n_bought.tolist() == [2, 1]


def test_padding_and_other_customers_purchases_are_no_hits() -> None:
    bought = interactions_of([(0, 0, 2), (1, 0, 0)], n_customers=3, n_articles=3)
    articles_NK = np.array([[2, 0, -1], [-1, 2, 0], [0, 1, 2]])
    hits = is_among(articles_NK, np.array([0, 1, 2], dtype=np.int32), purchase_keys(bought), 3)
    # row 1 column 0: customer 1 with article -1 has the same key as customer 0 with article 2
    assert hits.tolist() == [[True, False, False], [False, False, True], [False, False, False]]


def test_nobody_bought_anything_gives_no_hits() -> None:
    bought = interactions_of([], n_customers=3, n_articles=3)
    assert not is_among(np.array([[0, 1]]), np.array([0], dtype=np.int32), purchase_keys(bought), 3).any()


def later_rows(shop: Shop) -> Interactions:
    return absurd_future(shop.interactions, DAY + 7)


def other_labels(shop: Shop) -> Interactions:
    """The same customers buy something else in the label week: histories and candidates may not move."""
    is_label = (shop.interactions.day >= DAY) & (shop.interactions.day < DAY + 7)
    return replace(shop.interactions, article=np.where(is_label, 299, shop.interactions.article).astype(np.int32))


@pytest.mark.parametrize("name", [field.name for field in fields(LabelWeek)])
def test_rows_after_the_label_week_change_nothing(shop: Shop, week: LabelWeek, name: str) -> None:
    assert same(getattr(week, name), getattr(week_of(shop, later_rows(shop), keep_all=True), name))


@pytest.mark.parametrize("name", ["customers_N", "n_history_N", "idle_days_N", "candidates_RC", "features_RCF"])
def test_labels_change_neither_candidates_nor_features(shop: Shop, week: LabelWeek, name: str) -> None:
    assert same(getattr(week, name), getattr(week_of(shop, other_labels(shop), keep_all=True), name))


def same(one: object, other: object) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)
    return np.array_equal(one, other)  # type: ignore[arg-type]


def test_customers_without_a_bought_candidate_are_dropped_unless_all_are_kept(shop: Shop) -> None:
    few = KNOBS.model_copy(update={"n_candidates": 164})
    past = shop.interactions.before(DAY)
    tables = build_tables(past, shop.catalogue, shop.segments, DAY, few)

    def week_with(article: int, *, keep_all: bool) -> LabelWeek:
        rows = with_purchases(past, (3, DAY, article), (4, DAY, 0))
        return build_label_week(rows, tables, shop.segments, 7, few, keep_all=keep_all)

    missed = min(set(range(300)) - set(week_with(0, keep_all=True).candidates_RC[0].tolist()))
    kept, every = (week_with(missed, keep_all=keep_all) for keep_all in (False, True))
    assert kept.customers_N.tolist() == every.customers_N.tolist() == [3, 4]
    assert every.is_bought_RC.sum(axis=1).tolist() == [0, 1]
    assert every.described_R.tolist() == [0, 1]
    assert kept.described_R.tolist() == [1]
    assert np.array_equal(kept.features_RCF, every.features_RCF[1:])


@pytest.mark.parametrize("threads", [2, 3])
def test_the_number_of_threads_changes_nothing(shop: Shop, week: LabelWeek, threads: int) -> None:
    knobs = KNOBS.model_copy(update={"threads": threads})
    tables = build_tables(shop.interactions, shop.catalogue, shop.segments, DAY, knobs)
    threaded = build_label_week(shop.interactions, tables, shop.segments, 7, knobs, keep_all=True)
    for field in fields(LabelWeek):
        assert same(getattr(threaded, field.name), getattr(week, field.name)), field.name


def test_a_sample_of_customers_is_drawn_again_alike(shop: Shop, week: LabelWeek) -> None:
    samples = [week_of(shop, max_customers=5) for _ in range(2)]
    assert samples[0].customers_N.tolist() == samples[1].customers_N.tolist()
    assert len(samples[0].customers_N) == 5
    assert set(samples[0].customers_N.tolist()) < set(week.customers_N.tolist())


def test_named_customers_are_described_as_in_the_whole_week(shop: Shop, week: LabelWeek) -> None:
    chosen = week.customers_N[[0, 2, 5]]
    part = week_of(shop, customers=chosen, keep_all=True)
    assert part.customers_N.tolist() == chosen.tolist()
    assert part.n_bought_N.tolist() == week.n_bought_N[[0, 2, 5]].tolist()
    assert np.array_equal(part.candidates_RC, week.candidates_RC[[0, 2, 5]])


def test_a_week_without_a_buyer_is_empty(shop: Shop) -> None:
    week = week_of(shop, shop.interactions.before(DAY))
    assert len(week.customers_N) == len(week.candidates_RC) == len(week.features_RCF) == 0
