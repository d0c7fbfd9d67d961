from datetime import date

import pytest

from pipelines.data.synthetic.size import FULL_ARTICLES, FULL_CUSTOMERS, ShopSize, parse_shop_uri
from pipelines.errors import UsageError


def test_the_full_size_is_that_of_the_kaggle_data() -> None:
    size = parse_shop_uri(f"synthetic://?customers={FULL_CUSTOMERS}")
    assert (size.n_articles, size.weeks, size.until) == (FULL_ARTICLES, 105, date(2020, 9, 22))
    assert size.n_transactions == 31_800_000


def test_an_address_reads_back_as_the_same_shop() -> None:
    size = ShopSize(customers=300, articles=500, weeks=20, transactions=4000, seed=9, until=date(2020, 9, 1))
    assert parse_shop_uri(size.uri) == size
    assert ShopSize(customers=200).uri == "synthetic://?customers=200&seed=7"


def test_an_assortment_grows_slower_than_its_clientele_and_is_never_tiny() -> None:
    assert ShopSize(customers=1).n_articles == 400
    assert 1 < ShopSize(customers=20_000).n_articles / ShopSize(customers=2000).n_articles < 10


def test_every_mistake_in_an_address_is_said_at_once() -> None:
    with pytest.raises(UsageError) as caught:
        parse_shop_uri("synthetic://?custmers=200&weeks=many&until=yesterday")
    assert str(caught.value) == (
        "source 'synthetic://?custmers=200&weeks=many&until=yesterday': unknown parameter 'custmers', did you mean "
        "'customers'?; weeks='many' is not a whole number; until='yesterday' is not a date YYYY-MM-DD; known are "
        "customers, articles, weeks, transactions, seed, until"
    )


def test_an_impossible_shop_says_which_numbers_are_wrong() -> None:
    with pytest.raises(UsageError, match=r"customers=0 must be at least 1; .*until=2021-01-01 must lie in 2018-09-19"):
        parse_shop_uri("synthetic://?customers=0&until=2021-01-01")


def test_a_shop_has_no_path() -> None:
    with pytest.raises(UsageError, match="a shop has no path"):
        parse_shop_uri("synthetic://berlin?customers=3")
