"""Rules and neighbourhood models: each answers customers with article_index [customers, k], best first, -1 pads.

What a model cannot fill is filled with the best sellers of the last week, as a shop would.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
from implicit.recommender_base import RecommenderBase
from implicit.utils import ParameterWarning
from scipy import sparse
from threadpoolctl import threadpool_limits

from benchmarks.rivals.past import Past, best_per_row
from pipelines.recommender.baselines import frequency_then_popularity, popular_articles, repurchase_then_popularity
from pipelines.recommender.interactions import Int32, Int64
from pipelines.recommender.tables import N_SEGMENTS

Rival = Callable[[Past, Int32, int], Int64]

ALS_FACTORS = 64
HISTORY_TAU_DAYS = 90.0
"""How fast a purchase loses weight; implicit's models read the same: else they recommend what is out of season."""


def fill_with_popularity(past: Past, articles_RK: Int64) -> Int64:
    """Drop repeats within a row and fill it up with best sellers; -1 counts as empty."""
    k = articles_RK.shape[1]
    popular = popular_articles(past.purchases, past.day, 2 * k).tolist()
    filled = np.full(articles_RK.shape, -1, dtype=np.int64)
    for row, answer in enumerate(articles_RK.tolist()):
        ranked = [article for article in dict.fromkeys([*answer, *popular]) if article >= 0][:k]
        filled[row, : len(ranked)] = ranked
    return filled


def as_table(scores_RA: sparse.csr_array, k: int) -> Int64:
    """The k best articles of each row, -1 where it has fewer."""
    best = best_per_row(scores_RA, k)
    rows = np.repeat(np.arange(best.shape[0]), np.diff(best.indptr))
    order = np.lexsort((best.indices, -best.data, rows))
    rows, articles = rows[order], best.indices[order]
    table = np.full((best.shape[0], k), -1, dtype=np.int64)
    table[rows, np.arange(len(rows)) - np.searchsorted(rows, rows)] = articles
    return table


def repurchase(past: Past, customers: Int32, k: int) -> Int64:
    """What the customer bought, latest first, then the best sellers of the last week."""
    return repurchase_then_popularity(past.purchases, customers, past.day, k)


def frequency(past: Past, customers: Int32, k: int) -> Int64:
    """What the customer bought most, newer purchases counting more, then the best sellers of the last week."""
    return frequency_then_popularity(past.purchases, customers, past.day, k)


def segment_popularity(past: Past, customers: Int32, k: int, tau_days: float = 7.0) -> Int64:
    """Decayed best sellers of the customer's age band."""
    weight = np.exp(-past.age_days / tau_days)
    segment = past.segments[past.purchases.customer].astype(np.int64)
    by_segment = np.bincount(segment * past.n_articles + past.purchases.article, weight, N_SEGMENTS * past.n_articles)
    by_segment_SA = by_segment.reshape(N_SEGMENTS, past.n_articles)
    # A band of few customers leans on everyone's taste: twenty purchases' worth of it.
    everyone_A = by_segment_SA.sum(axis=0)
    shrunk_SA = by_segment_SA + 20.0 * everyone_A / max(everyone_A.sum(), 1e-9)
    best_SK = np.argsort(-shrunk_SA, axis=1, kind="stable")[:, :k]
    return fill_with_popularity(past, best_SK[past.segments[customers]])


def copurchase(past: Past, customers: Int32, k: int) -> Int64:
    """What others bought in the same week as the customer's newest twenty purchases."""
    return fill_with_popularity(past, as_table(past.history(customers, 30.0, newest=20) @ past.neighbours_AA, k))


def implicit_als(past: Past, customers: Int32, k: int) -> Int64:
    """implicit's alternating least squares (Hu, Koren, Volinsky 2008); bought articles may be recommended again."""
    from implicit.cpu.als import AlternatingLeastSquares

    with threadpool_limits(1, "blas"):
        model = AlternatingLeastSquares(
            factors=ALS_FACTORS, regularization=0.05, alpha=20.0, iterations=15, num_threads=1, random_state=7
        )
        return _implicit_answers(model, past, customers, k)


def implicit_bm25(past: Past, customers: Int32, k: int) -> Int64:
    """implicit's item neighbourhoods with BM25 weights."""
    from implicit.nearest_neighbours import BM25Recommender

    return _implicit_answers(BM25Recommender(K=100, num_threads=1), past, customers, k)


def _implicit_answers(model: RecommenderBase, past: Past, customers: Int32, k: int) -> Int64:
    everyone = np.arange(past.purchases.n_customers, dtype=np.int32)
    own = sparse.csr_matrix(past.history(everyone, HISTORY_TAU_DAYS))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ParameterWarning)  # implicit's BM25 hands itself another format
        model.fit(own, show_progress=False)
    articles, scores = model.recommend(customers, own[customers], N=k, filter_already_liked_items=False)
    known = np.diff(own.indptr)[customers] > 0
    return fill_with_popularity(past, np.where(known[:, None] & (scores > 0), articles, -1).astype(np.int64))
