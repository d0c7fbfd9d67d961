"""Mended rows are read in again, onto the version that they were rejected from."""

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from pipelines.errors import UsageError
from pipelines.lake import Lake
from pipelines.steps.manifest import read_manifest
from tests.pipelines.data.kaggle_folder import ARTICLES, SHIRT, KaggleFolder, purchase
from tests.pipelines.steps.ingested import read, table, transactions


@pytest.fixture
def mended(folder_lake: Lake, tmp_path: Path) -> Callable[..., Path]:
    """Write a source with two bad rows and a repeated article, ingest it, and mend its quarantine."""

    def write(**changes: str) -> Path:
        shop = KaggleFolder(
            purchases=[purchase(), purchase(price="free"), purchase("2020-13-01"), purchase("2020-01-14")],
            articles=[*ARTICLES, f"{SHIRT},400000,Fourth,259,x"],
        ).write(tmp_path / "shop")
        manifest = read(folder_lake, shop, "bad", max_rejected_share=0.5)
        assert manifest.facts["n_rejected"] == 3
        rejected = pl.read_csv(
            folder_lake.read_bytes(manifest.files["quarantine/rejected.csv"].key), infer_schema=False
        )
        line = pl.col("line")
        rows = rejected.with_columns(
            price=pl.when(line == "3").then(pl.lit("0.75")).otherwise("price"),
            article_id=pl.when(pl.col("file") == "articles.csv").then(pl.lit("0400000001")).otherwise("article_id"),
        ).filter(line != "4")
        rows.with_columns(**{name: pl.lit(value) for name, value in changes.items()}).write_csv(tmp_path / "mended.csv")
        return tmp_path / "mended.csv"

    return write


def test_mended_rows_come_back_in_and_the_others_stay_in_quarantine(
    folder_lake: Lake, tmp_path: Path, mended: Callable[..., Path]
) -> None:
    replayed = read(folder_lake, tmp_path / "shop", "again", max_rejected_share=0.5, replay=mended())
    assert {name: replayed.facts[name] for name in ("n_transactions", "n_rejected", "n_replayed", "n_articles")} == {
        "n_transactions": 3,
        "n_rejected": 1,
        "n_replayed": 2,
        "n_articles": 4,
    }
    assert sorted(transactions(folder_lake, replayed)["price"].to_list()) == [0.025, 0.025, 0.75]
    assert table(folder_lake, replayed, "quarantine/rejected.parquet")["line"].to_list() == [4]
    bad = read_manifest(folder_lake, "ingest", "bad")
    assert bad.facts["n_rejected"] == 3  # the version before is as it was


def test_purchases_of_a_mended_article_come_in_by_themselves(folder_lake: Lake, tmp_path: Path) -> None:
    purchases = [purchase(), purchase(article_id="0400000001"), purchase(article_id="0400000001", price="free")]
    shop = KaggleFolder(purchases=purchases, articles=[*ARTICLES, "4e8,400000,Fourth,259,x"]).write(tmp_path / "shop")
    bad = read(folder_lake, shop, "bad", max_rejected_share=0.8)
    rejected = pl.read_csv(folder_lake.read_bytes(bad.files["quarantine/rejected.csv"].key), infer_schema=False)
    assert sorted(rejected["rule"]) == ["article_id_format", "article_unknown", "article_unknown"]
    is_article = pl.col("file") == "articles.csv"
    rejected.with_columns(article_id=pl.when(is_article).then(pl.lit("0400000001")).otherwise("article_id")).write_csv(
        tmp_path / "mended.csv"
    )
    replayed = read(folder_lake, shop, "again", max_rejected_share=0.8, replay=tmp_path / "mended.csv")
    assert transactions(folder_lake, replayed)["article_id"].to_list() == [SHIRT, "0400000001"]
    assert replayed.facts["rejected_by_rule"] == {"price_not_a_number": 1}
    assert replayed.facts["n_replayed"] == 1


def test_a_replay_onto_a_replayed_version_keeps_what_was_mended_before(
    folder_lake: Lake, tmp_path: Path, mended: Callable[..., Path]
) -> None:
    first = read(folder_lake, tmp_path / "shop", "first", max_rejected_share=0.5, replay=mended())
    rest = pl.read_csv(folder_lake.read_bytes(first.files["quarantine/rejected.csv"].key), infer_schema=False)
    rest.with_columns(t_dat=pl.lit("2020-01-20")).write_csv(tmp_path / "rest.csv")
    second = read(folder_lake, "", "second", data_version="first", replay=tmp_path / "rest.csv")
    assert (second.facts["n_transactions"], second.facts["n_rejected"], second.facts["n_replayed"]) == (4, 0, 3)
    assert second.facts["last_day"] == "2020-01-20"


def test_rows_that_are_still_bad_stay_in_quarantine_under_their_line(
    folder_lake: Lake, tmp_path: Path, mended: Callable[..., Path]
) -> None:
    path = mended(price="still free")
    replayed = read(folder_lake, tmp_path / "shop", "again", max_rejected_share=0.5, replay=path)
    rejected = table(folder_lake, replayed, "quarantine/rejected.parquet").sort("line")
    assert rejected.select("line", "value").rows() == [(3, "still free"), (4, "2020-13-01")]


def test_a_replay_onto_another_source_is_refused(
    folder_lake: Lake, tmp_path: Path, mended: Callable[..., Path]
) -> None:
    path = mended()
    other = KaggleFolder().write(tmp_path / "other")
    with pytest.raises(UsageError, match=r"articles\.csv line 6 is not among the rejected rows of this source"):
        read(folder_lake, other, "again", replay=path)
    KaggleFolder().write(tmp_path / "shop")
    with pytest.raises(UsageError, match=r"data-version bad was read from .*, whose articles\.csv, transactions\.csv"):
        read(folder_lake, "", "again", data_version="bad", replay=path)
