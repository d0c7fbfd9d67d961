"""Filters, through the engine: exactly top_k live articles that match, or a refusal that says how many do."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.bundle import load_bundle
from inference.engine import Engine, Recommendation, Request
from inference.errors import RequestRefused
from inference.filters import Filters, read_filters
from tests.inference.tiny_bundle import article_id, customer_id


@pytest.fixture(scope="module")
def engine(tiny_bundle: Path) -> Engine:
    # 40 articles, 0..29 live; article i costs i + 1 and is of index_group i % 2
    return Engine(load_bundle(tiny_bundle))


def indices(answer: Recommendation) -> list[int]:
    return [int(text) - 100_000_000 for text in answer.article_ids]


def test_a_group_a_price_range_and_exclusions_leave_only_what_matches(engine: Engine) -> None:
    filters = Filters((article_id(4), "9999999999"), ("index_group 0",), 3, 21)
    answer = engine.recommend(Request(customer_id(1), top_k=9, filters=filters))
    assert sorted(indices(answer)) == [2, 6, 8, 10, 12, 14, 16, 18, 20]
    assert answer.scores == sorted(answer.scores, reverse=True)


def test_the_order_within_a_filter_is_that_of_the_whole_ranking(engine: Engine) -> None:
    whole = engine.recommend(Request(customer_id(1), top_k=30))
    odd = engine.recommend(Request(customer_id(1), top_k=15, filters=Filters(index_groups=("index_group 1",))))
    assert indices(odd) == [index for index in indices(whole) if index % 2]


def test_both_ends_of_a_price_range_count_and_several_groups_add_up(engine: Engine) -> None:
    filters = Filters((), ("index_group 0", "index_group 1"), 5, 6)
    assert sorted(indices(engine.recommend(Request(top_k=2, filters=filters)))) == [4, 5]


def test_too_few_matches_are_refused_with_their_number(engine: Engine) -> None:
    with pytest.raises(RequestRefused, match="2 live articles match the filters, fewer than top_k 3") as refused:
        engine.recommend(Request(top_k=3, filters=Filters(price_min=5, price_max=6)))
    assert (refused.value.status, refused.value.code) == (422, "invalid_request")
    bought = Request(customer_id(1), top_k=30, exclude_purchased=True, filters=Filters(price_min=1))
    with pytest.raises(RequestRefused, match="28 live articles match"):
        engine.recommend(bought)


def test_an_unknown_group_is_refused_with_the_nearest_name(engine: Engine) -> None:
    with pytest.raises(RequestRefused, match="'index_group 01' is not known; did you mean 'index_group"):
        engine.recommend(Request(filters=Filters(index_groups=("index_group 01",))))


def test_one_refusal_in_a_batch_fails_no_other(engine: Engine) -> None:
    narrow = Filters(price_min=5, price_max=6)
    asked = [Request(top_k=2), Request(top_k=3, filters=narrow), Request(top_k=2, filters=narrow)]
    first, second, third = engine.answer_batch(asked)
    assert isinstance(first, Recommendation)
    assert first.article_ids == engine.recommend(Request(top_k=2)).article_ids
    assert isinstance(second, RequestRefused)
    assert isinstance(third, Recommendation)
    assert sorted(indices(third)) == [4, 5]


@settings(deadline=None, max_examples=60)
@given(
    exclude=st.lists(st.integers(0, 45).map(article_id), max_size=40),
    groups=st.sampled_from([(), ("index_group 0",), ("index_group 1",), ("index_group 0", "index_group 1")]),
    low=st.none() | st.integers(0, 45),
    high=st.none() | st.integers(0, 45),
    top_k=st.integers(1, 30),
    exclude_purchased=st.booleans(),
)
def test_every_filtered_answer_is_exactly_top_k_matching_articles_or_refused(
    engine: Engine,
    exclude: list[str],
    groups: tuple[str, ...],
    low: int | None,
    high: int | None,
    top_k: int,
    exclude_purchased: bool,
) -> None:
    matching = {
        index
        for index in range(30)
        if article_id(index) not in exclude
        and (not groups or f"index_group {index % 2}" in groups)
        and (low is None or index + 1 >= low)
        and (high is None or index + 1 <= high)
        and not (exclude_purchased and index in (3, 7))
    }
    filters = Filters(tuple(exclude), groups, low, high)
    request = Request(customer_id(1), (), top_k, exclude_purchased, filters)
    (answer,) = engine.answer_batch([request])
    if len(matching) < top_k:
        assert isinstance(answer, RequestRefused)
        return
    assert isinstance(answer, Recommendation)
    found = indices(answer)
    assert len(set(found)) == len(found) == top_k
    assert set(found) <= matching


def test_filters_that_are_left_out_or_null_are_none() -> None:
    nothing = {"exclude": None, "index_group": None, "price_min": None, "price_max": None}
    assert read_filters({}) is read_filters(nothing) is read_filters({"exclude": []}) is None


def test_an_article_without_a_price_is_in_no_range(engine: Engine) -> None:
    prices = engine.bundle.article_prices
    assert np.isfinite(prices).all()  # so that the one below is the only one
    unpriced = np.array(prices)
    unpriced[4] = np.nan
    object.__setattr__(engine.bundle, "article_prices", unpriced)
    try:
        with pytest.raises(RequestRefused, match="1 live articles match"):
            engine.recommend(Request(top_k=2, filters=Filters(price_min=5, price_max=6)))
    finally:
        object.__setattr__(engine.bundle, "article_prices", prices)


def test_filtered_requests_count_among_what_was_served(tiny_bundle: Path) -> None:
    engine = Engine(load_bundle(tiny_bundle))
    engine.recommend(Request(top_k=2, filters=Filters(price_min=5, price_max=6)))
    assert np.flatnonzero(engine.n_served_A).tolist() == [4, 5]
