"""The exported graph: asked through the engine that serves it, and as a later challenger's rival (rivals.py).

One file, because exporting takes seconds.
"""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from inference.bundle import load_bundle
from inference.engine import Engine, Request
from inference.errors import RequestRefused
from inference.onnx_file import INPUTS, OUTPUTS
from pipelines.errors import ArtefactError
from pipelines.recommender.evaluation import Outcome
from pipelines.recommender.export import answer_with_torch, certify_parity, write_bundle_files
from pipelines.recommender.interactions import Catalogue
from pipelines.recommender.label_week import LabelWeek, build_label_week, is_among, purchase_keys
from pipelines.recommender.model import Recommender
from pipelines.recommender.rivals import champion_outcome
from tests.pipelines.recommender.conftest import END_DAY, Exported
from tests.pipelines.recommender.small_shop import KNOBS, with_purchases

MAX_HISTORY = 16
EVALUATED_DAY = 63
EVERYBODY = np.arange(42, dtype=np.int32)


def requests_of(exported: Exported, top_k: int = 12) -> list[Request]:
    return [Request(customer_id=customer_id, top_k=top_k) for customer_id in exported.shop.customer_ids]


def test_the_engine_answers_every_customer_as_torch_does(exported: Exported) -> None:
    past = exported.shop.interactions.before(END_DAY)
    index_BK, score_BK = answer_with_torch(
        exported.recommender, past, EVERYBODY, exported.shop.segments, END_DAY, MAX_HISTORY, 100
    )
    ids = np.array(exported.shop.catalogue.article_ids)
    answers = exported.engine.recommend_batch(requests_of(exported, 100))
    for answer, row, scores in zip(answers, index_BK, score_BK, strict=True):
        assert answer.article_ids == ids[row].tolist()
        assert answer.scores == pytest.approx(scores.tolist(), abs=1e-4)


def test_parity_is_certified_and_measured(exported: Exported) -> None:
    parity = certify_parity(exported.folder, exported.recommender, exported.shop, END_DAY, MAX_HISTORY)
    assert parity["n_customers"] == 42
    assert parity["top_12_overlap"] == 1.0
    assert parity["largest_score_gap"] < 1e-3
    assert exported.engine.certify() == 1.0


def test_a_graph_of_other_weights_is_refused(exported: Exported) -> None:
    other = Recommender(exported.recommender.signals, torch.nn.Module())
    other.ranker = type(exported.recommender.ranker)(
        exported.recommender.ranker.mean_F, exported.recommender.ranker.scale_F, 0, 0.0
    )
    torch.nn.init.normal_(other.ranker.linear.weight, generator=torch.Generator().manual_seed(1))
    with pytest.raises(ArtefactError, match=r"agree on 0\.\d+ of the top 12 of 42 customers.*is not registered"):
        certify_parity(exported.folder, other.eval(), exported.shop, END_DAY, MAX_HISTORY)


def test_a_model_that_learned_nothing_is_refused_as_that(exported: Exported) -> None:
    ranker = exported.recommender.ranker
    other = Recommender(exported.recommender.signals, type(ranker)(ranker.mean_F, ranker.scale_F, 0, 0.0))
    torch.nn.init.zeros_(other.ranker.linear.weight)
    with pytest.raises(ArtefactError, match=r"42 customers' articles one and the same score: it has learned nothing"):
        certify_parity(exported.folder, other.eval(), exported.shop, END_DAY, MAX_HISTORY)


def test_a_batch_of_one_answers_as_a_batch_of_many(exported: Exported) -> None:
    requests = requests_of(exported)
    for request, of_many in zip(requests, exported.engine.recommend_batch(requests), strict=True):
        alone = exported.engine.recommend(request)
        assert alone.article_ids == of_many.article_ids
        assert alone.scores == pytest.approx(of_many.scores, abs=1e-5)


@pytest.mark.parametrize("top_k", [1, 12, 99, 100])
@pytest.mark.parametrize("exclude_purchased", [False, True])
def test_always_top_k_distinct_articles_best_first(exported: Exported, top_k: int, exclude_purchased: bool) -> None:
    known = exported.shop.catalogue.article_ids
    requests = [replace(one, exclude_purchased=exclude_purchased) for one in requests_of(exported, top_k)]
    requests += [
        Request(top_k=top_k, exclude_purchased=exclude_purchased),
        Request(customer_id="nobody", top_k=top_k),
        Request(article_ids=known * 3, top_k=top_k),
        Request(article_ids=["9999999999", known[-1], "x"], top_k=top_k, exclude_purchased=exclude_purchased),
    ]
    live = {known[index] for index in exported.recommender.signals.live_N1[:-1].tolist()}
    for request, answer in zip(requests, exported.engine.recommend_batch(requests), strict=True):
        assert len(set(answer.article_ids)) == len(answer.article_ids) == top_k, request
        assert set(answer.article_ids) <= live
        assert answer.scores == sorted(answer.scores, reverse=True)


@pytest.mark.parametrize(
    ("request_", "source"),
    [
        (Request(), "popular"),
        (Request(customer_id="nobody"), "popular"),
        (Request(article_ids=["9999999999"]), "popular"),
        (Request(customer_id=f"{41:064x}"), "segment"),
        (Request(customer_id=f"{41:064x}", article_ids=["0100000007"]), "personal"),
        (Request(customer_id=f"{0:064x}"), "personal"),
        (Request(article_ids=["0100000007"]), "personal"),
    ],
)
def test_source_says_what_the_answer_rests_on(exported: Exported, request_: Request, source: str) -> None:
    assert exported.engine.recommend(request_).source == source


def test_what_was_bought_before_the_history_that_the_graph_reads_is_left_out_too(exported: Exported) -> None:
    past, ids = exported.shop.interactions, np.array(exported.shop.catalogue.article_ids)
    assert int(np.diff(past.offsets)[:40].max()) > MAX_HISTORY
    requests = [replace(one, exclude_purchased=True) for one in requests_of(exported, 100)[:40]]
    for customer, answer in enumerate(exported.engine.recommend_batch(requests)):
        bought = set(ids[past.article[past.offsets[customer] : past.offsets[customer + 1]]].tolist())
        assert len(set(answer.article_ids)) == 100
        assert not bought & set(answer.article_ids)


def test_who_bought_everything_and_wants_nothing_again_is_refused(exported: Exported) -> None:
    with pytest.raises(RequestRefused, match=r"0 live articles are left .*; let what was bought come again"):
        exported.engine.recommend(Request(article_ids=exported.shop.catalogue.article_ids, exclude_purchased=True))


def test_histories_are_all_purchases_in_order(exported: Exported) -> None:
    bundle = load_bundle(exported.folder)
    past = exported.shop.interactions
    for customer in (0, 40, 41):
        position = exported.engine.customer_position(exported.shop.customer_ids[customer])
        assert position is not None
        start, end = bundle.customer_offsets[position : position + 2]
        own = slice(past.offsets[customer], past.offsets[customer + 1])
        assert bundle.history_articles[start:end].tolist() == past.article[own].tolist()
        ages = bundle.as_of_day - bundle.history_days[start:end]
        assert ages.tolist() == (END_DAY - past.day[own]).tolist()
        assert bundle.customer_segments[position] == exported.shop.segments[customer]


def test_every_article_has_its_line_of_names(exported: Exported) -> None:
    lines = [json.loads(line) for line in (exported.folder / "articles.jsonl").read_text().splitlines()]
    assert [line["article_id"] for line in lines] == exported.shop.catalogue.article_ids
    groups = {"index_group", "garment_group", "product_group"}
    assert set(lines[0]) == {"article_id", "name", "product_type", "colour"} | groups
    starts = np.load(exported.folder / "article_offsets.npy")
    text = (exported.folder / "articles.jsonl").read_bytes()
    assert json.loads(text[starts[3] : starts[4]])["article_id"] == exported.shop.catalogue.article_ids[3]


def test_golden_requests_reach_from_no_history_to_the_longest(exported: Exported) -> None:
    golden = json.loads((exported.folder / "golden.json").read_text())
    customers = [case["request"]["customer_id"] for case in golden]
    assert customers[0] == exported.shop.customer_ids[41]
    assert customers[-1] == exported.shop.customer_ids[40]
    assert all(len(set(case["recommendations"])) == 12 for case in golden)


def test_the_graph_says_nothing_of_the_machine_that_made_it(exported: Exported) -> None:
    model = onnx.load(exported.folder / "model.onnx")
    assert b".py" not in (exported.folder / "model.onnx").read_bytes()
    assert not model.metadata_props
    assert [value.name for value in model.graph.input] == list(INPUTS)
    assert [value.name for value in model.graph.output] == list(OUTPUTS)


def test_a_shop_with_one_article_is_answered_with_it(exported_tiny: Exported) -> None:
    certify_parity(exported_tiny.folder, exported_tiny.recommender, exported_tiny.shop, END_DAY, MAX_HISTORY)
    assert exported_tiny.engine.certify() == 1.0
    requests = [*requests_of(exported_tiny, 100), Request(top_k=1), Request(customer_id="nobody", top_k=100)]
    answers = exported_tiny.engine.recommend_batch(requests)
    assert [answer.article_ids for answer in answers] == [["0100000000"]] * 11


def test_two_customers_with_one_key_are_named(exported: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.recommender.export.customer_key", lambda customer_id: int(customer_id, 16) // 2)
    monkeypatch.setattr("pipelines.recommender.export.export_onnx", lambda *_: None)
    with pytest.raises(ArtefactError, match=r"customers '0+' and '0+1' have the same 64-bit key; rename one of them"):
        write_bundle_files(exported.folder.parent, exported.recommender, exported.shop, END_DAY, MAX_HISTORY)


def test_the_engine_answers_alike_on_more_threads(exported: Exported) -> None:
    requests = requests_of(exported)
    threaded = Engine(load_bundle(exported.folder), threads=2).recommend_batch(requests)
    assert [one.article_ids for one in threaded] == [
        one.article_ids for one in exported.engine.recommend_batch(requests)
    ]


def week_at(exported: Exported) -> LabelWeek:
    tables = exported.trainer.tables(EVALUATED_DAY)
    return build_label_week(exported.shop.interactions, tables, exported.shop.segments, 7, KNOBS, keep_all=True)


def champion_on(exported: Exported, week: LabelWeek, catalogue: Catalogue | None = None, **changed: object) -> Outcome:
    shop = exported.shop
    rows = changed.get("interactions", shop.interactions)
    return champion_outcome(
        exported.folder,
        rows,
        catalogue or shop.catalogue,
        shop.segments,
        week,
        7,
        max_history=16,  # type: ignore[arg-type]
    )


def test_the_champion_is_asked_with_histories_up_to_the_week(exported: Exported) -> None:
    week = week_at(exported)
    outcome = champion_on(exported, week)
    past = exported.shop.interactions.before(EVALUATED_DAY)
    index_BK, _ = answer_with_torch(
        exported.recommender, past, week.customers_N, exported.shop.segments, EVALUATED_DAY, 16, 12
    )
    bought = purchase_keys(exported.shop.interactions.between(EVALUATED_DAY, EVALUATED_DAY + 7))
    assert outcome.customers_N.tolist() == week.customers_N.tolist()
    assert np.array_equal(outcome.hits_NK, is_among(index_BK, week.customers_N, bought, 300))
    assert outcome.hits_NK.any()


def test_later_purchases_do_not_reach_the_champion(exported: Exported) -> None:
    week = week_at(exported)
    later = with_purchases(exported.shop.interactions, *((customer, EVALUATED_DAY + 7, 5) for customer in range(42)))
    assert np.array_equal(champion_on(exported, week).hits_NK, champion_on(exported, week, interactions=later).hits_NK)


def test_articles_are_matched_by_id_and_new_ones_left_out_of_histories(exported: Exported) -> None:
    """Today's catalogue has a new article before all others, so that every index moved by one."""
    shop, week = exported.shop, week_at(exported)
    catalogue = replace(
        shop.catalogue,
        article_ids=["0000000001", *shop.catalogue.article_ids],
        product_A=np.append(0, shop.catalogue.product_A + 1).astype(np.int32),
        attributes_AV=np.concatenate([shop.catalogue.attributes_AV[:1], shop.catalogue.attributes_AV]),
        names=["", *shop.catalogue.names],
    )
    moved = replace(shop.interactions, article=shop.interactions.article + 1, n_articles=301)
    assert np.array_equal(
        champion_on(exported, week).hits_NK, champion_on(exported, week, catalogue, interactions=moved).hits_NK
    )


def test_articles_that_are_gone_today_are_no_hits(exported: Exported) -> None:
    shop, week = exported.shop, week_at(exported)
    kept = 15
    catalogue = replace(shop.catalogue, article_ids=shop.catalogue.article_ids[:kept])
    clipped = replace(shop.interactions, article=np.minimum(shop.interactions.article, kept - 1))
    outcome = champion_on(exported, week, catalogue, interactions=replace(clipped, n_articles=kept))
    index_BK, _ = answer_with_torch(
        exported.recommender,
        clipped.before(EVALUATED_DAY),
        week.customers_N,
        shop.segments,
        EVALUATED_DAY,
        MAX_HISTORY,
        12,
    )
    bought = purchase_keys(replace(clipped, n_articles=kept).between(EVALUATED_DAY, EVALUATED_DAY + 7))
    assert (index_BK >= kept).any()
    known_BK = np.where(index_BK < kept, index_BK, -1)
    assert np.array_equal(outcome.hits_NK, is_among(known_BK, week.customers_N, bought, kept))


def test_a_champion_of_one_article_is_compared(exported_tiny: Exported) -> None:
    week = week_at(exported_tiny)
    outcome = champion_on(exported_tiny, week)
    assert outcome.hits_NK[:, :1].sum(axis=1).tolist() == week.n_bought_N.tolist()
    assert not outcome.hits_NK[:, 1:].any()


def test_a_lost_model_is_an_error(exported: Exported, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        champion_outcome(
            tmp_path,
            exported.shop.interactions,
            exported.shop.catalogue,
            exported.shop.segments,
            week_at(exported),
            7,
            16,
        )
