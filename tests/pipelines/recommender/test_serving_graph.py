"""What is worked out at export changes no answer: each candidate's score and what each signal added to it."""

import numpy as np
import pytest
import torch

from pipelines.recommender.hyperparameters import Hyperparameters
from pipelines.recommender.model import Ranker, Recommender
from pipelines.recommender.serving_graph import ServingGraph
from pipelines.recommender.shop import Shop
from pipelines.recommender.signals import NOT_ALLOWED, RANKER_FEATURES, WINDOW, Signals
from pipelines.recommender.tables import build_tables
from tests.pipelines.recommender.small_shop import KNOBS, random_shop
from tests.pipelines.recommender.test_model import ranker_of

DAY = 60
Inputs = tuple[torch.Tensor, ...]


def fitted_ranker(hidden: int) -> Ranker:
    """Features far from mean 0 and deviation 1, so that some are clipped, and one that never varied."""
    ranker, rng = ranker_of(hidden=hidden), np.random.default_rng(4)
    n_features = len(RANKER_FEATURES)
    ranker.mean_F = torch.from_numpy(rng.normal(0, 2, n_features).astype(np.float32))
    ranker.scale_F = torch.from_numpy(rng.uniform(0.2, 6, n_features).astype(np.float32))
    ranker.scale_F[RANKER_FEATURES.index("is_variant")] = 0
    ranker.scale_F[RANKER_FEATURES.index("is_unsold")] = 0
    return ranker.eval()


def recommender_of(shop: Shop, hidden: int = 8, n_candidates: int = 256, knobs: Hyperparameters = KNOBS) -> Recommender:
    tables = build_tables(shop.interactions, shop.catalogue, shop.segments, DAY, knobs)
    return Recommender(Signals(tables, n_candidates), fitted_ranker(hidden)).eval()


def customers(signals: Signals, length: int, n_rows: int = 12, seed: int = 3) -> Inputs:
    """Draw histories of 0 to `length` purchases, some articles more than once and more than once a day."""
    rng = np.random.default_rng(seed)
    articles_BL = rng.integers(0, signals.n_articles // 3 + 1, (n_rows, length))
    age_BL = -np.sort(-rng.integers(1, 30, (n_rows, length)), axis=1).astype(np.float32)
    for at in range(1, length, 4):
        articles_BL[:, at] = articles_BL[:, at - 1]
        age_BL[: n_rows // 2, at] = age_BL[: n_rows // 2, at - 1]
    is_padding_BL = np.arange(length) < rng.integers(0, length + 1, (n_rows, 1))
    is_padding_BL[:2] = [[True], [False]]
    articles_BL[is_padding_BL], age_BL[is_padding_BL] = signals.n_articles, 0
    return torch.from_numpy(articles_BL), torch.from_numpy(age_BL), torch.from_numpy(rng.integers(0, 7, n_rows))


def filters(signals: Signals, share: float) -> Inputs:
    """Allow a share of the articles and rank some on top of the pool, one of them twice."""
    rng = np.random.default_rng(9)
    penalty_N1 = np.where(rng.random(signals.n_live + 1) < share, 0.0, NOT_ALLOWED).astype(np.float32)
    penalty_N1[-1] = NOT_ALLOWED
    extra_P = np.append(rng.integers(0, signals.n_live + 1, 40), [3, 3])
    return torch.from_numpy(extra_P), torch.from_numpy(penalty_N1)


def assert_alike(recommender: Recommender, inputs: Inputs, max_history: int) -> None:
    with torch.inference_mode():
        index_BC, score_BC, place_BC, standard_BCF = recommender(*inputs)
        found = ServingGraph(recommender, max_history).eval()(*inputs)
    added_BCG = torch.take_along_dim(standard_BCF, place_BC.unsqueeze(2), 1) @ recommender.ranker.shares_FG()
    found_index_BC, found_score_BC, found_added_BCG = found
    assert found_score_BC.numpy() == pytest.approx(score_BC.numpy(), abs=2e-4, rel=1e-5)
    for row in range(len(index_BC)):
        is_answer_C = score_BC[row] > 0.5 * NOT_ALLOWED
        expected = dict(zip(index_BC[row, is_answer_C].tolist(), added_BCG[row, is_answer_C].numpy(), strict=True))
        is_answer_C = found_score_BC[row] > 0.5 * NOT_ALLOWED
        answered = found_index_BC[row, is_answer_C].tolist()
        assert sorted(answered) == sorted(expected)
        for article, added_G in zip(answered, found_added_BCG[row, is_answer_C].numpy(), strict=True):
            assert added_G == pytest.approx(expected[article], abs=2e-4)


@pytest.fixture(scope="module")
def recommender() -> Recommender:
    """More live articles than candidates."""
    return recommender_of(random_shop(n_articles=600, n=6000), n_candidates=164)


@pytest.mark.parametrize("length", [1, 5, WINDOW])
def test_customers_with_and_without_history(recommender: Recommender, length: int) -> None:
    signals = recommender.signals
    assert_alike(recommender, (*customers(signals, length), *signals.nothing_extra()), WINDOW)


@pytest.mark.parametrize("length", [7, 2 * WINDOW])
def test_histories_longer_than_the_window(recommender: Recommender, length: int) -> None:
    signals = recommender.signals
    assert_alike(recommender, (*customers(signals, length), *signals.nothing_extra()), 4 * WINDOW)


@pytest.mark.parametrize("share", [0.0, 0.03, 0.7])
def test_filters_of_which_some_leave_too_little(recommender: Recommender, share: float) -> None:
    assert_alike(recommender, (*customers(recommender.signals, 9), *filters(recommender.signals, share)), WINDOW)


def test_a_ranker_without_a_hidden_layer() -> None:
    linear = recommender_of(random_shop(), hidden=0)
    assert_alike(linear, (*customers(linear.signals, 9), *linear.signals.nothing_extra()), WINDOW)


def test_a_shop_with_fewer_articles_than_candidates() -> None:
    tiny = recommender_of(random_shop(n_customers=9, n_articles=7, n=60))
    assert tiny.signals.n_candidates == 7
    assert_alike(tiny, (*customers(tiny.signals, 9), *tiny.signals.nothing_extra()), WINDOW)
    assert_alike(tiny, (*customers(tiny.signals, 9), *filters(tiny.signals, 0.7)), WINDOW)


def test_what_padding_touches_is_nothing(recommender: Recommender) -> None:
    """A short history in a batch beside a long one is described as alone."""
    articles_BL, age_BL, segment_B = customers(recommender.signals, 9)
    alone = (articles_BL[1:2, -2:], age_BL[1:2, -2:], segment_B[1:2])
    padded_BL = torch.full((1, 30), recommender.signals.n_articles)
    padded_BL[:, -2:], ages_BL = alone[0], torch.zeros((1, 30))
    ages_BL[:, -2:] = alone[1]
    serving = ServingGraph(recommender, WINDOW).eval()
    with torch.inference_mode():
        expected = serving(*alone, *recommender.signals.nothing_extra())
        found = serving(padded_BL, ages_BL, alone[2], *recommender.signals.nothing_extra())
    assert found[0].tolist() == expected[0].tolist()
    assert found[1].numpy() == pytest.approx(expected[1].numpy(), abs=1e-5)
