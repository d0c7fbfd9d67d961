"""Customers: ages and channels, recency, baskets, visits and repurchase."""

import numpy as np
import pandas as pd

from pipelines.eda.bins import AGE_YEARS, BASKET_ITEMS, DAYS_AGO, PURCHASES, UNKNOWN
from pipelines.eda.dataset import CHANNELS, CUSTOMER_ATTRIBUTES, Dataset
from pipelines.eda.tallies import Tallies

Tables = dict[str, pd.DataFrame]
NO_HISTORY = "no purchase yet"
REPURCHASE_WEEKS = 26


def shopper_tables(dataset: Dataset, t: Tallies) -> Tables:
    return {
        "ages": _ages(dataset, t),
        "age_channel": _age_by(t.by_age_channel, list(CHANNELS), "channel"),
        "age_index_group": _age_by(
            t.by_age_index_group, dataset.article_attributes["index_group"].labels, "index_group"
        ),
        "memberships": _memberships(dataset, t),
        "recency": _recency(dataset, t),
        "purchases_per_customer": _purchases(t),
        "basket_sizes": _basket_sizes(t),
        "visit_gaps": _visit_gaps(t),
        "repurchase_gaps": _repurchase_gaps(t),
    }


def _ages(dataset: Dataset, t: Tallies) -> pd.DataFrame:
    codes = dataset.customer_attributes["age"].codes
    n_labels = len(AGE_YEARS.labels)
    frame = pd.DataFrame(
        {
            "age": list(AGE_YEARS.labels),
            "n_customers": np.bincount(codes, minlength=n_labels),
            "n_transactions": np.bincount(codes, weights=t.rows_of_customer, minlength=n_labels).astype(np.int64),
            "revenue": np.bincount(codes, weights=t.revenue_of_customer, minlength=n_labels),
        }
    )
    frame["n_transactions_per_customer"] = frame["n_transactions"] / frame["n_customers"].where(
        frame["n_customers"] > 0
    )
    return frame


def _age_by(counts: np.ndarray[tuple[int, ...], np.dtype[np.int64]], labels: list[str], name: str) -> pd.DataFrame:
    wide = pd.DataFrame(counts, index=list(AGE_YEARS.labels), columns=labels)
    long = wide.rename_axis("age").reset_index().melt("age", var_name=name, value_name="n_transactions")
    total = long.groupby("age")["n_transactions"].transform("sum")
    long["share"] = long["n_transactions"] / total.where(total > 0)
    return long


def _memberships(dataset: Dataset, t: Tallies) -> pd.DataFrame:
    frames = []
    for name in CUSTOMER_ATTRIBUTES:
        coded = dataset.customer_attributes[name]
        if not coded.is_informative:
            continue
        frame = pd.DataFrame(
            {
                "attribute": name,
                "value": coded.labels,
                "n_customers": np.bincount(coded.codes),
                "n_transactions": np.bincount(coded.codes, weights=t.rows_of_customer).astype(np.int64),
            }
        )
        frames.append(frame.sort_values("n_customers", ascending=False, kind="stable").head(8))
    columns = ["attribute", "value", "n_customers", "n_transactions"]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=columns)


def _recency(dataset: Dataset, t: Tallies) -> pd.DataFrame:
    """Customers by days from their last purchase to the cutoff."""
    has_history = t.last_history_day_of_customer >= 0
    days = dataset.calendar.cutoff_day - t.last_history_day_of_customer[has_history]
    frame = pd.DataFrame(
        {
            "last_purchase": [*DAYS_AGO.labels, NO_HISTORY],
            "n_customers": [*DAYS_AGO.count(days).tolist(), int((~has_history).sum())],
        }
    )
    frame["share"] = frame["n_customers"] / max(1, frame["n_customers"].sum())
    frame["cumulated_share"] = frame["share"].cumsum()
    return frame


def _purchases(t: Tallies) -> pd.DataFrame:
    rows = t.rows_of_customer[t.rows_of_customer > 0]
    return pd.DataFrame(
        {
            "purchases": list(PURCHASES.labels),
            "n_customers": PURCHASES.count(rows),
            "n_transactions": PURCHASES.count(rows, rows).astype(np.int64),
        }
    )


def _basket_sizes(t: Tallies) -> pd.DataFrame:
    sizes = np.arange(t.basket_sizes.size)
    n = BASKET_ITEMS.count(sizes[1:], t.basket_sizes[1:]).astype(np.int64)
    frame = pd.DataFrame({"items": list(BASKET_ITEMS.labels), "n_baskets": n})
    frame["share"] = frame["n_baskets"] / max(1, int(n.sum()))
    return frame


def _visit_gaps(t: Tallies) -> pd.DataFrame:
    n = DAYS_AGO.count(np.arange(t.days_between_visits.size), t.days_between_visits).astype(np.int64)
    frame = pd.DataFrame({"days": list(DAYS_AGO.labels), "n_visits": n})
    frame["share"] = frame["n_visits"] / max(1, int(n.sum()))
    return frame


def _repurchase_gaps(t: Tallies) -> pd.DataFrame:
    """Weeks until a customer buys the very same article again; later than half a year is the last row."""
    weeks = np.minimum(np.arange(t.days_between_repurchases.size) // 7, REPURCHASE_WEEKS)
    n = np.bincount(weeks, weights=t.days_between_repurchases, minlength=REPURCHASE_WEEKS + 1).astype(np.int64)
    labels = [*map(str, range(1, REPURCHASE_WEEKS + 1)), f"{REPURCHASE_WEEKS + 1}+"]
    frame = pd.DataFrame({"week": range(1, REPURCHASE_WEEKS + 2), "label": labels, "n_repurchases": n})
    frame["cumulated_share"] = frame["n_repurchases"].cumsum() / max(1, int(n.sum()))
    return frame


def quantile_of_counts(counts: np.ndarray[tuple[int], np.dtype[np.int64]], share: float) -> float:
    """Read a quantile off counts by position (days, items); nan when all are zero.

    >>> quantile_of_counts(np.array([0, 3, 1]), 0.5)
    1.0
    """
    total = int(counts.sum())
    return float("nan") if total == 0 else float(np.searchsorted(np.cumsum(counts), share * total))


def known_ages(dataset: Dataset) -> float:
    """Give the share of customers whose age is known."""
    codes = dataset.customer_attributes["age"].codes
    return float((codes != AGE_YEARS.labels.index(UNKNOWN)).mean()) if codes.size else 0.0
