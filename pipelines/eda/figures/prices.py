"""What prices were paid, when and for what."""

import altair as alt
import pandas as pd

from pipelines.eda.dataset import Calendar
from pipelines.eda.figures.drawing import (
    COUNT,
    DATE,
    ROW_HEIGHT,
    chart,
    count_axis,
    cutoff_rule,
    days_axis,
)
from pipelines.eda.statistics import Statistics
from pipelines.report.blocks import Block, Text


def prices(statistics: Statistics) -> list[Block]:
    calendar = Calendar.from_split(statistics.split)
    tables = statistics.tables
    blocks: list[Block] = []
    histogram = tables["prices"][tables["prices"]["n_transactions"] > 0]
    if len(histogram) >= 2:
        drawing = (
            alt.Chart(histogram)
            .mark_rect(style="main-bar")
            .encode(
                x=alt.X(
                    "from:Q",
                    title="price (logarithmic)",
                    scale=alt.Scale(type="log", nice=False),
                    axis=alt.Axis(format="~g", grid=False),
                ),
                x2="to:Q",
                y=count_axis("n_transactions", "purchases"),
                y2=alt.datum(0),
                tooltip=[
                    alt.Tooltip("from:Q", format=".3~r"),
                    alt.Tooltip("to:Q", format=".3~r"),
                    alt.Tooltip("n_transactions:Q", format=COUNT, title="purchases"),
                ],
            )
        )
        blocks.append(chart("Prices paid", drawing, "In the shop's own unit. Peaks are price points."))
    weekly = tables["weekly"]
    weekly = weekly[weekly["is_whole"] & weekly["mean_price"].notna()]
    if len(weekly) >= 3:
        line = (
            alt.Chart(weekly[["week_start", "mean_price"]])
            .mark_line(style="main-line")
            .encode(
                x=days_axis(weekly["week_start"]),
                y=alt.Y(
                    "mean_price:Q",
                    title="mean price",
                    scale=alt.Scale(zero=False),
                    axis=alt.Axis(format="~g", tickCount=5),
                ),
                tooltip=[
                    alt.Tooltip("week_start:T", format=DATE, title="week from"),
                    alt.Tooltip("mean_price:Q", format=".3~r", title="mean price"),
                ],
            )
        )
        blocks.append(
            chart(
                "Mean price by week",
                alt.layer(line, cutoff_rule(calendar.cutoff_date)),
                "Dips are sales periods; the axis does not begin at zero.",
            )
        )
    groups = tables["price_by_group"]
    groups = groups[groups["p10"] > 0].head(12)  # a logarithmic axis has no place for what was free
    if len(groups) >= 2:
        blocks.append(_price_by_group(groups))
    return blocks or [Text("All purchases have one price.", "note")]


def _price_by_group(groups: pd.DataFrame) -> Block:
    y = alt.Y("product_group:N", sort=groups["product_group"].tolist(), title=None)
    scale = alt.Scale(type="log", nice=False, padding=12)
    tooltips = [alt.Tooltip("product_group:N", title="product group")] + [
        alt.Tooltip(f"p{percent_}:Q", format=".3~r", title=f"{percent_} % paid at most")
        for percent_ in (10, 25, 50, 75, 90)
    ]
    base = alt.Chart(groups)
    x = alt.X("p10:Q", title="price (logarithmic)", scale=scale, axis=alt.Axis(format="~g", tickCount=6))
    wide = base.mark_rule(style="spread-rule").encode(y=y, x=x, x2="p90:Q", tooltip=tooltips)
    middle = base.mark_bar(style="main-bar", height=11, cornerRadius=3).encode(
        y=y, x="p25:Q", x2="p75:Q", tooltip=tooltips
    )
    median = base.mark_tick(style="now-tick", height=17).encode(y=y, x="p50:Q", tooltip=tooltips)
    caption = "Bar: the middle half of purchases. Line: from the 10 % cheapest to the 10 % dearest. Tick: the median."
    return chart(
        "Prices by product group",
        alt.layer(wide, middle, median),
        caption,
        wide=True,
        height=max(100, ROW_HEIGHT * len(groups) + 12),
    )
