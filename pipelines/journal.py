"""Where a local run leaves its traces: `runs/{run_id}/run.json` and `runs/{run_id}/logs/{step}.log` in the lake."""

from pathlib import Path

from pydantic import ValidationError

from pipelines.errors import LakeConflict, UsageError
from pipelines.lake.base import Lake
from pipelines.lake.faults import os_errors_explained
from pipelines.lake.local import LocalLake
from pipelines.run_record import RunRecord

_TAIL_BYTES = 16_384


class Journal:
    """Logs grow in a folder: inside a folder lake, else in `./.runs/{run_id}` until `close` uploads them."""

    def __init__(self, lake: Lake, run_id: str, *, folder: Path = Path(".runs")) -> None:
        self._lake = lake
        self._prefix = f"runs/{run_id}"
        self._key = f"{self._prefix}/run.json"
        self._is_local = isinstance(lake, LocalLake)
        self.logs_folder = (lake.root / self._prefix if isinstance(lake, LocalLake) else folder / run_id) / "logs"

    def open(self, record: RunRecord) -> None:
        """Write the first run.json, which finds out whether the lake takes anything, and make the logs' folder.

        Raises UsageError when the run id stands for a run of other parameters, whose results would mix with these.
        """
        try:
            self._lake.write_bytes(self._key, _to_json(record), if_absent=True)
        except LakeConflict:
            self._refuse_other_parameters(record)
            self.save(record)
        with os_errors_explained(str(self.logs_folder)):
            self.logs_folder.mkdir(parents=True, exist_ok=True)

    def save(self, record: RunRecord) -> None:
        self._lake.write_bytes(self._key, _to_json(record))

    def _refuse_other_parameters(self, record: RunRecord) -> None:
        try:
            earlier = RunRecord.model_validate_json(self._lake.read_bytes(self._key)).parameters
        except ValidationError:
            return  # damaged, or of another version: nothing that a new run could mix with
        names = sorted(
            name for name in {**earlier, **record.parameters} if earlier.get(name) != record.parameters.get(name)
        )
        if names:
            raise UsageError(
                f"run-id {record.run_id!r} stands for a run with another {', '.join(names)} "
                f"({self._lake.uri_of(self._key)}); choose another run-id, or leave it out to get a new one"
            )

    def log_path(self, step: str) -> Path:
        return self.logs_folder / f"{step}.log"

    def log_uri(self, step: str) -> str:
        """Name the log as people reach it after the run."""
        return str(self.log_path(step)) if self._is_local else self._lake.uri_of(f"{self._prefix}/logs/{step}.log")

    def last_lines(self, step: str, n_lines: int = 10) -> list[str]:
        """Read the end of a step's log."""
        path = self.log_path(step)
        if not path.exists():
            return []
        with path.open("rb") as log:
            log.seek(max(0, path.stat().st_size - _TAIL_BYTES))
            return log.read().decode(errors="replace").splitlines()[-n_lines:]

    def close(self, record: RunRecord) -> None:
        """Write the last run.json, and bring logs that grew elsewhere into the lake."""
        if not self._is_local:
            for name in record.steps:
                if self.log_path(name).exists():
                    self._lake.upload(self.log_path(name), f"{self._prefix}/logs/{name}.log")
        self.save(record)


def _to_json(record: RunRecord) -> bytes:
    return record.model_dump_json(indent=1).encode() + b"\n"
