"""The leave-one-out benchmark: what it reads, what it hides, and its metrics as hand fractions."""

from pathlib import Path

import numpy as np
import pytest
import typer

from benchmarks.sequences import (
    HISTORY_DECAY,
    Runs,
    bootstrap_interval,
    copurchase_strength,
    gains_at_10,
    hits_at_10,
    rank_targets,
    read_runs,
)
from pipelines.recommender.sequence import EncoderShape
from pipelines.recommender.sequence_fitting import SequenceSettings, fit_sequence_encoder


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "runs.txt"
    path.write_text("1 10 20 30 40\n2 20 30 50\n", encoding="utf-8")
    return path


def test_items_are_numbered_densely_and_stay_in_order(file: Path) -> None:
    runs = read_runs(file)
    assert runs.items.tolist() == [0, 1, 2, 3, 1, 2, 4]
    assert runs.offsets.tolist() == [0, 4, 7]
    assert runs.n_items == 5


def test_test_and_validation_items_leave_the_training_part(file: Path) -> None:
    runs = read_runs(file)
    known, training = runs.without_last(1), runs.without_last(2)
    assert runs.last().tolist() == [3, 4]
    assert known.last().tolist() == [2, 2]
    assert training.items.tolist() == [0, 1, 1]
    assert training.offsets.tolist() == [0, 2, 3]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 10 20 30\n2 10 20\n", "line 2 has 2 items; 3 are needed"),
        ("1 10 x 30\n", "line 1: .*whole numbers"),
        ("", "is empty"),
    ],
)
def test_a_file_that_cannot_be_split_is_refused_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "bad.txt"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(typer.BadParameter, match=message):
        read_runs(path)


def test_copurchase_never_crosses_from_one_customer_to_the_next() -> None:
    runs = Runs(np.array([0, 1, 2, 3], dtype=np.int32), np.array([0, 2, 4]), 4)
    strength = copurchase_strength(runs).toarray()
    assert strength[0, 1] == pytest.approx(1.0)  # bought next: 1 / root(1 × 1)
    assert 0 < strength[1, 0] < strength[0, 1]
    assert not strength[:2, 2:].any()
    assert not strength[2:, :2].any()


def test_only_unseen_items_are_ranked_and_ties_count_against_the_target() -> None:
    items = np.array([0, 1, 2, 0, 1, 3, 0, 1], dtype=np.int32)
    runs = Runs(items, np.array([0, 3, 6, 8]), 5)
    settings = SequenceSettings(shape=EncoderShape(width=8, n_heads=1, n_layers=1, uses_time=False), n_epochs=1)
    model = fit_sequence_encoder(runs.items, runs.offsets, None, 5, settings=settings)
    model.vectors_A1D.zero_()  # the encoder has no opinion: only co-purchases speak
    ranks = np.concatenate(list(rank_targets(model, copurchase_strength(runs), runs, np.array([3, 2, 3]), (0.0, 1.0))))
    assert ranks.shape == (3, 3)
    # Without an opinion all unseen items tie: 2 of 5 are unseen by the first two customers, 3 by the last.
    assert ranks[:, 0].tolist() == [1, 1, 2]
    # Items 2 and 3 were bought by one who bought 0 and 1, item 4 by nobody.
    assert ranks[:, 1].tolist() == [0, 0, 1]
    assert ranks[:, 2].tolist() == ranks[:, 1].tolist()
    assert 0 < HISTORY_DECAY < 1


def test_metrics_are_hand_fractions() -> None:
    ranks = np.array([0, 2, 9, 10])
    assert hits_at_10(ranks).tolist() == [1.0, 1.0, 1.0, 0.0]
    np.testing.assert_allclose(gains_at_10(ranks), [1.0, 1 / 2, 1 / np.log2(11), 0.0])


def test_the_interval_holds_the_mean_and_narrows_with_customers() -> None:
    hits = np.random.default_rng(0).random(4000) < 0.1
    few_low, few_high = bootstrap_interval(hits[:400].astype(np.float64))
    low, high = bootstrap_interval(hits.astype(np.float64))
    assert low < hits.mean() < high
    assert high - low < few_high - few_low
