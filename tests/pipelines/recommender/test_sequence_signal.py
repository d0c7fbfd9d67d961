"""The sequence encoder as one of the ranker's signals: in the graph, and blind to the future."""

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch

from pipelines.recommender.export import export_onnx
from pipelines.recommender.histories import histories_of
from pipelines.recommender.label_week import run_signals
from pipelines.recommender.model import Recommender
from pipelines.recommender.shop import Shop
from pipelines.recommender.signals import RANKER_FEATURES, Signals
from pipelines.recommender.training import Trainer
from tests.pipelines.recommender.small_shop import KNOBS, absurd_future, random_shop
from tests.pipelines.recommender.test_model import ranker_of

DAY = 63
SEQUENCE = RANKER_FEATURES.index("sequence_score")


@pytest.fixture(scope="module")
def shop() -> Shop:
    return random_shop()


def trainer_of(shop: Shop, n_epochs: int) -> Trainer:
    knobs = KNOBS.model_copy(update={"sequence_epochs": n_epochs})
    return Trainer(shop.interactions, shop.catalogue, shop.segments, 7, knobs)


def scores_of(trainer: Trainer, customers: int = 40) -> np.ndarray:
    signals = Signals(trainer.tables(DAY), 256)
    past = trainer.interactions.before(DAY)
    _, features_BCF = run_signals(signals, past, np.arange(customers, dtype=np.int32), trainer.segments, DAY, 64)
    return features_BCF[:, :, SEQUENCE]


def test_without_epochs_there_is_no_encoder(shop: Shop) -> None:
    trainer = trainer_of(shop, 0)
    assert trainer.tables(DAY).sequence is None
    assert not scores_of(trainer).any()


def test_the_encoder_scores_candidates_and_sees_nothing_of_the_future(shop: Shop) -> None:
    trainer = trainer_of(shop, 1)
    scores_BC = scores_of(trainer)
    assert (scores_BC.std(axis=1) > 0).all()
    later = Trainer(absurd_future(shop.interactions, DAY), shop.catalogue, shop.segments, 7, trainer.hyperparameters)
    assert np.array_equal(scores_of(later), scores_BC)


def test_weeks_of_the_same_four_share_an_encoder(shop: Shop) -> None:
    trainer = trainer_of(shop, 1)
    assert trainer.tables(56).sequence is trainer.tables(69).sequence
    assert trainer.tables(55).sequence is not trainer.tables(56).sequence
    assert trainer.tables(27).sequence is None  # too little behind it


def test_the_graph_with_the_encoder_answers_as_torch_does(shop: Shop, tmp_path: Path) -> None:
    trainer = trainer_of(shop, 1)
    recommender = Recommender(Signals(trainer.tables(DAY), 256), ranker_of(hidden=8)).eval()
    export_onnx(recommender, tmp_path / "model.onnx", 64)
    session = ort.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    history = histories_of(shop.interactions.before(DAY), np.arange(40, dtype=np.int32), DAY, 64)
    extra_P, penalty_N1 = recommender.signals.nothing_extra()
    segment_B = shop.segments.astype(np.int64)
    with torch.inference_mode():
        expected_BC = recommender(
            torch.from_numpy(history.history_BL),
            torch.from_numpy(history.age_days_BL),
            torch.from_numpy(segment_B),
            extra_P,
            penalty_N1,
        )[1].numpy()
    feed = {
        "history_BL": history.history_BL,
        "age_days_BL": history.age_days_BL,
        "segment_B": segment_B,
        "extra_pool_P": extra_P.numpy(),
        "penalty_N1": penalty_N1.numpy(),
        "top_k_1": np.array([12]),
    }
    (score_BK,) = session.run(["score_BK"], feed)
    assert score_BK == pytest.approx(expected_BC[:, :12], abs=1e-4)
