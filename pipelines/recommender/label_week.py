"""One label window: who bought what, which candidates each model had, and the ranker's features of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from pipelines.recommender.baselines import BASELINES
from pipelines.recommender.histories import histories_of
from pipelines.recommender.hyperparameters import Hyperparameters
from pipelines.recommender.interactions import Bool, Float32, Int32, Int64, Interactions
from pipelines.recommender.model import RANKER_FEATURES, Signals
from pipelines.recommender.tables import Tables

# Accumulators of one batch: 13 sums over the live catalogue for each customer; 2^24 floats are 64 MiB.
MAX_BATCH_FLOATS = 2**24


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
    baseline_hits_NK: dict[str, Bool]


def is_among(articles_NK: Int64 | Int32, customers_N: Int32, bought: Interactions) -> Bool:
    """Is each article one that the row's customer bought? -1 never is; [N, K]."""
    keys = np.unique(bought.customer.astype(np.int64) * bought.n_articles + bought.article)
    wanted = customers_N.astype(np.int64)[:, None] * bought.n_articles + articles_NK
    if not len(keys):
        return np.zeros(articles_NK.shape, dtype=np.bool_)
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.asarray((keys[at] == wanted) & (articles_NK >= 0))


def run_signals(
    signals: Signals, past: Interactions, customers: Int32, segments: npt.NDArray[np.uint8], day: int, max_history: int
) -> tuple[Int32, Float32]:
    """Retrieve candidates (article_index) [B, C] and their features [B, C, F] for one batch of customers."""
    history = histories_of(past, customers, day, max_history)
    with torch.inference_mode():
        candidates_BC, features_BCF = signals(
            torch.from_numpy(history.history_BL),
            torch.from_numpy(history.age_days_BL),
            torch.from_numpy(segments[customers].astype(np.int64)),
        )
        return signals.live_N[candidates_BC].numpy().astype(np.int32), features_BCF.numpy()


def buyers_of(bought: Interactions) -> tuple[Int32, Int64]:
    """Customers with a purchase, and how many different articles each bought."""
    pairs = np.unique(bought.customer.astype(np.int64) * bought.n_articles + bought.article)
    customers, n_bought = np.unique((pairs // bought.n_articles).astype(np.int32), return_counts=True)
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
) -> LabelWeek:
    """Describe the label window that starts on tables.day; only rows before it reach histories and candidates.

    max_customers draws that many buyers (seeded by day), for training at full size; `customers` names them instead.
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
    signals = Signals(tables, hyperparameters.n_candidates)
    described, candidates, features, is_bought = [], [], [], []
    batch = int(max(1, min(256, MAX_BATCH_FLOATS // (13 * (signals.n_live + 1)))))
    for start in range(0, len(buyers), batch):
        part = buyers[start : start + batch]
        articles_BC, features_BCF = run_signals(signals, past, part, segments, day, hyperparameters.max_history)
        is_bought_BC = is_among(articles_BC, part, bought)
        rows = np.arange(len(part)) if keep_all else np.flatnonzero(is_bought_BC.any(axis=1))
        described.append(rows + start)
        candidates.append(articles_BC[rows])
        features.append(features_BCF[rows].astype(np.float16))
        is_bought.append(is_bought_BC[rows])
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
        described_R=np.concatenate([*described, np.empty(0, dtype=np.intp)]),
        candidates_RC=np.concatenate([*candidates, np.empty((0, C), dtype=np.int32)]),
        features_RCF=np.concatenate([*features, np.empty((0, C, F), dtype=np.float16)]),
        is_bought_RC=np.concatenate([*is_bought, np.empty((0, C), dtype=np.bool_)]),
        baseline_hits_NK={
            name: is_among(rule(past, buyers, day, 12), buyers, bought) for name, rule in BASELINES.items()
        },
    )
