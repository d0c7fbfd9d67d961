"""One label window: who bought what, which candidates each model had, and the ranker's features of them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from pipelines.recommender.histories import histories_of
from pipelines.recommender.hyperparameters import Hyperparameters
from pipelines.recommender.interactions import Bool, Float32, Int32, Int64, Interactions
from pipelines.recommender.signals import RANKER_FEATURES, Signals
from pipelines.recommender.tables import Tables
from pipelines.recommender.workers import Workers

BATCH = 8
"""Customers described at once: their sums over the live catalogue stay in the cache; 64 take three times as long."""


@dataclass(frozen=True)
class LabelWeek:
    """Customers who bought in [day, day + horizon_days), with everything known before `day`."""

    day: int
    customers_N: Int32
    n_bought_N: Int64
    n_history_N: Int64
    """Purchases before `day`."""
    idle_days_N: Int64
    """Days since the last purchase; -1 without one."""
    described_R: npt.NDArray[np.intp]
    """Rows of the customers whose candidates follow: all, or only those with a bought article among them."""
    candidates_RC: Int32
    """article_index of each candidate, best of retrieval first."""
    features_RCF: npt.NDArray[np.float16]
    is_bought_RC: Bool


def purchase_keys(bought: Interactions) -> Int64:
    """Number each pair of customer and article that was bought; sorted, distinct."""
    return np.unique(bought.customer.astype(np.int64) * bought.n_articles + bought.article)


def is_among(articles_NK: Int64 | Int32, customers_N: Int32, bought_keys: Int64, n_articles: int) -> Bool:
    """Is each article one that the row's customer bought (see purchase_keys)? -1 never is; [N, K]."""
    if not len(bought_keys):
        return np.zeros(articles_NK.shape, dtype=np.bool_)
    wanted = customers_N.astype(np.int64)[:, None] * n_articles + articles_NK
    at = np.minimum(np.searchsorted(bought_keys, wanted), len(bought_keys) - 1)
    return np.asarray((bought_keys[at] == wanted) & (articles_NK >= 0))


def run_signals(
    signals: Signals, past: Interactions, customers: Int32, segments: npt.NDArray[np.uint8], day: int, max_history: int
) -> tuple[Int32, Float32]:
    """Retrieve candidates (article_index) [B, C] and their features [B, C, F] for one batch of customers."""
    history = histories_of(past, customers, day, max_history)
    with torch.inference_mode():
        candidates_BC, _, features_BCF = signals(
            torch.from_numpy(history.history_BL),
            torch.from_numpy(history.age_days_BL),
            torch.from_numpy(segments[customers].astype(np.int64)),
            *signals.nothing_extra(),
        )
        return signals.live_N1[candidates_BC].numpy().astype(np.int32), features_BCF.numpy()


def buyers_of(bought: Interactions) -> tuple[Int32, Int64]:
    """Customers with a purchase, and how many different articles each bought."""
    customers, n_bought = np.unique((purchase_keys(bought) // bought.n_articles).astype(np.int32), return_counts=True)
    return customers, n_bought.astype(np.int64)


def build_label_week(
    interactions: Interactions,
    tables: Tables,
    segments: npt.NDArray[np.uint8],
    horizon_days: int,
    hyperparameters: Hyperparameters,
    *,
    max_customers: int | None = None,
    customers: Int32 | None = None,
    keep_all: bool = False,
    workers: Workers | None = None,
) -> LabelWeek:
    """Describe the label window that starts on tables.day; only rows before it reach histories and candidates.

    max_customers draws that many buyers (seeded by day), for training at full size; `customers` names them instead; of
    several `workers`, each describes its share of them.
    Candidates of customers without a bought article among them cannot teach, and score 0 whatever the ranker does,
    so they are dropped unless keep_all.
    """
    day = tables.day
    past = interactions.before(day)
    bought = interactions.between(day, day + horizon_days)
    buyers, n_bought = buyers_of(bought)
    if customers is not None:
        chosen = np.searchsorted(buyers, customers)
        buyers, n_bought = buyers[chosen], n_bought[chosen]
    elif max_customers is not None and len(buyers) > max_customers:
        rng = np.random.default_rng([hyperparameters.seed, day])
        chosen = np.sort(rng.choice(len(buyers), max_customers, replace=False))
        buyers, n_bought = buyers[chosen], n_bought[chosen]
    own = (workers or Workers()).share(len(buyers), BATCH)
    buyers, n_bought = buyers[own], n_bought[own]
    signals = Signals(tables, hyperparameters.n_candidates)
    bought_keys = purchase_keys(bought)

    def describe(start: int) -> tuple[npt.NDArray[np.intp], Int32, npt.NDArray[np.float16], Bool]:
        part = buyers[start : start + BATCH]
        articles_BC, features_BCF = run_signals(signals, past, part, segments, day, hyperparameters.max_history)
        is_bought_BC = is_among(articles_BC, part, bought_keys, bought.n_articles)
        rows = np.arange(len(part)) if keep_all else np.flatnonzero(is_bought_BC.any(axis=1))
        return rows + start, articles_BC[rows], features_BCF[rows].astype(np.float16), is_bought_BC[rows]

    # Threads over batches, each with one thread of torch: torch's own threads only wait for each other at this size.
    with ThreadPoolExecutor(hyperparameters.threads) as pool:
        parts = list(pool.map(describe, range(0, len(buyers), BATCH)))
    n_history = past.offsets[buyers + 1] - past.offsets[buyers]
    idle_days = np.full(len(buyers), -1, dtype=np.int64)
    has_history = n_history > 0
    idle_days[has_history] = day - past.day[past.offsets[buyers[has_history] + 1] - 1]
    C, F = signals.n_candidates, len(RANKER_FEATURES)
    return LabelWeek(
        day=day,
        customers_N=buyers,
        n_bought_N=n_bought,
        n_history_N=n_history,
        idle_days_N=idle_days,
        described_R=np.concatenate([np.empty(0, dtype=np.intp), *(part[0] for part in parts)]),
        candidates_RC=np.concatenate([np.empty((0, C), dtype=np.int32), *(part[1] for part in parts)]),
        features_RCF=np.concatenate([np.empty((0, C, F), dtype=np.float16), *(part[2] for part in parts)]),
        is_bought_RC=np.concatenate([np.empty((0, C), dtype=np.bool_), *(part[3] for part in parts)]),
    )
