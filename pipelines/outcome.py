"""What a run says at its end: the JSON line that programs read, and the summary that people read."""

from contextlib import suppress
from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict

from pipelines.errors import ArtefactError, PipelineError
from pipelines.lake.base import Lake
from pipelines.registry.champion import read_champion
from pipelines.steps.manifest import StepManifest, read_manifest


class Outcome(BaseModel):
    """The contract of `--json`: fields stay null or empty as far as the run did not get."""

    model_config = ConfigDict(frozen=True)

    run_id: str
    status: str
    """in Argo's words: Succeeded, Failed, Error, Pending, Running; also Submitted and Interrupted"""
    cutoff_date: str | None = None
    bundle_version: str | None = None
    bundle: str | None = None
    promoted: bool | None = None
    """what was decided when it was trained, which for reused work was earlier"""
    champion: str | None = None
    """version that answers customers now, whoever moved it; null when none does or the lake cannot be read"""
    reasons: list[str] = []
    metrics: dict[str, float | None] = {}
    baselines: dict[str, dict[str, float | None]] = {}
    report: str | None = None
    eda_report: str | None = None
    seconds: dict[str, float] = {}
    reused: list[str] = []
    n_rejected: int | None = None
    quarantine: str | None = None
    failed_step: str | None = None
    error: str | None = None


def collect(lake: Lake, run_id: str, status: str, **facts: Any) -> Outcome:
    """Read from the lake what the run's steps published; `facts` are the fields that its runner knows."""
    train, eda, process, ingest = (_manifest(lake, step, run_id) for step in ("train", "eda", "process", "ingest"))
    if ingest:
        facts["n_rejected"] = ingest.facts.get("n_rejected")
        if rejected := ingest.files.get("quarantine/rejected.csv"):
            facts["quarantine"] = lake.uri_of(rejected.key)
    if process:
        facts["cutoff_date"] = process.facts.get("cutoff_date")
    if train:
        facts |= {name: train.facts[name] for name in _FROM_TRAIN if name in train.facts}
        if train.facts.get("bundle"):
            facts["bundle"] = lake.uri_of(train.facts["bundle"])
        facts["report"] = _report(lake, train)
        with suppress(ArtefactError):
            champion = read_champion(lake)
            facts["champion"] = champion.version if champion else None
    if eda:
        facts["eda_report"] = _report(lake, eda)
    return Outcome(run_id=run_id, status=status, **facts)


_FROM_TRAIN = ("bundle_version", "promoted", "reasons", "metrics", "baselines", "cutoff_date")


def _manifest(lake: Lake, step: str, run_id: str) -> StepManifest | None:
    try:
        return read_manifest(lake, step, run_id)
    except ArtefactError:
        return None


def _report(lake: Lake, manifest: StepManifest) -> str | None:
    entry = manifest.files.get("report.html")
    return lake.uri_of(entry.key) if entry else None


def champion_since(lake: Lake, since: datetime) -> str | None:
    """Name the champion if it was moved since then: what a run that was interrupted could not say itself."""
    with suppress(PipelineError, ValueError, TypeError):
        champion = read_champion(lake)
        if champion and datetime.fromisoformat(champion.move["when"]) >= since:
            return champion.version
    return None


def summary(outcome: Outcome) -> str:
    """Say the same in a few lines, the headline metric beside its baselines."""
    lines = [f"run       {outcome.run_id}: {outcome.status}"]
    if outcome.cutoff_date:
        lines.append(f"cutoff    {outcome.cutoff_date}")
    if outcome.n_rejected:
        lines.append(f"rejected  {outcome.n_rejected:,} rows, each with its reason in {outcome.quarantine}")
    if (model := outcome.metrics.get("map_at_12")) is not None:
        others = [(name, metrics.get("map_at_12")) for name, metrics in outcome.baselines.items()]
        beside = ", ".join(f"{name} {value:.5f}" for name, value in others if value is not None)
        lines.append(f"map_at_12 {model:.5f}" + (f" beside {beside}" if beside else "") + " in the label week")
    if (pooled := outcome.metrics.get("backtest_map_at_12")) is not None:
        others = [(name, metrics.get("backtest_map_at_12")) for name, metrics in outcome.baselines.items()]
        beside = ", ".join(f"{name} {value:.5f}" for name, value in others if value is not None)
        lines.append(
            f"          {pooled:.5f} beside {beside} over all backtested weeks, on which it must beat the rules"
        )
    if outcome.bundle:
        lines.append(f"bundle    {outcome.bundle} ({promotion(outcome)})")
        lines += [f"          {reason}" for reason in outcome.reasons]
    lines += [f"{name:<9} {uri}" for name, uri in (("report", outcome.report), ("eda", outcome.eda_report)) if uri]
    return "\n".join(lines)


def promotion(outcome: Outcome) -> str:
    """Say what was decided of the bundle, and who answers customers when that has changed since."""
    decided = "promoted" if outcome.promoted else "not promoted"
    if bool(outcome.promoted) == (outcome.champion == outcome.bundle_version):
        return decided
    now = f"the champion is {outcome.champion}" if outcome.champion else "there is no champion"
    return f"{decided} when it was trained; now {now if outcome.promoted else 'it is the champion'}"
