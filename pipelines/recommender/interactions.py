"""The processed lake as flat arrays: what every model, baseline and metric reads."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

ATTRIBUTES = (
    "product_type",
    "product_group",
    "graphical_appearance",
    "colour_group",
    "perceived_colour_master",
    "department",
    "index_code",
    "index_group",
    "section",
    "garment_group",
)
"""Article attributes that the model compares with a customer's history."""

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Catalogue:
    """What is known of each article, position = `article_index`."""

    article_ids: list[str]
    product_A: Int32
    """Dense product code: colour variants of one product share it."""
    attributes_AV: Int32
    """Dense value of each of ATTRIBUTES, 0 = missing."""
    names: list[str]

    @property
    def n_articles(self) -> int:
        return len(self.article_ids)


@dataclass(frozen=True)
class Interactions:
    """Purchases sorted by (customer, day, article, price): one row per bought piece.

    Days count from the first day in the data. A view returned by `before` or `between` keeps the
    order, so the newest purchase of a customer is always the last of its run.
    """

    customer: Int32
    article: Int32
    day: Int32
    price: Float32
    channel: npt.NDArray[np.int8]
    n_customers: int
    n_articles: int
    _morning: dict[int, Interactions] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.customer)

    @cached_property
    def offsets(self) -> Int64:
        """Start of each customer's run; [n_customers + 1]."""
        counts = np.bincount(self.customer, minlength=self.n_customers)
        return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)

    def _rows(self, keep: Bool) -> Interactions:
        return Interactions(
            self.customer[keep],
            self.article[keep],
            self.day[keep],
            self.price[keep],
            self.channel[keep],
            self.n_customers,
            self.n_articles,
        )

    def before(self, day: int) -> Interactions:
        """Only what was known on the morning of `day`: rows of earlier days.

        The last one asked for is kept, as tables, candidates, rules and slices all ask for the same morning.
        """
        if day not in self._morning:
            self._morning.clear()  # first, so that two do not lie in memory side by side
            self._morning[day] = self._rows(self.day < day)
        return self._morning[day]

    def between(self, first_day: int, end_day: int) -> Interactions:
        """Rows with first_day <= day < end_day."""
        return self._rows((self.day >= first_day) & (self.day < end_day))


def read_interactions(path: Path, n_customers: int, n_articles: int) -> Interactions:
    """Read processed/transactions.parquet."""
    table = pl.read_parquet(path, columns=["customer_index", "article_index", "day", "price", "channel"])
    return Interactions(
        customer=table["customer_index"].to_numpy().astype(np.int32, copy=False),
        article=table["article_index"].to_numpy().astype(np.int32, copy=False),
        day=table["day"].to_numpy().astype(np.int32, copy=False),
        price=table["price"].to_numpy().astype(np.float32, copy=False),
        channel=table["channel"].to_numpy().astype(np.int8, copy=False),
        n_customers=n_customers,
        n_articles=n_articles,
    )


def read_catalogue(path: Path) -> Catalogue:
    """Read processed/articles.parquet."""
    columns = ["article_id", "product_index", "prod_name", *(f"{name}_index" for name in ATTRIBUTES)]
    table = pl.read_parquet(path, columns=columns)
    return Catalogue(
        article_ids=table["article_id"].to_list(),
        product_A=table["product_index"].to_numpy().astype(np.int32, copy=False),
        attributes_AV=np.stack([table[f"{name}_index"].to_numpy() for name in ATTRIBUTES], axis=1).astype(np.int32),
        names=table["prod_name"].fill_null("").to_list(),
    )
