"""What each group of signals adds: the ranker is fitted anew without it, and compared on the same customers.

Retrieval stays as it is, so that all rankers order the same candidates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from pipelines.recommender.fitting import fit_ranker, ranked_hits, split_validation
from pipelines.recommender.hyperparameters import Hyperparameters
from pipelines.recommender.interactions import Float64, Int32
from pipelines.recommender.label_week import LabelWeek, build_label_week
from pipelines.recommender.metrics import average_precision, bootstrap_means
from pipelines.recommender.model import SIGNAL_GROUPS, Ranker, group_of
from pipelines.recommender.signals import RANKER_FEATURES
from pipelines.recommender.training import Evaluated, Trainer

MAX_TRAINING_CUSTOMERS = 2_000
"""Enough to see a signal that matters; each group costs one fit on them, whatever the size of the shop."""
MAX_TRAINING_CANDIDATES = 64
"""A fit costs in proportion; what is ranked afterwards is every candidate."""
MAX_LABEL_CUSTOMERS = 2_000
MIN_EPOCHS = 8
"""Few customers make few steps: the whole model's number of epochs may be too small for them."""


def ablate(trainer: Trainer, at_cutoff: Evaluated) -> dict[str, Any]:
    """Fit with and without each signal group on the weeks before the cutoff.

    Returns map_at_12 of the whole ranker on the validation weeks and the label week, and for each group the paired
    gain of having it, positive when it helps; a group that is silent has none. Both rankers learn from the same
    customers, a sample in a large shop, and the same MAX_TRAINING_CANDIDATES of each, for the same number of epochs.
    Intervals hold the chance in who bought, not that in the fit. Of several workers only the writer fits here, on its
    own share of the customers.
    """
    knobs = trainer.hyperparameters
    learned, held = split_validation(trainer.label_weeks(at_cutoff.week.day), knobs)
    learned = [_thin(week, knobs) for week in _sample(learned, knobs)]
    judged = {"validation": held, "label_week": [_label_week(trainer, at_cutoff)]}
    n_epochs = min(knobs.max_epochs, max(MIN_EPOCHS, at_cutoff.fit.best_epoch))

    def scores(left_out: Sequence[int]) -> dict[str, Float64]:
        weeks = [_silence(week, left_out) for week in learned]
        ranker = fit_ranker(weeks, [], knobs, n_epochs=n_epochs).ranker
        return {name: _precision(ranker, weeks) for name, weeks in judged.items()}

    whole = scores([])
    columns = {
        group: [f for f, name in enumerate(RANKER_FEATURES) if group_of(name) == group] for group in SIGNAL_GROUPS
    }
    customers = {name: _customers(weeks) for name, weeks in judged.items()}
    groups = []
    for group, left_out in columns.items():
        if not any(week.features_RCF[:, :, left_out].any() for week in learned):
            continue  # switched off, or nothing in this shop speaks of it
        without = scores(left_out)
        gains = {
            name: asdict(bootstrap_means((whole[name] - without[name])[:, None], customers[name], knobs.seed)[0])
            for name in judged
            if len(customers[name])
        }
        groups.append({"signal": group, "n_features": len(left_out), "gain": gains})
    return {
        "n_epochs": n_epochs,
        "n_training_candidates": max(week.is_bought_RC.shape[1] for week in learned),
        "n_training_customers": int(sum(len(week.described_R) for week in learned)),
        "n_customers": {name: len(values) for name, values in whole.items()},
        "map_at_12": {name: float(values.mean()) if len(values) else None for name, values in whole.items()},
        "groups": groups,
    }


def _customers(weeks: Sequence[LabelWeek]) -> Int32:
    return np.concatenate([np.empty(0, dtype=np.int32), *(week.customers_N for week in weeks)])


def _precision(ranker: Ranker, weeks: Sequence[LabelWeek]) -> Float64:
    values = [average_precision(ranked_hits(ranker, week, 12)[0], week.n_bought_N) for week in weeks]
    return np.concatenate([np.empty(0), *values])


def _label_week(trainer: Trainer, at_cutoff: Evaluated) -> LabelWeek:
    """Describe the label week's buyers, or a sample of them; who bought no candidate has a precision of 0."""
    buyers = at_cutoff.week.customers_N
    if len(buyers) > MAX_LABEL_CUSTOMERS:
        rng = np.random.default_rng([trainer.hyperparameters.seed, at_cutoff.week.day])
        buyers = np.sort(rng.choice(buyers, MAX_LABEL_CUSTOMERS, replace=False))
    return build_label_week(
        trainer.interactions,
        at_cutoff.tables,
        trainer.segments,
        trainer.horizon_days,
        trainer.hyperparameters,
        customers=buyers,
    )


def _sample(weeks: Sequence[LabelWeek], knobs: Hyperparameters) -> list[LabelWeek]:
    """Keep MAX_TRAINING_CUSTOMERS of the described customers at most, evenly over the weeks."""
    share = MAX_TRAINING_CUSTOMERS / max(1, sum(len(week.described_R) for week in weeks))
    if share >= 1:
        return list(weeks)
    sampled = []
    for week in weeks:
        rng = np.random.default_rng([knobs.seed, week.day])
        n = len(week.described_R)
        rows = np.sort(rng.choice(n, round(n * share), replace=False))
        sampled.append(
            replace(
                week,
                described_R=week.described_R[rows],
                candidates_RC=week.candidates_RC[rows],
                features_RCF=week.features_RCF[rows],
                is_bought_RC=week.is_bought_RC[rows],
            )
        )
    return sampled


def _thin(week: LabelWeek, knobs: Hyperparameters) -> LabelWeek:
    """Keep the bought candidates of each customer and some of the others, drawn alike for all rankers."""
    if week.is_bought_RC.shape[1] <= MAX_TRAINING_CANDIDATES:
        return week
    chance_RC = np.random.default_rng([knobs.seed, week.day, 1]).random(week.is_bought_RC.shape)
    kept_RK = np.argsort(chance_RC - week.is_bought_RC, axis=1)[:, :MAX_TRAINING_CANDIDATES]
    return replace(
        week,
        candidates_RC=np.take_along_axis(week.candidates_RC, kept_RK, 1),
        features_RCF=np.take_along_axis(week.features_RCF, kept_RK[:, :, None], 1),
        is_bought_RC=np.take_along_axis(week.is_bought_RC, kept_RK, 1),
    )


def _silence(week: LabelWeek, left_out: Sequence[int]) -> LabelWeek:
    """Make some features the same for all: what never varies in training gets no weight."""
    if not left_out:
        return week
    features_RCF = week.features_RCF.copy()
    features_RCF[:, :, left_out] = 0
    return replace(week, features_RCF=features_RCF)
