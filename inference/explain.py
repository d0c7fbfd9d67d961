"""Gather what the reasons of one answer are made of: the history, the names, and which purchase each article goes with.

Legend: K ranked articles, G signal groups, B single purchases asked alone, N live articles.
"""

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from inference.allowed import penalty
from inference.bundle import Bundle
from inference.graph import Floats
from inference.lookup import NOBODY, Lookup, ids_of
from inference.reasons import PRODUCT_CODE_LENGTH, Context, Explanation, give_reason
from inference.selection import Chosen

if TYPE_CHECKING:
    from inference.engine import Engine

N_PARTNERS = 12  # newest purchases that are asked for what is bought with them
N_READ = 20  # newest purchases whose names are read
NEAR = 1.25
"""Times the usual price, or that part of it, that is still said to be it."""
BEST_SHARE, MIN_BEST = 0.01, 12
"""Of the live articles, those that a best seller is among. Popularity leans on colour variants and neighbours too: in a
small shop, of a twentieth a quarter sold nothing for weeks."""
PINNED_REASON = "placed here by the shop"
SAID_ATTRIBUTES = ("product_type", "colour", "garment_group")
SIGNAL_DECIMALS = 4


def explain(
    engine: "Engine", lookup: Lookup, chosen: Sequence[Chosen], contributions_KG: Floats | None, pinned: Collection[int]
) -> list[Explanation]:
    """Explain each chosen article; an article that the graph did not rank has no signals."""
    groups = engine.bundle.manifest.signals
    ids = ids_of(engine.bundle, np.array([one.article_index for one in chosen], np.int64))
    signals: list[dict[str, float]] = []
    for one in chosen:
        added = [] if contributions_KG is None or one.rank < 0 else contributions_KG[one.rank].tolist()
        signals.append({name: round(value, SIGNAL_DECIMALS) for name, value in zip(groups, added, strict=False)})
    context = _context(engine, lookup, dict(zip(ids, chosen, strict=True)))
    explanations = []
    for article_id, one, added_by in zip(ids, chosen, signals, strict=True):
        facts = {"article_id": article_id, **engine.names.at(one.article_index)}
        reason = PINNED_REASON if one.article_index in pinned else give_reason(facts, added_by, context)
        name, product_type, colour = (facts.get(field) for field in ("name", "product_type", "colour"))
        explanations.append(Explanation(article_id, name, product_type, colour, reason, added_by))
    return explanations


def _context(engine: "Engine", lookup: Lookup, answered: dict[str, Chosen]) -> Context:
    bundle = engine.bundle
    history = ids_of(bundle, lookup.bought)
    bought: dict[str, list[int]] = {}
    for article_id, age_days in zip(history, lookup.bought_ages.tolist(), strict=True):
        bought.setdefault(article_id, []).append(int(age_days))
    index_of = dict(zip(history, lookup.bought.tolist(), strict=True))
    usual: set[tuple[str, Any]] = set()
    for article_id in list(dict.fromkeys(reversed(history)))[:N_READ]:
        facts = engine.names.at(index_of[article_id])
        usual.update((name, facts[name]) for name in SAID_ATTRIBUTES if facts.get(name))

    def name_of(article_id: str) -> str | None:
        name = engine.names.at(index_of[article_id]).get("name") if article_id in index_of else None
        return name if isinstance(name, str) else None

    codes = {article_id[:PRODUCT_CODE_LENGTH] for article_id in bought}
    strangers = {
        article_id: one.article_index
        for article_id, one in answered.items()
        if article_id[:PRODUCT_CODE_LENGTH] not in codes and bundle.is_live[one.article_index]
    }
    partner_of = _partners(engine, lookup, strangers)
    sent = frozenset(history[len(history) - min(lookup.n_sent, len(history)) :])
    best_sellers, best_of_segment = (_best(bundle, segment, answered) for segment in (0, lookup.segment))
    prices = {article_id: float(bundle.article_prices[one.article_index]) for article_id, one in answered.items()}
    paid = np.asarray(bundle.article_prices[lookup.articles], np.float64)
    paid = paid[np.isfinite(paid) & (paid > 0)]
    usual_price = float(np.exp(np.log(paid).mean())) if len(paid) else 0.0
    return Context(
        bought,
        lookup.segment,
        name_of,
        partner_of,
        sent,
        frozenset(usual),
        best_sellers,
        usually_paid=frozenset(
            one for one, price in prices.items() if usual_price / NEAR <= price <= usual_price * NEAR
        ),
        unsold=frozenset(one for one, price in prices.items() if np.isnan(price)),
        best_of_segment=best_of_segment,
    )


def _best(bundle: Bundle, segment: int, answered: dict[str, Chosen]) -> frozenset[str]:
    """Choose the answered articles that are among the BEST_SHARE most popular live ones of a segment."""
    popularity_N = bundle.segment_retrieval[min(segment, len(bundle.segment_retrieval) - 1)]
    n_best = min(max(MIN_BEST, round(BEST_SHARE * len(popularity_N))), len(popularity_N))
    least = np.partition(popularity_N, -n_best)[-n_best]
    live = {article_id: one.article_index for article_id, one in answered.items() if bundle.is_live[one.article_index]}
    positions = bundle.live_articles.searchsorted(list(live.values()))
    return frozenset(article_id for article_id, at in zip(live, positions, strict=True) if popularity_N[at] >= least)


def _partners(engine: "Engine", lookup: Lookup, answered: dict[str, int]) -> dict[str, str]:
    """Find for each answered article the purchase that lifts it most as a companion, by asking each purchase alone."""
    bundle, groups = engine.bundle, engine.bundle.manifest.signals
    if "copurchase" not in groups or not answered or not len(lookup.articles):
        return {}
    newest = list(dict.fromkeys(lookup.articles[::-1].tolist()))[:N_PARTNERS]
    one_day = np.ones(1, np.float32)
    alone = [_single(np.array([article], np.int64), one_day, lookup.segment) for article in newest]
    positions = bundle.live_articles.searchsorted(list(answered.values()))
    is_allowed_N = np.zeros(bundle.manifest.n_live, np.bool_)
    is_allowed_N[positions] = True
    extra_P = positions.astype(np.int64)
    indices_BK, _, contributions_BKG = engine.graph.run_explained(
        alone, min(len(answered), engine.graph.max_k), penalty(is_allowed_N), extra_P
    )
    lift_BK = contributions_BKG[:, :, groups.index("copurchase")]
    lift_BK = lift_BK - lift_BK.min(axis=1, keepdims=True)
    best: dict[int, tuple[float, int]] = {}
    for row, purchase in enumerate(newest):
        for index, lift in zip(indices_BK[row].tolist(), lift_BK[row].tolist(), strict=True):
            if lift > max(1e-6, best.get(index, (0.0, 0))[0]):
                best[index] = (lift, purchase)
    ids = ids_of(bundle, np.array(newest, np.int64))
    id_of = dict(zip(newest, ids, strict=True))
    return {article_id: id_of[best[index][1]] for article_id, index in answered.items() if index in best}


def _single(articles: Any, ages: Any, segment: int) -> Lookup:
    return Lookup(
        articles=articles,
        ages=ages,
        segment=segment,
        excluded=NOBODY.excluded,
        is_known_customer=False,
        n_unknown_articles=0,
        unknown_article_ids=(),
        bought=articles,
        bought_ages=ages,
        n_sent=0,
    )
