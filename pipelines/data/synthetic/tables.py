"""The shop as Kaggle's three tables."""

from collections.abc import Iterator

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from pipelines.data.synthetic.chance import stream
from pipelines.data.synthetic.shop import Shop, WeekOfSales, article_ids, customer_ids, hex_strings
from pipelines.data.synthetic.vocabulary import (
    COLOURS,
    CUTS,
    DEPARTMENT_KINDS,
    DETAILS,
    FABRICS,
    GRAPHICAL_APPEARANCES,
    NAMES,
    PRODUCT_TYPES,
    SECTIONS,
)


def articles_table(shop: Shop) -> pl.DataFrame:
    """All 25 columns of Kaggle's articles.csv."""
    articles = shop.assortment
    rng = stream(shop.size.seed, "article names")
    n_products = int(articles.product_A[-1]) + 1

    def pick(words: tuple[str, ...]) -> NDArray[np.str_]:
        return np.array(words)[rng.integers(0, len(words), n_products)][articles.product_A]

    types = [PRODUCT_TYPES[position] for position in articles.type_A]
    sections = [SECTIONS[position] for position in articles.section_A]
    colours = [COLOURS[position] for position in articles.colour_A]
    appearances = [GRAPHICAL_APPEARANCES[position] for position in articles.appearance_A]
    names, cuts, fabrics, details = pick(NAMES), pick(CUTS), pick(FABRICS), pick(DETAILS)
    kinds = [DEPARTMENT_KINDS[number % 4] for number in articles.department_A]
    nouns = [product_type.name.split("/")[0] for product_type in types]
    return pl.DataFrame(
        {
            "article_id": pl.Series(values=pl.from_arrow(article_ids(articles)), dtype=pl.String),
            "product_code": articles.number_A // 1000,
            "prod_name": [f"{name} {cut} {noun.lower()}" for name, cut, noun in zip(names, cuts, nouns, strict=True)],
            "product_type_no": [product_type.number for product_type in types],
            "product_type_name": [product_type.name for product_type in types],
            "product_group_name": [product_type.product_group for product_type in types],
            "graphical_appearance_no": [number for _, number, _ in appearances],
            "graphical_appearance_name": [name for name, *_ in appearances],
            "colour_group_code": [colour.code for colour in colours],
            "colour_group_name": [colour.name for colour in colours],
            "perceived_colour_value_id": [colour.value[0] for colour in colours],
            "perceived_colour_value_name": [colour.value[1] for colour in colours],
            "perceived_colour_master_id": [colour.master[0] for colour in colours],
            "perceived_colour_master_name": [colour.master[1] for colour in colours],
            "department_no": 1200 + articles.department_A,
            "department_name": [f"{kind} {section.name}" for kind, section in zip(kinds, sections, strict=True)],
            "index_code": [section.index[0] for section in sections],
            "index_name": [section.index[1] for section in sections],
            "index_group_no": [section.index_group[0] for section in sections],
            "index_group_name": [section.index_group[1] for section in sections],
            "section_no": [section.number for section in sections],
            "section_name": [section.name for section in sections],
            "garment_group_no": [product_type.garment_group[0] for product_type in types],
            "garment_group_name": [product_type.garment_group[1] for product_type in types],
            "detail_desc": [
                f"{noun} in {fabric} with {detail}."
                for noun, fabric, detail in zip(nouns, fabrics, details, strict=True)
            ],
        }
    )


def customers_table(shop: Shop) -> pl.DataFrame:
    """All 7 columns of Kaggle's customers.csv."""
    people, n = shop.clientele, len(shop.clientele)
    rng = stream(shop.size.seed, "customer facts")
    # Postal codes are shared: about four customers have the same.
    codes = hex_strings(rng.integers(0, 256, (n // 4 + 1, 32), dtype=np.uint8))
    postal_code = codes.take(pa.array(rng.integers(0, len(codes), n)))
    flagged = rng.random(n) < 0.35
    active = flagged & (rng.random(n) < 0.97)
    club = np.array(["ACTIVE", "PRE-CREATE", "LEFT CLUB"])[np.searchsorted([0.93, 0.9995], rng.random(n))]
    news = np.where(flagged, "Regularly", "NONE")
    return pl.DataFrame(
        {
            "customer_id": pl.from_arrow(customer_ids(shop.size)),
            "FN": pl.Series(np.ones(n)).set(pl.Series(~flagged), None),
            "Active": pl.Series(np.ones(n)).set(pl.Series(~active), None),
            "club_member_status": pl.Series(club).set(pl.Series(rng.random(n) < 0.004), None),
            "fashion_news_frequency": pl.Series(news).set(pl.Series(rng.random(n) < 0.01), None),
            "age": pl.Series(people.age_C.astype(np.float64)).set(pl.Series(rng.random(n) < 0.011), None),
            "postal_code": pl.from_arrow(postal_code),
        }
    )


def transactions_tables(shop: Shop) -> Iterator[pa.Table]:
    """Kaggle's transactions, week by week; ids as dictionaries, so that a week costs a few megabytes."""
    ids, articles = customer_ids(shop.size), article_ids(shop.assortment)
    for sales in shop.weeks():
        yield _transactions(sales, ids, articles)


def _transactions(sales: WeekOfSales, ids: pa.StringArray, articles: pa.StringArray) -> pa.Table:
    return pa.table(
        {
            "t_dat": pa.array(sales.day_R).cast(pa.date32()),
            "customer_id": _dictionary(sales.customer_R, ids),
            "article_id": _dictionary(sales.article_R, articles),
            "price": pa.array(sales.price_R),
            "sales_channel_id": pa.array(sales.channel_R),
        }
    )


def _dictionary(position_R: NDArray[np.int32], values: pa.StringArray) -> pa.DictionaryArray:
    """Spell positions out as values, with only the values in use in the dictionary."""
    used = np.zeros(len(values), dtype=np.bool_)
    used[position_R] = True
    kept = np.flatnonzero(used)
    place = np.empty(len(values), dtype=np.int32)
    place[kept] = np.arange(len(kept), dtype=np.int32)
    return pa.DictionaryArray.from_arrays(pa.array(place[position_R]), values.take(pa.array(kept)))
