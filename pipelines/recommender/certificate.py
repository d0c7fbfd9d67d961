"""The part of the certificate that customers feel: answers to the label week's buyers, served and from torch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from inference.bundle import load_bundle
from inference.engine import Engine, Request
from pipelines.errors import ArtefactError
from pipelines.recommender.export import answer_with_torch
from pipelines.recommender.interactions import Int32
from pipelines.recommender.label_week import LabelWeek, is_among, purchase_keys
from pipelines.recommender.metrics import average_precision
from pipelines.recommender.model import Recommender
from pipelines.recommender.shop import Shop

MAX_BUYERS = 4_096
BATCH = 64
MAX_MAP_GAP = 0.02
"""Share of map_at_12 that rounding may cost: a near-tie at the edge of 12 for one customer in hundreds."""


def certify_served(
    folder: Path,
    recommender: Recommender,
    shop: Shop,
    week: LabelWeek,
    horizon_days: int,
    max_history: int,
    seed: int,
) -> dict[str, Any]:
    """Ask a sealed bundle of the evaluated model for the label week's buyers, as a shop would, and torch beside it.

    At most MAX_BUYERS are drawn. Returns map_at_12 of both over the same customers; raises ArtefactError when what is
    served is worse than rounding explains.
    """
    buyers, n_bought = week.customers_N, week.n_bought_N
    if len(buyers) > MAX_BUYERS:
        drawn = np.sort(np.random.default_rng([seed, week.day]).choice(len(buyers), MAX_BUYERS, replace=False))
        buyers, n_bought = buyers[drawn], n_bought[drawn]
    interactions = shop.interactions
    past = interactions.before(week.day)
    bought_keys = purchase_keys(interactions.between(week.day, week.day + horizon_days))
    engine = Engine(load_bundle(folder), threads=1)
    ids = np.array(shop.catalogue.article_ids)
    served_hits, torch_hits = [], []
    for part in _batches(buyers):
        index_BK, _ = answer_with_torch(recommender, past, part, shop.segments, week.day, max_history, 12)
        torch_hits.append(is_among(index_BK, part, bought_keys, interactions.n_articles))
        answers = engine.recommend_batch(
            [Request(customer_id=shop.customer_ids[customer], top_k=index_BK.shape[1]) for customer in part.tolist()]
        )
        served_BK = np.searchsorted(ids, np.array([answer.article_ids for answer in answers]))
        served_hits.append(is_among(served_BK, part, bought_keys, interactions.n_articles))
    served = float(average_precision(np.concatenate(served_hits), n_bought).mean())
    expected = float(average_precision(np.concatenate(torch_hits), n_bought).mean())
    if abs(served - expected) > MAX_MAP_GAP * max(served, expected):
        raise ArtefactError(
            f"map_at_12 of the answers that the serving engine gives to {len(buyers):,} buyers of the label week is "
            f"{served:.4f}, torch's is {expected:.4f}; the bundle is not registered"
        )
    return {
        "map_at_12_served": round(served, 6),
        "map_at_12_torch": round(expected, 6),
        "n_label_customers": len(buyers),
    }


def _batches(buyers: Int32) -> Iterator[Int32]:
    for start in range(0, len(buyers), BATCH):
        yield buyers[start : start + BATCH]
