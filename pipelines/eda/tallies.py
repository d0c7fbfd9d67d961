"""One pass over the purchases: every count that the statistics need, in arrays that do not grow with the rows.

Dimension key: D days, W weeks, M months, A articles, C customers, G product groups, P price bins, N anything named.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipelines.eda.bins import AGE_YEARS, BASKET_ITEMS, N_PRICE_BINS, IntArray, price_codes
from pipelines.eda.dataset import CHANNELS, ROWS_PER_CHUNK, Dataset, Rows, whole_customers
from pipelines.eda.windows import WindowCounts

BASKET_LIMIT = 1000  # larger baskets are counted as this
# An article sold once has no life to draw: it is in its first week, and would drown those that have one.
LIFE_CURVE_MIN_SOLD = 10
ATTRIBUTES_BY_MONTH = ("product_group", "index_group")


@dataclass(slots=True)
class Tallies:
    """Counts of rows unless the name says otherwise."""

    by_day_channel: IntArray  # (D, channels)
    revenue_by_day: NDArray[np.float64]
    by_article: IntArray
    recent_by_article: IntArray  # in the last four weeks before the cutoff
    revenue_by_article: NDArray[np.float64]
    label_by_article: IntArray  # in the label window
    customers_by_article: IntArray
    first_day_of_article: IntArray  # of its first sale; D when it was never sold
    last_day_of_article: IntArray  # of its last sale; -1
    last_day_before_cutoff: IntArray  # of its last sale in the history; -1
    was_sold_in_week: NDArray[np.bool_]  # (A, W)
    by_month: dict[str, IntArray]  # attribute → (M, values)
    by_group_price: IntArray  # (G, P)
    by_launch_week_and_age: IntArray  # (W, W): week of the article's first sale, weeks since; no rare articles
    by_age_channel: IntArray  # (ages, channels)
    by_age_index_group: IntArray  # (ages, index groups)
    rows_of_customer: IntArray
    history_rows_of_customer: IntArray
    baskets_of_customer: IntArray
    first_day_of_customer: IntArray  # D when there is none
    last_history_day_of_customer: IntArray  # -1
    revenue_of_customer: NDArray[np.float64]
    baskets_by_day: IntArray
    basket_sizes: IntArray  # position = items, the last is "as many or more"
    largest_basket: int
    customers_by_week: IntArray
    new_customers_by_week: IntArray
    days_between_visits: IntArray  # position = days
    days_between_repurchases: IntArray  # same customer, same article, position = days
    repeats_by_week: IntArray  # rows whose customer bought that article on an earlier day
    product_repeats_by_week: IntArray  # the same for any colour of the product
    label: dict[str, int] = field(default_factory=dict)  # rows of the label window, and repeats among them
    windows: WindowCounts = field(default_factory=lambda: WindowCounts({}))


def tally(dataset: Dataset, rows_per_chunk: int = ROWS_PER_CHUNK) -> Tallies:
    """Count everything. The rows are read twice: once for the articles' first and last days, once for all else."""
    t = _empty(dataset)
    _find_article_days(dataset, t)
    t.windows = WindowCounts.for_dataset(dataset, t.first_day_of_article)
    months, _ = dataset.calendar.month_positions()
    weeks = dataset.calendar.week_positions()
    for rows in whole_customers(dataset.transactions, rows_per_chunk):
        _tally_rows(dataset, t, rows, weeks[rows.day], months[rows.day])
        _tally_repeats(dataset, t, rows, weeks)
        _tally_baskets(dataset, t, rows, weeks)
    return t


def _empty(dataset: Dataset) -> Tallies:
    calendar = dataset.calendar
    n_days, n_weeks, n_months = calendar.n_days, calendar.n_weeks, len(calendar.month_positions()[1])
    n_articles, n_customers = dataset.n_articles, dataset.n_customers
    groups = {name: len(dataset.article_attributes[name].labels) for name in ATTRIBUTES_BY_MONTH}

    def zeros(*shape: int) -> IntArray:
        return np.zeros(shape, np.int64)

    return Tallies(
        by_day_channel=zeros(n_days, len(CHANNELS)),
        revenue_by_day=np.zeros(n_days),
        by_article=zeros(n_articles),
        recent_by_article=zeros(n_articles),
        label_by_article=zeros(n_articles),
        revenue_by_article=np.zeros(n_articles),
        customers_by_article=zeros(n_articles),
        first_day_of_article=np.full(n_articles, n_days, np.int64),
        last_day_of_article=np.full(n_articles, -1, np.int64),
        last_day_before_cutoff=np.full(n_articles, -1, np.int64),
        was_sold_in_week=np.zeros((n_articles, n_weeks), np.bool_),
        by_month={name: zeros(n_months, n_values) for name, n_values in groups.items()},
        by_group_price=zeros(groups["product_group"], N_PRICE_BINS),
        by_launch_week_and_age=zeros(n_weeks + 1, n_weeks + 1),
        by_age_channel=zeros(len(AGE_YEARS.labels), len(CHANNELS)),
        by_age_index_group=zeros(len(AGE_YEARS.labels), groups["index_group"]),
        rows_of_customer=zeros(n_customers),
        history_rows_of_customer=zeros(n_customers),
        baskets_of_customer=zeros(n_customers),
        first_day_of_customer=np.full(n_customers, n_days, np.int64),
        last_history_day_of_customer=np.full(n_customers, -1, np.int64),
        revenue_of_customer=np.zeros(n_customers),
        baskets_by_day=zeros(n_days),
        basket_sizes=zeros(BASKET_LIMIT + 1),
        largest_basket=0,
        customers_by_week=zeros(n_weeks),
        new_customers_by_week=zeros(n_weeks),
        days_between_visits=zeros(n_days + 1),
        days_between_repurchases=zeros(n_days + 1),
        repeats_by_week=zeros(n_weeks),
        product_repeats_by_week=zeros(n_weeks),
        label={"rows": 0, "repeat_rows": 0, "product_repeat_rows": 0},
    )


def _find_article_days(dataset: Dataset, t: Tallies) -> None:
    day = pl.col("day")
    days = (
        pl.scan_parquet(dataset.transactions)
        .group_by("article_index")
        .agg(
            first=day.min(),
            last=day.max(),
            n=pl.len(),
            last_before=day.filter(day < dataset.calendar.cutoff_day).max().fill_null(-1),
        )
        .collect(engine="streaming")
    )
    articles = days["article_index"].to_numpy()
    t.first_day_of_article[articles] = days["first"].to_numpy()
    t.last_day_of_article[articles] = days["last"].to_numpy()
    t.last_day_before_cutoff[articles] = days["last_before"].to_numpy()
    t.by_article[articles] = days["n"].to_numpy()


def _tally_rows(dataset: Dataset, t: Tallies, rows: Rows, week: IntArray, month: IntArray) -> None:
    cutoff_day = dataset.calendar.cutoff_day
    channel = rows.channel - 1
    group = dataset.article_attributes["product_group"].codes[rows.article]
    index_group = dataset.article_attributes["index_group"].codes[rows.article]
    age = dataset.customer_attributes["age"].codes[rows.customer]
    price = price_codes(rows.price)

    _add(t.by_day_channel, rows.day, channel)
    t.revenue_by_day += np.bincount(rows.day, weights=rows.price, minlength=t.revenue_by_day.size)
    t.revenue_by_article += np.bincount(rows.article, weights=rows.price, minlength=t.by_article.size)
    is_recent = (rows.day >= cutoff_day - 28) & (rows.day < cutoff_day)
    _add(t.recent_by_article, rows.article[is_recent])
    is_label = (rows.day >= cutoff_day) & (rows.day < dataset.calendar.label_end_day)
    _add(t.label_by_article, rows.article[is_label])
    t.was_sold_in_week[rows.article, week] = True
    _add(t.by_month["product_group"], month, group)
    _add(t.by_month["index_group"], month, index_group)
    _add(t.by_group_price, group, price)
    has_life = t.by_article[rows.article] >= LIFE_CURVE_MIN_SOLD
    launch_day = t.first_day_of_article[rows.article[has_life]]
    _add(t.by_launch_week_and_age, launch_day // 7, (rows.day[has_life] - launch_day) // 7)
    _add(t.by_age_channel, age, channel)
    _add(t.by_age_index_group, age, index_group)
    t.windows.add_rows(dataset, rows)


def _tally_repeats(dataset: Dataset, t: Tallies, rows: Rows, weeks: IntArray) -> None:
    """Follow each customer's purchases of the same article, and of the same product in any colour."""
    calendar = dataset.calendar
    for target, items, n_items in (
        ("article", rows.article, dataset.n_articles),
        ("product", dataset.product_index[rows.article], int(dataset.product_index.max(initial=0)) + 1),
    ):
        # One integer sorts by customer, item and day; 2^63 is 50,000 times what all of H&M needs.
        packed = ((rows.customer - rows.customer[0]) * n_items + items) * calendar.n_days + rows.day
        packed, n_rows = np.unique(packed, return_counts=True)
        pair, day = packed // calendar.n_days, packed % calendar.n_days
        is_repeat = np.zeros(pair.size, np.bool_)
        is_repeat[1:] = pair[1:] == pair[:-1]
        is_first = ~is_repeat
        first_day = day[is_first][np.cumsum(is_first) - 1]
        is_label = (day >= calendar.cutoff_day) & (day < calendar.label_end_day)
        n_label_repeats = int(n_rows[is_label & (first_day < calendar.cutoff_day)].sum())
        by_week = np.bincount(
            weeks[day[is_repeat]], weights=n_rows[is_repeat], minlength=t.repeats_by_week.size
        ).astype(np.int64)
        if target == "product":
            t.product_repeats_by_week += by_week
            t.label["product_repeat_rows"] += n_label_repeats
            continue
        t.repeats_by_week += by_week
        t.label["repeat_rows"] += n_label_repeats
        t.label["rows"] += int(n_rows[is_label].sum())
        _add(t.days_between_repurchases, (day[1:] - day[:-1])[is_repeat[1:]])
        _add(t.customers_by_article, pair[is_first] % n_items)


def _tally_baskets(dataset: Dataset, t: Tallies, rows: Rows, weeks: IntArray) -> None:
    """A basket is what one customer bought on one day."""
    calendar = dataset.calendar
    starts = _starts(rows.customer, rows.day)
    customer, day = rows.customer[starts], rows.day[starts]
    size = np.diff(np.append(starts, rows.customer.size))
    is_next_visit = np.zeros(starts.size, np.bool_)
    is_next_visit[1:] = customer[1:] == customer[:-1]
    days_since = np.diff(day, prepend=day[0])

    _add(t.baskets_by_day, day)
    _add(t.basket_sizes, np.minimum(size, BASKET_LIMIT))
    t.largest_basket = max(t.largest_basket, int(size.max()))
    _add(t.days_between_visits, days_since[is_next_visit])
    t.windows.add_baskets(day, BASKET_ITEMS.codes(size), np.where(is_next_visit, days_since, -1))
    _add(t.customers_by_week, weeks[day[_starts(customer, weeks[day])]])
    _add(t.new_customers_by_week, weeks[day[~is_next_visit]])

    firsts = np.flatnonzero(~is_next_visit)
    who = customer[firsts]
    is_history = day < calendar.cutoff_day
    t.first_day_of_customer[who] = day[firsts]
    t.baskets_of_customer[who] = np.diff(np.append(firsts, customer.size))
    t.rows_of_customer[who] = np.add.reduceat(size, firsts)
    t.history_rows_of_customer[who] = np.add.reduceat(np.where(is_history, size, 0), firsts)
    t.last_history_day_of_customer[who] = np.maximum.reduceat(np.where(is_history, day, -1), firsts)
    t.revenue_of_customer[who] = np.add.reduceat(np.add.reduceat(rows.price, starts), firsts)


def _starts(*sorted_columns: IntArray) -> IntArray:
    """Find where a new combination of values begins."""
    is_start = np.zeros(sorted_columns[0].size, np.bool_)
    is_start[0] = True
    for column in sorted_columns:
        is_start[1:] |= column[1:] != column[:-1]
    return np.flatnonzero(is_start)


def _add(counts: NDArray[Any], *codes: IntArray) -> None:
    """Count rows into a dense array of as many dimensions as there are codes."""
    flat = np.ravel_multi_index(codes, counts.shape) if len(codes) > 1 else codes[0]
    counts += np.bincount(flat, minlength=counts.size).reshape(counts.shape)
