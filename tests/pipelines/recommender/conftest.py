"""One small shop's model, exported and sealed once for all tests that ask it."""

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from inference.bundle import load_bundle, seal_bundle
from inference.engine import Engine
from pipelines.recommender.export import write_bundle_files
from pipelines.recommender.model import Recommender
from pipelines.recommender.shop import Shop
from pipelines.recommender.training import Trainer
from tests.pipelines.recommender.small_shop import (
    KNOBS,
    UNKNOWN_AGE,
    Purchase,
    random_purchases,
    random_shop,
    shop_of,
)

END_DAY = 70
KNOBS_OF_EXPORT = KNOBS.model_copy(update={"max_history": 16})


@dataclass(frozen=True)
class Exported:
    folder: Path
    shop: Shop
    trainer: Trainer
    recommender: Recommender
    engine: Engine


def export(shop: Shop, folder: Path) -> Exported:
    """Fit on all days before END_DAY and write a bundle."""
    folder.mkdir(exist_ok=True)
    trainer = Trainer(shop.interactions, shop.catalogue, shop.segments, 7, KNOBS_OF_EXPORT)
    recommender, _ = trainer.refit(END_DAY, n_epochs=2)
    write_bundle_files(folder, recommender, shop, END_DAY, KNOBS_OF_EXPORT.max_history)
    days = {"cutoff_date": shop.first_day, "trained_through": shop.first_day + timedelta(days=END_DAY - 1)}
    seal_bundle(folder, {"version": "v1", "max_history": KNOBS_OF_EXPORT.max_history, **days})
    return Exported(folder, shop, trainer, recommender, Engine(load_bundle(folder)))


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """300 articles, 42 customers: the last two are one who bought 10,000 pieces and one who bought nothing."""
    usual = random_shop()
    rng = np.random.default_rng(8)
    whale: list[Purchase] = [(40, int(day), int(article), 0.0) for day, article in rng.integers(0, 70, (10_000, 2))]
    shop = shop_of(
        [*random_purchases(900, n_customers=40, n_articles=300), *whale],
        n_customers=42,
        n_articles=300,
        catalogue=usual.catalogue,
        segments=[1 + number % UNKNOWN_AGE for number in range(42)],
    )
    return export(shop, tmp_path_factory.mktemp("exported"))


@pytest.fixture(scope="session")
def exported_tiny(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """A shop with one article, without attributes, ages and prices."""
    rows: list[Purchase] = [(day % 9, day, 0, 0.0) for day in range(70)]
    return export(shop_of(rows, n_customers=9, n_articles=1), tmp_path_factory.mktemp("tiny"))
