"""What a shop asks of the engine, and what it gets."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from inference.filters import Filters
from inference.reasons import Explanation

Source = Literal["personal", "segment", "popular"]


@dataclass(frozen=True, slots=True)
class Request:
    """What a shop asks; `article_ids` are purchases newer than the bundle's history, newest last."""

    customer_id: str | None = None
    article_ids: Sequence[str] = ()
    top_k: int = 12
    exclude_purchased: bool = False
    filters: Filters | None = None
    explain: bool = False
    """Say of each article why it is answered; costs a few milliseconds."""


@dataclass(frozen=True, slots=True)
class Recommendation:
    """Distinct articles, best first, scores not increasing; articles filled in carry the lowest score."""

    article_ids: list[str]
    scores: list[float]
    source: Source
    is_known_customer: bool
    n_unknown_articles: int
    """How many of the request's article_ids the catalogue does not have."""
    unknown_article_ids: Sequence[str] = ()
    """Those, each once."""
    explanations: Sequence[Explanation] = ()
    """One for each article when they were asked for."""
