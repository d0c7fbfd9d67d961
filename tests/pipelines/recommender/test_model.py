"""The graph in torch: candidates, features, and the order of the answer."""

import math

import numpy as np
import pytest
import torch

from pipelines.recommender.histories import histories_of
from pipelines.recommender.kinds import KINDS
from pipelines.recommender.label_week import run_signals
from pipelines.recommender.model import FEATURE_GROUPS, MAX_STANDARD, Ranker, Recommender
from pipelines.recommender.retrieval import best_of_values
from pipelines.recommender.shop import Shop
from pipelines.recommender.signals import NOT_ALLOWED, RANKER_FEATURES, WINDOW, Signals
from pipelines.recommender.tables import build_tables
from tests.pipelines.recommender.small_shop import (
    KNOBS,
    Purchase,
    catalogue_of,
    interactions_of,
    random_shop,
    shop_of,
    with_purchases,
)

DAY = 60


def signals_of(shop: Shop, n_candidates: int = 256) -> Signals:
    return Signals(build_tables(shop.interactions, shop.catalogue, shop.segments, DAY, KNOBS), n_candidates)


def describe(
    signals: Signals, shop: Shop, customers: list[int], max_history: int = 64
) -> tuple[np.ndarray, np.ndarray]:
    past = shop.interactions.before(DAY)
    return run_signals(signals, past, np.array(customers, dtype=np.int32), shop.segments, DAY, max_history)


def ranker_of(seed: int = 0, hidden: int = 8) -> Ranker:
    """Weights drawn at random: an untrained ranker scores everything 0."""
    ranker = Ranker(torch.zeros(len(RANKER_FEATURES)), torch.ones(len(RANKER_FEATURES)), hidden, 0.1)
    generator = torch.Generator().manual_seed(seed)
    for weight in ranker.parameters():
        weight.data = torch.randn(weight.shape, generator=generator) * 0.1
    return ranker


@pytest.fixture(scope="module")
def shop() -> Shop:
    return random_shop()


@pytest.fixture(scope="module")
def signals(shop: Shop) -> Signals:
    return signals_of(shop)


def test_histories_are_right_aligned_newest_last_and_cut_to_the_newest() -> None:
    past = interactions_of([(0, 1, 4), (0, 5, 2), (0, 9, 3), (2, 8, 1)], n_customers=3, n_articles=5)
    batch = histories_of(past, np.array([2, 0, 1], dtype=np.int32), day=10, max_history=2)
    assert batch.history_BL.tolist() == [[5, 1], [2, 3], [5, 5]]
    assert batch.age_days_BL.tolist() == [[0, 2], [5, 1], [0, 0]]


def test_histories_of_a_shop_without_a_sale_are_one_column_of_padding() -> None:
    past = interactions_of([], n_customers=2, n_articles=5)
    batch = histories_of(past, np.array([0, 1], dtype=np.int32), day=10, max_history=2)
    assert batch.history_BL.tolist() == [[5], [5]]
    assert batch.age_days_BL.tolist() == [[0], [0]]


def test_every_customer_gets_distinct_live_candidates_and_finite_features(shop: Shop, signals: Signals) -> None:
    articles_BC, features_BCF = describe(signals, shop, list(range(40)))
    live = set(signals.live_N1[:-1].tolist())
    assert features_BCF.shape == (*articles_BC.shape, len(RANKER_FEATURES))
    assert np.isfinite(features_BCF).all()
    for row in articles_BC.tolist():
        assert len(set(row)) == len(row) == 256
        assert set(row) <= live


def test_what_a_customer_bought_is_always_a_candidate() -> None:
    shop = random_shop(n_articles=600, n=6000)  # more live articles than candidates
    signals = signals_of(shop, n_candidates=164)
    live = set(signals.live_N1[:-1].tolist())
    assert len(live) > 164
    articles_BC, _ = describe(signals, shop, list(range(40)))
    past = shop.interactions.before(DAY)
    for customer, row in enumerate(articles_BC.tolist()):
        newest = past.article[past.offsets[customer] : past.offsets[customer + 1]][-64:].tolist()
        assert set(newest) & live <= set(row)


def test_shelves_that_a_customer_buys_from_are_opened() -> None:
    """Eight sections of a hundred articles; what sells lies in the first four, and customer 0 buys from the last."""
    popular: list[Purchase] = [(1 + n % 38, 58 - n // 800, n % 400) for n in range(2400)]
    rare: list[Purchase] = [(39, 50 + n % 9, 700 + n) for n in range(60) for _ in range(1 + n // 30)]
    own: list[Purchase] = [(0, 40 + n, 790 + n) for n in range(4)]
    catalogue = catalogue_of(800, attributes=[index // 100 for index in range(800)])
    shop = shop_of([*popular, *rare, *own], n_customers=41, n_articles=800, catalogue=catalogue)
    articles_BC, _ = describe(signals_of(shop, n_candidates=164), shop, [0, 40])
    best_of_the_last = set(range(730, 760))  # sold twice
    assert best_of_the_last <= set(articles_BC[0].tolist())
    assert not best_of_the_last & set(articles_BC[1].tolist()), "someone without a history is shown what sells"
    assert len(set(articles_BC[0].tolist())) == 164


def test_a_shelf_holds_the_most_popular_of_its_value() -> None:
    best = best_of_values(np.array([1, 0, 1, 1, 3]), np.array([5, 1, 7, 5, 2], dtype=np.float32), 4, 2)
    assert best.tolist() == [[1, 5], [2, 0], [5, 5], [4, 5]]


def test_a_batch_answers_each_customer_as_if_alone(shop: Shop, signals: Signals) -> None:
    articles_BC, features_BCF = describe(signals, shop, list(range(40)))
    for customer in range(0, 40, 3):
        alone_BC, alone_BCF = describe(signals, shop, [customer])
        assert alone_BC[0].tolist() == articles_BC[customer].tolist()
        assert alone_BCF[0] == pytest.approx(features_BCF[customer], abs=1e-5)


def test_only_the_newest_max_history_purchases_of_a_whale_count(shop: Shop) -> None:
    rng = np.random.default_rng(3)
    older: list[Purchase] = [(7, int(day), int(article)) for day, article in rng.integers(0, 40, (10_000, 2))]
    newest: list[Purchase] = [(7, 50 + n % 9, 100 + n) for n in range(8)]
    signals = signals_of(shop)
    answers = []
    for rows in ([*older, *newest], newest):
        past = interactions_of(rows, n_customers=40, n_articles=300)
        answers.append(run_signals(signals, past, np.array([7], np.int32), shop.segments, DAY, 8))
    assert np.array_equal(answers[0][0], answers[1][0])
    assert np.array_equal(answers[0][1], answers[1][1])


def feature_of(shop: Shop, name: str, article: int, customer: int = 0) -> float:
    articles_BC, features_BCF = describe(signals_of(shop), shop, [customer])
    at = articles_BC[0].tolist().index(article)
    return float(features_BCF[0, at, RANKER_FEATURES.index(name)])


def test_features_of_a_repurchase_by_hand() -> None:
    rows: list[Purchase] = [(0, 40, 1, 4.0), (0, 55, 1, 4.0), (0, 58, 2, 1.0), (1, 59, 3, 1.0)]
    shop = shop_of(rows, n_customers=3, n_articles=5, catalogue=catalogue_of(5, products=[0, 0, 1, 2, 3]))
    assert feature_of(shop, "repurchase_20d", 1) == pytest.approx(math.log1p(20 * (math.exp(-1) + math.exp(-5 / 20))))
    assert feature_of(shop, "repurchase_count", 1) == pytest.approx(math.log1p(20 * 2))
    assert feature_of(shop, "repurchase_share", 1) == pytest.approx(math.log1p(20 * 2 / 3))
    assert feature_of(shop, "repurchase_gap", 1) == pytest.approx(math.log(15), abs=1e-5)
    assert feature_of(shop, "repurchase_due", 1) == pytest.approx(math.log(5 / 15), abs=1e-5)
    assert feature_of(shop, "repurchase_gap", 2) == pytest.approx(math.log(1100))
    assert feature_of(shop, "repurchase_due", 2) == 0
    assert feature_of(shop, "repurchase_age", 1) == pytest.approx(math.log(5), abs=1e-5)
    assert feature_of(shop, "repurchase_age", 3) == pytest.approx(math.log(1100))
    assert feature_of(shop, "is_variant", 0) == 1  # the other colour of article 1
    assert feature_of(shop, "variant_age", 0) == pytest.approx(math.log(5), abs=1e-5)
    assert [feature_of(shop, "is_repurchase", article) for article in range(5)] == [0, 1, 1, 0, 0]
    assert feature_of(shop, "history_length", 4) == pytest.approx(math.log1p(3))
    assert feature_of(shop, "days_since_purchase", 4) == pytest.approx(math.log(2))


def test_taste_compares_what_was_bought_with_what_everyone_buys() -> None:
    rows: list[Purchase] = [(0, 58, 0), (0, 59, 1), (1, 58, 2), (1, 59, 3), (2, 59, 4)]
    shop = shop_of(rows, n_customers=3, n_articles=5, catalogue=catalogue_of(5, attributes=[1, 1, 2, 2, 2]))
    assert feature_of(shop, "taste_section", 1) > 0 > feature_of(shop, "taste_section", 3)
    alike = shop_of(rows, n_customers=3, n_articles=5)
    assert feature_of(alike, "taste_section", 1) == pytest.approx(0, abs=1e-5)  # nothing to prefer


def test_a_kind_is_remembered_whichever_of_its_articles_was_bought() -> None:
    # Articles 1, 2 and 3 are of kind 4, which article 5 shares too; 0 and 6 are of kind 9.
    catalogue = catalogue_of(7, attributes=[9, 4, 4, 4, 9, 4, 9])
    rows: list[Purchase] = [(0, 20, 1), (0, 40, 2), (0, 40, 0), (0, 55, 3), (0, 58, 6), (1, 59, 5)]
    shop = shop_of(rows, n_customers=2, n_articles=7, catalogue=catalogue)
    for kind in KINDS:
        assert feature_of(shop, f"taste_{kind}_count", 5) == pytest.approx(math.log1p(20 * 3), abs=1e-5)
        decayed = sum(math.exp(-age / 20) for age in (40, 20, 5))
        assert feature_of(shop, f"taste_{kind}_20d", 5) == pytest.approx(math.log1p(20 * decayed), abs=1e-5)
        assert feature_of(shop, f"taste_{kind}_age", 5) == pytest.approx(math.log(5), abs=1e-5)
        assert feature_of(shop, f"taste_{kind}_gap", 5) == pytest.approx(math.log(35 / 2), abs=1e-5)
        assert feature_of(shop, f"taste_{kind}_due", 5) == pytest.approx(math.log(5 / 17.5), abs=1e-5)
        assert feature_of(shop, f"taste_{kind}_share", 5) == pytest.approx(math.log(3.1 / (4 + 1)), abs=1e-5)
        assert [feature_of(shop, f"taste_{kind}_in_last_visit", article) for article in (4, 5)] == [1, 0]
        assert feature_of(shop, f"taste_{kind}_age", 5, customer=1) == 0  # yesterday
        assert feature_of(shop, f"taste_{kind}_age", 4, customer=1) == pytest.approx(math.log(1100))
        assert feature_of(shop, f"taste_{kind}_gap", 5, customer=1) == pytest.approx(math.log(1100))
        assert feature_of(shop, f"taste_{kind}_due", 5, customer=1) == 0


def test_visits_are_days_with_a_purchase() -> None:
    rows: list[Purchase] = [(0, 40, 1), (0, 40, 2), (0, 40, 2), (0, 50, 1), (0, 58, 3)]
    shop = shop_of(rows, n_customers=1, n_articles=5)
    assert feature_of(shop, "repurchase_visit_share", 1) == pytest.approx(math.log(2.1 / (3 + 1)), abs=1e-5)
    assert feature_of(shop, "repurchase_visit_share", 2) == pytest.approx(math.log(1.1 / (3 + 1)), abs=1e-5)
    assert feature_of(shop, "repurchase_visit_share", 4) == pytest.approx(math.log(0.1 / (3 + 1)), abs=1e-5)
    assert [feature_of(shop, "repurchase_in_last_visit", article) for article in range(5)] == [0, 0, 0, 1, 0]


def test_pieces_of_one_day_are_one_purchase() -> None:
    rows: list[Purchase] = [(0, 40, 1), (0, 50, 1), (0, 50, 1), (0, 50, 1), (0, 50, 2)]
    shop = shop_of(rows, n_customers=1, n_articles=5)
    assert feature_of(shop, "repurchase_count", 1) == pytest.approx(math.log1p(20 * 2))
    assert feature_of(shop, "repurchase_gap", 1) == pytest.approx(math.log(10), abs=1e-5)
    assert feature_of(shop, "repurchase_gap", 2) == pytest.approx(math.log(1100))


def test_purchases_behind_the_window_count_for_themselves_only() -> None:
    old: list[Purchase] = [(0, day, 1) for day in (1, 2)]
    new: list[Purchase] = [(0, 30 + i % 25, 2 + i % 3) for i in range(WINDOW)]
    shop = shop_of(old + new, n_customers=1, n_articles=6, catalogue=catalogue_of(6, products=[0, 0, 1, 2, 3, 4]))
    signals = Signals(build_tables(shop.interactions, shop.catalogue, shop.segments, DAY, KNOBS), 6)
    articles_BC, features_BCF = describe(signals, shop, [0], max_history=512)
    row = dict(zip(articles_BC[0].tolist(), features_BCF[0], strict=True))
    assert row[1][RANKER_FEATURES.index("is_repurchase")] == 1
    assert row[0][RANKER_FEATURES.index("is_variant")] == 0


def test_a_customer_without_history_has_neutral_personal_features(shop: Shop) -> None:
    cold = shop_of([(0, 50, 1)], n_customers=2, n_articles=300, catalogue=shop.catalogue, segments=[0, 0])
    _, features_BCF = describe(signals_of(cold), cold, [1])
    for name in (
        "repurchase_5d",
        "is_variant",
        "is_copurchase",
        "taste_section",
        "repurchase_due",
        "price_distance",
        "has_history",
        "repurchase_in_last_visit",
        *(f"taste_{kind}_{what}" for kind in KINDS for what in ("80d", "count", "due", "in_last_visit")),
    ):
        assert features_BCF[0, :, RANKER_FEATURES.index(name)] == pytest.approx(0, abs=1e-6), name


def test_an_article_with_all_attributes_missing_is_described() -> None:
    bare = shop_of([(0, 50, 1), (0, 55, 2)], n_customers=1, n_articles=5)
    _, features_BCF = describe(signals_of(bare), bare, [0])
    assert np.isfinite(features_BCF).all()


def test_every_feature_belongs_to_one_name_and_every_group_has_some() -> None:
    assert len(set(RANKER_FEATURES)) == len(RANKER_FEATURES)
    for name, prefixes in FEATURE_GROUPS.items():
        assert any(feature.startswith(prefixes) for feature in RANKER_FEATURES), name


def test_an_untrained_ranker_scores_everything_alike() -> None:
    ranker = Ranker(torch.zeros(len(RANKER_FEATURES)), torch.ones(len(RANKER_FEATURES)), 8, 0.0)
    assert not ranker(torch.randn(2, 3, len(RANKER_FEATURES))).any()


def test_a_feature_far_outside_of_training_does_not_run_away() -> None:
    ranker = ranker_of().eval()
    features_BCF = torch.zeros(1, 2, len(RANKER_FEATURES))
    features_BCF[0, 0], features_BCF[0, 1] = 8.0, 1e9
    scores_BC = ranker(features_BCF)
    assert scores_BC[0, 0].item() == pytest.approx(scores_BC[0, 1].item(), rel=1e-5)


@pytest.mark.parametrize("hidden", [0, 8])
def test_the_answer_is_ranked_distinct_and_live(shop: Shop, signals: Signals, hidden: int) -> None:
    recommender = Recommender(signals, ranker_of(hidden=hidden)).eval()
    history = histories_of(shop.interactions.before(DAY), np.arange(40, dtype=np.int32), DAY, 64)
    with torch.inference_mode():
        index_BK, score_BK, _, _ = recommender(
            torch.from_numpy(history.history_BL),
            torch.from_numpy(history.age_days_BL),
            torch.from_numpy(shop.segments.astype(np.int64)),
            *signals.nothing_extra(),
        )
    live = set(signals.live_N1[:-1].tolist())
    assert (score_BK.diff(dim=1) <= 0).all()
    for row in index_BK.tolist():
        assert len(set(row)) == len(row) == 256
        assert set(row) <= live


def test_what_is_not_allowed_is_never_answered_and_the_extra_pool_takes_its_place(shop: Shop, signals: Signals) -> None:
    recommender = Recommender(signals, ranker_of(hidden=0)).eval()
    history = histories_of(shop.interactions.before(DAY), np.arange(40, dtype=np.int32), DAY, 64)
    allowed_N = torch.arange(signals.n_live) % 7 == 0
    penalty_N1 = torch.where(allowed_N, 0.0, NOT_ALLOWED)
    with torch.inference_mode():
        index_BK, score_BK, _, _ = recommender(
            torch.from_numpy(history.history_BL),
            torch.from_numpy(history.age_days_BL),
            torch.from_numpy(shop.segments.astype(np.int64)),
            allowed_N.nonzero()[:, 0],
            torch.cat([penalty_N1, torch.tensor([NOT_ALLOWED])]),
        )
    allowed = set(signals.live_N1[:-1][allowed_N].tolist())
    for indexes, scores in zip(index_BK.tolist(), score_BK.tolist(), strict=True):
        answers = [index for index, score in zip(indexes, scores, strict=True) if score > NOT_ALLOWED / 2]
        assert sorted(answers) == sorted(allowed)


def test_an_article_bought_a_thousand_times_keeps_its_features_finite(shop: Shop) -> None:
    rows: list[Purchase] = [(0, 59, 5)] * 1000
    heavy = with_purchases(shop.interactions, *rows)
    _, features_BCF = run_signals(signals_of(shop), heavy.before(DAY), np.array([0], np.int32), shop.segments, DAY, 512)
    assert np.isfinite(features_BCF.astype(np.float16)).all()


def test_standardising_leaves_the_features_as_they_were() -> None:
    n = len(RANKER_FEATURES)
    ranker = Ranker(torch.full((n,), 2.0), torch.full((n,), 3.0), hidden=4, dropout=0.0)
    features_BCF = torch.linspace(-9, 9, 2 * 3 * n).reshape(2, 3, n)
    before = features_BCF.clone()
    standard_BCF = ranker.standardise(features_BCF)
    assert torch.equal(features_BCF, before)
    assert torch.equal(standard_BCF, ((before - 2.0) * 3.0).clamp(-MAX_STANDARD, MAX_STANDARD))
