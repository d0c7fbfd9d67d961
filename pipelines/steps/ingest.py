"""ingest: read a source, keep what passes the row rules, quarantine the rest, publish raw/{run_id}."""

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from pipelines.data.identity import content_identities
from pipelines.data.sources import FileSource, Source, open_source
from pipelines.edge import run_app, this_python
from pipelines.errors import DataGateError, UsageError
from pipelines.lake import Lake, open_lake
from pipelines.lake.base import file_sha256
from pipelines.logs import get_logger, log_context
from pipelines.settings import lake_uri
from pipelines.steps.manifest import StepManifest, manifest_key, read_manifest
from pipelines.steps.step import run_step

STEP = "ingest"
LATEST = "latest"
CODE = (
    "pipelines.data.schema",
    "pipelines.data.rules",
    "pipelines.data.reading",
    "pipelines.data.partitions",
    "pipelines.data.quarantine",
    "pipelines.data.raw",
    "pipelines.data.sources",
)
SHOP_CODE = ("pipelines.data.synthetic",)
REFUSED = "refused"
RUN_ON = (this_python(), "-m", "pipelines.submit", "--local", "--lake")

log = get_logger()
app = typer.Typer(add_completion=False)


@dataclass(frozen=True, slots=True)
class IngestRequest:
    run_id: str
    source: str
    data_version: str = LATEST
    max_rejected_share: float = 0.01
    replay: Path | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.max_rejected_share <= 1:  # nan too
            raise UsageError(f"max-rejected-share is {self.max_rejected_share}; give a share from 0 to 1, such as 0.01")


def ingest(lake: Lake, request: IngestRequest, *, now: datetime, force: bool = False) -> StepManifest:
    """Publish raw data for a run: read the source, or recognise what an earlier run has read.

    A data version other than `latest` is an earlier run, used as it is; with a replay, its source is read again and
    the mended rows (also those of replays before) stand in for its rejects.
    """
    if request.data_version == LATEST:
        return _ingest_source(lake, request, open_source(request.source), now=now, force=force, earlier=None)
    earlier = read_manifest(lake, STEP, request.data_version)
    if request.replay is None:
        return _adopt(lake, request.run_id, earlier)
    source = open_source(str(earlier.facts["source"]["uri"]))
    return _ingest_source(lake, request, source, now=now, force=force, earlier=earlier)


def _adopt(lake: Lake, run_id: str, earlier: StepManifest) -> StepManifest:
    manifest = earlier.model_copy(update={"run_id": run_id})
    lake.write_bytes(manifest_key(STEP, run_id), manifest.to_json())
    with log_context(step=STEP, run_id=run_id):
        log.info("step_reused", produced_by=manifest.produced_by, data_version=earlier.run_id)
    return manifest


def _ingest_source(
    lake: Lake, request: IngestRequest, source: Source, *, now: datetime, force: bool, earlier: StepManifest | None
) -> StepManifest:
    facts: dict[str, Any] = {"uri": source.uri, "kind": source.kind, "files": {}}
    inputs = {"shop": source.uri}
    if isinstance(source, FileSource):
        inputs = content_identities(lake, source.files, now)
        facts["files"] = {
            file.name: {
                "size_bytes": file.size_bytes,
                **({"etag": file.etag} if file.etag else {"sha256": inputs[table]}),
            }
            for table, file in source.files.items()
        }
    if earlier is not None:
        _check_unchanged(earlier, facts)
        inputs["data_version"] = earlier.content_sha256
    if request.replay is not None:
        if not request.replay.is_file():
            raise UsageError(f"replay {request.replay} does not exist; give the mended rejected.csv of a quarantine")
        inputs["replay"] = file_sha256(request.replay)

    def work(out: Path) -> dict[str, Any]:
        return _work(lake, request, source, out, facts, now, earlier)

    def step(*, force: bool) -> StepManifest:
        return run_step(
            lake,
            step=STEP,
            run_id=request.run_id,
            # The folder's address is a fact, not a parameter: the same files elsewhere are the same data.
            parameters={"max_rejected_share": request.max_rejected_share},
            inputs=inputs,
            code=CODE if isinstance(source, FileSource) else CODE + SHOP_CODE,
            libraries=("polars", "pyarrow", "numpy"),
            work=work,
            force=force,
        )

    manifest = step(force=force)
    if manifest.produced_by != request.run_id and manifest.facts["rejected_by_rule"].get("date_future"):
        return step(force=True)  # what was in the future then may not be any more
    return manifest


def _work(
    lake: Lake,
    request: IngestRequest,
    source: Source,
    out: Path,
    source_facts: Mapping[str, Any],
    now: datetime,
    earlier: StepManifest | None,
) -> dict[str, Any]:
    from pipelines.data.quarantine import Replay  # polars and pyarrow: a run that is reused does without
    from pipelines.data.raw import write_raw

    replay = Replay.nothing() if request.replay is None else Replay.read(request.replay)
    with lake.scratch() as scratch:
        if earlier is not None and "quarantine/replayed.parquet" in earlier.files:
            path = lake.fetch(earlier.files["quarantine/replayed.parquet"], scratch)
            replay = replay.over(Replay.read(path))
        try:
            facts = write_raw(
                source,
                out,
                scratch=scratch,
                max_rejected_share=request.max_rejected_share,
                today=now.date(),
                replay=replay,
            )
        except DataGateError as error:
            kept = _keep_refused(lake, request, source, out)
            raise DataGateError(f"{error}\n{kept}" if kept else str(error)) from error
    if facts["n_rejected"]:
        log.warning("rows_rejected", n_rejected=facts["n_rejected"], by_rule=facts["rejected_by_rule"])
    if isinstance(source, FileSource):
        for file in source.files.values():
            if file.sha256:
                source_facts["files"][file.name]["sha256"] = file.sha256
    return {**facts, "source": source_facts}


def _keep_refused(lake: Lake, request: IngestRequest, source: Source, out: Path) -> str:
    """Store the quarantine of a refused run, so that its rows can be mended and replayed."""
    path = out / "quarantine" / "rejected.csv"
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        file.readline()
        if not file.read(1):  # a header alone: the file as a whole was refused, and there is nothing to mend in it
            return ""
    entry = lake.upload(path, f"raw/{request.run_id}/{REFUSED}/rejected.csv")
    command = [this_python(), "-m", "pipelines.steps.ingest", "--lake", lake.uri, "--run-id", "mended", "--source"]
    command += [source.uri] if request.data_version == LATEST else [source.uri, "--data-version", request.data_version]
    return (
        f"The rejected rows are kept in {lake.uri_of(entry.key)}: mend the source and run again, or mend a copy of "
        f"them and read it in:\n  {shlex.join([*command, '--replay', 'rejected.csv'])}\n"
        f"then run on what comes out:\n  {shlex.join([*RUN_ON, lake.uri, '-p', 'data-version=mended'])}"
    )


def _check_unchanged(earlier: StepManifest, facts: Mapping[str, Any]) -> None:
    before = {name: file.get("etag") or file["sha256"] for name, file in earlier.facts["source"]["files"].items()}
    after = {name: file.get("etag") or file["sha256"] for name, file in facts["files"].items()}
    changed = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    if changed:
        raise UsageError(
            f"data-version {earlier.run_id} was read from {facts['uri']}, whose {', '.join(changed)} changed since; "
            "ingest it anew (data-version latest) before rows are replayed"
        )


@app.command()
def main(
    run_id: Annotated[str, typer.Option(help="name of this run in the lake")],
    source: Annotated[str, typer.Option(help="folder in Kaggle's format, s3://… or synthetic://…")],
    lake: Annotated[str, typer.Option(help="lake URI; empty = S3_DATA_LAKE_BUCKET")] = "",
    data_version: Annotated[str, typer.Option(help="latest, or the run whose raw data is used as it is")] = LATEST,
    max_rejected_share: Annotated[float, typer.Option(help="of each file's rows; more stop the run")] = 0.01,
    replay: Annotated[Path | None, typer.Option(help="mended rows in the form of quarantine/rejected.csv")] = None,
    force: Annotated[bool, typer.Option(help="read the source although it is unchanged")] = False,
) -> None:
    """Read a source into the lake; the last line on stdout is the facts as JSON."""
    request = IngestRequest(run_id, source, data_version or LATEST, max_rejected_share, replay)
    manifest = ingest(open_lake(lake_uri(lake)), request, now=datetime.now(UTC), force=force)
    print(json.dumps(manifest.facts, sort_keys=True))


if __name__ == "__main__":
    run_app(app)
