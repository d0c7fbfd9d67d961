import doctest
import io
from datetime import UTC, datetime

from rich.console import Console

from pipelines import progress
from pipelines.progress import shown
from pipelines.run_record import RunRecord, StepRecord


def record() -> RunRecord:
    steps = {
        "ingest": StepRecord(
            name="ingest",
            status="Succeeded",
            attempts=1,
            seconds=0.2,
            peak_rss_bytes=50 << 20,
            reused_from="run-0",
            log="",
        ),
        "process": StepRecord(
            name="process",
            status="Running",
            attempts=2,
            started_at=datetime.now(UTC),
            message="exit code 75; retry 1 of 3 in 30 s",
            log="",
        ),
    }
    started = datetime.now(UTC)
    return RunRecord(run_id="run-1", lake="./lake", parameters={}, started_at=started, steps=steps)


def output(*, terminal: bool) -> str:
    text = io.StringIO()
    with shown(Console(file=text, force_terminal=terminal, width=120, color_system=None)) as on_change:
        run = record()
        for step in run.steps.values():
            on_change(run, step)
    return text.getvalue()


def test_elsewhere_than_on_a_terminal_each_change_is_one_plain_line() -> None:
    assert output(terminal=False).splitlines() == [
        "run-1 ingest: Succeeded, reused from run-0 in 0.2 s with 50 MiB",
        "run-1 process: Running, attempt 2 (exit code 75; retry 1 of 3 in 30 s)",
    ]


def test_on_a_terminal_a_table_shows_every_step() -> None:
    table = output(terminal=True)
    assert "run-1 → ./lake" in table
    assert "reused from run-0" in table
    assert "50 MiB" in table
    assert "attempt 2" in table


def test_doctests() -> None:
    assert doctest.testmod(progress).failed == 0
