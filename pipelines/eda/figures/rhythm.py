"""Weekday, season and the mix of index groups over time."""

import altair as alt
import pandas as pd

from pipelines.eda.figures.drawing import (
    COUNT,
    PERCENT,
    chart,
)
from pipelines.eda.sales import MONTH_NAMES
from pipelines.eda.statistics import Statistics
from pipelines.eda.windows import WEEKDAYS
from pipelines.report.blocks import Block, Text
from pipelines.report.numbers import decimal, percent


def rhythm(statistics: Statistics) -> list[Block]:
    """Weekday, season and the mix of index groups over time."""
    blocks: list[Block] = []
    weekdays = statistics.tables["weekdays"].dropna(subset=["to_week_mean"]).copy()
    if len(weekdays) == 7 and int(statistics.figures["n_days"] or 0) >= 14:
        blocks.append(_weekdays(weekdays))
    months = statistics.tables["months"]
    if months["month"].nunique() >= 3 and months["index_group"].nunique() >= 2:
        blocks.append(_mix(months))
    seasons = statistics.tables["seasons"]
    if seasons["month"].nunique() >= 6 and len(seasons):
        blocks.append(_seasons(seasons))
    return blocks or [Text("There are too few days to see a weekly rhythm or seasons.", "note")]


def _weekdays(weekdays: pd.DataFrame) -> Block:
    frame = weekdays.assign(off=weekdays["to_week_mean"] - 1)
    frame["written"] = [f"{'+' if off > 0 else '−' if off < 0 else ''}{percent(abs(off), 0)}" for off in frame["off"]]
    room = max(0.1, 1.3 * float(frame["off"].abs().max()))
    y = alt.Y(
        "off:Q",
        title="against the mean day",
        axis=alt.Axis(format="~%", tickCount=5),
        scale=alt.Scale(domain=[-room, room]),
    )
    x = alt.X("weekday:N", sort=list(WEEKDAYS), title=None, axis=alt.Axis(labelAngle=0))
    tooltips = [
        alt.Tooltip("weekday:N"),
        alt.Tooltip("written:N", title="against the mean day"),
        alt.Tooltip("mean_sold:Q", format=",.0f", title="mean purchases"),
        alt.Tooltip("items_per_basket:Q", format=".2f", title="articles per basket"),
    ]
    base = alt.Chart(frame)
    bars = base.mark_bar(style="main-bar").encode(x=x, y=y, tooltip=tooltips)
    above = (
        base.mark_text(style="value-text", dy=-9).encode(x=x, y=y, text="written:N").transform_filter("datum.off >= 0")
    )
    below = (
        base.mark_text(style="value-text", dy=9).encode(x=x, y=y, text="written:N").transform_filter("datum.off < 0")
    )
    return chart(
        "Weekdays", alt.layer(bars, above, below), "Sales of each weekday against the mean day of the same week."
    )


def _mix(months: pd.DataFrame) -> Block:
    order = (
        months.groupby("index_group")["n_transactions"].sum().sort_values(ascending=False, kind="stable").index.tolist()
    )
    drawing = (
        alt.Chart(months)
        .mark_area()
        .encode(
            x=alt.X("month:T", title=None, axis=alt.Axis(format="%b %Y", tickCount=6)),
            y=alt.Y(
                "share:Q",
                title="share of purchases",
                stack=True,
                axis=alt.Axis(format="~%", tickCount=5),
                scale=alt.Scale(domain=[0, 1]),
            ),
            color=alt.Color("index_group:N", sort=order, title=None),
            order=alt.Order("rank:Q"),
            tooltip=[
                alt.Tooltip("month:T", format="%b %Y"),
                alt.Tooltip("index_group:N", title="index group"),
                alt.Tooltip("share:Q", format=PERCENT),
            ],
        )
        .transform_calculate(rank=f"indexof({order!r}, datum.index_group)")
    )
    return chart("Who is dressed, by month", drawing, "Share of the month's purchases by index group.")


def _seasons(seasons: pd.DataFrame) -> Block:
    frame = seasons.dropna(subset=["lift"]).copy()
    frame["shown"] = frame["lift"].clip(0.25, 4)
    frame["written"] = [decimal(lift, 2) for lift in frame["lift"]]
    order = (
        seasons.groupby("product_group")["n_transactions"]
        .sum()
        .sort_values(ascending=False, kind="stable")
        .index.tolist()
    )
    drawing = (
        alt.Chart(frame)
        .mark_rect()
        .encode(
            x=alt.X("month_name:N", sort=list(MONTH_NAMES), title=None, axis=alt.Axis(labelAngle=0)),
            y=alt.Y("product_group:N", sort=order, title=None),
            color=alt.Color(
                "shown:Q",
                title="share of the month ÷ usual share",
                scale=alt.Scale(type="log", domain=[0.25, 1, 4], range="diverging", interpolate="rgb"),
                legend=alt.Legend(values=[0.25, 0.5, 1, 2, 4], format="~g"),
            ),
            tooltip=[
                alt.Tooltip("product_group:N", title="product group"),
                alt.Tooltip("month_name:N", title="month"),
                alt.Tooltip("lift:Q", format=".2f", title="× usual share"),
                alt.Tooltip("n_transactions:Q", format=COUNT, title="purchases"),
            ],
        )
    )
    caption = "2: the group takes twice its usual share of the month's purchases. Blue is season, red is out of season."
    return chart("Seasons by product group", drawing, caption, wide=True, height=max(120, 28 * len(order)))
