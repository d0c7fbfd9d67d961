from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inference.bundle import load_bundle
from inference.engine import Engine, Request
from inference.page import _history as purchases_of
from inference.reasons import Context, days_ago, give_reason
from tests.inference.tiny_bundle import article_id, customer_id, write_bundle

DRESS = {
    "article_id": "0706016001",
    "name": "Siri dress",
    "product_type": "Dress",
    "colour": "Black",
    "garment_group": "Dresses Ladies",
}
BEST = frozenset({DRESS["article_id"]})
NAMES = {"0706016002": "Siri dress", "0706016005": "Siri dress (1)", "0372860002": "Runa skirt"}


def context(**facts: Any) -> Context:
    return Context(facts.pop("bought", {}), facts.pop("segment", 0), NAMES.get, **facts)


@pytest.mark.parametrize(
    ("signals", "known", "reason"),
    [
        ({"repurchase": 2.0}, {"bought": {"0706016001": [12]}}, "bought 12 days ago"),
        ({"repurchase": 2.0}, {"bought": {"0706016001": [40, 12]}}, "bought twice, last 12 days ago"),
        ({"repurchase": 2.0}, {"bought": {"0706016001": [40, 12, 3]}}, "bought 3 times, last 3 days ago"),
        ({"repurchase": 2.0}, {"bought": {"0706016001": [1]}, "sent": {"0706016001"}}, "bought just now"),
        ({"variant": 1.0}, {"bought": {"0706016002": [30]}}, "another colour of Siri dress, bought 4 weeks ago"),
        (
            {"variant": 1.0},
            {"bought": {"0706016003": [30]}},
            "another colour of article 0706016003, bought 4 weeks ago",
        ),
        ({"variant": 1.0}, {"bought": {"0706016005": [30]}}, "another colour of Siri dress (1), bought 4 weeks ago"),
        ({"copurchase": 1.0}, {"partner_of": {"0706016001": "0372860002"}}, "often bought with Runa skirt"),
        ({"taste": 1.0}, {"usual": {("product_type", "Dress")}}, "dress, as bought before"),
        (
            {"taste": 1.0},
            {"usual": {("product_type", "Dress"), ("colour", "Black")}},
            "black dress, in line with what was bought before",
        ),
        ({"taste": 1.0}, {"usual": {("garment_group", "Dresses Ladies")}}, "from dresses ladies, as bought before"),
        ({"segment": 1.0}, {"segment": 2, "best_of_segment": BEST}, "popular with customers of 25 to 34"),
        ({"segment": 1.0}, {"best_of_segment": BEST}, "popular with everybody"),
        ({"freshness": 1.0}, {"unsold": BEST}, "new: not sold before"),
        ({"freshness": 1.0}, {}, "among the best matches of everything on sale"),
        ({"price": 1.0}, {"usually_paid": BEST}, "at the price usually paid"),
        ({"price": 1.0}, {"bought": {"0372860002": [3]}}, "among the best matches of everything on sale"),
        ({"popularity": 1.0, "freshness": 0.9}, {"best_sellers": BEST}, "a best seller of late"),
        ({"popularity": 1.0, "freshness": 0.9}, {"best_of_segment": BEST, "unsold": BEST}, "new: not sold before"),
        ({"popularity": 1.0, "segment": 0.9}, {"segment": 2}, "among the best matches of everything on sale"),
        ({"sequence": 1.0}, {"bought": {"0372860002": [3]}}, "follows from what was bought last"),
        ({}, {}, "among the best matches of everything on sale"),
    ],
)
def test_a_reason_is_in_a_merchandisers_words(signals: dict[str, float], known: dict[str, Any], reason: str) -> None:
    assert give_reason(DRESS, signals, context(**known)) == reason


def test_neighbours_of_ids_that_count_up_are_no_colours_of_one_product() -> None:
    known = context(bought={"0706016004": [12]}, usual={("product_type", "Dress")})
    known = replace(known, name_of={"0706016004": "Sten jacket"}.get)
    assert give_reason(DRESS, {"variant": 2.0, "taste": 1.0}, known) == "dress, as bought before"


def test_what_the_history_does_not_bear_out_is_not_said() -> None:
    signals = {"repurchase": 3.0, "variant": 2.0, "copurchase": 2.0, "taste": 1.0, "popularity": 0.9}
    assert (
        give_reason(DRESS, signals, context(bought={"0372860002": [3]}, best_sellers=BEST)) == "a best seller of late"
    )


def test_what_happened_to_the_customer_comes_before_what_is_true_of_everybody() -> None:
    known = context(bought={"0706016001": [12]}, segment=2, best_of_segment=BEST)
    reason = give_reason(DRESS, {"segment": 2.0, "repurchase": 1.0}, known)
    assert reason == "bought 12 days ago; popular with customers of 25 to 34"


def test_a_signal_far_below_the_strongest_and_one_that_lowered_the_score_are_not_said() -> None:
    known = context(partner_of={"0706016001": "0372860002"}, best_sellers=BEST)
    signals = {"popularity": 2.0, "copurchase": 0.1, "freshness": -1.0}
    assert give_reason(DRESS, signals, known) == "a best seller of late"


def test_that_the_article_was_bought_is_said_even_where_it_counted_for_nothing() -> None:
    known = context(bought={"0706016001": [2]}, best_sellers=BEST)
    assert (
        give_reason(DRESS, {"popularity": 2.0, "repurchase": -0.3}, known) == "bought 2 days ago; a best seller of late"
    )
    assert give_reason(DRESS, {}, known) == "bought 2 days ago"


def test_that_another_colour_was_bought_is_said_even_where_it_counted_for_nothing() -> None:
    known = context(bought={"0706016002": [12]}, usual={("product_type", "Dress")})
    assert (
        give_reason(DRESS, {"taste": 2.0, "variant": -0.3}, known) == "another colour of Siri dress, bought 12 days ago"
    )


def test_of_what_concerns_the_customer_only_the_most_exact_is_said() -> None:
    known = context(
        bought={"0706016001": [12], "0706016002": [3]}, usual={("product_type", "Dress")}, best_of_segment=BEST
    )
    signals = {"variant": 2.5, "repurchase": 2.0, "taste": 1.5, "segment": 1.0, "popularity": 0.9}
    assert give_reason(DRESS, signals, known) == "bought 12 days ago; popular with everybody"


def test_only_the_best_of_what_is_live_is_called_a_best_seller(tmp_path: Path) -> None:
    engine = Engine(load_bundle(write_bundle(tmp_path, facts={"signals": ["popularity"]})))
    explanations = engine.recommend(Request(top_k=30, explain=True)).explanations
    assert explanations is not None
    assert [one.reason for one in explanations[:12]] == ["a best seller of late"] * 12
    assert not any("best seller" in one.reason for one in explanations[12:])


def test_the_price_usually_paid_is_near_to_what_was_paid(tmp_path: Path) -> None:
    engine = Engine(load_bundle(write_bundle(tmp_path, facts={"signals": ["price"]})))  # article i costs i + 1
    answer = engine.recommend(Request(customer_id(1), top_k=30, explain=True))  # who bought 7 and 3
    assert answer.explanations is not None
    said = {one.article_id for one in answer.explanations if "at the price usually paid" in one.reason}
    assert said
    assert said <= {article_id(i) for i in (4, 5, 6)}  # the mean is 5.7, a quarter more or less


def test_what_was_sold_before_is_not_called_new(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path, facts={"signals": ["freshness"]})
    prices = np.load(folder / "article_prices.npy")
    prices[3] = np.nan
    np.save(folder / "article_prices.npy", prices)
    answer = Engine(load_bundle(folder)).recommend(Request(top_k=30, explain=True))
    assert answer.explanations is not None
    said = {one.article_id for one in answer.explanations if "new: not sold before" in one.reason}
    assert said == {article_id(3)}


def test_all_purchases_of_an_article_are_counted(tmp_path: Path) -> None:
    bought = {customer_id(1): [(7, 60 - day) for day in range(40)]}
    engine = Engine(load_bundle(write_bundle(tmp_path, histories=bought)))
    answer = engine.recommend(Request(customer_id(1), top_k=30, explain=True))
    assert answer.explanations is not None
    reasons = {one.article_id: one.reason for one in answer.explanations}
    assert engine.bundle.manifest.max_history < 40
    assert reasons[article_id(7)].startswith("bought 40 times, last 21 days ago")
    told = purchases_of(engine, customer_id(1))
    assert (told.n_purchases, len(told.purchases)) == (40, engine.bundle.manifest.max_history)


@pytest.mark.parametrize(
    ("age_days", "words"),
    [(1, "yesterday"), (2, "2 days ago"), (27, "27 days ago"), (28, "4 weeks ago"), (90, "3 months ago")],
)
def test_an_age_is_said_as_people_do(age_days: int, words: str) -> None:
    assert days_ago(age_days) == words
