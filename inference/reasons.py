"""Say in a merchandiser's words why an article is answered, from what the graph says that each signal added.

What is said of a purchase is read from the history itself; the signals only decide what is worth saying.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

PRODUCT_CODE_LENGTH = 7  # an article_id is its product's code and three digits for the colour
MIN_SHARE = 0.25  # of the strongest signal: less is not worth saying
# What happened to this customer says more than what is true of everybody: one of these is said first, the most exact.
ABOUT_CUSTOMER = ("copurchase", "taste", "sequence")

# As pipelines.recommender.tables draws them: 0 unknown, 1..5 by age, 6 known without an age.
SEGMENTS = (
    "",
    "customers under 25",
    "customers of 25 to 34",
    "customers of 35 to 44",
    "customers of 45 to 54",
    "customers of 55 and above",
    "customers whose age is not known",
)


@dataclass(frozen=True, slots=True)
class Explanation:
    """One answered article: what it is, why it is there, and what each signal added to its score."""

    article_id: str
    name: str | None
    product_type: str | None
    colour: str | None
    reason: str
    signals: dict[str, float]
    """Signal group → what it added, relative to the mean candidate."""


@dataclass(frozen=True, slots=True)
class Context:
    """What is known of the customer, for all articles of one answer."""

    bought: Mapping[str, Sequence[int]]
    """article_id → ages in days of its purchases"""
    segment: int
    name_of: Callable[[str], str | None]
    partner_of: Mapping[str, str] = field(default_factory=dict)
    """answered article_id → the article_id bought before that it is most often bought with"""
    sent: frozenset[str] = frozenset()
    """article_ids of the request itself: bought just now"""
    usual: frozenset[tuple[str, str]] = frozenset()
    """(attribute, value) of what was bought: product types, colours and garment groups"""
    best_sellers: frozenset[str] = frozenset()
    """answered article_ids that are among the best sellers of late"""
    usually_paid: frozenset[str] = frozenset()
    """answered article_ids whose price is near to what was paid"""
    unsold: frozenset[str] = frozenset()
    """answered article_ids that nobody has bought yet"""
    best_of_segment: frozenset[str] = frozenset()
    """the same, of the customer's segment"""


def give_reason(facts: Mapping[str, Any], signals: Mapping[str, float], context: Context) -> str:
    """Write at most two reasons: one about the customer, one about the article.

    >>> give_reason({"article_id": "0706016001"}, {"repurchase": 2.0}, Context({"0706016001": [12]}, 0, lambda _: None))
    'bought 12 days ago'
    """
    strongest = max(signals.values(), default=0.0)
    worth = [name for name, value in signals.items() if value > 0 and value >= MIN_SHARE * strongest]
    # Whoever bought the very article, or another colour of it, wants to read so, also where it counted for little.
    own = (
        _repurchase(facts, context)
        or _variant(facts, context)
        or _first([name for name in ABOUT_CUSTOMER if name in worth], facts, context)
    )
    general = _first(
        sorted(set(worth) & set(SIGNALS_SAID) - set(ABOUT_CUSTOMER), key=lambda n: -signals[n]), facts, context
    )
    return "; ".join(filter(None, (own, general))) or "among the best matches of everything on sale"


def _first(names: Iterable[str], facts: Mapping[str, Any], context: Context) -> str | None:
    """Say the first of these signals that the facts bear out."""
    return next((text for name in names if (text := SIGNALS_SAID[name](facts, context)) is not None), None)


def days_ago(age_days: int) -> str:
    """Say an age as people do.

    >>> days_ago(1), days_ago(12), days_ago(70), days_ago(400)
    ('yesterday', '12 days ago', '10 weeks ago', '13 months ago')
    """
    if age_days <= 1:
        return "yesterday"
    if age_days < 28:
        return f"{age_days} days ago"
    if age_days < 90:
        return f"{round(age_days / 7)} weeks ago"
    return f"{round(age_days / 30.4)} months ago"


def segment_words(segment: int) -> str | None:
    """Say whom a segment holds; None for the unknown."""
    return (SEGMENTS[segment] or None) if segment < len(SEGMENTS) else None


def _when(article_id: str, context: Context) -> str:
    return "just now" if article_id in context.sent else days_ago(min(context.bought[article_id]))


def _repurchase(facts: Mapping[str, Any], context: Context) -> str | None:
    ages = context.bought.get(facts["article_id"])
    if not ages:
        return None
    times = {1: "bought", 2: "bought twice, last"}.get(len(ages), f"bought {len(ages)} times, last")
    return f"{times} {_when(facts['article_id'], context)}"


def _plain(name: str | None) -> str | None:
    """Leave out the number of a reissue: "Tilda tank (1)" is a Tilda tank."""
    return name and re.sub(r"\s*\(\d+\)$", "", name)


def _variant(facts: Mapping[str, Any], context: Context) -> str | None:
    code = facts["article_id"][:PRODUCT_CODE_LENGTH]
    # Where ids just count up, neighbours begin alike and are no colours of one product: they have other names.
    others = [
        other
        for other in context.bought
        if other.startswith(code)
        and other != facts["article_id"]
        and _plain(context.name_of(other)) in (None, _plain(facts.get("name")))
    ]
    if not others:
        return None
    newest = min(others, key=lambda other: min(context.bought[other]))
    name = context.name_of(newest) or f"article {newest}"
    return f"another colour of {name}, bought {_when(newest, context)}"


def _copurchase(facts: Mapping[str, Any], context: Context) -> str | None:
    partner = context.partner_of.get(facts["article_id"])
    if partner is None:
        return None
    return f"often bought with {context.name_of(partner) or f'article {partner}'}"


def _taste(facts: Mapping[str, Any], context: Context) -> str | None:
    kind, colour, group = (facts.get(attribute) for attribute in ("product_type", "colour", "garment_group"))
    if kind and ("product_type", kind) in context.usual:
        if colour and ("colour", colour) in context.usual:
            return f"{colour.lower()} {kind.lower()}, in line with what was bought before"
        return f"{kind.lower()}, as bought before"
    if group and ("garment_group", group) in context.usual:
        return f"from {group.lower()}, as bought before"
    return None


def _segment(facts: Mapping[str, Any], context: Context) -> str | None:
    if facts["article_id"] not in context.best_of_segment:
        return None
    words = segment_words(context.segment)
    return f"popular with {words}" if words else "popular with everybody"


SIGNALS_SAID: dict[str, Callable[[Mapping[str, Any], Context], str | None]] = {
    "copurchase": _copurchase,
    "taste": _taste,
    "price": lambda facts, context: (
        "at the price usually paid" if facts["article_id"] in context.usually_paid else None
    ),
    "segment": _segment,
    "freshness": lambda facts, context: "new: not sold before" if facts["article_id"] in context.unsold else None,
    "popularity": lambda facts, context: (
        "a best seller of late" if facts["article_id"] in context.best_sellers else None
    ),
    "sequence": lambda _, context: "follows from what was bought last" if context.bought else None,
}
