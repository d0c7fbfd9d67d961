"""The rules that a model must beat, on the same customers and label window.

Each returns article_index [customers, k], best first, distinct; where a rule knows fewer than k articles it goes on
with popularity, and -1 pads what even that cannot fill.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pipelines.recommender.interactions import Int32, Int64, Interactions

POPULARITY_DAYS = 7
FREQUENCY_DAYS = 90.0
"""A purchase of `age` days counts exp(-age / 90) in the frequency rule."""


def popular_articles(past: Interactions, day: int, k: int) -> Int64:
    """Best sellers of the last 7 days, then of all time; ties by article_index."""
    recent = np.bincount(past.article[past.day >= day - POPULARITY_DAYS], minlength=past.n_articles)
    ever = np.bincount(past.article, minlength=past.n_articles)
    order = np.lexsort((np.arange(past.n_articles), -ever, -recent))
    return order[: min(k, int((ever > 0).sum()))]


def recent_popularity(past: Interactions, customers: Int32, day: int, k: int = 12) -> Int64:
    """Recommend the best sellers of the last 7 days to everyone."""
    articles = np.full((len(customers), k), -1, dtype=np.int64)
    popular = popular_articles(past, day, k)
    articles[:, : len(popular)] = popular
    return articles


def repurchase_then_popularity(past: Interactions, customers: Int32, day: int, k: int = 12) -> Int64:
    """Recommend what the customer bought, latest first, then the best sellers of the last 7 days."""
    articles = np.full((len(customers), k), -1, dtype=np.int64)
    popular = popular_articles(past, day, 2 * k).tolist()
    for row, customer in enumerate(customers):
        own = past.article[past.offsets[customer] : past.offsets[customer + 1]][::-1]
        newest = list(dict.fromkeys(own[: 8 * k].tolist()))
        if len(newest) < k < len(own):  # mostly the same few articles, over and over
            newest = list(dict.fromkeys(own.tolist()))
        ranked = list(dict.fromkeys([*newest, *popular]))[:k]
        articles[row, : len(ranked)] = ranked
    return articles


def frequency_then_popularity(past: Interactions, customers: Int32, day: int, k: int = 12) -> Int64:
    """Recommend what the customer bought most, newer purchases counting more, then the best sellers of the last 7 days.

    The strongest simple rule where people buy the same again and again, as at a grocer's (Hu et al. 2020, TIFU-KNN).
    """
    articles = np.full((len(customers), k), -1, dtype=np.int64)
    popular = popular_articles(past, day, 2 * k).tolist()
    for row, customer in enumerate(customers):
        own = slice(past.offsets[customer], past.offsets[customer + 1])
        bought, first, place = np.unique(past.article[own][::-1], return_index=True, return_inverse=True)
        weight = np.bincount(place, np.exp((past.day[own][::-1] - day) / FREQUENCY_DAYS), len(bought))
        most = bought[np.lexsort((first, -weight))[:k]]  # of equals, the one bought last
        ranked = list(dict.fromkeys([*most.tolist(), *popular]))[:k]
        articles[row, : len(ranked)] = ranked
    return articles


BASELINES: dict[str, Callable[[Interactions, Int32, int, int], Int64]] = {
    "recent_popularity": recent_popularity,
    "repurchase_popularity": repurchase_then_popularity,
    "frequency_popularity": frequency_then_popularity,
}
