"""What is known of one run, as run.json keeps it: status, time and log of every step."""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict

# Argo's words, so that a local run and one on the cluster read alike.
Status = Literal["Pending", "Running", "Succeeded", "Failed", "Omitted", "Interrupted"]


class StepRecord(BaseModel):
    """One step of a run. `seconds` counts all attempts and the pauses between them."""

    model_config = ConfigDict(validate_assignment=True)

    name: str
    status: Status = "Pending"
    attempts: int = 0
    started_at: datetime | None = None
    seconds: float | None = None
    peak_rss_bytes: int | None = None
    exit_code: int | None = None
    reused_from: str | None = None
    """the run that did the work, when this one found it finished"""
    message: str = ""
    log: str
    """where the step's output is kept: a path, or the lake's address of it"""

    def elapsed_seconds(self, now: datetime) -> float | None:
        if self.seconds is not None or self.started_at is None:
            return self.seconds
        return (now - self.started_at).total_seconds()


class RunRecord(BaseModel):
    """One run; steps are in DAG order."""

    model_config = ConfigDict(validate_assignment=True)

    run_id: str
    status: Status = "Pending"
    lake: str
    parameters: dict[str, str]
    started_at: datetime
    finished_at: datetime | None = None
    steps: dict[str, StepRecord]

    @property
    def failed_step(self) -> StepRecord | None:
        """Give the step that stopped the run: the first in DAG order that failed."""
        return next((step for step in self.steps.values() if step.status == "Failed"), None)

    @property
    def seconds_by_step(self) -> dict[str, float]:
        return {name: step.seconds for name, step in self.steps.items() if step.seconds is not None}
