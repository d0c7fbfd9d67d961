"""Fit, evaluate and refit: from the processed lake to a recommender and everything that was measured on the way."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import wraps
from itertools import chain
from typing import Any, Concatenate, ParamSpec, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from pipelines.errors import DataGateError, UsageError
from pipelines.logs import get_logger
from pipelines.recommender.checkpoints import Checkpoints
from pipelines.recommender.evaluated import (
    Evaluated,
    evaluated_from,
    fit_from,
    fit_state,
    join,
    sequence_from,
    sequence_state,
    without_candidates,
)
from pipelines.recommender.evaluation import baseline_outcomes, outcome_of
from pipelines.recommender.fitting import Epoch, Fit, fit_ranker, ranked_hits, split_validation
from pipelines.recommender.hyperparameters import Hyperparameters, adapted
from pipelines.recommender.interactions import Catalogue, Interactions
from pipelines.recommender.label_week import BATCH, LabelWeek, build_label_week, buyers_of
from pipelines.recommender.model import Recommender
from pipelines.recommender.sequence import SequenceModel
from pipelines.recommender.sequence_fitting import SequenceSettings, fit_sequence_encoder
from pipelines.recommender.signals import Signals
from pipelines.recommender.tables import Tables, build_tables
from pipelines.recommender.workers import Workers

__all__ = ["MIN_LABEL_WEEKS", "Evaluated", "TimeSpan", "Trainer", "first_label_day", "set_up_torch"]

log = get_logger()
SEQUENCE_DAYS = 28
MIN_LABEL_WEEKS = 2
"""One to learn from, one to stop early on."""
EVALUATION_CHUNK = 4096
"""Customers whose candidates are held at once while a label week is evaluated; 128 MiB."""

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class TimeSpan:
    """Days as counted from the first in the data; the label window is [cutoff_day, cutoff_day + horizon_days)."""

    cutoff_day: int
    horizon_days: int
    last_day: int


def first_label_day(end_day: int) -> int:
    """Leave four weeks of history before the first label window; a short data set gives a third of its span."""
    return max(min(28, end_day // 3), 1)


def together(method: Callable[Concatenate[Trainer, P], R]) -> Callable[Concatenate[Trainer, P], R]:
    """Let every worker do what the writer does here; they wait in `Trainer.follow` for its next call."""

    @wraps(method)
    def call(trainer: Trainer, /, *args: P.args, **kwargs: P.kwargs) -> R:
        if trainer.workers.is_writer and not trainer.is_together:
            trainer.workers.told((method.__name__, args))
            trainer.is_together = True
            try:
                return method(trainer, *args, **kwargs)
            finally:
                trainer.is_together = False
        return method(trainer, *args, **kwargs)

    return call


class Trainer:
    """Knows the data and the hyperparameters; keeps label weeks that several cutoffs share."""

    def __init__(
        self,
        interactions: Interactions,
        catalogue: Catalogue,
        segments: npt.NDArray[np.uint8],
        horizon_days: int,
        hyperparameters: Hyperparameters,
        *,
        known_before: int | None = None,
        workers: Workers | None = None,
        checkpoints: Checkpoints | None = None,
    ) -> None:
        """What the hyperparameters leave to the data is settled by purchases before day `known_before`, else by all."""
        self.interactions = interactions
        self.catalogue = catalogue
        self.segments = segments
        self.horizon_days = horizon_days
        known = interactions if known_before is None else interactions.before(known_before)
        self.hyperparameters = adapted(hyperparameters, known, horizon_days)
        self.workers = workers or Workers()
        self.checkpoints = checkpoints or Checkpoints()
        self.is_together = False
        self._weeks: dict[int, LabelWeek] = {}
        self._sequences: dict[int, SequenceModel] = {}

    def follow(self) -> None:
        """Do as the writer does, until it calls `release`."""
        while call := self.workers.told(None):
            name, args = call
            getattr(self, name)(*args)

    def release(self) -> None:
        """Tell the other workers that nothing more is to be done together."""
        self.workers.told(None)

    def tables(self, day: int) -> Tables:
        tables = build_tables(self.interactions, self.catalogue, self.segments, day, self.hyperparameters)
        return replace(tables, sequence=self._sequence(day))

    def _sequence(self, day: int) -> SequenceModel | None:
        """Fit the encoder on what was known up to SEQUENCE_DAYS before `day`, once for all days that share it.

        So it is as old when it serves as it was in the label weeks from which the ranker learned how far to trust it.
        """
        anchor = day - day % SEQUENCE_DAYS
        if not self.hyperparameters.sequence_epochs or anchor < SEQUENCE_DAYS:
            return None
        if anchor not in self._sequences:
            past = self.interactions.before(anchor)
            if past.offsets[-1] == 0 or np.diff(past.offsets).max(initial=0) < 2:
                return None
            name = f"sequence-before-{anchor}"
            if state := self.checkpoints.load(name):
                self._sequences[anchor] = sequence_from(state).eval()
                return self._sequences[anchor]
            self._sequences[anchor] = fit_sequence_encoder(
                past.article,
                past.offsets,
                past.day,
                past.n_articles,
                self.catalogue.attributes_AV,
                SequenceSettings(seed=self.hyperparameters.seed, n_epochs=self.hyperparameters.sequence_epochs),
            ).eval()
            self.checkpoints.save(name, sequence_state(self._sequences[anchor]))
            log.info("sequence_encoder_fitted", before_day=anchor)
        return self._sequences[anchor]

    def _describe(self, tables: Tables, **which: Any) -> LabelWeek:
        return build_label_week(
            self.interactions, tables, self.segments, self.horizon_days, self.hyperparameters, **which
        )

    def _week(self, day: int) -> LabelWeek:
        if day not in self._weeks:
            # A quarter, so that even the largest shop's model learns from at least four different weeks.
            cap = max(1, self.hyperparameters.training_customers // 4)
            week = self._describe(self.tables(day), max_customers=cap, workers=self.workers)
            n_customers, n_described = self.workers.sum(len(week.customers_N), len(week.described_R))
            log.info("label_week_described", day=day, n_customers=int(n_customers), n_described=int(n_described))
            self._weeks[day] = week
        return self._weeks[day]

    @together
    def label_weeks(self, end_day: int) -> list[LabelWeek]:
        """Label windows that end by `end_day`, newest first, each with some history before it.

        Adds windows until they hold `training_customers` buyers or number `training_weeks`.
        """
        weeks: list[LabelWeek] = []
        n_customers = 0.0
        day = end_day - self.horizon_days
        while day >= first_label_day(end_day) and len(weeks) < self.hyperparameters.training_weeks:
            weeks.append(self._week(day))
            n_customers += self.workers.sum(len(weeks[-1].customers_N))[0]
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
        """Refuse a backtest whose earliest cutoffs have too little before them, or nothing in a label window.

        Ahead of all the work.
        """

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
        for number in range(1, backtest + 1):
            day = cutoff_day - number * self.horizon_days
            if not len(self.interactions.between(day, day + self.horizon_days)):
                raise UsageError(
                    f"backtest {backtest} meets a label window in which nobody bought anything, {number} x "
                    f"{self.horizon_days} days before cutoff_date; give at most {number - 1}, or another cutoff_date"
                )

    def _fit(self, weeks: list[LabelWeek], held: list[LabelWeek], name: str, **how: Any) -> Fit:
        knobs, checkpoints = self.hyperparameters, self.checkpoints
        return fit_ranker(weeks, held, knobs, workers=self.workers, checkpoints=checkpoints, name=name, **how)

    def _once(self, name: str, work: Callable[[], Fit]) -> Fit:
        """Fit, or find the fit that a killed run had finished."""
        if state := self.workers.told(self.checkpoints.load(name)):
            return fit_from(state, self.hyperparameters)
        fit = work()
        self.checkpoints.save(name, fit_state(fit))
        return fit

    @together
    def fit_before(self, day: int, on_epoch: Callable[[Epoch], None] = lambda _: None) -> Fit:
        """Fit with early stopping on the weeks just before `day`, then go on with those weeks included."""

        def work() -> Fit:
            training, validation = split_validation(self.label_weeks(day), self.hyperparameters, self.workers)
            stopped = self._fit(training, validation, f"stopping-before-{day}", on_epoch=on_epoch)
            fit = self._fit(training + validation, [], f"fitting-before-{day}", n_epochs=stopped.best_epoch)
            return replace(
                fit,
                curve=stopped.curve,
                best_epoch=stopped.best_epoch,
                n_validation_customers=stopped.n_validation_customers,
            )

        return self._once(f"fitted-before-{day}", work)

    @together
    def evaluate_at(self, day: int, on_epoch: Callable[[Epoch], None] = lambda _: None) -> Evaluated:
        """Fit on what was known before `day` and score every buyer of the label window that starts there."""
        name = f"evaluated-at-{day}"
        if state := self.workers.told(self.checkpoints.load(name)):
            return evaluated_from(state, self.hyperparameters, self.tables)
        fit = self.fit_before(day, on_epoch)
        tables = self.tables(day)
        buyers, _ = buyers_of(self.interactions.between(day, day + self.horizon_days))
        if not len(buyers):
            raise DataGateError(
                f"nobody bought anything in the label window of {self.horizon_days} days from day {day}"
            )
        own = buyers[self.workers.share(len(buyers), BATCH)]
        parts = []
        for start in range(0, max(len(own), 1), EVALUATION_CHUNK):
            week = self._describe(tables, customers=own[start : start + EVALUATION_CHUNK], keep_all=True)
            hits_NK, articles_RK = ranked_hits(fit.ranker, week)
            parts.append((without_candidates(week), hits_NK, articles_RK[:, :12].copy()))
        weeks, hits, articles = zip(*chain.from_iterable(self.workers.gather(parts)), strict=True)
        week = join(weeks)
        model = outcome_of(week, np.concatenate(hits), np.concatenate(articles), self.interactions)
        baselines = baseline_outcomes(week, self.interactions, self.horizon_days)
        evaluated = Evaluated(week, fit, model, baselines, tables.n_live, self.tables)
        self.checkpoints.save(name, evaluated.state())
        return evaluated

    def recommender(self, fit: Fit, tables: Tables) -> Recommender:
        return Recommender(Signals(tables, self.hyperparameters.n_candidates), fit.ranker).eval()

    @together
    def refit(self, end_day: int, n_epochs: int) -> tuple[Recommender, Fit]:
        """Fit what ships: the same number of epochs, on every week up to the last day, with that day's tables."""
        name = f"shipping-from-{end_day}-{n_epochs}"
        fit = self._once(
            f"shipped-from-{end_day}-{n_epochs}",
            lambda: self._fit(self.label_weeks(end_day), [], name, n_epochs=n_epochs),
        )
        return self.recommender(fit, self.tables(end_day)), fit


def set_up_torch() -> None:
    """Make runs repeatable: one thread in each operation, and only algorithms that give the same bits."""
    torch.set_num_threads(1)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it a GPU's matrix products raise an error
    torch.use_deterministic_algorithms(True)
