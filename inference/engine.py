"""Answer requests from one bundle: look up, run the graph, fill up. Needs numpy and onnxruntime, and no server.

Legend: B requests in the batch, L history length, K articles asked of the graph.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from inference.bundle import Bundle, customer_key
from inference.errors import BundleError, GraphRefused

Source = Literal["personal", "segment", "popular"]
MEND = "train again, or serve another bundle"
# Instruction sets round differently, so that near-ties may swap; a wrong graph shares far less.
MIN_GOLDEN_OVERLAP = 0.9

NOT_ALLOWED = -1e9  # penalty of an article that may not be answered
SCORE_DECIMALS = 6  # what float32 holds of scores near 1; more would be noise in the answer

ort.set_default_logger_severity(3)  # errors only: its warnings are not JSON


@dataclass(frozen=True, slots=True)
class Request:
    """What a shop asks; `article_ids` are purchases newer than the bundle's history, newest last."""

    customer_id: str | None = None
    article_ids: Sequence[str] = ()
    top_k: int = 12
    exclude_purchased: bool = False


@dataclass(frozen=True, slots=True)
class Recommendation:
    """Distinct articles, best first, scores not increasing; articles filled in carry the lowest score."""

    article_ids: list[str]
    scores: list[float]
    source: Source
    is_known_customer: bool
    n_unknown_articles: int
    """How many of the request's article_ids the catalogue does not have."""


@dataclass(frozen=True, slots=True)
class _Lookup:
    """A request as the graph wants it: its history (oldest to newest), ages in days and the customer's segment."""

    articles: npt.NDArray[np.int64]
    ages: npt.NDArray[np.float32]
    segment: int
    excluded: frozenset[int]
    is_known_customer: bool
    n_unknown_articles: int


NOBODY = _Lookup(np.empty(0, np.int64), np.empty(0, np.float32), 0, frozenset(), False, 0)


class Engine:
    """One onnxruntime session over a loaded bundle; safe to share, as it changes nothing after construction.

    Raises GraphRefused when onnxruntime cannot load the graph or when it breaks the contract for an empty history.
    """

    def __init__(self, bundle: Bundle, *, threads: int = 1) -> None:
        self.bundle = bundle
        manifest = bundle.manifest
        options = ort.SessionOptions()
        # More threads cost 40 to 140 % more CPU for a request this small, and ignore a container's quota.
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = ort.InferenceSession(str(bundle.model_path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime raises a class of its own for each status, all bare Exceptions
            raise GraphRefused(
                f"onnxruntime refuses it ({_first_line(error)})", where=str(bundle.model_path), mend=MEND
            ) from error
        self._no_extra_1 = np.array([manifest.n_live], np.int64)
        self._no_penalty_N1 = np.append(np.zeros(manifest.n_live, np.float32), np.float32(NOT_ALLOWED))
        self._max_k = min(manifest.n_live, manifest.max_top_k + manifest.max_history)
        self._popular_ids = self._rank_popular()

    def recommend(self, request: Request) -> Recommendation:
        """Answer one request."""
        return self.recommend_batch([request])[0]

    def recommend_batch(self, requests: Sequence[Request]) -> list[Recommendation]:
        """Answer requests in one run of the graph; each gets what it would get alone, up to rounding.

        Every answer has min(top_k, number of articles that may be answered) articles. Unknown customers and articles
        never fail: what is unknown is left out.
        """
        if not requests:
            return []
        lookups = [self._look_up(request) for request in requests]
        wanted = max(request.top_k + len(lookup.excluded) for request, lookup in zip(requests, lookups, strict=True))
        indices_BK, scores_BK = self._run(lookups, min(wanted, self._max_k))
        return [
            self._answer(request, lookup, indices_K, scores_K)
            for request, lookup, indices_K, scores_K in zip(requests, lookups, indices_BK, scores_BK, strict=True)
        ]

    def certify(self) -> float:
        """Replay the bundle's golden requests and return the mean overlap with the answers that training recorded.

        Raises GraphRefused when one of them or a segment of the bundle's customers cannot be answered, or when the
        overlap is below MIN_GOLDEN_OVERLAP.
        """
        self._try_segments()
        where = str(self.bundle.folder / "golden.json")
        overlaps = []
        for case in self.bundle.read_golden():
            try:
                answer = self.recommend(Request(**case["request"]))
            except BundleError:
                raise
            except Exception as error:
                what = f"the request {str(case['request'])[:200]} fails ({_first_line(error)})"
                raise GraphRefused(what, where=where, mend=MEND) from error
            expected = set(case["recommendations"])
            overlaps.append(len(expected & set(answer.article_ids)) / max(1, len(expected)))
        overlap = float(np.mean(overlaps)) if overlaps else 1.0
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
            self._run(lookups, 1)
        except Exception as error:
            what = f"it fails for the segments {segments} of the customers ({_first_line(error)})"
            raise GraphRefused(what, where=str(self.bundle.model_path), mend=MEND) from error

    def _look_up(self, request: Request) -> _Lookup:
        bundle, max_history = self.bundle, self.bundle.manifest.max_history
        sent = self._article_indices(request.article_ids)
        position = self._customer_position(request.customer_id)
        if position is None:
            kept = np.empty(0, np.int32)
            ages = np.empty(0, np.float32)
            segment = 0
        else:
            start, end = bundle.customer_offsets[position : position + 2]
            kept = bundle.history_articles[start:end]
            ages = np.maximum(bundle.as_of_day - bundle.history_days[start:end], 1).astype(np.float32)
            segment = int(bundle.customer_segments[position])
        articles = kept.astype(np.int64)
        if len(sent):
            articles = np.concatenate([articles, sent])
            ages = np.concatenate([ages, np.ones(len(sent), np.float32)])
        return _Lookup(
            articles=articles[-max_history:],
            ages=ages[-max_history:],
            segment=segment,
            excluded=frozenset(articles.tolist()) if request.exclude_purchased else frozenset(),
            is_known_customer=position is not None,
            n_unknown_articles=len(request.article_ids) - len(sent),
        )

    def _customer_position(self, customer_id: str | None) -> int | None:
        keys = self.bundle.customer_keys
        if customer_id is None or not len(keys):
            return None
        key = np.uint64(customer_key(customer_id))
        position = int(keys.searchsorted(key))
        return position if position < len(keys) and keys[position] == key else None

    def _article_indices(self, article_ids: Sequence[str]) -> npt.NDArray[np.int64]:
        """Look up article_ids in order; those that the catalogue does not have are left out."""
        shaped = [text.encode() for text in article_ids if len(text) == 10 and text.isascii()]
        if not shaped:
            return np.empty(0, np.int64)
        known = self.bundle.article_ids
        wanted = np.array(shaped, dtype="S10")
        positions = known.searchsorted(wanted)
        positions[positions == len(known)] = 0
        found: npt.NDArray[np.int64] = positions[known[positions] == wanted].astype(np.int64)
        return found

    def _run(self, lookups: Sequence[_Lookup], k: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        n_rows, length = len(lookups), max(1, *(len(lookup.articles) for lookup in lookups))
        history_BL = np.full((n_rows, length), self.bundle.manifest.n_articles, np.int64)
        age_days_BL = np.zeros((n_rows, length), np.float32)
        for row, lookup in enumerate(lookups):
            if len(lookup.articles):
                history_BL[row, -len(lookup.articles) :] = lookup.articles
                age_days_BL[row, -len(lookup.ages) :] = lookup.ages
        feed = {
            "history_BL": history_BL,
            "age_days_BL": age_days_BL,
            "segment_B": np.array([lookup.segment for lookup in lookups], np.int64),
            "extra_pool_P": self._no_extra_1,
            "penalty_N1": self._no_penalty_N1,
            "top_k_1": np.array([k], np.int64),
        }
        indices_BK, scores_BK = self._session.run(["article_index_BK", "score_BK"], feed)
        return indices_BK, scores_BK

    def _answer(
        self, request: Request, lookup: _Lookup, indices_K: npt.NDArray[Any], scores_K: npt.NDArray[Any]
    ) -> Recommendation:
        top_k, excluded = request.top_k, lookup.excluded
        if not np.isfinite(scores_K).all():  # for this history only; what the graph does for all was probed at load
            kept = np.isfinite(scores_K)
            indices_K, scores_K = indices_K[kept], scores_K[kept]
        if excluded:
            allowed = [row for row, index in enumerate(indices_K.tolist()) if index not in excluded][:top_k]
            indices_K, scores_K = indices_K[allowed], scores_K[allowed]
        else:
            indices_K, scores_K = indices_K[:top_k], scores_K[:top_k]
        article_ids = self._ids_of(indices_K)
        scores = scores_K.astype(np.float64).round(SCORE_DECIMALS).tolist()
        if len(article_ids) < top_k:
            self._fill(article_ids, scores, top_k, excluded)
        source: Source = "personal" if len(lookup.articles) else "segment" if lookup.segment else "popular"
        return Recommendation(article_ids, scores, source, lookup.is_known_customer, lookup.n_unknown_articles)

    def _fill(self, article_ids: list[str], scores: list[float], top_k: int, excluded: frozenset[int]) -> None:
        """Fill up in popular order: live articles first, then the rest of the catalogue."""
        seen = {*article_ids, *self._ids_of(np.array(sorted(excluded), np.int64))}
        lowest = scores[-1] if scores else 0.0
        for article_id in chain(self._popular_ids, self._catalogue_ids):
            if len(article_ids) == top_k:
                break
            if article_id not in seen:
                seen.add(article_id)
                article_ids.append(article_id)
                scores.append(lowest)

    def _ids_of(self, indices: npt.NDArray[np.int64]) -> list[str]:
        ids: list[str] = self.bundle.article_ids[indices].astype("U10").tolist()
        return ids

    def _rank_popular(self) -> list[str]:
        """Ask the graph what it recommends to nobody in particular, and hold the answer against the contract."""
        where = str(self.bundle.model_path)
        try:
            indices_BK, scores_BK = self._run([NOBODY, NOBODY], self._max_k)
        except Exception as error:
            what = f"it fails for an empty history and top_k {self._max_k} ({_first_line(error)})"
            raise GraphRefused(what, where=where, mend=MEND) from error
        expected = (2, self._max_k)
        if indices_BK.shape != expected or scores_BK.shape != expected:
            what = f"it answers shapes {indices_BK.shape} and {scores_BK.shape}, expected {expected}"
            mend = "export a graph that answers every top_k up to min(n_live, max_top_k + max_history)"
            raise GraphRefused(what, where=where, mend=mend)
        indices_K, scores_K = indices_BK[0], scores_BK[0]
        if not np.isfinite(scores_BK).all():
            raise GraphRefused("it answers scores that are not finite", where=where, mend=MEND)
        n_articles = self.bundle.manifest.n_articles
        if indices_BK.min() < 0 or indices_BK.max() >= n_articles:
            raise GraphRefused(f"it answers articles outside 0..{n_articles - 1}", where=where, mend=MEND)
        if len(set(indices_K.tolist())) != self._max_k:
            raise GraphRefused("it answers the same article twice", where=where, mend=MEND)
        if not self.bundle.is_live[indices_K].all():
            raise GraphRefused("it answers articles that are not live", where=where, mend=MEND)
        if (np.diff(scores_K) > 0).any():
            raise GraphRefused("its scores do not fall from first to last", where=where, mend=MEND)
        return self._ids_of(indices_K)

    @cached_property
    def _catalogue_ids(self) -> list[str]:
        """All articles, live ones first, then by how often the histories hold them; read only when needed."""
        bundle = self.bundle
        n_bought = np.bincount(bundle.history_articles, minlength=bundle.manifest.n_articles)
        return self._ids_of(np.lexsort((-n_bought, ~bundle.is_live)))


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__
