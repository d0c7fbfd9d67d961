"""The split of time: what the model may see, and the window it is measured on."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

from pipelines.errors import DataGateError, UsageError

# One week to learn from, one to stop early on, and one before both for histories: with less, nothing is learnable.
MIN_HISTORY_DAYS = 21


def min_history_days(horizon_days: int) -> int:
    """Ask for two windows as long as the labels, and before them as much again, four weeks at most.

    >>> [min_history_days(days) for days in (1, 7, 10, 28, 40)]
    [21, 21, 30, 84, 108]
    """
    return max(MIN_HISTORY_DAYS, min(3 * horizon_days, 2 * horizon_days + 28))


@dataclass(frozen=True, slots=True)
class TimeSplit:
    """Days are counted from `first_day` (0); history is `[0, cutoff_day)`, labels `[cutoff_day, label_end_day)`."""

    first_day: date
    last_day: date
    cutoff_date: date
    horizon_days: int

    @property
    def cutoff_day(self) -> int:
        return (self.cutoff_date - self.first_day).days

    @property
    def label_end_day(self) -> int:
        """The first day after the label window; it may lie behind the last day of the data."""
        return self.cutoff_day + self.horizon_days

    @property
    def last_day_index(self) -> int:
        return (self.last_day - self.first_day).days

    @property
    def n_label_days_covered(self) -> int:
        return min(self.label_end_day, self.last_day_index + 1) - self.cutoff_day

    def week_of(self, day: int) -> int:
        """Number the weeks around the cutoff: −1 is the seven days before it, 0 begins with `cutoff_date`.

        >>> split = TimeSplit(date(2020, 1, 1), date(2020, 3, 1), date(2020, 2, 5), 7)
        >>> split.week_of(split.cutoff_day - 1), split.week_of(split.cutoff_day), split.week_of(split.cutoff_day - 8)
        (-1, 0, -2)
        """
        return (day - self.cutoff_day) // 7

    def as_facts(self) -> dict[str, str | int]:
        return {
            "first_day": self.first_day.isoformat(),
            "last_day": self.last_day.isoformat(),
            "cutoff_date": self.cutoff_date.isoformat(),
            "horizon_days": self.horizon_days,
            "cutoff_day": self.cutoff_day,
            "label_end_day": self.label_end_day,
            "last_day_index": self.last_day_index,
        }


def parse_date(text: str, *, parameter: str) -> date:
    """Read YYYY-MM-DD and nothing looser, so that 01/02/2020 is never guessed at."""
    try:
        parsed = date.fromisoformat(text)
    except ValueError:
        parsed = None
    if parsed is None or parsed.isoformat() != text:
        raise UsageError(f"{parameter} {text!r} is not a date; write it as YYYY-MM-DD, for example 2020-09-16")
    return parsed


def split_at(first_day: date, last_day: date, *, cutoff_date: date | None, horizon_days: int) -> TimeSplit:
    """Place the cutoff; without one, the label window is the last `horizon_days` days of the data.

    Raises DataGateError when the data is too short for any cutoff, UsageError when this one is outside of it.
    """
    if horizon_days < 1:
        raise UsageError(f"horizon_days {horizon_days} must be at least 1; the usual value is 7")
    n_days = (last_day - first_day).days + 1
    needed_days = min_history_days(horizon_days)
    if n_days <= MIN_HISTORY_DAYS:
        raise DataGateError(
            f"the data spans {n_days} days ({first_day} to {last_day}); training needs at least "
            f"{MIN_HISTORY_DAYS} days of history before the label window; ingest a longer history"
        )
    if horizon_days > n_days:  # also keeps what no calendar can count to out of the sums below
        raise UsageError(f"horizon_days {horizon_days} is longer than the data, {n_days} days; the usual value is 7")
    if cutoff_date is None:
        cutoff_date = last_day - timedelta(days=horizon_days - 1)
        if (cutoff_date - first_day).days < needed_days:
            longest = max(days for days in range(1, n_days) if n_days - days >= min_history_days(days))
            raise UsageError(
                f"horizon_days {horizon_days} is too long for {n_days} days of data ({first_day} to {last_day}): "
                f"it needs {needed_days} days of history before the label window; it can be at most {longest}"
            )
    earliest = first_day + timedelta(days=needed_days)
    if earliest > last_day:
        raise UsageError(
            f"horizon_days {horizon_days} needs {needed_days} days of history, the data spans {n_days} "
            f"({first_day} to {last_day}); choose a shorter horizon"
        )
    if not first_day <= cutoff_date <= last_day:
        raise UsageError(
            f"cutoff_date {cutoff_date} is outside the data ({first_day} to {last_day}); "
            f"it can be from {earliest} to {last_day}"
        )
    if cutoff_date < earliest:
        raise UsageError(
            f"cutoff_date {cutoff_date} leaves {(cutoff_date - first_day).days} days of history, training needs "
            f"{needed_days}; it can be from {earliest} to {last_day}"
        )
    return TimeSplit(first_day=first_day, last_day=last_day, cutoff_date=cutoff_date, horizon_days=horizon_days)
