"""Customers: recency, activity, age, membership."""

import altair as alt
import pandas as pd

from pipelines.eda.bins import UNKNOWN
from pipelines.eda.figures.drawing import (
    COUNT,
    PERCENT,
    chart,
    columns,
    labels_axis,
    paired_columns,
)
from pipelines.eda.statistics import Statistics, records
from pipelines.report.blocks import Block, Table, Text
from pipelines.report.numbers import count, percent

ATTRIBUTE_TITLES = {"club_member_status": "club member status", "fashion_news_frequency": "fashion news"}


def customers(statistics: Statistics) -> list[Block]:
    """Age, channel, membership, recency and how much each buys."""
    blocks: list[Block] = [_recency(statistics), _purchases(statistics)]
    ages = statistics.tables["ages"]
    known = ages[ages["age"] != UNKNOWN]
    if known["n_customers"].sum():
        blocks += [_ages(ages), *_by_age(statistics)]
    else:
        blocks.append(Text("No customer's age is known, so there is nothing to show by age.", "note"))
    memberships = _memberships(statistics.tables["memberships"])
    return [*blocks, memberships] if memberships else blocks


def _recency(statistics: Statistics) -> Block:
    frame = statistics.tables["recency"]
    drawing = columns(
        frame,
        category="last_purchase",
        value="share",
        category_title="last purchase before the cutoff",
        value_title="share of customers",
        tooltips=[
            alt.Tooltip("last_purchase:N", title="last purchase"),
            alt.Tooltip("n_customers:Q", format=COUNT, title="customers"),
            alt.Tooltip("share:Q", format=PERCENT),
            alt.Tooltip("cumulated_share:Q", format=PERCENT, title="up to here"),
        ],
    )
    return chart("How long customers have been away", drawing, "Days between the last purchase and the cutoff.")


def _purchases(statistics: Statistics) -> Block:
    frame = statistics.tables["purchases_per_customer"].copy()
    frame["customers"] = frame["n_customers"] / max(1, frame["n_customers"].sum())
    frame["purchases_share"] = frame["n_transactions"] / max(1, frame["n_transactions"].sum())
    used = frame[frame["n_customers"] > 0]
    frame = frame.loc[: used.index.max()] if len(used) else frame
    drawing = paired_columns(
        frame,
        category="purchases",
        category_title="purchases in the whole time",
        value_title="share",
        names={"customers": "of customers", "purchases_share": "of purchases"},
    )
    top = percent(statistics.number("share_sales_of_top_10_percent_customers"))
    return chart("How much customers buy", drawing, f"The most active tenth makes {top} of all purchases.")


def _ages(ages: pd.DataFrame) -> Block:
    frame = ages[ages["n_customers"] > 0].copy()
    frame["customers"] = frame["n_customers"] / max(1, frame["n_customers"].sum())
    frame["purchases"] = frame["n_transactions"] / max(1, frame["n_transactions"].sum())
    frame = _unknown_last(frame)
    drawing = paired_columns(
        frame,
        category="age",
        category_title="age",
        value_title="share",
        names={"customers": "of customers", "purchases": "of purchases"},
    )
    return chart("Age", drawing, "Where the second column is taller, the age buys more than its share.")


def _by_age(statistics: Statistics) -> list[Block]:
    blocks: list[Block] = []
    channels = statistics.tables["age_channel"]
    online = channels[channels["channel"] == "Online"].dropna(subset=["share"])
    if statistics.figures["n_channels"] == 2 and len(online):
        online = _unknown_last(online)
        drawing = columns(
            online,
            category="age",
            value="share",
            category_title="age",
            value_title="bought online",
            tooltips=[
                alt.Tooltip("age:N"),
                alt.Tooltip("share:Q", format=PERCENT, title="bought online"),
                alt.Tooltip("n_transactions:Q", format=COUNT, title="purchases online"),
            ],
        )
        blocks.append(
            chart("Channel by age", drawing, "Share of an age's purchases that were made online; the rest in stores.")
        )
    groups = statistics.tables["age_index_group"].dropna(subset=["share"])
    if groups["index_group"].nunique() >= 2:
        order = (
            groups.groupby("index_group")["n_transactions"]
            .sum()
            .sort_values(ascending=False, kind="stable")
            .index.tolist()
        )
        ages = _unknown_last(groups.drop_duplicates("age"))["age"].tolist()
        drawing = (
            alt.Chart(groups)
            .mark_bar()
            .encode(
                x=alt.X("age:N", sort=ages, title="age", axis=labels_axis(pd.Series(ages))),
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
                    alt.Tooltip("age:N"),
                    alt.Tooltip("index_group:N", title="index group"),
                    alt.Tooltip("share:Q", format=PERCENT),
                    alt.Tooltip("n_transactions:Q", format=COUNT, title="purchases"),
                ],
            )
            .transform_calculate(rank=f"indexof({order!r}, datum.index_group)")
        )
        blocks.append(chart("What each age buys", drawing, "Share of an age's purchases by index group."))
    return blocks


def _unknown_last(frame: pd.DataFrame) -> pd.DataFrame:
    return pd.concat([frame[frame["age"] != UNKNOWN], frame[frame["age"] == UNKNOWN]])


def _memberships(frame: pd.DataFrame) -> Table | None:
    if frame.empty:
        return None
    n_customers = frame.groupby("attribute")["n_customers"].transform("sum")
    n_transactions = frame.groupby("attribute")["n_transactions"].transform("sum")
    rows = [
        [
            ATTRIBUTE_TITLES.get(str(row.attribute), str(row.attribute)),
            str(row.value),
            count(row.n_customers),
            percent(row.n_customers / max(1, customers_)),
            percent(row.n_transactions / max(1, transactions_)),
        ]
        for row, customers_, transactions_ in zip(records(frame), n_customers, n_transactions, strict=True)
    ]
    return Table(
        ["attribute", "value", "customers", "of customers", "of purchases"],
        rows,
        title="Membership and news",
        numeric=frozenset({2, 3, 4}),
    )
