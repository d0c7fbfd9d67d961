"""A few customers' histories beside the answers of the model that ships, with names: for people to judge."""

from __future__ import annotations

from typing import Any

import numpy as np

from pipelines.recommender.export import answer_with_torch
from pipelines.recommender.interactions import Catalogue, Int32
from pipelines.recommender.model import Recommender
from pipelines.recommender.shop import Shop
from pipelines.recommender.training import Evaluated, Trainer

N_EXAMPLES = 8
MAX_VARIANTS = 200
"""H&M's largest product has 75; a larger one is a shop without product codes, whose article ids just begin alike."""


def story(
    shop: Shop, split: dict[str, Any], trainer: Trainer, recommender: Recommender, at_cutoff: Evaluated
) -> dict[str, Any]:
    """Add what people want to see: dates of the weeks, and customers' histories beside the answers, with names."""
    buyers, n_history = at_cutoff.week.customers_N, at_cutoff.week.n_history_N
    spread = np.argsort(n_history, kind="stable")[
        np.linspace(0, len(buyers) - 1, min(N_EXAMPLES, len(buyers))).astype(int)
    ]
    shown = examples(
        trainer, recommender, split["last_day_index"] + 1, buyers[spread], trainer.hyperparameters.max_history
    )

    def named(articles: list[int]) -> list[dict[str, Any]]:
        return [
            {
                "article_id": shop.catalogue.article_ids[article],
                "name": shop.catalogue.names[article],
                "product_type": shop.product_types[article],
                "colour": shop.colours[article],
            }
            for article in articles
        ]

    return {
        "first_day": split["first_day"],
        "cutoff_date": split["cutoff_date"],
        "last_day": split["last_day"],
        "horizon_days": split["horizon_days"],
        "examples": [
            {
                "customer": shop.customer_ids[one["customer"]][:8] + "…",
                "n_purchases": one["n_purchases"],
                "history": named(one["history"]),
                "recommended": named(one["recommended"]),
                "marks": one["marks"],
                "scores": one["scores"],
            }
            for one in shown
        ],
    }


def examples(
    trainer: Trainer, recommender: Recommender, day: int, customers: Int32, max_history: int
) -> list[dict[str, Any]]:
    """Show a few customers' newest purchases, newest first, beside the 12 answers, as article_index."""
    past = trainer.interactions.before(day)
    index_BK, score_BK = answer_with_torch(recommender, past, customers, trainer.segments, day, max_history, 12)
    shown = []
    for customer, row, scores in zip(customers.tolist(), index_BK.tolist(), score_BK.tolist(), strict=True):
        own = past.article[past.offsets[customer] : past.offsets[customer + 1]]
        shown.append(
            {
                "customer": customer,
                "n_purchases": len(own),
                "history": own[-12:][::-1].tolist(),
                "recommended": row,
                "marks": _marks(row, set(own.tolist()), trainer.catalogue),
                "scores": scores,
            }
        )
    return shown


def _marks(articles: list[int], bought: set[int], catalogue: Catalogue) -> list[str | None]:
    """Say of each answer whether the customer bought it before, or another article of its product, ever."""
    n_variants = np.bincount(catalogue.product_A)
    products = {int(catalogue.product_A[article]) for article in bought}
    products = {product for product in products if n_variants[product] <= MAX_VARIANTS}
    return [
        "repurchase" if article in bought else "variant" if int(catalogue.product_A[article]) in products else None
        for article in articles
    ]
