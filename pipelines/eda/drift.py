"""How far distributions moved: the population stability index (PSI) per feature, and whether chance explains it.

PSI = Σ (p − q) ln(p / q) over a feature's fixed bins. By custom below 0.1 is calm and from 0.25 is a large move; but
small samples move by chance: without drift, PSI · n·m / (n + m) follows χ² with B − 1 degrees of freedom (Yurdakul and
Naranjo, Statistical properties of the population stability index, 2020). Both are asked here.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pipelines.eda.bins import ARTICLE_AGE_WEEKS, DAYS_AGO, LAUNCH_MARGIN_DAYS, Bins
from pipelines.eda.statistics import SCHEMA_VERSION, Distributions

CALM, LARGE = 0.1, 0.25
# One false alarm in a thousand comparisons: a dozen features are compared every night.
NORMAL_QUANTILE_OF_999 = 3.0902
# Purchases of one basket resemble each other, so that n rows say less than n independent ones.
ROWS_PER_INDEPENDENT_ROW = 3.0
SMALLEST_BIN = 5.0  # χ² asks for about five expected counts a bin; smaller ones are pooled

NOT_SEEN = "longer, or not known"
# Feature → its bins, the days of a bin's unit, and how many days of the data say nothing about it.
TIMES_SINCE: Mapping[str, tuple[Bins, int, int]] = {
    "article_age": (ARTICLE_AGE_WEEKS, 7, LAUNCH_MARGIN_DAYS),
    "days_since_visit": (DAYS_AGO, 1, 0),
}

Verdict = Literal["calm", "moved", "large", "chance", "few"]


@dataclass(frozen=True, slots=True)
class Drift:
    """One feature against a reference. `movers` are the labels whose share changed most: (label, before, now)."""

    feature: str
    psi: float
    chance_level: float
    n_now: int
    n_before: int
    movers: tuple[tuple[str, float, float], ...]

    @property
    def verdict(self) -> Verdict:
        if min(self.n_now, self.n_before) < 50:
            return "few"
        if self.psi < CALM:
            return "calm"
        if self.psi <= self.chance_level:
            return "chance"
        return "large" if self.psi >= LARGE else "moved"


def compare(
    now: Distributions, before: Distributions, *, seen_days: int, window: str = "recent", reference: str = "recent"
) -> list[Drift]:
    """Compare each feature that both have, the largest PSI first.

    `seen_days` of purchases lie before both windows. A time since something is told apart only as far as they reach:
    in a shop's second month no article can be older than a month, which says nothing about the shop.
    """
    found = []
    for feature in sorted(now.keys() & before.keys()):
        current = _as_far_as_seen(feature, now[feature].get(window, {}), seen_days)
        earlier = _as_far_as_seen(feature, before[feature].get(reference, {}), seen_days)
        if current and earlier:
            found.append(_drift(feature, current, earlier))
    return sorted(found, key=lambda drift: (-drift.psi, drift.feature))


def _as_far_as_seen(feature: str, counts: Mapping[str, int], seen_days: int) -> Mapping[str, int]:
    """Pool the labels that the days before the window cannot tell apart; empty when they tell none."""
    if feature not in TIMES_SINCE:
        return counts
    bins, unit_days, margin_days = TIMES_SINCE[feature]
    ends = zip(bins.labels, bins.starts[1:], strict=False)  # the last has none
    told = {label for label, end in ends if end * unit_days <= seen_days - margin_days}
    found = {label: n for label, n in counts.items() if label in told}
    rest = sum(counts.values()) - sum(found.values())
    return found | {NOT_SEEN: rest} if told and rest else found


def _drift(feature: str, now: Mapping[str, int], before: Mapping[str, int]) -> Drift:
    labels = sorted(now.keys() | before.keys())
    n, m = sum(now.values()), sum(before.values())
    pooled_now, pooled_before = _pool([(now.get(label, 0), before.get(label, 0)) for label in labels])
    shares = [(label, before.get(label, 0) / m, now.get(label, 0) / n) for label in labels]
    movers = sorted(shares, key=lambda share: (-round(abs(share[2] - share[1]), 9), share[0]))[:3]
    bins = len(pooled_now)
    return Drift(
        feature=feature,
        psi=population_stability_index(pooled_now, pooled_before),
        chance_level=_chi_squared_999(bins - 1) * (1 / n + 1 / m) * ROWS_PER_INDEPENDENT_ROW if bins > 1 else 0.0,
        n_now=n,
        n_before=m,
        movers=tuple(movers),
    )


def population_stability_index(now: list[float], before: list[float]) -> float:
    """Sum (p − q) ln(p / q) over bins, with half a count added to each so that an empty bin stays finite.

    >>> round(population_stability_index([50, 50], [50, 50]), 6)
    0.0
    >>> round(population_stability_index([2e6, 8e6], [5e6, 5e6]), 4)  # -0.3 ln 0.4 + 0.3 ln 1.6
    0.4159
    """
    n, m = sum(now) + 0.5 * len(now), sum(before) + 0.5 * len(before)
    total = 0.0
    for current, earlier in zip(now, before, strict=True):
        p, q = (current + 0.5) / n, (earlier + 0.5) / m
        total += (p - q) * math.log(p / q)
    return total


def _pool(counts: list[tuple[int, int]]) -> tuple[list[float], list[float]]:
    """Pool the bins that would hold too few rows in the smaller of both samples."""
    n, m = sum(now for now, _ in counts), sum(before for _, before in counts)
    smaller = min(n, m)
    large = [pair for pair in counts if (pair[0] + pair[1]) / (n + m) * smaller >= SMALLEST_BIN]
    small = [pair for pair in counts if (pair[0] + pair[1]) / (n + m) * smaller < SMALLEST_BIN]
    pairs = [*large, (sum(now for now, _ in small), sum(before for _, before in small))] if small else large
    return [float(now) for now, _ in pairs], [float(before) for _, before in pairs]


def _chi_squared_999(degrees: int) -> float:
    """Approximate the 99.9 % quantile (Wilson and Hilferty 1931; within 2 % from one degree on)."""
    term = 2 / (9 * degrees)
    return float(degrees * (1 - term + NORMAL_QUANTILE_OF_999 * math.sqrt(term)) ** 3)


def is_comparable(statistics: Mapping[str, Any]) -> bool:
    """Say whether an earlier run's statistics.json can be compared with."""
    return statistics.get("schema_version") == SCHEMA_VERSION
