"""Explore a run's processed purchases: processed/{run_id} becomes the report and statistics in eda/{run_id}."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any

import typer

from pipelines.data.previous import read_accepted
from pipelines.edge import run_app, this_python
from pipelines.errors import ArtefactError
from pipelines.lake import FileEntry, Lake, open_lake
from pipelines.logs import get_logger
from pipelines.settings import lake_uri
from pipelines.steps.step import StepManifest, read_manifest, run_step

TABLES = ("articles.parquet", "customers.parquet", "transactions.parquet")
STATISTICS = "statistics.json"
LIBRARIES = ("altair", "jinja2", "numpy", "pandas", "polars", "pyarrow", "vl-convert-python")

app = typer.Typer(add_completion=False)
log = get_logger()


def eda(lake: Lake, *, run_id: str, force: bool = False) -> StepManifest:
    """Write report.html, statistics.json and summary.json for a processed run.

    Drift is measured against the delivery that the source had accepted before this one, when it was explored.
    """
    raw = read_manifest(lake, "ingest", run_id)
    processed = read_manifest(lake, "process", run_id)
    previous = _previous_statistics(lake, raw)

    def work(folder: Path) -> dict[str, Any]:
        from pipelines.eda.explore import explore

        with lake.scratch() as scratch, ThreadPoolExecutor(len(TABLES)) as pool:
            paths = list(pool.map(lambda name: lake.fetch(_entry(processed, name), scratch), TABLES))
            return explore(
                dict(zip(TABLES, paths, strict=True)),
                folder,
                split=_read_json(lake, _entry(processed, "split.json")),
                quality_report=_read_json(lake, _entry(processed, "quality_report.json")),
                raw_facts=raw.facts,
                previous_statistics=_read_json(lake, previous) if previous else None,
            )

    return run_step(
        lake,
        step="eda",
        run_id=run_id,
        parameters={},
        inputs={
            "raw": raw.content_sha256,
            "processed": processed.content_sha256,
            "previous_statistics": previous.sha256 if previous else "",
        },
        code=("pipelines.steps.eda", "pipelines.eda", "pipelines.report"),
        libraries=LIBRARIES,
        work=work,
        force=force,
    )


def _previous_statistics(lake: Lake, raw: StepManifest) -> FileEntry | None:
    """Find the statistics of the newest earlier delivery of the source that was explored."""
    accepted = read_accepted(lake, str(raw.facts["source"]["uri"]))
    delivery = accepted.before(raw.content_sha256)
    while delivery is not None:
        try:
            manifest = read_manifest(lake, "eda", delivery.run_id)
            # A run id may have been used again for other data: then these are not that delivery's statistics.
            if manifest.inputs.get("raw") == delivery.raw_sha256:
                return manifest.files[STATISTICS]
        except (ArtefactError, KeyError) as error:
            log.info("previous_run_without_statistics", previous=delivery.run_id, reason=str(error))
        delivery = accepted.before(delivery.raw_sha256)
    return None


def _entry(manifest: StepManifest, name: str) -> FileEntry:
    if name not in manifest.files:
        raise ArtefactError(
            f"the {manifest.step} step of run {manifest.run_id!r} has no {name}; "
            f"run {this_python()} -m pipelines.steps.{manifest.step} --run-id {manifest.run_id} --force"
        )
    return manifest.files[name]


def _read_json(lake: Lake, entry: FileEntry) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(lake.read_bytes(entry.key))
    return document


@app.command()
def main(
    run_id: Annotated[str, typer.Option(help="The run whose processed purchases are explored.")],
    lake: Annotated[str, typer.Option(help="Folder or s3://bucket/prefix; empty means $S3_DATA_LAKE_BUCKET.")] = "",
    force: Annotated[bool, typer.Option("--force", help="Work again although the same work is done.")] = False,
) -> None:
    """Compute statistics and drift, and write the report; prints the facts as one JSON line."""
    manifest = eda(open_lake(lake_uri(lake)), run_id=run_id, force=force)
    print(json.dumps(manifest.facts, ensure_ascii=False, sort_keys=True))


if __name__ == "__main__":
    run_app(app)
