"""Basket sizes, time between visits, repurchase."""

import altair as alt
import pandas as pd

from pipelines.eda.figures.drawing import (
    COUNT,
    DATE,
    PERCENT,
    chart,
    columns,
    count_axis,
    days_axis,
    percent_axis,
)
from pipelines.eda.statistics import Statistics
from pipelines.report.blocks import Block, Text


def baskets(statistics: Statistics) -> list[Block]:
    """Basket sizes, time between visits, repurchase."""
    tables = statistics.tables
    blocks: list[Block] = [
        chart(
            "Articles in a basket",
            columns(
                tables["basket_sizes"],
                category="items",
                value="share",
                category_title="articles bought on one day by one customer",
                value_title="share of baskets",
                tooltips=[
                    alt.Tooltip("items:N"),
                    alt.Tooltip("n_baskets:Q", format=COUNT, title="baskets"),
                    alt.Tooltip("share:Q", format=PERCENT),
                ],
            ),
            "A basket is what one customer bought on one day.",
        )
    ]
    gaps = tables["visit_gaps"]
    if gaps["n_visits"].sum() >= 20:
        drawing = columns(
            gaps,
            category="days",
            value="share",
            category_title="time since the visit before",
            value_title="share of visits",
            tooltips=[
                alt.Tooltip("days:N", title="after"),
                alt.Tooltip("n_visits:Q", format=COUNT, title="visits"),
                alt.Tooltip("share:Q", format=PERCENT),
            ],
        )
        blocks.append(
            chart("Time between visits", drawing, "Days on which the same customer bought, one after the other.")
        )
    repurchases = tables["repurchase_gaps"]
    if repurchases["n_repurchases"].sum() >= 20:
        blocks.append(_repurchase(repurchases))
    weekly = tables["weekly"]
    weekly = weekly[weekly["is_whole"] & weekly["share_repeat"].notna()]
    if len(weekly) >= 3:
        blocks.append(_repeats(weekly))
    if len(blocks) == 1:
        blocks.append(Text("Too few customers came back to show when they do.", "note"))
    return blocks


def _repurchase(frame: pd.DataFrame) -> Block:
    drawing = (
        alt.Chart(frame)
        .mark_bar(style="main-bar")
        .encode(
            x=alt.X(
                "label:N",
                sort=frame["label"].tolist(),
                title="weeks until the same article is bought again",
                axis=alt.Axis(labelAngle=0, values=["1", "5", "10", "15", "20", "27+"], labelOverlap=False),
            ),
            y=count_axis("n_repurchases", "repurchases"),
            tooltip=[
                alt.Tooltip("label:N", title="week"),
                alt.Tooltip("n_repurchases:Q", format=COUNT, title="repurchases"),
                alt.Tooltip("cumulated_share:Q", format=PERCENT, title="up to here"),
            ],
        )
    )
    return chart(
        "Repurchase interval",
        drawing,
        "Same customer, same article, a later day. Very early ones are often another size.",
    )


def _repeats(weekly: pd.DataFrame) -> Block:
    names = {"share_product_repeat": "same product, any colour", "share_repeat": "same article"}
    long = weekly[["week_start", *names]].melt("week_start", var_name="column", value_name="share")
    long["what"] = long["column"].map(names)
    drawing = (
        alt.Chart(long)
        .mark_line()
        .encode(
            x=days_axis(weekly["week_start"]),
            y=percent_axis("share", "share of purchases"),
            color=alt.Color("what:N", sort=list(names.values()), title=None),
            tooltip=[
                alt.Tooltip("week_start:T", format=DATE, title="week from"),
                alt.Tooltip("what:N"),
                alt.Tooltip("share:Q", format=PERCENT),
            ],
        )
    )
    return chart(
        "Bought before by the same customer",
        drawing,
        "What a repurchase rule can hope for, week by week; it grows with the history seen.",
    )
