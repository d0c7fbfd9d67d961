"""The shop's rules: what a file may say, and what the engine makes of it."""

import datetime as dt
import json
from pathlib import Path
from typing import Any

import pytest

from inference.bundle import load_bundle
from inference.engine import Engine, Recommendation, Request
from inference.errors import RequestRefused
from inference.filters import Filters
from inference.rules import RulesInvalid, parse_rules
from tests.inference.tiny_bundle import article_id, customer_id

TODAY = dt.date(2020, 9, 23)


@pytest.fixture(scope="module")
def loaded(tiny_bundle: Path) -> Engine:
    # 0..29 live; index_group i % 2, garment_group i % 3, product_group i % 4
    # customer 1 bought 7 (21 days ago) and 3 (the day before)
    return Engine(load_bundle(tiny_bundle))


@pytest.fixture
def engine(loaded: Engine) -> Any:
    yield loaded
    loaded.rules = None


def obey(engine: Engine, *, today: dt.date = TODAY, **rules: Any) -> Engine:
    engine.obey(parse_rules(json.dumps(rules).encode()), today=today, is_strict=True)
    return engine


def indices(answer: Recommendation) -> list[int]:
    return [int(text) - 100_000_000 for text in answer.article_ids]


def test_no_rules_and_empty_rules_leave_the_short_way(engine: Engine) -> None:
    plain = engine.recommend(Request(customer_id(1)))
    assert obey(engine).rules is None
    assert engine.recommend(Request(customer_id(1))) == plain


def test_what_is_blocked_or_out_of_stock_is_never_answered_nor_filled_in(engine: Engine) -> None:
    whole = indices(engine.recommend(Request(customer_id(1), top_k=30)))
    obey(engine, blocked=[article_id(whole[0])], out_of_stock=[article_id(whole[1]), "9999999999"])
    assert indices(engine.recommend(Request(customer_id(1), top_k=12))) == whole[2:14]
    everything = indices(engine.recommend(Request(customer_id(1), top_k=38)))
    assert len(set(everything)) == 38
    assert not set(whole[:2]) & set(everything)
    assert engine.rules is not None
    assert engine.rules.n_unknown == 1


def test_a_pin_stands_at_its_position_with_scores_that_still_fall(engine: Engine) -> None:
    obey(engine, pins=[{"article_id": article_id(20), "position": 2}])
    answer = engine.recommend(Request(customer_id(1), top_k=4, explain=True))
    assert indices(answer)[1] == 20
    assert len(set(answer.article_ids)) == 4
    assert answer.scores == sorted(answer.scores, reverse=True)
    assert answer.explanations[1].reason == "placed here by the shop"


@pytest.mark.parametrize(
    ("pin", "today", "is_shown"),
    [
        ({}, "2020-09-23", True),
        ({"from": "2020-09-23", "until": "2020-09-23"}, "2020-09-23", True),
        ({"from": "2020-09-24"}, "2020-09-23", False),
        ({"until": "2020-09-22"}, "2020-09-23", False),
    ],
)
def test_a_pin_shows_on_its_days_only(engine: Engine, pin: dict[str, str], today: str, is_shown: bool) -> None:
    obey(engine, today=dt.date.fromisoformat(today), pins=[{"article_id": article_id(20), "position": 1, **pin}])
    assert (indices(engine.recommend(Request(top_k=1))) == [20]) == is_shown


def test_a_pin_of_a_group_is_for_those_who_ask_or_mostly_buy_there(engine: Engine) -> None:
    obey(engine, pins=[{"article_id": article_id(21), "position": 1, "index_group": "index_group 1"}])
    assert indices(engine.recommend(Request(customer_id(1), top_k=1))) == [21]  # bought 3 and 7
    assert indices(engine.recommend(Request(top_k=1))) != [21]
    asked = Request(top_k=1, filters=Filters(index_groups=("index_group 1",)))
    assert indices(engine.recommend(asked)) == [21]
    elsewhere = Request(customer_id(1), top_k=1, filters=Filters(index_groups=("index_group 0",)))
    assert indices(engine.recommend(elsewhere)) != [21]


@pytest.mark.parametrize("rules", [{"blocked": [article_id(20)]}, {}])
def test_a_pin_never_brings_what_is_blocked_gone_or_filtered_out(engine: Engine, rules: dict[str, Any]) -> None:
    pinned = 20 if rules else 35  # 35 is not on sale
    obey(engine, pins=[{"article_id": article_id(pinned), "position": 1}], **rules)
    assert pinned not in indices(engine.recommend(Request(top_k=12)))
    obey(engine, pins=[{"article_id": article_id(20), "position": 1}])
    cheap = Request(top_k=5, filters=Filters(price_max=10))
    assert max(indices(engine.recommend(cheap))) < 10


def test_a_cap_limits_a_garment_group_and_zero_keeps_it_out(engine: Engine) -> None:
    obey(engine, caps={"garment_group 0": 2, "garment_group 1": 0})
    answer = indices(engine.recommend(Request(top_k=12)))
    groups = [index % 3 for index in answer]
    assert (len(answer), groups.count(0), groups.count(1)) == (12, 2, 0)


def test_caps_that_leave_too_little_give_way(engine: Engine) -> None:
    obey(engine, caps={f"garment_group {n}": 1 for n in range(3)})
    assert len(set(indices(engine.recommend(Request(top_k=12))))) == 12


@pytest.mark.parametrize("top_k", [12, 30])
def test_caps_give_way_to_live_articles_and_never_to_those_that_are_gone(engine: Engine, top_k: int) -> None:
    obey(engine, caps={"garment_group 0": 0, "garment_group 1": 0})
    for customer in (None, customer_id(1)):
        answer = indices(engine.recommend(Request(customer, top_k=top_k)))
        assert len(set(answer)) == top_k
        assert max(answer) < 30


def test_rules_that_leave_too_little_refuse_with_the_number_that_is_left(engine: Engine) -> None:
    obey(engine, blocked=[article_id(i) for i in range(5, 40)])
    assert set(indices(engine.recommend(Request(top_k=5)))) == set(range(5))
    with pytest.raises(RequestRefused, match=r"5 live articles are left .*, fewer than top_k 6"):
        engine.recommend(Request(top_k=6))
    obey(engine, repurchase={f"product_group {n}": "never" for n in range(4)})
    bought = [article_id(i) for i in range(28)]
    assert set(indices(engine.recommend(Request(article_ids=bought, top_k=2)))) == {28, 29}
    with pytest.raises(RequestRefused, match="2 live articles are left"):
        engine.recommend(Request(article_ids=bought, top_k=3))


@pytest.mark.parametrize(
    ("policy", "comes_again"),
    [("always", {3, 7}), ("never", set()), (10, {7}), (21, {7}), (22, set()), (1, {3, 7})],
)
def test_what_was_bought_comes_again_as_its_product_group_allows(
    engine: Engine, policy: str | int, comes_again: set[int]
) -> None:
    obey(engine, repurchase={"product_group 3": policy})  # 3 and 7 are both of it
    answer = indices(engine.recommend(Request(customer_id(1), top_k=12)))
    assert len(answer) == 12
    assert {3, 7} & set(answer) == comes_again


def test_articles_of_the_request_itself_rest_too(engine: Engine) -> None:
    obey(engine, repurchase={"product_group 1": "never"})
    request = Request(article_ids=[article_id(i) for i in (1, 5, 9, 13, 17, 21, 25)], top_k=12)
    assert not {1, 5, 9, 13, 17, 21, 25} & set(indices(engine.recommend(request)))  # also beyond what the graph reads


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"{", "the file: Invalid JSON"),
        (b"[]", "the file: must be an object"),
        (b'{"blokced": []}', "blokced: not known; known are out_of_stock, blocked, pins, caps, repurchase"),
        (
            b'{"pins": [{"article_id": "0706016001", "position": 1, "group": "x"}]}',
            "pins.0.group: not known; known are article_id, position, index_group, from, until",
        ),
        (b'{"blocked": ["12"]}', "blocked.0: an article_id has 10 digits, unlike '12'"),
        (b'{"pins": [{"article_id": "0100000001", "position": 0}]}', "pins.0.position"),
        (b'{"pins": [{"position": 1}]}', "pins.0.article_id: is missing"),
        (
            b'{"pins": [{"article_id": "0100000001", "position": 1, "from": 1}]}',
            "pins.0.from: write a day as 2026-10-01, not 1",
        ),
        (b'{"caps": {"Jersey": "3"}}', "caps.Jersey: must be a valid integer"),
        (
            b'{"repurchase": {"Shoes": "sometimes"}}',
            'repurchase.Shoes: write "never", "always" or a number of days from 1 to 36500, not \'sometimes\'',
        ),
        (b'{"repurchase": {"Shoes": 0}}', "repurchase.Shoes"),
        (
            b'{"pins": [{"article_id": "0100000001", "position": 1}, {"article_id": "0100000002", "position": 1}]}',
            "0100000001 and 0100000002 are both pinned to position 1 on the same days",
        ),
        (
            b'{"pins": [{"article_id": "0100000001", "position": 1, "from": "2020-09-02", "until": "2020-09-01"}]}',
            "ends on 2020-09-01, before it begins on 2020-09-02",
        ),
        (b'{"blocked": ["0100000001"], "blocked": []}', "'blocked' is given twice"),
        (b'{"caps": {"Jersey": 1, "Jersey": 2}}', "'Jersey' is given twice"),
        (b'{"blocked": ' + b"[" * 100_000, "the file: Invalid JSON: recursion limit exceeded"),
        (b" " * (4 << 20) + b"{}", "larger than 4,194,304 bytes"),
    ],
)
def test_a_broken_file_is_refused_with_its_reason(text: bytes, reason: str) -> None:
    with pytest.raises(RulesInvalid) as refused:
        parse_rules(text)
    assert reason in str(refused.value)


def test_a_byte_order_mark_is_no_fault() -> None:
    assert parse_rules(b'\xef\xbb\xbf{"blocked": ["0100000001"]}').rules.blocked == ["0100000001"]


def test_pins_of_other_days_may_share_a_position() -> None:
    pins = [
        {"article_id": "0100000001", "position": 1, "until": "2020-09-01"},
        {"article_id": "0100000002", "position": 1, "from": "2020-09-02"},
    ]
    assert len(parse_rules(json.dumps({"pins": pins}).encode()).rules.pins) == 2


def test_every_two_pins_of_a_position_are_compared() -> None:
    pins = [
        {"article_id": "0100000001", "position": 1, "from": "2020-01-01", "until": "2020-01-31"},
        {"article_id": "0100000002", "position": 1, "from": "2020-11-01"},
        {"article_id": "0100000003", "position": 1, "from": "2020-11-30"},
    ]
    with pytest.raises(RulesInvalid, match="0100000002 and 0100000003 are both pinned to position 1"):
        parse_rules(json.dumps({"pins": pins}).encode())
    with pytest.raises(RulesInvalid, match="0100000002 and 0100000003 are both pinned to position 1"):
        parse_rules(json.dumps({"pins": pins[::-1]}).encode())


def test_a_group_that_the_model_lacks_is_refused_in_a_new_file_and_left_out_for_a_new_model(engine: Engine) -> None:
    rules = parse_rules(b'{"caps": {"garment group 1": 1}}')
    with pytest.raises(RulesInvalid, match="'garment group 1' is not one of this model's; did you mean 'garment_group"):
        engine.obey(rules, today=TODAY, is_strict=True)
    engine.obey(rules, today=TODAY, is_strict=False)
    assert len(engine.recommend(Request()).article_ids) == 12
