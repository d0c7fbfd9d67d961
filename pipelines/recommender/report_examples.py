"""Customers' histories beside the answers that they get."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.report.blocks import Badge, Block, Cell, Fold, Stack, Table, Text
from pipelines.report.numbers import plural

MARKS: Mapping[str, Badge] = {
    "repurchase": Badge("bought before", "note"),
    "variant": Badge("variant", "good"),
}


def examples_intro(document: Mapping[str, Any]) -> str:
    """Count what the answers shown are to their customers."""
    marks = Counter(mark for one in document.get("examples", []) for mark in one.get("marks", []))
    if not marks.total():
        return ""
    return (
        "What the model as shipped answers on the day after its last, for customers from short to long histories; what "
        f"they buy next, nobody knows yet. Of these {plural(marks.total(), 'answer')} {marks['repurchase']} were "
        f"bought before, {marks['variant']} are variants of a product bought before, in another colour or cut, and "
        f"{marks[None]} are new to the customer."
    )


def example_blocks(document: Mapping[str, Any]) -> list[Block]:
    """Set each customer's newest purchases beside the answers; the second is unfolded."""
    examples = document.get("examples", [])
    folds = [
        Fold(
            f"Customer {one['customer']}",
            [_history(one), _answers(one)],
            _summary(one),
            is_open=number == min(1, len(examples) - 1),
        )
        for number, one in enumerate(examples)
    ]
    return [*folds] or [Text("The run wrote no examples.", "note")]


def _summary(one: Mapping[str, Any]) -> str:
    marks = Counter(one.get("marks", []))
    variants = "variant" if marks["variant"] == 1 else "variants"
    parts = (("bought before", "repurchase"), (variants, "variant"), ("new", None))
    answers = ", ".join(f"{marks[mark]} {words}" for words, mark in parts if marks[mark])
    return f"{plural(_n_purchases(one), 'purchase')}; answers: {answers}" if answers else ""


def _n_purchases(one: Mapping[str, Any]) -> int:
    return int(one.get("n_purchases") or len(one["history"]))


def _history(one: Mapping[str, Any]) -> Table:
    times = Counter(article["article_id"] for article in one["history"])
    newest = {article["article_id"]: article for article in reversed(one["history"])}
    rows: list[list[Cell]] = [[_article(newest[one_id], times[one_id]), one_id] for one_id in times]
    shown, known = len(one["history"]), _n_purchases(one)
    caption = "Newest first." if rows else "Nothing yet."
    if shown < known:
        caption = f"The newest {shown} of {plural(known, 'purchase')}."
    return Table(["article", "article id"], rows, "Bought", caption, half=True)


def _answers(one: Mapping[str, Any]) -> Table:
    marks: Sequence[str | None] = one.get("marks") or [None] * len(one["recommended"])
    rows: list[list[Cell]] = [
        [str(rank), _article(article), article["article_id"], MARKS.get(mark or "", "")]
        for rank, (article, mark) in enumerate(zip(one["recommended"], marks, strict=True), start=1)
    ]
    columns = ["", "article", "article id", "mark"]
    return Table(columns, rows, "Recommended", "Best first.", frozenset({0}), half=True)


def _article(article: Mapping[str, Any], times: int = 1) -> Stack:
    described = [str(article[key]) for key in ("product_type", "colour") if article.get(key)]
    name = str(article.get("name") or (described[0] if described else "without a name"))
    return Stack(name + (f" ×{times}" if times > 1 else ""), " · ".join(described))
