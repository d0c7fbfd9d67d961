"""The laws of process: the order of rows and the future decide nothing."""

import json
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import duckdb
import pandas as pd
import polars as pl
import pyarrow.parquet as pq
import pytest
from polars.testing import assert_frame_equal

from pipelines.data.processing import Processed, write_processed
from pipelines.data.splits import TimeSplit, split_at
from tests.pipelines.data.raw_tables import FIRST_DAY, ShopTables, random_shop

TABLES = ("articles", "customers", "transactions", "weekly_sales")
CUTOFF = FIRST_DAY + timedelta(days=56)


def process(shop: ShopTables, folder: Path, cutoff_date: date = CUTOFF) -> tuple[Processed, TimeSplit]:
    days = shop.transactions["t_dat"]
    split = split_at(days.min(), days.max(), cutoff_date=cutoff_date, horizon_days=7)  # type: ignore[arg-type]
    output = folder / "processed"
    output.mkdir()
    return write_processed(shop.write(folder / "raw"), split, output), split


def visible_to_training(folder: Path, split: TimeSplit) -> dict[str, pl.DataFrame]:
    """What training may read for a model of that cutoff: everything that is dated before it, and the attributes."""
    tables = {name: pl.read_parquet(folder / f"processed/{name}.parquet") for name in TABLES}
    history = tables["transactions"].filter(pl.col("day") < split.cutoff_day)
    n_known = max(int(history["customer_index"].max()) + 1, tables["customers"].filter("has_row").height)  # type: ignore[arg-type]
    return {
        "articles": tables["articles"],
        "customers": tables["customers"].head(n_known),
        "transactions": history,
        "weekly_sales": tables["weekly_sales"].filter(pl.col("week") < 0),
    }


def absurd_future(shop: ShopTables, day: date) -> ShopTables:
    """A flood from that day on: new and known customers, one article, prices and channels that nobody has seen."""
    article_ids = shop.articles["article_id"]
    return shop.with_purchases(
        *((day, f"{n:064x}", article_ids[0], 1e300, 2) for n in range(500)),
        *(
            (day, customer_id, article_ids[-1], 0.0, 1)
            for customer_id in shop.customers["customer_id"]
            for _ in range(9)
        ),
        (day + timedelta(days=4000), "zzz", "0999999999", 1e-300, 2),
    )


@pytest.fixture
def shop() -> ShopTables:
    """A shop where some buyers have no row, before and after the cutoff."""
    return random_shop(n_days=70, seed=11).with_purchases(
        (FIRST_DAY + timedelta(days=3), "f" * 64, "0100000000", 0.5, 2),
        (CUTOFF + timedelta(days=1), "3" * 64, "0100000000", 0.5, 2),
    )


@pytest.mark.parametrize("seed", [1, 2])
def test_the_order_of_source_rows_does_not_change_a_byte(shop: ShopTables, tmp_path: Path, seed: int) -> None:
    for name, tables in (("sorted", shop), ("shuffled", shop.shuffled(seed))):
        (tmp_path / name).mkdir()
        process(tables, tmp_path / name)
    assert not tables.transactions.equals(shop.transactions)
    for table in TABLES:
        path = f"processed/{table}.parquet"
        assert (tmp_path / "sorted" / path).read_bytes() == (tmp_path / "shuffled" / path).read_bytes(), table


def test_the_future_changes_nothing_that_training_sees(shop: ShopTables, tmp_path: Path) -> None:
    seen = {}
    for name, tables in (("as it was", shop), ("absurd", absurd_future(shop, CUTOFF))):
        (tmp_path / name).mkdir()
        seen[name] = visible_to_training(tmp_path / name, process(tables, tmp_path / name)[1])
    for table in TABLES:
        assert_frame_equal(seen["as it was"][table], seen["absurd"][table], check_exact=True)


def test_the_law_of_time_would_notice_a_change_on_the_day_before(shop: ShopTables, tmp_path: Path) -> None:
    seen = {}
    for name, tables in (("as it was", shop), ("changed", absurd_future(shop, CUTOFF - timedelta(days=1)))):
        (tmp_path / name).mkdir()
        seen[name] = visible_to_training(tmp_path / name, process(tables, tmp_path / name)[1])
    for table in ("customers", "transactions", "weekly_sales"):
        assert not seen["as it was"][table].equals(seen["changed"][table]), table


def test_cutoff_day_itself_is_not_history(shop: ShopTables, tmp_path: Path) -> None:
    processed, split = process(shop, tmp_path)
    days = shop.transactions["t_dat"]
    assert processed.split_facts["n_history_rows"] == (days < CUTOFF).sum()
    assert processed.split_facts["n_label_rows"] == days.is_between(CUTOFF, CUTOFF + timedelta(days=6)).sum()
    sales = pl.read_parquet(tmp_path / "processed/weekly_sales.parquet")
    assert sales.filter(pl.col("week") < 0)["n_sold"].sum() == processed.split_facts["n_history_rows"]
    assert split.cutoff_day == 56


def test_facts_agree_with_the_tables(shop: ShopTables, tmp_path: Path) -> None:
    processed, _ = process(shop, tmp_path)
    facts = processed.split_facts
    frames = {name: pl.read_parquet(tmp_path / f"processed/{name}.parquet") for name in TABLES}
    assert facts["n_articles"] == frames["articles"].height == 30
    assert facts["n_customers"] == frames["customers"].height == 42
    assert facts["n_transactions"] == frames["transactions"].height == shop.transactions.height
    assert (
        facts["n_label_customers"]
        == shop.transactions.filter(pl.col("t_dat").is_between(CUTOFF, CUTOFF + timedelta(days=6)))[
            "customer_id"
        ].n_unique()
    )
    assert processed.purchases.n_unknown_customer_rows == 2
    assert processed.statistics["n_customers_without_row"] == 2
    json.dumps(processed.statistics, allow_nan=False)


def test_ids_survive_the_way_through_indices(shop: ShopTables, tmp_path: Path) -> None:
    process(shop, tmp_path)
    frames = {name: pl.read_parquet(tmp_path / f"processed/{name}.parquet") for name in TABLES}
    restored = (
        frames["transactions"]
        .join(frames["articles"], on="article_index")
        .join(frames["customers"], on="customer_index")
        .select(
            (pl.lit(FIRST_DAY) + pl.duration(days="day")).cast(pl.Date).alias("t_dat"),
            "customer_id",
            "article_id",
            pl.col("price"),
            pl.col("channel").alias("sales_channel_id"),
        )
    )
    expected = shop.transactions.with_columns(pl.col("price").cast(pl.Float32))
    assert_frame_equal(restored, expected, check_row_order=False)


def test_rows_of_unknown_articles_are_left_out_and_counted(shop: ShopTables, tmp_path: Path) -> None:
    lacking = replace(shop, articles=shop.articles.head(20))
    processed, _ = process(lacking, tmp_path)
    n_unknown = shop.transactions.join(lacking.articles, on="article_id", how="anti").height
    assert 0 < n_unknown == processed.purchases.n_unknown_article_rows
    assert processed.split_facts["n_transactions"] == shop.transactions.height - n_unknown
    assert processed.purchases.n_rows_per_day.sum() == shop.transactions.height - n_unknown


def test_duplicate_keys_are_counted(shop: ShopTables, tmp_path: Path) -> None:
    doubled = replace(shop, articles=pl.concat([shop.articles, shop.articles.head(2), shop.articles.head(1)]))
    assert doubled.write(tmp_path).count_duplicates() == (2, 0)


def test_other_readers_open_the_tables(shop: ShopTables, tmp_path: Path) -> None:
    process(shop, tmp_path)
    for table in TABLES:
        path = tmp_path / f"processed/{table}.parquet"
        frame = pl.read_parquet(path)
        assert pq.read_table(path).num_rows == len(pd.read_parquet(path)) == frame.height
        assert duckdb.sql(f"select count(*) from '{path}'").fetchall() == [(frame.height,)]
        assert pq.read_table(path).column_names == frame.columns
