"""Sales, customers and channels over time."""

import altair as alt
import pandas as pd

from pipelines.eda.dataset import Calendar
from pipelines.eda.figures.drawing import (
    COUNT,
    DATE,
    PERCENT,
    chart,
    count_axis,
    cutoff_layers,
    cutoff_rule,
    days_axis,
    percent_axis,
)
from pipelines.eda.findings.sales import unusual_days
from pipelines.eda.statistics import Statistics
from pipelines.report.blocks import Block, Text

FEW_DAYS = 21  # below this a line through weeks has nothing to say


def over_time(statistics: Statistics) -> list[Block]:
    calendar = Calendar.from_split(statistics.split)
    daily, weekly = statistics.tables["daily"], statistics.tables["weekly"]
    blocks: list[Block] = [_days(daily, calendar)]
    whole = weekly[weekly["is_whole"]]
    if len(daily) < FEW_DAYS or len(whole) < 3:
        return [*blocks, Text("There are too few weeks for pictures by week and year.", "note")]
    if len(daily) > 400:
        blocks.append(_years(daily))
    blocks.append(_customers(whole, calendar))
    if whole["share_online"].between(0.001, 0.999).any():
        blocks.append(_line(whole, "share_online", "Share bought online", "Share of purchases per week.", calendar))
    return blocks


def _days(daily: pd.DataFrame, calendar: Calendar) -> Block:
    tooltips = [
        alt.Tooltip("date:T", format="%a %-d %b %Y"),
        alt.Tooltip("n_transactions:Q", format=COUNT, title="purchases"),
        alt.Tooltip("n_baskets:Q", format=COUNT, title="baskets"),
        alt.Tooltip("usual:Q", format=",.0f", title="usual for the weekday"),
    ]
    base = alt.Chart(daily[["date", "n_transactions", "n_baskets", "mean_7_days", "usual"]])
    end = pd.Timestamp(calendar.date(min(calendar.label_end_day, calendar.n_days)))
    window = pd.DataFrame({"date": [pd.Timestamp(calendar.cutoff_date)], "end": [end]})
    shade = alt.Chart(window).mark_rect(style="window").encode(x="date:T", x2="end:T")
    thin = base.mark_line(style="context-line").encode(
        x=days_axis(daily["date"], ticks=8), y=count_axis("n_transactions", "purchases a day"), tooltip=tooltips
    )
    layers = [shade, thin]
    if len(daily) >= FEW_DAYS:
        layers.append(base.mark_line(style="main-line").encode(x="date:T", y="mean_7_days:Q", tooltip=tooltips))
    else:
        layers.append(
            base.mark_point(style="main", filled=True, size=50).encode(
                x="date:T", y="n_transactions:Q", tooltip=tooltips
            )
        )
    unusual = unusual_days(daily)
    if len(unusual):
        points = alt.Chart(unusual[["date", "n_transactions", "n_baskets", "usual"]])
        layers.append(
            points.mark_point(style="alarm-point", filled=True).encode(
                x="date:T", y="n_transactions:Q", tooltip=tooltips
            )
        )
    caption = (
        f"{'Thin line: each day. Thick line: mean of seven days. ' if len(daily) >= FEW_DAYS else ''}"
        "Shaded: the label window from the cutoff on, which a model must not see."
    )
    if len(unusual):
        caption += " Dots: days far from their weekday's usual sales."
    drawing = alt.layer(*layers, *cutoff_layers(calendar.cutoff_date))
    return chart("Purchases a day", drawing, caption, wide=True, height=280)


def _years(daily: pd.DataFrame) -> Block:
    frame = daily[["date"]].copy()
    frame["mean"] = daily["n_transactions"].rolling(28, center=True, min_periods=14).mean()
    frame["year"] = frame["date"].dt.year.astype(str)
    # One leap year stands for all, so that the same calendar day lies above itself.
    frame["season"] = pd.to_datetime("2000-" + frame["date"].dt.strftime("%m-%d"))
    drawing = (
        alt.Chart(frame)
        .mark_line()
        .encode(
            x=alt.X("season:T", title=None, axis=alt.Axis(format="%b", tickCount=6)),
            y=count_axis("mean", "purchases a day"),
            color=alt.Color("year:N", title=None),
            tooltip=[alt.Tooltip("date:T", format=DATE), alt.Tooltip("mean:Q", format=",.0f", title="mean of 28 days")],
        )
    )
    return chart("The years above each other", drawing, "Mean of 28 days, by calendar day.")


def _customers(weekly: pd.DataFrame, calendar: Calendar) -> Block:
    frame = weekly[["week_start", "n_customers", "n_new_customers"]].copy()
    frame["returning"] = frame["n_customers"] - frame["n_new_customers"]
    frame = frame.rename(columns={"n_new_customers": "first purchase seen", "returning": "bought before"})
    names = ["bought before", "first purchase seen"]
    long = frame.melt("week_start", value_vars=names, var_name="who", value_name="n")
    area = (
        alt.Chart(long)
        .mark_area()
        .encode(
            x=days_axis(weekly["week_start"]),
            y=count_axis("n", "customers a week", stack=True),
            color=alt.Color("who:N", sort=names, title=None),
            order=alt.Order("position:Q"),
            tooltip=[
                alt.Tooltip("week_start:T", format=DATE, title="week from"),
                alt.Tooltip("who:N"),
                alt.Tooltip("n:Q", format=COUNT, title="customers"),
            ],
        )
        .transform_calculate(position="datum.who === 'bought before' ? 0 : 1")
    )
    drawing = alt.layer(area, cutoff_rule(calendar.cutoff_date))
    return chart(
        "Customers a week", drawing, "Everybody is new when the data begin; later weeks tell how many really are."
    )


def _line(weekly: pd.DataFrame, column: str, title: str, caption: str, calendar: Calendar) -> Block:
    line = (
        alt.Chart(weekly[["week_start", column]])
        .mark_line(style="main-line")
        .encode(
            x=days_axis(weekly["week_start"]),
            y=percent_axis(column, "share of purchases"),
            tooltip=[
                alt.Tooltip("week_start:T", format=DATE, title="week from"),
                alt.Tooltip(f"{column}:Q", format=PERCENT, title="share"),
            ],
        )
    )
    return chart(title, alt.layer(line, cutoff_rule(calendar.cutoff_date)), caption)
