"""Raw tables as ingest leaves them, small and random but with a seed, and written as it writes them."""

from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from pipelines.data.processing import RawTables
from pipelines.lake import Lake
from pipelines.steps.step import StepManifest, run_step

FIRST_DAY = date(2020, 1, 1)
TRANSACTION_SCHEMA = {
    "t_dat": pl.Date,
    "customer_id": pl.String,
    "article_id": pl.String,
    "price": pl.Float64,
    "sales_channel_id": pl.Int8,
}


def purchases_of(rows: list[tuple[date, str, str, float, int]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=TRANSACTION_SCHEMA, orient="row")


@dataclass(frozen=True)
class ShopTables:
    """The three raw tables of a shop."""

    articles: pl.DataFrame
    customers: pl.DataFrame
    transactions: pl.DataFrame

    def with_purchases(self, *rows: tuple[date, str, str, float, int]) -> "ShopTables":
        return replace(self, transactions=pl.concat([self.transactions, purchases_of(list(rows))]))

    def shuffled(self, seed: int) -> "ShopTables":
        return ShopTables(
            *(
                table.sample(fraction=1.0, shuffle=True, seed=seed)
                for table in (self.articles, self.customers, self.transactions)
            )
        )

    def write(self, folder: Path) -> RawTables:
        """Write the raw layout: transactions by the Monday of their week."""
        folder.mkdir(parents=True, exist_ok=True)
        self.articles.write_parquet(folder / "articles.parquet")
        self.customers.write_parquet(folder / "customers.parquet")
        parts = []
        by_week = self.transactions.with_columns(week=pl.col("t_dat").dt.truncate("1w")).partition_by(
            "week", as_dict=True, include_key=False
        )
        for (week,), rows in by_week.items():
            parts.append(folder / f"transactions/week={week}/part.parquet")
            parts[-1].parent.mkdir(parents=True)
            rows.write_parquet(parts[-1])
        return RawTables(folder / "articles.parquet", folder / "customers.parquet", sorted(parts))

    def publish(self, lake: Lake, run_id: str, source: str = "./shop") -> StepManifest:
        """Leave in the lake what ingest would."""

        def work(folder: Path) -> dict[str, Any]:
            self.write(folder)
            days = self.transactions["t_dat"]
            return {
                "n_transactions": self.transactions.height,
                "first_day": str(days.min()) if len(days) else None,
                "last_day": str(days.max()) if len(days) else None,
                "source": {"uri": source},
            }

        content = str([table.hash_rows().sum() for table in (self.articles, self.customers, self.transactions)])
        return run_step(
            lake, step="ingest", run_id=run_id, parameters={}, inputs={"content": content}, code=[], work=work
        )


def random_shop(
    *, n_days: int = 70, n_customers: int = 40, n_articles: int = 30, rows_per_day: float = 6.0, seed: int = 7
) -> ShopTables:
    """Draw purchases evenly over days, customers and articles; some articles and customers lack attributes."""
    rng = np.random.default_rng(seed)
    article_ids = [f"01{n:06d}{n % 3:02d}" for n in range(n_articles)]
    customer_ids = [f"{int(key):016x}" * 4 for key in rng.integers(0, 2**63, n_customers)]
    n_rows = int(n_days * rows_per_day)
    days = np.concatenate([[0, n_days - 1], rng.integers(0, n_days, n_rows - 2)])
    numbers = rng.integers(1, 5, n_articles)
    return ShopTables(
        articles=pl.DataFrame(
            {
                "article_id": article_ids,
                "product_code": [article_id[:7] for article_id in article_ids],
                "prod_name": [f"Article {n}" for n in range(n_articles)],
                "product_type_no": pl.Series([int(n) if n > 1 else None for n in numbers], dtype=pl.Int32),
                "product_type_name": [f"Type {n}" if n > 1 else None for n in numbers],
            }
        ),
        customers=pl.DataFrame(
            {"customer_id": customer_ids, "age": pl.Series(rng.integers(16, 90, n_customers), dtype=pl.Float32)}
        ),
        transactions=purchases_of(
            [
                (
                    FIRST_DAY + timedelta(days=int(day)),
                    customer_ids[rng.integers(n_customers)],
                    article_ids[rng.integers(n_articles)],
                    float(rng.integers(1, 60)) / 59,
                    int(rng.integers(1, 3)),
                )
                for day in days
            ]
        ),
    )
