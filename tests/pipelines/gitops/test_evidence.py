import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from inference.manifest import read_manifest
from pipelines.gitops.evidence import champion_evidence
from pipelines.lake import Lake
from pipelines.registry.bundles import register
from pipelines.registry.champion import move_champion, read_champion
from tests.inference.tiny_bundle import write_bundle

NOW = datetime(2026, 1, 5, 2, 30, tzinfo=UTC)


def interval(mean: float, low: float, high: float) -> dict[str, float]:
    return {"mean": mean, "low": low, "high": high, "n": 131}


def article(article_id: str, name: str | None) -> dict[str, Any]:
    return {"article_id": article_id, "name": name, "product_type": None, "colour": None}


# What training leaves in artifacts/RUN/metrics.json, as far as it is read here.
MEASURED: dict[str, Any] = {
    "metrics": {
        "model": {"map_at_12": interval(0.0689, 0.0429, 0.0991), "recall_at_12": interval(0.12, 0.08, 0.17)},
        "repurchase_popularity": {"map_at_12": interval(0.0304, 0.01, 0.05)},
    },
    "slices": {
        "warm": {
            "n": 100,
            "map_at_12": {"model": 0.08, "repurchase_popularity": 0.04},
            "differences": {"repurchase_popularity": interval(0.04, -0.01, 0.09)},
        }
    },
    "changes": {
        "since": "v1",
        "customers": [
            {
                "customer": "2cdfe6a7…",
                "overlap": 1,
                "before": [article("01", "Vest"), article("02", "Sock")],
                "after": [article("01", "Vest"), article("03", "Hat | red")],
            },
            {
                "customer": "9d8c7b6a…",
                "overlap": 1,
                "before": [article("01", "Vest")],
                "after": [article("01", "Vest")],
            },
        ],
    },
}


@pytest.fixture
def champions(folder_lake: Lake, tmp_path: Path) -> Lake:
    """Give a lake whose champion is v2, after v1."""
    (tmp_path / "evaluated").mkdir()
    (tmp_path / "evaluated/model.onnx").write_bytes(b"model")
    for number, version in enumerate(("v1", "v2")):
        folder = write_bundle(tmp_path / version, version=version, best=number)
        register(folder_lake, folder, read_manifest(folder), tmp_path / "evaluated")
        before = read_champion(folder_lake)
        move_champion(folder_lake, version, before, action="promote", why="better beyond the noise", who="x", now=NOW)
    return folder_lake


def test_evidence_has_metrics_slices_and_what_changes_for_customers(champions: Lake) -> None:
    for run, version in (("run-1", "v1"), ("run-2", "v2")):
        document = MEASURED | {"bundle": {"version": version}}
        champions.write_bytes(f"artifacts/{run}/metrics.json", json.dumps(document).encode())
    lines = champion_evidence(champions).splitlines()
    assert lines[0] == "Champion `v2`: better beyond the noise."
    assert "Evaluated by run `run-2`." in lines
    assert "| map_at_12 | 0.0689 [0.0429, 0.0991] | 0.0304 [0.0100, 0.0500] |" in lines
    assert "| recall_at_12 | 0.1200 [0.0800, 0.1700] |  |" in lines
    assert "| warm | 100 | 0.0800 | 0.0400 | +0.0400 [-0.0100, +0.0900] |" in lines
    kept = "Against `v1`, 67% of the recommendations of 2 fixed customers stay. Those who change most:"
    assert lines[lines.index(kept) + 2 :][:3] == [
        "| customer | kept | new | gone |",
        "| --- | --- | --- | --- |",
        "| 2cdfe6a7… | 1 of 2 | Hat / red | Sock |",
    ]


def test_a_first_champion_has_nothing_to_compare_with(champions: Lake) -> None:
    document = MEASURED | {"bundle": {"version": "v2"}, "changes": None}
    champions.write_bytes("artifacts/run-1/metrics.json", json.dumps(document).encode())
    assert "there are no recommendations to compare with" in champion_evidence(champions)


def test_a_run_that_has_left_the_lake_leaves_no_tables(champions: Lake) -> None:
    assert champion_evidence(champions).splitlines()[2] == "The run that trained it has left the lake: no tables."


def test_a_lake_without_champion_says_so(folder_lake: Lake) -> None:
    assert champion_evidence(folder_lake).endswith("has no champion yet.")
