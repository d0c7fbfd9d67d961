"""The train step on a real lake: a small shop, a first champion, and a challenger whose run is killed twice."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from inference.bundle import load_bundle
from inference.engine import Engine, Request
from pipelines.errors import ArtefactError, DataGateError, UsageError
from pipelines.lake import Lake, open_lake
from pipelines.recommender.baselines import BASELINES
from pipelines.recommender.hyperparameters import Hyperparameters, parse_hyperparameters
from pipelines.recommender.workers import Workers
from pipelines.registry.bundles import fetch_bundle, list_versions, read_bundle_manifest
from pipelines.registry.champion import read_audit, read_champion
from pipelines.steps.challenge import LOST_RACE
from pipelines.steps.ingest import IngestRequest, ingest
from pipelines.steps.process import process
from pipelines.steps.step import StepManifest
from pipelines.steps.train import train
from pipelines.steps.training_run import check_ceilings, open_trainer
from tests.pipelines.data.kaggle_folder import CUSTOMERS, KaggleFolder, purchase

NOW = datetime(2026, 1, 5, 2, 30, tzinfo=UTC)
FIRST = '{"threads": 1, "max_epochs": 4, "training_weeks": 4}'
CHANGED = '{"threads": 1, "max_epochs": 3, "training_weeks": 4, "hidden": 8, "ablation": false}'
LENIENT = -1.0  # METRIC_THRESHOLD under which any challenger that beats the baselines is promoted
KILLED = -signal.SIGKILL

# Trains the challenger; is killed when a file whose path holds argv[2] is about to appear.
CHALLENGER = f"""
import os, signal, sys
from datetime import datetime
from pipelines.lake import open_lake
from pipelines.logs import configure_logging
from pipelines.steps.train import train
def hook(event, arguments):
    if event == "os.rename" and sys.argv[2] and sys.argv[2] in str(arguments[1]):
        os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(hook)
configure_logging("info")
train(open_lake(sys.argv[1]), run_id="r2", hyperparameters={CHANGED!r}, metric_threshold={LENIENT}, git_commit="abc",
      who="tests", clock=lambda: datetime.fromisoformat({NOW.isoformat()!r}))
"""


@contextmanager
def challenger(lake: Lake, dies_at: str = "") -> Iterator["subprocess.Popen[str]"]:
    with subprocess.Popen(
        [sys.executable, "-c", CHALLENGER, lake.uri, dies_at], stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@dataclass(frozen=True)
class Trained:
    lake: Lake
    first: StepManifest
    second: StepManifest
    before_first_kill: dict[str, bytes]
    after_first_kill: dict[str, bytes]
    after_second_kill: dict[str, bytes]
    checkpoints_of_first_kill: list[str]
    log_of_second: str


def train_here(lake: Lake, run_id: str, hyperparameters: str, **changed: Any) -> StepManifest:
    return train(
        lake,
        run_id=run_id,
        hyperparameters=hyperparameters,
        git_commit="abc",
        who="tests",
        clock=lambda: NOW,
        **changed,
    )


def contents(lake: Lake) -> dict[str, bytes]:
    return {key: lake.read_bytes(key) for key in lake.list() if key.startswith(("artifacts/", "registry/", "index/"))}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Train r1, then r2 with other hyperparameters: killed while fitting, killed at its end, then finished."""
    lake = open_lake(str(tmp_path_factory.mktemp("lake")))
    for run_id in ("r1", "r2"):
        ingest(lake, IngestRequest(run_id=run_id, source="synthetic://?customers=600&seed=7"), now=NOW)
        process(
            lake, run_id=run_id, horizon_days=28
        )  # a week of so small a shop has too few buyers to tell models apart
    first = train_here(lake, "r1", FIRST)
    before = contents(lake)
    with challenger(lake) as running:
        assert running.stderr is not None
        assert any('"epoch": 2,' in line for line in running.stderr)
        running.kill()
    assert running.returncode == KILLED
    after_first = contents(lake)
    checkpoints = lake.list("checkpoints/")
    with challenger(lake, dies_at="artifacts/r2/manifest.json") as running:
        assert running.stderr is not None
        log = running.stderr.read()
    assert running.returncode == KILLED, log[-3000:]
    after_second = contents(lake)
    second = train_here(lake, "r2", CHANGED, metric_threshold=LENIENT)
    return Trained(lake, first, second, before, after_first, after_second, checkpoints, log)


@pytest.fixture(scope="module")
def engine(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Engine:
    """The first champion, as a server would load it from the registry."""
    folder = tmp_path_factory.mktemp("bundle")
    fetch_bundle(trained.lake, trained.first.facts["bundle_version"], folder)
    return Engine(load_bundle(folder))


def metrics_of(trained: Trained, manifest: StepManifest) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(trained.lake.read_bytes(manifest.files["metrics.json"].key))
    return document


def test_the_first_model_beats_the_baselines_and_becomes_champion(trained: Trained) -> None:
    facts = trained.first.facts
    assert facts["promoted"] is True
    assert facts["reasons"][-1].startswith("no champion to beat: ")
    assert set(facts["baselines"]) == set(BASELINES)
    for baseline in facts["baselines"].values():
        assert facts["metrics"]["map_at_12"] > baseline["map_at_12"]
    assert facts["cutoff_date"] == "2020-08-26"
    assert facts["bundle"] == f"registry/bundles/{facts['bundle_version']}"


def test_the_bundle_says_from_what_it_was_made(trained: Trained) -> None:
    manifest = read_bundle_manifest(trained.lake, trained.first.facts["bundle_version"])
    assert manifest.version.startswith("20200922-")
    assert (str(manifest.cutoff_date), str(manifest.trained_through)) == ("2020-08-26", "2020-09-22")
    assert manifest.git_commit == "abc"
    assert manifest.parent is None
    settled = {"max_history": 64, "n_candidates": 256}  # by the data
    assert manifest.parameters == parse_hyperparameters(FIRST).model_dump() | settled
    assert manifest.metrics == trained.first.facts["metrics"]
    assert manifest.baselines == trained.first.facts["baselines"]
    assert manifest.parity is not None
    assert manifest.parity.top_12_overlap >= 0.995
    assert set(manifest.inputs) == {"processed", "raw"}
    assert manifest.source == {"uri": "synthetic://?customers=600&seed=7", "kind": "synthetic", "files": {}}
    for name, (low, high) in manifest.intervals.items():
        assert low <= (manifest.metrics[name] or 0.0) <= high
    assert set(manifest.intervals) == set(manifest.metrics) - {"catalogue_coverage", "n_customers"}


def test_the_certificate_tells_what_the_evaluated_model_served(trained: Trained) -> None:
    parity = read_bundle_manifest(trained.lake, trained.first.facts["bundle_version"]).parity
    assert parity is not None
    certificate = parity.model_dump()
    assert certificate["n_label_customers"] == trained.first.facts["metrics"]["n_customers"]
    # Served answers, torch's and the evaluation, which keeps features in half precision, agree.
    expected = pytest.approx(trained.first.facts["metrics"]["map_at_12"], rel=0.02)
    assert certificate["map_at_12_served"] == expected
    assert certificate["map_at_12_torch"] == expected


def test_the_ablation_is_measured_unless_it_is_not_wanted(trained: Trained) -> None:
    table = metrics_of(trained, trained.first)["ablation"]
    assert table["n_customers"]["label_week"] == trained.first.facts["metrics"]["n_customers"]
    assert "repurchase" in [row["signal"] for row in table["groups"]]
    assert "ablation" not in metrics_of(trained, trained.second)


def test_what_an_answer_costs_is_measured_apart_from_training(trained: Trained) -> None:
    cost = metrics_of(trained, trained.first)["serving_cost"]
    assert 0 < cost["ms_per_answer"] <= cost["ms_per_answer_p99"]
    assert 0 < cost["rss_mib"] < 400  # torch alone would take more
    assert cost["bundle_mib"] > 0


def test_what_changed_for_the_same_fifty_customers_is_told(trained: Trained) -> None:
    assert "changes" not in metrics_of(trained, trained.first)  # there was no champion yet
    changes = metrics_of(trained, trained.second)["changes"]
    assert changes["since"] == trained.first.facts["bundle_version"]
    assert len(changes["customers"]) == 50
    for one in changes["customers"]:
        before, after = ({article["article_id"] for article in one[side]} for side in ("before", "after"))
        assert (len(before), len(after), len(before & after)) == (12, 12, one["overlap"])
        assert all(article["name"] for article in one["before"] + one["after"])


def test_the_registered_bundle_answers_through_the_serving_engine(engine: Engine) -> None:
    known = [case["request"]["customer_id"] for case in engine.bundle.read_golden()]
    article = engine.bundle.article_ids[0].decode()
    requests = [Request(customer_id=customer_id) for customer_id in known]
    requests += [Request(), Request(customer_id="nobody", top_k=100), Request(article_ids=[article], top_k=100)]
    answers = engine.recommend_batch(requests)
    assert [len(set(answer.article_ids)) for answer in answers] == [request.top_k for request in requests]
    assert {answer.source for answer in answers} == {"personal", "segment", "popular"}
    assert engine.certify() == 1.0


def test_a_killed_fit_leaves_nothing_behind(trained: Trained) -> None:
    assert trained.after_first_kill == trained.before_first_kill


def test_a_killed_fit_goes_on_from_its_checkpoint_and_leaves_none(trained: Trained) -> None:
    folder = f"checkpoints/{trained.second.fingerprint}"
    assert f"{folder}/stopping-before-707.pt" in trained.checkpoints_of_first_kill
    assert '"event": "checkpoint_found"' in trained.log_of_second
    assert '"epoch": 3' in trained.log_of_second
    assert trained.lake.list("checkpoints/") == []


def test_a_rerun_after_a_late_kill_ends_with_the_same_bytes(trained: Trained) -> None:
    """The second killed process had done all but its manifest; another process did the whole work again."""
    now, before = contents(trained.lake), trained.after_second_kill
    assert now.items() >= before.items()
    version = trained.second.facts["bundle_version"]
    ends = ("artifacts/r2/manifest.json", f"index/train/{trained.second.fingerprint}.json")
    new = sorted(now.keys() - before.keys() - set(ends))
    # Milliseconds are those of the moment, and nothing else differs: no published file is ever written over.
    assert {key.rsplit("/", 1)[1] for key in new} <= {"metrics.json", "report.html"}
    assert all(key.startswith("artifacts/r2/") for key in new)
    measured = [metrics_of(trained, trained.second), json.loads(before["artifacts/r2/metrics.json"])]
    clocks = [document.pop("serving_cost") for document in measured]
    assert measured[0] == measured[1]
    assert clocks[0].keys() == clocks[1].keys()
    killed = [key for key in before if key not in trained.before_first_kill]
    assert f"registry/bundles/{version}/model.onnx" in killed
    assert f"registry/evaluations/{version}/model.onnx" in killed
    assert "artifacts/r2/metrics.json" in killed


def test_nothing_is_left_in_scratch(trained: Trained) -> None:
    scratch = Path(trained.lake.uri) / ".scratch"
    with trained.lake.scratch() as own:
        assert [path for path in scratch.iterdir() if path.is_dir() and path != own] == []


def test_the_challenger_is_held_against_the_champion_that_it_met(trained: Trained) -> None:
    first, second = (run.facts["bundle_version"] for run in (trained.first, trained.second))
    assert second != first
    assert second in list_versions(trained.lake)
    assert read_bundle_manifest(trained.lake, second).parent == first
    champion = metrics_of(trained, trained.second)["champion"]
    assert (champion["version"], champion["days_behind"]) == (first, 0)
    # The same label week and the same customers: the champion scores what it scored as a challenger.
    assert champion["map_at_12"] == pytest.approx(trained.first.facts["metrics"]["map_at_12"], abs=1e-6)
    assert any(f"champion {first}" in reason for reason in trained.second.facts["reasons"][2:])


def test_each_promotion_is_noted_once(trained: Trained) -> None:
    first, second = (run.facts["bundle_version"] for run in (trained.first, trained.second))
    assert trained.second.facts["promoted"] is True
    champion = read_champion(trained.lake)
    assert champion is not None
    assert champion.version == second
    moves = [(event["from"], event["to"], event["who"]) for event in read_audit(trained.lake)]
    assert moves == [(None, first, "tests"), (first, second, "tests")]


def test_measurements_are_kept_for_people(trained: Trained) -> None:
    document = metrics_of(trained, trained.first)
    assert document["metrics"]["model"]["map_at_12"]["mean"] == trained.first.facts["metrics"]["map_at_12"]
    assert len(document["curve"]) == 4
    assert document["horizon_days"] == 28
    assert document["examples"]
    for example in document["examples"]:
        assert len({article["article_id"] for article in example["recommended"]}) == 12
        assert len(example["customer"]) == 9  # the beginning of an id: a report lists no customers


def test_finished_training_is_recognised_without_torch(trained: Trained) -> None:
    program = (
        "import json, sys; from datetime import UTC, datetime; from pipelines.lake import open_lake\n"
        "from pipelines.logs import configure_logging\n"
        "from pipelines.steps.train import train\n"
        "configure_logging('warning')\n"
        f"manifest = train(open_lake({trained.lake.uri!r}), run_id='r1', hyperparameters={FIRST!r}, who='-', "
        "clock=lambda: datetime.now(UTC))\n"
        "print(json.dumps([manifest.facts, 'torch' in sys.modules]))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert json.loads(result.stdout) == [trained.first.facts, False]


def test_the_command_prints_the_facts_as_one_line(trained: Trained) -> None:
    command = [sys.executable, "-m", "pipelines.steps.train", "--run-id", "r1", "--lake", trained.lake.uri]
    command += ["--hyperparameters", FIRST, "--model-version", ""]  # empty = default
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert [json.loads(line) for line in result.stdout.splitlines()] == [trained.first.facts]


def test_a_threshold_that_is_no_number_is_refused(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METRIC_THRESHOLD", "high")
    command = [sys.executable, "-m", "pipelines.steps.train", "--run-id", "r1", "--lake", trained.lake.uri]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stderr.startswith("error: METRIC_THRESHOLD = 'high' is not a number")


def test_a_backtest_longer_than_the_data_is_refused_before_the_work(trained: Trained) -> None:
    with pytest.raises(UsageError, match=r"backtest 500 reaches before the data: 707 days .* give at most 22"):
        train_here(trained.lake, "r1", FIRST, backtest=500)


def test_no_evaluated_week_has_a_say_in_what_the_data_settles(folder_lake: Lake, tmp_path: Path) -> None:
    def settled(run_id: str, *absurd: str) -> list[Hyperparameters]:
        days = [date(2020, 1, 1) + timedelta(days=number) for number in range(70)]
        calm = [purchase(str(day), f"c{number}") for day in days for number in range(10)]
        customers = [CUSTOMERS[0], *(f"c{number},,,ACTIVE,NONE,30.0,x" for number in range(10))]
        shop = KaggleFolder(purchases=[*calm, *absurd], customers=customers).write(tmp_path / run_id)
        ingest(folder_lake, IngestRequest(run_id=run_id, source=str(shop)), now=NOW)
        processed = process(folder_lake, run_id=run_id, cutoff_date="2020-03-04", accepted_gates=["volume_explosion"])
        found = []
        for backtest in (0, 1, 2):
            with folder_lake.scratch() as scratch:
                knobs = parse_hyperparameters("{}")
                trainer, _, _ = open_trainer(folder_lake, processed, knobs, scratch, Workers(), backtest=backtest)
                found.append(trainer.hyperparameters)
        return found

    calm = settled("calm")
    absurd = [purchase("2020-02-20", f"c{number}") for number in range(10) for _ in range(400)]
    assert settled("label-week", *(row.replace("02-20", "03-05") for row in absurd)) == calm
    seen = settled("backtested-week", *absurd)
    assert [one == other for one, other in zip(seen, calm, strict=True)] == [False, False, True]


def test_a_run_without_processed_data_says_what_to_run_first(folder_lake: Lake) -> None:
    with pytest.raises(ArtefactError, match=r"r9.*process"):
        train_here(folder_lake, "r9", "{}")


@pytest.mark.parametrize("version", ["../v1", "a b", "champion", "x" * 101, "-v1"])
def test_a_version_that_names_no_bundle_is_refused_before_the_work(folder_lake: Lake, version: str) -> None:
    with pytest.raises(UsageError, match="cannot name a bundle; use at most 100 letters"):
        train_here(folder_lake, "r1", "{}", model_version=version)


def test_a_negative_backtest_is_refused(folder_lake: Lake) -> None:
    with pytest.raises(UsageError, match="backtest must be 0 or more weekly cutoffs, got -1"):
        train_here(folder_lake, "r1", "{}", backtest=-1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"hidden": true}', "hidden = True: Input should be a valid integer"),
        ('{"threads": "2"}', "threads = '2': Input should be a valid integer"),
        ('{"ablation": "no"}', "ablation = 'no': Input should be a valid boolean"),
        ('{"hidden": 8, "seed": 1, "hidden": 16}', "hyperparameters names 'hidden' more than once; keep one"),
        ("{", "hyperparameters is not JSON: Expecting property name"),
        ("[1]", r"hyperparameters must be a JSON object such as .* got '\[1\]'"),
        ("7", "hyperparameters must be a JSON object"),
        ('{"learning_rat": 0.1}', "'learning_rat' is not a hyperparameter; did you mean 'learning_rate'?"),
        ('{"zzz": 1}', "'zzz' is not a hyperparameter$"),
        ('{"hidden": "many"}', "hidden = 'many': Input should be a valid integer"),
        ('{"hidden": 1.5}', "hidden = 1.5: Input should be a valid integer"),
        ('{"dropout": 1}', "dropout = 1: Input should be less than 1"),
        ('{"weight_decay": Infinity}', "weight_decay = inf: Input should be a finite number"),
        ('{"learning_rate": NaN}', "learning_rate = nan: Input should be a finite number"),
        (
            '{"max_history": 200, "n_candidates": 256}',
            r"hyperparameters: n_candidates = 256 must be at least 100 \+ max_history = 300",
        ),
    ],
)
def test_bad_hyperparameters_are_named(folder_lake: Lake, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        train_here(folder_lake, "r1", text)


def test_a_metric_too_good_to_be_true_stops_the_run_and_registers_nothing(
    trained: Trained,
) -> None:
    before = contents(trained.lake)
    quick = '{"threads": 1, "max_epochs": 1, "training_weeks": 3, "ablation": false}'
    with pytest.raises(DataGateError, match=r"map_at_12 0\.\d+ in the week from \S+ is above 0\.001: too good"):
        train_here(trained.lake, "r1", quick, metric_ceiling=0.001)
    assert contents(trained.lake) == before


def week_scored(day: int, map_at_12: float, n_customers: int) -> Any:
    """What the ceiling looks at of an evaluated week of a large shop."""
    return SimpleNamespace(
        n_live=10_000,
        week=SimpleNamespace(day=day, customers_N=np.arange(n_customers)),
        model=SimpleNamespace(average_precision_N=np.full(n_customers, map_at_12)),
    )


def test_a_leak_into_a_backtested_week_stops_the_run_too() -> None:
    newest = week_scored(70, 0.03, 500)
    with pytest.raises(DataGateError, match=r"map_at_12 0\.9000 in the week from 2020-01-05 is above 0\.5"):
        check_ceilings([newest, week_scored(63, 0.02, 500), week_scored(56, 0.9, 30)], 0.5, date(2019, 11, 10))
    check_ceilings([newest, week_scored(56, 0.9, 29)], 0.5, date(2019, 11, 10))  # of so few it may be luck


@pytest.mark.parametrize("ceiling", [0.0, -1.0, 1.01, float("nan")])
def test_a_ceiling_that_is_none_is_refused(trained: Trained, ceiling: float) -> None:
    with pytest.raises(UsageError, match="metric-ceiling must be above 0 and at most 1"):
        train_here(trained.lake, "r1", FIRST, metric_ceiling=ceiling)


def test_a_look_back_is_not_held_against_a_champion_that_was_fitted_on_its_label_week(trained: Trained) -> None:
    champion = read_champion(trained.lake)
    assert champion is not None
    ingest(trained.lake, IngestRequest(run_id="r3", source="synthetic://?customers=600&seed=7"), now=NOW)
    process(trained.lake, run_id="r3", horizon_days=28, cutoff_date="2020-07-28")
    looked_back = train_here(trained.lake, "r3", '{"max_epochs": 1, "training_weeks": 3, "ablation": false}')
    assert looked_back.facts["promoted"] is False
    assert looked_back.facts["reasons"][-1].startswith(
        f"champion {champion.version} was evaluated from 2020-08-26, so it was fitted on the label week from 2020-07-28"
    )
    assert "champion" not in metrics_of(trained, looked_back)
    assert read_champion(trained.lake) == champion


def test_a_decision_that_lost_a_race_is_made_again(trained: Trained, tmp_path: Path) -> None:
    lake = open_lake(str(tmp_path / "copy"))
    for key in trained.lake.list():
        lake.write_bytes(key, trained.lake.read_bytes(key))
    key = "artifacts/r2/manifest.json"
    manifest = json.loads(lake.read_bytes(key))
    manifest["facts"]["reasons"].append(f"{LOST_RACE} to v9 meanwhile; run again to be compared with it")
    lake.write_bytes(key, json.dumps(manifest).encode())
    again = train_here(lake, "r2", CHANGED, metric_threshold=LENIENT)
    assert again.facts["reasons"]
    assert not any(reason.startswith(LOST_RACE) for reason in again.facts["reasons"])


@pytest.mark.parametrize("damage", ["flipped", "missing"])
def test_a_bundle_that_was_damaged_since_is_made_again(trained: Trained, tmp_path: Path, damage: str) -> None:
    lake = open_lake(str(tmp_path / "copy"))
    for key in trained.lake.list():
        lake.write_bytes(key, trained.lake.read_bytes(key))
    key = f"{trained.second.facts['bundle']}/model.onnx"
    sound = lake.read_bytes(key)
    lake.delete(key)
    if damage == "flipped":
        lake.write_bytes(key, sound[:1000] + bytes([sound[1000] ^ 1]) + sound[1001:])
    again = train_here(lake, "r2", CHANGED, metric_threshold=LENIENT)
    assert again.facts["bundle"] == trained.second.facts["bundle"]
    assert lake.read_bytes(key) == sound
