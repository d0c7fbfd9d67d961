"""From raw tables to what training reads: indexed, in canonical order, split in time, and counted for the gates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from pipelines.data.histories import write_transactions, write_weekly_sales
from pipelines.data.indexing import (
    find_customers_without_row,
    index_articles,
    index_customers,
    index_transactions,
)
from pipelines.data.quality import Purchases
from pipelines.data.splits import TimeSplit


@dataclass(frozen=True, slots=True)
class RawTables:
    """Where the raw files of a run can be read."""

    articles: Path
    customers: Path
    transactions: Sequence[Path]

    def count_duplicates(self) -> tuple[int, int]:
        """Count the article_ids and customer_ids that occur more than once."""
        return _count_duplicates(self.articles, "article_id"), _count_duplicates(self.customers, "customer_id")


@dataclass(frozen=True, slots=True)
class Processed:
    """What was written, in numbers: for split.json, for the gates and for the report."""

    split_facts: dict[str, str | int]
    purchases: Purchases
    statistics: dict[str, Any]


def write_processed(raw: RawTables, split: TimeSplit, folder: Path) -> Processed:
    """Write the four tables; ids in `raw` must be unique.

    Nothing that is written about days before `split.cutoff_date` depends on transactions from that day on.
    """
    articles = index_articles(pl.read_parquet(raw.articles))
    articles.write_parquet(folder / "articles.parquet", compression="zstd")
    purchases, customers = _index(raw, split, articles)
    customers.write_parquet(folder / "customers.parquet", compression="zstd")

    article_index = purchases["article_index"]
    n_unknown_article_rows = article_index.null_count()
    purchases = purchases.drop_nulls("article_index") if n_unknown_article_rows else purchases
    written = write_transactions(purchases, folder / "transactions.parquet")
    write_weekly_sales(purchases, folder / "weekly_sales.parquet", split)

    labels = purchases.filter(pl.col("day").is_between(split.cutoff_day, split.label_end_day, closed="left"))
    counted = Purchases(
        split=split,
        n_rows_per_day=np.bincount(purchases["day"].to_numpy(), minlength=split.last_day_index + 1).astype(np.int64),
        n_unknown_article_rows=n_unknown_article_rows,
        n_unknown_customer_rows=_count_rows_of(purchases, customers.filter(~pl.col("has_row"))),
        n_baskets=written.n_baskets,
        repeated_share=written.repeated_share,
        n_label_customers=labels["customer_index"].n_unique(),
    )
    split_facts = split.as_facts() | {
        "n_articles": articles.height,
        "n_customers": customers.height,
        "n_transactions": purchases.height,
        "n_history_rows": int(counted.n_rows_per_day[: split.cutoff_day].sum()),
        "n_label_rows": labels.height,
        "n_label_customers": counted.n_label_customers,
    }
    return Processed(split_facts, counted, _describe(articles, customers, purchases, counted))


def _index(raw: RawTables, split: TimeSplit, articles: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Index the transactions against the customers table; only when it lacks some buyers, read them a second time."""
    transactions = pl.scan_parquet([str(path) for path in raw.transactions])
    table = pl.read_parquet(raw.customers)
    without_row = pl.DataFrame(schema={"customer_id": pl.String, "first_bought": pl.Date})
    customers = index_customers(table, without_row, split)
    purchases = index_transactions(transactions, articles, customers, split)
    if purchases["customer_index"].null_count():
        del purchases
        customers = index_customers(table, find_customers_without_row(transactions, table), split)
        purchases = index_transactions(transactions, articles, customers, split)
    return purchases, customers


def _count_rows_of(purchases: pl.DataFrame, customers: pl.DataFrame) -> int:
    if customers.is_empty():
        return 0
    return purchases.select(pl.col("customer_index").is_in(customers["customer_index"].implode()).sum()).item()  # type: ignore[no-any-return]


def _count_duplicates(table: Path, key: str) -> int:
    repeated = pl.scan_parquet(table).group_by(key).len().filter(pl.col("len") > 1)
    return repeated.select(pl.len()).collect(engine="streaming").item()  # type: ignore[no-any-return]


def _describe(
    articles: pl.DataFrame, customers: pl.DataFrame, purchases: pl.DataFrame, counted: Purchases
) -> dict[str, Any]:
    """Put figures beside the gates that explain them; all are counts, shares or exact values."""
    per_day = counted.n_rows_per_day
    texts = [name for name, dtype in articles.schema.items() if dtype == pl.String and name != "article_id"]
    return {
        "n_days": len(per_day),
        "n_days_without_sales": int((per_day == 0).sum()),
        "rows_per_day": {"min": int(per_day.min()), "median": float(np.median(per_day)), "max": int(per_day.max())},
        "n_baskets": counted.n_baskets,
        "repeated_share": round(counted.repeated_share, 6),
        "rows_per_basket": round(purchases.height / max(counted.n_baskets, 1), 6),
        "n_articles_sold": purchases["article_index"].n_unique(),
        "n_customers_who_bought": purchases["customer_index"].n_unique(),
        "n_customers_without_row": int((~customers["has_row"]).sum()),
        "n_unknown_article_rows": counted.n_unknown_article_rows,
        "n_unknown_customer_rows": counted.n_unknown_customer_rows,
        "price": {"min": purchases["price"].min(), "max": purchases["price"].max()},
        "missing_article_attributes": {name: _missing(articles[name]) for name in texts},
        "missing_customer_attributes": {
            name: _missing(customers[name])
            for name in ("age", "club_member_status", "fashion_news_frequency", "postal_code")
        },
    }


def _missing(column: pl.Series) -> float:
    return round(column.null_count() / max(len(column), 1), 6)
