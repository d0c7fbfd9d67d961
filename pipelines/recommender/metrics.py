"""Ranking metrics over customers who bought in the label window, and their intervals.

Everything works on hits_NK: for customer n, is the article at rank k + 1 among those bought? A row holds distinct
articles.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipelines.recommender.interactions import Bool, Float64, Int32, Int64


def average_precision_at_k(recommended: Sequence[str], bought: Set[str], k: int = 12) -> float:
    """Score one customer's ranked articles against what was bought in the label window.

    Divides by min(len(bought), k), as the H&M competition does; other libraries divide by k or by len(bought).
    A repeated article counts once. Returns nan when nothing was bought.

    >>> average_precision_at_k(["a", "x", "b"], {"a", "b"}, k=3)  # (1/1 + 2/3) / 2
    0.8333333333333333
    """
    if not bought:
        return float("nan")
    seen: set[str] = set()
    total = 0.0
    for rank, article in enumerate(recommended[:k], start=1):
        if article in bought and article not in seen:
            seen.add(article)
            total += len(seen) / rank
    return total / min(len(bought), k)


def average_precision(hits_NK: Bool, n_bought_N: Int64, k: int = 12) -> Float64:
    """Average precision of each customer; [N]. Same formula as `average_precision_at_k`."""
    hits = hits_NK[:, :k].astype(np.float64)
    precision = np.cumsum(hits, axis=1) / np.arange(1, hits.shape[1] + 1)
    return np.asarray((precision * hits).sum(axis=1) / np.minimum(n_bought_N, k))


def recall(hits_NK: Bool, n_bought_N: Int64, k: int) -> Float64:
    """Share of a customer's bought articles among the first k; [N]."""
    return np.asarray(hits_NK[:, :k].sum(axis=1) / n_bought_N)


def ndcg(hits_NK: Bool, n_bought_N: Int64, k: int = 12) -> Float64:
    """Discounted gain with binary relevance over that of the ideal order (Järvelin and Kekäläinen 2002); [N]."""
    discount = 1.0 / np.log2(np.arange(2, k + 2))
    gain = (hits_NK[:, :k] * discount[: hits_NK[:, :k].shape[1]]).sum(axis=1)
    ideal = np.concatenate([[0.0], np.cumsum(discount)])[np.minimum(n_bought_N, k)]
    return np.asarray(gain / ideal)


def hit_rate(hits_NK: Bool, k: int = 12) -> Float64:
    """1 for each customer with at least one hit among the first k; [N]."""
    return np.asarray(hits_NK[:, :k].any(axis=1).astype(np.float64))


def self_information(n_sold_A: Int64) -> Float64:
    """Bits that each article's share of all sales carries: the rarer, the more; [A].

    One that did not sell counts as sold once, so that a new article is as surprising as the rarest, and no more.

    >>> self_information(np.array([4, 2, 1, 1, 0])).tolist()
    [1.0, 2.0, 3.0, 3.0, 3.0]
    """
    return np.asarray(-np.log2(np.maximum(n_sold_A, 1) / max(1, int(n_sold_A.sum()))))


def novelty(articles_NK: Int32 | Int64, information_A: Float64, k: int = 12) -> Float64:
    """Mean self-information of each customer's first k articles, in bits (Zhou et al. 2010, PNAS 107:4511); [N].

    -1 pads a short answer and counts for nothing; an empty answer has novelty 0.
    """
    articles = articles_NK[:, :k]
    is_article = articles >= 0
    bits = np.where(is_article, information_A[np.maximum(articles, 0)], 0.0)
    return np.asarray(bits.sum(axis=1) / np.maximum(is_article.sum(axis=1), 1))


@dataclass(frozen=True)
class Interval:
    """A mean and its 95 % bootstrap interval."""

    mean: float
    low: float
    high: float
    n: int


def bootstrap_mean(
    values_N: Float64, customers_N: npt.NDArray[np.integer], seed: int, n_resamples: int = 2000
) -> Interval:
    """Resample customers, with all their rows, and take the middle 95 % of the means.

    A customer who appears in several label weeks is one unit, since their weeks are alike. Pass a difference of two
    models' values on the same rows for a paired interval.
    """
    return bootstrap_means(values_N[:, None], customers_N, seed, n_resamples)[0]


def bootstrap_means(
    values_NM: Float64, customers_N: npt.NDArray[np.integer], seed: int, n_resamples: int = 2000
) -> list[Interval]:
    """Give the interval of each of M columns; the resampled customers are the same for all, and so is the work."""
    n, n_columns = values_NM.shape
    if not n:
        return [Interval(float("nan"), float("nan"), float("nan"), 0)] * n_columns
    _, unit_N = np.unique(customers_N, return_inverse=True)
    sums_UM = np.stack([np.bincount(unit_N, column) for column in values_NM.T], axis=1)
    counts = np.bincount(unit_N).astype(np.float64)
    rng = np.random.default_rng(seed)
    means = np.empty((n_resamples, n_columns))
    for i in range(n_resamples):
        drawn = np.bincount(rng.integers(0, len(counts), len(counts)), minlength=len(counts))
        means[i] = (drawn @ sums_UM) / (drawn @ counts)
    lows, highs = np.quantile(means, [0.025, 0.975], axis=0)
    columns = np.ascontiguousarray(values_NM.T)  # numpy adds a strided column in another order, with another last digit
    return [
        Interval(float(column.mean()), float(low), float(high), n)
        for column, low, high in zip(columns, lows, highs, strict=True)
    ]
