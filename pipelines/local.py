"""Run the rendered workflow here: its own commands as processes, in DAG order, with its retries and deadlines."""

import asyncio
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime

from pipelines.errors import ArtefactError, PipelineError, TryAgainError
from pipelines.journal import Journal
from pipelines.lake.base import Lake
from pipelines.lake.faults import os_errors_explained
from pipelines.logs import get_logger
from pipelines.processes import Exit, ProcessGroups
from pipelines.rendered import PlannedStep
from pipelines.run_record import RunRecord, StepRecord
from pipelines.steps.manifest import STEP_FOLDERS, read_manifest
from pipelines.workflow import RETRY, RetryRule

OnChange = Callable[[RunRecord, StepRecord], None]

log = get_logger()


class LocalRun:
    """One run of planned steps. Resuming is running again: steps find their finished work in the lake by content."""

    def __init__(
        self,
        plan: Sequence[PlannedStep],
        *,
        lake: Lake,
        run_id: str,
        parameters: dict[str, str],
        journal: Journal,
        on_change: OnChange,
        retry: RetryRule = RETRY,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._plan = {step.name: step for step in plan}
        self._lake = lake
        self._journal = journal
        self._on_change = on_change
        self._retry = retry
        self._clock = clock
        self._finished = {name: asyncio.Event() for name in self._plan}
        self._signal: signal.Signals | None = None
        self.record = RunRecord(
            run_id=run_id,
            lake=lake.uri,
            parameters=parameters,
            started_at=clock(),
            steps={name: StepRecord(name=name, log=journal.log_uri(name)) for name in self._plan},
        )

    def execute(self) -> int:
        """Run to the end and give the exit code: 0, the failed step's, or 128 + signal when interrupted."""
        self.record.status = "Running"
        self._journal.open(self.record)
        try:
            asyncio.run(self._run_all())
        except asyncio.CancelledError:
            self.record.status = "Interrupted"
        except BaseExceptionGroup as group:  # a step's bookkeeping failed: the lake is full or gone
            self.record.status = "Failed"
            raise _first_pipeline_error(group) from group
        else:
            self.record.status = "Failed" if self.record.failed_step else "Succeeded"
        finally:
            self.record.finished_at = self._clock()
            try:
                self._journal.close(self.record)
            except PipelineError as error:  # how the run itself ended is the news
                log.warning("run_record_not_saved", reason=str(error), logs=str(self._journal.logs_folder))
        return self._exit_code()

    def _exit_code(self) -> int:
        if self._signal is not None:
            return 128 + self._signal
        failed = self.record.failed_step
        return 0 if failed is None else failed.exit_code or 1

    async def _run_all(self) -> None:
        loop = asyncio.get_running_loop()
        main = asyncio.current_task()
        assert main is not None
        with ProcessGroups() as groups:

            def stop(number: signal.Signals) -> None:
                if self._signal is not None:  # asked twice: no more patience
                    groups.kill_all()
                self._signal = number
                main.cancel()

            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                loop.add_signal_handler(number, stop, number)
            async with asyncio.TaskGroup() as tasks:
                for step in self._plan.values():
                    tasks.create_task(self._run_step(step, groups))

    async def _run_step(self, step: PlannedStep, groups: ProcessGroups) -> None:
        """Wait for the steps before, then try until the step succeeds or its retries are spent."""
        record = self.record.steps[step.name]
        try:
            for name in step.after:
                await self._finished[name].wait()
            if any(self.record.steps[name].status != "Succeeded" for name in step.after):
                self._change(record, status="Omitted", message="a step before it did not succeed")
                return
            record.started_at = self._clock()
            while not await self._attempt(step, record, groups):
                await asyncio.sleep(step.wait_seconds(record.attempts - 1))
        except asyncio.CancelledError:
            if record.status in ("Pending", "Running"):
                record.seconds = record.elapsed_seconds(self._clock())
                record.status = "Interrupted"
            raise
        finally:
            self._finished[step.name].set()

    async def _attempt(self, step: PlannedStep, record: StepRecord, groups: ProcessGroups) -> bool:
        """Run the command once; False asks for another attempt."""
        self._change(record, status="Running", attempts=record.attempts + 1, message="")
        with os_errors_explained(str(self._journal.log_path(step.name))):
            ended = await groups.run(
                step.argv,
                env=step.env,
                log_path=self._journal.log_path(step.name),
                deadline_seconds=step.deadline_seconds,
            )
        record.exit_code = ended.exit_code
        record.peak_rss_bytes = max(record.peak_rss_bytes or 0, ended.peak_rss_bytes)
        if ended.exit_code == 0 and not ended.hit_deadline:
            self._end(record, status="Succeeded", reused_from=self._reused_from(step.name))
            return True
        message = _explain(step, ended)
        n_retries = record.attempts - 1
        again = self._retry.allows(status="Failed", exit_code=ended.exit_code, message=message)
        if again and n_retries < step.retry_limit:
            wait_seconds = step.wait_seconds(n_retries)
            said = [line for line in self._journal.last_lines(step.name, 40) if line.startswith("error: ")]
            because = f" ({said[-1].removeprefix('error: ')})" if said else ""
            self._change(
                record,
                message=f"{message}{because}; retry {n_retries + 1} of {step.retry_limit} in {wait_seconds:g} s",
            )
            return False
        self._end(record, status="Failed", message=message)
        return True

    def _reused_from(self, step: str) -> str | None:
        """Name the run that did the work, when the step recognised it as done."""
        if step not in STEP_FOLDERS:
            return None
        try:
            manifest = read_manifest(self._lake, step, self.record.run_id)
        except ArtefactError:  # the next step's to complain about: it needs the manifest, this report does not
            return None
        return manifest.produced_by if manifest.produced_by != self.record.run_id else None

    def _end(self, record: StepRecord, **changes: object) -> None:
        self._change(record, seconds=round(record.elapsed_seconds(self._clock()) or 0.0, 3), **changes)

    def _change(self, record: StepRecord, **changes: object) -> None:
        for name, value in changes.items():
            setattr(record, name, value)
        try:
            self._journal.save(self.record)
        except TryAgainError as error:  # hours of training are not given up because a note of them is late
            log.warning("run_record_not_saved", reason=str(error))
        self._on_change(self.record, record)


def _explain(step: PlannedStep, ended: Exit) -> str:
    if ended.hit_deadline:
        return f"stopped at its deadline of {step.deadline_seconds:g} s"
    if ended.exit_code > 128:
        with suppress(ValueError):
            return f"killed by {signal.Signals(ended.exit_code - 128).name} (exit code {ended.exit_code})"
    return f"exit code {ended.exit_code}"


def _first_pipeline_error(group: BaseExceptionGroup[BaseException]) -> BaseException:
    for error in group.exceptions:
        found = _first_pipeline_error(error) if isinstance(error, BaseExceptionGroup) else error
        if isinstance(found, PipelineError):
            return found
    return group.exceptions[0]
