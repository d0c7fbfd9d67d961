"""Write transactions as one Parquet file for each week, in bounded memory, whatever order they come in."""

import itertools
from collections import Counter, defaultdict
from datetime import date, timedelta
from pathlib import Path
from types import TracebackType

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipelines.data.schema import TRANSACTION_SCHEMA

ROW_GROUP_ROWS = 262_144
MAX_BUFFERED_ROWS = 3_000_000  # about 150 MB; only a source in random order comes near it
IDLE_ROWS = 1_000_000  # a week that so many rows have passed by is over, in a source that is in order of time
EPOCH = date(1970, 1, 1)
THURSDAY = 3  # 1970-01-01 was one: Monday-based weeks begin three days before


def monday_of(week_number: int) -> date:
    """Give the first day of a week, counted from the one that holds 1970-01-01."""
    return EPOCH + timedelta(days=7 * week_number - THURSDAY)


class WeeklyPartitions:
    """Keep rows in the order in which they come; the files depend on nothing else, not on how rows were blocked."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writers: dict[int, pq.ParquetWriter] = {}
        self._buffers: dict[int, list[pa.Table]] = defaultdict(list)
        self._buffered: Counter[int] = Counter()
        self._touched: dict[int, int] = {}  # week → rows that had come when it last got some
        self.n_rows = 0
        self.first_day: date | None = None
        self.last_day: date | None = None

    def add(self, table: pa.Table) -> None:
        """Take rows of TRANSACTION_SCHEMA."""
        if len(table) == 0:
            return
        days = table["t_dat"].cast(pa.int32()).to_numpy()
        weeks = (days + THURSDAY) // 7
        self.n_rows += len(table)
        first, last = (EPOCH + timedelta(days=int(day)) for day in (days.min(), days.max()))
        self.first_day = min(self.first_day or first, first)
        self.last_day = max(self.last_day or last, last)
        for week, rows in _split(weeks, table):
            self._buffers[week].append(rows)
            self._buffered[week] += len(rows)
            self._touched[week] = self.n_rows
            if self._buffered[week] >= ROW_GROUP_ROWS:
                self._write(week, keep_rest=True)
        for week in [week for week in self._buffered if self.n_rows - self._touched[week] > IDLE_ROWS]:
            self._write(week, keep_rest=False)
        if self._buffered.total() > MAX_BUFFERED_ROWS:
            for week, _ in self._buffered.most_common(max(1, len(self._buffered) // 2)):
                self._write(week, keep_rest=False)

    def _write(self, week: int, *, keep_rest: bool) -> None:
        table = pa.concat_tables(self._buffers.pop(week, [])).unify_dictionaries()
        n_rows = len(table) - len(table) % ROW_GROUP_ROWS if keep_rest else len(table)
        writer = self._writers.get(week) or self._open(week)
        for start in range(0, n_rows, ROW_GROUP_ROWS):
            group = table.slice(start, min(ROW_GROUP_ROWS, n_rows - start))
            writer.write_table(compact(group), row_group_size=ROW_GROUP_ROWS)
        self._buffered.pop(week)
        if n_rows < len(table):
            self._buffers[week].append(compact(table.slice(n_rows)))  # a copy: a slice would keep the whole alive
            self._buffered[week] = len(table) - n_rows

    def _open(self, week: int) -> pq.ParquetWriter:
        folder = self._folder / f"week={monday_of(week)}"
        folder.mkdir(parents=True)
        self._writers[week] = pq.ParquetWriter(
            folder / "part.parquet",
            TRANSACTION_SCHEMA,
            compression="zstd",
            compression_level=1,
            # A week of a full-size shop names 80,000 customers: past this limit ids would be written out row by row.
            dictionary_pagesize_limit=64 * 2**20,
            # Least and greatest ids of unsorted rows tell nothing, and finding them takes as long as compressing.
            write_statistics=["t_dat", "price", "sales_channel_id"],
            store_schema=False,  # readers see plain strings
        )
        return self._writers[week]

    def __enter__(self) -> "WeeklyPartitions":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            for week in sorted(self._buffers):
                self._write(week, keep_rest=False)
        for writer in self._writers.values():
            writer.close()


def _split(weeks: NDArray[np.int32], table: pa.Table) -> list[tuple[int, pa.Table]]:
    """Give each week's rows in their order."""
    bounds = np.flatnonzero(np.diff(weeks)) + 1
    if len(bounds) <= 8:  # in order of time, or nearly: slices cost nothing
        edges = [0, *bounds.tolist(), len(weeks)]
        return [(int(weeks[start]), table.slice(start, end - start)) for start, end in itertools.pairwise(edges)]
    order = np.argsort(weeks, kind="stable")
    values, starts = np.unique(weeks[order], return_index=True)
    edges = [*starts.tolist(), len(weeks)]
    return [
        (int(week), compact(table.take(pa.array(order[start:end]))))
        for week, start, end in zip(values, edges, edges[1:], strict=False)
    ]


def compact(table: pa.Table) -> pa.Table:
    """Give dictionaries that hold the values in use, in order of first use: equal rows then give equal bytes."""
    table = table.unify_dictionaries().combine_chunks()
    columns = {}
    for name in table.column_names:
        column = table[name]
        if pa.types.is_dictionary(column.type) and len(column):
            columns[name] = _compact_dictionary(column.chunk(0))
        else:
            columns[name] = column
    return pa.table(columns, schema=table.schema)


def _compact_dictionary(array: pa.DictionaryArray) -> pa.DictionaryArray:
    index = array.indices.to_numpy()
    first_use = np.full(len(array.dictionary), len(index), dtype=np.int32)
    # Written backwards, the last write of a position is its first use.
    first_use[index[::-1]] = np.arange(len(index) - 1, -1, -1, dtype=np.int32)
    order = np.argsort(first_use, kind="stable")[: int((first_use < len(index)).sum())]
    place = np.empty(len(first_use), dtype=np.int32)
    place[order] = np.arange(len(order), dtype=np.int32)
    return pa.DictionaryArray.from_arrays(pa.array(place[index]), array.dictionary.take(pa.array(order)))
