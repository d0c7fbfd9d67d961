"""What the training report reads out of metrics.json: numbers, names, and the verdict in plain words."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from pipelines.report.blocks import Finding, Tone
from pipelines.report.numbers import MISSING, count, percent

MODEL = "model"
MODEL_LABEL = "this model"
RULES: Mapping[str, str] = {
    "recent_popularity": "the best-seller rule",
    "repurchase_popularity": "the repurchase rule",
    "frequency_popularity": "the frequency rule",
}
RULE_NOTES: Mapping[str, str] = {
    "recent_popularity": "recommends everybody the best-sellers of the last 7 days",
    "repurchase_popularity": "what the customer bought, latest first, then those best-sellers",
    "frequency_popularity": "what the customer bought most, newer purchases counting more, then those best-sellers",
}
PERCENTAGES = ("recall", "hit_rate", "coverage")


def finite(value: Any) -> float | None:
    """Read a number; whatever is none, or not finite, is missing."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def metric(name: str, value: Any) -> str:
    """Write a metric by its kind: shares as percentages, the rest with four decimals.

    >>> metric("map_at_12", 0.01854), metric("map_at_12", float("nan"))
    ('0.0185', '–')
    """
    number = finite(value)
    if number is None:
        return MISSING
    if "novelty" in name:
        return f"{number:.2f}"
    return percent(number) if any(kind in name for kind in PERCENTAGES) else f"{number:.4f}"


def signed(value: Any) -> str:
    """Write a difference with its sign.

    >>> signed(0.00884), signed(-0.002), signed(0.0), signed(None)
    ('+0.0088', '−0.0020', '0', '–')
    """
    number = finite(value)
    if number is None:
        return MISSING
    return "0" if abs(number) < 0.00005 else f"{number:+.4f}".replace("-", "−")


def label(name: str) -> str:
    """Name a model or rule for people; unknown ones keep their own words."""
    return MODEL_LABEL if name == MODEL else RULES.get(name, name.replace("_", " "))


def short_label(name: str) -> str:
    return label(name).removeprefix("the ")


@dataclass(frozen=True, slots=True)
class Comparison:
    """How the model differs from one rival in map_at_12 on the same customer-weeks."""

    name: str
    mean: float
    low: float
    high: float
    n: int

    @property
    def tone(self) -> Tone:
        return "good" if self.low > 0 else "bad" if self.high < 0 else "warning"

    @property
    def may_be_chance(self) -> bool:
        return self.low <= 0 <= self.high

    @property
    def is_nothing(self) -> bool:
        """Do both score the same for everyone?"""
        return self.low == self.high == 0

    @property
    def chance(self) -> str:
        """Say what a reader should add to the bare difference."""
        return "the same for everyone" if self.is_nothing else "may be chance" if self.may_be_chance else ""

    @property
    def words(self) -> str:
        if self.is_nothing:
            return f"No difference: both score the same in each of {count(self.n)} customer-weeks"
        sure = "may be chance" if self.may_be_chance else "is more than chance"
        return f"The difference, {signed(self.mean)} (95 % interval {signed(self.low)} to {signed(self.high)}), {sure}"


def comparison(name: str, interval: Any) -> Comparison | None:
    """Read one paired interval; None when it could not be measured."""
    if not isinstance(interval, Mapping):
        return None
    mean, low, high = (finite(interval.get(key)) for key in ("mean", "low", "high"))
    if mean is None or low is None or high is None:
        return None
    return Comparison(name, mean, low, high, int(finite(interval.get("n")) or 0))


def mean_of(document: Mapping[str, Any], model: str, name: str = "map_at_12") -> float | None:
    """Give a model's or rule's mean over all evaluated weeks."""
    return finite(document.get("metrics", {}).get(model, {}).get(name, {}).get("mean"))


def rules_of(document: Mapping[str, Any]) -> list[str]:
    """Name the rules that the model is held against, the best first; ties by name."""
    names = [name for name in document.get("metrics", {}) if name != MODEL]
    return sorted(names, key=lambda name: (-(mean_of(document, name) or 0.0), name))


def ratio(new: float | None, old: float | None) -> float | None:
    return None if new is None or not old else new / old


def week_start(document: Mapping[str, Any], week: Mapping[str, Any]) -> date:
    return date.fromisoformat(document["first_day"]) + timedelta(days=int(week["day"]))


def verdict(document: Mapping[str, Any]) -> tuple[str, str]:
    """Say what was decided and what it rests on: a headline and a few plain sentences."""
    champion = document.get("champion")
    if document["is_promoted"]:
        headline = "Promoted: this model is the champion and answers customers."
    elif champion:
        headline = f"Not promoted: champion {champion['version']} goes on answering customers."
    else:
        headline = "Not promoted: the registry keeps the bundle, and nothing that customers see changes."
    return headline, " ".join([*_against_rules(document), *_against_champion(document)])


def _against_rules(document: Mapping[str, Any]) -> list[str]:
    ours, rules = mean_of(document, MODEL), rules_of(document)
    if ours is None or not rules:
        return ["map_at_12 could not be measured."]
    best, theirs = rules[0], metric("map_at_12", mean_of(document, rules[0]))
    sentence = f"The new model reaches map_at_12 {metric('map_at_12', ours)}; {label(best)}, the best rule, {theirs}."
    difference = comparison(best, document.get("differences", {}).get(best))
    return [sentence, *([f"{difference.words}."] if difference else [])]


def _against_champion(document: Mapping[str, Any]) -> list[str]:
    champion = document.get("champion")
    if not champion:
        return ["No champion was compared with it."]
    name = champion["version"]
    difference = comparison(name, champion.get("difference"))
    if difference is None:
        return [f"The difference to champion {name} could not be measured."]
    on_week = ", on the newest label week" if len(document.get("weeks", [])) > 1 else ""
    return [f"Beside champion {name}{on_week}: {difference.words[0].lower()}{difference.words[1:]}."]


def reasons(document: Mapping[str, Any]) -> list[Finding]:
    """The gate's reasons, a finding each: what stands before the colon, and the figures behind it."""
    return [_reason(text, rules_of(document)) for text in document.get("reasons", [])]


def _reason(text: str, rules: Sequence[str]) -> Finding:
    for rule in rules:
        text = text.replace(rule, label(rule))
    headline, _, detail = text.replace(" -0.", " −0.").partition(": ")
    if re.match(r"[a-z]+[ ,]", headline):
        headline = headline[0].upper() + headline[1:]
    tone: Tone = "warning" if headline == "Weak evidence" else "plain"
    return Finding(headline, f"{detail[0].upper()}{detail[1:]}." if detail else "", tone)
