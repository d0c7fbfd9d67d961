"""Gates between the data and training: each with its value, its threshold and a sentence that says what to do."""

from __future__ import annotations

import difflib
import io
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from typing import Any, Literal

from pipelines.data.splits import TimeSplit
from pipelines.data.volume import Counts, Silence, VolumeRatio, clumping, find_silences, recent_ratios
from pipelines.errors import UsageError

Level = Literal["ok", "warning", "accepted", "failed"]

MAX_UNKNOWN_ARTICLES = 0.01  # without attributes an article cannot be recommended; ingest rejects such rows already
MAX_UNKNOWN_CUSTOMERS = 0.5  # guests without a row still teach what sells; above half, the wrong table was delivered
MANY_UNKNOWN_CUSTOMERS = 0.05
MAX_SILENT_DAYS = 6  # a lost weekly partition is 7 days; holidays are shorter
MAX_RECENT_SILENT_DAYS = 2
RECENT_DAYS = 28  # what popularity and freshness are learned from
# The strongest day of two years of H&M had 4.4 times the usual rows, the weakest a third.
MIN_VOLUME, LOW_VOLUME = 0.2, 0.35
MAX_VOLUME, HIGH_VOLUME = 10.0, 3.0
# Several pieces of one article are several rows: at H&M's one row in six is not the only one of its kind.
MAX_REPEATED, MANY_REPEATED = 0.95, 0.6
MIN_LABEL_CUSTOMERS = 30  # below, one lucky customer decides the metric

# Without unique keys and filled windows there is nothing to train on, whoever agrees to it.
ACCEPTABLE_GATES = (
    "unknown_articles",
    "unknown_customers",
    "date_gaps",
    "recent_date_gaps",
    "volume_collapse",
    "volume_explosion",
    "doubled_rows",
    "drop_total_rows",
    "drop_last_week_rows",
    "drop_articles",
    "drop_customers",
)


@dataclass(frozen=True, slots=True)
class Gate:
    """`passed` is false only for a failure that nobody accepted; a warning passes."""

    gate: str
    level: Level
    value: float | int
    threshold: float | int
    message: str

    @property
    def passed(self) -> bool:
        return self.level != "failed"

    def as_json(self) -> dict[str, Any]:
        return {"gate": self.gate, "passed": self.passed} | asdict(self)


@dataclass(frozen=True, slots=True)
class Purchases:
    """What the gates look at, counted while the data was indexed.

    Unknown means without a row in the table. Rows of unknown articles are left out of every other count.
    """

    split: TimeSplit
    n_rows_per_day: Counts
    n_unknown_article_rows: int
    n_unknown_customer_rows: int
    n_baskets: int
    repeated_share: float
    """Of the purchases, of all days or the newest: those of an article that the customer bought twice that day."""
    n_label_customers: int


def check_keys(n_duplicate_articles: int, n_duplicate_customers: int) -> list[Gate]:
    """A key that occurs twice would double every purchase that joins it: nothing can be indexed before this passes."""
    return [
        Gate(
            f"duplicate_{table}",
            "failed" if n_duplicates else "ok",
            n_duplicates,
            0,
            f"{n_duplicates} {table[:-1]}_ids occur more than once in {table}; keep one row for each"
            if n_duplicates
            else f"every {table[:-1]}_id occurs once",
        )
        for table, n_duplicates in (("articles", n_duplicate_articles), ("customers", n_duplicate_customers))
    ]


def check_purchases(purchases: Purchases) -> list[Gate]:
    """Judge the windows, the ids and the daily volume."""
    n_rows = int(purchases.n_rows_per_day.sum())
    n_unknown_article_rows = purchases.n_unknown_article_rows
    clump = clumping(n_rows, purchases.n_baskets)
    silences = find_silences(purchases.n_rows_per_day, clump)
    ratios = recent_ratios(purchases.n_rows_per_day, clump)
    split = purchases.split
    recent_from = split.last_day_index + 1 - RECENT_DAYS
    return [
        *_check_windows(purchases),
        _check_unknown("articles", n_unknown_article_rows, n_rows + n_unknown_article_rows, MAX_UNKNOWN_ARTICLES, 0.0),
        _check_unknown(
            "customers", purchases.n_unknown_customer_rows, n_rows, MAX_UNKNOWN_CUSTOMERS, MANY_UNKNOWN_CUSTOMERS
        ),
        _check_gaps("date_gaps", silences, MAX_SILENT_DAYS, split.first_day),
        _check_gaps(
            "recent_date_gaps",
            [silence for silence in silences if silence.start_day + silence.n_days > recent_from],
            MAX_RECENT_SILENT_DAYS,
            split.first_day,
        ),
        _check_volume("volume_collapse", ratios, split.first_day),
        _check_volume("volume_explosion", ratios, split.first_day),
        _check_doubled(purchases.repeated_share),
    ]


def parse_accepted(text: str) -> tuple[str, ...]:
    """Read a comma-separated list of gates, sorted; UsageError names the nearest gate for one that does not exist."""
    names = sorted({name.strip() for name in text.split(",") if name.strip()})
    for name in names:
        if name not in ACCEPTABLE_GATES:
            near = difflib.get_close_matches(name, ACCEPTABLE_GATES, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise UsageError(
                f"accept-gates names {name!r}, which nobody can accept or does not exist{hint}; "
                f"gates that can be accepted are {', '.join(ACCEPTABLE_GATES)}"
            )
    return tuple(names)


def accept(gates: Iterable[Gate], accepted: Sequence[str]) -> list[Gate]:
    """Let the named gates pass: someone looked, and the data is what it should be."""
    return [
        Gate(gate.gate, "accepted", gate.value, gate.threshold, gate.message)
        if gate.gate in accepted and not gate.passed
        else gate
        for gate in gates
    ]


def refusal(gates: Iterable[Gate], report_uri: str) -> str:
    """Say in a table which gates failed."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    failed = [gate for gate in gates if not gate.passed]
    table = Table("gate", "value", "threshold", "what", box=box.SIMPLE_HEAD, pad_edge=False)
    for gate in failed:
        table.add_row(gate.gate, f"{gate.value:g}", f"{gate.threshold:g}", gate.message)
    console = Console(file=io.StringIO(), width=120, color_system=None)
    console.print(table)
    accepting = [gate.gate for gate in failed if gate.gate in ACCEPTABLE_GATES]
    hint = f"; if the data is right as it is, run again with -p accept-gates={','.join(accepting)}" if accepting else ""
    lines = (line.rstrip() for line in console.file.getvalue().splitlines())  # type: ignore[attr-defined]
    return "\n".join(
        [
            f"{len(failed)} of the quality gates refused the data",
            *(line for line in lines if line),
            f"all figures: {report_uri}" + hint,
        ]
    )


def _check_windows(purchases: Purchases) -> list[Gate]:
    split, per_day = purchases.split, purchases.n_rows_per_day
    n_history = int(per_day[: split.cutoff_day].sum())
    n_labels = int(per_day[split.cutoff_day : split.label_end_day].sum())
    last = split.cutoff_date + timedelta(days=split.horizon_days - 1)
    window = f"{split.cutoff_date} to {last}"
    label_level: Level = "ok"
    message = f"{n_labels:,} purchases of {purchases.n_label_customers:,} customers in the label window {window}"
    if n_labels == 0:
        label_level = "failed"
        message = f"nobody bought in the label window {window}; choose an earlier cutoff_date or ingest that week"
    elif split.n_label_days_covered < split.horizon_days:
        label_level = "warning"
        message += f", of which the data covers {split.n_label_days_covered} of {split.horizon_days} days"
    elif purchases.n_label_customers < MIN_LABEL_CUSTOMERS:
        label_level = "warning"
        message += "; metrics on so few are mostly noise"
    return [
        Gate(
            "history_window",
            "ok" if n_history else "failed",
            n_history,
            1,
            f"{n_history:,} purchases before {split.cutoff_date}"
            + ("" if n_history else "; choose a later cutoff_date or ingest the history"),
        ),
        Gate("label_window", label_level, n_labels, 1, message),
    ]


def _check_unknown(table: str, n_unknown: int, n_rows: int, most: float, many: float) -> Gate:
    share = round(n_unknown / max(n_rows, 1), 6)
    level: Level = "failed" if share > most else "warning" if share > many else "ok"
    message = f"{n_unknown:,} of {n_rows:,} purchases name {table} without a row in the {table} table"
    if level != "ok":
        message += f"; deliver {table} and transactions of the same day"
    return Gate(f"unknown_{table}", level, share, most, message)


def _check_gaps(gate: str, silences: Sequence[Silence], most: int, first_day: date) -> Gate:
    if not silences:
        return Gate(gate, "ok", 0, most, "no unexpected days without sales")
    longest = max(silences, key=lambda silence: silence.n_days)
    start = first_day + timedelta(days=longest.start_day)
    message = (
        f"no sale on {longest.n_days} days from {start}, about {longest.expected_rows:.0f} were due; "
        f"{len(silences)} such gap{'s' if len(silences) > 1 else ''}; look whether days of the export are missing"
    )
    return Gate(gate, "failed" if longest.n_days > most else "warning", longest.n_days, most, message)


def _check_volume(gate: str, ratios: Sequence[VolumeRatio], first_day: date) -> Gate:
    is_low = gate == "volume_collapse"
    threshold = MIN_VOLUME if is_low else MAX_VOLUME
    if not ratios:
        return Gate(gate, "ok", 1.0, threshold, "too few weeks or sales to compare the last week with")
    significant = [found for found in ratios if found.is_significant] or [ratios[0]]
    found = (min if is_low else max)(significant, key=lambda found: found.ratio)
    start = first_day + timedelta(days=found.start_day)
    when = f"on {start}" if found.n_days == 1 else f"in the week from {start}"
    message = f"{found.n_rows:,} purchases {when}, about {found.expected_rows:,.0f} were due"
    level: Level = "ok"
    if found.is_significant and (found.ratio < LOW_VOLUME if is_low else found.ratio > HIGH_VOLUME):
        level = "failed" if (found.ratio < threshold if is_low else found.ratio > threshold) else "warning"
        message += "; look whether the export was cut off" if is_low else "; look whether the export holds rows twice"
    return Gate(gate, level, round(found.ratio, 6), threshold, message)


def _check_doubled(share: float) -> Gate:
    message = f"{share:.1%} of the purchases are of an article that the customer bought more than once that day"
    level: Level = "failed" if share > MAX_REPEATED else "warning" if share > MANY_REPEATED else "ok"
    if level != "ok":
        message += "; look whether the export, or its newest days, were written or appended twice"
    return Gate("doubled_rows", level, round(share, 6), MAX_REPEATED, message)
