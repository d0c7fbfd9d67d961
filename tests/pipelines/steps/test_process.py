import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from pipelines.errors import ArtefactError, DataGateError, UsageError
from pipelines.lake import Lake, open_lake
from pipelines.steps.ingest import IngestRequest, ingest
from pipelines.steps.process import process
from pipelines.steps.step import read_manifest
from tests.pipelines.data.raw_tables import FIRST_DAY, ShopTables, random_shop

FILES = {
    "articles.parquet",
    "customers.parquet",
    "transactions.parquet",
    "weekly_sales.parquet",
    "split.json",
    "quality_report.json",
}


@pytest.fixture(scope="module")
def shop() -> ShopTables:
    return random_shop(n_days=100, rows_per_day=20)


def ingest_folder(lake: Lake, run_id: str, shop: ShopTables, folder: Path) -> None:
    """Send the shop through the real ingest, as the CSV files of a Kaggle download."""
    folder.mkdir()
    shop.articles.write_csv(folder / "articles.csv")
    shop.customers.write_csv(folder / "customers.csv")
    shop.transactions.write_csv(folder / "transactions_train.csv")
    ingest(lake, IngestRequest(run_id=run_id, source=str(folder)), now=datetime(2026, 1, 1, tzinfo=UTC))


def run_command(lake: Lake, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pipelines.steps.process", "--lake", lake.uri, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
    )


def without_days(shop: ShopTables, first: int, last: int) -> ShopTables:
    is_lost = pl.col("t_dat").is_between(FIRST_DAY + timedelta(days=first), FIRST_DAY + timedelta(days=last))
    return replace(shop, transactions=shop.transactions.filter(~is_lost))


def test_a_run_is_processed_and_published(lake: Lake, shop: ShopTables) -> None:
    raw = shop.publish(lake, "run-1")
    manifest = process(lake, run_id="run-1")
    assert set(manifest.files) == FILES
    assert manifest.inputs == {"raw": raw.content_sha256}
    split = json.loads(lake.read_bytes(manifest.files["split.json"].key))
    assert split["cutoff_date"] == "2020-04-03"
    assert (split["cutoff_day"], split["label_end_day"], split["last_day_index"]) == (93, 100, 99)
    assert manifest.facts.items() >= split.items()
    report = json.loads(lake.read_bytes(manifest.files["quality_report.json"].key))
    assert report["passed"] is True
    assert len(report["gates"]) == 15
    assert all(set(gate) >= {"gate", "passed", "value", "threshold", "message"} for gate in report["gates"])
    assert read_manifest(lake, "process", "run-1") == manifest


def test_the_same_data_is_processed_once_for_two_runs(folder_lake: Lake, shop: ShopTables) -> None:
    for run_id in ("run-1", "run-2"):
        shop.publish(folder_lake, run_id)
    first = process(folder_lake, run_id="run-1")
    second = process(folder_lake, run_id="run-2", cutoff_date="2020-04-03")  # the default, said aloud
    assert (second.produced_by, second.files) == ("run-1", first.files)
    assert process(folder_lake, run_id="run-2", cutoff_date="2020-04-02").produced_by == "run-2"


def test_forced_again_it_writes_the_same_bytes(folder_lake: Lake, shop: ShopTables) -> None:
    shop.publish(folder_lake, "run-1")
    first = process(folder_lake, run_id="run-1")
    later = shop.with_purchases(*[(date(2020, 4, 10), shop.customers["customer_id"][0], "0100000000", 0.5, 1)] * 20)
    later.publish(folder_lake, "run-2")
    process(folder_lake, run_id="run-2")
    assert process(folder_lake, run_id="run-1", force=True).content_sha256 == first.content_sha256


def test_the_order_of_source_rows_does_not_change_the_files(folder_lake: Lake, shop: ShopTables) -> None:
    shop.publish(folder_lake, "run-1")
    shop.shuffled(5).publish(folder_lake, "run-2", source="./elsewhere")
    hashes = [
        {name: file.sha256 for name, file in process(folder_lake, run_id=run_id, force=True).files.items()}
        for run_id in ("run-1", "run-2")
    ]
    assert hashes[0] == hashes[1]


def test_shuffled_source_files_are_processed_to_the_same_bytes(
    folder_lake: Lake, shop: ShopTables, tmp_path: Path
) -> None:
    hashes = []
    for run_id, tables in (("run-1", shop), ("run-2", shop.shuffled(3))):
        ingest_folder(folder_lake, run_id, tables, tmp_path / run_id)
        files = process(folder_lake, run_id=run_id).files
        hashes.append({name: file.sha256 for name, file in files.items()})
    assert read_manifest(folder_lake, "process", "run-2").produced_by == "run-2"
    assert hashes[0] == hashes[1]


@pytest.mark.parametrize("seed", [3, 5])
def test_a_tiny_synthetic_shop_passes_the_gates(folder_lake: Lake, seed: int) -> None:
    source = f"synthetic://?customers=200&seed={seed}"
    ingest(folder_lake, IngestRequest(run_id="run-1", source=source), now=datetime(2026, 1, 1, tzinfo=UTC))
    facts = process(folder_lake, run_id="run-1").facts
    assert {gate: level for gate, level in facts["gates"].items() if level not in ("ok", "warning")} == {}
    assert facts["n_label_rows"] > 0


def test_an_empty_label_week_stops_the_run_and_leaves_the_report(lake: Lake, shop: ShopTables) -> None:
    without_days(shop, 80, 86).publish(lake, "run-1")
    with pytest.raises(DataGateError) as caught:
        process(lake, run_id="run-1", cutoff_date="2020-03-21")
    assert "nobody bought in the label window 2020-03-21 to 2020-03-27" in " ".join(str(caught.value).split())
    report = json.loads(lake.read_bytes("processed/run-1/quality_report.json"))
    assert "label_window" in [gate["gate"] for gate in report["gates"] if not gate["passed"]]
    with pytest.raises(ArtefactError, match="no finished process step"):
        read_manifest(lake, "process", "run-1")


def test_duplicate_keys_stop_the_run_before_anything_is_joined(folder_lake: Lake, shop: ShopTables) -> None:
    replace(shop, customers=pl.concat([shop.customers, shop.customers.head(1)])).publish(folder_lake, "run-1")
    with pytest.raises(DataGateError, match="1 customer_ids occur more than once in customers"):
        process(folder_lake, run_id="run-1", accepted_gates=["date_gaps"])


def test_a_shrunken_delivery_stops_the_run_until_it_is_accepted(folder_lake: Lake, shop: ShopTables) -> None:
    shop.publish(folder_lake, "run-1")
    process(folder_lake, run_id="run-1")
    replace(shop, transactions=shop.transactions.sort("t_dat").tail(1700)).publish(folder_lake, "run-2")
    for _ in range(2):  # asking again does not make it pass
        with pytest.raises(DataGateError, match="n_transactions is 1700, run run-1 had 2000"):
            process(folder_lake, run_id="run-2")
    accepted = process(folder_lake, run_id="run-2", accepted_gates=["drop_total_rows"])
    assert accepted.facts["gates"]["drop_total_rows"] == "accepted"


def test_a_failed_gate_never_touches_what_was_published(folder_lake: Lake, shop: ShopTables) -> None:
    shop.publish(folder_lake, "run-1")
    published = process(folder_lake, run_id="run-1")
    without_days(shop, 40, 60).publish(folder_lake, "run-1")
    with pytest.raises(DataGateError, match="refused_quality_report"):
        process(folder_lake, run_id="run-1")
    assert read_manifest(folder_lake, "process", "run-1") == published
    for entry in published.files.values():
        folder_lake.fetch(entry, Path("unused"))  # verifies sha256


def test_raw_data_without_a_purchase_is_refused(folder_lake: Lake, shop: ShopTables) -> None:
    replace(shop, transactions=shop.transactions.head(0)).publish(folder_lake, "run-1")
    with pytest.raises(DataGateError, match="run 'run-1' holds no transaction; look into its quarantine"):
        process(folder_lake, run_id="run-1")


def test_a_cutoff_outside_the_data_is_refused_before_any_work(folder_lake: Lake, shop: ShopTables) -> None:
    shop.publish(folder_lake, "run-1")
    with pytest.raises(UsageError, match="it can be from 2020-01-22 to 2020-04-09"):
        process(folder_lake, run_id="run-1", cutoff_date="2020-04-10")
    assert folder_lake.list("processed/") == []


def test_the_command_prints_its_facts_as_one_line(folder_lake: Lake, shop: ShopTables) -> None:
    shop.publish(folder_lake, "run-1")
    first, second = (run_command(folder_lake, "--run-id", "run-1", "--cutoff-date", "2020-03-18") for _ in range(2))
    assert first.returncode == 0, first.stderr
    assert json.loads(first.stdout)["cutoff_date"] == "2020-03-18"
    assert first.stdout == second.stdout
    assert first.stdout.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "exit_code", "message"),
    [
        (["--run-id", "run-1", "--cutoff-date", "16.09.2020"], 2, "write it as YYYY-MM-DD, for example 2020-09-16"),
        (["--run-id", "run-1", "--cutoff-date", "2030-01-01"], 2, "outside the data (2020-01-01 to 2020-04-09)"),
        (["--run-id", "run-1", "--accept-gates", "date_gap"], 2, "did you mean 'date_gaps'?"),
        (["--run-id", "run-9"], 4, "python -m pipelines.steps.ingest --run-id run-9"),
    ],
)
def test_a_mistake_is_one_line_and_an_exit_code(
    folder_lake: Lake, shop: ShopTables, arguments: list[str], exit_code: int, message: str
) -> None:
    shop.publish(folder_lake, "run-1")
    done = run_command(folder_lake, *arguments)
    assert done.returncode == exit_code
    assert done.stdout == ""
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert message in errors[0]
    assert "Traceback" not in done.stderr


def test_a_failed_gate_exits_with_3_and_a_table(folder_lake: Lake, shop: ShopTables) -> None:
    without_days(shop, 40, 60).publish(folder_lake, "run-1")
    done = run_command(folder_lake, "--run-id", "run-1")
    assert done.returncode == 3
    assert "error: 1 of the quality gates refused the data" in done.stderr
    assert "date_gaps" in done.stderr
    assert "run again with -p accept-gates=date_gaps" in done.stderr
    assert run_command(folder_lake, "--run-id", "run-1", "--accept-gates", "date_gaps").returncode == 0


@pytest.mark.parametrize("delay_seconds", [0.3, 0.6, 0.9])
def test_killed_at_any_moment_the_next_try_ends_with_the_same_bytes(
    folder_lake: Lake, shop: ShopTables, tmp_path: Path, delay_seconds: float
) -> None:
    shop.publish(folder_lake, "run-1")
    arguments = [sys.executable, "-m", "pipelines.steps.process", "--lake", folder_lake.uri, "--run-id", "run-1"]
    victim = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(delay_seconds)
    os.kill(victim.pid, signal.SIGKILL)
    victim.wait()
    elsewhere = open_lake(str(tmp_path / "undisturbed"))
    shop.publish(elsewhere, "run-1")
    undisturbed = process(elsewhere, run_id="run-1")
    assert process(folder_lake, run_id="run-1").content_sha256 == undisturbed.content_sha256
