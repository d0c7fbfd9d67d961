"""What each group of signals adds to the ranker, drawn and in figures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipelines.recommender.report_figures import forest
from pipelines.recommender.report_words import comparison, finite, metric, signed
from pipelines.report.blocks import Block, Cell, Stack, Table
from pipelines.report.numbers import plural

WEEKS = {"validation": "validation weeks", "label_week": "label week"}


def ablation_intro(document: Mapping[str, Any]) -> str:
    """Say what was done, and on whom."""
    table = document.get("ablation") or {}
    if not table.get("groups"):
        return ""
    n, held = table["n_training_customers"], table["n_customers"]
    return (
        f"The ranker is fitted anew without each group, on the same {plural(n, 'customer-week')} with "
        f"{table['n_training_candidates']} candidates each and for as many epochs, while retrieval stays. It is a "
        "smaller fit than the one that is judged above, so that its map_at_12 differs. Positive: the group helps. "
        "Signals that say the same stand in for each other, so that gains do not add up. Drawn are "
        f"{plural(held['validation'], 'customer-week')} of validation, with the label week in the table: figures to "
        "read, nothing is left out by them. Intervals hold the chance in who bought, not that of the fit."
    )


def ablation_blocks(document: Mapping[str, Any]) -> list[Block]:
    """Draw the gains on the validation weeks, with those of the label week beside them in a table."""
    table = document.get("ablation") or {}
    groups = sorted(table.get("groups", []), key=lambda row: (-_mean(row, "validation"), row["signal"]))
    if not groups:
        return []
    found = [comparison(row["signal"], row["gain"].get("validation")) for row in groups]
    whole = table["map_at_12"].get("validation")
    caption = f"Gain in map_at_12 on the validation weeks, where the whole ranker has {metric('map_at_12', whole)}."
    rows: list[list[Cell]] = [
        [Stack(row["signal"], plural(row["n_features"], "feature")), *(_gain(row, week) for week in WEEKS)]
        for row in groups
    ]
    measured = ", ".join(
        f"{words} {metric('map_at_12', value)} over {plural(table['n_customers'][week], 'customer-week')}"
        for week, words in WEEKS.items()
        if (value := table["map_at_12"].get(week)) is not None
    )
    return [
        *forest([one for one in found if one], "What each signal adds", caption),
        Table(
            ["signal", *WEEKS.values()],
            rows,
            "Gain of each group",
            f"Below each gain: its 95 % interval. map_at_12 of the whole ranker: {measured}.",
            frozenset(range(1, len(WEEKS) + 1)),
        ),
    ]


def _mean(row: Mapping[str, Any], week: str) -> float:
    return finite(row["gain"].get(week, {}).get("mean")) or 0.0


def _gain(row: Mapping[str, Any], week: str) -> Stack:
    gain = row["gain"].get(week, {})
    return Stack(signed(gain.get("mean")), f"{signed(gain.get('low'))} to {signed(gain.get('high'))}")
