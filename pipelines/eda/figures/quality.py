"""Data quality: what ingest kept and rejected, the gates, what the tables leave open."""

from collections.abc import Mapping
from typing import Any

from pipelines.report.blocks import Badge, Block, Cell, Table, Text
from pipelines.report.numbers import MISSING, count, decimal, percent


def quality_blocks(
    quality: Mapping[str, Any], raw_facts: Mapping[str, Any], figures: Mapping[str, float | int | str | None]
) -> list[Block]:
    return [_rows(raw_facts, figures), _gates(quality)]


def _rows(raw_facts: Mapping[str, Any], figures: Mapping[str, float | int | str | None]) -> Block:
    rejected, repaired = raw_facts.get("n_rejected"), raw_facts.get("n_repaired")
    total = figures["n_transactions"]
    by_rule = sorted(raw_facts.get("rejected_by_rule", {}).items())
    rejections: list[list[Cell]] = [[f"· {rule}", count(n), _share(n, total)] for rule, n in by_rule if n]
    rows: list[list[Cell]] = [
        ["purchases kept", count(_number(total)), ""],
        ["rows in quarantine", count(rejected), _share(rejected, total)],
        *rejections,
        ["rows repaired", count(repaired), _share(repaired, total)],
        [
            "customers without a row of their own",
            count(_number(figures["n_customers_without_row"])),
            _share(figures["n_customers_without_row"], figures["n_customers"]),
        ],
        ["customers of unknown age", "", percent(1 - float(figures["share_age_known"] or 0))],
        [
            "articles never sold",
            count(_number(figures["n_articles"]) - _number(figures["n_articles_sold"])),
            _share(_number(figures["n_articles"]) - _number(figures["n_articles_sold"]), figures["n_articles"]),
        ],
    ]
    return Table(["what", "number", "share"], rows, title="Rows and gaps", numeric=frozenset({1, 2}))


def _gates(quality: Mapping[str, Any]) -> Block:
    gates = quality.get("gates", [])
    if not gates:
        return Text("No quality gates were recorded for these data.", "note")
    rows: list[list[Cell]] = [
        [
            str(gate["gate"]).replace("_", " "),
            _result(gate),
            _value(gate.get("value")),
            _value(gate.get("threshold")),
            str(gate.get("message") or ""),
        ]
        for gate in gates
    ]
    return Table(["gate", "result", "value", "limit", "in words"], rows, title="Gates", numeric=frozenset({2, 3}))


def _result(gate: Mapping[str, Any]) -> Badge:
    if not gate["passed"]:
        return Badge("failed", "bad")
    level = str(gate.get("level", "ok"))
    return Badge("passed", "good") if level == "ok" else Badge(level, "warning")


def _value(value: Any) -> str:
    if value is None:
        return MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return count(value)
    return decimal(value) if isinstance(value, float) else str(value)


def _number(value: float | int | str | None) -> float:
    return float(value or 0)


def _share(part: float | int | str | None, whole: float | int | str | None) -> str:
    return percent(_number(part) / _number(whole), 2) if part is not None and _number(whole) else MISSING
