"""Categories and the long tail."""

import datetime as dt

import altair as alt
import pandas as pd

from pipelines.eda.dataset import Calendar
from pipelines.eda.figures.drawing import (
    COUNT,
    DATE,
    PERCENT,
    ROW_HEIGHT,
    chart,
    count_axis,
    cutoff_layers,
    days_axis,
    paired_columns,
    percent_axis,
    share_axis,
)
from pipelines.eda.findings.assortment import MIN_ARTICLES
from pipelines.eda.statistics import Statistics, records
from pipelines.report.blocks import Block, Table, Text
from pipelines.report.numbers import count, day, decimal, percent

ATTRIBUTE_TITLES = {
    "product_group": "Product groups",
    "product_type": "Product types",
    "index_group": "Index groups",
    "garment_group": "Garment groups",
    "section": "Sections",
    "colour_group": "Colours",
}


N_BARS = 10


def categories(statistics: Statistics) -> list[Block]:
    """Share of purchases per value, the last four weeks beside the whole time."""
    table = statistics.tables["categories"]
    blocks: list[Block] = []
    missing = [title.lower() for name, title in ATTRIBUTE_TITLES.items() if name not in set(table["attribute"])]
    for name, title in ATTRIBUTE_TITLES.items():
        frame = table[table["attribute"] == name].head(N_BARS)
        if len(frame):
            blocks.append(_category(frame, title))
    if missing:
        blocks.append(Text(f"The articles table does not say: {', '.join(missing)}.", "note"))
    return blocks


def _category(frame: pd.DataFrame, title: str) -> Block:
    frame = frame.assign(written=[f"{100 * row.share:.1f} → {percent(row.share_recent)}" for row in records(frame)])
    tooltips = [
        alt.Tooltip("value:N", title=title.rstrip("s").lower()),
        alt.Tooltip("share:Q", format=PERCENT, title="share, whole time"),
        alt.Tooltip("share_recent:Q", format=PERCENT, title="share, last 4 weeks"),
        alt.Tooltip("n_transactions:Q", format=COUNT, title="purchases"),
        alt.Tooltip("n_articles_sold:Q", format=COUNT, title="articles sold"),
        alt.Tooltip("n_articles:Q", format=COUNT, title="articles listed"),
    ]
    room = max(float(frame["share"].max()), float(frame["share_recent"].max())) * 1.9 or 1.0
    y = alt.Y("value:N", sort=frame["value"].tolist(), title=None)
    x = alt.X(
        "share:Q",
        title="share of purchases",
        scale=alt.Scale(domain=[0, room], nice=False),
        axis=share_axis(),
    )
    base = alt.Chart(frame)
    bars = base.mark_bar(style="main-bar", size=15).encode(y=y, x=x, tooltip=tooltips)
    # The mark of recent weeks may lie beyond the bar: the number stands behind both.
    words = (
        base.mark_text(style="value-text", align="left", dx=6)
        .encode(y=y, x=alt.X("edge:Q"), text="written:N")
        .transform_calculate(edge="max(datum.share, datum.share_recent)")
    )
    recent = base.mark_tick(style="now-tick", height=ROW_HEIGHT * 0.75).encode(
        y=y, x="share_recent:Q", tooltip=tooltips
    )
    caption = "Bar: whole time. Tick: the four weeks before the cutoff. Numbers: from the one to the other."
    return chart(title, alt.layer(bars, recent, words), caption, height=ROW_HEIGHT * N_BARS)


def long_tail(statistics: Statistics) -> list[Block]:
    calendar = Calendar.from_split(statistics.split)
    return [
        _concentration(statistics),
        _times_sold(statistics),
        *_on_sale(statistics, calendar),
        _top_articles(statistics),
    ]


def _concentration(statistics: Statistics) -> Block:
    frame = statistics.tables["concentration"]
    tooltips = [
        alt.Tooltip("share_of_articles:Q", format=PERCENT, title="best-selling articles"),
        alt.Tooltip("share_of_sales:Q", format=PERCENT, title="make of all sales"),
    ]
    x = alt.X(
        "share_of_articles:Q",
        title="share of articles sold, best-sellers first",
        axis=alt.Axis(format="~%", tickCount=5),
    )
    y = percent_axis("share_of_sales", "share of sales")
    line = alt.Chart(frame).mark_line(style="main-line").encode(x=x, y=y, tooltip=tooltips)
    layers = [line]
    if statistics.number("n_articles_sold") >= MIN_ARTICLES:
        marks = pd.DataFrame({"share_of_articles": [0.01, 0.1]})
        marks["share_of_sales"] = [statistics.number(f"share_sales_of_top_{n}_percent") for n in (1, 10)]
        marks["text"] = [
            f"{percent(row.share_of_articles, 0)} of articles: {percent(row.share_of_sales)}" for row in records(marks)
        ]
        base = alt.Chart(marks).encode(x="share_of_articles:Q", y="share_of_sales:Q")
        layers.append(base.mark_point(style="main", filled=True, size=60).encode(tooltip=tooltips))
        layers.append(base.mark_text(style="note-text", align="left", dx=9, dy=6).encode(text="text:N"))
    caption = "Were all articles sold alike, this would be a straight line."
    return chart("How much the best-sellers carry", alt.layer(*layers), caption)


def _times_sold(statistics: Statistics) -> Block:
    frame = statistics.tables["sold_per_article"]
    used = frame[(frame["n_articles"] > 0)]
    frame = frame.loc[: used.index.max()].copy() if len(used) else frame
    frame["articles"] = frame["n_articles"] / max(1, frame["n_articles"].sum())
    frame["sales"] = frame["n_transactions"] / max(1, frame["n_transactions"].sum())
    drawing = paired_columns(
        frame,
        category="times_sold",
        category_title="times sold",
        value_title="share",
        names={"articles": "of listed articles", "sales": "of sales"},
    )
    return chart("Articles by times sold", drawing, "From never sold to best-seller, over the whole time.")


def _on_sale(statistics: Statistics, calendar: Calendar) -> list[Block]:
    weekly = statistics.tables["weekly"]
    weekly = weekly[weekly["is_whole"]]
    if len(weekly) < 3:
        return []
    names = {"n_articles": "sold in the week", "n_new_articles": "sold for the first time"}
    long = weekly[["week_start", *names]].melt("week_start", var_name="column", value_name="n")
    long["what"] = long["column"].map(names)
    lines = (
        alt.Chart(long)
        .mark_line()
        .encode(
            x=days_axis(weekly["week_start"], ticks=8),
            y=count_axis("n", "articles"),
            color=alt.Color("what:N", sort=list(names.values()), title=None),
            tooltip=[
                alt.Tooltip("week_start:T", format=DATE, title="week from"),
                alt.Tooltip("what:N"),
                alt.Tooltip("n:Q", format=COUNT, title="articles"),
            ],
        )
    )
    drawing = alt.layer(lines, *cutoff_layers(calendar.cutoff_date))
    return [
        chart(
            "Articles on sale, by week",
            drawing,
            "Everything is sold for the first time when the data begin.",
            wide=True,
        )
    ]


def _top_articles(statistics: Statistics) -> Block:
    frame = statistics.tables["top_articles"]
    rows = [
        [
            str(row.article_id),
            str(row.prod_name or "–"),
            str(row.product_type or "–"),
            str(row.colour_group or "–"),
            count(row.n_recent),
            count(row.n_transactions),
            count(row.n_customers),
            decimal(row.mean_price),
            day(dt.date.fromisoformat(str(row.first_sold))),
        ]
        for row in records(frame.fillna("–"))
    ]
    if not rows:
        return Text("Nothing was sold in the four weeks before the cutoff.", "warning")
    return Table(
        ["article", "name", "type", "colour", "last 4 weeks", "whole time", "customers", "mean price", "first sold"],
        rows,
        title="Best-sellers of the four weeks before the cutoff",
        numeric=frozenset({4, 5, 6, 7}),
    )
