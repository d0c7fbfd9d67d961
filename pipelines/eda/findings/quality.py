"""What stands out in the data's quality, and what drifted."""

from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.data.previous import NO_EARLIER_RUN
from pipelines.eda.drift import Drift
from pipelines.eda.findings.observation import Observation
from pipelines.report.numbers import count, percent, plural


def gates(quality: Mapping[str, Any]) -> list[Observation]:
    """Say how the data gates went."""
    gates = quality.get("gates", [])
    failed = [gate for gate in gates if not gate["passed"]]
    if failed:
        names = "; ".join(str(gate["message"]) for gate in failed)
        return [Observation("gate_failed", "bad", f"{plural(len(failed), 'data gate')} failed.", names)]
    accepted = [gate for gate in gates if gate.get("level") == "accepted"]
    if accepted:
        words = "; ".join(str(gate["message"]) for gate in accepted)
        return [
            Observation(
                "gate_accepted", "warning", f"{plural(len(accepted), 'data gate')} failed and was let pass.", words
            )
        ]
    doubtful = [gate for gate in gates if gate.get("level", "ok") != "ok"]
    if doubtful:
        words = "; ".join(str(gate["message"]) for gate in doubtful)
        return [
            Observation(
                "gate_doubtful", "warning", f"{plural(len(doubtful), 'data gate')} passed with a warning.", words
            )
        ]
    if gates:
        alone = sum(gate["message"] == NO_EARLIER_RUN for gate in gates)
        unjudged = f" {count(alone)} of them had no earlier run of this source to compare with." if alone else ""
        return [
            Observation(
                "gates_passed",
                "good",
                f"{'All ' if len(gates) > 1 else ''}{plural(len(gates), 'data gate')} passed.",
                f"See data quality below.{unjudged}",
            )
        ]
    return []


def quarantine(raw_facts: Mapping[str, Any]) -> list[Observation]:
    """Say what ingest rejected."""
    rejected, kept = int(raw_facts.get("n_rejected", 0)), int(raw_facts.get("n_transactions", 0))
    if not rejected:
        return []
    rules = raw_facts.get("rejected_by_rule", {})
    reasons = ", ".join(
        f"{rule} {count(n)}" for rule, n in sorted(rules.items(), key=lambda item: (-item[1], item[0])) if n
    )
    share = rejected / max(1, rejected + kept)
    return [
        Observation(
            "rows_rejected",
            "warning" if share >= 0.001 else "note",
            f"{plural(rejected, 'row')} ({percent(share, 2)}) went to quarantine.",
            f"By rule: {reasons}." if reasons else "",
        )
    ]


def drifted_features(drifts: Mapping[str, Sequence[Drift]]) -> list[Observation]:
    """Name the features that moved far."""
    found = []
    for reference, words in (("previous_run", "the previous run"), ("before", "the four weeks before")):
        large = [drift for drift in drifts.get(reference, ()) if drift.verdict == "large"]
        if large:
            first = large[0]
            label, before, now = first.movers[0]
            names = ", ".join(feature_name(drift.feature) for drift in large)
            found.append(
                Observation(
                    f"drift_{reference}",
                    "warning",
                    f"{plural(len(large), 'feature')} moved far against {words}: {names}.",
                    f"Most of all {feature_name(first.feature)}: {label} went from {percent(before)} "
                    f"to {percent(now)}.",
                )
            )
    return found


def feature_name(feature: str) -> str:
    return feature.replace("_", " ")
