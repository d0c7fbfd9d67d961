from pathlib import Path

import pytest

from pipelines.data.sources import FileSource, SyntheticSource, open_source
from pipelines.errors import TryAgainError, UsageError
from tests.pipelines.data.kaggle_folder import KaggleFolder


def test_a_folder_gives_one_file_for_each_table(tmp_path: Path) -> None:
    KaggleFolder().write(tmp_path)
    source = open_source(str(tmp_path))
    assert isinstance(source, FileSource)
    assert {table: file.name for table, file in source.files.items()} == {
        "transactions": "transactions.csv",
        "articles": "articles.csv",
        "customers": "customers.csv",
    }
    assert open_source(f"file://{tmp_path}") == source


def test_a_synthetic_address_is_a_shop() -> None:
    source = open_source("synthetic://?customers=200&seed=7")
    assert isinstance(source, SyntheticSource)
    assert source.size.customers == 200


def test_missing_files_are_all_named_beside_the_nearest_that_is_there(tmp_path: Path) -> None:
    (tmp_path / "transaction.csv").touch()
    (tmp_path / "articles.csv").touch()
    with pytest.raises(UsageError) as caught:
        open_source(str(tmp_path))
    assert str(caught.value) == (
        f"source {tmp_path}: no transactions_train.csv or transactions.csv (did you mean 'transaction.csv'?); "
        "no customers.csv. A source holds transactions_train (or transactions), articles and customers, each as "
        ".csv, .csv.gz, .parquet"
    )


def test_two_files_of_one_table_are_not_guessed_between(tmp_path: Path) -> None:
    KaggleFolder().write(tmp_path)
    (tmp_path / "transactions_train.csv.gz").touch()
    with pytest.raises(UsageError, match=r"it has transactions_train\.csv\.gz and transactions\.csv: keep one of them"):
        open_source(str(tmp_path))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "no source is given; pass --source FOLDER"),
        ("ftp://host/x", r"unknown scheme 'ftp'; known are a folder, s3:// and synthetic://"),
        ("s3://", "names no bucket"),
    ],
)
def test_an_address_that_is_none_says_what_is_known(name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        open_source(name)


def test_a_folder_that_is_not_there_is_answered_with_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "kaggle").mkdir()
    with pytest.raises(UsageError, match=r"kagle does not exist \(did you mean 'kaggle'\?\); give a folder"):
        open_source(str(tmp_path / "kagle"))
    (tmp_path / "file.csv").touch()
    with pytest.raises(UsageError, match=r"file\.csv is a file; give the folder"):
        open_source(str(tmp_path / "file.csv"))


def test_a_file_that_changes_while_it_is_read_is_to_be_read_again(tmp_path: Path) -> None:
    KaggleFolder().write(tmp_path)
    source = open_source(str(tmp_path))
    assert isinstance(source, FileSource)
    opened = source.files["articles"].open()
    opened.__enter__().read()
    (tmp_path / "articles.csv").write_text("shorter")
    with pytest.raises(TryAgainError, match="changed while it was read"):
        opened.__exit__(None, None, None)
