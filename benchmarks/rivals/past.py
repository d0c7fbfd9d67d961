"""What was known on the morning of one day, as sparse matrices and lookups that every rival shares.

Legend: R customers asked for, A articles, P pairs of a row and an article, G groups of articles.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy import sparse

from pipelines.recommender.interactions import Catalogue, Int32, Int64, Interactions

Float64 = npt.NDArray[np.float64]

PAIR_WINDOW_DAYS = 182
"""Articles bought together are counted over the last half year."""
N_NEIGHBOURS = 20


@dataclass(frozen=True)
class Past:
    """Purchases before `day` and the catalogue; nothing of the label window."""

    purchases: Interactions
    catalogue: Catalogue
    segments: npt.NDArray[np.uint8]
    day: int

    @property
    def n_articles(self) -> int:
        return self.purchases.n_articles

    @cached_property
    def age_days(self) -> Int32:
        """Days since each purchase, at least 1."""
        return (self.day - self.purchases.day).astype(np.int32)

    def sold(self, days: int) -> Float64:
        """Pieces of each article sold in the last `days` days; [A]."""
        recent = self.purchases.article[self.age_days <= days]
        return np.bincount(recent, minlength=self.n_articles).astype(np.float64)

    @cached_property
    def neighbours_AA(self) -> sparse.csr_array:
        """Cosine of articles bought by one customer in one week; the best N_NEIGHBOURS of each article."""
        recent = self.age_days <= PAIR_WINDOW_DAYS
        article, week = self.purchases.article[recent], self.age_days[recent] // 7
        n_weeks = PAIR_WINDOW_DAYS // 7 + 1
        _, basket = np.unique(self.purchases.customer[recent].astype(np.int64) * n_weeks + week, return_inverse=True)
        n_baskets = int(basket.max(initial=-1)) + 1
        ones = np.ones(len(basket), dtype=np.float32)
        bought = sparse.csr_array((ones, (basket, article)), shape=(n_baskets, self.n_articles))
        bought.data[:] = 1.0
        # A basket of hundreds says little of each of its pairs, and costs the square of its size.
        size = np.maximum(np.diff(bought.indptr), 1)
        bought = sparse.diags_array((1.0 / np.sqrt(np.maximum(size, 10) / 10.0)).astype(np.float32)) @ bought
        n_bought = np.asarray(bought.sum(axis=0)).ravel()
        scale = sparse.diags_array((1.0 / np.sqrt(n_bought + 2.0)).astype(np.float32))
        scaled = (bought @ scale).tocsc()
        parts = []
        for start in range(0, self.n_articles, 2000):
            together = (scaled[:, start : start + 2000].T @ scaled).tocsr()
            parts.append(best_per_row(together, N_NEIGHBOURS, forbidden_diagonal=start))
        return sparse.vstack(parts, format="csr")

    def history(self, customers: Int32, tau_days: float, newest: int | None = None) -> sparse.csr_array:
        """Decayed purchases of each customer; [R, A]. `newest` keeps only that many purchases."""
        starts, ends = self.purchases.offsets[customers], self.purchases.offsets[customers + 1]
        if newest is not None:
            starts = np.maximum(starts, ends - newest)
        rows, at = runs(starts, ends)
        weight = np.exp(-self.age_days[at] / tau_days).astype(np.float32)
        shape = (len(customers), self.n_articles)
        return sparse.csr_array((weight, (rows, self.purchases.article[at])), shape=shape)


def runs(starts: Int64, ends: Int64) -> tuple[Int64, Int64]:
    """Number the positions of several ranges: which range, and the position.

    >>> runs(np.array([3, 0]), np.array([5, 1]))
    (array([0, 0, 1]), array([3, 4, 0]))
    """
    lengths = ends - starts
    rows = np.repeat(np.arange(len(starts)), lengths)
    at = np.arange(int(lengths.sum())) + np.repeat(starts - np.concatenate([[0], np.cumsum(lengths)[:-1]]), lengths)
    return rows, at


def best_per_row(matrix: sparse.csr_array, k: int, forbidden_diagonal: int | None = None) -> sparse.csr_array:
    """Keep the k largest entries of each row; with forbidden_diagonal = d, never the entry (i, i + d)."""
    matrix = matrix.tocsr()
    rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    columns, values = matrix.indices, matrix.data
    if forbidden_diagonal is not None:
        other = columns != rows + forbidden_diagonal
        rows, columns, values = rows[other], columns[other], values[other]
    order = np.lexsort((columns, -values, rows))
    rows, columns, values = rows[order], columns[order], values[order]
    keep = np.arange(len(rows)) - np.searchsorted(rows, rows) < k
    return sparse.csr_array((values[keep], (rows[keep], columns[keep])), shape=matrix.shape)


def look_up(keys: Int64, values: Float64, wanted: Int64, missing: float) -> Float64:
    """Find the value of each wanted key among ascending keys."""
    if not len(keys):
        return np.full(len(wanted), missing)
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[at] == wanted, values[at], missing)


def entries(matrix: sparse.csr_array) -> tuple[Int64, Float64]:
    """List a matrix: ascending keys row * n_columns + column, and values."""
    matrix = matrix.tocsr()
    matrix.sum_duplicates()
    rows = np.repeat(np.arange(matrix.shape[0], dtype=np.int64), np.diff(matrix.indptr))
    return rows * matrix.shape[1] + matrix.indices, matrix.data.astype(np.float64)
