"""The shop's laws, and the structure that makes its problem the real one: each number has the real data's beside it."""

from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest

from pipelines.data.synthetic.shop import Shop
from pipelines.data.synthetic.size import ShopSize
from pipelines.data.synthetic.tables import articles_table, customers_table, transactions_tables

SMALL = ShopSize(customers=300, weeks=30, seed=11)
MEDIUM = ShopSize(customers=4000, seed=5)


def transactions_of(size: ShopSize) -> pl.DataFrame:
    return pl.concat([pl.DataFrame(table) for table in transactions_tables(Shop(size))]).cast(
        {"customer_id": pl.String, "article_id": pl.String}
    )


@pytest.fixture(scope="module")
def articles() -> pl.DataFrame:
    return articles_table(Shop(MEDIUM))


@pytest.fixture(scope="module")
def purchases(articles: pl.DataFrame) -> pl.DataFrame:
    """Transactions of the medium shop beside what is known of their articles and customers, in order of time."""
    return (
        transactions_of(MEDIUM)
        .join(articles, on="article_id", maintain_order="left")
        .join(customers_table(Shop(MEDIUM)), on="customer_id", maintain_order="left")
    )


def test_the_same_address_gives_the_same_rows_and_another_seed_others() -> None:
    first = transactions_of(SMALL)
    assert first.equals(transactions_of(SMALL))
    assert articles_table(Shop(SMALL)).equals(articles_table(Shop(SMALL)))
    assert customers_table(Shop(SMALL)).equals(customers_table(Shop(SMALL)))
    other = replace(SMALL, seed=12)
    assert not first.equals(transactions_of(other))
    assert not articles_table(Shop(SMALL)).equals(articles_table(Shop(other)))


def test_a_shop_seen_earlier_is_the_beginning_of_the_same_shop() -> None:
    whole, last_day = transactions_of(SMALL), date(2020, 8, 31)
    earlier = transactions_of(replace(SMALL, until=last_day))
    assert earlier.equals(whole.filter(pl.col("t_dat") <= last_day))
    assert 0 < len(earlier) < len(whole)


def test_rows_come_in_order_of_days_and_cover_all_of_them() -> None:
    rows = transactions_of(SMALL)
    assert rows["t_dat"].is_sorted()
    assert rows["t_dat"].min() >= SMALL.first_day
    assert rows["t_dat"].max() == SMALL.until
    assert rows["t_dat"].n_unique() >= 0.85 * 7 * SMALL.weeks


def test_every_transaction_names_an_article_and_a_customer_of_the_tables(purchases: pl.DataFrame) -> None:
    assert purchases["product_type_name"].null_count() == 0
    assert purchases["postal_code"].null_count() == 0


def test_ids_and_columns_look_like_the_kaggle_tables(articles: pl.DataFrame) -> None:
    customers = customers_table(Shop(MEDIUM))
    assert articles.width == 25
    assert articles["article_id"].str.contains(r"^0\d{9}$").all()
    assert articles["article_id"].is_sorted()
    assert (articles["article_id"].str.slice(0, 7).cast(pl.Int64) == articles["product_code"]).all()
    assert customers.columns == [
        "customer_id",
        "FN",
        "Active",
        "club_member_status",
        "fashion_news_frequency",
        "age",
        "postal_code",
    ]
    assert customers["customer_id"].str.contains(r"^[0-9a-f]{64}$").all()
    for ids in (articles["article_id"], customers["customer_id"]):
        assert ids.is_unique().all()


@pytest.mark.parametrize("size", [MEDIUM, replace(MEDIUM, weeks=40), replace(MEDIUM, transactions=30_000)])
def test_about_as_much_is_sold_as_was_asked_for(size: ShopSize) -> None:
    n = sum(len(table) for table in transactions_tables(Shop(size)))
    assert n == pytest.approx(size.n_transactions, rel=0.15)


def test_prices_lie_on_the_scale_of_the_kaggle_prices(purchases: pl.DataFrame) -> None:
    price = purchases["price"]
    assert 0.001 < price.min() < price.max() < 0.55  # real: 0.0005 to 0.34 in the sample
    assert 0.015 < price.median() < 0.045  # real: 0.025


def test_baskets_have_a_long_tail(purchases: pl.DataFrame) -> None:
    sizes = purchases.group_by("customer_id", "t_dat").len()["len"]
    assert 2.8 < sizes.mean() < 4.2  # real: 3.6
    assert sizes.quantile(0.99) > 12  # real: 19


def test_popularity_has_a_long_tail(purchases: pl.DataFrame) -> None:
    sold = purchases.group_by("article_id").len()["len"].sort(descending=True)
    assert sold.head(len(sold) // 10).sum() / sold.sum() > 0.35


def test_articles_live_for_weeks_and_basics_for_years(purchases: pl.DataFrame) -> None:
    lives = purchases.group_by("article_id").agg((pl.col("t_dat").max() - pl.col("t_dat").min()).dt.total_days() / 7)
    weeks = lives["t_dat"]
    assert 5 < weeks.quantile(0.4) < 30
    assert weeks.quantile(0.97) > 80
    last_week = purchases.filter(pl.col("t_dat") > MEDIUM.until - timedelta(days=7))
    assert last_week["article_id"].n_unique() < 0.35 * lives.height  # real: about a fifth are alive


def test_swimwear_sells_in_summer_and_knitwear_in_winter(purchases: pl.DataFrame) -> None:
    month = pl.col("t_dat").dt.month()
    by_season = purchases.group_by("garment_group_name").agg(
        summer=month.is_in([5, 6, 7]).mean(), winter=month.is_in([10, 11, 12]).mean()
    )
    share = {row[0]: row[1:] for row in by_season.iter_rows()}
    assert share["Swimwear"][0] > 2 * share["Swimwear"][1]
    assert share["Knitwear"][1] > 1.5 * share["Knitwear"][0]


def test_the_week_has_a_rhythm(purchases: pl.DataFrame) -> None:
    by_weekday = purchases.group_by(pl.col("t_dat").dt.weekday()).len().sort("t_dat")["len"].to_numpy()
    assert by_weekday[1] == by_weekday.min()  # real: Tuesday is the quietest
    assert by_weekday[2:6].mean() > 1.1 * by_weekday[:2].mean()


def test_age_decides_which_part_of_the_shop_is_home(purchases: pl.DataFrame) -> None:
    def share(group: str, youngest: int, oldest: int) -> float:
        ages = purchases.filter(pl.col("age").is_between(youngest, oldest))
        return float((ages["index_group_name"] == group).mean())

    assert share("Divided", 16, 21) > 1.6 * share("Divided", 34, 60)
    assert share("Baby/Children", 33, 45) > 1.6 * share("Baby/Children", 16, 25)


def test_customers_and_baskets_keep_to_sections_and_departments(purchases: pl.DataFrame) -> None:
    def same(left: pl.DataFrame, by: list[str], column: str) -> float:
        pairs = left.join(left, on=by).filter(pl.col("article_id") != pl.col("article_id_right"))
        return float((pairs[column] == pairs[f"{column}_right"]).mean())

    some = purchases.filter(pl.col("customer_id") < "2")
    chance = float((purchases["section_name"].value_counts(normalize=True)["proportion"] ** 2).sum())
    assert same(some, ["customer_id"], "section_name") > 2.5 * chance  # real: .19 by .076
    assert same(some, ["customer_id", "t_dat"], "section_name") > 4 * chance  # real: .29


def test_articles_are_bought_again_and_in_other_colours(purchases: pl.DataFrame) -> None:
    firsts = purchases.unique(["customer_id", "article_id", "t_dat"], maintain_order=True)
    again = firsts.select(pl.int_range(pl.len()).over("customer_id", "article_id") > 0).to_series().mean()
    same_product = firsts.select(pl.int_range(pl.len()).over("customer_id", "product_code") > 0).to_series().mean()
    assert 0.02 < again < 0.2  # real: .04
    assert again + 0.05 < same_product < 0.4  # real: .13


def test_looks_are_bought_together_across_product_types() -> None:
    shop = Shop(MEDIUM)
    look = shop.assortment.look_start_A
    pairs, n = 0, 0
    popularity: list[np.ndarray] = []
    for week in shop.weeks():
        frame = pl.DataFrame({"customer": week.customer_R, "day": week.day_R, "article": week.article_R})
        joined = frame.join(frame, on=["customer", "day"])
        left, right = joined["article"].to_numpy(), joined["article_right"].to_numpy()
        other = shop.assortment.product_A[left] != shop.assortment.product_A[right]
        pairs += int((look[left] == look[right])[other].sum())
        n += int(other.sum())
        popularity.append(week.article_R)
    shares = np.bincount(look[np.concatenate(popularity)]) / sum(map(len, popularity))
    assert pairs / n > 10 * (shares**2).sum()


def test_new_customers_come_old_ones_lapse_and_recent_ones_return(purchases: pl.DataFrame) -> None:
    days = purchases.group_by("customer_id").agg(first=pl.col("t_dat").min(), last=pl.col("t_dat").max())
    quarter = timedelta(days=91)
    lapsed = (days["last"] < MEDIUM.until - quarter).mean()
    assert 0.45 < lapsed < 0.75  # real: about half
    assert (days["first"] > MEDIUM.until - quarter).mean() > 0.03
    label = set(purchases.filter(pl.col("t_dat") > MEDIUM.until - timedelta(days=7))["customer_id"].to_list())
    month = pl.col("t_dat").is_between(MEDIUM.until - timedelta(days=35), MEDIUM.until - timedelta(days=7))
    recent = set(purchases.filter(month)["customer_id"].to_list())
    assert len(label & recent) / len(recent) > 2 * len(label) / MEDIUM.customers
