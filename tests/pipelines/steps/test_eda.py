"""The eda step in a real lake, folder and S3, behind the real process step."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta

import polars as pl
import pytest

from pipelines.errors import ArtefactError
from pipelines.lake import Lake
from pipelines.steps.eda import eda
from pipelines.steps.process import process
from pipelines.steps.step import StepManifest, read_manifest
from tests.pipelines.data.raw_tables import FIRST_DAY, ShopTables, random_shop


@pytest.fixture(scope="module")
def shop() -> ShopTables:
    return random_shop(n_days=90)


def explored(lake: Lake, run_id: str, shop: ShopTables, **options: str) -> StepManifest:
    shop.publish(lake, run_id)
    process(lake, run_id=run_id, **options)  # type: ignore[arg-type]
    return eda(lake, run_id=run_id)


def read(lake: Lake, manifest: StepManifest, name: str) -> dict[str, object]:
    document: dict[str, object] = json.loads(lake.read_bytes(manifest.files[name].key))
    return document


def shop_until(shop: ShopTables, day: int) -> ShopTables:
    is_known = pl.col("t_dat") < FIRST_DAY + timedelta(days=day)
    return replace(shop, transactions=shop.transactions.filter(is_known))


def test_a_processed_run_is_explored_and_published(lake: Lake, shop: ShopTables) -> None:
    manifest = explored(lake, "run-1", shop)
    assert set(manifest.files) == {"report.html", "statistics.json", "summary.json"}
    assert manifest.files["report.html"].key == "eda/run-1/report.html"
    assert read(lake, manifest, "summary.json")["figures"]["n_transactions"] == 540  # type: ignore[index]
    assert b"What customers bought" in lake.read_bytes(manifest.files["report.html"].key)


def test_the_same_data_are_explored_once(folder_lake: Lake, shop: ShopTables) -> None:
    first = explored(folder_lake, "run-1", shop)
    second = explored(folder_lake, "run-2", shop)
    assert second.produced_by == "run-1"
    assert second.files == first.files


def test_drift_is_measured_against_the_delivery_before(lake: Lake, shop: ShopTables) -> None:
    earlier = explored(lake, "night-1", shop_until(shop, 83))
    later = explored(lake, "night-2", shop)
    assert earlier.inputs["previous_statistics"] == ""
    assert later.inputs["previous_statistics"] == earlier.files["statistics.json"].sha256
    assert "previous_run" in read(lake, later, "summary.json")["psi"]  # type: ignore[operator]
    again = explored(lake, "night-3", shop)
    assert again.produced_by == "night-2"  # the same delivery is compared with the same one before


def test_a_delivery_that_nobody_explored_is_passed_over(folder_lake: Lake, shop: ShopTables) -> None:
    earliest = explored(folder_lake, "night-1", shop_until(shop, 76))
    shop_until(shop, 83).publish(folder_lake, "night-2")
    process(folder_lake, run_id="night-2")
    later = explored(folder_lake, "night-3", shop)
    assert later.inputs["previous_statistics"] == earliest.files["statistics.json"].sha256


def test_another_cutoff_is_another_report(folder_lake: Lake, shop: ShopTables) -> None:
    explored(folder_lake, "run-1", shop)
    moved = explored(folder_lake, "run-2", shop, cutoff_date="2020-03-11")
    assert moved.produced_by == "run-2"
    assert moved.facts["cutoff_date"] == "2020-03-11"


def test_without_process_the_error_names_the_step_to_run(folder_lake: Lake, shop: ShopTables) -> None:
    shop.publish(folder_lake, "run-1")
    with pytest.raises(ArtefactError, match=r"python -m pipelines\.steps\.process --run-id run-1"):
        eda(folder_lake, run_id="run-1")


def test_command_prints_its_facts_as_one_json_line(folder_lake: Lake, shop: ShopTables) -> None:
    explored(folder_lake, "run-1", shop)
    command = [sys.executable, "-m", "pipelines.steps.eda", "--lake", folder_lake.uri, "--run-id", "run-1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    assert json.loads(line)["n_transactions"] == 540
    assert '"event": "step_reused"' in done.stderr


def test_missing_run_exits_4_with_one_line(folder_lake: Lake) -> None:
    command = [sys.executable, "-m", "pipelines.steps.eda", "--lake", folder_lake.uri, "--run-id", "never"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 4
    assert done.stdout == ""
    assert "error: run 'never' has no finished ingest step" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_reused_step_imports_nothing_heavy(folder_lake: Lake, shop: ShopTables) -> None:
    explored(folder_lake, "run-1", shop)
    code = (
        "import sys; from pipelines.lake import open_lake; from pipelines.steps.eda import eda; "
        f"eda(open_lake({folder_lake.uri!r}), run_id='run-1'); "
        "print(sorted({'altair', 'pandas', 'polars', 'vl_convert'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr


def test_another_process_with_another_hash_seed_writes_the_same_bytes(folder_lake: Lake, shop: ShopTables) -> None:
    first = explored(folder_lake, "run-1", shop)
    command = [sys.executable, "-m", "pipelines.steps.eda", "--lake", folder_lake.uri, "--run-id", "run-1", "--force"]
    environment = os.environ | {"PYTHONHASHSEED": "1", "TZ": "Pacific/Auckland", "LC_ALL": "C"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == 0, done.stderr
    assert read_manifest(folder_lake, "eda", "run-1").files == first.files
