"""The training report: the verdict, what it rests on, and what the model answers; from metrics.json alone."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any

from markupsafe import Markup

from pipelines.recommender.report_ablation import ablation_blocks, ablation_intro
from pipelines.recommender.report_bundle import bundle_blocks
from pipelines.recommender.report_changes import change_blocks, changes_intro
from pipelines.recommender.report_examples import example_blocks, examples_intro
from pipelines.recommender.report_figures import learning_curves, rivals_forest, weeks
from pipelines.recommender.report_slices import slices
from pipelines.recommender.report_words import (
    MODEL,
    RULE_NOTES,
    Comparison,
    comparison,
    finite,
    label,
    mean_of,
    metric,
    ratio,
    reasons,
    rules_of,
    short_label,
    verdict,
    week_start,
)
from pipelines.report.blocks import Block, Card, Cards, Cell, Findings, Section, Stack, Table, Text
from pipelines.report.numbers import MISSING, change, count, day, plural
from pipelines.report.page import render_page

FOOTER = (
    "All figures are in metrics.json beside this page. Customers are those who bought in a label week; what they "
    "bought then was hidden from the model and from the rules. Intervals are bootstrapped over customers."
)
METRIC_NOTES: Mapping[str, str] = {
    "map_at_12": "how many of 12 answers are bought, early ones counting more",
    "ndcg_at_12": "the same, discounted by rank",
    "recall_at_12": "of what is bought, among 12 answers",
    "recall_at_100": "of what is bought, among 100 answers",
    "hit_rate_at_12": "customers who buy at least one of 12 answers",
    "novelty_at_12": "bits: −log₂ of the articles' share of 13 weeks' sales",
}


def render_training_report(document: Mapping[str, Any]) -> str:
    """Render the page from what the train step writes to metrics.json; the same document gives the same bytes."""
    headline, because = verdict(document)
    lead: list[Block] = [
        Text(Markup("<strong>{}</strong> {}").format(headline, because), "good" if document["is_promoted"] else "note"),
        Cards(_cards(document)),
    ]
    if document.get("reasons"):
        lead.append(Findings(reasons(document), "What the gate found"))
    sections = [
        Section(
            "Against the rules and the champion",
            [*rivals_forest(document), _metric_table(document)],
            short="Comparison",
        ),
        Section("Who gains", slices(document), intro="The same figures for parts of the customers.", short="Slices"),
        Section("Week by week", weeks(document), short="Weeks"),
        Section("Training", learning_curves(document), intro=_learned(document)),
        Section("What each signal adds", ablation_blocks(document), intro=ablation_intro(document), short="Signals"),
        Section("Examples", example_blocks(document), intro=examples_intro(document)),
        Section("What changes for customers", change_blocks(document), intro=changes_intro(document), short="Changes"),
        Section("The bundle", bundle_blocks(document), short="Bundle"),
    ]
    shown = [section for section in sections if section.blocks]
    return render_page("How well the new model recommends", _subtitle(document), shown, lead=lead, footer=FOOTER)


def _subtitle(document: Mapping[str, Any]) -> str:
    evaluated, n = document.get("weeks", []), _n_customers(document)
    bundle = document["bundle"]
    if len(evaluated) > 1:
        first = min(week_start(document, week) for week in evaluated)
        judged = f"{plural(n, 'customer-week')} in {len(evaluated)} label weeks from {day(first)}"
    else:
        span = plural(document["horizon_days"], "day")
        judged = f"{plural(n, 'customer')} who bought in the {span} from {_day(document['cutoff_date'])}"
    return (
        f"Bundle {bundle['version']}, learned from purchases from {_day(document['first_day'])} to "
        f"{_day(bundle['trained_through'])}. Judged on {judged}, by models that had not seen those days."
    )


def _day(text: str) -> str:
    return day(date.fromisoformat(text))


def _n_customers(document: Mapping[str, Any]) -> int:
    return int(finite(document.get("metrics", {}).get(MODEL, {}).get("map_at_12", {}).get("n")) or 0)


def _cards(document: Mapping[str, Any]) -> list[Card]:
    ours, rules = document.get("metrics", {}).get(MODEL, {}), rules_of(document)
    n_weeks, manifest = len(document.get("weeks", [])), document["bundle"].get("metrics", {})
    unit = f"customer-weeks in {n_weeks} weeks" if n_weeks > 1 else "who bought in the label week"
    return [
        Card("map_at_12", metric("map_at_12", mean_of(document, MODEL)), _interval("map_at_12", ours.get("map_at_12"))),
        _best_rule_card(document, rules),
        _champion_card(document),
        Card("Customers", count(_n_customers(document)), unit),
        Card(
            "Hit rate",
            metric("hit_rate", mean_of(document, MODEL, "hit_rate_at_12")),
            f"of {'customer-weeks' if n_weeks > 1 else 'customers'} buy one of 12 answers",
        ),
        Card(
            "Recall of 100", metric("recall", mean_of(document, MODEL, "recall_at_100")), "of what is bought is found"
        ),
        Card(
            "Coverage",
            metric("coverage", manifest.get("catalogue_coverage")),
            f"of {plural(document.get('n_live') or 0, 'live article')} recommended in the label week",
        ),
        Card(
            "Learned from",
            count(finite(document.get("n_training_customers"))),
            "customer-weeks before the cutoff",
        ),
    ]


def _best_rule_card(document: Mapping[str, Any], rules: list[str]) -> Card:
    if not rules:
        return Card("Over the best rule", MISSING, "no rule was scored")
    theirs = mean_of(document, rules[0])
    difference = comparison(rules[0], document.get("differences", {}).get(rules[0]))
    return Card(
        "Over the best rule",
        change(ratio(mean_of(document, MODEL), theirs)),
        f"{label(rules[0])} has {metric('map_at_12', theirs)}{_chance(difference)}",
        difference.tone if difference else "plain",
    )


def _champion_card(document: Mapping[str, Any]) -> Card:
    champion = document.get("champion")
    if not champion:
        return Card("Over the champion", MISSING, "there is none yet: the rules are the bar")
    difference = comparison(champion["version"], champion.get("difference"))
    ours, theirs = _label_week_map(document), finite(champion.get("map_at_12"))
    behind = f", {plural(champion['days_behind'], 'day')} behind" if champion.get("days_behind") else ""
    note = f"{metric('map_at_12', ours)} against {metric('map_at_12', theirs)}{behind}{_chance(difference)}"
    return Card("Over the champion", change(ratio(ours, theirs)), note, difference.tone if difference else "plain")


def _chance(difference: Comparison | None) -> str:
    return f"; {difference.chance}" if difference and difference.chance else ""


def _label_week_map(document: Mapping[str, Any]) -> float | None:
    """Give the model's own map_at_12 of the label week, which comes first of the weeks."""
    evaluated = document.get("weeks", [])
    return finite(evaluated[0].get("map_at_12", {}).get(MODEL)) if evaluated else None


def _interval(name: str, interval: Any) -> str:
    low, high = (metric(name, (interval or {}).get(key)) for key in ("low", "high"))
    return MISSING if MISSING in (low, high) else f"95 % interval {low} to {high}"


def _metric_table(document: Mapping[str, Any]) -> Table:
    models = [MODEL, *rules_of(document)]
    measured, champion = document.get("metrics", {}), document.get("champion")
    names = sorted({name for model in models for name in measured.get(model, {})}, key=_metric_order)

    def cell(name: str, interval: Any) -> Cell:
        written = metric(name, (interval or {}).get("mean"))
        low, high = (metric(name, (interval or {}).get(key)) for key in ("low", "high"))
        return Stack(written, "" if MISSING in (low, high) else f"{low} to {high}")

    rows: list[list[Cell]] = [
        [Stack(name, METRIC_NOTES.get(name, "")), *(cell(name, measured.get(model, {}).get(name)) for model in models)]
        for name in names
    ]
    rows.append(_coverage(document, models))
    columns = ["metric", *(short_label(model) for model in models)]
    caption = "Below each mean: its 95 % interval."
    notes = [f"{label(name).capitalize()}: {RULE_NOTES[name]}." for name in models if name in RULE_NOTES]
    caption = " ".join([caption, *notes])
    if champion:
        columns.append("champion" if len(document.get("weeks", [])) < 2 else "champion, in the label week alone")
        theirs = champion.get("metrics", {})
        for name, row in zip(names, rows, strict=False):
            row.append(cell(name, theirs.get(name)))
        rows[-1].append(metric("catalogue_coverage", theirs.get("catalogue_coverage")))
        caption += (
            f" The champion {champion['version']} answers the label week alone; this model has "
            f"{metric('map_at_12', _label_week_map(document))} there."
        )
    return Table(columns, rows, "All metrics", caption, frozenset(range(1, len(columns))))


def _coverage(document: Mapping[str, Any], models: list[str]) -> list[Cell]:
    """Give what is no mean over customers, and has no interval."""
    bundle = document["bundle"]
    found = {MODEL: bundle.get("metrics", {}), **bundle.get("baselines", {})}
    note = "live articles that somebody finds among 12, in the label week"
    values = [metric("catalogue_coverage", found.get(model, {}).get("catalogue_coverage")) for model in models]
    return [Stack("catalogue_coverage", note), *values]


def _metric_order(name: str) -> tuple[int, str]:
    known = list(METRIC_NOTES)
    return (known.index(name) if name in known else len(known)), name


def _learned(document: Mapping[str, Any]) -> str:
    n, held = document.get("n_training_customers") or 0, document.get("n_validation_customers") or 0
    return (
        f"Fitted on {plural(n, 'customer-week')} with a bought article among the candidates; "
        f"{plural(held, 'such one')} before the cutoff say when to stop."
    )
