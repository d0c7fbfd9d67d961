"""Fit, evaluate and refit: from the processed lake to a recommender and everything that was measured on the way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from pipelines.errors import DataGateError, UsageError
from pipelines.logs import get_logger
from pipelines.recommender.evaluation import Outcome, baseline_outcomes, outcome_of
from pipelines.recommender.fitting import Epoch, Fit, fit_ranker, ranked_hits, split_validation
from pipelines.recommender.hyperparameters import Hyperparameters
from pipelines.recommender.interactions import Catalogue, Int32, Interactions
from pipelines.recommender.label_week import LabelWeek, build_label_week, buyers_of
from pipelines.recommender.model import Recommender
from pipelines.recommender.signals import Signals
from pipelines.recommender.tables import Tables, build_tables

log = get_logger()
MIN_LABEL_WEEKS = 2
"""One to learn from, one to stop early on."""
EVALUATION_CHUNK = 4096
"""Customers whose candidates are held at once while a label week is evaluated; 128 MiB."""


@dataclass(frozen=True)
class TimeSpan:
    """Days as counted from the first in the data; the label window is [cutoff_day, cutoff_day + horizon_days)."""

    cutoff_day: int
    horizon_days: int
    last_day: int


@dataclass(frozen=True)
class Evaluated:
    """One label week with the model that was fitted before it."""

    week: LabelWeek
    fit: Fit
    model: Outcome
    baselines: dict[str, Outcome]
    tables: Tables


def first_label_day(end_day: int) -> int:
    """Leave four weeks of history before the first label window; a short data set gives a third of its span."""
    return max(min(28, end_day // 3), 1)


class Trainer:
    """Knows the data and the hyperparameters; keeps label weeks that several cutoffs share."""

    def __init__(
        self,
        interactions: Interactions,
        catalogue: Catalogue,
        segments: npt.NDArray[np.uint8],
        horizon_days: int,
        hyperparameters: Hyperparameters,
    ) -> None:
        self.interactions = interactions
        self.catalogue = catalogue
        self.segments = segments
        self.horizon_days = horizon_days
        self.hyperparameters = hyperparameters
        self._weeks: dict[int, LabelWeek] = {}

    def tables(self, day: int) -> Tables:
        return build_tables(self.interactions, self.catalogue, self.segments, day, self.hyperparameters)

    def _week(self, day: int) -> LabelWeek:
        if day not in self._weeks:
            # A quarter, so that even the largest shop's model learns from at least four different weeks.
            cap = max(1, self.hyperparameters.training_customers // 4)
            week = build_label_week(
                self.interactions,
                self.tables(day),
                self.segments,
                self.horizon_days,
                self.hyperparameters,
                max_customers=cap,
            )
            log.info(
                "label_week_described", day=day, n_customers=len(week.customers_N), n_described=len(week.described_R)
            )
            self._weeks[day] = week
        return self._weeks[day]

    def label_weeks(self, end_day: int) -> list[LabelWeek]:
        """Label windows that end by `end_day`, newest first, each with some history before it.

        Adds windows until they hold `training_customers` buyers or number `training_weeks`.
        """
        weeks: list[LabelWeek] = []
        n_customers = 0
        day = end_day - self.horizon_days
        while day >= first_label_day(end_day) and len(weeks) < self.hyperparameters.training_weeks:
            weeks.append(self._week(day))
            n_customers += len(weeks[-1].customers_N)
            if n_customers >= self.hyperparameters.training_customers and len(weeks) >= 4:
                break
            day -= self.horizon_days
        if len(weeks) < MIN_LABEL_WEEKS:
            raise DataGateError(
                f"only {end_day} days of history before the cutoff: training needs at least two label windows of "
                f"{self.horizon_days} days with history before them; choose a later cutoff_date or fewer horizon_days"
            )
        return weeks

    def check_backtest(self, cutoff_day: int, backtest: int) -> None:
        """Refuse a backtest whose earliest cutoffs have too little before them, ahead of all the work."""

        def n_weeks(number: int) -> int:
            end_day = cutoff_day - number * self.horizon_days
            return (end_day - first_label_day(end_day)) // self.horizon_days

        if n_weeks(backtest) < MIN_LABEL_WEEKS <= n_weeks(0):
            tried = range(min(backtest, cutoff_day // self.horizon_days), -1, -1)
            longest = next(number for number in tried if n_weeks(number) >= MIN_LABEL_WEEKS)
            raise UsageError(
                f"backtest {backtest} reaches before the data: {cutoff_day} days of history before cutoff_date are "
                f"enough for {longest} more cutoffs of {self.horizon_days} days each; give at most {longest}"
            )

    def fit_before(self, day: int, on_epoch: Callable[[Epoch], None] = lambda _: None) -> Fit:
        """Fit with early stopping on the weeks just before `day`, then go on with those weeks included."""
        training, validation = split_validation(self.label_weeks(day), self.hyperparameters)
        stopped = fit_ranker(training, validation, self.hyperparameters, on_epoch=on_epoch)
        refitted = fit_ranker(training + validation, [], self.hyperparameters, n_epochs=stopped.best_epoch)
        return Fit(
            refitted.ranker,
            stopped.curve,
            stopped.best_epoch,
            refitted.n_training_customers,
            stopped.n_validation_customers,
        )

    def evaluate_at(self, day: int, on_epoch: Callable[[Epoch], None] = lambda _: None) -> Evaluated:
        """Fit on what was known before `day` and score every buyer of the label window that starts there."""
        fit = self.fit_before(day, on_epoch)
        tables = self.tables(day)
        buyers, _ = buyers_of(self.interactions.between(day, day + self.horizon_days))
        if not len(buyers):
            raise DataGateError(
                f"nobody bought anything in the label window of {self.horizon_days} days from day {day}"
            )
        weeks, hits, articles = [], [], []
        for part in np.array_split(buyers, max(1, -(-len(buyers) // EVALUATION_CHUNK))):
            week = self._describe(tables, part)
            hits_NK, articles_RK = ranked_hits(fit.ranker, week)
            hits.append(hits_NK)
            articles.append(articles_RK[:, :12])
            weeks.append(_without_candidates(week))
        week = _join(weeks)
        model = outcome_of(week, np.concatenate(hits), np.concatenate(articles), self.interactions)
        baselines = baseline_outcomes(week, self.interactions, self.horizon_days)
        return Evaluated(week, fit, model, baselines, tables)

    def _describe(self, tables: Tables, customers: Int32) -> LabelWeek:
        return build_label_week(
            self.interactions,
            tables,
            self.segments,
            self.horizon_days,
            self.hyperparameters,
            customers=customers,
            keep_all=True,
        )

    def recommender(self, fit: Fit, tables: Tables) -> Recommender:
        return Recommender(Signals(tables, self.hyperparameters.n_candidates), fit.ranker).eval()

    def refit(self, end_day: int, n_epochs: int) -> tuple[Recommender, Fit]:
        """Fit what ships: the same number of epochs, on every week up to the last day, with that day's tables."""
        weeks = self.label_weeks(end_day)
        fit = fit_ranker(weeks, [], self.hyperparameters, n_epochs=n_epochs)
        return self.recommender(fit, self.tables(end_day)), fit


def set_up_torch() -> None:
    """Make runs repeatable: one thread in each operation, and only algorithms that give the same bits."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)


def _without_candidates(week: LabelWeek) -> LabelWeek:
    return LabelWeek(
        week.day,
        week.customers_N,
        week.n_bought_N,
        week.n_history_N,
        week.idle_days_N,
        week.described_R[:0],
        week.candidates_RC[:0],
        week.features_RCF[:0],
        week.is_bought_RC[:0],
        week.baseline_hits_NK,
    )


def _join(weeks: list[LabelWeek]) -> LabelWeek:
    first = weeks[0]
    return LabelWeek(
        first.day,
        np.concatenate([week.customers_N for week in weeks]),
        np.concatenate([week.n_bought_N for week in weeks]),
        np.concatenate([week.n_history_N for week in weeks]),
        np.concatenate([week.idle_days_N for week in weeks]),
        first.described_R,
        first.candidates_RC,
        first.features_RCF,
        first.is_bought_RC,
        {name: np.concatenate([week.baseline_hits_NK[name] for week in weeks]) for name in first.baseline_hits_NK},
    )
