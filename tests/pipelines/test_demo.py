"""The parts of `make demo` that decide or print something."""

import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from rich.console import Console

from pipelines.demo import Shopper, answer_table, article_names, choose_shopper, next_steps, quality_line, run_pipeline
from pipelines.errors import ArtefactError
from pipelines.lake import Lake, open_lake
from pipelines.steps.step import run_step

RESULT = {
    "run_id": "r1",
    "promoted": True,
    "bundle_version": "v7",
    "champion": "v7",
    "cutoff_date": "2020-09-16",
    "metrics": {"map_at_12": 0.03},
    "baselines": {"popularity": {"map_at_12": 0.01}, "repurchase": {"map_at_12": 0.02}},
    "report": "lake/artifacts/r1/report.html",
    "eda_report": "lake/eda/r1/report.html",
    "bundle": "lake/registry/bundles/v7",
}
SHOPPER = Shopper("ann", ["0000000001"], 1)


@pytest.fixture
def folder_lake(tmp_path: Path) -> Lake:
    """A lake whose run r1 has a processed shop of two customers and three articles."""
    lake = open_lake(str(tmp_path / "lake"))

    def work(output: Path) -> dict[str, int]:
        # customer 0 bought most ever, customer 1 most in the last four weeks (twice article 2 on day 99)
        rows = [(0, 0, 1), (0, 1, 2), (0, 1, 3), (0, 2, 4), (1, 0, 5), (1, 1, 98), (1, 2, 99), (1, 2, 99)]
        pl.DataFrame(rows, schema=["customer_index", "article_index", "day"], orient="row").write_parquet(
            output / "transactions.parquet"
        )
        pl.DataFrame({"customer_index": [0, 1], "customer_id": ["ann", "bea"]}).write_parquet(
            output / "customers.parquet"
        )
        pl.DataFrame(
            {
                "article_index": [0, 1, 2],
                "article_id": ["0000000001", "0000000002", "0000000003"],
                "prod_name": ["Ella tee", "Jade jeans", None],
                "product_type": ["T-shirt", "Trousers", "Hat"],
                "colour_group": ["Black", None, "Red"],
            }
        ).write_parquet(output / "articles.parquet")
        return {}

    run_step(lake, step="process", run_id="r1", parameters={}, inputs={}, code=["pipelines.demo"], work=work)
    return lake


def test_the_shopper_bought_most_in_the_last_four_weeks_and_is_shown_newest_first(folder_lake: Lake) -> None:
    shopper = choose_shopper(folder_lake, "r1")
    assert shopper == Shopper("bea", ["0000000003", "0000000002", "0000000001"], n_purchases=4)


def test_articles_have_names_and_missing_parts_are_left_out(folder_lake: Lake) -> None:
    names = article_names(folder_lake, "r1", ["0000000001", "0000000002", "0000000003", "9999999999"])
    assert names == {"0000000001": "Ella tee · Black", "0000000002": "Jade jeans", "0000000003": "Hat · Red"}


def test_a_run_without_data_says_which_step_to_run(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match=r"pipelines\.steps\.process"):
        choose_shopper(open_lake(str(tmp_path)), "r1")


def test_the_quality_line_names_the_best_rule() -> None:
    assert quality_line(RESULT) == (
        "bundle v7 (the champion now): map_at_12 0.0300 in the week from 2020-09-16, best rule (repurchase) 0.0200"
    )
    assert "(the champion now)" in quality_line(RESULT | {"promoted": False})  # somebody promoted it by hand since
    assert "(not the champion)" in quality_line(RESULT | {"champion": "v6"})


def test_the_answer_is_shown_by_name_beside_what_was_bought() -> None:
    answer = {
        "source": "personal",
        "model_version": "v7",
        "recommendations": ["0000000002", "0000000003"],
        "scores": [3.14159, 2.0],
    }
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(answer_table(SHOPPER, answer, {"0000000001": "Ella tee", "0000000002": "Jade jeans"}))
    text = console.export_text()
    assert "personal answer of v7" in text
    first, second = [line.split("│")[1:4] for line in text.splitlines() if "0000000003" in line or "Jade" in line]
    assert [cell.strip() for cell in first] == ["Ella tee", "Jade jeans", "3.14"]
    assert [cell.strip() for cell in second] == ["", "0000000003", "2.00"]


def test_next_steps_name_both_reports_and_a_request_to_copy() -> None:
    words = next_steps(RESULT, "./lake", SHOPPER)
    assert "lake/eda/r1/report.html" in words
    assert "lake/artifacts/r1/report.html" in words
    assert "None" not in next_steps(RESULT | {"report": None}, "./lake", SHOPPER)
    assert """-d '{"customer_id": "ann", "top_k": 5}'""" in words


def test_a_pipeline_that_refuses_ends_the_demo_with_its_exit_code(tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as stopped:
        run_pipeline(str(tmp_path / "nothing-here"), str(tmp_path / "lake"), {"PATH": "", "PYTHONPATH": sys.path[0]})
    assert stopped.value.code == 2


def test_ctrl_c_ends_the_steps_and_says_once_how_to_go_on(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pipelines.demo", "--lake", str(tmp_path / "lake"), "--customers", "200"]
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as demo:
        assert demo.stderr is not None
        assert "ingest: Running" in demo.stderr.readline()
        os.killpg(demo.pid, signal.SIGINT)  # as a terminal does: to all of its processes
        words = demo.stderr.read()
    assert demo.returncode == 130
    assert words.count("error: ") == words.count("error: interrupted; run the same command again") == 1
