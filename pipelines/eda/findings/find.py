"""What stands out, in plain words: each rule looks at the statistics and says one thing, or nothing."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pipelines.eda.drift import Drift
from pipelines.eda.findings.assortment import article_life, long_tail, new_articles
from pipelines.eda.findings.observation import Observation
from pipelines.eda.findings.quality import drifted_features, gates, quarantine
from pipelines.eda.findings.sales import against_last_year, closed_channel, days, seasonal_groups, short_data
from pipelines.eda.findings.shoppers import customers
from pipelines.eda.statistics import Statistics
from pipelines.report.blocks import Tone

ORDER: Mapping[Tone, int] = {"bad": 0, "warning": 1, "note": 2, "good": 3, "plain": 4}


RULES: Sequence[Callable[[Statistics], list[Observation]]] = (
    short_data,
    days,
    closed_channel,
    against_last_year,
    seasonal_groups,
    new_articles,
    long_tail,
    article_life,
    customers,
)


def find_all(
    statistics: Statistics,
    quality: Mapping[str, Any],
    raw_facts: Mapping[str, Any],
    drifts: Mapping[str, Sequence[Drift]],
) -> list[Observation]:
    """Apply every rule; the most urgent first, otherwise in the order of the report."""
    found = [
        *gates(quality),
        *quarantine(raw_facts),
        *(observation for rule in RULES for observation in rule(statistics)),
        *drifted_features(drifts),
    ]
    return sorted(found, key=lambda observation: ORDER[observation.tone])
