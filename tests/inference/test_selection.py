from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.selection import FILLED, PINNED, Chosen, Terms, select


def articles(chosen: Iterable[Chosen]) -> list[int]:
    return [one.article_index for one in chosen]


def test_the_ranking_is_the_answer_when_nothing_stands_in_its_way() -> None:
    assert select([5, 3, 8], [], Terms(2)) == [Chosen(5, 0), Chosen(3, 1)]


def test_banned_articles_go_and_spare_ones_fill_behind() -> None:
    chosen = select([5, 3, 8], [3, 9, 5, 7], Terms(4, banned={5}))
    assert chosen == [Chosen(3, 1), Chosen(8, 2), Chosen(9, FILLED), Chosen(7, FILLED)]


def test_a_pin_takes_its_place_and_pushes_the_rest_down() -> None:
    chosen = select([5, 3, 8], [], Terms(3, pins={1: 9}))
    assert chosen == [Chosen(5, 0), Chosen(9, PINNED), Chosen(3, 1)]


def test_a_pinned_article_that_is_ranked_moves_and_comes_once() -> None:
    assert articles(select([5, 3, 8], [], Terms(3, pins={0: 8}))) == [8, 5, 3]


def test_an_article_pinned_twice_stands_where_it_is_higher() -> None:
    assert articles(select([5, 3, 8], [], Terms(3, pins={0: 9, 2: 9}))) == [9, 5, 3]


@pytest.mark.parametrize("terms", [Terms(2, pins={2: 9}), Terms(2, pins={0: 9}, banned={9})])
def test_a_pin_beyond_the_answer_or_of_a_banned_article_is_not_shown(terms: Terms) -> None:
    assert articles(select([5, 3, 8], [], terms)) == [5, 3]


def parity(index: int) -> int:
    return index % 2


def test_a_cap_lets_the_next_group_in() -> None:
    assert articles(select([1, 3, 5, 2, 4], [], Terms(3, caps={1: 1}, group_of=parity))) == [1, 2, 4]


def test_pinned_articles_count_against_a_cap_and_are_not_moved_by_it() -> None:
    chosen = select([1, 2, 3, 4], [], Terms(3, pins={2: 7}, caps={1: 1}, group_of=parity))
    assert articles(chosen) == [2, 4, 7]


def test_a_cap_gives_way_rather_than_leave_the_answer_short() -> None:
    assert articles(select([1, 3, 5, 2], [], Terms(4, caps={1: 1}, group_of=parity))) == [1, 3, 5, 2]


def test_caps_give_way_before_what_comes_last() -> None:
    answer = select([1, 3, 5, 2], [4], Terms(6, banned={8}, caps={1: 1, 0: 1}, group_of=parity), [6, 8, 10])
    assert articles(answer) == [1, 3, 5, 2, 4, 6]


def test_fewer_come_only_when_everything_is_used_up() -> None:
    assert articles(select([1, 2], [2, 3], Terms(9, banned={2}))) == [1, 3]


numbers = st.lists(st.integers(0, 30), unique=True, max_size=25)


@settings(deadline=None, max_examples=300)
@given(
    ranked=numbers,
    spare=numbers,
    top_k=st.integers(1, 20),
    banned=st.sets(st.integers(0, 30), max_size=10),
    pins=st.dictionaries(st.integers(0, 25), st.integers(0, 30), max_size=4),
    caps=st.dictionaries(st.integers(0, 2), st.integers(0, 3), max_size=3),
)
def test_every_answer_is_distinct_unbanned_and_as_long_as_can_be(
    ranked: list[int], spare: list[int], top_k: int, banned: set[int], pins: dict[int, int], caps: dict[int, int]
) -> None:
    chosen = articles(select(ranked, spare, Terms(top_k, banned, pins, caps, lambda index: index % 3)))
    assert len(set(chosen)) == len(chosen)
    assert not set(chosen) & banned
    available = {*ranked, *spare} - banned
    assert len(chosen) >= min(top_k, len(available))
    assert len(chosen) <= top_k
