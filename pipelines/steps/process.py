"""Index the purchases, split them at the cutoff, gate on quality: raw/{run_id} becomes processed/{run_id}."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipelines.data.previous import DataSize, check_drop, read_accepted, remember_accepted
from pipelines.data.quality import Gate, accept, check_keys, check_purchases, parse_accepted, refusal
from pipelines.data.splits import TimeSplit, parse_date, split_at
from pipelines.edge import run_app, this_python
from pipelines.errors import ArtefactError, DataGateError
from pipelines.lake import Lake, open_lake
from pipelines.logs import get_logger
from pipelines.settings import lake_uri
from pipelines.steps.manifest import manifest_key, step_folder
from pipelines.steps.step import StepManifest, read_manifest, run_step

if TYPE_CHECKING:  # polars is imported where the work is done: a step that is reused answers at once
    from pipelines.data.processing import RawTables

CODE = (
    "pipelines.steps.process",
    "pipelines.data.histories",
    "pipelines.data.indexing",
    "pipelines.data.previous",
    "pipelines.data.processing",
    "pipelines.data.quality",
    "pipelines.data.splits",
    "pipelines.data.volume",
)
LIBRARIES = ("polars", "pyarrow", "numpy")
REPORT = "quality_report.json"
FETCH_THREADS = 8  # hides the latency of S3 over a hundred weekly files

app = typer.Typer(add_completion=False)
log = get_logger()


def process(
    lake: Lake,
    *,
    run_id: str,
    cutoff_date: str = "",
    horizon_days: int = 7,
    accepted_gates: Sequence[str] = (),
    force: bool = False,
) -> StepManifest:
    """Process a run's raw data; an empty `cutoff_date` makes the last `horizon_days` days the label window.

    Raises UsageError for a cutoff outside of the data, and DataGateError when a gate that is not in `accepted_gates`
    fails: then nothing is published but the report that says why.
    """
    raw = read_manifest(lake, "ingest", run_id)
    cutoff = parse_date(cutoff_date, parameter="cutoff_date") if cutoff_date else None
    split = split_at(*_span(raw), cutoff_date=cutoff, horizon_days=horizon_days)

    def work(folder: Path) -> dict[str, Any]:
        with lake.scratch() as scratch:
            return _work(lake, raw, _fetch(lake, raw, scratch), split, accepted_gates, folder)

    manifest = run_step(
        lake,
        step="process",
        run_id=run_id,
        parameters={
            "cutoff_date": split.cutoff_date.isoformat(),
            "horizon_days": horizon_days,
            "accept_gates": sorted(accepted_gates),
        },
        inputs={"raw": raw.content_sha256},
        code=CODE,
        libraries=LIBRARIES,
        work=work,
        force=force,
    )
    # After publishing, and again when the work is reused: a run that was killed in between is remembered by the next.
    remember_accepted(lake, _source_of(raw), _size(raw, manifest.facts))
    return manifest


def _work(
    lake: Lake, raw: StepManifest, tables: RawTables, split: TimeSplit, accepted: Sequence[str], folder: Path
) -> dict[str, Any]:
    from pipelines.data.processing import write_processed

    gates = accept(check_keys(*tables.count_duplicates()), accepted)
    _refuse_failed(lake, raw.run_id, gates, {})  # nothing can be joined on a key that occurs twice
    processed = write_processed(tables, split, folder)
    n_last_week_rows = int(processed.purchases.n_rows_per_day[-7:].sum())
    facts = processed.split_facts | {"n_last_week_rows": n_last_week_rows}
    previous = read_accepted(lake, _source_of(raw)).before(raw.content_sha256)
    gates += accept([*check_purchases(processed.purchases), *check_drop(_size(raw, facts), previous)], accepted)
    statistics = processed.statistics | {
        name: raw.facts[name] for name in ("n_rejected", "n_repaired", "rejected_by_rule") if name in raw.facts
    }
    _refuse_failed(lake, raw.run_id, gates, statistics)
    (folder / REPORT).write_bytes(_report(gates, statistics))
    (folder / "split.json").write_bytes(_json(processed.split_facts))
    return facts | {"gates": {gate.gate: gate.level for gate in gates}}


def _refuse_failed(lake: Lake, run_id: str, gates: Sequence[Gate], statistics: dict[str, Any]) -> None:
    """Keep the report for people and raise; a report that a manifest names is never overwritten."""
    for gate in gates:
        if gate.level != "ok":
            log.warning("quality_gate", gate=gate.gate, level=gate.level, value=gate.value, message=gate.message)
    if all(gate.passed for gate in gates):
        return
    is_published = lake.exists(manifest_key("process", run_id))
    key = f"{step_folder('process', run_id)}/{'refused_' if is_published else ''}{REPORT}"
    lake.write_bytes(key, _report(gates, statistics))
    raise DataGateError(refusal(gates, lake.uri_of(key)))


def _report(gates: Sequence[Gate], statistics: dict[str, Any]) -> bytes:
    return _json(
        {
            "passed": all(gate.passed for gate in gates),
            "gates": [gate.as_json() for gate in gates],
            "statistics": statistics,
        }
    )


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _fetch(lake: Lake, raw: StepManifest, scratch: Path) -> RawTables:
    from pipelines.data.processing import RawTables

    parts = sorted(name for name in raw.files if name.startswith("transactions/"))
    names = ["articles.parquet", "customers.parquet", *parts]
    missing = [name for name in names[:2] if name not in raw.files]
    if missing or not parts:
        raise ArtefactError(
            f"the raw data of run {raw.run_id!r} lacks {', '.join(missing) or 'transactions'}; "
            f"run {this_python()} -m pipelines.steps.ingest --run-id {raw.run_id} again with --force"
        )
    with ThreadPoolExecutor(FETCH_THREADS) as pool:
        articles, customers, *transactions = pool.map(lambda name: lake.fetch(raw.files[name], scratch), names)
    return RawTables(articles=articles, customers=customers, transactions=transactions)


def _span(raw: StepManifest) -> tuple[date, date]:
    first_day, last_day = raw.facts.get("first_day"), raw.facts.get("last_day")
    if not first_day or not last_day:
        raise DataGateError(f"the raw data of run {raw.run_id!r} holds no transaction; look into its quarantine folder")
    return date.fromisoformat(first_day), date.fromisoformat(last_day)


def _source_of(raw: StepManifest) -> str:
    return str(raw.facts["source"]["uri"])


def _size(raw: StepManifest, facts: dict[str, Any]) -> DataSize:
    names = ("n_transactions", "n_last_week_rows", "n_articles", "n_customers")
    return DataSize(raw_sha256=raw.content_sha256, run_id=raw.run_id, **{name: int(facts[name]) for name in names})


@app.command()
def main(
    run_id: Annotated[str, typer.Option(help="The run whose raw data is processed.")],
    lake: Annotated[str, typer.Option(help="Folder or s3://bucket/prefix; empty means $S3_DATA_LAKE_BUCKET.")] = "",
    cutoff_date: Annotated[
        str, typer.Option(help="First day that the model must not see, YYYY-MM-DD; empty means last day − horizon + 1.")
    ] = "",
    horizon_days: Annotated[int, typer.Option(help="Length of the label window.")] = 7,
    accept_gates: Annotated[
        str, typer.Option(help="Quality gates, separated by commas, that may fail because someone looked.")
    ] = "",
    force: Annotated[bool, typer.Option("--force", help="Work again although the same work is done.")] = False,
) -> None:
    """Index the purchases, split them at the cutoff and gate on quality; prints the facts as one JSON line."""
    manifest = process(
        open_lake(lake_uri(lake)),
        run_id=run_id,
        cutoff_date=cutoff_date,
        horizon_days=horizon_days,
        accepted_gates=parse_accepted(accept_gates),
        force=force,
    )
    print(json.dumps(manifest.facts, ensure_ascii=False, sort_keys=True))


if __name__ == "__main__":
    run_app(app)
