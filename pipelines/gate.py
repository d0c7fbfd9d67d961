"""The promotion decision: a pure function of measured differences, with its reasons in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pipelines.recommender.metrics import Interval

METRIC_CEILING = 0.5
"""No shop's next week is this predictable: a map_at_12 above it means that the label week leaked."""
SLICE_TOLERANCE = 0.1
"""A slice may lose at most this share of the champion's map_at_12, beyond its noise."""
MIN_SLICE_CUSTOMERS = 30
"""The interval of fewer customers is narrower than their noise: that of a single one has no width at all."""


@dataclass(frozen=True)
class Decision:
    """Promoted or not, and why; `reasons` reads aloud."""

    is_promoted: bool
    reasons: list[str]


@dataclass(frozen=True)
class Rival:
    """What the challenger is held against on the same customers: paired differences in map_at_12."""

    name: str
    map_at_12: float
    difference: Interval
    slice_differences: Mapping[str, Interval]


def decide(
    map_at_12: float,
    baselines: Mapping[str, Rival],
    champion: Rival | None,
    threshold: float,
    objection: str | None = None,
) -> Decision:
    """Promote a challenger that beats both baselines and, when there is a champion, beats it beyond the noise.

    `threshold` (METRIC_THRESHOLD) is what the lower bound of the paired 95 % interval against the champion must exceed;
    a small negative number accepts an equal model on newer data. Without a champion the baselines are the bar: any
    model better than the best rule serves customers better than no model. An `objection` says why the champion cannot
    be compared; then nothing is promoted.
    """
    reasons: list[str] = []
    is_promoted = True
    if map_at_12 > METRIC_CEILING:
        return Decision(
            False,
            [
                f"map_at_12 {map_at_12:.4f} is above {METRIC_CEILING}: too good to be true; "
                "look for labels in the features"
            ],
        )
    for rival in baselines.values():
        sign = "above" if rival.difference.mean > 0 else "not above"
        reasons.append(
            f"map_at_12 {map_at_12:.4f} is {sign} {rival.name} ({rival.map_at_12:.4f}): {_words(rival.difference)}"
        )
        is_promoted = is_promoted and rival.difference.mean > 0
    if objection:
        return Decision(False, [*reasons, objection])
    if champion is None:
        reasons.append("no champion yet: the baselines are the bar")
        return Decision(is_promoted, reasons)
    if champion.difference.low > threshold:
        claim = (
            f"better than champion {champion.name} beyond the noise"
            if champion.difference.low > 0
            else f"at most as much worse than champion {champion.name} as METRIC_THRESHOLD = {threshold:g} allows"
        )
        reasons.append(f"{claim}: {_words(champion.difference)}")
    else:
        is_promoted = False
        reasons.append(
            f"not better than champion {champion.name} beyond the noise: {_words(champion.difference)}, "
            f"and the lower bound must exceed METRIC_THRESHOLD = {threshold:g}"
        )
    for name, difference in champion.slice_differences.items():
        if difference.n >= MIN_SLICE_CUSTOMERS and difference.high < -SLICE_TOLERANCE * champion.map_at_12:
            is_promoted = False
            reasons.append(f"customers in slice {name!r} lose: {_words(difference)}")
    return Decision(is_promoted, reasons)


def _words(difference: Interval) -> str:
    return (
        f"difference {difference.mean:+.4f}, 95 % interval {difference.low:+.4f} to {difference.high:+.4f} "
        f"over {difference.n:,} customer-weeks"
    )
