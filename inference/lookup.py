"""Find what a bundle knows of a request: the customer's purchases and segment, the articles that were sent."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from inference.bundle import Bundle, customer_key
from inference.request import Request


@dataclass(slots=True)  # frozen, it would take a microsecond longer to make
class Lookup:
    """A request as the graph wants it: its history (oldest to newest), ages in days and the customer's segment."""

    articles: npt.NDArray[np.integer]
    ages: npt.NDArray[Any]
    segment: int
    excluded: frozenset[int]
    is_known_customer: bool
    n_unknown_articles: int
    unknown_article_ids: Sequence[str]
    bought: npt.NDArray[np.integer]
    bought_ages: npt.NDArray[Any]
    """All that was bought, where the graph reads the newest only."""
    n_sent: int
    """How many of them, at the end, came with the request."""


_NO_ARTICLES, _NO_AGES = np.empty(0, np.int64), np.empty(0, np.float32)
NOBODY = Lookup(_NO_ARTICLES, _NO_AGES, 0, frozenset(), False, 0, (), _NO_ARTICLES, _NO_AGES, 0)


def look_up(bundle: Bundle, request: Request) -> Lookup:
    """Find what is known; what is unknown is left out and counted."""
    max_history = bundle.manifest.max_history
    sent = article_indices(bundle, request.article_ids) if request.article_ids else _NO_ARTICLES
    position = customer_position(bundle, request.customer_id) if request.customer_id is not None else None
    if position is None:
        articles, ages, segment = sent, np.ones(len(sent), np.float32), 0
    else:
        start, end = bundle.customer_offsets[position : position + 2]
        # As they are in the file: the graph's input gives them its types. Nobody bought after trained_through, so that
        # all are a day old at least.
        articles = bundle.history_articles[start:end]
        ages = bundle.as_of_day - bundle.history_days[start:end]
        segment = int(bundle.customer_segments[position])
        if len(sent):
            articles = np.concatenate([articles, sent])
            ages = np.concatenate([ages, np.ones(len(sent), ages.dtype)])
    n_unknown = len(request.article_ids) - len(sent)
    is_short = len(articles) <= max_history
    return Lookup(
        articles=articles if is_short else articles[-max_history:],
        ages=ages if is_short else ages[-max_history:],
        segment=segment,
        excluded=frozenset(articles.tolist()) if request.exclude_purchased else NOBODY.excluded,
        is_known_customer=position is not None,
        n_unknown_articles=n_unknown,
        unknown_article_ids=_name_unknown(bundle, request.article_ids, sent) if n_unknown else (),
        bought=articles,
        bought_ages=ages,
        n_sent=len(sent),
    )


def customer_position(bundle: Bundle, customer_id: str) -> int | None:
    """Give the customer's row in the bundle's arrays; None when it is not known."""
    keys = bundle.customer_keys
    key = np.uint64(customer_key(customer_id))
    position = int(keys.searchsorted(key))
    return position if position < len(keys) and keys[position] == key else None


def article_indices(bundle: Bundle, article_ids: Sequence[str]) -> npt.NDArray[np.int64]:
    """Look up article_ids in order; those that the catalogue does not have are left out."""
    shaped = [text.encode() for text in article_ids if len(text) == 10 and text.isascii()]
    if not shaped:
        return _NO_ARTICLES
    known = bundle.article_ids
    wanted = np.array(shaped, dtype="S10")
    positions = known.searchsorted(wanted)
    positions[positions == len(known)] = 0
    found: npt.NDArray[np.int64] = positions[known[positions] == wanted].astype(np.int64)
    return found


def ids_of(bundle: Bundle, indices: npt.NDArray[np.integer]) -> list[str]:
    """Name articles by their ids."""
    ids: list[str] = bundle.article_ids[indices].astype("U10").tolist()
    return ids


def _name_unknown(bundle: Bundle, article_ids: Sequence[str], found: npt.NDArray[np.int64]) -> list[str]:
    known = set(ids_of(bundle, found))
    return [text for text in dict.fromkeys(article_ids) if text not in known]
