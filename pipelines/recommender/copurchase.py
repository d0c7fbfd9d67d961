"""What is bought together: for each article the live ones that the same customers bought within weeks of it.

Legend: A articles of the catalogue, M neighbours kept of each.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from pipelines.recommender.interactions import Bool, Float32, Float64, Int64, Interactions

WINDOW_DAYS = 28
HISTORY_DAYS = 364
REACH = 12
"""Pairs are formed with the next 12 purchases at most, so that the work stays linear in transactions."""
MAX_ROWS = 8_000_000
"""Older days are left out once the newer ones hold as many purchases."""
PAIRED_ROWS = 1_000_000
"""Purchases whose pairs are summed at once: at most 24 pairs each, of 8 bytes, in four arrays."""


def _top_per_row(
    rows: Int64, columns: Int64, scores: Float32, n_rows: int, k: int, padding: int
) -> tuple[Int64, Float32]:
    """Keep the k best columns of each row, best first, ties in the order given; [n_rows, k] each.

    Scores are at least 0.
    """
    # One integer sorts five times as fast as three columns; a positive float's bits are in the order of its value.
    order = np.argsort((rows << 32) - scores.view(np.int32), kind="stable")
    rows, columns, scores = rows[order], columns[order], scores[order]
    starts = np.searchsorted(rows, np.arange(n_rows))
    rank = np.arange(len(rows)) - starts[rows]
    keep = rank < k
    index = np.full((n_rows, k), padding, dtype=np.int64)
    value = np.zeros((n_rows, k), dtype=np.float32)
    index[rows[keep], rank[keep]] = columns[keep]
    value[rows[keep], rank[keep]] = scores[keep]
    return index, value


def run_starts(sorted_keys: Int64) -> Int64:
    """Positions where a new key begins."""
    return np.flatnonzero(np.concatenate([[True], sorted_keys[1:] != sorted_keys[:-1]])[: len(sorted_keys)])


def _copurchase_rows(history: Interactions, day: int) -> Interactions:
    """Purchases of the last year, or of its newest days that hold MAX_ROWS."""
    n_sold = np.bincount(np.clip(day - 1 - history.day, 0, HISTORY_DAYS))[:HISTORY_DAYS]
    n_days = int(np.searchsorted(np.cumsum(n_sold), MAX_ROWS)) + 1
    return history.between(day - min(n_days, HISTORY_DAYS), day)


def _pairs(recent: Interactions, is_live_A: Bool, low: int, high: int) -> tuple[Int64, Float64]:
    """Pairs of an article in [low, high) and a live one: article * n_articles + the other, ascending, and weight."""
    parts = []
    for step in range(1, REACH + 1):
        gap = recent.day[step:] - recent.day[:-step]
        first, second = recent.article[:-step], recent.article[step:]
        together = (recent.customer[step:] == recent.customer[:-step]) & (gap <= WINDOW_DAYS)
        at = np.flatnonzero(together & (first != second))
        gap, first, second = gap[at], first[at], second[at]
        for own, other in ((first, second), (second, first)):
            keep = np.flatnonzero((own >= low) & (own < high) & is_live_A[other])
            key = own[keep].astype(np.int64) * recent.n_articles + other[keep]
            parts.append((key << 5) + gap[keep])  # five bits hold the 28 days
    # Sorted with the gap inside, so that the sums do not depend on the order of rows.
    packed = np.concatenate(parts)
    packed.sort()
    weight_of_gap = np.exp(-np.arange(WINDOW_DAYS + 1) / 7.0) + 0.1
    starts = run_starts(packed >> 5)
    weight = np.add.reduceat(weight_of_gap[packed & 31], starts) if len(starts) else np.empty(0)
    return packed[starts] >> 5, weight


def neighbours_of(history: Interactions, day: int, position_A1: Int64, k: int) -> tuple[Int64, Float32]:
    """Live articles bought by the same customers within weeks of each other, cosine-normalised; [A + 1, k] each.

    Articles are taken in ranges, so that memory is bounded by PAIRED_ROWS whatever the size of the shop.
    """
    n_live, n_articles = int(position_A1[-1]), history.n_articles
    index_AK = np.full((n_articles + 1, k), n_live, dtype=np.int64)
    weight_AK = np.zeros((n_articles + 1, k), dtype=np.float32)
    recent = _copurchase_rows(history, day)
    n_sold = np.bincount(recent.article, minlength=n_articles)
    scale = 1.0 / np.sqrt(n_sold + 2.0)
    ranges = np.flatnonzero(np.diff(np.cumsum(n_sold) // PAIRED_ROWS, prepend=-1, append=-1))
    for low, high in pairwise(ranges.tolist()):
        key, weight = _pairs(recent, position_A1[:-1] < n_live, low, high)
        row, column = np.divmod(key, n_articles)
        score = (weight * scale[row] * scale[column]).astype(np.float32)
        rows = slice(low, high)
        index_AK[rows], weight_AK[rows] = _top_per_row(row - low, position_A1[column], score, high - low, k, n_live)
    return index_AK, weight_AK
