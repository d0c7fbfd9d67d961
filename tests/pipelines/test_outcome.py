import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pipelines.lake import Lake, open_lake
from pipelines.outcome import Outcome, champion_since, collect, promotion, summary
from pipelines.registry.champion import CHAMPION_KEY
from pipelines.steps.step import run_step

TRAIN_FACTS = {
    "bundle_version": "2020-09-16-ab12",
    "bundle": "registry/bundles/2020-09-16-ab12",
    "promoted": False,
    "reasons": ["below the threshold"],
    "metrics": {"map_at_12": 0.0301, "recall_at_100": 0.2},
    "baselines": {"popularity": {"map_at_12": 0.0081}, "repurchase": {"map_at_12": 0.0242}},
    "cutoff_date": "2020-09-16",
}


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return open_lake(str(tmp_path / "lake"))


def publish(lake: Lake, step: str, run_id: str, facts: dict[str, Any]) -> None:
    """Let a step write a report and state its facts."""

    def work(folder: Path) -> dict[str, Any]:
        (folder / "report.html").write_text("<p>sales</p>")
        return facts

    run_step(lake, step=step, run_id=run_id, parameters={}, inputs={}, code=["pipelines.errors"], work=work)


def test_outcome_holds_what_the_steps_published(lake: Lake) -> None:
    publish(lake, "process", "run-1", {"cutoff_date": "2020-09-16"})
    publish(lake, "eda", "run-1", {})
    publish(lake, "train", "run-1", TRAIN_FACTS)
    outcome = json.loads(collect(lake, "run-1", "Succeeded", seconds={"train": 3.5}).model_dump_json())
    assert outcome["run_id"] == "run-1"
    assert outcome["status"] == "Succeeded"
    assert outcome["seconds"] == {"train": 3.5}
    assert outcome["bundle"] == f"{lake.uri}/registry/bundles/2020-09-16-ab12"
    assert Path(outcome["report"]).read_text() == "<p>sales</p>"
    assert Path(outcome["eda_report"]).is_relative_to(Path(lake.uri) / "eda/run-1")
    for name in ("bundle_version", "promoted", "metrics", "baselines", "cutoff_date", "reasons"):
        assert outcome[name] == TRAIN_FACTS[name]


def test_report_of_reused_work_is_where_that_work_left_it(lake: Lake) -> None:
    publish(lake, "train", "run-1", TRAIN_FACTS)
    publish(lake, "train", "run-2", TRAIN_FACTS)
    assert collect(lake, "run-2", "Succeeded").report == f"{lake.uri}/artifacts/run-1/report.html"


def test_failed_run_tells_as_much_as_there_is(lake: Lake) -> None:
    publish(lake, "process", "run-1", {"cutoff_date": "2020-09-16"})
    outcome = collect(lake, "run-1", "Failed", failed_step="train")
    assert outcome.cutoff_date == "2020-09-16"
    assert outcome.report is None
    assert outcome.metrics == {}


def test_metric_that_is_not_a_number_becomes_null() -> None:
    line = Outcome(run_id="run-1", status="Succeeded", metrics={"map_at_12": float("nan")}).model_dump_json()
    assert json.loads(line)["metrics"] == {"map_at_12": None}


def test_summary_puts_the_metric_beside_the_baselines(lake: Lake) -> None:
    publish(lake, "train", "run-1", TRAIN_FACTS)
    lines = summary(collect(lake, "run-1", "Succeeded")).splitlines()
    assert "map_at_12 0.03010 beside popularity 0.00810, repurchase 0.02420 in the label week" in lines
    assert f"bundle    {lake.uri}/registry/bundles/2020-09-16-ab12 (not promoted)" in lines
    assert "          below the threshold" in lines


def test_summary_says_how_many_rows_were_rejected_and_where_they_are(lake: Lake) -> None:
    def work(folder: Path) -> dict[str, Any]:
        (folder / "quarantine").mkdir()
        (folder / "quarantine/rejected.csv").write_text("file,line\n")
        return {"n_rejected": 1200}

    run_step(lake, step="ingest", run_id="run-1", parameters={}, inputs={}, code=["pipelines.errors"], work=work)
    where = f"{lake.uri}/raw/run-1/quarantine/rejected.csv"
    assert f"rejected  1,200 rows, each with its reason in {where}" in summary(collect(lake, "run-1", "Failed"))


def test_summary_does_not_mention_rows_when_none_was_rejected(lake: Lake) -> None:
    publish(lake, "ingest", "run-1", {"n_rejected": 0})
    assert "rejected" not in summary(collect(lake, "run-1", "Succeeded"))


@pytest.mark.parametrize(
    ("promoted", "champion", "words"),
    [
        (True, "v2", "promoted"),
        (True, "v3", "promoted when it was trained; now the champion is v3"),
        (True, None, "promoted when it was trained; now there is no champion"),
        (False, "v1", "not promoted"),
        (False, None, "not promoted"),
        (False, "v2", "not promoted when it was trained; now it is the champion"),
    ],
)
def test_reused_work_says_who_answers_now(promoted: bool, champion: str | None, words: str) -> None:
    outcome = Outcome(run_id="r", status="Succeeded", bundle_version="v2", promoted=promoted, champion=champion)
    assert promotion(outcome) == words


def test_a_champion_that_cannot_be_read_leaves_the_rest_of_the_outcome(lake: Lake) -> None:
    publish(lake, "train", "run-1", TRAIN_FACTS)
    assert collect(lake, "run-1", "Succeeded").champion is None
    lake.write_bytes(
        CHAMPION_KEY, json.dumps({"version": "2020-09-16-ab12", "path": "bundles/2020-09-16-ab12"}).encode()
    )
    assert collect(lake, "run-1", "Succeeded").champion == "2020-09-16-ab12"
    lake.write_bytes(CHAMPION_KEY, b"{half")
    outcome = collect(lake, "run-1", "Succeeded")
    assert (outcome.champion, outcome.bundle_version) == (None, "2020-09-16-ab12")


def test_a_champion_that_was_moved_during_a_run_is_named(folder_lake: Lake) -> None:
    start = datetime(2026, 1, 5, 2, 30, tzinfo=UTC)
    assert champion_since(folder_lake, start) is None
    champion = {"version": "v2", "number": 2, "action": "promote", "previous": "v1"}
    for moved_at, version in (("2026-01-05T02:20:00+00:00", None), ("2026-01-05T02:40:00+00:00", "v2"), (None, None)):
        text = json.dumps(champion | {"promoted_at": moved_at})
        folder_lake.write_bytes("registry/champion.json", text.encode())
        assert champion_since(folder_lake, start) == version
