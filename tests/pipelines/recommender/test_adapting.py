"""What the data decides when the hyperparameters leave it open."""

import pytest

from pipelines.errors import UsageError
from pipelines.recommender.hyperparameters import Hyperparameters, adapted
from tests.pipelines.recommender.small_shop import Purchase, shop_of

OPEN = Hyperparameters()


def knobs_of(per_customer: int, basket: int = 1, given: Hyperparameters = OPEN) -> Hyperparameters:
    """Settle for 20 customers with that many purchases in a year, `basket` different articles on each of their days."""
    rows: list[Purchase] = [
        (customer, 7 * (i // basket % 50), i % basket + 10 * (i // basket % 3))
        for customer in range(20)
        for i in range(per_customer)
    ]
    return adapted(given, shop_of(rows, n_customers=20, n_articles=300).interactions, 7)


@pytest.mark.parametrize(("per_customer", "max_history"), [(3, 64), (64, 64), (65, 128), (300, 512), (2000, 512)])
def test_the_window_holds_a_year_of_most_customers(per_customer: int, max_history: int) -> None:
    assert knobs_of(per_customer).max_history == max_history


def test_large_baskets_and_long_histories_get_more_candidates() -> None:
    assert knobs_of(30).n_candidates == 256
    assert knobs_of(30, basket=8).n_candidates == 512
    assert knobs_of(2000).n_candidates == 612  # 100 answers for one who wants nothing again


def test_given_candidates_too_few_for_what_the_data_asks_for_are_refused_before_the_training() -> None:
    given = Hyperparameters(n_candidates=400)
    assert knobs_of(250, given=given).n_candidates == 400
    with pytest.raises(UsageError, match=r"n_candidates = 400 must be at least .* max_history = 512: give .* = 612"):
        knobs_of(300, given=given)


def test_what_is_given_stays() -> None:
    given = Hyperparameters(max_history=16, n_candidates=200)
    assert knobs_of(300, basket=8, given=given) == given
