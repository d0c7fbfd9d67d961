import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from pipelines.data.synthetic.__main__ import write_csv
from pipelines.data.synthetic.shop import Shop
from pipelines.data.synthetic.size import ShopSize

FILES = ("transactions_train.csv", "articles.csv", "customers.csv")


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "pipelines.data.synthetic", *arguments], capture_output=True, text=True, check=False
    )


def test_the_command_writes_kaggle_files_that_are_the_same_bytes_each_time(tmp_path: Path) -> None:
    done = run("--customers", "50", "--weeks", "10", "--seed", "3", "--out", str(tmp_path / "a"))
    assert done.returncode == 0, done.stderr
    n_transactions = write_csv(Shop(ShopSize(customers=50, weeks=10, seed=3)), tmp_path / "b")
    for name in FILES:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    rows = pl.read_csv(tmp_path / "a" / "transactions_train.csv", schema_overrides={"article_id": pl.String})
    assert rows.columns == ["t_dat", "customer_id", "article_id", "price", "sales_channel_id"]
    assert len(rows) == n_transactions > 0


@pytest.mark.parametrize("arguments", [("--until", "soon"), ("--customers", "0"), ("--out", "/proc/shop")])
def test_a_wrong_argument_is_one_line_and_exit_code_2(tmp_path: Path, arguments: tuple[str, str]) -> None:
    done = run("--out", str(tmp_path), *arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert arguments[1] in done.stderr
    assert "Traceback" not in done.stderr


def test_files_of_another_shop_are_written_over_only_by_force(tmp_path: Path) -> None:
    (tmp_path / "articles.csv").write_text("mine")
    arguments = ("--customers", "20", "--weeks", "6", "--out", str(tmp_path))
    refused = run(*arguments)
    assert refused.returncode == 2
    assert refused.stderr.startswith(f"error: {tmp_path} holds articles.csv already; give another --out, or --force")
    assert (tmp_path / "articles.csv").read_text() == "mine"
    assert run(*arguments, "--force").returncode == 0
    assert (tmp_path / "articles.csv").read_text() != "mine"
