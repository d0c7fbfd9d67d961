"""The ablation: a signal that decides everything is seen to, one that says nothing is not, and nothing else changes."""

import copy
import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from pipelines.recommender import ablation
from pipelines.recommender.ablation import ablate
from pipelines.recommender.label_week import LabelWeek
from pipelines.recommender.model import SIGNAL_GROUPS, group_of
from pipelines.recommender.signals import RANKER_FEATURES
from pipelines.recommender.training import Evaluated, Trainer
from tests.pipelines.recommender.small_shop import KNOBS, random_shop
from tests.pipelines.recommender.test_fitting import synthetic_week, weights

CUTOFF = 63


@pytest.fixture(scope="module")
def trainer() -> Trainer:
    shop = random_shop()
    return Trainer(shop.interactions, shop.catalogue, shop.segments, 7, KNOBS)


@pytest.fixture(scope="module")
def evaluated(trainer: Trainer) -> Evaluated:
    return trainer.evaluate_at(CUTOFF)


@pytest.fixture(scope="module")
def table(trainer: Trainer, evaluated: Evaluated) -> dict[str, Any]:
    return ablate(trainer, evaluated)


def gains(table: dict[str, Any], week: str) -> dict[str, dict[str, float]]:
    return {row["signal"]: row["gain"][week] for row in table["groups"]}


def test_every_group_that_speaks_has_its_row(table: dict[str, Any]) -> None:
    shown = [row["signal"] for row in table["groups"]]
    silent = set(SIGNAL_GROUPS) - set(shown)
    assert shown == [group for group in SIGNAL_GROUPS if group not in silent]
    assert silent == {"sequence"}  # off by default
    n_silent = sum(group_of(name) in silent for name in RANKER_FEATURES)
    assert sum(row["n_features"] for row in table["groups"]) == len(RANKER_FEATURES) - n_silent
    json.dumps(table, allow_nan=False)


def test_gains_are_of_the_same_customers_as_the_evaluation(table: dict[str, Any], evaluated: Evaluated) -> None:
    n = len(evaluated.week.customers_N)
    assert table["n_customers"]["label_week"] == n
    assert {gain["n"] for gain in gains(table, "label_week").values()} == {n}
    assert {gain["n"] for gain in gains(table, "validation").values()} == {table["n_customers"]["validation"]}


def test_the_signal_that_decides_is_the_one_that_is_missed(
    trainer: Trainer, evaluated: Evaluated, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Customers buy the candidate whose first feature is largest, and all other features are noise.
    learned, held = [synthetic_week(300, day=day, seed=day) for day in (1, 2)], synthetic_week(120, day=3, seed=3)
    monkeypatch.setattr(ablation, "split_validation", lambda *_: (learned, [held]))
    monkeypatch.setattr(ablation, "_label_week", lambda *_: replace(held, day=4))
    table = ablate(trainer, evaluated)
    found = gains(table, "validation")
    decisive = group_of(RANKER_FEATURES[0])
    assert found[decisive]["low"] > 0.2
    assert max(abs(gain["mean"]) for group, gain in found.items() if group != decisive) < 0.1
    assert gains(table, "label_week") == found


def test_a_large_shop_is_sampled_evenly_over_its_weeks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ablation, "MAX_TRAINING_CUSTOMERS", 50)
    weeks = [synthetic_week(100, day=1), synthetic_week(300, day=2)]
    sampled = ablation._sample(weeks, KNOBS)
    assert [len(week.described_R) for week in sampled] == [12, 38]
    for week, all_of_it in zip(sampled, weeks, strict=True):
        assert np.array_equal(week.features_RCF, all_of_it.features_RCF[week.described_R])
    assert [week.day for week in ablation._sample(weeks[:0], KNOBS)] == []


def test_bought_candidates_are_always_learned_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ablation, "MAX_TRAINING_CANDIDATES", 6)
    week = synthetic_week(40, n_candidates=20, seed=2)
    week.is_bought_RC[::2, :3] = True  # up to four bought ones
    thin = ablation._thin(week, KNOBS)
    assert thin.features_RCF.shape[:2] == thin.is_bought_RC.shape == thin.candidates_RC.shape == (40, 6)
    assert thin.is_bought_RC.sum(axis=1).tolist() == week.is_bought_RC.sum(axis=1).tolist()
    for row in range(40):
        assert len(set(thin.candidates_RC[row])) == 6
        assert np.array_equal(thin.features_RCF[row], week.features_RCF[row, thin.candidates_RC[row]])
    assert np.array_equal(ablation._thin(week, KNOBS).candidates_RC, thin.candidates_RC)


def test_label_customers_are_sampled_in_a_large_shop(
    trainer: Trainer, evaluated: Evaluated, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ablation, "MAX_LABEL_CUSTOMERS", 5)
    week = ablation._label_week(trainer, evaluated)
    assert len(week.customers_N) == 5
    assert set(week.customers_N) <= set(evaluated.week.customers_N)


def test_nothing_that_is_kept_changes(trainer: Trainer, evaluated: Evaluated, table: dict[str, Any]) -> None:
    before: list[LabelWeek] = copy.deepcopy(trainer.label_weeks(CUTOFF))
    fitted = weights(evaluated.fit)
    assert ablate(trainer, evaluated) == table  # the same again
    assert weights(evaluated.fit) == fitted
    for week, same in zip(trainer.label_weeks(CUTOFF), before, strict=True):
        assert np.array_equal(week.features_RCF, same.features_RCF)
