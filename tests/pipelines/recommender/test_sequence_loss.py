"""The encoder's loss against torch's own, and the sample of articles against all of them."""

import numpy as np
import pytest
import torch

from pipelines.recommender.sequence_loss import SoftmaxLoss, compared_articles


@pytest.mark.parametrize("weighted", [False, True])
def test_loss_and_gradients_are_those_of_torch(weighted: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    state_ND = torch.randn(700, 8, generator=generator, requires_grad=True)  # more than one chunk
    vectors_SD = torch.randn(30, 8, generator=generator, requires_grad=True)
    target_N = torch.randint(0, 30, (700,), generator=generator)
    log_weight_S = torch.rand(30, generator=generator) if weighted else None
    score_NS = state_ND @ vectors_SD.T
    if log_weight_S is not None:
        others_NS = 1.0 - torch.nn.functional.one_hot(target_N, 30)
        score_NS = score_NS + log_weight_S * others_NS
    expected = torch.nn.functional.cross_entropy(score_NS, target_N)
    expected_gradients = torch.autograd.grad(expected, (state_ND, vectors_SD))
    loss = SoftmaxLoss.apply(state_ND, vectors_SD, target_N, log_weight_S, torch.float32)
    gradients = torch.autograd.grad(loss, (state_ND, vectors_SD))
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(gradients, expected_gradients)


def test_few_articles_are_all_compared() -> None:
    target_N = torch.tensor([2, 0])
    chosen_S, log_weight_S, slot_N = compared_articles(target_N, torch.ones(5), 5, np.random.default_rng(0))
    assert chosen_S.tolist() == [0, 1, 2, 3, 4]
    assert log_weight_S is None
    assert torch.equal(slot_N, target_N)


def test_a_weighted_sample_holds_every_target_and_stands_for_all_articles() -> None:
    rng = np.random.default_rng(0)
    count_A = torch.tensor(rng.zipf(1.5, 400), dtype=torch.float64)
    sizes = []
    for _ in range(200):
        target_N = torch.from_numpy(rng.choice(400, 50, p=(count_A / count_A.sum()).numpy()))
        chosen_S, log_weight_S, slot_N = compared_articles(target_N, count_A, 80, rng)
        assert torch.equal(chosen_S[slot_N], target_N)
        assert log_weight_S is not None
        sizes.append(log_weight_S.exp().sum().item())
    assert np.mean(sizes) == pytest.approx(400, rel=0.03)
