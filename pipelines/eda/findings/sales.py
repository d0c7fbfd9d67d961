"""What stands out over time: days, channels, a year ago, seasons."""

import numpy as np
import pandas as pd

from pipelines.eda.findings.observation import Observation
from pipelines.eda.statistics import Statistics, records
from pipelines.report.numbers import change, count, decimal, percent, plural, weekday_and_day

UNUSUAL_SIGMAS = 4.0  # of the robust spread of day over usual day
UNUSUAL_RATIO = 1.6  # and at least this far, so that very regular shops are not nagged
N_DAYS_NAMED = 3
SHORT_DATA_DAYS = 91
MIN_WEEK_SOLD = 50


def unusual_days(daily: pd.DataFrame) -> pd.DataFrame:
    """Find days far from the same weekday's usual sales: columns of `daily` and `ratio`, the farthest first."""
    usual = daily["usual"]
    logs = pd.Series(np.log((daily["n_transactions"] + 1) / (usual + 1)))
    spread = 1.4826 * (logs - logs.median()).abs().median()
    if not np.isfinite(spread):
        return daily.iloc[:0].assign(ratio=[])
    limit = max(UNUSUAL_SIGMAS * float(spread), float(np.log(UNUSUAL_RATIO)))
    found = daily[(logs.abs() > limit) & (usual >= 10)]
    ratio = found["n_transactions"] / found["usual"]
    order = logs.abs().loc[found.index].sort_values(ascending=False, kind="stable").index
    return found.assign(ratio=ratio).loc[order]


def days(statistics: Statistics) -> list[Observation]:
    """Name days without sales, and days far from usual."""
    daily = statistics.tables["daily"]
    found = []
    empty = daily[daily["n_transactions"] == 0]
    if len(empty) and len(empty) < 0.2 * len(daily):
        named = ", ".join(weekday_and_day(date) for date in empty["date"].head(N_DAYS_NAMED))
        more = f" and {len(empty) - N_DAYS_NAMED} more" if len(empty) > N_DAYS_NAMED else ""
        found.append(
            Observation(
                "days_without_sales", "warning", f"{plural(len(empty), 'day')} without any sale.", f"{named}{more}."
            )
        )
    unusual = unusual_days(daily)
    for kind, days, words in (
        ("days_high", unusual[unusual["ratio"] > 1], "sold far more than usual"),
        ("days_low", unusual[(unusual["ratio"] < 1) & (unusual["n_transactions"] > 0)], "sold far less than usual"),
    ):
        if len(days):
            named = "; ".join(
                f"{weekday_and_day(day.date)}: {count(day.n_transactions)} instead of about "
                f"{count(day.usual)} ({change(day.ratio)})"
                for day in records(days.head(N_DAYS_NAMED))
            )
            found.append(Observation(kind, "warning", f"{plural(len(days), 'day')} {words}.", f"{named}."))
    return found


def against_last_year(statistics: Statistics) -> list[Observation]:
    """Compare the last four weeks with the same weeks a year ago."""
    daily = statistics.tables["daily"]
    if len(daily) < 364 + 28:
        return []
    recent, year_ago = daily.iloc[-28:], daily.iloc[-392:-364]
    now, before = int(recent["n_transactions"].sum()), int(year_ago["n_transactions"].sum())
    found = []
    if before and abs(now / before - 1) >= 0.03:
        found.append(
            Observation(
                "sales_against_last_year",
                "warning" if now / before < 0.8 else "note",
                f"The last four weeks sold {_more_or_less(now / before)} than the same weeks a year ago.",
                f"{plural(now, 'purchase')}, {count(before)} a year ago.",
            )
        )
    if now and before:
        ratio = (recent["revenue"].sum() / now) / (year_ago["revenue"].sum() / before)
        if abs(ratio - 1) >= 0.05:
            found.append(
                Observation(
                    "price_against_last_year",
                    "note",
                    f"The mean price paid is {_more_or_less(ratio, 'higher', 'lower')} than a year ago.",
                    f"{decimal(recent['revenue'].sum() / now)} in the last four weeks, "
                    f"{decimal(year_ago['revenue'].sum() / before)} then.",
                )
            )
    return found


def closed_channel(statistics: Statistics) -> list[Observation]:
    """Find weeks in a row in which a channel that matters otherwise sold next to nothing."""
    weekly = statistics.tables["weekly"]
    weekly = weekly[weekly["is_whole"] & (weekly["n_transactions"] >= MIN_WEEK_SOLD)]
    found = []
    for name, share in (("stores", 1 - weekly["share_online"]), ("online", weekly["share_online"])):
        is_closed = (share < 0.02).to_numpy()
        if share.median() < 0.1 or not is_closed.any():
            continue
        starts = weekly.loc[is_closed, "week_start"]
        last = starts.iloc[-1] + pd.Timedelta(days=6)
        found.append(
            Observation(
                f"closed_{name}",
                "warning",
                f"{plural(len(starts), 'week')} with next to no sales {'in stores' if name == 'stores' else 'online'}.",
                f"Between {weekday_and_day(starts.iloc[0])} and {weekday_and_day(last)}; "
                f"usually {percent(float(share.median()), 0)} of purchases are made there.",
            )
        )
    return found


def _more_or_less(ratio: float, more: str = "more", less: str = "less") -> str:
    return f"{percent(abs(ratio - 1), 0)} {more if ratio > 1 else less}"


def short_data(statistics: Statistics) -> list[Observation]:
    """Say that the data are too short for what needs time."""
    n_days = int(statistics.figures["n_days"] or 0)
    if n_days >= SHORT_DATA_DAYS:
        return []
    return [
        Observation(
            "short_data",
            "warning",
            f"Only {plural(n_days, 'day')} of purchases.",
            "Seasons, article life cycles and lapsed customers cannot be seen in so short a time.",
        )
    ]


def seasonal_groups(statistics: Statistics) -> list[Observation]:
    """Name the product groups whose share swings with the year."""
    seasons = statistics.tables["seasons"]
    strong = seasons[(seasons["lift"] >= 1.8) & (seasons["n_transactions"] >= 50)]
    if strong.empty or int(statistics.figures["n_days"] or 0) < 360:
        return []
    peaks = strong.sort_values("lift", ascending=False, kind="stable").drop_duplicates("product_group").head(3)
    named = "; ".join(
        f"{peak.product_group} in {peak.month_name} ({decimal(peak.lift, 2)}× its usual share)"
        for peak in records(peaks)
    )
    return [Observation("seasonal_groups", "note", "Some product groups live by the season.", f"{named}.")]
