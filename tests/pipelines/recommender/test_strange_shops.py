"""Shops that no example has: each is evaluated to figures that are numbers, or refused with what to do."""

import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from pipelines.errors import DataGateError
from pipelines.recommender.ablation import ablate
from pipelines.recommender.changes import fixed_customers
from pipelines.recommender.evaluation import Outcome
from pipelines.recommender.measurements import headline, intervals, measured
from pipelines.recommender.shop import Shop
from pipelines.recommender.training import Evaluated, Trainer
from tests.pipelines.recommender.conftest import END_DAY, Exported, export
from tests.pipelines.recommender.small_shop import (
    KNOBS,
    Purchase,
    random_purchases,
    random_shop,
    shop_of,
    with_purchases,
    without_attributes,
)

CUTOFF = 63


def one_article() -> Shop:
    return shop_of([(day % 9, day, 0) for day in range(70)], n_customers=9, n_articles=1)


def everything_alike() -> Shop:
    """Each of 120 articles sold as often, on the same days, to customers who each bought as much."""
    rows = [(customer, day, (7 * customer + day) % 120) for day in range(70) for customer in range(24)]
    return shop_of(rows, n_customers=24, n_articles=120)


def first_time_buyers() -> Shop:
    """Nobody ever comes back, so that each week's customers are cold."""
    rng = np.random.default_rng(3)
    rows = [(number, number % 70, int(80 * rng.random() ** 2)) for number in range(400)]
    return shop_of(rows, n_customers=400, n_articles=80)


def ten_thousand_purchases() -> Shop:
    """One customer bought 10,000 pieces, on every day up to the last."""
    usual, rng = random_shop(), np.random.default_rng(8)
    whale: list[Purchase] = [(0, day, article) for day, article in rng.integers(0, (70, 300), (10_000, 2)).tolist()]
    return replace(usual, interactions=with_purchases(usual.interactions, *whale))


def retired_articles() -> Shop:
    """Half of the catalogue sold for the last time long ago, to customers who still buy."""
    old = [(customer, day, 150 + customer) for customer in range(40) for day in (0, 1)]
    new = random_purchases(800, n_customers=40, n_articles=140, seed=5)
    return shop_of([*old, *((c, max(d, 20), a, p) for c, d, a, p in new)], n_customers=40, n_articles=300)  # type: ignore[misc]


SHOPS: dict[str, Callable[[], Shop]] = {
    "one article": one_article,
    "everything alike": everything_alike,
    "first-time buyers": first_time_buyers,
    "ten thousand purchases": ten_thousand_purchases,
    "retired articles": retired_articles,
    "no attributes": lambda: without_attributes(random_shop()),
}


@pytest.fixture(scope="module", params=SHOPS)
def strange(request: pytest.FixtureRequest) -> tuple[str, Trainer, Evaluated]:
    shop = SHOPS[request.param]()
    trainer = Trainer(shop.interactions, shop.catalogue, shop.segments, 7, KNOBS)
    return request.param, trainer, trainer.evaluate_at(CUTOFF)


def test_every_figure_is_a_number(strange: tuple[str, Trainer, Evaluated]) -> None:
    _, trainer, evaluated = strange
    metrics, baselines = headline([evaluated])
    _, _, document = measured([evaluated], trainer.interactions, trainer.segments, ("v1", evaluated.model), seed=7)
    document |= {"metrics": metrics, "baselines": baselines, "intervals": intervals([evaluated], 7)}
    document["ablation"] = ablate(trainer, evaluated)
    del document["curve"]  # a shop without validation customers has null there
    json.dumps(document, allow_nan=False)
    assert document["champion"]["difference"]["mean"] == 0


def test_answers_are_distinct_articles_of_the_shop(strange: tuple[str, Trainer, Evaluated]) -> None:
    name, trainer, evaluated = strange
    answers = evaluated.model.articles_NK
    n_expected = min(12, trainer.catalogue.n_articles)
    assert {len(set(row) - {-1}) for row in answers.tolist()} == {n_expected}
    if name == "retired articles":
        assert answers.max() < 150
    if name == "first-time buyers":
        assert (evaluated.week.n_history_N == 0).all()
        assert len(np.unique(answers, axis=0)) == 1  # one age segment: all get the same
        assert evaluated.model.average_precision_N.mean() > 0


def test_ties_give_the_same_answers_each_time() -> None:
    shop = everything_alike()
    twice: list[Outcome] = []
    for _ in range(2):
        trainer = Trainer(shop.interactions, shop.catalogue, shop.segments, 7, KNOBS)
        twice.append(trainer.evaluate_at(CUTOFF).model)
    assert np.array_equal(twice[0].articles_NK, twice[1].articles_NK)


def test_a_single_week_of_data_is_refused_with_what_is_needed() -> None:
    rows = random_purchases(200, n_customers=30, n_articles=60, n_days=7)
    shop = shop_of(rows, n_customers=30, n_articles=60)
    trainer = Trainer(shop.interactions, shop.catalogue, shop.segments, 7, KNOBS)
    with pytest.raises(DataGateError, match="training needs at least two label windows of 7 days"):
        trainer.evaluate_at(0)


def test_fixed_customers_stay_the_same_while_the_shop_grows() -> None:
    small, large = random_shop(n_customers=40), random_shop(n_customers=60)
    chosen = [[shop.customer_ids[customer] for customer in fixed_customers(shop, 10)] for shop in (small, large)]
    buyers = [set(np.unique(shop.interactions.customer).tolist()) for shop in (small, large)]
    assert buyers[0] <= buyers[1]
    stay = set(chosen[0]) & set(chosen[1])
    # Only newcomers with a smaller hash push anybody out, and nobody comes back.
    assert {int(customer_id, 16) for customer_id in set(chosen[1]) - stay} <= buyers[1] - buyers[0]
    assert set(fixed_customers(small, 1000)) == buyers[0]


def test_changes_between_two_bundles_are_named(exported: Exported, tmp_path_factory: pytest.TempPathFactory) -> None:
    from pipelines.recommender.changes import changed_answers

    same = changed_answers(exported.shop, exported.folder, exported.folder)["customers"]
    assert [one["overlap"] for one in same] == [12] * len(same)
    assert all(one["before"] == one["after"] for one in same)
    # The old shop lacks its newest purchases, and numbers other articles: names are those of today.
    earlier = replace(exported.shop, interactions=exported.shop.interactions.before(END_DAY - 30))
    older = export(earlier, tmp_path_factory.mktemp("older"))
    customers = changed_answers(exported.shop, older.folder, exported.folder)["customers"]
    assert min(one["overlap"] for one in customers) < 12
    for one in customers:
        shared = {article["article_id"] for article in one["before"]} & {
            article["article_id"] for article in one["after"]
        }
        assert one["overlap"] == len(shared)
        assert {article["article_id"] for article in one["after"]} <= set(exported.shop.catalogue.article_ids)
