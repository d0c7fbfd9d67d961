"""Several training processes: the same description as one, and quality that differs by no more than chance."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import structlog

from pipelines.lake import Lake, open_lake
from pipelines.logs import configure_logging
from pipelines.recommender.label_week import BATCH, build_label_week
from pipelines.recommender.shop import INPUT_FILES, read_shop
from pipelines.recommender.tables import build_tables
from pipelines.recommender.training import Trainer
from pipelines.recommender.workers import Workers
from pipelines.registry.bundles import list_versions
from pipelines.registry.champion import read_audit
from pipelines.steps.ingest import IngestRequest, ingest
from pipelines.steps.process import process
from pipelines.steps.step import read_manifest
from tests.pipelines.recommender.small_shop import KNOBS, random_shop

NOW = datetime(2026, 1, 5, 2, 30, tzinfo=UTC)
DAY = 56
KNOBS_OF_RUN = KNOBS.model_copy(update={"training_weeks": 3})


@pytest.mark.parametrize("size", [1, 2, 3, 7])
@pytest.mark.parametrize("n", [0, 1, BATCH, 5 * BATCH + 3])
def test_shares_are_whole_batches_that_cover_everyone_once(size: int, n: int) -> None:
    shares = [list(range(n))[Workers(rank, size).share(n, BATCH)] for rank in range(size)]
    assert list(chain.from_iterable(shares)) == list(range(n))
    assert all(len(share) % BATCH == 0 for share in shares if share and share[-1] != n - 1)


def test_together_workers_describe_a_week_as_one_does_to_the_bit() -> None:
    shop = random_shop()
    tables = build_tables(shop.interactions, shop.catalogue, shop.segments, DAY, KNOBS)
    whole, *parts = (
        build_label_week(shop.interactions, tables, shop.segments, 7, KNOBS, max_customers=30, workers=workers)
        for workers in (None, Workers(0, 2), Workers(1, 2))
    )
    assert [len(part.customers_N) for part in parts] == [16, 14]
    for name in ("customers_N", "n_bought_N", "idle_days_N", "candidates_RC", "features_RCF", "is_bought_RC"):
        together = np.concatenate([getattr(part, name) for part in parts])
        assert together.tobytes() == getattr(whole, name).tobytes(), name


@dataclass(frozen=True)
class Trained:
    lake: Lake
    metrics: dict[str, float]
    events: list[dict[str, Any]]


@pytest.fixture(scope="module")
def trained_by_two(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    lake = open_lake(str(tmp_path_factory.mktemp("lake")))
    ingest(lake, IngestRequest(run_id="r", source="synthetic://?customers=300&seed=7"), now=NOW)
    process(lake, run_id="r", horizon_days=28)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "pipelines.steps.train"]
    result = subprocess.run(
        [*command, "--run-id", "r", "--lake", lake.uri, "--hyperparameters", KNOBS_OF_RUN.model_dump_json()],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path.cwd())},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-20_000:]
    (facts,) = (json.loads(line) for line in result.stdout.splitlines())  # of the one writer
    events = [json.loads(line) for line in result.stderr.splitlines() if line.startswith("{")]
    return Trained(lake, facts["metrics"], events)


def test_two_processes_find_the_same_candidates_as_one_and_rank_them_as_well(trained_by_two: Trained) -> None:
    manifest = read_manifest(trained_by_two.lake, "process", "r")
    with trained_by_two.lake.scratch() as scratch:
        files = {name: trained_by_two.lake.fetch(manifest.files[name], scratch) for name in INPUT_FILES}
        shop, split = read_shop(files)
    trainer = Trainer(shop.interactions, shop.catalogue, shop.segments, 28, KNOBS_OF_RUN)
    configure_logging("info")
    with structlog.testing.capture_logs() as events_of_one:
        alone = trainer.evaluate_at(split["cutoff_day"])

    def described(events: Sequence[Mapping[str, Any]]) -> set[tuple[int, ...]]:
        found = (event for event in events if event["event"] == "label_week_described")
        return {(e["day"], e["n_customers"], e["n_described"]) for e in found if e["day"] < split["cutoff_day"]}

    assert described(trained_by_two.events) == described(events_of_one)
    assert trained_by_two.metrics["n_customers"] == len(alone.model.customers_N) == 57
    # Other batches give other weights; the mean of 57 customers is known to about 0.03.
    assert trained_by_two.metrics["map_at_12"] == pytest.approx(alone.model.average_precision_N.mean(), abs=0.02)


def test_one_of_the_processes_publishes(trained_by_two: Trained) -> None:
    assert sum(event["event"] == "step_finished" for event in trained_by_two.events) == 1
    assert len(list_versions(trained_by_two.lake)) == 1
    assert len(read_audit(trained_by_two.lake)) <= 1
    assert trained_by_two.lake.list("checkpoints/") == []


ALONE = """
import os
from pipelines.edge import run_app
from pipelines.recommender.workers import joined

def main():
    with joined() as workers:
        workers.sum(1.0)
        if workers.rank == 1:
            os._exit(9)
        workers.sum(1.0)

run_app(main)
"""


def test_who_is_left_alone_says_so_in_one_line() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    environ = {**os.environ, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    left, died = (
        subprocess.Popen(
            [sys.executable, "-c", ALONE], env={**environ, "RANK": str(rank)}, stderr=subprocess.PIPE, text=True
        )
        for rank in range(2)
    )
    _, said = left.communicate(timeout=120)
    died.communicate(timeout=120)
    assert (left.returncode, died.returncode) == (75, 9)
    assert "error: another of the 2 processes ended or did not answer" in said
    assert "the same command again goes on from the last checkpoint" in said
    assert "Traceback" not in said
