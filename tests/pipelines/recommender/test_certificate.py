"""The certificate of served answers: what the engine answers a label week's buyers, beside torch."""

import copy
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from pipelines.errors import ArtefactError
from pipelines.recommender import certificate
from pipelines.recommender.certificate import certify_served
from pipelines.recommender.evaluation import outcome_of
from pipelines.recommender.fitting import ranked_hits
from pipelines.recommender.label_week import LabelWeek, build_label_week
from pipelines.recommender.serving_cost import measure, measure_apart
from tests.pipelines.recommender.conftest import END_DAY, KNOBS_OF_EXPORT, Exported, export
from tests.pipelines.recommender.small_shop import random_purchases, shop_of


@dataclass(frozen=True)
class Certified:
    exported: Exported
    week: LabelWeek


@pytest.fixture(scope="module")
def certified(tmp_path_factory: pytest.TempPathFactory) -> Certified:
    """A bundle that knows 70 days of a shop, and the week after them."""
    rows = random_purchases(1200, n_customers=40, n_articles=150, n_days=77)
    exported = export(shop_of(rows, n_customers=40, n_articles=150), tmp_path_factory.mktemp("certified"))
    tables = exported.trainer.tables(END_DAY)
    shop = exported.shop
    week = build_label_week(shop.interactions, tables, shop.segments, 7, KNOBS_OF_EXPORT, keep_all=True)
    return Certified(exported, week)


def certify(certified: Certified, recommender: torch.nn.Module | None = None) -> dict[str, float]:
    exported = certified.exported
    return certify_served(
        exported.folder,
        recommender or exported.recommender,  # type: ignore[arg-type]
        exported.shop,
        certified.week,
        7,
        KNOBS_OF_EXPORT.max_history,
        seed=7,
    )


def test_served_answers_score_what_torch_and_the_evaluation_score(certified: Certified) -> None:
    exported, week = certified.exported, certified.week
    hits_NK, articles_RK = ranked_hits(exported.recommender.ranker, week)
    evaluated = outcome_of(week, hits_NK, articles_RK, exported.shop.interactions)
    found = certify(certified)
    assert found["n_label_customers"] == len(week.customers_N) > 20
    assert found["map_at_12_served"] > 0
    assert found["map_at_12_served"] == pytest.approx(found["map_at_12_torch"], abs=2e-6)
    # The evaluation keeps features in half precision.
    assert found["map_at_12_served"] == pytest.approx(evaluated.average_precision_N.mean(), rel=0.05)


def test_a_graph_that_answers_worse_than_torch_is_refused(certified: Certified) -> None:
    other = copy.deepcopy(certified.exported.recommender)
    with torch.no_grad():
        for weight in other.ranker.parameters():
            weight.neg_()
    with pytest.raises(
        ArtefactError, match=r"buyers of the label week is 0\.\d{4}, torch's is 0\.\d{4}; the bundle is"
    ):
        certify(certified, other)


def test_buyers_of_a_large_shop_are_drawn(certified: Certified, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(certificate, "MAX_BUYERS", 5)
    monkeypatch.setattr(certificate, "BATCH", 2)
    assert certify(certified)["n_label_customers"] == 5
    assert certify(certified) == certify(certified)


def test_the_cost_of_an_answer_is_measured_in_a_process_of_its_own(certified: Certified) -> None:
    folder = certified.exported.folder
    here, apart = measure(folder, 20), measure_apart(folder, 20)
    assert here.keys() == apart.keys()
    assert 0 < apart["ms_per_answer"] <= apart["ms_per_answer_p99"]
    assert 20 < apart["rss_mib"] < here["rss_mib"]  # no torch there
    assert apart["bundle_mib"] == pytest.approx(sum(path.stat().st_size for path in folder.iterdir()) / 2**20, abs=0.01)


def test_a_cost_that_cannot_be_measured_is_said(tmp_path_factory: pytest.TempPathFactory) -> None:
    error = measure_apart(tmp_path_factory.mktemp("empty"))["error"]
    assert "manifest.json" in error[0]
    assert np.size(error) == 1
