"""The sequence encoder: what it reads, what it ignores, and that the graph answers as torch does."""

import warnings
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from pipelines.recommender.sequence import ArticleVectors, Dropout, EncoderShape, SequenceEncoder, SequenceModel

N_ARTICLES = 20
SHAPE = EncoderShape(width=16, n_heads=2, n_layers=2, max_history=6, dropout=0.0)


def a_model(shape: EncoderShape = SHAPE) -> SequenceModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        encoder = SequenceEncoder(shape, N_ARTICLES)
        for parameter in encoder.parameters():  # nothing may be silent because it starts at zero
            torch.nn.init.normal_(parameter, std=0.3)
        return SequenceModel(encoder.eval(), ArticleVectors(N_ARTICLES, shape.width, None)())


def encode(model: SequenceModel, history: list[list[int]], ages: list[list[float]]) -> torch.Tensor:
    with torch.inference_mode():
        customer_BD: torch.Tensor = model(torch.tensor(history), torch.tensor(ages, dtype=torch.float32))
    return customer_BD


def test_padding_on_the_left_changes_nothing() -> None:
    model = a_model()
    bare = encode(model, [[3, 5]], [[9.0, 2.0]])
    padded = encode(model, [[N_ARTICLES, N_ARTICLES, 3, 5]], [[0.0, 0.0, 9.0, 2.0]])
    torch.testing.assert_close(padded, bare)


def test_a_history_of_padding_alone_gets_a_zero_vector() -> None:
    assert not encode(a_model(), [[N_ARTICLES, N_ARTICLES]], [[0.0, 0.0]]).any()


def test_a_history_longer_than_the_window_is_read_and_its_far_end_has_no_order() -> None:
    model = a_model(EncoderShape(width=16, n_heads=2, n_layers=1, max_history=6, dropout=0.0))
    ages = [9.0] * 9  # bought on one day: only the order differs
    one, far, near = encode(
        model, [[3, 5, 4, 1, 2, 6, 7, 8, 9], [5, 3, 4, 1, 2, 6, 7, 8, 9], [3, 5, 4, 1, 2, 6, 8, 7, 9]], [ages] * 3
    )
    torch.testing.assert_close(one, far)
    assert (one - near).abs().max() > 1e-3
    assert (one - encode(model, [[4, 1, 2, 6, 7, 8, 9]], [ages[2:]])[0]).abs().max() > 1e-3


def test_order_and_age_both_matter() -> None:
    model = a_model()
    one, swapped, older = encode(model, [[3, 5], [5, 3], [3, 5]], [[9.0, 2.0], [9.0, 2.0], [300.0, 200.0]])
    assert (one - swapped).abs().max() > 1e-3
    assert (one - older).abs().max() > 1e-3


def test_ages_are_ignored_by_an_encoder_without_time() -> None:
    model = a_model(EncoderShape(width=16, n_heads=2, max_history=6, dropout=0.0, uses_time=False))
    young, old = encode(model, [[3, 5], [3, 5]], [[2.0, 1.0], [300.0, 200.0]])
    torch.testing.assert_close(young, old)


def test_each_position_sees_what_a_customer_whose_history_ends_there_would() -> None:
    model = a_model()
    history, ages = torch.tensor([[3, 5, 7, 2]]), torch.tensor([[20.0, 12.0, 5.0, 1.0]])
    with torch.inference_mode():
        every_BLD = model.encoder(model.vectors_A1D, history, ages, every_position=True)
        # Position 1 was followed by the purchase of 5 days ago: that day is its today.
        beginning_BD = model(history[:, :2], ages[:, :2] - 5.0)
    torch.testing.assert_close(every_BLD[:, 1], beginning_BD)
    torch.testing.assert_close(every_BLD[:, -1], model(history, ages))


def test_articles_of_equal_attributes_start_closer_than_others() -> None:
    attributes_AV = np.array([[1, 1], [1, 1], [2, 2]], dtype=np.int32)
    vectors_AD = ArticleVectors(3, 8, attributes_AV)
    torch.nn.init.zeros_(vectors_AD.own.weight)
    same_D, other_D, different_D = vectors_AD()
    torch.testing.assert_close(same_D, other_D)
    assert (same_D - different_D).abs().max() > 1e-3


def test_attributes_of_other_articles_are_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \(2, 1\).* each of the 3 articles"):
        ArticleVectors(3, 8, np.ones((2, 1), dtype=np.int32))


def test_a_width_that_heads_cannot_share_is_refused() -> None:
    with pytest.raises(ValueError, match="width 10 is not a multiple of n_heads 4"):
        EncoderShape(width=10, n_heads=4)


def test_dropout_drops_its_share_keeps_the_mean_and_is_still_in_evaluation() -> None:
    dropout = Dropout(0.25)
    dropout.rng = np.random.Generator(np.random.SFC64(3))
    ones = torch.ones(200, 500)
    dropped = dropout(ones)
    assert (dropped == 0).float().mean().item() == pytest.approx(0.25, abs=0.01)
    assert dropped.mean().item() == pytest.approx(1.0, abs=0.01)
    assert dropout.eval()(ones) is ones


def test_the_graph_answers_as_torch_does_at_every_length(tmp_path: Path) -> None:
    model = a_model()
    path = tmp_path / "sequence.onnx"
    B, L = torch.export.Dim("B", min=1, max=64), torch.export.Dim("L", min=1, max=SHAPE.max_history)
    example = (torch.full((2, 3), 1, dtype=torch.int64), torch.ones((2, 3)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own deprecations
        program = torch.onnx.export(
            model, example, dynamo=True, dynamic_shapes=({0: B, 1: L}, {0: B, 1: L}), opset_version=20, verbose=False
        )
    assert program is not None
    program.save(str(path))
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    names = [tensor.name for tensor in session.get_inputs()]
    for n_customers, length in ((1, 1), (1, 6), (5, 4)):
        history_BL = rng.integers(0, N_ARTICLES + 1, (n_customers, length))
        history_BL.sort(axis=1)
        history_BL = history_BL[:, ::-1].copy()  # padding, the largest, on the left
        ages_BL = np.sort(rng.integers(1, 400, (n_customers, length)), axis=1)[:, ::-1].astype(np.float32)
        (answer_BD,) = session.run(None, dict(zip(names, (history_BL, ages_BL), strict=True)))
        with torch.inference_mode():
            expected_BD = model(torch.from_numpy(history_BL), torch.from_numpy(ages_BL))
        np.testing.assert_allclose(answer_BD, expected_BD.numpy(), atol=1e-5)
