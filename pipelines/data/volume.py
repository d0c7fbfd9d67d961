"""How many purchases a day should have, by its weekday and its neighbours, and which days fall out of that.

Customers buy several articles at once, so daily counts scatter more than Poisson: `clumping` is the variance over the
mean, 2b − 1 for geometrically distributed baskets of mean size b. A large shop is judged by ratios, a tiny one by
whether the difference could be chance.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.int64]

TRAILING_WEEKS = 8  # two months: long enough for a median, short enough to follow the season
MIN_TRAILING_WEEKS = 4
# A silence is unexpected when this many clumps were due: chance e^−12, once in 400 shops of 700 days.
UNEXPECTED_CLUMPS = 12.0
SIGNIFICANT_Z = 5.0


@dataclass(frozen=True, slots=True)
class Silence:
    """Consecutive days without a sale although sales were due; days count from the first day of the data."""

    start_day: int
    n_days: int
    expected_rows: float


@dataclass(frozen=True, slots=True)
class VolumeRatio:
    """Rows of one of the last days, or of the last week, over what the weeks before led to expect."""

    start_day: int
    n_days: int
    n_rows: int
    expected_rows: float
    is_significant: bool

    @property
    def ratio(self) -> float:
        return self.n_rows / self.expected_rows


def clumping(n_rows: int, n_baskets: int) -> float:
    """Estimate the variance of counts over their mean; 1 (Poisson) when every basket holds one article."""
    return max(1.0, 2.0 * n_rows / max(n_baskets, 1) - 1.0)


def expected_rows(n_rows_per_day: Counts) -> npt.NDArray[np.float64]:
    """Expect of each day its weekday's share of the median week among the 17 around it.

    Weeks without sales are left out of the median. A shop that is closed on Sundays expects nothing of a Sunday.
    """
    n_days = len(n_rows_per_day)
    weekday = np.arange(n_days) % 7
    per_weekday = np.bincount(weekday, weights=n_rows_per_day, minlength=7)
    share = per_weekday / max(per_weekday.sum(), 1.0)
    n_weeks = n_days // 7
    if n_weeks == 0:
        return np.asarray(share[weekday] * n_rows_per_day.sum())
    weekly = n_rows_per_day[: n_weeks * 7].reshape(n_weeks, 7).sum(axis=1)
    level = np.zeros(n_weeks)
    for week in range(n_weeks):
        near = weekly[max(0, week - TRAILING_WEEKS) : week + TRAILING_WEEKS + 1]
        near = near if near.any() else weekly
        level[week] = np.median(near[near > 0]) if near.any() else 0.0
    return np.asarray(level[np.minimum(np.arange(n_days) // 7, n_weeks - 1)] * share[weekday])


def find_silences(n_rows_per_day: Counts, clump: float) -> list[Silence]:
    """Find runs of days without sales that are too long or too well visited otherwise to be chance."""
    expected = expected_rows(n_rows_per_day)
    is_edge = np.diff(np.concatenate(([0], (n_rows_per_day == 0).astype(np.int8), [0])))
    runs = zip(np.flatnonzero(is_edge == 1), np.flatnonzero(is_edge == -1), strict=True)
    found = (Silence(int(start), int(end - start), float(expected[start:end].sum())) for start, end in runs)
    return [silence for silence in found if silence.expected_rows / clump >= UNEXPECTED_CLUMPS]


def recent_ratios(n_rows_per_day: Counts, clump: float) -> list[VolumeRatio]:
    """Compare the last week, and each of its days, with the median of the same weekdays in the weeks before.

    The week comes first; days on which the shop usually sells nothing are left out, and so are days without a single
    sale, such as Christmas: find_silences judges those. A difference is significant when chance and clumps do not
    explain it.
    """
    n_days = len(n_rows_per_day)
    n_weeks = min(n_days // 7 - 1, TRAILING_WEEKS)
    if n_weeks < MIN_TRAILING_WEEKS:
        return []
    by_week = n_rows_per_day[n_days - 7 * (n_weeks + 1) :].reshape(n_weeks + 1, 7)
    before, last = by_week[:-1], by_week[-1]
    compared = [(n_days - 7, 7, last.sum(), np.median(before.sum(axis=1)))]
    compared += [(n_days - 7 + day, 1, last[day], np.median(before[:, day])) for day in np.flatnonzero(last).tolist()]
    return [
        VolumeRatio(
            start_day=start_day,
            n_days=length,
            n_rows=int(n_rows),
            expected_rows=float(expected),
            is_significant=_is_significant(float(n_rows), float(expected), clump),
        )
        for start_day, length, n_rows, expected in compared
        if expected > 0
    ]


def _is_significant(n_rows: float, expected: float, clump: float) -> bool:
    """Bound chance by Bernstein's inequality: few large baskets make upward tails heavier than a normal one."""
    margin = SIGNIFICANT_Z * np.sqrt(clump * expected)
    if n_rows > expected:
        margin += SIGNIFICANT_Z**2 / 3 * clump
    return bool(abs(n_rows - expected) >= margin)
