"""What was served against what was trained on, by hand on a small bundle."""

import datetime as dt
import math
from pathlib import Path

import numpy as np
import pytest

from inference.bundle import load_bundle
from inference.engine import Engine, Request
from inference.errors import RequestRefused
from inference.shift import EMPTY_SHARE, Shift, population_stability_index, read_reference
from inference.swap import Live
from tests.inference.conftest import Server
from tests.inference.test_server import metric
from tests.inference.tiny_bundle import customer_id, write_bundle


def test_the_index_is_that_of_the_formula() -> None:
    assert population_stability_index([1, 3], [2, 2]) == pytest.approx(-0.25 * math.log(0.5) + 0.25 * math.log(1.5))
    assert population_stability_index([5, 5], [50, 50]) == 0.0
    assert population_stability_index([0, 0], [1, 1]) is None
    empty = (1 - 0.5) * math.log(2) + (EMPTY_SHARE - 0.5) * math.log(EMPTY_SHARE / 0.5)
    assert population_stability_index([9, 0], [1, 1]) == pytest.approx(empty)


def test_the_reference_counts_recent_purchases_and_all_histories(tmp_path: Path) -> None:
    histories = {
        customer_id(1): [(7, 60), (3, 2), (3, 1)],  # 60 days ago is no longer recent
        customer_id(2): [],
        customer_id(3): [(4, 28)],
        customer_id(4): [(35, 5)],  # not on sale any more
    }
    reference = read_reference(load_bundle(write_bundle(tmp_path / "v1", histories=histories)))
    assert reference.n_purchases == 4
    # index_group code is 1 + i % 2: article 4 is of code 1, 3, 3 and 35 of code 2
    assert reference.index_group.tolist() == [0, 1, 3]
    assert reference.history_length.tolist() == [1, 2, 1, 0, 0, 0, 0, 0]  # 0 · 1 · 2–3 · …
    assert reference.popularity.sum() == 4
    assert reference.popularity[-1] == 1
    assert (reference.popularity_bin_A[30:] == 10).all()


def test_bins_of_popularity_fall_with_popularity(tiny_bundle: Path) -> None:
    bundle = load_bundle(tiny_bundle)
    bins = read_reference(bundle).popularity_bin_A[bundle.live_articles]
    order = np.argsort(-bundle.segment_retrieval[0], kind="stable")
    assert (np.diff(bins[order]) >= 0).all()


def test_the_report_counts_what_was_answered(tiny_bundle: Path) -> None:
    engine = Engine(load_bundle(tiny_bundle))
    live = Live(engine, engine.bundle.manifest, "v1", dt.datetime(2020, 9, 23, tzinfo=dt.UTC))
    shift = Shift(lambda: live)
    assert shift.report().views["popularity"].psi is None
    for request in (Request(top_k=3), Request(customer_id(1), top_k=2), Request(customer_id(1), top_k=1, explain=True)):
        engine.recommend(request)
    report = shift.report()
    assert (report.n_answers, report.n_articles_served) == (3, 6)
    served = {
        *engine.recommend(Request(top_k=3)).article_ids,
        *engine.recommend(Request(customer_id(1), top_k=2)).article_ids,
    }
    assert report.coverage == pytest.approx(len(served) / 30)
    assert report.views["history_length"].served[:3] == pytest.approx([1 / 3, 0, 2 / 3], abs=1e-6)
    assert report.views["index_group"].psi is not None
    for view in report.views.values():
        assert len(view.bins) == len(view.served) == len(view.trained)
        assert sum(view.served) == pytest.approx(1, abs=1e-4)


def test_before_there_is_a_model_the_gauges_are_absent() -> None:
    def none() -> Live:
        raise RequestRefused(503, "no_model", "none")

    assert list(Shift(none).collect()) == []


def test_the_route_and_the_metrics_agree(server: Server) -> None:
    server.predict({"top_k": 5})
    report = server.get("/shift").json()
    assert report["model_version"] == "v1"
    assert report["n_answers"] >= 1
    for name, view in report["views"].items():
        assert metric(server, "served_population_stability_index", view=name) == pytest.approx(view["psi"])
    assert metric(server, "served_catalogue_coverage_ratio") == pytest.approx(report["coverage"])
