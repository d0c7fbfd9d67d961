"""The search: it never sees the label week, repeats itself, and prints what a run takes."""

import json
from dataclasses import replace

import optuna
import pytest

from pipelines.recommender.hyperparameters import Hyperparameters, parse_hyperparameters
from pipelines.recommender.metrics import Interval
from pipelines.recommender.search import Search, Searched, differing, suggest
from tests.pipelines.recommender.small_shop import KNOBS, absurd_future, random_shop

CUTOFF = 63
GIVEN = KNOBS.model_copy(update={"training_weeks": 4, "max_epochs": 2})


def search(last_seen: int | None = None) -> Searched:
    """Search on a small shop; from the day `last_seen` on, everybody buys absurd things."""
    shop = random_shop()
    if last_seen is not None:
        shop = replace(shop, interactions=absurd_future(shop.interactions, last_seen))
    return Search(shop, CUTOFF, 7, GIVEN).run(2)


@pytest.fixture(scope="module")
def searched() -> Searched:
    return search()


def test_absurd_purchases_in_the_label_week_change_nothing(searched: Searched) -> None:
    assert search(last_seen=CUTOFF) == searched


def test_absurd_purchases_on_the_day_before_do(searched: Searched) -> None:
    assert search(last_seen=CUTOFF - 1) != searched


@pytest.mark.parametrize(("n_trials", "is_gain"), [(1, True), (30, False)])
def test_the_best_of_many_trials_must_be_better_than_the_best_of_few(n_trials: int, is_gain: bool) -> None:
    # 2.2 deviations above nothing: beyond 1.96, below the 3.1 that thirty tries ask for
    difference = Interval(mean=0.0022, low=0.0022 - 0.00196, high=0.0022 + 0.00196, n=500)
    searched = Searched(KNOBS, 0.0222, 0.02, difference, n_trials=n_trials, n_pruned=0)
    assert searched.is_gain is is_gain


def test_the_best_is_at_least_as_good_as_what_was_given_and_a_run_takes_it(searched: Searched) -> None:
    assert searched.map_at_12 >= searched.given_map_at_12
    assert searched.difference.mean == pytest.approx(searched.map_at_12 - searched.given_map_at_12)
    assert parse_hyperparameters(json.dumps(differing(searched.hyperparameters))) == searched.hyperparameters
    kept = {"seed", "max_history", "training_weeks", "max_epochs", "threads", "patience"}
    assert all(getattr(searched.hyperparameters, name) == getattr(GIVEN, name) for name in kept)


@pytest.mark.parametrize(("max_history", "expected"), [(64, {192, 256, 384}), (120, {256, 384}), (290, {500})])
def test_no_trial_has_fewer_candidates_than_answers_and_history_need(max_history: int, expected: set[int]) -> None:
    given = Hyperparameters.model_validate({"max_history": max_history, "n_candidates": 500})
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    assert {suggest(study.ask(), given).n_candidates for _ in range(30)} == expected
