"""One morning's tables: only the past counts, and no shop is too small or too strange."""

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest

from pipelines.recommender.interactions import Interactions
from pipelines.recommender.shop import Shop
from pipelines.recommender.tables import N_SEGMENTS, STATIC_FEATURES, Tables, build_tables, segment_of_age
from tests.pipelines.recommender.small_shop import (
    KNOBS,
    Purchase,
    absurd_future,
    catalogue_of,
    interactions_of,
    random_shop,
    shop_of,
    with_purchases,
    without_attributes,
)

DAY = 56
TABLES = [field.name for field in fields(Tables)]


def tables_of(shop: Shop, day: int = DAY, past: Interactions | None = None) -> Tables:
    return build_tables(shop.interactions if past is None else past, shop.catalogue, shop.segments, day, KNOBS)


def feature(tables: Tables, name: str) -> np.ndarray:
    return tables.static_NF[:, STATIC_FEATURES.index(name)]


@pytest.fixture(scope="module")
def shop() -> Shop:
    return random_shop()


@pytest.fixture(scope="module")
def then_and_now(shop: Shop) -> tuple[Tables, Tables]:
    """The tables of the past alone, and those built while absurd rows of that day and later lie beside it."""
    past = shop.interactions.before(DAY)
    return tables_of(shop, past=past), tables_of(shop, past=absurd_future(past, DAY))


@pytest.mark.parametrize("name", TABLES)
def test_the_future_changes_no_table(then_and_now: tuple[Tables, Tables], name: str) -> None:
    then, now = (getattr(tables, name) for tables in then_and_now)
    assert np.array_equal(then, now)


@pytest.mark.parametrize("name", ["static_NF", "retrieval_SN", "neighbours_AM", "log_price_A1"])
def test_the_day_before_does_change_the_tables(shop: Shop, name: str) -> None:
    seen = tables_of(shop, past=absurd_future(shop.interactions, DAY - 1))
    assert not np.array_equal(getattr(seen, name), getattr(tables_of(shop), name))


def no_sale(_: Shop) -> Shop:
    return shop_of([], n_customers=3, n_articles=5)


def one_article(_: Shop) -> Shop:
    return shop_of([(0, 1, 0), (0, 30, 0), (1, 55, 0)], n_customers=2, n_articles=1)


def free_of_charge(shop: Shop) -> Shop:
    return replace(shop, interactions=replace(shop.interactions, price=np.zeros_like(shop.interactions.price)))


def whale(shop: Shop) -> Shop:
    rng = np.random.default_rng(2)
    rows: list[Purchase] = [(3, int(day), int(article)) for day, article in rng.integers(0, 50, (10_000, 2))]
    return replace(shop, interactions=with_purchases(shop.interactions, *rows))


def one_day_of_sales(_: Shop) -> Shop:
    return shop_of([(0, DAY - 1, 3), (1, DAY - 1, 4)], n_customers=2, n_articles=300)


@pytest.mark.parametrize("change", [no_sale, one_article, free_of_charge, whale, without_attributes, one_day_of_sales])
def test_a_strange_shop_has_finite_tables(shop: Shop, change: Callable[[Shop], Shop]) -> None:
    tables = tables_of(change(shop))
    n_live = tables.n_live
    assert n_live > 0
    for name in ("static_NF", "retrieval_SN", "neighbour_weights_AM", "log_price_A1"):
        assert np.isfinite(getattr(tables, name)).all(), name
    assert tables.static_NF.shape == (n_live, len(STATIC_FEATURES))
    assert tables.retrieval_SN.shape == (N_SEGMENTS, n_live)
    for positions in (tables.position_A1, tables.siblings_AK, tables.neighbours_AM):
        assert positions.min() >= 0
        assert positions.max() <= n_live
    assert tables.attributes_A1V.max() < len(tables.attribute_shares_X)
    assert tables.attribute_shares_X.min() > 0


def test_only_articles_whose_product_sold_recently_are_live() -> None:
    # Articles 0 and 1 are variants of one product; 1 sells every week, the last product only sold long ago.
    rows: list[Purchase] = [(day % 7, day, 1) for day in range(300, 400, 7)] + [(0, 5, 299)]
    rows += [(1, day, article) for day in (350, 395) for article in range(2, 150)]
    catalogue = catalogue_of(300, products=[0, 0, *range(1, 299)])
    shop = shop_of(rows, n_customers=7, n_articles=300, catalogue=catalogue)
    tables = build_tables(
        shop.interactions, catalogue, shop.segments, 400, KNOBS.model_copy(update={"n_candidates": 100})
    )
    assert tables.live_N.tolist() == list(range(150))
    assert tables.position_A1[[0, 149, 150, 300]].tolist() == [0, 149, 150, 150]  # 150 stands for what is not live


def test_a_shop_with_fewer_articles_than_candidates_ranks_all_of_them() -> None:
    tables = tables_of(shop_of([(0, 1, 2), (1, 50, 2)], n_customers=2, n_articles=6))
    assert tables.live_N.tolist() == [0, 1, 2, 3, 4, 5]


def test_colour_variants_are_siblings_best_seller_first_and_never_their_own() -> None:
    rows: list[Purchase] = [(0, 50, 1), (1, 50, 1), (0, 51, 3)]
    catalogue = catalogue_of(5, products=[0, 0, 1, 0, 1])
    tables = tables_of(shop_of(rows, n_customers=2, n_articles=5, catalogue=catalogue))
    kept = [row[row < 5].tolist() for row in tables.siblings_AK]
    assert kept == [[1, 3], [3, 0], [4], [1, 0], [2], []]


def test_articles_bought_within_weeks_by_one_customer_are_neighbours() -> None:
    rows: list[Purchase] = [(0, 10, 0), (0, 12, 1), (0, 50, 2), (1, 11, 3), (1, 13, 3)]
    tables = tables_of(shop_of(rows, n_customers=2, n_articles=4))
    kept = [row[row < 4].tolist() for row in tables.neighbours_AM]
    assert kept == [[1], [0], [], [], []]  # 2 came 38 days later, 3 was bought by somebody else, twice
    assert tables.neighbour_weights_AM[0, 0] == tables.neighbour_weights_AM[1, 0] > 0


@pytest.mark.parametrize("rows", [1, 50, 10**9])
def test_neighbours_are_the_same_however_few_purchases_are_paired_at_once(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    at_once = tables_of(shop)
    monkeypatch.setattr("pipelines.recommender.copurchase.PAIRED_ROWS", rows)
    in_parts = tables_of(shop)
    assert np.array_equal(at_once.neighbours_AM, in_parts.neighbours_AM)
    assert np.array_equal(at_once.neighbour_weights_AM, in_parts.neighbour_weights_AM)


def test_a_large_shop_takes_neighbours_from_its_newest_days(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.recommender.copurchase.MAX_ROWS", 2)
    rows: list[Purchase] = [(0, 10, 0), (0, 12, 1), (1, 50, 2), (1, 50, 3)]
    tables = tables_of(shop_of(rows, n_customers=2, n_articles=4))
    assert [row[row < 4].tolist() for row in tables.neighbours_AM] == [[], [], [3], [2], []]


def test_an_article_that_customers_come_back_for_has_the_higher_rebuy_rate() -> None:
    rows: list[Purchase] = [(0, 10, 0), (0, 20, 0), (1, 10, 1), (1, 10, 1)]  # twice on one day is one basket
    tables = tables_of(shop_of(rows, n_customers=2, n_articles=3))
    rate = feature(tables, "rebuy_rate")
    assert rate[0] > rate[1]


def test_popularity_ages_and_prices_of_what_nobody_bought_are_shrunk_and_not_missing() -> None:
    tables = tables_of(shop_of([(0, 55, 0, 2.0), (1, 50, 0, 8.0)], n_customers=2, n_articles=2))
    assert feature(tables, "is_unsold").tolist() == [0, 1]
    assert feature(tables, "age").tolist() == pytest.approx([np.log1p(6), 0])
    assert feature(tables, "last_sale").tolist() == pytest.approx([np.log1p(1), np.log1p(400)])
    assert feature(tables, "price").tolist() == pytest.approx([np.log(4), np.log(4)])
    assert feature(tables, "own_5d")[1] == pytest.approx(np.log(0.01))


def test_a_segment_leans_to_its_own_best_seller() -> None:
    rows: list[Purchase] = [(0, 50, 0)] * 150 + [(1, 50, 1)] * 150
    shop = shop_of(rows, n_customers=2, n_articles=2, segments=[1, 5])
    retrieval_SN = tables_of(shop).retrieval_SN
    assert retrieval_SN[1].argmax() == 0
    assert retrieval_SN[5].argmax() == 1
    assert np.ptp(retrieval_SN[0]) == pytest.approx(0, abs=0.01)


@pytest.mark.parametrize(
    ("age", "segment"), [(16, 1), (24.9, 1), (25, 2), (35, 3), (45, 4), (54, 4), (55, 5), (99, 5), (float("nan"), 6)]
)
def test_age_bands_begin_at_their_lower_bound(age: float, segment: int) -> None:
    assert segment_of_age(np.array([age], dtype=np.float32)).tolist() == [segment]


def test_tables_are_the_same_bytes_each_time_and_whatever_the_order_of_equal_rows(shop: Shop) -> None:
    past = shop.interactions
    rows: list[Any] = list(zip(past.customer, past.day, past.article, past.price, strict=True))
    reordered = interactions_of(reversed(rows), n_customers=past.n_customers, n_articles=past.n_articles)
    first, second = tables_of(shop), tables_of(shop, past=reordered)
    for name in TABLES:
        assert np.asarray(getattr(first, name)).tobytes() == np.asarray(getattr(second, name)).tobytes(), name


def test_of_an_attribute_with_too_many_values_the_most_common_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """An article's own number as its department would make the tables of every customer as wide as the catalogue."""
    shop = random_shop()
    own = np.arange(1, 301, dtype=np.int32)
    own[200:] = 7  # the most common
    attributes_AV = shop.catalogue.attributes_AV.copy()
    attributes_AV[:, 5] = own
    catalogue = replace(shop.catalogue, attributes_AV=attributes_AV)
    whole = build_tables(shop.interactions, catalogue, shop.segments, 60, KNOBS)
    monkeypatch.setattr("pipelines.recommender.tables.MAX_VALUES", 50)
    narrow = build_tables(shop.interactions, catalogue, shop.segments, 60, KNOBS)
    assert len(whole.attribute_shares_X) - len(narrow.attribute_shares_X) == 200 - 50
    values_A = narrow.attributes_A1V[:-1, 5] - narrow.attributes_A1V[:-1, 5].min()
    assert len(set(values_A[200:].tolist())) == 1
    assert values_A[200] == values_A[6] > 0
    assert sorted(set(values_A.tolist())) == list(range(51))
    assert np.array_equal(whole.attributes_A1V[:-1, :5], narrow.attributes_A1V[:-1, :5])
