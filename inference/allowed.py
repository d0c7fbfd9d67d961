"""Turn filters and rules into what the graph reads: which live positions may be answered.

Legend: A articles of the catalogue, N live articles.
"""

import datetime as dt
import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from inference.bundle import Bundle
from inference.fields import invalid
from inference.filters import Filters
from inference.lookup import article_indices
from inference.rules import RulesInvalid, RulesVersion

NOT_ALLOWED = -1e9  # penalty of an article that may not be answered
NEVER = 1 << 30  # days

Mask = npt.NDArray[np.bool_]
Names = Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True)
class FittedPin:
    """A pin by place (from 0) and article_index; `group` is the code of its index group, 0 for every request."""

    place: int
    article_index: int
    group: int


@dataclass(frozen=True, slots=True)
class ModelRules:
    """Rules in the terms of one bundle."""

    version: str
    is_shown_A: Mask
    """False for what is blocked or out of stock"""
    penalty_N1: npt.NDArray[np.float32]
    n_live_shown: int
    pins: tuple[FittedPin, ...]
    """those of today"""
    caps: Mapping[int, int]
    """code of the garment group → most articles"""
    rest_days: npt.NDArray[np.int64] | None
    """by code of the product group: days before what was bought is answered again; None when all are 0"""
    n_unknown: int
    """article_ids that the catalogue does not have: not shown anyway"""

    @property
    def is_choosing(self) -> bool:
        """Whether more is asked for than to leave articles out."""
        return bool(self.pins or self.caps or self.rest_days is not None)


def penalty(is_allowed_N: Mask) -> npt.NDArray[np.float32]:
    """Write a mask of live positions as the graph reads it; the pad at the end is never allowed."""
    return np.where(np.append(is_allowed_N, False), 0.0, NOT_ALLOWED).astype(np.float32)


def allowed_by(filters: Filters, bundle: Bundle, names: Names) -> Mask:
    """Say of each live position whether the filters allow it; RequestRefused when a group is not known."""
    live_N = bundle.live_articles
    is_allowed_N = np.ones(len(live_N), np.bool_)
    if filters.index_groups:
        codes = [_code(names["index_group"], name, "index_group") for name in filters.index_groups]
        is_allowed_N &= np.isin(bundle.index_groups[live_N], codes)
    if filters.price_min is not None or filters.price_max is not None:
        low = -np.inf if filters.price_min is None else filters.price_min
        high = np.inf if filters.price_max is None else filters.price_max
        # Prices are float32; bounds are rounded alike, so that an article's own price as a bound includes it.
        prices_N = bundle.article_prices[live_N]
        is_allowed_N &= (prices_N >= np.float32(low)) & (prices_N <= np.float32(high))
    if filters.exclude:
        is_allowed_N &= ~np.isin(live_N, article_indices(bundle, filters.exclude))
    return is_allowed_N


def _code(known: Sequence[str], name: str, field: str) -> int:
    try:
        return known.index(name, 1)
    except ValueError:
        raise invalid(f"{field} {name[:50]!r} is not known{_nearest(name, known)}") from None


def _nearest(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name[:100], known[1:], n=1)
    if near:
        return f"; did you mean {near[0]!r}?"
    more = f" and {len(known) - 11} more" if len(known) > 11 else ""
    return f"; known are {', '.join(known[1:11])}{more}" if len(known) > 1 else "; the shop's articles name none"


def fit_rules(
    rules: RulesVersion,
    bundle: Bundle,
    names: Names,
    *,
    today: dt.date,
    is_strict: bool,
) -> ModelRules | None:
    """Put rules into the terms of a bundle; None when there is nothing to obey.

    Strict, a group that the bundle does not have raises RulesInvalid: a new file has a slip of the pen. Otherwise it is
    left out: a new model may lack a group that the last one had, and must not be refused for it.
    """
    if not rules:
        return None
    said = rules.rules

    def code(field: str, name: str) -> int | None:
        if name in names[field][1:]:
            return names[field].index(name, 1)
        if is_strict:
            raise RulesInvalid(f"{field} {name!r} is not one of this model's{_nearest(name, names[field])}")
        return None

    hidden = article_indices(bundle, [*said.out_of_stock, *said.blocked])
    is_shown_A = np.ones(bundle.manifest.n_articles, np.bool_)
    is_shown_A[hidden] = False
    is_shown_N = is_shown_A[bundle.live_articles]
    pins = []
    for pin in said.pins:
        group = code("index_group", pin.index_group) if pin.index_group is not None else 0
        found = article_indices(bundle, [pin.article_id])
        if len(found) and group is not None and pin.is_current(today):
            pins.append(FittedPin(pin.position - 1, int(found[0]), group))
    caps = {code("garment_group", name): cap for name, cap in said.caps.items()}
    rest_days = np.zeros(len(names["product_group"]), np.int64)
    for name, policy in said.repurchase.items():
        group = code("product_group", name)
        if group is not None:
            rest_days[group] = policy if isinstance(policy, int) else NEVER if policy == "never" else 0
    n_named = len(said.out_of_stock) + len(said.blocked) + len(said.pins)
    return ModelRules(
        version=rules.version,
        is_shown_A=is_shown_A,
        penalty_N1=penalty(is_shown_N),
        n_live_shown=int(np.count_nonzero(is_shown_N)),
        pins=tuple(pins),
        caps={group: cap for group, cap in caps.items() if group is not None},
        rest_days=rest_days if rest_days.any() else None,
        n_unknown=n_named - len(hidden) - len(article_indices(bundle, [pin.article_id for pin in said.pins])),
    )


def resting(
    rules: ModelRules, bundle: Bundle, articles: npt.NDArray[np.integer], ages: npt.NDArray[Any]
) -> npt.NDArray[Any]:
    """Of what was bought (article_index, age in days), give what may not come again yet."""
    if rules.rest_days is None:
        return articles[:0]
    found: npt.NDArray[Any] = articles[ages < rules.rest_days[bundle.product_groups[articles]]]
    return found
