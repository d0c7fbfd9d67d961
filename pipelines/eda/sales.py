"""Sales over time, by weekday and season, and prices."""

import numpy as np
import pandas as pd

from pipelines.eda.bins import N_PRICE_BINS, PRICE_BINS_PER_DECADE, price_of_bin, price_quantile
from pipelines.eda.dataset import CHANNELS, Dataset
from pipelines.eda.tallies import Tallies
from pipelines.eda.windows import WEEKDAYS

Tables = dict[str, pd.DataFrame]
N_GROUPS_SHOWN = 12
SEASON_MIN_SOLD = 240  # twenty a month, below which a season cannot be told from chance
MONTH_NAMES = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def sales_tables(dataset: Dataset, t: Tallies) -> Tables:
    daily = _daily(dataset, t)
    return {
        "daily": daily,
        "weekly": _weekly(dataset, t),
        "weekdays": _weekdays(daily),
        "months": _months(dataset, t),
        "seasons": _seasons(dataset, t),
        "prices": _prices(t),
        "price_by_group": _price_by_group(dataset, t),
    }


def _daily(dataset: Dataset, t: Tallies) -> pd.DataFrame:
    n = t.by_day_channel.sum(axis=1)
    frame = pd.DataFrame(
        {
            "date": pd.to_datetime(pd.Series(dataset.calendar.dates)),
            "n_transactions": n,
            "n_baskets": t.baskets_by_day,
            "revenue": t.revenue_by_day,
            **{f"n_{name.lower()}": t.by_day_channel[:, code] for code, name in enumerate(CHANNELS)},
        }
    )
    frame["mean_7_days"] = frame["n_transactions"].rolling(7, center=True, min_periods=4).mean()
    frame["usual"] = _usual(frame)
    return frame


def _usual(daily: pd.DataFrame) -> pd.Series:
    """Expect of a day the median of the same weekday, three weeks either side, itself left out."""
    same_weekday = pd.concat(
        [daily["n_transactions"].shift(7 * step) for step in (-3, -2, -1, 1, 2, 3)], axis="columns"
    )
    return same_weekday.median(axis="columns", skipna=True)


def _weekly(dataset: Dataset, t: Tallies) -> pd.DataFrame:
    calendar = dataset.calendar
    position = calendar.week_positions()
    n_weeks = calendar.n_weeks
    n = np.bincount(position, weights=t.by_day_channel.sum(axis=1), minlength=n_weeks)
    online = np.bincount(position, weights=t.by_day_channel[:, 1], minlength=n_weeks)
    revenue = np.bincount(position, weights=t.revenue_by_day, minlength=n_weeks)
    baskets = np.bincount(position, weights=t.baskets_by_day, minlength=n_weeks)
    days = np.bincount(position, minlength=n_weeks)
    frame = pd.DataFrame(
        {
            "week_start": pd.to_datetime([calendar.week_start(number) for number in range(n_weeks)]),
            "is_whole": days == 7,
            "n_transactions": n.astype(np.int64),
            "n_baskets": baskets.astype(np.int64),
            "revenue": revenue,
            "n_customers": t.customers_by_week,
            "n_new_customers": t.new_customers_by_week,
            "n_articles": t.was_sold_in_week.sum(axis=0),
            "n_new_articles": _new_articles(dataset, t),
        }
    )
    some = frame["n_transactions"].where(frame["n_transactions"] > 0)
    frame["mean_price"] = frame["revenue"] / some
    frame["share_online"] = online / some
    frame["share_repeat"] = t.repeats_by_week / some
    frame["share_product_repeat"] = t.product_repeats_by_week / some
    return frame


def _new_articles(dataset: Dataset, t: Tallies) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    sold = t.first_day_of_article < dataset.calendar.n_days
    weeks = dataset.calendar.week_positions()[t.first_day_of_article[sold]]
    return np.bincount(weeks, minlength=dataset.calendar.n_weeks)


def _weekdays(daily: pd.DataFrame) -> pd.DataFrame:
    """Compare each day with the mean of its own week, so that growth and seasons do not blur the rhythm."""
    ratio = daily["n_transactions"] / daily["mean_7_days"].where(daily["mean_7_days"] > 0)
    weekday = daily["date"].dt.day_of_week
    frame = pd.DataFrame({"weekday": list(WEEKDAYS), "position": range(7)})
    frame["to_week_mean"] = ratio.groupby(weekday).mean().reindex(range(7)).to_numpy()
    frame["mean_sold"] = daily["n_transactions"].groupby(weekday).mean().reindex(range(7)).to_numpy()
    frame["items_per_basket"] = (
        (daily.groupby(weekday)["n_transactions"].sum() / daily.groupby(weekday)["n_baskets"].sum())
        .reindex(range(7))
        .to_numpy()
    )
    return frame


def _months(dataset: Dataset, t: Tallies) -> pd.DataFrame:
    """Month by index group, sold rows."""
    _, starts = dataset.calendar.month_positions()
    labels = dataset.article_attributes["index_group"].labels
    wide = pd.DataFrame(t.by_month["index_group"], index=pd.to_datetime(starts), columns=labels)
    long = wide.rename_axis("month").reset_index().melt("month", var_name="index_group", value_name="n_transactions")
    total = long.groupby("month")["n_transactions"].transform("sum")
    long["share"] = long["n_transactions"] / total.where(total > 0)
    return long


def _seasons(dataset: Dataset, t: Tallies) -> pd.DataFrame:
    """Say for each large product group and calendar month how its share compares with its share of the whole year."""
    _, starts = dataset.calendar.month_positions()
    labels = dataset.article_attributes["product_group"].labels
    by_month = pd.DataFrame(t.by_month["product_group"], columns=labels)
    by_month = by_month.groupby([start.month for start in starts]).sum()
    totals = by_month.sum().sort_values(ascending=False, kind="stable").head(N_GROUPS_SHOWN)
    large = totals[totals >= SEASON_MIN_SOLD].index
    share_of_month = by_month.div(by_month.sum(axis="columns").replace(0, np.nan), axis="index")
    lift = share_of_month[large] / share_of_month[large].mean()
    long = lift.rename_axis("month").reset_index().melt("month", var_name="product_group", value_name="lift")
    long["n_transactions"] = by_month[large].melt()["value"].to_numpy()
    long["month_name"] = [MONTH_NAMES[month - 1] for month in long["month"]]
    return long


def _prices(t: Tallies) -> pd.DataFrame:
    """Sold rows per price bin, 25 bins a decade."""
    fine = t.by_group_price.sum(axis=0)
    step = PRICE_BINS_PER_DECADE // 25
    starts = np.arange(1, N_PRICE_BINS, step)
    n = np.add.reduceat(fine[1:], starts - 1)
    frame = pd.DataFrame({"from": price_of_bin(starts), "to": price_of_bin(starts + step), "n_transactions": n})
    seen = np.flatnonzero(n)
    return frame.iloc[seen[0] : seen[-1] + 1].reset_index(drop=True) if seen.size else frame.iloc[:0]


def _price_by_group(dataset: Dataset, t: Tallies) -> pd.DataFrame:
    labels = dataset.article_attributes["product_group"].labels
    frame = pd.DataFrame({"product_group": labels, "n_transactions": t.by_group_price.sum(axis=1)})
    for percent in (10, 25, 50, 75, 90):
        frame[f"p{percent}"] = [price_quantile(counts, percent / 100) for counts in t.by_group_price]
    frame = frame[frame["n_transactions"] > 0]
    return frame.sort_values("n_transactions", ascending=False, kind="stable").reset_index(drop=True)
