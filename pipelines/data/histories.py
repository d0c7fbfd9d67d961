"""Purchases in canonical order (by customer, then time), and what was sold of each article in each week.

Both are made slice by slice, of customers and of articles: slices are disjoint, so that results need no merging,
memory stays flat, and slices could be worked on by several processes.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.data.splits import TimeSplit

CANONICAL_ORDER = ("customer_index", "day", "article_index", "price", "channel")
RECENT_DAYS, MIN_RECENT_ROWS = 28, 200
# Sorting this many rows takes about 200 MB; each slice reads all rows once, so smaller slices cost time.
SLICE_ROWS = 4_000_000
# A reader takes a row group whole: a million rows (17 MB) is small for one reader and few enough for the footer.
ROW_GROUP_ROWS = 1_000_000
# Prices are summed as integers of this fraction: integer sums do not depend on the order of rows, float sums do.
PRICE_UNITS = 2.0**32


class Written(NamedTuple):
    """What was counted while the purchases were in order."""

    n_baskets: int
    """Customer and day."""
    repeated_share: float
    """Of the purchases, those whose customer bought the article more than once that day: nearly all of them in an
    export that is there twice. The newest RECENT_DAYS are looked at alone, too, when they hold MIN_RECENT_ROWS; the
    larger share counts."""


def write_transactions(
    purchases: pl.DataFrame, path: Path, *, slice_rows: int = SLICE_ROWS, row_group_rows: int = ROW_GROUP_ROWS
) -> Written:
    """Write indexed purchases, given in any order, in canonical order."""
    n_baskets = 0
    n_rows, n_repeated = np.zeros(2, dtype=np.int64), np.zeros(2, dtype=np.int64)  # of all days, of the newest
    recent_day = int(purchases["day"].max() or 0) - RECENT_DAYS  # type: ignore[arg-type]
    with pq.ParquetWriter(path, _arrow_schema(purchases), compression="zstd") as writer:
        for part in _slices(purchases, "customer_index", slice_rows):
            histories = part.select(CANONICAL_ORDER).sort(CANONICAL_ORDER)
            n_baskets += histories.select(pl.struct("customer_index", "day").rle_id().max() + 1).item()
            run = histories.select(pl.struct(CANONICAL_ORDER[:3]).rle_id()).to_series().to_numpy()
            is_repeated = np.bincount(run)[run] > 1
            is_recent = histories["day"].to_numpy() > recent_day
            n_rows += (len(run), int(is_recent.sum()))
            n_repeated += (int(is_repeated.sum()), int((is_repeated & is_recent).sum()))
            writer.write_table(histories.to_arrow(), row_group_size=row_group_rows)
    share, recent_share = (n_repeated / np.maximum(n_rows, 1)).tolist()
    return Written(n_baskets, max(share, recent_share) if n_rows[1] >= MIN_RECENT_ROWS else share)


def write_weekly_sales(purchases: pl.DataFrame, path: Path, split: TimeSplit, *, slice_rows: int = SLICE_ROWS) -> None:
    """Write article_index, week, n_sold, n_customers, mean_price, sorted; weeks as `TimeSplit.week_of` numbers them."""
    empty = _count_sales(purchases.head(0), split)
    with pq.ParquetWriter(path, empty.to_arrow().schema, compression="zstd") as writer:
        for part in _slices(purchases, "article_index", slice_rows):
            writer.write_table(_count_sales(part, split).to_arrow(), row_group_size=ROW_GROUP_ROWS)


def _count_sales(purchases: pl.DataFrame, split: TimeSplit) -> pl.DataFrame:
    return (
        purchases.lazy()
        .select(
            "article_index",
            "customer_index",
            week=(pl.col("day") - split.cutoff_day).floordiv(7),
            price_units=(pl.col("price").cast(pl.Float64) * PRICE_UNITS).round().cast(pl.Int64),
        )
        .group_by("article_index", "week", "customer_index")
        .agg(n_sold=pl.len(), price_units=pl.col("price_units").cast(pl.Int128).sum())
        .group_by("article_index", "week")
        .agg(
            pl.col("n_sold").sum().cast(pl.Int32),
            n_customers=pl.len().cast(pl.Int32),
            price_units=pl.sum("price_units"),
        )
        .with_columns(
            mean_price=(pl.col("price_units").cast(pl.Float64) / pl.col("n_sold") / PRICE_UNITS).cast(pl.Float32)
        )
        .drop("price_units")
        .sort("article_index", "week")
        .collect(engine="streaming")
    )


def _slices(purchases: pl.DataFrame, by: str, slice_rows: int) -> Iterator[pl.DataFrame]:
    """Cut into ranges of a non-negative index, of about `slice_rows` rows each, none of them empty."""
    n_rows = np.zeros(0, dtype=np.int64)
    for piece in purchases[by].to_frame().iter_slices(slice_rows):
        counts = np.bincount(piece[by].to_numpy(), minlength=len(n_rows))
        counts[: len(n_rows)] += n_rows
        n_rows = counts
    n_rows_until = np.cumsum(n_rows)
    targets = np.arange(slice_rows, purchases.height + slice_rows, slice_rows)
    ends = np.unique(np.searchsorted(n_rows_until, np.minimum(targets, purchases.height)) + 1)
    for start, end in pairwise([0, *ends.tolist()]):
        yield purchases.filter(pl.col(by).is_between(start, end, closed="left"))


def _arrow_schema(purchases: pl.DataFrame) -> pa.Schema:
    return purchases.head(0).select(CANONICAL_ORDER).to_arrow().schema
