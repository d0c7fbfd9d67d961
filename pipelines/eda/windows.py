"""Counts per feature in three windows of four weeks: the last, the one before, and the last a year ago.

They are what drift is measured on, within this data and against an earlier run's.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pipelines.eda.bins import (
    ARTICLE_AGE_WEEKS,
    BASKET_ITEMS,
    DAYS_AGO,
    IntArray,
)
from pipelines.eda.dataset import CHANNELS, Calendar, Dataset, Rows

WINDOW_DAYS = 28
YEAR_DAYS = 364  # 52 weeks, so that weekdays match
WINDOWS = ("recent", "before", "year_ago")
WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
FIRST_VISIT = "first visit"
ARTICLE_FEATURES = ("product_group", "index_group", "garment_group", "colour_group")
CUSTOMER_FEATURES = ("age", "club_member_status", "fashion_news_frequency")


@dataclass(slots=True)
class WindowCounts:
    """Feature → (windows, labels) counts; `window_of_day` is 0 outside of all, else 1 + the window's position."""

    labels: Mapping[str, list[str]]
    window_of_day: IntArray = field(default_factory=lambda: np.zeros(0, np.int64))
    first_weekday: int = 0
    first_day_of_article: IntArray = field(default_factory=lambda: np.zeros(0, np.int64))
    counts: dict[str, IntArray] = field(default_factory=dict)

    @classmethod
    def for_dataset(cls, dataset: Dataset, first_day_of_article: IntArray) -> "WindowCounts":
        labels: dict[str, list[str]] = {
            "price": price_labels(),
            "channel": list(CHANNELS),
            "weekday": list(WEEKDAYS),
            "article_age": list(ARTICLE_AGE_WEEKS.labels),
            "basket_size": list(BASKET_ITEMS.labels),
            "days_since_visit": [FIRST_VISIT, *DAYS_AGO.labels],
        }
        for name in ARTICLE_FEATURES:
            if dataset.article_attributes[name].is_informative:
                labels[name] = dataset.article_attributes[name].labels
        for name in CUSTOMER_FEATURES:
            coded = dataset.customer_attributes[name]
            if np.unique(coded.codes).size > 1:
                labels[name] = coded.labels
        return cls(
            labels=labels,
            window_of_day=window_of_day(dataset.calendar),
            first_weekday=dataset.calendar.first_day.weekday(),
            first_day_of_article=first_day_of_article,
            counts={name: np.zeros((len(WINDOWS), len(values)), np.int64) for name, values in labels.items()},
        )

    def add_rows(self, dataset: Dataset, rows: Rows) -> None:
        """Count purchases, those in a window only."""
        window = self.window_of_day[rows.day]
        inside = window > 0
        window, article, day = window[inside] - 1, rows.article[inside], rows.day[inside]
        self._add("price", window, coarse_price(rows.price[inside]))
        self._add("channel", window, rows.channel[inside] - 1)
        self._add("weekday", window, (day + self.first_weekday) % 7)
        self._add("article_age", window, ARTICLE_AGE_WEEKS.codes((day - self.first_day_of_article[article]) // 7))
        for name in ARTICLE_FEATURES:
            if name in self.counts:
                self._add(name, window, dataset.article_attributes[name].codes[article])
        for name in CUSTOMER_FEATURES:
            if name in self.counts:
                self._add(name, window, dataset.customer_attributes[name].codes[rows.customer[inside]])

    def add_baskets(self, day: IntArray, size_code: IntArray, days_since: IntArray) -> None:
        """Count baskets; days_since is -1 for a customer's first."""
        window = self.window_of_day[day]
        inside = window > 0
        window, days_since = window[inside] - 1, days_since[inside]
        self._add("basket_size", window, size_code[inside])
        self._add("days_since_visit", window, np.where(days_since < 0, 0, 1 + DAYS_AGO.codes(days_since)))

    def _add(self, name: str, window: IntArray, code: IntArray) -> None:
        counts = self.counts[name]
        counts += np.bincount(window * counts.shape[1] + code, minlength=counts.size).reshape(counts.shape)

    def distributions(self) -> dict[str, dict[str, dict[str, int]]]:
        """Give feature → window → label → count, labels never seen left out."""
        found: dict[str, dict[str, dict[str, int]]] = {}
        for name, counts in sorted(self.counts.items()):
            found[name] = {
                window: {label: int(n) for label, n in zip(self.labels[name], counts[position], strict=True) if n}
                for position, window in enumerate(WINDOWS)
                if counts[position].any()
            }
        return found


def window_of_day(calendar: Calendar) -> IntArray:
    """Number each day's window. A window that is not wholly in the data is left out, except the last."""
    windows = np.zeros(calendar.n_days, np.int64)
    for position, days_back in enumerate((0, WINDOW_DAYS, YEAR_DAYS)):
        end = calendar.n_days - days_back
        start = end - WINDOW_DAYS
        if position == 0 or start >= 0:
            windows[max(start, 0) : end] = position + 1
    return windows


# Six bins a decade, at 1, 1.5, 2, 3, 5 and 7: round numbers that are about evenly spaced on a logarithmic scale.
_STEPS = np.array([1.0, 1.5, 2.0, 3.0, 5.0, 7.0])
_PRICE_STARTS = np.concatenate([[0.0], *(_STEPS * 10.0**power for power in range(-5, 9))])


def price_labels() -> list[str]:
    return [
        "free",
        *(f"from {start:.12g}" if start >= 1e-4 else f"from {start:.6f}".rstrip("0") for start in _PRICE_STARTS[1:]),
    ]


def coarse_price(price: NDArray[np.float64]) -> IntArray:
    """Number the drift bin of each price."""
    # Prices come as float32: 0.03 is stored as 0.0299999993 and means 0.03.
    codes = np.searchsorted(_PRICE_STARTS, price * (1 + 1e-6), side="right") - 1
    return np.where(price > 0, np.maximum(codes, 1), 0)
