"""Answer requests that ask for more than a ranking: filters, the shop's rules, reasons.

Requests with the same filters and segment share a run of the graph. Every answer still has exactly top_k distinct live
articles; where filters, the shop's rules and what was bought leave fewer, the request is refused with their number.
Only a shop that has fewer than top_k live articles at all fills up with those that are gone, as far as they reach.
"""

from collections.abc import Iterable, Sequence
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from inference.allowed import Mask, ModelRules, allowed_by, penalty, resting
from inference.errors import RequestRefused
from inference.explain import explain
from inference.fields import invalid
from inference.filters import Filters
from inference.graph import NO_ANSWER, Floats, Indices
from inference.lookup import Lookup
from inference.request import Recommendation, Request
from inference.selection import FILLED, Chosen, Terms, select

if TYPE_CHECKING:
    from inference.engine import Engine

# More than the ranker takes, so that the pool of a filtered request never limits it.
MAX_POOL = 1024
SCORE_DECIMALS = 6  # what float32 holds of scores near 1; more would be noise in the answer


def shape(
    engine: "Engine", requests: Sequence[Request], lookups: Sequence[Lookup]
) -> list[Recommendation | RequestRefused]:
    """Answer each request, in order; a refusal stands for what cannot be answered."""
    answers: list[Recommendation | RequestRefused | None] = [None] * len(requests)
    groups: dict[tuple[Filters | None, int], list[int]] = {}
    for row, (request, lookup) in enumerate(zip(requests, lookups, strict=True)):
        groups.setdefault((request.filters, lookup.segment if request.filters else 0), []).append(row)
    for (filters, segment), rows in groups.items():
        try:
            group = _Group(engine, filters, segment)
        except RequestRefused as refusal:
            for row in rows:
                answers[row] = refusal
            continue
        for row, answer in zip(rows, group.answer([(requests[row], lookups[row]) for row in rows]), strict=True):
            answers[row] = answer
    return [answer for answer in answers if answer is not None]


class _Group:
    """Requests that may be answered from the same live articles."""

    def __init__(self, engine: "Engine", filters: Filters | None, segment: int) -> None:
        self._engine = engine
        self._filters = filters
        self._rules: ModelRules | None = engine.rules
        self._is_allowed_N: Mask | None = None
        self._penalty_N1: Floats | None = self._rules.penalty_N1 if self._rules else None
        self._extra_P: Indices | None = None
        self._best_first_N: Indices = np.empty(0, np.int64)
        if filters is not None:
            bundle = engine.bundle
            is_allowed_N = allowed_by(filters, bundle, engine.attributes)
            if self._rules is not None:
                is_allowed_N &= self._rules.is_shown_A[bundle.live_articles]
            positions = np.flatnonzero(is_allowed_N)
            retrieval_N = bundle.segment_retrieval[min(segment, len(bundle.segment_retrieval) - 1)]
            self._best_first_N = positions[np.argsort(-retrieval_N[positions], kind="stable")]
            self._is_allowed_N = is_allowed_N
            self._penalty_N1 = penalty(is_allowed_N)
            padded = np.append(self._best_first_N[:MAX_POOL], bundle.manifest.n_live)
            self._extra_P = padded.astype(np.int64)

    def answer(self, asked: Sequence[tuple[Request, Lookup]]) -> list[Recommendation | RequestRefused]:
        """Run the graph once and make each answer."""
        graph = self._engine.graph
        k = graph.max_k
        if self._rules is None:
            k = min(k, max(request.top_k + len(lookup.excluded) for request, lookup in asked))
        lookups = [lookup for _, lookup in asked]
        contributions_BKG: Floats | None = None
        if any(request.explain for request, _ in asked):
            indices_BK, scores_BK, contributions_BKG = graph.run_explained(lookups, k, self._penalty_N1, self._extra_P)
        else:
            indices_BK, scores_BK = graph.run(lookups, k, self._penalty_N1, self._extra_P)
        answers: list[Recommendation | RequestRefused] = []
        for row, (request, lookup) in enumerate(asked):
            contributions_KG = None if contributions_BKG is None or not request.explain else contributions_BKG[row]
            try:
                answers.append(self._one(request, lookup, indices_BK[row], scores_BK[row], contributions_KG))
            except RequestRefused as refusal:
                answers.append(refusal)
        return answers

    def _one(
        self, request: Request, lookup: Lookup, indices_K: Indices, scores_K: Floats, contributions_KG: Floats | None
    ) -> Recommendation:
        is_answer_K = scores_K > NO_ANSWER  # false for nan too
        if not is_answer_K.all():
            indices_K, scores_K = indices_K[is_answer_K], scores_K[is_answer_K]
            contributions_KG = None if contributions_KG is None else contributions_KG[is_answer_K]
        terms = self._terms(request, lookup)
        self._require_enough(request, terms)
        chosen = select(indices_K.tolist(), self._spare(), terms, self._gone(request))
        if not chosen:  # of a shop with fewer articles than top_k
            raise invalid("no article is left by the shop's rules and what was bought; let what was bought come again")
        scores = _scores(chosen, scores_K)
        explanations = (
            explain(self._engine, lookup, chosen, contributions_KG, set(terms.pins.values())) if request.explain else ()
        )
        return self._engine.make_answer(lookup, [one.article_index for one in chosen], scores, explanations)

    def _terms(self, request: Request, lookup: Lookup) -> Terms:
        rules, bundle = self._rules, self._engine.bundle
        if rules is None:
            return Terms(request.top_k, lookup.excluded)
        banned = lookup.excluded.union(resting(rules, bundle, lookup.bought, lookup.bought_ages).tolist())
        pins: dict[int, int] = {}
        if rules.pins:
            group = self._group_of(lookup)
            for pin in rules.pins:
                if pin.group and pin.group not in group:
                    continue
                if self._may_be_pinned(pin.article_index, rules):
                    # A pin of the group stands before one for everybody.
                    pins[pin.place] = pin.article_index if pin.group or pin.place not in pins else pins[pin.place]
        return Terms(request.top_k, banned, pins, rules.caps, lambda index: int(bundle.garment_groups[index]))

    def _group_of(self, lookup: Lookup) -> set[int]:
        """Give the index groups that a request is about: those of its filter, or the one that most purchases are of."""
        if self._filters is not None and self._filters.index_groups:
            names = self._engine.attributes["index_group"]
            return {names.index(name) for name in self._filters.index_groups}
        codes = self._engine.bundle.index_groups[lookup.articles]
        codes = codes[codes > 0]
        return {int(np.bincount(codes).argmax())} if len(codes) else set()

    def _may_be_pinned(self, article_index: int, rules: ModelRules) -> bool:
        bundle = self._engine.bundle
        if not bundle.is_live[article_index] or not rules.is_shown_A[article_index]:
            return False
        if self._is_allowed_N is None:
            return True
        return bool(self._is_allowed_N[bundle.live_articles.searchsorted(article_index)])

    def _require_enough(self, request: Request, terms: Terms) -> None:
        """Refuse when filters, rules and what was bought leave fewer live articles than were asked for."""
        bundle, rules, top_k = self._engine.bundle, self._rules, request.top_k
        is_allowed_N = self._is_allowed_N
        if is_allowed_N is not None:
            n_matching = len(self._best_first_N)
        elif top_k > bundle.manifest.n_live:
            return
        else:
            n_matching = rules.n_live_shown if rules is not None else bundle.manifest.n_live
        if top_k + len(terms.banned) <= n_matching:
            return
        is_banned_N = np.isin(bundle.live_articles, list(terms.banned))
        if is_allowed_N is not None:
            is_banned_N &= is_allowed_N
        elif rules is not None:
            is_banned_N &= rules.is_shown_A[bundle.live_articles]
        n_matching -= int(np.count_nonzero(is_banned_N))
        if n_matching >= top_k:
            return
        if is_allowed_N is not None:
            raise invalid(
                f"{n_matching:,} live articles match the filters, fewer than top_k {top_k}; "
                "widen the filters or ask for fewer"
            )
        raise invalid(
            f"{n_matching:,} live articles are left by the shop's rules and what was bought, fewer than top_k {top_k}; "
            + ("ask for fewer" if n_matching else "let what was bought come again")
        )

    def _spare(self) -> Iterable[int]:
        """Yield what fills an answer that the ranking leaves short: what is live and allowed, most popular first."""
        engine, rules = self._engine, self._rules
        if self._is_allowed_N is not None:
            yield from engine.bundle.live_articles[self._best_first_N].tolist()
            return
        for index in chain(engine.popular, islice(engine.catalogue, engine.bundle.manifest.n_live)):
            if rules is None or rules.is_shown_A[index]:
                yield index

    def _gone(self, request: Request) -> Iterable[int]:
        """Yield what is not live, for a shop that has less than was asked for."""
        engine, rules = self._engine, self._rules
        n_live = engine.bundle.manifest.n_live
        if self._is_allowed_N is not None or request.top_k <= n_live:
            return
        for index in islice(engine.catalogue, n_live, None):
            if rules is None or rules.is_shown_A[index]:
                yield index


def _scores(chosen: Sequence[Chosen], scores_K: npt.NDArray[Any]) -> list[float]:
    """Give each article its score; what was filled in has the lowest, what was pinned that of the one below it."""
    known = scores_K.astype(np.float64).round(SCORE_DECIMALS).tolist()
    used = [known[one.rank] for one in chosen if one.rank >= 0]
    lowest = min(used, default=0.0)
    scores: list[float] = []
    for one in reversed(chosen):
        own = known[one.rank] if one.rank >= 0 else lowest if one.rank == FILLED else None
        below = scores[-1] if scores else lowest
        scores.append(below if own is None else max(own, below))
    return scores[::-1]
