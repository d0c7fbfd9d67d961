"""What the statistics read: the processed tables, opened lazily, and their calendar."""

import datetime as dt
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipelines.eda.bins import AGE_YEARS, UNKNOWN, IntArray

# About 17 MB a chunk: large enough that numpy's call overhead vanishes, small enough to stay in a few caches' reach.
ROWS_PER_CHUNK = 1 << 20
ARTICLE_ATTRIBUTES = ("product_group", "product_type", "index_group", "garment_group", "section", "colour_group")
CUSTOMER_ATTRIBUTES = ("club_member_status", "fashion_news_frequency")
CHANNELS = ("Store", "Online")  # sales_channel_id 1 and 2


@dataclass(frozen=True, slots=True)
class Calendar:
    """Days are counted from first_day; weeks from the cutoff, so that the label week is whole and -1 ends before it."""

    first_day: dt.date
    n_days: int
    cutoff_day: int
    label_end_day: int

    @classmethod
    def from_split(cls, split: Mapping[str, Any]) -> "Calendar":
        return cls(
            first_day=dt.date.fromisoformat(split["first_day"]),
            n_days=int(split["last_day_index"]) + 1,
            cutoff_day=int(split["cutoff_day"]),
            label_end_day=int(split["label_end_day"]),
        )

    def date(self, day: int) -> dt.date:
        return self.first_day + dt.timedelta(days=int(day))

    @property
    def cutoff_date(self) -> dt.date:
        return self.date(self.cutoff_day)

    @property
    def last_day(self) -> dt.date:
        return self.date(self.n_days - 1)

    @property
    def dates(self) -> list[dt.date]:
        return [self.date(day) for day in range(self.n_days)]

    @property
    def first_week(self) -> int:
        return -self.cutoff_day // 7

    @property
    def n_weeks(self) -> int:
        return (self.n_days - 1 - self.cutoff_day) // 7 - self.first_week + 1

    def week_positions(self) -> IntArray:
        """Give for each day the position of its week, 0 for the first (which may be partial)."""
        return (np.arange(self.n_days) - self.cutoff_day) // 7 - self.first_week

    def week_start(self, position: int) -> dt.date:
        return self.date(self.cutoff_day + 7 * (position + self.first_week))

    def month_positions(self) -> tuple[IntArray, list[dt.date]]:
        """Give for each day the position of its month, and the months' first days."""
        months = [date.replace(day=1) for date in self.dates]
        starts = sorted(set(months))
        position = {start: number for number, start in enumerate(starts)}
        return np.array([position[month] for month in months], np.int64), starts


@dataclass(frozen=True, slots=True)
class Coded:
    """A categorical as integers: labels[codes[i]] is the value of row i."""

    codes: IntArray
    labels: list[str]

    @classmethod
    def from_strings(cls, values: pl.Series) -> "Coded":
        filled = values.cast(pl.String).fill_null(UNKNOWN)
        return cls((filled.rank("dense") - 1).to_numpy().astype(np.int64), filled.unique().sort().to_list())

    @property
    def is_informative(self) -> bool:
        """False when the source did not have this attribute at all."""
        return any(label != UNKNOWN for label in self.labels)


@dataclass(frozen=True, slots=True)
class Dataset:
    calendar: Calendar
    split: Mapping[str, Any]
    transactions: Path
    n_articles: int
    n_customers: int
    article_attributes: Mapping[str, Coded]
    product_index: IntArray
    customer_attributes: Mapping[str, Coded]
    customer_age: NDArray[np.float32]  # nan where unknown
    has_row: NDArray[np.bool_]
    articles: Path  # for the names of the few articles that are shown


class Rows(NamedTuple):
    """Purchases of whole customers, sorted by customer, day and article."""

    customer: IntArray
    article: IntArray
    day: IntArray
    price: NDArray[np.float64]
    channel: IntArray


def open_dataset(articles: Path, customers: Path, transactions: Path, split: Mapping[str, Any]) -> Dataset:
    """Open a processed folder's tables; the transactions are not read yet."""
    article_table = pl.read_parquet(articles, columns=["article_index", "product_index", *ARTICLE_ATTRIBUTES])
    article_table = article_table.sort("article_index")
    customer_columns = ["customer_index", "age", "has_row", *CUSTOMER_ATTRIBUTES]
    customer_table = pl.read_parquet(customers, columns=customer_columns).sort("customer_index")
    age = customer_table["age"].cast(pl.Float32).fill_null(float("nan")).to_numpy()
    coded_age = AGE_YEARS.codes(np.where(np.isnan(age), -1, age))
    return Dataset(
        calendar=Calendar.from_split(split),
        split=split,
        transactions=transactions,
        n_articles=article_table.height,
        n_customers=customer_table.height,
        article_attributes={name: Coded.from_strings(article_table[name]) for name in ARTICLE_ATTRIBUTES},
        product_index=article_table["product_index"].to_numpy().astype(np.int64),
        customer_attributes={
            "age": Coded(coded_age, list(AGE_YEARS.labels)),
            **{name: Coded.from_strings(customer_table[name]) for name in CUSTOMER_ATTRIBUTES},
        },
        customer_age=age,
        has_row=customer_table["has_row"].to_numpy(),
        articles=articles,
    )


def whole_customers(transactions: Path, rows_per_chunk: int = ROWS_PER_CHUNK) -> Iterator[Rows]:
    """Read the purchases in chunks that never part a customer; memory does not grow with the file."""
    columns = ["customer_index", "article_index", "day", "price", "channel"]
    carried: Rows | None = None
    with pq.ParquetFile(transactions, memory_map=True) as file:
        for batch in file.iter_batches(batch_size=rows_per_chunk, columns=columns):
            rows = _rows(batch)
            if carried is not None:
                rows = Rows._make(np.concatenate(pair) for pair in zip(carried, rows, strict=True))
            last_start = int(np.searchsorted(rows.customer, rows.customer[-1], side="left"))
            carried = Rows._make(column[last_start:] for column in rows)
            if last_start:
                yield Rows._make(column[:last_start] for column in rows)
    if carried is not None:
        yield carried


def _rows(batch: pa.RecordBatch) -> Rows:
    customer, article, day, price, channel = (column.to_numpy(zero_copy_only=False) for column in batch.columns)
    return Rows(
        customer.astype(np.int64),
        article.astype(np.int64),
        day.astype(np.int64),
        price.astype(np.float64),
        channel.astype(np.int64),
    )
