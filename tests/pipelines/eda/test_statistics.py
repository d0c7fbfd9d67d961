"""The statistics of a table that can be checked by eye."""

import json
from pathlib import Path

import numpy as np
import pytest

from pipelines.eda.statistics import Statistics, gather, json_bytes, plain
from tests.pipelines.data.raw_tables import random_shop
from tests.pipelines.eda.processed_tables import dataset_of, process_shop, write_rows

# customer, day, article, price, channel; 21 days from a Monday, label window from day 14 on
ROWS = [
    (0, 0, 0, 10.0, 1),  # two copies of one article are two purchases in one basket
    (0, 0, 0, 10.0, 1),
    (0, 3, 0, 20.0, 2),  # the same article again, three days later
    (0, 15, 1, 20.0, 2),  # label: article 1 has the product of article 0, and was never sold before
    (1, 7, 0, 30.0, 2),
    (1, 14, 0, 40.0, 1),  # label: the first of its days, a repeat after seven days
    (2, 16, 2, 70.0, 2),  # label: new customer, article that was never sold before
]


@pytest.fixture(scope="module")
def statistics(tmp_path_factory: pytest.TempPathFactory) -> Statistics:
    folder = tmp_path_factory.mktemp("processed")
    split = write_rows(folder, ROWS, n_articles=4, ages=[25, None, 44, 61], n_days=21, products=[0, 0, 1, 2])
    return gather(dataset_of(folder, split))


def test_key_figures(statistics: Statistics) -> None:
    expected = {
        "n_transactions": 7,
        "n_buying_customers": 3,
        "n_articles_sold": 3,
        "n_baskets": 6,
        "items_per_basket": 7 / 6,
        "revenue": 200.0,
        "share_online": 4 / 7,
        "share_repeat": 2 / 7,  # day 3 and day 14
        "share_product_repeat": 3 / 7,  # and the other colour on day 15
        "n_label_rows": 3,
        "share_label_repeat": 1 / 3,
        "share_label_product_repeat": 2 / 3,
        "share_label_new_articles": 2 / 3,
        "share_label_new_customers": 1 / 3,
        "share_age_known": 3 / 4,
        "median_age": 44.0,
        "largest_basket_items": 2,
    }
    assert {name: statistics.figures[name] for name in expected} == pytest.approx(expected)


def test_days_and_weeks_count_from_the_cutoff(statistics: Statistics) -> None:
    daily, weekly = statistics.tables["daily"], statistics.tables["weekly"]
    assert daily["n_transactions"].tolist()[:4] == [2, 0, 0, 1]
    assert daily["n_baskets"].sum() == 6
    assert [str(day.date()) for day in weekly["week_start"]] == ["2020-06-01", "2020-06-08", "2020-06-15"]
    assert weekly["n_transactions"].tolist() == [3, 1, 3]
    assert weekly["n_customers"].tolist() == [1, 1, 3]
    assert weekly["n_new_customers"].tolist() == [1, 1, 1]
    assert weekly["n_articles"].tolist() == [1, 1, 3]
    assert weekly["is_whole"].tolist() == [True, True, True]


def test_first_week_is_partial_when_the_data_begin_inside_it(tmp_path: Path) -> None:
    split = write_rows(tmp_path, [(0, 0, 0, 1.0, 1), (0, 17, 0, 1.0, 1)], n_articles=1, ages=[30], n_days=18)
    weekly = gather(dataset_of(tmp_path, split)).tables["weekly"]
    assert weekly["is_whole"].tolist() == [False, True, True]
    assert [str(day.date()) for day in weekly["week_start"]] == ["2020-05-29", "2020-06-05", "2020-06-12"]


def test_recency_counts_history_only(statistics: Statistics) -> None:
    recency = statistics.tables["recency"].set_index("last_purchase")["n_customers"]
    assert recency["up to 1 week"] == 1  # customer 1: day 7, seven days before the cutoff
    assert recency["1–2 weeks"] == 1  # customer 0: day 3
    assert recency["no purchase yet"] == 2  # customer 2 only in the label window, customer 3 never


def test_repurchase_intervals(statistics: Statistics) -> None:
    gaps = statistics.tables["repurchase_gaps"]
    assert gaps["n_repurchases"].tolist()[:3] == [1, 1, 0]  # after 3 days and after 7
    assert statistics.figures["median_days_to_repurchase"] == 3


def test_reach_grows_with_the_window_and_knows_only_the_history(statistics: Statistics) -> None:
    reach = statistics.tables["reach"]
    assert reach["n_articles"].tolist() == [1, 1, 1, 1, 1]
    assert reach["share_of_label_sales"].tolist() == pytest.approx([1 / 3] * 5)


def test_times_sold_counts_articles_never_sold(statistics: Statistics) -> None:
    table = statistics.tables["sold_per_article"].set_index("times_sold")
    assert table["n_articles"].to_dict()["0"] == 1
    assert table["n_transactions"].to_dict()["5–9"] == 5


def test_prices_by_group_are_within_two_percent(statistics: Statistics) -> None:
    median = statistics.tables["price_by_group"].set_index("product_group")["p50"]
    assert median["product_group 2"] == pytest.approx(70.0, rel=0.02)


def test_chunks_of_any_size_give_the_same_bytes(tmp_path: Path) -> None:
    dataset = dataset_of(tmp_path, process_shop(random_shop(), tmp_path))
    assert json_bytes(gather(dataset, 7).to_json()) == json_bytes(gather(dataset).to_json())


def test_json_has_every_table_and_no_nan(statistics: Statistics) -> None:
    document = json.loads(json_bytes(statistics.to_json()))
    assert set(document["tables"]) == set(statistics.tables)
    assert document["schema_version"] == 1
    columns, rows = (document["tables"]["daily"][part] for part in ("columns", "rows"))
    assert len(rows) == 21
    assert dict(zip(columns, rows[0], strict=True))["date"] == "2020-06-01"


def test_floats_are_written_to_six_digits() -> None:
    assert plain(np.float64(0.12345678)) == 0.123457
    assert plain(float("nan")) is None
    assert plain(np.int64(3)) == 3
    assert plain(np.bool_(True)) is True
