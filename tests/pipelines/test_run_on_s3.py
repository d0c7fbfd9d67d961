"""The whole pipeline with its lake on a real S3 server, as a user starts it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.lake import open_lake

# The smallest training that is still one: what is tested here is where everything ends up.
HYPERPARAMETERS = {"max_epochs": 1, "training_weeks": 2, "training_customers": 100, "hidden": 4, "n_candidates": 200}


@pytest.mark.s3
def test_whole_run_reads_and_writes_only_the_bucket(s3_bucket: str, tmp_path: Path) -> None:
    lake_uri = f"s3://{s3_bucket}/shop"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pipelines.submit", "--local", "--json"),
            *("--source", "synthetic://?customers=200&seed=7", "--lake", lake_uri),
            *("-p", f"hyperparameters={json.dumps(HYPERPARAMETERS)}"),
        ],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    outcome = json.loads(done.stdout.splitlines()[-1])
    assert outcome["status"] == "Succeeded"
    assert set(outcome["seconds"]) == {"ingest", "process", "eda", "train"}

    lake = open_lake(lake_uri)
    for uri in (outcome["eda_report"], f"{outcome['bundle']}/manifest.json"):
        assert lake.exists(uri.removeprefix(f"{lake_uri}/")), uri
    run_id = outcome["run_id"]
    assert list(lake.list(f"runs/{run_id}/")) == [
        *(f"runs/{run_id}/logs/{step}.log" for step in ("eda", "ingest", "process", "train")),
        f"runs/{run_id}/run.json",
    ]
    assert [path.name for path in tmp_path.iterdir()] == [".runs"]  # the logs, as they grew
