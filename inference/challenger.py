"""A second model beside the champion: for a share of the customers, or in the shadow of the champion's answers."""

import asyncio
import hashlib
import random
from collections import deque
from collections.abc import Callable, Sequence
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from inference.engine import Recommendation, Request
from inference.manifest import Manifest
from inference.swap import Live
from inference.telemetry import get_logger

MAX_WAITING = 64  # shadowed requests; beyond it they are dropped and counted, so that a shadow never holds memory
N_COMPARED = 12
OVERLAP_BUCKETS = (0.0, 0.25, 0.5, 0.75, 0.92, 0.99)  # .92 takes 11 of 12
CORRELATION_BUCKETS = (-0.5, 0.0, 0.25, 0.5, 0.75, 0.9, 0.99)

log = get_logger()


def share_of(customer_id: str) -> float:
    """Place a customer on [0, 1), the same at every start and on every server, unlike the key in a bundle."""
    data = customer_id.encode("utf-8", "surrogatepass")
    digest = hashlib.blake2b(data, digest_size=8, person=b"challenger").digest()
    return int.from_bytes(digest, "big") / 2**64


def overlap_at_12(first: Sequence[str], second: Sequence[str]) -> float:
    """Share of the first 12 articles that both answer, whatever their order; 1 when neither answers any.

    >>> overlap_at_12(["a", "b"], ["b", "c"])
    0.5
    """
    one, other = set(first[:N_COMPARED]), set(second[:N_COMPARED])
    return len(one & other) / max(len(one), len(other)) if one or other else 1.0


def rank_correlation(first: Sequence[str], second: Sequence[str]) -> float | None:
    """Spearman's rho over the articles that both answer; None when they share fewer than two.

    >>> rank_correlation(["a", "b", "c"], ["a", "x", "b", "c"]), rank_correlation(["a", "b"], ["b", "a"])
    (1.0, -1.0)
    """
    common = [article for article in first if article in set(second)]
    n = len(common)
    if n < 2:
        return None
    place = {article: rank for rank, article in enumerate(article for article in second if article in set(common))}
    distance = sum((rank - place[article]) ** 2 for rank, article in enumerate(common))
    return 1.0 - 6.0 * distance / (n * (n * n - 1))


class ChallengerWatcher:
    """Shows in /metrics which model challenges, and what became of those that wanted to."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._model = Gauge(
            "challenger_info", "1 for the challenger that is loaded.", ["version", "cutoff_date"], registry=registry
        )
        self._swaps = Counter("challenger_swaps", "New challengers by outcome.", ["outcome"], registry=registry)
        for outcome in ("swapped", "refused", "rolled_back"):
            self._swaps.labels(outcome)

    def swapped(self, manifest: Manifest, outcome: Literal["swapped", "rolled_back"] = "swapped") -> None:
        """Show a new challenger."""
        self._swaps.labels(outcome).inc()
        self._model.clear()
        self._model.labels(manifest.version, manifest.cutoff_date.isoformat()).set(1)

    def refused(self) -> None:
        """Count a challenger that was not taken."""
        self._swaps.labels("refused").inc()


class Challenger:
    """Decides who is answered by the challenger, and compares both in the shadow.

    `live` gives the challenger's model, None while there is none: then the champion answers everybody.
    """

    def __init__(
        self,
        live: Callable[[], Live | None],
        registry: CollectorRegistry,
        *,
        share: float,
        shadow_share: float,
        rng: random.Random | None = None,
    ) -> None:
        self._live = live
        self._share = share
        self._shadow_share = shadow_share
        self._rng = rng or random.Random()
        self._waiting: deque[tuple[Request, list[str]]] = deque()
        self._arrived = asyncio.Event()
        self._overlap = Histogram(
            "shadow_overlap_at_12",
            "Share of the first 12 articles that champion and challenger agree on.",
            buckets=OVERLAP_BUCKETS,
            registry=registry,
        )
        self._correlation = Histogram(
            "shadow_rank_correlation",
            "Spearman's rho over the articles that champion and challenger both answer.",
            buckets=CORRELATION_BUCKETS,
            registry=registry,
        )
        self._shadowed = Counter(
            "shadow_requests", "Requests that the challenger was asked too.", ["outcome"], registry=registry
        )
        for outcome in ("compared", "dropped", "failed"):
            self._shadowed.labels(outcome)

    def takes(self, request: Request) -> bool:
        """Say whether the challenger answers: always the same for a customer, never for somebody without an id."""
        if not self._share or request.customer_id is None or self._live() is None:
            return False
        return share_of(request.customer_id) < self._share

    def offer(self, request: Request, answer: Recommendation) -> None:
        """Keep a sampled answer of the champion for comparison; costs the request nothing more."""
        if not self._shadow_share or self._rng.random() >= self._shadow_share or self._live() is None:
            return
        if len(self._waiting) >= MAX_WAITING:
            self._shadowed.labels("dropped").inc()
            return
        self._waiting.append((request, answer.article_ids))
        self._arrived.set()

    async def follow(self) -> None:
        """Compare what was kept, one at a time and in another thread, for ever."""
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while self._waiting:
                await self._compare(*self._waiting.popleft())

    async def _compare(self, request: Request, champions: list[str]) -> None:
        live = self._live()
        if live is None:
            return
        try:
            answer = await asyncio.to_thread(live.engine.recommend, request)
        except Exception as error:  # whatever the challenger does, the champion goes on
            self._shadowed.labels("failed").inc()
            log.warning("shadow_failed", reason=f"{type(error).__name__}: {error}"[:300])
            return
        self._shadowed.labels("compared").inc()
        self._overlap.observe(overlap_at_12(champions, answer.article_ids))
        correlation = rank_correlation(champions, answer.article_ids)
        if correlation is not None:
            self._correlation.observe(correlation)
