"""How far what is served has moved from what training saw: a population stability index for each view, and coverage.

PSI = Σ (served − trained) · ln(served / trained) over the shares of the bins of a view (Siddiqi, Credit Risk
Scorecards, 2006). Usual reading: below .1 no shift, .1 to .25 some, above .25 look into it. An empty bin counts as a
share of 1e-4. Counting costs about a microsecond for each answer; the report is computed when it is asked for.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from fastapi import APIRouter
from prometheus_client.core import GaugeMetricFamily
from pydantic import BaseModel, Field

from inference.bundle import Bundle
from inference.errors import RequestRefused
from inference.swap import Live

RECENT_DAYS = 28
# Keys are hashes in ascending order, so that the first so many customers are a fair sample of all.
N_REFERENCE_CUSTOMERS = 20_000
N_POPULARITY_BINS = 10
LENGTH_BOUNDS = (0, 1, 2, 4, 8, 16, 32, 64)  # lower bounds of the bins of history lengths
EMPTY_SHARE = 1e-4

Counts = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Reference:
    """What training saw, from the bundle's own histories: bins of articles, and the share of each bin."""

    popularity_bin_A: npt.NDArray[np.int8]
    """0 holds the best sellers; every bin of live articles has about a tenth of the recent purchases."""
    popularity: Counts
    index_group: Counts
    history_length: Counts
    n_purchases: int


class View(BaseModel):
    """One way to sort what was served into bins."""

    psi: float | None = Field(description="None before anything was served.")
    bins: list[str]
    served: list[float] = Field(description="Share of each bin in what was served since this model was loaded.")
    trained: list[float] = Field(description="Share of each bin in what training saw.")


class ShiftReport(BaseModel):
    """What was served since this model was loaded, beside what it was trained on."""

    model_version: str
    n_answers: int
    n_articles_served: int = Field(description="Articles answered, each as often as it was.")
    n_reference_purchases: int = Field(description="Purchases of the last 28 days by a sample of 20,000 customers.")
    coverage: Annotated[float, Field(ge=0, le=1)] = Field(description="Share of the live articles that was answered.")
    views: dict[str, View]


def population_stability_index(served: Sequence[float] | Counts, trained: Sequence[float] | Counts) -> float | None:
    """Compare two lists of counts or shares, bin by bin; None when one of them is empty.

    >>> round(population_stability_index([50, 50], [25, 75]), 4)  # .25·ln 2 − .25·ln(2/3)
    0.2747
    """
    served, trained = np.asarray(served, np.float64), np.asarray(trained, np.float64)
    if served.sum() <= 0 or trained.sum() <= 0:
        return None
    s = np.maximum(served / served.sum(), EMPTY_SHARE)
    t = np.maximum(trained / trained.sum(), EMPTY_SHARE)
    return float(((s - t) * np.log(s / t)).sum())


def read_reference(bundle: Bundle) -> Reference:
    """Count the bins in the histories of the sample; reads about 2 MiB of the bundle."""
    n_customers = min(bundle.manifest.n_customers, N_REFERENCE_CUSTOMERS)
    offsets = bundle.customer_offsets[: n_customers + 1]
    bought = bundle.history_articles[: offsets[-1]]
    recent = bought[bundle.history_days[: offsets[-1]] >= bundle.as_of_day - RECENT_DAYS]
    live_N = bundle.live_articles
    best_first = np.argsort(bundle.segment_retrieval[0], kind="stable")[::-1]
    positions = live_N.searchsorted(recent[bundle.is_live[recent]])
    sold = np.bincount(positions, minlength=len(live_N))[best_first]
    before = np.cumsum(sold) - sold
    popularity_bin_A = np.full(bundle.manifest.n_articles, N_POPULARITY_BINS, np.int8)  # the last bin: not live
    in_order = np.minimum(before * N_POPULARITY_BINS // max(1, int(sold.sum())), N_POPULARITY_BINS - 1)
    popularity_bin_A[live_N[best_first]] = in_order
    ones = np.ones(len(recent))
    return Reference(
        popularity_bin_A,
        _count(popularity_bin_A[recent], ones, N_POPULARITY_BINS + 1),
        _count(bundle.index_groups[recent], ones),
        _length_bins(np.bincount(np.minimum(np.diff(offsets), bundle.manifest.max_history), minlength=1)),
        len(recent),
    )


def _length_bins(counts_by_length: npt.NDArray[Any]) -> Counts:
    lengths = np.arange(len(counts_by_length))
    bins = np.searchsorted(LENGTH_BOUNDS, lengths, side="right") - 1
    return _count(bins, counts_by_length, len(LENGTH_BOUNDS))


def _count(bins: npt.NDArray[Any], weights: npt.NDArray[Any], n_bins: int = 0) -> Counts:
    return np.bincount(bins, weights, n_bins).astype(np.float64)


class Shift:
    """The report of the model of the moment; also a collector, so that /metrics shows it."""

    def __init__(self, live: Callable[[], Live]) -> None:
        self._live = live
        self._reference: tuple[str, Reference] | None = None
        """By fingerprint: a model that was replaced must not be kept for it."""

    def report(self) -> ShiftReport:
        """Compare now; RequestRefused with 503 before there is a model."""
        live = self._live()
        if self._reference is None or self._reference[0] != live.fingerprint:
            self._reference = live.fingerprint, read_reference(live.engine.bundle)
        reference, engine = self._reference[1], live.engine
        bundle = engine.bundle
        served = np.flatnonzero(engine.n_served_A)  # far fewer than there are articles
        times = engine.n_served_A[served]
        by_length = np.asarray(engine.n_by_history_length)
        group_names = engine.attributes["index_group"]
        spans = itertools.pairwise(LENGTH_BOUNDS)
        lengths = [*(f"{low}" if beyond - low == 1 else f"{low}-{beyond - 1}" for low, beyond in spans), "64+"]
        return ShiftReport(
            model_version=live.manifest.version,
            n_answers=int(by_length.sum()),
            n_articles_served=int(times.sum()),
            n_reference_purchases=reference.n_purchases,
            coverage=float(np.count_nonzero(bundle.is_live[served]) / bundle.manifest.n_live),
            views={
                "popularity": _view(
                    _count(reference.popularity_bin_A[served], times, N_POPULARITY_BINS + 1),
                    reference.popularity,
                    [*(f"tenth {n}" for n in range(1, N_POPULARITY_BINS + 1)), "not on sale"],
                ),
                "index_group": _view(
                    _count(bundle.index_groups[served], times),
                    reference.index_group,
                    [name or "?" for name in group_names],
                ),
                "history_length": _view(_length_bins(by_length), reference.history_length, lengths),
            },
        )

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Give the gauges that /metrics shows; none before there is a model."""
        try:
            report = self.report()
        except RequestRefused:
            return
        psi = GaugeMetricFamily(
            "served_population_stability_index", "What was served against what was trained on.", labels=["view"]
        )
        for name, view in report.views.items():
            if view.psi is not None:
                psi.add_metric([name], view.psi)
        yield psi
        yield GaugeMetricFamily(
            "served_catalogue_coverage_ratio", "Share of the live articles that was answered.", report.coverage
        )

    def describe(self) -> list[GaugeMetricFamily]:
        """Say nothing at registration, when there is no model yet."""
        return []


def _view(served: Counts, trained: Counts, names: Sequence[str]) -> View:
    size = max(len(served), len(trained))
    served, trained = np.pad(served, (0, size - len(served))), np.pad(trained, (0, size - len(trained)))
    return View(
        psi=population_stability_index(served, trained),
        bins=[*names, *(f"{n}" for n in range(len(names), size))][:size],
        served=_shares(served),
        trained=_shares(trained),
    )


def _shares(counts: Counts) -> list[float]:
    shares: list[float] = (counts / max(1.0, float(counts.sum()))).round(6).tolist()
    return shares


def shift_route(shift: Shift) -> APIRouter:
    """Make the route `/shift`."""
    router = APIRouter(tags=["operation"])

    @router.get("/shift", summary="Compare what was served with what was trained on")
    def read_shift() -> ShiftReport:
        """Give the population stability index of popularity, index groups and history lengths, and the coverage."""
        return shift.report()

    return router
