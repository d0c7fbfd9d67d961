"""Read a source into a lake as the step does, and what came of it."""

from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from pipelines.lake import Lake
from pipelines.steps.ingest import IngestRequest, ingest
from pipelines.steps.manifest import StepManifest

NOW = datetime(2020, 9, 23, 2, tzinfo=UTC)


def read(lake: Lake, source: Path | str, run_id: str = "run-1", *, now: datetime = NOW, **more: object) -> StepManifest:
    return ingest(lake, IngestRequest(run_id, str(source), **more), now=now)  # type: ignore[arg-type]


def table(lake: Lake, manifest: StepManifest, name: str) -> pl.DataFrame:
    with lake.scratch() as scratch:
        return pl.read_parquet(lake.fetch(manifest.files[name], scratch))


def transactions(lake: Lake, manifest: StepManifest) -> pl.DataFrame:
    return pl.concat(
        [table(lake, manifest, name) for name in sorted(manifest.files) if name.startswith("transactions/")]
    )
