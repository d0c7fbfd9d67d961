"""The first stage of the two-stage rival: about 150 candidates of each customer, and what happened to be bought.

Legend as in past.py; a pair is a row (customer) and an article, its key row * n_articles + article.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from benchmarks.rivals.past import Past, best_per_row, entries, runs
from pipelines.recommender.interactions import Int32, Int64
from pipelines.recommender.tables import N_SEGMENTS

N_LATEST = 40
N_FREQUENT = 40
N_POPULAR = 50
N_SEGMENT = 30
N_TOGETHER = 40
N_VARIANTS = 3
"""Colour variants of each of the newest TOUCHED purchases."""
TOUCHED = 12


@dataclass(frozen=True)
class Retrieved:
    """Candidates of R customers and the scores that found them."""

    customers_R: Int32
    row_P: Int64
    """Ascending."""
    article_P: Int64
    together_RA: sparse.csr_array
    """Co-purchase score of every article that any of the newest purchases leads to."""
    frequent_RA: sparse.csr_array
    """Decayed purchases of the customer."""
    segment_SA: np.ndarray
    """Log decayed sales of each article in each age band."""

    @property
    def key_P(self) -> Int64:
        return np.asarray(self.row_P * self.frequent_RA.shape[1] + self.article_P)


def segment_sales(past: Past, tau_days: float = 14.0) -> np.ndarray:
    """Decayed sales of each article in each age band, as a share of the band's; [S, A]."""
    segment = past.segments[past.purchases.customer].astype(np.int64)
    key = segment * past.n_articles + past.purchases.article
    sales = np.bincount(key, np.exp(-past.age_days / tau_days), N_SEGMENTS * past.n_articles)
    sales_SA = sales.reshape(N_SEGMENTS, past.n_articles)
    share_A = sales_SA.sum(axis=0) / max(sales_SA.sum(), 1e-9)
    return np.asarray((sales_SA + 50.0 * share_A) / (sales_SA.sum(axis=1, keepdims=True) + 50.0))


def variants(past: Past, k: int) -> sparse.csr_array:
    """The k best-selling other articles of the same product code, of those sold in the last month; [A, A]."""
    sold = past.sold(28)
    product = past.catalogue.product_A
    order = np.lexsort((np.arange(past.n_articles), -sold, product))
    order = order[sold[order] > 0]
    rank = np.arange(len(order)) - np.searchsorted(product[order], product[order])
    order, rank = order[rank <= k], rank[rank <= k]
    n_products = int(product.max()) + 1
    member = sparse.csr_array(
        (np.log1p(sold[order]).astype(np.float32), (product[order], order)), shape=(n_products, past.n_articles)
    )
    starts, ends = member.indptr[product].astype(np.int64), member.indptr[product + 1].astype(np.int64)
    rows, at = runs(starts, ends)
    columns, values = member.indices[at], member.data[at]
    other = columns != rows
    shape = (past.n_articles, past.n_articles)
    return best_per_row(sparse.csr_array((values[other], (rows[other], columns[other])), shape=shape), k)


def retrieve(past: Past, customers_R: Int32) -> Retrieved:
    """Collect candidates: bought before, best sellers, of the age band, bought together, colour variants."""
    n_rows, n_articles = len(customers_R), past.n_articles
    latest_RA = past.history(customers_R, 1e9)  # every purchase weighs almost 1
    latest_RA.sum_duplicates()
    frequent_RA = past.history(customers_R, 60.0)
    frequent_RA.sum_duplicates()
    recent_RA = past.history(customers_R, 20.0, newest=TOUCHED)
    together_RA = sparse.csr_array(past.history(customers_R, 20.0, newest=3 * TOUCHED) @ past.neighbours_AA)
    segment_SA = segment_sales(past)

    everyone = np.arange(n_rows, dtype=np.int64)
    sold = past.sold(7) + past.sold(28) * 1e-3
    popular = np.argsort(-sold, kind="stable")[:N_POPULAR]
    popular = popular[sold[popular] > 0]
    by_segment = np.argsort(-segment_SA, axis=1, kind="stable")[:, :N_SEGMENT]
    keys = [
        entries(best_per_row(_newest(past, customers_R), N_LATEST))[0],
        entries(best_per_row(frequent_RA, N_FREQUENT))[0],
        (everyone[:, None] * n_articles + popular).ravel(),
        (everyone[:, None] * n_articles + by_segment[past.segments[customers_R]]).ravel(),
        entries(best_per_row(together_RA, N_TOGETHER))[0],
        entries(best_per_row(sparse.csr_array(recent_RA @ variants(past, N_VARIANTS)), TOUCHED * N_VARIANTS))[0],
    ]
    key_P = np.unique(np.concatenate(keys))
    row_P, article_P = np.divmod(key_P, n_articles)
    return Retrieved(customers_R, row_P, article_P, together_RA, frequent_RA, segment_SA)


def _newest(past: Past, customers_R: Int32) -> sparse.csr_array:
    """Recency of each article's last purchase, the larger the later; [R, A]."""
    offsets = past.purchases.offsets
    rows, at = runs(offsets[customers_R], offsets[customers_R + 1])
    key = rows * past.n_articles + past.purchases.article[at]
    # Rows are in order of time: of equal keys the last one is the newest.
    order = np.argsort(key, kind="stable")
    last = order[np.flatnonzero(np.diff(key[order], append=-1))]
    newness = 1.0 / past.age_days[at[last]] + 1e-6 * (np.arange(len(at))[last] + 1.0) / max(len(at), 1)
    shape = (len(customers_R), past.n_articles)
    return sparse.csr_array((newness, (rows[last], past.purchases.article[at[last]])), shape=shape)
