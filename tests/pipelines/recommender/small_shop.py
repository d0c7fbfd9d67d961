"""Small shops as training reads them, from a list of purchases that fits the eye."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import date

import numpy as np
import torch

from pipelines.recommender.hyperparameters import Hyperparameters
from pipelines.recommender.interactions import ATTRIBUTES, Catalogue, Interactions
from pipelines.recommender.shop import Shop

torch.set_num_threads(1)

KNOBS = Hyperparameters(threads=1, max_epochs=3, training_weeks=6, max_history=64, n_candidates=256)
FIRST_DAY = date(2020, 1, 1)
UNKNOWN_AGE = 6

Purchase = tuple[int, int, int] | tuple[int, int, int, float]
"""Customer, day, article and perhaps the price (1.0)."""


def interactions_of(purchases: Iterable[Purchase], *, n_customers: int, n_articles: int) -> Interactions:
    """Sort purchases as process does, by customer, day, article and price."""
    rows = sorted((*purchase, 1.0)[:4] for purchase in purchases)
    customer, day, article, price = zip(*rows, strict=True) if rows else ((), (), (), ())
    return Interactions(
        customer=np.array(customer, dtype=np.int32),
        article=np.array(article, dtype=np.int32),
        day=np.array(day, dtype=np.int32),
        price=np.array(price, dtype=np.float32),
        channel=np.ones(len(rows), dtype=np.int8),
        n_customers=n_customers,
        n_articles=n_articles,
    )


def catalogue_of(
    n_articles: int, *, products: Sequence[int] | None = None, attributes: Sequence[int] | None = None
) -> Catalogue:
    """Number the articles; every article is a product of its own and lacks attributes, unless given."""
    values = np.zeros(n_articles, np.int32) if attributes is None else np.array(attributes, np.int32)
    return Catalogue(
        article_ids=[f"{100_000_000 + index:010d}" for index in range(n_articles)],
        product_A=np.array(range(n_articles) if products is None else products, dtype=np.int32),
        attributes_AV=np.repeat(values[:, None], len(ATTRIBUTES), axis=1),
        names=[""] * n_articles,
    )


def shop_of(
    purchases: Iterable[Purchase],
    *,
    n_customers: int,
    n_articles: int,
    catalogue: Catalogue | None = None,
    segments: Sequence[int] | None = None,
) -> Shop:
    return Shop(
        interactions=interactions_of(purchases, n_customers=n_customers, n_articles=n_articles),
        catalogue=catalogue or catalogue_of(n_articles),
        customer_ids=[f"{number:064x}" for number in range(n_customers)],
        segments=np.array([UNKNOWN_AGE] * n_customers if segments is None else segments, dtype=np.uint8),
        first_day=FIRST_DAY,
        product_types=[None] * n_articles,
        colours=[None] * n_articles,
        index_groups=[None] * n_articles,
        garment_groups=[None] * n_articles,
        product_groups=[None] * n_articles,
    )


def random_purchases(n: int, *, n_customers: int, n_articles: int, n_days: int = 70, seed: int = 1) -> list[Purchase]:
    """Draw purchases whose articles have a long tail; some customers come back for what they bought."""
    rng = np.random.default_rng(seed)
    rows: list[Purchase] = []
    for day in sorted(rng.integers(0, n_days, n).tolist()):
        customer, article = int(rng.integers(n_customers)), int(n_articles * rng.random() ** 2)
        if rows and rng.random() < 0.3:
            customer, _, article = rows[rng.integers(len(rows))][:3]
        rows.append((customer, day, article, round(float(rng.random()), 3)))
    return rows


def random_shop(n_customers: int = 40, n_articles: int = 300, n: int = 900, seed: int = 1) -> Shop:
    """A shop with attributes, colour variants and ages."""
    catalogue = catalogue_of(
        n_articles, products=[index // 3 for index in range(n_articles)], attributes=[i % 5 for i in range(n_articles)]
    )
    return shop_of(
        random_purchases(n, n_customers=n_customers, n_articles=n_articles, seed=seed),
        n_customers=n_customers,
        n_articles=n_articles,
        catalogue=catalogue,
        segments=[1 + number % UNKNOWN_AGE for number in range(n_customers)],
    )


def with_purchases(past: Interactions, *purchases: Purchase) -> Interactions:
    """Add rows and sort again."""
    rows = [*zip(past.customer, past.day, past.article, past.price, strict=True), *((*p, 1.0)[:4] for p in purchases)]
    return interactions_of(rows, n_customers=past.n_customers, n_articles=past.n_articles)


def absurd_future(past: Interactions, day: int) -> Interactions:
    """Everybody buys the least and the most numbered article nine times on that day and later, at absurd prices."""
    last = past.n_articles - 1
    return with_purchases(
        past,
        *((customer, day, last, 1e9) for customer in range(past.n_customers) for _ in range(9)),
        *((customer, day + 1000, 0, 0.0) for customer in range(past.n_customers)),
    )


def without_attributes(shop: Shop) -> Shop:
    return replace(shop, catalogue=catalogue_of(shop.catalogue.n_articles))
