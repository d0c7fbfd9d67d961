"""What a new bundle changes for 50 customers who are the same every night."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import altair as alt

from pipelines.report.blocks import Block, Cell, Chart, Fold, Stack, Table, Text
from pipelines.report.numbers import count, plural

ANSWERS = 12
HEIGHT = 220


def changes_intro(document: Mapping[str, Any]) -> str:
    """Say who is compared, and how much stays."""
    changes = document.get("changes") or {}
    customers = changes.get("customers", [])
    if not customers:
        return ""
    kept = sum(one["overlap"] for one in customers) / len(customers)
    same = sum(one["overlap"] == ANSWERS for one in customers)
    return (
        f"The same {plural(len(customers), 'customer')} every night, chosen by the hash of their id among those with a "
        f"purchase: what champion {changes['since']} answers beside what this bundle answers. Of {ANSWERS} articles "
        f"{kept:.1f} stay on average; for {plural(same, 'customer')} all of them."
    )


def change_blocks(document: Mapping[str, Any]) -> list[Block]:
    """Draw how many answers stay, and fold away which ones go and come; nothing without a champion."""
    changes = document.get("changes") or {}
    if changes.get("error"):
        return [Text(f"Champion {changes.get('since')} could not be asked: {changes['error']}.", "warning")]
    customers = changes.get("customers", [])
    if not customers:
        return []
    if all(one["before"] == one["after"] for one in customers):
        return [Text("Both answer them alike, article by article and in the same order.", "note")]
    rows: list[list[Cell]] = [_row(one) for one in sorted(customers, key=lambda one: one["overlap"])]
    table = Table(
        ["customer", "newly recommended"],
        rows,
        caption="Customers with the most changes first; articles in the order of the answers.",
    )
    least = min(one["overlap"] for one in customers)
    note = f"{count(least)} to {count(max(one['overlap'] for one in customers))} of {ANSWERS} stay"
    return [_distribution(customers), Fold("Customer by customer", [table], note)]


def _row(one: Mapping[str, Any]) -> list[Cell]:
    before, after = ({article["article_id"] for article in one[side]} for side in ("before", "after"))
    gone = [article for article in one["before"] if article["article_id"] not in after]
    new = [article for article in one["after"] if article["article_id"] not in before]
    return [
        Stack(one["customer"], f"{one['overlap']} of {ANSWERS} stay"),
        Stack(_names(new), f"instead of {_names(gone)}") if new or gone else "nothing changes",
    ]


def _names(articles: list[Mapping[str, Any]]) -> str:
    return ", ".join(_name(article) for article in articles) or "none"


def _name(article: Mapping[str, Any]) -> str:
    name = str(article.get("name") or article.get("product_type") or article["article_id"])
    return f"{name} ({article['colour']})" if article.get("colour") else name


def _distribution(customers: list[Mapping[str, Any]]) -> Chart:
    rows = [
        {"overlap": overlap, "n": sum(one["overlap"] == overlap for one in customers)} for overlap in range(ANSWERS + 1)
    ]
    drawing = (
        alt.Chart(alt.InlineData(values=rows))
        .mark_bar()
        .encode(
            x=alt.X("overlap:O", title=f"articles of {ANSWERS} that stay", axis=alt.Axis(labelAngle=0)),
            y=alt.Y("n:Q", title="customers", axis=alt.Axis(tickMinStep=1, tickCount=5, format="d")),
            tooltip=[alt.Tooltip("overlap:O", title="stay"), alt.Tooltip("n:Q", title="customers")],
        )
    )
    spec = drawing.properties(width="container", height=HEIGHT).to_dict(validate=False)
    return Chart("How much of each answer stays", spec, "12: nothing changes; 0: nothing stays.", wide=True)
