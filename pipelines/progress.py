"""Show a run to people on stderr: a live table on a terminal, one line per change elsewhere."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from pipelines.local import OnChange
from pipelines.run_record import RunRecord, StepRecord

_COLOURS = {"Running": "cyan", "Succeeded": "green", "Failed": "red", "Interrupted": "yellow"}


@contextmanager
def shown(console: Console) -> Iterator[OnChange]:
    """Give the function that a run calls at each change; what is shown stays on the screen at the end."""
    if not console.is_terminal:

        def print_line(record: RunRecord, step: StepRecord) -> None:
            console.print(Text(_line(record, step)), soft_wrap=True)

        yield print_line
        return

    latest: list[RunRecord] = []
    with Live(console=console, get_renderable=lambda: _table(latest[-1]) if latest else "", refresh_per_second=4):

        def remember(record: RunRecord, _step: StepRecord) -> None:
            latest[:] = [record]

        yield remember


def duration(seconds: float | None) -> str:
    """
    >>> duration(3.21), duration(75), duration(None)
    ('3.2 s', '1 min 15 s', '')
    """
    if seconds is None:
        return ""
    return f"{seconds:.1f} s" if seconds < 60 else f"{int(seconds) // 60} min {int(seconds) % 60} s"


def _line(record: RunRecord, step: StepRecord) -> str:
    words = [record.run_id, f"{step.name}:", _status(step)]
    if step.seconds is not None:
        words.append(f"in {duration(step.seconds)}")
    if step.peak_rss_bytes:
        words.append(f"with {_memory(step)}")
    if step.message:
        words.append(f"({step.message})")
    return " ".join(words)


def _memory(step: StepRecord) -> str:
    return f"{step.peak_rss_bytes / 2**20:,.0f} MiB" if step.peak_rss_bytes else ""


def _status(step: StepRecord) -> str:
    if step.reused_from:
        return f"Succeeded, reused from {step.reused_from}"
    return f"{step.status}, attempt {step.attempts}" if step.status == "Running" and step.attempts > 1 else step.status


def _table(record: RunRecord) -> Table:
    now = datetime.now(UTC)
    table = Table(title=f"{record.run_id} → {record.lake}", title_justify="left", box=None, padding=(0, 2, 0, 0))
    for heading in ("step", "status", "time", "memory", ""):
        table.add_column(heading, justify="right" if heading in ("time", "memory") else "left")
    for step in record.steps.values():
        table.add_row(
            step.name,
            Text(_status(step), style=_COLOURS.get(step.status, "dim")),
            duration(step.elapsed_seconds(now)),
            _memory(step),
            Text(step.message, style="dim"),
        )
    return table
