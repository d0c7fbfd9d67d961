from datetime import date

import polars as pl
import pytest

from pipelines.data.indexing import (
    ATTRIBUTES,
    find_customers_without_row,
    index_articles,
    index_customers,
    index_transactions,
)
from pipelines.data.splits import TimeSplit
from tests.pipelines.data.raw_tables import purchases_of

SPLIT = TimeSplit(date(2020, 1, 1), date(2020, 3, 10), date(2020, 3, 4), 7)
NOBODY = pl.DataFrame(schema={"customer_id": pl.String, "first_bought": pl.Date})


def test_articles_are_numbered_by_article_id_and_variants_share_a_product() -> None:
    indexed = index_articles(
        pl.DataFrame(
            {
                "article_id": ["0200000002", "0100000001", "0200000001"],
                "product_code": ["0200000", "0100000", "0200000"],
            }
        )
    )
    assert indexed.select("article_index", "article_id", "product_index").rows() == [
        (0, "0100000001", 0),
        (1, "0200000001", 1),
        (2, "0200000002", 1),
    ]
    assert indexed.schema["article_index"] == indexed.schema["product_index"] == pl.Int32


def test_attributes_are_numbered_by_code_and_zero_means_missing() -> None:
    indexed = index_articles(
        pl.DataFrame(
            {
                "article_id": ["0100000001", "0100000002", "0100000003", "0100000004"],
                "department_no": [1700, None, 900, 1800],
                "department_name": ["Jersey", None, "Denim", "Jersey"],  # two departments of one name
                "product_group_name": ["Shoes", None, "Bags", "Shoes"],  # has no code in the source
            }
        )
    )
    assert indexed.select("department_index", "department").rows() == [
        (2, "Jersey"),
        (0, None),
        (1, "Denim"),
        (3, "Jersey"),
    ]
    assert indexed["product_group_index"].to_list() == [2, 0, 1, 2]


def test_a_source_with_article_ids_alone_is_enough() -> None:
    indexed = index_articles(pl.DataFrame({"article_id": ["0200000001", "0100000001", "0100000002"]}))
    assert indexed["product_index"].to_list() == [0, 0, 1]
    for attribute in ATTRIBUTES:
        assert indexed[f"{attribute.name}_index"].to_list() == [0, 0, 0]
        assert indexed[attribute.name].null_count() == 3
    assert {"prod_name", "detail_desc", "index_name"} < set(indexed.columns)


def test_customers_seen_first_after_the_cutoff_come_last() -> None:
    table = pl.DataFrame({"customer_id": ["m", "d"]})
    without_row = pl.DataFrame(
        {"customer_id": ["a", "z", "f"], "first_bought": [SPLIT.cutoff_date, date(2020, 2, 1), date(2020, 3, 3)]}
    )
    indexed = index_customers(table, without_row, SPLIT)
    assert indexed.select("customer_index", "customer_id", "has_row").rows() == [
        (0, "d", True),
        (1, "f", False),
        (2, "m", True),
        (3, "z", False),
        (4, "a", False),
    ]


def test_implausible_ages_are_unknown() -> None:
    table = pl.DataFrame({"customer_id": ["a", "b", "c", "d", "e"], "age": [9.0, 10.0, 100.0, 120.0, None]})
    assert index_customers(table, NOBODY, SPLIT)["age"].to_list() == [None, 10.0, 100.0, None, None]


def test_transactions_become_integers_with_days_since_the_first() -> None:
    rows = purchases_of(
        [
            (date(2020, 1, 1), "b", "0100000002", 0.5, 2),
            (date(2020, 1, 31), "a", "0100000001", 0.25, 1),
            (date(2020, 1, 31), "a", "0999999999", 0.25, 1),  # not in the articles table
        ]
    )
    articles = index_articles(pl.DataFrame({"article_id": ["0100000001", "0100000002"]}))
    customers = index_customers(pl.DataFrame({"customer_id": ["a", "b"]}), NOBODY, SPLIT)
    purchases = index_transactions(rows.lazy(), articles, customers, SPLIT)
    assert purchases.schema == {
        "customer_index": pl.Int32,
        "article_index": pl.Int32,
        "day": pl.Int32,
        "price": pl.Float32,
        "channel": pl.Int8,
    }
    assert purchases.sort("day", "article_index").rows() == [
        (1, 1, 0, 0.5, 2),
        (0, None, 30, 0.25, 1),
        (0, 0, 30, 0.25, 1),
    ]


@pytest.mark.parametrize("price", [1e12, 1e300])
def test_an_absurd_price_stays_finite(price: float) -> None:
    rows = purchases_of([(date(2020, 1, 1), "a", "0100000001", price, 2)])
    articles = index_articles(pl.DataFrame({"article_id": ["0100000001"]}))
    customers = index_customers(pl.DataFrame({"customer_id": ["a"]}), NOBODY, SPLIT)
    assert index_transactions(rows.lazy(), articles, customers, SPLIT)["price"].to_list() == [1e9]


def test_buyers_without_a_row_are_found_with_their_first_day() -> None:
    rows = purchases_of(
        [
            (date(2020, 1, 9), "guest", "0100000001", 0.5, 2),
            (date(2020, 1, 3), "guest", "0100000001", 0.5, 2),
            (date(2020, 1, 1), "member", "0100000001", 0.5, 2),
        ]
    )
    found = find_customers_without_row(rows.lazy(), pl.DataFrame({"customer_id": ["member"]}))
    assert found.rows() == [("guest", date(2020, 1, 3))]
