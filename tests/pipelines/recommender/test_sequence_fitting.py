"""Fitting the sequence encoder: what it learns, that it repeats, and what it refuses."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from pipelines.errors import DataGateError
from pipelines.recommender.interactions import Int32, Int64
from pipelines.recommender.sequence import EncoderShape, SequenceModel
from pipelines.recommender.sequence_batches import cut_windows
from pipelines.recommender.sequence_fitting import (
    SequenceEpoch,
    SequenceSettings,
    fit_sequence_encoder,
)

N_ARTICLES = 24
SHAPE = EncoderShape(width=16, n_heads=2, n_layers=1, max_history=8, dropout=0.1)
QUICK = SequenceSettings(
    shape=SHAPE, n_epochs=12, learning_rate=0.02, positions_per_batch=256, averaging=0.9, uses_bfloat16=False
)


def walks(n_customers: int = 150, length: int = 7, seed: int = 0) -> tuple[Int32, Int64]:
    """Customers who always buy the article after the one they bought last."""
    starts = np.random.default_rng(seed).integers(0, N_ARTICLES, (n_customers, 1))
    articles = (starts + np.arange(length)) % N_ARTICLES
    return articles.reshape(-1).astype(np.int32), np.arange(0, n_customers * length + 1, length, dtype=np.int64)


def best_next(model: SequenceModel, history: list[int], ages: list[float] | None = None) -> int:
    with torch.inference_mode():
        customer_BD = model(torch.tensor([history]), torch.tensor([ages or [1.0] * len(history)]))
        return int((customer_BD @ model.article_vectors_AD.T).argmax())


def weights(model: SequenceModel) -> bytes:
    return b"".join(tensor.numpy().tobytes() for tensor in model.state_dict().values())


@pytest.mark.parametrize("max_articles_compared", [N_ARTICLES, 8])
def test_learns_which_article_follows_which(max_articles_compared: int) -> None:
    articles, offsets = walks()
    settings = replace(QUICK, max_articles_compared=max_articles_compared)
    model = fit_sequence_encoder(articles, offsets, None, N_ARTICLES, settings=settings)
    hits = [best_next(model, [start, (start + 1) % N_ARTICLES]) == (start + 2) % N_ARTICLES for start in range(20)]
    assert sum(hits) >= 18


def test_learns_what_the_gap_tells() -> None:
    """After article 0 comes 1 on the next day, but 2 after two months."""
    n = 300
    is_late = np.random.default_rng(0).random(n) < 0.5
    articles = np.stack([np.zeros(n), np.where(is_late, 2, 1)], axis=1).astype(np.int32).reshape(-1)
    days = np.stack([np.zeros(n), np.where(is_late, 60, 1)], axis=1).astype(np.int32).reshape(-1)
    offsets = np.arange(0, 2 * n + 1, 2, dtype=np.int64)
    model = fit_sequence_encoder(articles, offsets, days, 3, settings=QUICK)
    assert best_next(model, [0], [1.0]) == 1
    assert best_next(model, [0], [60.0]) == 2


def test_same_seed_gives_the_same_weights_and_another_seed_others() -> None:
    articles, offsets = walks(40)
    settings = replace(QUICK, n_epochs=2)
    first, again = (fit_sequence_encoder(articles, offsets, None, N_ARTICLES, settings=settings) for _ in range(2))
    other = fit_sequence_encoder(articles, offsets, None, N_ARTICLES, settings=replace(settings, seed=8))
    assert weights(first) == weights(again)
    assert weights(first) != weights(other)


def test_large_data_gets_fewer_epochs_and_then_a_part_of_one() -> None:
    articles, offsets = walks()  # 900 targets: about 4 batches an epoch
    for max_steps, n_epochs in ((9, 2), (2, 1)):
        curve: list[SequenceEpoch] = []
        settings = replace(QUICK, max_steps=max_steps)
        fit_sequence_encoder(
            articles,
            offsets,
            None,
            N_ARTICLES,
            settings=settings,
            on_epoch=lambda epoch, _: curve.append(epoch),  # noqa: B023
        )
        assert [epoch.epoch for epoch in curve] == list(range(1, n_epochs + 1))


def test_fitting_leaves_torch_s_random_state_alone() -> None:
    articles, offsets = walks(20)
    before = torch.random.get_rng_state()
    fit_sequence_encoder(articles, offsets, None, N_ARTICLES, settings=replace(QUICK, n_epochs=1))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_each_epoch_is_told_and_its_frozen_model_stands_still() -> None:
    articles, offsets = walks(40)
    curve: list[SequenceEpoch] = []
    frozen: list[tuple[SequenceModel, bytes]] = []

    def on_epoch(epoch: SequenceEpoch, freeze) -> None:  # type: ignore[no-untyped-def]
        curve.append(epoch)
        model = freeze()
        frozen.append((model, weights(model)))

    last = fit_sequence_encoder(
        articles, offsets, None, N_ARTICLES, settings=replace(QUICK, n_epochs=4), on_epoch=on_epoch
    )
    assert [epoch.epoch for epoch in curve] == [1, 2, 3, 4]
    assert curve[-1].training_loss < curve[0].training_loss
    assert all(weights(model) == then for model, then in frozen)
    assert weights(last) == frozen[-1][1]
    assert not torch.equal(frozen[0][0].vectors_A1D, frozen[-1][0].vectors_A1D)


def test_a_loss_that_is_not_finite_stops_the_fit_and_says_where() -> None:
    articles, offsets = walks(40)
    with pytest.raises(DataGateError, match=r"loss is nan at step \d+ of \d+; lower its learning rate \(1e\+30\)"):
        fit_sequence_encoder(articles, offsets, None, N_ARTICLES, settings=replace(QUICK, learning_rate=1e30))


def test_customers_of_one_purchase_are_refused_when_nobody_has_more() -> None:
    articles, offsets = np.array([3, 4], dtype=np.int32), np.array([0, 1, 2], dtype=np.int64)
    with pytest.raises(DataGateError, match="no customer has two purchases"):
        fit_sequence_encoder(articles, offsets, None, N_ARTICLES, settings=QUICK)


def test_a_long_history_is_cut_into_windows_that_hold_each_target_once() -> None:
    articles = np.arange(20, dtype=np.int32)
    offsets = np.array([0, 19, 20], dtype=np.int64)  # one customer of 19 purchases, one of a single purchase
    windows = cut_windows(articles, offsets, articles * 2, 20, 8, 100, np.random.default_rng(0))
    batch = windows.batch(np.arange(len(windows.starts_W)))
    is_real = batch.target_BL < 20
    assert sorted(batch.target_BL[is_real].tolist()) == list(range(1, 19))
    assert batch.history_BL.shape[1] == 8
    np.testing.assert_array_equal(batch.history_BL[is_real] + 1, batch.target_BL[is_real])
    # Days run twice as fast as articles, and ages count from the window's last target.
    last_B = batch.target_BL[:, -1]
    np.testing.assert_array_equal(batch.age_days_BL[is_real], (2 * (last_B[:, None] - batch.history_BL))[is_real])


def test_an_epoch_holds_every_window_once() -> None:
    articles, offsets = walks(30)
    windows = cut_windows(articles, offsets, None, N_ARTICLES, 4, 100, np.random.default_rng(0))
    drawn = np.concatenate(list(windows.epoch(16, np.random.default_rng(1))))
    assert sorted(drawn.tolist()) == list(range(len(windows.starts_W)))


def test_more_customers_than_the_cap_are_sampled_by_seed() -> None:
    articles, offsets = walks(30)
    kept = [
        cut_windows(articles, offsets, None, N_ARTICLES, 8, 10, np.random.default_rng(seed)).starts_W.tolist()
        for seed in (0, 0, 1)
    ]
    assert len(kept[0]) == 10
    assert kept[0] == kept[1] != kept[2]
