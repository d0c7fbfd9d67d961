"""A processed shop in memory: purchases, articles and customers as training reads them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from pipelines.recommender.interactions import Catalogue, Interactions, read_catalogue, read_interactions
from pipelines.recommender.tables import segment_of_age

INPUT_FILES = ("transactions.parquet", "articles.parquet", "customers.parquet", "split.json")
"""What is read of processed/{run_id}."""


@dataclass(frozen=True)
class Shop:
    """What a bundle says of the shop beside the model."""

    interactions: Interactions
    catalogue: Catalogue
    customer_ids: Sequence[str]
    segments: npt.NDArray[np.uint8]
    first_day: date
    product_types: Sequence[str | None]
    colours: Sequence[str | None]
    index_groups: Sequence[str | None]
    garment_groups: Sequence[str | None]
    product_groups: Sequence[str | None]


def read_shop(paths: Mapping[str, Path]) -> tuple[Shop, dict[str, Any]]:
    """Read INPUT_FILES (name → local path): the shop, and split.json as it is."""
    customers = pl.read_parquet(paths["customers.parquet"], columns=["customer_id", "age"])
    catalogue = read_catalogue(paths["articles.parquet"])
    names = pl.read_parquet(
        paths["articles.parquet"],
        columns=["product_type", "colour_group", "index_group", "garment_group", "product_group"],
    )
    split: dict[str, Any] = json.loads(paths["split.json"].read_bytes())
    shop = Shop(
        interactions=read_interactions(paths["transactions.parquet"], len(customers), catalogue.n_articles),
        catalogue=catalogue,
        customer_ids=customers["customer_id"].to_list(),
        segments=segment_of_age(customers["age"].fill_null(float("nan")).to_numpy().astype(np.float32)),
        first_day=date.fromisoformat(split["first_day"]),
        product_types=names["product_type"].to_list(),
        colours=names["colour_group"].to_list(),
        index_groups=names["index_group"].to_list(),
        garment_groups=names["garment_group"].to_list(),
        product_groups=names["product_group"].to_list(),
    )
    return shop, split
