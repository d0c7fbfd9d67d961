"""The promotion decision: a pure function of measured differences, with its reasons in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from math import ceil, isnan

from pipelines.errors import DataGateError
from pipelines.recommender.metrics import Interval

METRIC_CEILING = 0.5
"""Hardly a shop's next week is this predictable: a map_at_12 above it means that the label week leaked."""
MAX_EASY_ARTICLES = 24
"""Of so few live articles half are among any 12 answers, and a high map_at_12 proves nothing."""
SLICE_TOLERANCE = 0.1
"""A slice may lose at most this share of the map_at_12 that the champion reaches in it, beyond its noise."""
WEAK = "weak evidence"
"""Begins the reason that says so."""
MOST_TIMES_MORE = 100
"""So many times the label weeks is beyond what shops have kept: no backtest to advise."""
ROUNDING = 1e-9
"""Means of the same numbers in another order differ by less."""
MIN_CUSTOMERS = 30
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
    slice_map_at_12: Mapping[str, float]
    """The rival's own, by the same names."""
    n_customers: int | None = None
    """Different ones, where the difference counts a customer once for each label week; None: as many as it counts."""

    @property
    def n_units(self) -> int:
        """Count what the interval resamples."""
        return self.difference.n if self.n_customers is None else self.n_customers


def check_ceiling(map_at_12: float, n_live: int, ceiling: float, first_day: date) -> None:
    """Stop a run whose metric in the label week from `first_day` is too good to be true; raises DataGateError.

    A shop of MAX_EASY_ARTICLES at most may pass the ceiling honestly: it is not stopped here, and not promoted either
    (see decide).
    """
    if map_at_12 > ceiling and n_live > MAX_EASY_ARTICLES:
        raise DataGateError(
            f"map_at_12 {map_at_12:.4f} in the week from {first_day} is above {ceiling:g}: too good to be true, so its "
            "purchases must have leaked into what the model knew before it. Look for purchases that are written twice "
            "under two dates, and for attributes that only bought articles have; nothing was registered. Where "
            "customers do buy the same again and again, -p metric-ceiling=1 lets the run pass"
        )


def decide(
    map_at_12: float,
    baselines: Mapping[str, Rival],
    champion: Rival | None,
    threshold: float,
    objection: str | None = None,
    ceiling: float = METRIC_CEILING,
) -> Decision:
    """Promote a challenger that beats every baseline and, when there is a champion, beats it beyond the noise.

    `threshold` (METRIC_THRESHOLD) is what the lower bound of the paired 95 % interval against the champion must exceed;
    a small negative number accepts an equal model on newer data. Without a champion the baselines are the bar: any
    model better than the best rule serves customers better than no model. An `objection` says why the champion cannot
    be compared; then nothing is promoted. Nor is what is above the `ceiling`.
    """
    reasons: list[str] = []
    is_promoted = True
    if isnan(map_at_12):
        return Decision(False, ["map_at_12 is no number: nothing was measured"])
    if map_at_12 > ceiling:
        return Decision(
            False,
            [
                f"map_at_12 {map_at_12:.4f} is above {ceiling:g}: too good to be true, or of so few articles or "
                "customers that it proves nothing; where they do buy the same again and again, -p metric-ceiling=1 "
                "lets it pass"
            ],
        )
    for rival in baselines.values():
        is_above = rival.difference.mean > ROUNDING
        sign = "above" if is_above else "not above"
        reasons.append(
            f"map_at_12 {map_at_12:.4f} is {sign} {rival.name} ({rival.map_at_12:.4f}): {_words(rival.difference)}"
        )
        is_promoted = is_promoted and is_above
    unproven = [
        name
        for name, rival in baselines.items()
        if rival.difference.mean > 0 >= rival.difference.low or rival.n_units < MIN_CUSTOMERS
    ]
    if is_promoted and unproven:
        n = baselines[unproven[0]].difference.n
        few = min(baselines[name].n_units for name in unproven)
        times = max(_times_more(baselines[name].difference, baselines[name].n_units) for name in unproven)
        remedy = (
            f"about {times:,} times as many would tell, which a longer backtest may have"
            if times <= MOST_TIMES_MORE
            else "no backtest is long enough to tell so small a gain from none"
        )
        whom = f"{n:,} customer-weeks" + (f" of {few:,} customers" if few < MIN_CUSTOMERS <= n else "")
        reasons.append(f"{WEAK}: over {whom} the gain over {_listed(unproven)} may be chance; {remedy}")
    if objection:
        return Decision(False, [*reasons, objection])
    if champion is None:
        reasons.append(
            "no champion to beat: beating every baseline on average is enough, since some model must answer"
            if is_promoted and unproven
            else "no champion to beat: the baselines are the bar"
        )
        return Decision(is_promoted, reasons)
    if champion.difference.n < MIN_CUSTOMERS:
        is_promoted = False
        reasons.append(
            f"only {champion.difference.n:,} customers bought in the label week: of fewer than {MIN_CUSTOMERS} no "
            f"difference to champion {champion.name} can be told from noise; a longer horizon-days has more"
        )
    elif champion.difference.low > threshold:
        claim = (
            f"better than champion {champion.name} beyond the noise"
            if champion.difference.low > 0
            else f"at most as much worse than champion {champion.name} as METRIC_THRESHOLD = {threshold:g} allows"
        )
        reasons.append(f"{claim}: {_words(champion.difference)}")
    elif champion.difference.low == champion.difference.high == 0.0:
        is_promoted = False
        reasons.append(
            f"no better than champion {champion.name}: both score the same for each of {champion.difference.n:,} "
            "customer-weeks, so nothing is lost; should an equal model follow where it knows newer purchases, "
            "METRIC_THRESHOLD = -0.001 lets it"
        )
    else:
        is_promoted = False
        reasons.append(
            f"not better than champion {champion.name} beyond the noise: {_words(champion.difference)}, "
            f"and the lower bound must exceed METRIC_THRESHOLD = {threshold:g}"
        )
    for name, difference in champion.slice_differences.items():
        if difference.n >= MIN_CUSTOMERS and difference.high < -SLICE_TOLERANCE * champion.slice_map_at_12[name]:
            is_promoted = False
            reasons.append(f"customers in slice {name!r} lose: {_words(difference)}")
    return Decision(is_promoted, reasons)


def _times_more(difference: Interval, n_units: int | None = None) -> int:
    """Say how many times the customers would put the interval of the same mean above zero: its width falls with √n.

    >>> _times_more(Interval(0.002, -0.002, 0.006, 100)), _times_more(Interval(0.002, 0.002, 0.002, 3))
    (4, 10)
    """
    by_width = ((difference.mean - difference.low) / difference.mean) ** 2
    return max(2, ceil(by_width), ceil(MIN_CUSTOMERS / (n_units or difference.n)))


def _listed(names: Sequence[str]) -> str:
    return " and ".join(part for part in (", ".join(names[:-1]), names[-1]) if part)


def _words(difference: Interval) -> str:
    return (
        f"difference {_signed(difference.mean)}, 95 % interval {_signed(difference.low)} to "
        f"{_signed(difference.high)} over {difference.n:,} customer-weeks"
    )


def _signed(value: float) -> str:
    """Write a difference with its sign; what rounds to nothing has none.

    >>> _signed(0.00123), _signed(-0.00001), _signed(float("nan"))
    ('+0.0012', '0.0000', '+nan')
    """
    return "0.0000" if abs(value) < 0.00005 else f"{value:+.4f}"
