"""From processed files to the three files of an eda run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipelines.eda.dataset import open_dataset
from pipelines.eda.drift import Drift, compare, is_comparable
from pipelines.eda.findings.find import find_all
from pipelines.eda.findings.observation import Observation
from pipelines.eda.report import render_report
from pipelines.eda.statistics import SCHEMA_VERSION, Statistics, gather, json_bytes, plain
from pipelines.eda.windows import WINDOW_DAYS, YEAR_DAYS

NO_PREVIOUS = (
    "There is no previous run of this source in the lake to compare with. Within these data the last four weeks are "
    "compared with the four before, and with the same weeks a year ago where the data reach back so far."
)
OTHER_SCHEMA = (
    "The previous run's statistics are of another format, so drift against it was not measured; the next run can. "
    "Within these data the last four weeks are compared with earlier ones."
)


def explore(
    tables: Mapping[str, Path],
    folder: Path,
    *,
    split: Mapping[str, Any],
    quality_report: Mapping[str, Any],
    raw_facts: Mapping[str, Any],
    previous_statistics: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Write report.html, statistics.json and summary.json; give the facts for the manifest.

    `tables` has articles.parquet, customers.parquet and transactions.parquet.
    """
    dataset = open_dataset(
        tables["articles.parquet"], tables["customers.parquet"], tables["transactions.parquet"], split
    )
    statistics = gather(dataset)
    drifts, previous = _drifts(statistics, previous_statistics)
    observations = find_all(statistics, quality_report, raw_facts, drifts)
    report = render_report(
        statistics,
        quality_report=quality_report,
        raw_facts=raw_facts,
        observations=observations,
        drifts=drifts,
        previous=previous,
    )
    (folder / "report.html").write_text(report, encoding="utf-8")
    (folder / "statistics.json").write_bytes(json_bytes(statistics.to_json()))
    summary = _summary(statistics, observations, drifts, previous)
    (folder / "summary.json").write_bytes(json_bytes(summary))
    return {
        "cutoff_date": statistics.figures["cutoff_date"],
        "n_transactions": statistics.figures["n_transactions"],
        "n_observations": len(observations),
        "features_moved": summary["features_moved"],
    }


def _drifts(statistics: Statistics, previous: Mapping[str, Any] | None) -> tuple[dict[str, list[Drift]], str]:
    """Compare with the previous run, and within the data; say in words with what."""
    now = statistics.distributions
    n_days = int(statistics.number("n_days"))
    drifts = {
        reference: compare(now, now, seen_days=n_days - days_back - WINDOW_DAYS, reference=reference)
        for reference, days_back in (("before", WINDOW_DAYS), ("year_ago", YEAR_DAYS))
    }
    if previous is None:
        return drifts, NO_PREVIOUS
    if not is_comparable(previous):
        return drifts, OTHER_SCHEMA
    figures = previous["figures"]
    seen_days = min(n_days, int(figures["n_days"])) - WINDOW_DAYS
    drifts["previous_run"] = compare(now, previous["distributions"], seen_days=seen_days)
    words = (
        f"The previous run of this source ended on {figures['last_day']} with {figures['n_transactions']:,} purchases; "
        "its last four weeks are compared with these."
    )
    return drifts, words


def _summary(
    statistics: Statistics, observations: list[Observation], drifts: Mapping[str, list[Drift]], previous: str
) -> dict[str, Any]:
    return {
        "schema_version": SCHEMA_VERSION,
        "figures": {name: plain(value) for name, value in statistics.figures.items()},
        "observations": [observation.to_json() for observation in observations],
        "previous": previous,
        "psi": {reference: {drift.feature: plain(drift.psi) for drift in found} for reference, found in drifts.items()},
        "features_moved": sorted(
            drift.feature for drift in drifts.get("previous_run", []) if drift.verdict in ("moved", "large")
        ),
    }
