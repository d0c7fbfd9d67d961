from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from pipelines.data.histories import CANONICAL_ORDER, write_transactions, write_weekly_sales
from pipelines.data.splits import TimeSplit

SPLIT = TimeSplit(date(2020, 1, 1), date(2020, 3, 10), date(2020, 2, 5), 7)  # cutoff_day 35
SCHEMA = {
    "customer_index": pl.Int32,
    "article_index": pl.Int32,
    "day": pl.Int32,
    "price": pl.Float32,
    "channel": pl.Int8,
}


def purchases_of(rows: list[tuple[int, int, int, float, int]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def random_purchases(n_rows: int, seed: int) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    return pl.DataFrame(
        {
            "customer_index": rng.integers(0, 50, n_rows),
            "article_index": rng.integers(3, 30, n_rows),
            "day": rng.integers(0, 70, n_rows),
            "price": rng.lognormal(-4, 1, n_rows),
            "channel": rng.integers(1, 3, n_rows),
        },
        schema_overrides=SCHEMA,
    )


def test_histories_are_in_time_order_and_identical_purchases_stay(tmp_path: Path) -> None:
    rows = [(1, 7, 3, 0.5, 2), (0, 9, 5, 0.5, 2), (1, 7, 3, 0.5, 2), (1, 4, 2, 0.5, 1), (1, 7, 3, 0.25, 1)]
    written = write_transactions(purchases_of(rows), tmp_path / "transactions.parquet")
    assert pl.read_parquet(tmp_path / "transactions.parquet").rows() == [
        (0, 5, 9, 0.5, 2),
        (1, 2, 4, 0.5, 1),
        (1, 3, 7, 0.25, 1),
        (1, 3, 7, 0.5, 2),
        (1, 3, 7, 0.5, 2),
    ]
    assert written == (3, 0.6)  # (0, 9) (1, 4) (1, 7); of the last basket all are of article 3


def test_weekly_sales_count_purchases_and_distinct_customers(tmp_path: Path) -> None:
    rows = [
        (0, 4, 34, 0.5, 2),  # the day before the cutoff: week −1
        (0, 4, 28, 0.25, 2),  # the first day of week −1
        (1, 4, 28, 0.75, 2),
        (1, 4, 27, 0.125, 2),  # week −2
        (1, 4, 35, 2.0, 2),  # the cutoff day: week 0
        (1, 2, 0, 1.0, 2),  # 35 days before: week −5
    ]
    write_weekly_sales(purchases_of(rows), tmp_path / "weekly_sales.parquet", SPLIT)
    sales = pl.read_parquet(tmp_path / "weekly_sales.parquet")
    assert sales.rows() == [
        (2, -5, 1, 1, 1.0),
        (4, -2, 1, 1, 0.125),
        (4, -1, 3, 2, 0.5),
        (4, 0, 1, 1, 2.0),
    ]
    assert list(sales.schema.items()) == [
        ("article_index", pl.Int32),
        ("week", pl.Int32),
        ("n_sold", pl.Int32),
        ("n_customers", pl.Int32),
        ("mean_price", pl.Float32),
    ]


@pytest.mark.parametrize("slice_rows", [1, 17, 999, 5000])
def test_slices_change_nothing(tmp_path: Path, slice_rows: int) -> None:
    purchases = random_purchases(1000, seed=1)
    written = write_transactions(purchases, tmp_path / "transactions.parquet", slice_rows=slice_rows)
    write_weekly_sales(purchases, tmp_path / "weekly_sales.parquet", SPLIT, slice_rows=slice_rows)
    assert_frame_equal(
        pl.read_parquet(tmp_path / "transactions.parquet"), purchases.select(CANONICAL_ORDER).sort(CANONICAL_ORDER)
    )
    assert written.n_baskets == purchases.select(pl.struct("customer_index", "day").n_unique()).item()
    n_alike = purchases.select("day", n=pl.len().over("customer_index", "day", "article_index"))
    newest = n_alike.filter(pl.col("day") > purchases["day"].max() - 28)  # type: ignore[operator]
    assert written.repeated_share == max((part["n"] > 1).mean() for part in (n_alike, newest))  # type: ignore[type-var]
    sales = pl.read_parquet(tmp_path / "weekly_sales.parquet")
    expected = (
        purchases.group_by("article_index", week=((pl.col("day") - 35) / 7).floor().cast(pl.Int32))
        .agg(
            n_sold=pl.len().cast(pl.Int32),
            n_customers=pl.col("customer_index").n_unique().cast(pl.Int32),
            mean_price=pl.col("price").mean(),
        )
        .sort("article_index", "week")
    )
    assert_frame_equal(sales, expected, rel_tol=1e-6)


def test_the_order_of_rows_does_not_change_a_byte(tmp_path: Path) -> None:
    purchases = random_purchases(3000, seed=2)
    written = set()
    for seed in range(4):
        folder = tmp_path / str(seed)
        folder.mkdir()
        shuffled = purchases.sample(fraction=1.0, shuffle=True, seed=seed)
        write_transactions(shuffled, folder / "transactions.parquet", slice_rows=700, row_group_rows=100)
        write_weekly_sales(shuffled, folder / "weekly_sales.parquet", SPLIT, slice_rows=700)
        written.add(tuple((folder / f"{name}.parquet").read_bytes() for name in ("transactions", "weekly_sales")))
    assert len(written) == 1


def test_no_purchases_make_empty_tables(tmp_path: Path) -> None:
    assert write_transactions(purchases_of([]), tmp_path / "transactions.parquet") == (0, 0.0)
    write_weekly_sales(purchases_of([]), tmp_path / "weekly_sales.parquet", SPLIT)
    for name in ("transactions", "weekly_sales"):
        assert pl.read_parquet(tmp_path / f"{name}.parquet").height == 0


@pytest.mark.parametrize("again", ["all", "all, twice", "newest days", "all, at other prices"])
def test_purchases_that_are_there_again_are_counted(tmp_path: Path, again: str) -> None:
    purchases = random_purchases(1000, seed=4)
    assert write_transactions(purchases, tmp_path / "once.parquet").repeated_share < 0.1
    copies = {
        "all": [purchases],
        "all, twice": [purchases, purchases],
        "newest days": [purchases.filter(pl.col("day") > 41)],
        "all, at other prices": [purchases.with_columns(pl.col("price") + 1e-9)],
    }
    doubled = pl.concat([purchases, *copies[again]])
    assert write_transactions(doubled, tmp_path / "again.parquet").repeated_share == 1.0


def test_a_few_pairs_of_late_are_no_doubled_export(tmp_path: Path) -> None:
    early = random_purchases(1000, seed=5).filter(pl.col("day") < 42)
    pair = early[:1].with_columns(day=pl.lit(69, dtype=early["day"].dtype))
    assert write_transactions(pl.concat([early, pair, pair]), tmp_path / "pair.parquet").repeated_share < 0.2
