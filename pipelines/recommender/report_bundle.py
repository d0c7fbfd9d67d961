"""The bundle itself: what it is made of, what it was certified for, and what an answer of it costs."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any

from pipelines.recommender.report_words import finite, metric
from pipelines.report.blocks import Block, Cell, Stack, Table, Text
from pipelines.report.numbers import MISSING, count, day, decimal, percent, plural

CERTIFIED: Mapping[str, tuple[str, str]] = {
    "n_customers": ("customers asked", "of the model that ships, from the shortest history to the longest"),
    "top_12_overlap": ("articles in common", "of the first 12, served and from torch"),
    "largest_score_gap": ("largest difference in a score", "rounding makes about 0.000001"),
    "map_at_12_served": (
        "map_at_12, served",
        "what the serving engine answers the label week's buyers; the evaluation rounds features to 16 bits, and may "
        "differ a little",
    ),
    "map_at_12_torch": ("map_at_12, torch", "the same customers, asked of the model before its export"),
    "n_label_customers": ("buyers asked for it", "of the label week"),
}
COSTS: Mapping[str, tuple[str, str]] = {
    "ms_per_answer": ("median of an answer", "in milliseconds, one customer at a time"),
    "ms_per_answer_p99": ("99 of 100 are faster", "in milliseconds"),
    "rss_mib": ("memory of the process", "in MiB, with one thread"),
    "bundle_mib": ("the bundle's files", "in MiB, mapped into memory where they are read"),
}
QUANTISED = (
    "The graph ships in 32-bit floats, and no quantised one is made: nearly all of it are tables of the day, which are "
    "looked up and not multiplied (docs/adr/0011)."
)


def bundle_blocks(document: Mapping[str, Any]) -> list[Block]:
    """Tables of facts, parameters, certificate and cost."""
    bundle = document["bundle"]
    parameters: list[list[Cell]] = [
        [name, written(name, value)] for name, value in sorted(bundle.get("parameters", {}).items())
    ]
    blocks: list[Block] = [Table(["fact", "value"], _facts(bundle), "What it is", half=bool(parameters))]
    if parameters:
        caption = "The hyperparameters of this run."
        blocks.append(Table(["parameter", "value"], parameters, "Parameters", caption, frozenset({1}), half=True))
    parity = bundle.get("parity") or {}
    if not parity:
        blocks.append(Text("The bundle carries no parity certificate, and no server takes it.", "warning"))
        return blocks
    cost = document.get("serving_cost") or {}
    has_cost = any(name in cost for name in COSTS)
    blocks.append(
        Table(
            ["certificate", "value"], _rows(CERTIFIED, parity), "Certificate", QUANTISED, frozenset({1}), half=has_cost
        )
    )
    if has_cost:
        caption = f"On the machine of this run, {count(cost.get('n_requests'))} answers in a process of its own."
        blocks.append(
            Table(["cost", "value"], _rows(COSTS, cost), "What an answer costs", caption, frozenset({1}), half=True)
        )
    elif cost.get("error"):
        blocks.append(Text(f"What an answer costs could not be measured: {cost['error']}.", "warning"))
    return blocks


def _facts(bundle: Mapping[str, Any]) -> list[list[Cell]]:
    size_bytes = sum(record["size_bytes"] for record in bundle.get("files", {}).values())
    facts: list[list[Cell]] = [
        ["version", str(bundle["version"])],
        ["evaluated from", Stack(_day(bundle["cutoff_date"]), "first day that the evaluated model had not seen")],
        ["trained through", Stack(_day(bundle["trained_through"]), "last day that the model as shipped has seen")],
        ["parent", str(bundle.get("parent") or "none, the first of its line")],
        ["git commit", str(bundle.get("git_commit") or "unknown")[:12]],
        ["articles", f"{count(bundle['n_articles'])}, of them {count(bundle['n_live'])} live"],
        ["customers", count(bundle["n_customers"])],
        ["size", f"{size_bytes / 1e6:,.1f} MB in {plural(len(bundle.get('files', {})), 'file')}"],
    ]
    source = bundle.get("source") or {}
    if source:
        files = source.get("files", {})
        facts.append(["source", str(source.get("uri"))])
        facts += [
            [
                f"· {name}",
                Stack(str(file.get("sha256") or file.get("etag") or MISSING)[:12], "hash of the file as read"),
            ]
            for name, file in sorted(files.items())
        ]
    facts += [[f"made from {name}", str(value)[:12]] for name, value in sorted(bundle.get("inputs", {}).items())]
    return facts


def _rows(names: Mapping[str, tuple[str, str]], values: Mapping[str, Any]) -> list[list[Cell]]:
    return [
        [Stack(words, note), metric(name, values[name]) if name.startswith("map") else written(name, values[name])]
        for name, (words, note) in names.items()
        if name in values
    ]


def written(name: str, value: Any) -> str:
    """Write a fact by its kind."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    number = finite(value)
    if number is None:
        return MISSING if value is None else str(value)
    if name.endswith(("overlap", "share")):
        return percent(number)
    return count(number) if number == int(number) else decimal(number)


def _day(text: str) -> str:
    return day(date.fromisoformat(text))
