"""Which articles are colour variants of one product when the source does not say."""

import polars as pl

from pipelines.data.raw import _product_codes


def test_the_first_seven_digits_are_the_product() -> None:
    article_ids = pl.Series(["0706016001", "0706016002", "0108775015"])
    assert _product_codes(article_ids).to_list() == ["0706016", "0706016", "0108775"]


def test_ids_that_count_up_are_products_of_their_own() -> None:
    article_ids = pl.Series([f"{number:010d}" for number in range(5000)])
    assert _product_codes(article_ids).to_list() == article_ids.to_list()
