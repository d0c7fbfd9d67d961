"""All statistics of a run: tables, key figures and the distributions that a later run measures drift against."""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from pipelines.eda.assortment import assortment_tables
from pipelines.eda.dataset import ROWS_PER_CHUNK, Dataset
from pipelines.eda.sales import sales_tables
from pipelines.eda.shoppers import known_ages, quantile_of_counts, shopper_tables
from pipelines.eda.tallies import Tallies, tally

SCHEMA_VERSION = 1
SIGNIFICANT_DIGITS = 6  # sums of floats agree to more than this on any machine
Distributions = Mapping[str, Mapping[str, Mapping[str, int]]]


@dataclass(frozen=True, slots=True)
class Statistics:
    """`split` is the processed run's split.json; tables are named as in statistics.json."""

    split: Mapping[str, Any]
    figures: Mapping[str, float | int | str | None]
    tables: Mapping[str, pd.DataFrame]
    distributions: Distributions

    def number(self, name: str) -> float:
        """Give a key figure as a float, nan when there is none."""
        value = self.figures[name]
        return float("nan") if value is None else float(value)

    def to_json(self) -> dict[str, Any]:
        return {
            "schema_version": SCHEMA_VERSION,
            "split": dict(self.split),
            "figures": {name: plain(value) for name, value in self.figures.items()},
            "tables": {name: _table(frame) for name, frame in self.tables.items()},
            "distributions": self.distributions,
        }


def gather(dataset: Dataset, rows_per_chunk: int = ROWS_PER_CHUNK) -> Statistics:
    """Read the purchases and compute everything; the size of the chunks changes nothing but the memory."""
    t = tally(dataset, rows_per_chunk)
    tables = {**sales_tables(dataset, t), **assortment_tables(dataset, t), **shopper_tables(dataset, t)}
    return Statistics(dataset.split, _figures(dataset, t), tables, t.windows.distributions())


def _figures(dataset: Dataset, t: Tallies) -> dict[str, float | int | str | None]:
    calendar = dataset.calendar
    rows = int(t.by_article.sum())
    baskets = int(t.basket_sizes.sum())
    buyers = t.rows_of_customer > 0
    sold = np.sort(t.by_article[t.by_article > 0])[::-1]
    history = t.last_history_day_of_customer >= 0
    days_ago = calendar.cutoff_day - t.last_history_day_of_customer[history]
    recent_start = max(0, calendar.n_days - 28)
    label_rows = t.label["rows"]
    never_before = t.last_day_before_cutoff < 0
    new_in_label = (t.first_day_of_customer >= calendar.cutoff_day) & (t.first_day_of_customer < calendar.label_end_day)
    age = dataset.customer_age[~np.isnan(dataset.customer_age)]
    return {
        "first_day": calendar.first_day.isoformat(),
        "last_day": calendar.last_day.isoformat(),
        "cutoff_date": calendar.cutoff_date.isoformat(),
        "n_days": calendar.n_days,
        "n_transactions": rows,
        "n_articles": dataset.n_articles,
        "n_articles_sold": int(sold.size),
        "n_articles_sold_last_28_days": int((t.last_day_of_article >= recent_start).sum()),
        "n_customers": dataset.n_customers,
        "n_buying_customers": int(buyers.sum()),
        "n_customers_without_row": int((~dataset.has_row).sum()),
        "n_baskets": baskets,
        "revenue": float(t.revenue_by_day.sum()),
        "mean_price": _ratio(float(t.revenue_by_day.sum()), rows),
        "items_per_basket": _ratio(rows, baskets),
        "median_basket_items": quantile_of_counts(t.basket_sizes, 0.5),
        "largest_basket_items": t.largest_basket,
        "median_days_between_visits": quantile_of_counts(t.days_between_visits, 0.5),
        "median_days_to_repurchase": quantile_of_counts(t.days_between_repurchases, 0.5),
        "share_repeat": _ratio(int(t.repeats_by_week.sum()), rows),
        "share_product_repeat": _ratio(int(t.product_repeats_by_week.sum()), rows),
        "share_online": _ratio(int(t.by_day_channel[:, 1].sum()), rows),
        "n_channels": int((t.by_day_channel.sum(axis=0) > 0).sum()),
        "share_sales_of_top_1_percent": _ratio(int(sold[: max(1, round(sold.size * 0.01))].sum()), rows),
        "share_sales_of_top_10_percent": _ratio(int(sold[: max(1, round(sold.size * 0.1))].sum()), rows),
        "share_articles_sold_once": _ratio(int((sold == 1).sum()), int(sold.size)),
        "share_customers_lapsed_13_weeks": _ratio(int((days_ago > 91).sum()), int(history.sum())),
        "share_customers_one_purchase_day": _ratio(int((t.baskets_of_customer[buyers] == 1).sum()), int(buyers.sum())),
        "share_sales_of_top_10_percent_customers": _top_share(t.rows_of_customer[buyers], 0.1),
        "share_sales_of_largest_customer": _ratio(int(t.rows_of_customer.max(initial=0)), rows),
        "share_age_known": known_ages(dataset),
        "median_age": float(np.median(age)) if age.size else None,
        "n_label_rows": label_rows,
        "n_label_customers": int(dataset.split["n_label_customers"]),
        "share_label_repeat": _ratio(t.label["repeat_rows"], label_rows),
        "share_label_product_repeat": _ratio(t.label["product_repeat_rows"], label_rows),
        "share_label_new_articles": _ratio(int(t.label_by_article[never_before].sum()), label_rows),
        "share_label_new_customers": _ratio(int(new_in_label.sum()), int(dataset.split["n_label_customers"])),
    }


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def _top_share(counts: np.ndarray[tuple[int], np.dtype[np.int64]], share: float) -> float | None:
    top = np.sort(counts)[::-1]
    return _ratio(int(top[: max(1, round(top.size * share))].sum()), int(top.sum()))


def records(frame: pd.DataFrame) -> Iterable[Any]:
    """Give the rows with columns as attributes; pandas cannot say their types."""
    return frame.itertuples(index=False)


def plain(value: Any) -> Any:
    """Turn a number of numpy or pandas into one of JSON: floats to six digits, nan to null."""
    if value is None or value is pd.NaT:
        return None
    if isinstance(value, pd.Timestamp):
        return value.date().isoformat()
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, int | np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        number = float(value)
        return float(f"{number:.{SIGNIFICANT_DIGITS}g}") if math.isfinite(number) else None
    return str(value)


def _table(frame: pd.DataFrame) -> dict[str, Any]:
    columns = [[plain(value) for value in frame[name]] for name in frame.columns]
    return {"columns": list(frame.columns), "rows": [list(row) for row in zip(*columns, strict=True)]}


def json_bytes(value: Any) -> bytes:
    """Write JSON whose bytes depend on the content alone."""
    return (
        json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False) + "\n"
    ).encode()
