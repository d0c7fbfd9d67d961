"""Fitting: what it learns, when it stops, what it refuses, and that the future is nothing to it."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from pipelines.data.splits import min_history_days
from pipelines.errors import DataGateError, UsageError
from pipelines.recommender.fitting import Epoch, Fit, fit_ranker, listwise_losses, ranked_hits, split_validation
from pipelines.recommender.interactions import Interactions
from pipelines.recommender.label_week import LabelWeek
from pipelines.recommender.model import RANKER_FEATURES
from pipelines.recommender.shop import Shop
from pipelines.recommender.training import MIN_LABEL_WEEKS, Trainer, first_label_day
from tests.pipelines.recommender.small_shop import (
    KNOBS,
    Purchase,
    absurd_future,
    random_purchases,
    random_shop,
    shop_of,
)

CUTOFF = 63


def trainer_of(shop: Shop, interactions: Interactions | None = None, horizon_days: int = 7) -> Trainer:
    rows = shop.interactions if interactions is None else interactions
    return Trainer(rows, shop.catalogue, shop.segments, horizon_days, KNOBS)


def weights(fit: Fit) -> bytes:
    return b"".join(tensor.numpy().tobytes() for tensor in fit.ranker.state_dict().values())


def synthetic_week(n: int, *, day: int = 0, n_candidates: int = 20, teaches: bool = True, seed: int = 0) -> LabelWeek:
    """Customers who buy the candidate whose first feature is largest."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(n, n_candidates, len(RANKER_FEATURES))).astype(np.float16)
    is_bought = np.zeros((n, n_candidates), dtype=np.bool_)
    if teaches:
        is_bought[np.arange(n), features[:, :, 0].argmax(axis=1)] = True
    return LabelWeek(
        day=day,
        customers_N=np.arange(n, dtype=np.int32),
        n_bought_N=np.ones(n, dtype=np.int64),
        n_history_N=np.ones(n, dtype=np.int64),
        idle_days_N=np.ones(n, dtype=np.int64),
        described_R=np.arange(n),
        candidates_RC=np.tile(np.arange(n_candidates, dtype=np.int32), (n, 1)),
        features_RCF=features,
        is_bought_RC=is_bought,
    )


@pytest.fixture(scope="module")
def shop() -> Shop:
    return random_shop()


@pytest.fixture(scope="module")
def fit(shop: Shop) -> Fit:
    return trainer_of(shop).fit_before(CUTOFF)


def test_loss_weighs_customers_alike_whatever_the_basket() -> None:
    scores_BC = torch.tensor([[0.0, 0.0, 0.0, 0.0], [math.log(3), 0.0, 0.0, 0.0]])
    is_bought_BC = torch.tensor([[True, True, True, False], [True, False, False, False]])
    assert listwise_losses(scores_BC, is_bought_BC).tolist() == pytest.approx([math.log(4), math.log(2)])


def test_a_signal_in_the_features_is_learned() -> None:
    knobs = KNOBS.model_copy(update={"max_epochs": 16})
    fit = fit_ranker([synthetic_week(400)], [synthetic_week(100, seed=1)], knobs)
    assert fit.curve[-1].validation_map_at_12 > 0.8
    hits_NK, articles_RK = ranked_hits(fit.ranker, synthetic_week(100, seed=2))
    assert hits_NK.shape == (100, 100)
    assert articles_RK.shape == (100, 20)
    assert hits_NK[:, 0].mean() > 0.7


def test_fitting_stops_when_validation_no_longer_improves_and_keeps_the_best_weights() -> None:
    knobs = KNOBS.model_copy(update={"max_epochs": 40, "patience": 2, "learning_rate": 0.2})
    epochs: list[Epoch] = []
    unrelated = synthetic_week(40, seed=1)
    unrelated.is_bought_RC[:] = np.roll(unrelated.is_bought_RC, 3, axis=1)
    fit = fit_ranker([synthetic_week(60)], [unrelated], knobs, on_epoch=epochs.append)
    losses = [epoch.validation_loss for epoch in epochs]
    assert fit.curve == epochs
    assert len(epochs) == fit.best_epoch + 2 < 40
    assert losses[fit.best_epoch - 1] == min(losses)
    again = fit_ranker([synthetic_week(60)], [], knobs, n_epochs=fit.best_epoch)
    assert weights(again) == weights(fit)


def test_without_validation_all_epochs_run() -> None:
    fit = fit_ranker([synthetic_week(60)], [], KNOBS)
    assert [epoch.epoch for epoch in fit.curve] == [1, 2, 3]
    assert fit.best_epoch == 3
    assert math.isnan(fit.curve[0].validation_loss)


def test_weeks_of_different_width_are_fitted_together() -> None:
    fit = fit_ranker([synthetic_week(30), synthetic_week(30, n_candidates=7)], [], KNOBS)
    assert fit.n_training_customers == 60
    assert all(torch.isfinite(weight).all() for weight in fit.ranker.parameters())


def test_a_constant_feature_is_left_out_instead_of_blown_up() -> None:
    week = synthetic_week(30)
    week.features_RCF[:, :, 1] = 3.0
    fit = fit_ranker([week], [], KNOBS)
    assert fit.ranker.scale_F[1] == 0


def test_nothing_to_learn_from_is_said() -> None:
    with pytest.raises(DataGateError, match=r"nothing to learn from.*too short or too sparse"):
        fit_ranker([synthetic_week(30, teaches=False)], [], KNOBS)


def test_a_feature_that_is_no_number_is_said_with_its_week_epoch_and_batch() -> None:
    sound, broken = synthetic_week(60, day=14), synthetic_week(30, day=21)
    broken.features_RCF[7, 3, 2] = np.inf
    message = (
        rf"training loss became nan in epoch 1, batch \d: feature '{RANKER_FEATURES[2]}' of a customer in the "
        "label week from day 21 is no finite number"
    )
    with pytest.raises(DataGateError, match=message):
        fit_ranker([broken, sound], [], KNOBS)


def test_weights_that_run_away_are_said_with_the_learning_rate() -> None:
    knobs = KNOBS.model_copy(update={"learning_rate": 1e30})
    with pytest.raises(DataGateError, match=r"epoch 1, batch \d .*weights ran away; lower learning_rate \(now 1e\+30"):
        fit_ranker([synthetic_week(300, day=14)], [], knobs)


def test_weights_that_run_away_in_the_last_step_are_not_shipped() -> None:
    knobs = KNOBS.model_copy(update={"learning_rate": 1e30, "batch_size": 64, "max_epochs": 1})
    with pytest.raises(DataGateError, match=r"after epoch 1 the validation loss is \S+: the weights ran away; lower"):
        fit_ranker(
            [synthetic_week(64)], [synthetic_week(30, seed=1)], knobs
        )  # one step an epoch: its own loss is still a number


def test_a_validation_week_that_is_no_number_stops_the_fit() -> None:
    held = synthetic_week(30, day=21, seed=1)
    held.features_RCF[:, :, 2] = np.nan
    with pytest.raises(DataGateError, match="after epoch 1 the validation loss is nan"):
        fit_ranker([synthetic_week(60, day=14)], [held], KNOBS)


@pytest.mark.parametrize(("n_weeks", "n_customers", "expected"), [(2, 10, 1), (8, 3000, 1), (8, 1500, 2), (8, 10, 2)])
def test_validation_grows_until_it_has_enough_customers_or_a_quarter(
    n_weeks: int, n_customers: int, expected: int
) -> None:
    one = synthetic_week(1, n_candidates=1)
    weeks = [
        replace(one, day=7 * (n_weeks - n), customers_N=np.arange(n_customers, dtype=np.int32)) for n in range(n_weeks)
    ]
    training, validation = split_validation(weeks, KNOBS)
    assert [week.day for week in validation] == [week.day for week in weeks[:expected]]
    assert [week.day for week in training] == [week.day for week in weeks[expected:]]


def test_the_same_data_give_the_same_weights(shop: Shop, fit: Fit) -> None:
    torch.manual_seed(99)  # whatever was drawn before
    assert weights(trainer_of(shop).fit_before(CUTOFF)) == weights(fit)


def test_another_seed_gives_other_weights(shop: Shop, fit: Fit) -> None:
    knobs = KNOBS.model_copy(update={"seed": 8})
    other = Trainer(shop.interactions, shop.catalogue, shop.segments, 7, knobs).fit_before(CUTOFF)
    assert weights(other) != weights(fit)


def test_the_future_changes_no_weight(shop: Shop, fit: Fit) -> None:
    assert weights(trainer_of(shop, absurd_future(shop.interactions, CUTOFF)).fit_before(CUTOFF)) == weights(fit)


def test_the_day_before_the_cutoff_changes_the_weights(shop: Shop, fit: Fit) -> None:
    assert weights(trainer_of(shop, absurd_future(shop.interactions, CUTOFF - 1)).fit_before(CUTOFF)) != weights(fit)


def test_every_training_window_ends_by_the_cutoff(shop: Shop) -> None:
    days = [week.day for week in trainer_of(shop).label_weeks(CUTOFF)]
    assert days == [56, 49, 42, 35, 28, 21]  # 21 leaves a third of 63 days before the first
    assert [week.day for week in trainer_of(shop, horizon_days=10).label_weeks(CUTOFF)] == [53, 43, 33, 23]


def test_weeks_stop_at_training_customers_but_not_before_four(shop: Shop) -> None:
    knobs = KNOBS.model_copy(update={"training_customers": 100})
    trainer = Trainer(shop.interactions, shop.catalogue, shop.segments, 7, knobs)
    weeks = trainer.label_weeks(CUTOFF)
    assert len(weeks) == 4
    assert all(len(week.customers_N) <= 25 for week in weeks)  # a quarter each


@pytest.mark.parametrize("days", [3, 7, 14])
def test_too_little_history_is_said_with_what_is_needed(shop: Shop, days: int) -> None:
    with pytest.raises(DataGateError, match=rf"only {days} days of history.*at least two label windows of 7 days"):
        trainer_of(shop).fit_before(days)


def test_a_single_week_of_data_is_refused() -> None:
    rows = random_purchases(100, n_customers=40, n_articles=300, n_days=7)
    single = shop_of(rows, n_customers=40, n_articles=300)
    with pytest.raises(DataGateError, match="only 0 days of history before the cutoff"):
        trainer_of(single).evaluate_at(0)


@pytest.mark.parametrize(
    ("cutoff_day", "backtest", "longest"), [(63, 10, 6), (63, 7, 6), (700, 101, 97), (28, 2, 1), (63, 10**15, 6)]
)
def test_a_backtest_before_the_data_is_refused_ahead_of_the_work(
    shop: Shop, cutoff_day: int, backtest: int, longest: int
) -> None:
    trainer = trainer_of(shop)
    with pytest.raises(UsageError, match=f"backtest {backtest} reaches before the data.*give at most {longest}"):
        trainer.check_backtest(cutoff_day, backtest)
    if cutoff_day < 70:  # the shop's last day; beyond it nobody buys
        trainer.check_backtest(cutoff_day, longest)


def test_a_backtest_that_meets_a_closed_week_is_refused_ahead_of_the_work() -> None:
    rows = [row for row in random_purchases(3000, n_customers=40, n_articles=300, n_days=98) if not 70 <= row[1] < 77]
    trainer = trainer_of(shop_of(rows, n_customers=40, n_articles=300))
    trainer.check_backtest(84, 1)
    with pytest.raises(UsageError, match="nobody bought anything, 2 x 7 days before cutoff_date; give at most 1"):
        trainer.check_backtest(84, 3)


def test_a_shop_of_first_time_buyers_is_fitted() -> None:
    rng = np.random.default_rng(5)
    rows: list[Purchase] = [(n, int(rng.integers(70)), int(rng.integers(30))) for n in range(300)]
    evaluated = trainer_of(shop_of(rows, n_customers=300, n_articles=120)).evaluate_at(CUTOFF)
    assert not evaluated.week.n_history_N.any()
    assert (evaluated.week.idle_days_N == -1).all()
    assert 0 <= evaluated.model.average_precision_N.mean() <= 1


def test_an_empty_label_window_is_said(shop: Shop) -> None:
    with pytest.raises(DataGateError, match=r"nobody bought anything in the label window of 7 days from day 63"):
        trainer_of(shop, shop.interactions.before(CUTOFF)).evaluate_at(CUTOFF)


@pytest.mark.parametrize("horizon_days", [1, 7, 10, 14, 28, 40])
def test_the_shortest_history_that_process_lets_through_has_windows_to_learn_from(horizon_days: int) -> None:
    cutoff_day = min_history_days(horizon_days)
    assert (cutoff_day - first_label_day(cutoff_day)) // horizon_days >= MIN_LABEL_WEEKS
