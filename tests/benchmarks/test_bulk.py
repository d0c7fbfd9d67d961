"""Scoring in bulk: the same answers as one by one, and both sides answer everybody."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from benchmarks.bulk import app, score_with_graph, score_with_implicit
from inference.engine import Engine, Request
from tests.pipelines.recommender.conftest import Exported, export
from tests.pipelines.recommender.small_shop import random_shop


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return export(random_shop(), tmp_path_factory.mktemp("bulk") / "bundle")


@pytest.mark.parametrize("batch", [1, 7])
def test_bulk_answers_are_those_of_single_requests(exported: Exported, batch: int) -> None:
    bundle = exported.engine.bundle
    answers = score_with_graph(bundle, 1, batch, 40)()
    engine = Engine(bundle)
    for customer_id in exported.shop.customer_ids:
        row = engine.customer_position(customer_id)
        assert row is not None
        single = engine.recommend(Request(customer_id=customer_id, top_k=12)).article_ids
        together = [engine.article_id(index) for index in answers[row].tolist()]
        assert len(set(single) & set(together)) >= 11  # near-ties may swap: batches round otherwise


def test_implicit_answers_as_many(exported: Exported) -> None:
    answers = score_with_implicit(exported.engine.bundle, 1, 40)()
    assert answers.shape == (40, 12)
    assert (np.diff(np.sort(answers, axis=1), axis=1) > 0).all()


def test_the_last_line_is_json_with_both_sides(exported: Exported) -> None:
    answer = CliRunner().invoke(
        app, [str(Path(exported.folder)), "--rounds", "1", "--batch", "16", "--customers", "9", "--json"]
    )
    assert answer.exit_code == 0, answer.output
    [result] = json.loads(answer.stdout.splitlines()[-1])["bundles"].values()
    assert result["n_scored"] == 9
    assert result["ours"]["customers_per_s"] == pytest.approx(9 / result["ours"]["seconds"][0])
    assert result["ratio"] == pytest.approx(result["implicit"]["seconds"][0] / result["ours"]["seconds"][0])
