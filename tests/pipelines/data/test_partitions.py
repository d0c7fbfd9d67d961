from datetime import date, timedelta
from pathlib import Path

import duckdb
import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest

import pipelines.data.partitions as partitions_module
from pipelines.data.partitions import WeeklyPartitions, monday_of
from pipelines.data.raw import to_typed

MONDAY = date(2020, 1, 6)


def purchases(n: int, *, n_days: int = 40, seed: int = 1, shuffled: bool = False) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    frame = pl.DataFrame(
        {
            "t_dat": [MONDAY + timedelta(days=int(day)) for day in np.sort(rng.integers(0, n_days, n))],
            "customer_id": [f"customer {number}" for number in rng.integers(0, 50, n)],
            "article_id": [f"0{number:09}" for number in rng.integers(0, 30, n)],
            "price": rng.random(n),
            "sales_channel_id": rng.integers(1, 3, n).astype(np.int8),
        }
    )
    return frame.sample(fraction=1, shuffle=True, seed=seed) if shuffled else frame


def write(frame: pl.DataFrame, folder: Path, *, rows_at_once: int = 10**9) -> WeeklyPartitions:
    with WeeklyPartitions(folder) as written:
        for piece in frame.iter_slices(rows_at_once):
            written.add(to_typed(piece))
    return written


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.parquet")}


def test_weeks_begin_on_monday(tmp_path: Path) -> None:
    write(purchases(500, n_days=9), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["week=2020-01-06", "week=2020-01-13"]
    week = pl.read_parquet(tmp_path / "week=2020-01-06" / "part.parquet")
    assert (week["t_dat"].min(), week["t_dat"].max()) == (MONDAY, date(2020, 1, 12))
    assert monday_of(0) == date(1969, 12, 29)


@pytest.mark.parametrize("shuffled", [False, True])
def test_every_row_is_kept_in_its_order(tmp_path: Path, shuffled: bool) -> None:
    frame = purchases(2000, shuffled=shuffled)
    written = write(frame, tmp_path, rows_at_once=300)
    week = pl.col("t_dat").dt.truncate("1w")
    read = pl.concat([pl.read_parquet(path) for path in sorted(tmp_path.rglob("*.parquet"))])
    assert read.equals(frame.sort(week, maintain_order=True))
    assert (written.n_rows, written.first_day, written.last_day) == (
        2000,
        frame["t_dat"].min(),
        frame["t_dat"].max(),
    )


@pytest.mark.parametrize("shuffled", [False, True])
def test_bytes_do_not_depend_on_how_rows_are_blocked(
    tmp_path: Path, shuffled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partitions_module, "ROW_GROUP_ROWS", 100)
    frame = purchases(2000, shuffled=shuffled)
    for rows_at_once in (7, 333, 2000):
        write(frame, tmp_path / str(rows_at_once), rows_at_once=rows_at_once)
    assert bytes_of(tmp_path / "7") == bytes_of(tmp_path / "333") == bytes_of(tmp_path / "2000")
    groups = pq.ParquetFile(tmp_path / "7" / "week=2020-01-06" / "part.parquet").metadata.num_row_groups
    assert groups > 2


def test_a_source_in_random_order_is_written_before_it_fills_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partitions_module, "MAX_BUFFERED_ROWS", 150)
    frame = purchases(1000, shuffled=True)
    with WeeklyPartitions(tmp_path) as written:
        for piece in frame.iter_slices(50):
            written.add(to_typed(piece))
            assert sum(len(table) for tables in written._buffers.values() for table in tables) <= 150
    read = pl.concat([pl.read_parquet(path) for path in tmp_path.rglob("*.parquet")])
    assert read.sort(pl.all()).equals(frame.sort(pl.all()))


def test_a_week_that_is_over_leaves_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partitions_module, "IDLE_ROWS", 500)
    frame = purchases(3000, n_days=70)
    most = 0
    with WeeklyPartitions(tmp_path) as written:
        for piece in frame.iter_slices(50):
            written.add(to_typed(piece))
            most = max(most, sum(len(table) for tables in written._buffers.values() for table in tables))
    assert most < 1200  # a week has 300 rows, and 500 more may pass before it is known to be over
    assert pl.concat([pl.read_parquet(path) for path in sorted(tmp_path.rglob("*.parquet"))]).equals(frame)


def test_other_readers_find_plain_types(tmp_path: Path) -> None:
    frame = purchases(300)
    write(frame, tmp_path)
    path = str(tmp_path / "week=2020-01-06" / "part.parquet")
    assert dict(pl.read_parquet_schema(path)) == dict(frame.schema)
    assert [str(field.type) for field in pq.read_schema(path)] == ["date32[day]", "string", "string", "double", "int8"]
    with duckdb.connect() as connection:
        types = connection.sql(f"select * from read_parquet('{path}', hive_partitioning=false)").types
    assert [str(kind) for kind in types] == ["DATE", "VARCHAR", "VARCHAR", "DOUBLE", "TINYINT"]
