"""Make the answer out of the graph's ranking: what is banned goes, what is pinned stands, nothing exceeds its cap.

Everything here is article_index and place; names, scores and the graph are the engine's.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import NamedTuple

PINNED, FILLED = -1, -2


@dataclass(frozen=True, slots=True)
class Terms:
    """What one answer has to obey."""

    top_k: int
    banned: Collection[int] = frozenset()
    pins: Mapping[int, int] = field(default_factory=dict)
    """place from 0 → article_index; pins beyond top_k and of banned articles are not shown"""
    caps: Mapping[int, int] = field(default_factory=dict)
    """group → at most so many of it"""
    group_of: Callable[[int], int] = lambda _: 0


class Chosen(NamedTuple):
    """An article of the answer and its rank in the graph's ranking, from 0; PINNED or FILLED when it has none."""

    article_index: int
    rank: int


def select(ranked: Iterable[int], spare: Iterable[int], terms: Terms, last: Iterable[int] = ()) -> list[Chosen]:
    """Choose top_k distinct articles: in the order of `ranked`, then of `spare`; fewer only when all are used up.

    Pinned articles count against the caps and are never moved by them. When the caps leave an answer short, they give
    way: first to ranked articles, then to spare ones. What is in `last` comes only when there is nothing else.
    """
    ranked = list(ranked)
    pins = _pins(terms)
    if not pins and not terms.caps:
        kept = [Chosen(index, rank) for rank, index in enumerate(ranked) if index not in terms.banned]
        if len(kept) >= terms.top_k:
            return kept[: terms.top_k]
    n_wanted = terms.top_k - len(pins)
    counts: dict[int, int] = {}
    for index in pins.values():
        group = terms.group_of(index)
        counts[group] = counts.get(group, 0) + 1
    taken = set(pins.values())
    ranks = {index: rank for rank, index in reversed(list(enumerate(ranked)))}
    chosen: list[int] = []
    over_cap: list[int] = []
    for index in chain(ranked, spare):
        if len(chosen) == n_wanted:
            break
        if index in taken or index in terms.banned:
            continue
        if terms.caps:
            group = terms.group_of(index)
            if counts.get(group, 0) >= terms.caps.get(group, terms.top_k):
                over_cap.append(index)
                continue
            counts[group] = counts.get(group, 0) + 1
        taken.add(index)
        chosen.append(index)
    for index in chain(over_cap, last):
        if len(chosen) == n_wanted:
            break
        if index not in taken and index not in terms.banned:
            taken.add(index)
            chosen.append(index)
    chosen.sort(key=lambda index: ranks.get(index, len(ranks)))  # stable: spare ones stay in their order, at the end
    following = iter(chosen)
    answer: list[Chosen] = []
    for place in range(terms.top_k):
        if place in pins:
            answer.append(Chosen(pins[place], ranks.get(pins[place], PINNED)))
            continue
        for index in following:
            answer.append(Chosen(index, ranks.get(index, FILLED)))
            break
    return answer


def _pins(terms: Terms) -> dict[int, int]:
    """Keep the pins that can be shown; an article that is pinned twice stands where it is higher."""
    shown: dict[int, int] = {}
    for place, index in sorted(terms.pins.items()):
        if place < terms.top_k and index not in terms.banned and index not in shown.values():
            shown[place] = index
    return shown
