"""Customers' histories as the model reads them: right-aligned, newest last."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipelines.recommender.interactions import Float32, Int32, Int64, Interactions


@dataclass(frozen=True)
class HistoryBatch:
    """B customers; padding on the left: article n_articles with age 0."""

    history_BL: Int64
    age_days_BL: Float32


def histories_of(past: Interactions, customers: Int32, day: int, max_history: int) -> HistoryBatch:
    """Read the newest `max_history` purchases before `day` of each customer.

    `past` holds purchases before `day` only (see Interactions.before). L is the longest history in the batch, at least
    1.
    """
    starts, ends = past.offsets[customers], past.offsets[customers + 1]
    lengths = np.minimum(ends - starts, max_history)
    L = max(int(lengths.max(initial=0)), 1)
    if len(past) == 0:
        shape = (len(customers), L)
        return HistoryBatch(np.full(shape, past.n_articles, dtype=np.int64), np.zeros(shape, dtype=np.float32))
    column = np.arange(L)[None, :] - L
    row_BL = ends[:, None] + column
    is_bought_BL = -column <= lengths[:, None]
    row_BL = np.where(is_bought_BL, row_BL, 0)
    history_BL = np.where(is_bought_BL, past.article[row_BL], past.n_articles).astype(np.int64)
    age_BL = np.where(is_bought_BL, day - past.day[row_BL], 0).astype(np.float32)
    return HistoryBatch(history_BL, age_BL)
