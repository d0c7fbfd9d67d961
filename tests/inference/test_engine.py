from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.bundle import load_bundle
from inference.engine import Engine, Recommendation, Request
from inference.errors import RequestRefused
from tests.inference.tiny_bundle import article_id, customer_id, write_bundle


@pytest.fixture(scope="module")
def engine(tiny_bundle: Path) -> Engine:
    return Engine(load_bundle(tiny_bundle))


def indices(answer: Recommendation) -> list[int]:
    return [int(text) - 100_000_000 for text in answer.article_ids]


def test_a_known_customer_is_answered_from_purchases(engine: Engine) -> None:
    answer = engine.recommend(Request(customer_id=customer_id(1), top_k=3))
    assert answer.source == "personal"
    assert answer.is_known_customer
    # article 3, bought the day before, is lifted by 10/1; article 0 is the most popular; 7 is lifted by 10/21
    assert indices(answer) == [3, 0, 7]
    assert answer.scores[0] > 10 > answer.scores[1] == 2.0


def test_a_known_customer_without_purchases_is_answered_from_the_segment(engine: Engine) -> None:
    answer = engine.recommend(Request(customer_id=customer_id(2)))
    assert answer.source == "segment"
    assert answer.article_ids != engine.recommend(Request()).article_ids


def test_nobody_in_particular_is_answered_with_what_is_popular(engine: Engine) -> None:
    nobody = engine.recommend(Request())
    assert (nobody.source, nobody.is_known_customer, len(nobody.article_ids)) == ("popular", False, 12)
    unknown = engine.recommend(Request(customer_id="unknown", article_ids=["9999999999", "", "x" * 50, "Ω" * 10]))
    assert unknown.article_ids == nobody.article_ids
    assert (unknown.source, unknown.n_unknown_articles) == ("popular", 4)


def test_articles_sent_are_newer_than_the_history_and_one_day_old(engine: Engine) -> None:
    answer = engine.recommend(Request(customer_id="unknown", article_ids=[article_id(5)], top_k=1))
    assert (answer.source, indices(answer)) == ("personal", [5])
    together = engine.recommend(Request(customer_id=customer_id(1), article_ids=[article_id(5)], top_k=2))
    assert set(indices(together)) == {3, 5}


def test_only_the_newest_purchases_within_max_history_count(engine: Engine) -> None:
    sent = [article_id(i) for i in (11, 12, 13, 14, 15)]
    answer = engine.recommend(Request(customer_id=customer_id(1), article_ids=sent, top_k=5))
    assert set(indices(answer)) == {11, 12, 13, 14, 15}
    longer = engine.recommend(Request(article_ids=[article_id(3), *sent], top_k=5))
    assert longer.article_ids == answer.article_ids or set(indices(longer)) == {11, 12, 13, 14, 15}


def test_purchased_articles_are_left_out_on_request(engine: Engine) -> None:
    request = Request(customer_id=customer_id(1), article_ids=[article_id(5)], top_k=20, exclude_purchased=True)
    answer = engine.recommend(request)
    assert len(answer.article_ids) == 20
    assert not {3, 7, 5} & set(indices(answer))


def test_live_articles_that_run_short_are_followed_by_the_rest_of_the_catalogue(engine: Engine) -> None:
    answer = engine.recommend(Request(customer_id=customer_id(1), top_k=40))
    assert set(indices(answer)[:30]) == set(range(30))
    assert set(indices(answer)[30:]) == set(range(30, 40))
    assert answer.scores == sorted(answer.scores, reverse=True)


def test_a_catalogue_smaller_than_top_k_answers_what_there_is(engine: Engine) -> None:
    assert len(engine.recommend(Request(top_k=100)).article_ids) == 40
    everything = [article_id(i) for i in range(40)]
    bought = Request(article_ids=everything, top_k=100, exclude_purchased=True)
    with pytest.raises(RequestRefused, match="no article is left by the shop's rules and what was bought"):
        engine.recommend(bought)


def test_too_few_live_articles_left_by_purchases_are_refused_with_their_number(engine: Engine) -> None:
    bought = [article_id(i) for i in range(25)]
    answer = engine.recommend(Request(article_ids=bought, top_k=5, exclude_purchased=True))
    assert set(indices(answer)) == set(range(25, 30))
    with pytest.raises(RequestRefused, match=r"5 live articles are left .*, fewer than top_k 6") as refused:
        engine.recommend(Request(article_ids=bought, top_k=6, exclude_purchased=True))
    assert (refused.value.status, refused.value.code) == (422, "invalid_request")


def test_a_batch_gives_each_what_it_would_get_alone(engine: Engine) -> None:
    requests = [
        Request(customer_id=customer_id(1), top_k=3),
        Request(),
        Request(customer_id=customer_id(2), top_k=100),
        Request(article_ids=[article_id(9)] * 30, exclude_purchased=True),
        Request(customer_id=customer_id(1), exclude_purchased=True),
    ]
    assert engine.recommend_batch(requests) == [engine.recommend(request) for request in requests]
    assert engine.recommend_batch([]) == []


ids = st.one_of(st.integers(0, 45).map(article_id), st.text(max_size=12))
requests = st.builds(
    Request,
    customer_id=st.one_of(st.none(), st.integers(0, 3).map(customer_id), st.text()),
    article_ids=st.lists(ids, max_size=60),
    top_k=st.integers(1, 100),
    exclude_purchased=st.booleans(),
)


@settings(deadline=None, max_examples=200)
@given(batch=st.lists(requests, min_size=1, max_size=4))
def test_whatever_is_asked_gets_top_k_distinct_articles_in_falling_order(engine: Engine, batch: list[Request]) -> None:
    for request, answer in zip(batch, engine.answer_batch(batch), strict=True):
        bought = {article for article in request.article_ids if article in {article_id(i) for i in range(40)}}
        if request.customer_id == customer_id(1):
            bought |= {article_id(3), article_id(7)}
        excluded = {int(text) - 100_000_000 for text in bought} if request.exclude_purchased else set()
        n_live_left = len(set(range(30)) - excluded)
        if n_live_left < request.top_k <= 30:
            assert isinstance(answer, RequestRefused)
            continue
        assert isinstance(answer, Recommendation)
        possible = 40 - len(excluded)
        if request.top_k <= 30:
            assert max(indices(answer)) < 30
        assert len(answer.article_ids) == len(set(answer.article_ids)) == min(request.top_k, possible)
        assert len(answer.scores) == len(answer.article_ids)
        assert answer.scores == sorted(answer.scores, reverse=True)
        if request.exclude_purchased:
            assert not bought & set(answer.article_ids)
        n_known = sum(article in {article_id(i) for i in range(40)} for article in request.article_ids)
        assert answer.n_unknown_articles == len(request.article_ids) - n_known


def test_golden_requests_replay(engine: Engine) -> None:
    assert engine.certify() == 1.0


def test_a_catalogue_of_one_article_works(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path, n_articles=8, n_live=1)
    answer = Engine(load_bundle(folder)).recommend(Request(top_k=5))
    assert (indices(answer)[0], len(answer.article_ids)) == (0, 5)
    assert indices(answer)[1:3] == [3, 7]  # after what is live, what the histories hold most often
