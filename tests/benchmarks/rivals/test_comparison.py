"""The comparison: same customers, hand fractions, and one JSON line."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from benchmarks.rivals.__main__ import app
from benchmarks.rivals.comparison import Answered, Compared, compare, summary
from tests.pipelines.recommender.small_shop import KNOBS, random_shop

CUSTOMERS = np.array([0, 1], dtype=np.int32)
N_BOUGHT = np.array([1, 2])
KNOBS_OF_A_TEST = KNOBS.model_copy(update={"max_epochs": 1, "training_weeks": 2})


def outcome(*hits: list[bool]) -> Answered:
    return Answered(CUSTOMERS, N_BOUGHT, np.array(hits))


def test_figures_are_hand_fractions() -> None:
    compared = Compared()
    compared.add("ours", outcome([True, False], [True, True]), 2.0)
    compared.add("repurchase", outcome([False, True], [False, True]), 1.0)
    document = summary(compared, seed=7)
    assert document["rivals"]["ours"]["map_at_12"] == 1.0
    assert document["rivals"]["repurchase"]["map_at_12"] == pytest.approx((1 / 2 + 1 / 2 / 2) / 2)
    assert document["rivals"]["repurchase"]["recall_at_12"] == pytest.approx((1 + 1 / 2) / 2)
    assert document["differences"]["repurchase"]["mean"] == pytest.approx(1 - 3 / 8)
    assert document["differences"]["repurchase"]["ratio"] == pytest.approx(8 / 3)


def test_ours_is_the_model_of_the_training_run_and_rivals_answer_the_same_customers() -> None:
    shop = random_shop()
    compared = compare(shop, [63, 56], 7, ["ours", "repurchase", "lightgbm"], KNOBS_OF_A_TEST)
    ours, rule, ranker = compared.outcomes.values()
    for week in range(2):
        assert ours[week].customers_N.tolist() == rule[week].customers_N.tolist() == ranker[week].customers_N.tolist()
        assert ours[week].n_bought_N.tolist() == rule[week].n_bought_N.tolist()
    assert 0 < compared.candidate_recall[0] <= 1
    assert sum(compared.importance.values()) == pytest.approx(1.0)


def test_the_last_line_is_json_with_every_rival() -> None:
    answer = CliRunner().invoke(
        app,
        ["synthetic://?customers=150&seed=7", "--only", "repurchase,segment_popularity", "--backtest", "1", "--json"],
    )
    assert answer.exit_code == 0, answer.output
    document = json.loads(answer.stdout.splitlines()[-1])
    assert set(document["rivals"]) == {"repurchase", "segment_popularity"}
    assert document["n_weeks"] == 2
    assert document["rivals"]["repurchase"]["low"] <= document["rivals"]["repurchase"]["map_at_12"]


def test_an_unknown_rival_is_named() -> None:
    answer = CliRunner().invoke(app, ["synthetic://?customers=150&seed=7", "--only", "lightgmb"])
    assert answer.exit_code != 0
    assert "lightgmb" in str(answer.exception)
