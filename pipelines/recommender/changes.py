"""What a new bundle changes for customers: the same 50, whichever night it is, asked of the champion and of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from inference.bundle import customer_key, load_bundle
from inference.engine import Engine, Request
from pipelines.recommender.shop import Shop

N_CUSTOMERS = 50


def fixed_customers(shop: Shop, n: int = N_CUSTOMERS) -> list[int]:
    """Choose customers with a purchase by the hash of their id: the same every night, while shops grow around them."""
    with_history = np.flatnonzero(np.diff(shop.interactions.offsets) > 0).tolist()
    return sorted(with_history, key=lambda customer: customer_key(shop.customer_ids[customer]))[:n]


def changed_answers(shop: Shop, champion: Path, challenger: Path) -> dict[str, Any]:
    """Ask two verified bundles for the fixed customers; articles with the names that they have today.

    Each answers from its own histories, as it would if it were served today.
    """
    customers = fixed_customers(shop)
    requests = [Request(customer_id=shop.customer_ids[customer]) for customer in customers]
    before, after = (
        Engine(load_bundle(folder), threads=1).recommend_batch(requests) for folder in (champion, challenger)
    )
    index = {article_id: number for number, article_id in enumerate(shop.catalogue.article_ids)}
    n_purchases = np.diff(shop.interactions.offsets)
    shown = [
        {
            "customer": shop.customer_ids[customer][:8] + "…",
            "n_purchases": int(n_purchases[customer]),
            "overlap": len(set(old.article_ids) & set(new.article_ids)),
            "before": [_named(shop, index, article_id) for article_id in old.article_ids],
            "after": [_named(shop, index, article_id) for article_id in new.article_ids],
        }
        for customer, old, new in zip(customers, before, after, strict=True)
    ]
    return {"customers": shown}


def _named(shop: Shop, index: Mapping[str, int], article_id: str) -> dict[str, Any]:
    if article_id not in index:
        return {"article_id": article_id, "name": None, "product_type": None, "colour": None}
    at = index[article_id]
    return {
        "article_id": article_id,
        "name": shop.catalogue.names[at],
        "product_type": shop.product_types[at],
        "colour": shop.colours[at],
    }
