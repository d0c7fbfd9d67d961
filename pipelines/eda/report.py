"""The report: key figures, what stands out, then a section per question."""

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.eda.drift import Drift
from pipelines.eda.figures import assortment, baskets, drift, life_cycles, prices, quality, rhythm, sales, shoppers
from pipelines.eda.findings.observation import Observation
from pipelines.eda.statistics import Statistics
from pipelines.report.blocks import Block, Card, Cards, Findings, Section
from pipelines.report.numbers import compact, count, day, decimal, percent, plural
from pipelines.report.page import render_page

FOOTER = (
    "All figures are computed from the processed purchases; the same numbers are in statistics.json and summary.json "
    "beside this page. A basket is what one customer bought on one day. Weeks are counted from the cutoff date, the "
    "first day that a model must not see."
)


def render_report(
    statistics: Statistics,
    *,
    quality_report: Mapping[str, Any],
    raw_facts: Mapping[str, Any],
    observations: Sequence[Observation],
    drifts: Mapping[str, Sequence[Drift]],
    previous: str,
) -> str:
    """Render the page; `previous` says in words which earlier run drift is measured against."""
    figures = statistics.figures
    first, last, cutoff = (_date(figures[name]) for name in ("first_day", "last_day", "cutoff_date"))
    source = str(raw_facts.get("source", {}).get("uri", "")) if isinstance(raw_facts.get("source"), Mapping) else ""
    n_purchases, n_customers = statistics.number("n_transactions"), statistics.number("n_buying_customers")
    subtitle = (
        f"{plural(n_purchases, 'purchase')} by {plural(n_customers, 'customer')} from {day(first)} to {day(last)}"
        f"{f', read from {source}' if source else ''}. Models may learn from days before {day(cutoff)}."
    )
    sections = [
        Section("Sales over time", sales.over_time(statistics), short="Sales"),
        Section("Weekday and season", rhythm.rhythm(statistics), short="Season"),
        Section("Price", prices.prices(statistics)),
        Section("Categories", assortment.categories(statistics)),
        Section(
            "Long tail and coverage",
            assortment.long_tail(statistics),
            intro="How sales spread over the assortment, and how much of it is alive.",
            short="Long tail",
        ),
        Section("Article life cycles", life_cycles.life_cycles(statistics), short="Life cycles"),
        Section("Baskets and repurchase", baskets.baskets(statistics), short="Baskets"),
        Section("Customers", shoppers.customers(statistics)),
        Section("Data quality", quality.quality_blocks(quality_report, raw_facts, figures), short="Quality"),
        Section(
            "Drift",
            drift.drift_blocks(drifts, previous),
            intro="Whether the last four weeks of purchases look like earlier ones, feature by feature.",
        ),
    ]
    lead: list[Block] = [Cards(_cards(statistics))]
    if observations:
        lead.append(Findings([observation.to_finding() for observation in observations], "What stands out"))
    return render_page("What customers bought", subtitle, sections, lead=lead, footer=FOOTER)


def _cards(statistics: Statistics) -> list[Card]:
    number = statistics.number
    sold_share = number("n_articles_sold") / max(1.0, number("n_articles"))
    return [
        Card("Purchases", compact(number("n_transactions")), f"in {plural(number('n_days'), 'day')}"),
        Card("Customers", compact(number("n_buying_customers")), f"of {count(number('n_customers'))} known"),
        Card("Articles sold", compact(number("n_articles_sold")), f"{percent(sold_share)} of those listed"),
        Card("Articles selling", compact(number("n_articles_sold_last_28_days")), "sold in the last 4 weeks"),
        Card(
            "Basket",
            decimal(number("items_per_basket"), 2),
            f"articles; mean price {decimal(number('mean_price'))}",
        ),
        Card("Visit again after", plural(number("median_days_between_visits"), "day"), "half of the visits"),
        Card("Repurchase", percent(number("share_repeat")), "of purchases, same article"),
        Card("Bought online", percent(number("share_online")), "the rest in stores"),
    ]


def _date(value: float | int | str | None) -> dt.date:
    return dt.date.fromisoformat(str(value))
