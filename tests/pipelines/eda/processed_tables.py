"""Processed folders small enough to check by eye, and larger ones made by the real process step's code."""

import json
from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from pipelines.data.processing import write_processed
from pipelines.data.splits import split_at
from pipelines.eda.dataset import ARTICLE_ATTRIBUTES, Dataset, open_dataset
from tests.pipelines.data.raw_tables import ShopTables

TABLES = ("articles.parquet", "customers.parquet", "transactions.parquet")
FIRST_DAY = date(2020, 6, 1)  # a Monday


def write_rows(
    folder: Path,
    rows: Sequence[tuple[int, int, int, float, int]],
    *,
    n_articles: int,
    ages: Sequence[float | None],
    n_days: int,
    horizon_days: int = 7,
    products: Sequence[int] | None = None,
    attributes: bool = True,
) -> dict[str, Any]:
    """Write (customer, day, article, price, channel) rows as process leaves them, and give split.json's content."""
    cutoff_day = n_days - horizon_days
    pl.DataFrame(
        {
            "article_index": pl.Series(range(n_articles), dtype=pl.Int32),
            "article_id": [f"{100 + n:010d}" for n in range(n_articles)],
            "product_index": pl.Series(products or range(n_articles), dtype=pl.Int32),
            "prod_name": pl.Series([f"Shirt {n}" if attributes else None for n in range(n_articles)], dtype=pl.String),
            **{
                name: pl.Series([f"{name} {n % 3}" if attributes else None for n in range(n_articles)], dtype=pl.String)
                for name in ARTICLE_ATTRIBUTES
            },
        }
    ).write_parquet(folder / "articles.parquet")
    n_customers = len(ages)
    pl.DataFrame(
        {
            "customer_index": pl.Series(range(n_customers), dtype=pl.Int32),
            "customer_id": [f"{n:064x}" for n in range(n_customers)],
            "age": pl.Series(ages, dtype=pl.Float32),
            "club_member_status": pl.Series([None] * n_customers, dtype=pl.String),
            "fashion_news_frequency": pl.Series([None] * n_customers, dtype=pl.String),
            "has_row": [True] * n_customers,
        }
    ).write_parquet(folder / "customers.parquet")
    schema = {
        "customer_index": pl.Int32,
        "day": pl.Int32,
        "article_index": pl.Int32,
        "price": pl.Float32,
        "channel": pl.Int8,
    }
    frame = pl.DataFrame(sorted(rows), schema=schema, orient="row")
    frame.write_parquet(folder / "transactions.parquet")
    label = frame.filter(pl.col("day") >= cutoff_day)
    return {
        "first_day": FIRST_DAY.isoformat(),
        "last_day": (FIRST_DAY + timedelta(days=n_days - 1)).isoformat(),
        "cutoff_date": (FIRST_DAY + timedelta(days=cutoff_day)).isoformat(),
        "horizon_days": horizon_days,
        "cutoff_day": cutoff_day,
        "label_end_day": n_days,
        "last_day_index": n_days - 1,
        "n_articles": n_articles,
        "n_customers": n_customers,
        "n_transactions": frame.height,
        "n_history_rows": frame.height - label.height,
        "n_label_rows": label.height,
        "n_label_customers": label["customer_index"].n_unique(),
    }


def dataset_of(folder: Path, split: dict[str, Any]) -> Dataset:
    articles, customers, transactions = (folder / name for name in TABLES)
    return open_dataset(articles, customers, transactions, split)


def process_shop(shop: ShopTables, folder: Path, horizon_days: int = 7) -> dict[str, Any]:
    """Write a shop's processed tables with the real code, and give split.json's content."""
    days = shop.transactions["t_dat"]
    first, last = days.min(), days.max()
    assert isinstance(first, date)
    assert isinstance(last, date)
    split = split_at(first, last, cutoff_date=None, horizon_days=horizon_days)
    raw = shop.write(folder / "raw")
    facts: dict[str, Any] = json.loads(json.dumps(write_processed(raw, split, folder).split_facts))
    return facts
