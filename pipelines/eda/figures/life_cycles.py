"""How long articles live, and what of the label window can be reached."""

import altair as alt
import pandas as pd

from pipelines.eda.figures.drawing import (
    COUNT,
    PERCENT,
    ROW_HEIGHT,
    chart,
    columns,
    paired_columns,
    percent_axis,
    share_bars,
)
from pipelines.eda.statistics import Statistics, records
from pipelines.report.blocks import Block, Text
from pipelines.report.numbers import count, percent, plural


def life_cycles(statistics: Statistics) -> list[Block]:
    blocks: list[Block] = []
    curve = statistics.tables["life_curve"]
    if len(curve) and curve["n_transactions"].sum() >= 50:
        tooltips = [
            alt.Tooltip("week:O", title="week since launch"),
            alt.Tooltip("share:Q", format=PERCENT, title="sold in the week"),
            alt.Tooltip("cumulated_share:Q", format=PERCENT, title="sold by then"),
        ]
        x = alt.X(
            "week:Q",
            title="week since the first sale",
            axis=alt.Axis(tickCount=8, format="d"),
            scale=alt.Scale(domain=[1, len(curve)], nice=False),
        )
        base = alt.Chart(curve)
        line = base.mark_line(style="main-line", point={"size": 28, "filled": True}).encode(
            x=x,
            y=percent_axis("cumulated_share", "share of half-year sales", scale=alt.Scale(domain=[0, 1])),
            tooltip=tooltips,
        )
        half = (
            alt.Chart(pd.DataFrame({"y": [0.5]}))
            .mark_rule(style="context-rule")
            .encode(y="y:Q", tooltip=alt.value(None))
        )
        caption = (
            "Sales of the first 26 weeks made by each week; articles launched within the data, sold ten times or more."
        )
        blocks.append(chart("How fast an article sells out its life", alt.layer(half, line), caption))
    lifetimes = statistics.tables["lifetimes"].copy()
    total = int(lifetimes["n_articles"].sum())
    if total >= 20:
        lifetimes["share"] = lifetimes["n_articles"] / total
        drawing = columns(
            lifetimes,
            category="weeks",
            value="share",
            category_title="weeks from first to last sale",
            value_title="share of articles",
            tooltips=[
                alt.Tooltip("weeks:N"),
                alt.Tooltip("n_articles:Q", format=COUNT, title="articles"),
                alt.Tooltip("share:Q", format=PERCENT),
            ],
        )
        blocks.append(
            chart(
                "How long articles sell",
                drawing,
                f"{count(total)} articles that came and went within the data and sold at least twice.",
            )
        )
    ages = statistics.tables["article_ages"]
    if ages["n_transactions"].sum() and int(statistics.figures["n_days"] or 0) >= 56:
        drawing = paired_columns(
            ages,
            category="age",
            category_title="weeks since the article's first sale",
            value_title="share",
            names={"share_of_articles": "of articles, at the end", "share_of_sales": "of sales, when sold"},
        )
        blocks.append(
            chart(
                "New or old: what sells now",
                drawing,
                "The last four weeks of the data. Articles are counted at their age on the last day, sales at the age "
                "of the article on the day of the sale: what was launched three weeks ago sold in its first week, too.",
            )
        )
    reach = statistics.tables["reach"].copy()
    if int(statistics.figures["n_label_rows"] or 0):
        reach["written"] = [
            f"{percent(row.share_of_label_sales)} · {plural(row.n_articles, 'article')}" for row in records(reach)
        ]
        tooltips = [
            alt.Tooltip("articles:N"),
            alt.Tooltip("n_articles:Q", format=COUNT, title="articles"),
            alt.Tooltip("share_of_label_sales:Q", format=PERCENT, title="of label purchases"),
        ]
        bars = share_bars(
            reach,
            category="articles",
            value="share_of_label_sales",
            written="written",
            value_title="share of the label window's purchases",
            tooltips=tooltips,
            room_for_words=1.8,
        )
        blocks.append(
            chart(
                "What a recommender can reach",
                bars,
                "Label purchases whose article sold shortly before the cutoff: a ceiling for whoever ranks only these.",
                height=ROW_HEIGHT * len(reach) + 40,
            )
        )
    return blocks or [Text("The data are too short to see an article's life.", "note")]
