"""Answer requests from one bundle: look up, run the graph, fill up. Needs numpy and onnxruntime, and no server.

Legend: B requests in the batch, K articles asked of the graph, A all articles.
"""

import datetime as dt
import json
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np

from inference.allowed import ModelRules, fit_rules
from inference.bundle import ARTICLES_NAME, ATTRIBUTES_NAME, Bundle
from inference.errors import BundleError, GraphRefused, ManifestInvalid, RequestRefused
from inference.graph import MEND, NO_ANSWER, Floats, Graph, Indices, first_line
from inference.lookup import NOBODY, Lookup, customer_position, ids_of, look_up
from inference.names import ArticleNames
from inference.reasons import Explanation
from inference.request import Recommendation, Request, Source
from inference.rules import RulesVersion
from inference.shaping import SCORE_DECIMALS, shape

__all__ = ["Engine", "Recommendation", "Request", "Source"]

# Instruction sets round differently, so that near-ties may swap; a wrong graph shares far less.
MIN_GOLDEN_OVERLAP = 0.9
ATTRIBUTES = ("index_group", "garment_group", "product_group")


class Engine:
    """One graph over a loaded bundle; after construction only its rules and its counts of what was served change.

    Raises GraphRefused when onnxruntime cannot load the graph or when it breaks the contract for an empty history.
    """

    def __init__(self, bundle: Bundle, *, threads: int = 1) -> None:
        self.bundle = bundle
        self.graph = Graph(bundle, threads)
        self.popular = self.graph.rank_popular()
        """article_indexes that are answered to nobody in particular, best first"""
        self.names = ArticleNames(bundle.folder / ARTICLES_NAME, bundle.article_offsets)
        self.rules: ModelRules | None = None
        """Set by obey(); None costs an answer nothing."""
        self.forget_served()

    def forget_served(self) -> None:
        """Begin to count what is served."""
        self.n_served_A = np.zeros(self.bundle.manifest.n_articles, np.uint32)
        self.n_by_history_length = [0] * (self.bundle.manifest.max_history + 1)

    @cached_property
    def attributes(self) -> dict[str, list[str]]:
        """Names of index, garment and product groups by their code; 0 is missing."""
        path = self.bundle.folder / ATTRIBUTES_NAME
        try:
            found = json.loads(path.read_bytes())
            return {name: [str(value) for value in found.get(name, [""])] for name in ATTRIBUTES}
        except (OSError, ValueError, AttributeError, TypeError) as error:
            what = f"not an object of lists of names ({type(error).__name__}: {error})"
            raise ManifestInvalid(what, where=str(path), mend=MEND) from error

    def obey(self, rules: RulesVersion, *, today: dt.date, is_strict: bool) -> None:
        """Answer by these rules from now on; RulesInvalid, strict only, when they name a group that is not known."""
        self.rules = fit_rules(rules, self.bundle, self.attributes, today=today, is_strict=is_strict)

    def recommend(self, request: Request) -> Recommendation:
        """Answer one request; RequestRefused when too few live articles are left for it."""
        return self.recommend_batch([request])[0]

    def recommend_batch(self, requests: Sequence[Request]) -> list[Recommendation]:
        """Answer requests as `answer_batch` does; RequestRefused when one of them cannot be answered."""
        answers = []
        for answer in self.answer_batch(requests):
            if isinstance(answer, RequestRefused):
                raise answer
            answers.append(answer)
        return answers

    def answer_batch(self, requests: Sequence[Request]) -> Sequence[Recommendation | RequestRefused]:
        """Answer requests in one run of the graph; each gets what it would get alone, up to rounding.

        Every answer has top_k articles, all of them live, unless the shop has fewer. Unknown customers and articles
        never fail: what is unknown is left out. Filters, rules and purchases may leave too little: then a refusal
        stands for it.
        """
        if not requests:
            return []
        bundle, max_k = self.bundle, self.graph.max_k
        lookups = [look_up(bundle, request) for request in requests]
        wanted = max([request.top_k for request in requests])
        rules = self.rules
        is_plain = wanted <= max_k and (rules is None or not rules.is_choosing)
        if not is_plain or any(r.exclude_purchased or r.explain or r.filters is not None for r in requests):
            return shape(self, requests, lookups)
        # What is blocked or out of stock the graph leaves out by itself, at no cost.
        indices_BK, scores_BK = self.graph.run(lookups, wanted, rules.penalty_N1 if rules is not None else None)
        if not scores_BK.min() > NO_ANSWER:  # padding, or nan
            return shape(self, requests, lookups)
        return self._answer(requests, lookups, indices_BK, scores_BK)

    def _answer(
        self, requests: Sequence[Request], lookups: Sequence[Lookup], indices_BK: Indices, scores_BK: Floats
    ) -> list[Recommendation]:
        """Answer plain requests straight from the ranking."""
        ids_BK = self.bundle.article_ids[indices_BK].astype("U10").tolist()
        rounded_BK = scores_BK.astype(np.float64).round(SCORE_DECIMALS).tolist()
        n_served_A, n_by_history_length = self.n_served_A, self.n_by_history_length
        answers = []
        for row, (request, lookup) in enumerate(zip(requests, lookups, strict=True)):
            top_k, n_bought = request.top_k, len(lookup.articles)
            n_served_A[indices_BK[row, :top_k]] += 1  # the articles of an answer are distinct
            n_by_history_length[n_bought] += 1
            source: Source = "personal" if n_bought else "segment" if lookup.segment else "popular"
            answers.append(
                Recommendation(
                    ids_BK[row][:top_k],
                    rounded_BK[row][:top_k],
                    source,
                    lookup.is_known_customer,
                    lookup.n_unknown_articles,
                    lookup.unknown_article_ids,
                )
            )
        return answers

    def make_answer(
        self, lookup: Lookup, indices: Sequence[int], scores: list[float], explanations: Sequence[Explanation] = ()
    ) -> Recommendation:
        """Put an answer together from what was chosen, and count it."""
        chosen = np.array(indices, np.int64)
        self.n_served_A[chosen] += 1
        self.n_by_history_length[len(lookup.articles)] += 1
        source: Source = "personal" if len(lookup.articles) else "segment" if lookup.segment else "popular"
        return Recommendation(
            ids_of(self.bundle, chosen),
            scores,
            source,
            lookup.is_known_customer,
            lookup.n_unknown_articles,
            lookup.unknown_article_ids,
            explanations,
        )

    def certify(self) -> float:
        """Replay the bundle's golden requests and return the mean overlap with the answers that training recorded.

        Raises GraphRefused when one of them or a segment of the bundle's customers cannot be answered, or when the
        overlap is below MIN_GOLDEN_OVERLAP; ManifestInvalid when attributes.json is not what it should be.
        """
        self._try_segments()
        _ = self.attributes
        where = str(self.bundle.folder / "golden.json")
        overlaps = []
        for number, case in enumerate(self.bundle.read_golden()):
            try:
                answer = self.recommend(Request(**case["request"]))
            except BundleError:
                raise
            except Exception as error:
                what = f"the request of case {number} fails ({first_line(error)})"  # it names a customer: not for a log
                raise GraphRefused(what, where=where, mend=MEND) from error
            expected = set(case["recommendations"])
            overlaps.append(len(expected & set(answer.article_ids)) / len(expected))
        self.forget_served()
        overlap = float(np.mean(overlaps))
        if overlap < MIN_GOLDEN_OVERLAP:
            what = f"answers share {overlap:.1%} of the recorded ones, at least {MIN_GOLDEN_OVERLAP:.0%} expected"
            raise GraphRefused(what, where=where, mend=MEND)
        return overlap

    def _try_segments(self) -> None:
        segments = np.unique(self.bundle.customer_segments).tolist()
        lookups = [replace(NOBODY, segment=segment) for segment in segments]
        if not lookups:
            return
        try:
            self.graph.run(lookups, 1)
        except Exception as error:
            what = f"it fails for the segments {segments} of the customers ({first_line(error)})"
            raise GraphRefused(what, where=str(self.bundle.model_path), mend=MEND) from error

    def customer_position(self, customer_id: str) -> int | None:
        """Give the customer's row in the bundle's arrays; None when it is not known."""
        return customer_position(self.bundle, customer_id)

    def article_id(self, article_index: int) -> str:
        """Name an article by its id."""
        text: bytes = self.bundle.article_ids[article_index]
        return text.decode()

    @cached_property
    def catalogue(self) -> list[int]:
        """All articles, live ones first, then by how often the histories hold them; read only when needed."""
        bundle = self.bundle
        n_bought = np.bincount(bundle.history_articles, minlength=bundle.manifest.n_articles)
        order: list[int] = np.lexsort((-n_bought, ~bundle.is_live)).tolist()
        return order
