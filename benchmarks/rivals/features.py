"""What the two-stage rival knows of a customer and a candidate: about fifty numbers, none from the label window."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from benchmarks.rivals.candidates import Retrieved
from benchmarks.rivals.past import Float64, Past, entries, look_up, runs
from pipelines.recommender.interactions import ATTRIBUTES, Float32, Int64

WINDOWS_DAYS = (3, 7, 14, 28, 91, 364)
OWN_TAUS_DAYS = (7.0, 28.0, 112.0)
NEVER = 1000.0
"""Days since what never happened."""


def describe(past: Past, found: Retrieved) -> tuple[list[str], Float32]:
    """Describe each candidate; names [F] and values [P, F]."""
    columns = _article_columns(past)
    named: dict[str, Float64] = {name: values[found.article_P] for name, values in columns.items()}
    customers, own = _customer_columns(past, found)
    named |= {name: values[found.row_P] for name, values in customers.items()}
    named |= own
    named |= _attribute_columns(past, found)
    named["together"] = look_up(*entries(found.together_RA), found.key_P, 0.0)
    segment_P = past.segments[found.customers_R][found.row_P]
    share = found.segment_SA[segment_P, found.article_P]
    named["segment_share"] = np.log(share + 1e-7)
    named["segment_lift"] = named["segment_share"] - np.log(found.segment_SA[:, found.article_P].mean(axis=0) + 1e-7)
    named["segment"] = segment_P.astype(np.float64)
    named["price_ratio"] = named["price"] - named["customer_price"]
    named["due"] = named["own_age"] / np.maximum(named["own_gap"], 1.0)
    named["own_share"] = named["own_count"] / np.maximum(named["customer_purchases"], 1.0)
    return list(named), np.stack(list(named.values()), axis=1, dtype=np.float32, casting="unsafe")


def _article_columns(past: Past) -> dict[str, Float64]:
    """What is known of each article; [A] each."""
    purchases, n_articles = past.purchases, past.n_articles
    product = past.catalogue.product_A
    sold = {days: past.sold(days) for days in WINDOWS_DAYS}
    columns: dict[str, Float64] = {f"sold_{days}d": np.log1p(values) for days, values in sold.items()}
    for days in (7, 28):
        by_product = np.bincount(product, sold[days])
        columns[f"product_sold_{days}d"] = np.log1p(by_product[product])
    columns["trend_week"] = np.log((sold[7] + 1.0) / (sold[14] - sold[7] + 1.0))
    columns["trend_month"] = np.log((sold[7] * 4 + 2.0) / (sold[28] + 2.0))
    columns["trend_quarter"] = np.log((sold[28] * 3.25 + 2.0) / (sold[91] + 2.0))
    rank = np.empty(n_articles)
    rank[np.argsort(-(sold[7] + 1e-3 * sold[28]), kind="stable")] = np.arange(n_articles)
    columns["rank_week"] = np.log1p(rank)
    first, last = np.full(n_articles, past.day), np.full(n_articles, -int(NEVER))
    np.minimum.at(first, purchases.article, purchases.day)
    np.maximum.at(last, purchases.article, purchases.day)
    columns["age"] = (past.day - first).astype(np.float64)
    columns["last_sale"] = np.minimum(past.day - last, NEVER).astype(np.float64)
    count = np.bincount(purchases.article, minlength=n_articles)
    log_price = np.log(np.maximum(purchases.price, 1e-6), dtype=np.float64)
    columns["price"] = np.bincount(purchases.article, log_price, n_articles) / np.maximum(count, 1)
    week = past.age_days <= 7
    sold_week = np.bincount(purchases.article[week], minlength=n_articles)
    now = np.bincount(purchases.article[week], log_price[week], n_articles) / np.maximum(sold_week, 1)
    columns["price_change"] = np.where(sold_week > 0, now - columns["price"], 0.0)
    keys, n_days, _ = _days_bought(past, np.arange(len(purchases)), purchases.customer.astype(np.int64))
    buyers = np.bincount(keys % n_articles, minlength=n_articles)
    again = np.bincount((keys % n_articles)[n_days > 1], minlength=n_articles)
    overall = (again.sum() + 1.0) / (buyers.sum() + 20.0)
    columns["rebuy_rate"] = (again + 10.0 * overall) / (buyers + 10.0)
    columns["pieces_per_buyer"] = count / np.maximum(buyers, 1)
    return columns


def _days_bought(past: Past, at: Int64, group: Int64) -> tuple[Int64, Int64, Int64]:
    """Pairs of a group (customer) and an article: ascending keys, days with a purchase, span of days between them."""
    key = group * past.n_articles + past.purchases.article[at]
    n_days = int(past.day) + 1
    visits = np.unique(key * n_days + past.purchases.day[at])
    pair, day = np.divmod(visits, n_days)
    starts = np.flatnonzero(np.diff(pair, prepend=-1))
    counts = np.diff(starts, append=len(pair))
    return pair[starts], counts, day[starts + counts - 1] - day[starts] if len(starts) else counts


def _customer_columns(past: Past, found: Retrieved) -> tuple[dict[str, Float64], dict[str, Float64]]:
    """What is known of each customer [R], and of each pair's own history [P]."""
    purchases, n_rows = past.purchases, len(found.customers_R)
    rows, at = runs(purchases.offsets[found.customers_R], purchases.offsets[found.customers_R + 1])
    age = past.age_days[at].astype(np.float64)
    count = np.bincount(rows, minlength=n_rows).astype(np.float64)
    keys, n_days, span = _days_bought(past, at, rows)
    n_visits = np.bincount(np.unique(rows * 10**5 + past.age_days[at]) // 10**5, minlength=n_rows)
    youngest = np.full(n_rows, NEVER)
    np.minimum.at(youngest, rows, age)
    log_price = np.log(np.maximum(purchases.price[at], 1e-6), dtype=np.float64)
    n_distinct = np.bincount(keys // past.n_articles, minlength=n_rows)
    repeated = np.bincount((keys // past.n_articles)[n_days > 1], minlength=n_rows)
    customers = {
        "customer_purchases": count,
        "customer_distinct": n_distinct.astype(np.float64),
        "customer_repeats": repeated / np.maximum(n_distinct, 1),
        "customer_visits": n_visits.astype(np.float64),
        "customer_basket": count / np.maximum(n_visits, 1),
        "customer_idle": youngest,
        "customer_month": np.bincount(rows[age <= 28], minlength=n_rows).astype(np.float64),
        "customer_price": np.bincount(rows, log_price, n_rows) / np.maximum(count, 1),
    }
    key = rows * past.n_articles + purchases.article[at]
    own = _decayed_pairs(key, age, found.key_P, "own")
    own["own_days"] = look_up(keys, n_days.astype(np.float64), found.key_P, 0.0)
    own["own_gap"] = look_up(keys, np.where(n_days > 1, span / np.maximum(n_days - 1, 1), 365.0), found.key_P, 365.0)
    own["in_last_visit"] = (own["own_age"] == youngest[found.row_P]).astype(np.float64)
    product = past.catalogue.product_A.astype(np.int64)
    n_products = int(product.max()) + 1
    product_key = rows * n_products + product[purchases.article[at]]
    own |= _decayed_pairs(product_key, age, found.row_P * n_products + product[found.article_P], "product")
    return customers, own


def _decayed_pairs(key: Int64, age: Float64, wanted: Int64, prefix: str) -> dict[str, Float64]:
    """Count, decayed counts and recency of each wanted key among a customer's purchases."""
    known, at = np.unique(key, return_inverse=True)
    columns: dict[str, Float64] = {f"{prefix}_count": np.bincount(at, minlength=len(known)).astype(np.float64)}
    for tau in OWN_TAUS_DAYS:
        columns[f"{prefix}_{tau:g}d"] = np.bincount(at, np.exp(-age / tau), len(known))
    newest = np.full(len(known), NEVER)
    np.minimum.at(newest, at, age)
    looked_up = {name: look_up(known, values, wanted, 0.0) for name, values in columns.items()}
    return looked_up | {f"{prefix}_age": look_up(known, newest, wanted, NEVER)}


def _attribute_columns(past: Past, found: Retrieved) -> dict[str, Float64]:
    """Share of the customer's decayed purchases that have the candidate's value of each attribute; [P] each."""
    keys, weights = entries(found.frequent_RA)
    row, article = np.divmod(keys, past.n_articles)
    total = np.maximum(np.bincount(row, weights, len(found.customers_R)), 1e-9)
    columns = {}
    for number, name in enumerate(ATTRIBUTES):
        values: npt.NDArray[np.int64] = past.catalogue.attributes_AV[:, number].astype(np.int64)
        size = int(values.max()) + 1
        if size <= 2:  # missing everywhere, or the same
            continue
        known, at = np.unique(row * size + values[article], return_inverse=True)
        shares = np.bincount(at, weights, len(known)) / total[known // size]
        columns[f"share_{name}"] = look_up(known, shares, found.row_P * size + values[found.article_P], 0.0)
    return columns
