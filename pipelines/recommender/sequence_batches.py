"""Training windows cut from customers' histories, and batches of windows of like length.

Legend: B windows in the batch, L positions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipelines.recommender.interactions import Float32, Int32, Int64


@dataclass(frozen=True, slots=True)
class WindowBatch:
    """Histories and, at each position, the article bought next."""

    history_BL: Int64
    age_days_BL: Float32
    """Days from each purchase to the window's last target."""
    target_BL: Int64
    """n_articles where the position is padding."""


@dataclass(frozen=True, slots=True)
class Windows:
    """Runs of purchases of at most max_history + 1: each but the first is a target of those before it."""

    articles: Int32
    days: Int32 | None
    starts_W: Int64
    lengths_W: Int64
    """Purchases in the window, at least 2."""
    n_articles: int

    @property
    def n_targets(self) -> int:
        return int((self.lengths_W - 1).sum())

    def batch(self, rows_B: Int64) -> WindowBatch:
        """Gather windows, newest purchases on the right."""
        lengths_B = self.lengths_W[rows_B]
        L = int(lengths_B.max()) - 1
        column_L = np.arange(L) - L
        is_bought_BL = -column_L < lengths_B[:, None]
        row_BL = np.where(is_bought_BL, (self.starts_W[rows_B] + lengths_B - 1)[:, None] + column_L, 0)
        history_BL = np.where(is_bought_BL, self.articles[row_BL], self.n_articles).astype(np.int64)
        last_B1 = (self.starts_W[rows_B] + lengths_B - 1)[:, None]
        target_BL = np.where(is_bought_BL, self.articles[np.minimum(row_BL + 1, last_B1)], self.n_articles)
        age_BL = np.zeros(history_BL.shape, dtype=np.float32)
        if self.days is not None:
            age_BL = np.where(is_bought_BL, self.days[last_B1] - self.days[row_BL], 0).astype(np.float32)
        return WindowBatch(history_BL, age_BL, target_BL.astype(np.int64))

    def epoch(self, positions_per_batch: int, rng: np.random.Generator) -> Iterator[Int64]:
        """Draw every window once, in batches of like length, in random order."""
        blurred_W = self.lengths_W + rng.random(len(self.lengths_W)) * 2.0
        order_W = np.argsort(blurred_W, kind="stable")
        n_positions = np.cumsum((self.lengths_W - 1)[order_W])
        cuts = np.flatnonzero(np.diff(n_positions // positions_per_batch)) + 1
        batches = np.split(order_W, cuts)
        for index in rng.permutation(len(batches)):
            if len(batches[index]):
                yield batches[index]


def cut_windows(
    articles: Int32,
    offsets: Int64,
    days: Int32 | None,
    n_articles: int,
    max_history: int,
    max_customers: int,
    rng: np.random.Generator,
) -> Windows:
    """Cut each customer's run (offsets: [C + 1], oldest first) into windows from its newest end.

    A customer with one purchase teaches nothing. Of more than max_customers others, a random sample is kept, so that
    memory and time are bounded.
    """
    counts_C: npt.NDArray[np.int64] = np.diff(offsets)
    kept_C = np.flatnonzero(counts_C >= 2)
    if len(kept_C) > max_customers:
        kept_C = np.sort(rng.choice(kept_C, max_customers, replace=False))
    n_windows_C = np.maximum(1, -(-(counts_C[kept_C] - 1) // max_history))
    customer_W = np.repeat(kept_C, n_windows_C)
    nth_W = np.arange(len(customer_W)) - np.repeat(np.cumsum(n_windows_C) - n_windows_C, n_windows_C)
    ends_W = offsets[customer_W + 1] - nth_W * max_history
    starts_W = np.maximum(offsets[customer_W], ends_W - (max_history + 1))
    return Windows(articles, days, starts_W.astype(np.int64), (ends_W - starts_W).astype(np.int64), n_articles)
