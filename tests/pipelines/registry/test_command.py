"""`python -m pipelines.registry`: what it prints, and what it refuses."""

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipelines.errors import UsageError
from pipelines.lake import Lake
from pipelines.registry.__main__ import app
from pipelines.registry.champion import (
    current_user,
    read_audit,
)
from tests.pipelines.registry.registered import add, champion_of, move


def run(lake: Lake, *arguments: str) -> str:
    """Run the command in this process; what it raises is raised here."""
    result = CliRunner().invoke(app, [*arguments, "--lake", lake.uri], catch_exceptions=True)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def test_list_prints_whole_rows_with_the_newest_data_last(folder_lake: Lake, tmp_path: Path) -> None:
    long = "a-version-with-a-name-that-fits-in-no-column-of-a-narrow-terminal-" + 30 * "x"
    metrics = {"map_at_12": 0.0, "backtest_map_at_12": 0.125}
    facts = {"metrics": metrics, "baselines": {"popular": {"map_at_12": 0.25}}, "parent": "b"}
    add(folder_lake, tmp_path, long, facts=facts | {"trained_through": "2020-10-01"})
    add(folder_lake, tmp_path, "b", facts={"metrics": {}})
    move(folder_lake, "b")
    rows = [line for line in run(folder_lake, "list").splitlines() if "2020-" in line]
    cells = [[cell.strip() for cell in row.strip("│").split("│")] for row in rows]
    made = [datetime.strptime(row.pop(3) + "Z", "%Y-%m-%d %H:%M%z") for row in cells]
    assert all(timedelta(0) <= datetime.now(UTC) - when < timedelta(minutes=10) for when in made)
    assert cells == [
        ["champion", "b", "2020-09-22", "2020-09-16", "", "0.0000", "", ""],
        ["", long, "2020-10-01", "2020-09-16", "0.0000", "0.2500", "0.1250", "b"],
    ]


@pytest.mark.parametrize("command", [["list"], ["show"], ["rollback", "--reason", "why"], ["prune", "--keep", "1"]])
def test_a_mistyped_lake_is_no_empty_one(tmp_path: Path, command: list[str]) -> None:
    result = CliRunner().invoke(app, [*command, "--lake", str(tmp_path / "leak")])
    assert isinstance(result.exception, UsageError)
    assert f"there is no folder {tmp_path / 'leak'}" in str(result.exception)


@pytest.mark.parametrize(
    ("given", "meant"), [("shop/lake/registry/bundles", "shop/lake"), ("shop", "shop/lake"), ("elsewhere", None)]
)
def test_a_folder_that_is_no_lake_is_refused_with_the_lake_nearby(
    tmp_path: Path, given: str, meant: str | None
) -> None:
    for file in ("shop/lake/registry/bundles/v1/manifest.json", "shop/lake/raw/r/claim.json", "elsewhere/note.txt"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    result = CliRunner().invoke(app, ["list", "--lake", str(tmp_path / given)])
    mend = f"did you mean --lake {tmp_path / meant}?" if meant else "give the --lake that the runs were made with"
    assert str(result.exception).endswith(mend)


def test_a_lake_whose_first_run_ended_early_has_no_bundles(tmp_path: Path) -> None:
    (tmp_path / "raw" / "r").mkdir(parents=True)
    result = CliRunner().invoke(app, ["list", "--lake", str(tmp_path)])
    assert (result.exit_code, result.output) == (0, f"no bundles in {tmp_path}/registry\n")

    assert not (tmp_path / "leak").exists()


def test_list_of_an_empty_registry_says_where_it_looked(folder_lake: Lake) -> None:
    Path(folder_lake.uri).mkdir(exist_ok=True)
    assert run(folder_lake, "list") == f"no bundles in {folder_lake.uri}/registry\n"


def test_list_says_which_bundle_is_damaged_and_shows_the_others(stocked: Lake) -> None:
    stocked.write_bytes("registry/bundles/v2/manifest.json", b"{")
    result = CliRunner().invoke(app, ["list", "--lake", stocked.uri])
    assert result.exit_code == 0
    assert "left out: " in result.stderr
    assert "v2/manifest.json" in result.stderr
    assert "v1" in result.stdout
    assert "v3" in result.stdout


def test_show_prints_manifests_and_the_audit_as_json(stocked: Lake) -> None:
    assert json.loads(run(stocked, "show", "v2"))["version"] == "v2"
    assert run(stocked, "show", "champion").encode() == stocked.read_bytes("registry/bundles/v3/manifest.json")
    events = [json.loads(line) for line in run(stocked, "show").splitlines()]
    assert [event["to"] for event in events] == ["v1", "v2", "v3"]


def test_show_of_a_missing_champion_says_how_to_get_one(folder_lake: Lake) -> None:
    Path(folder_lake.uri).mkdir(exist_ok=True)
    with pytest.raises(UsageError, match=r"has no champion yet; run \S*python\S* -m pipelines.submit"):
        run(folder_lake, "show", "champion")


def test_promote_and_rollback_say_who_is_champion_now(stocked: Lake) -> None:
    assert run(stocked, "rollback", "--reason", "returns went up") == "champion is now v2\n"
    assert run(stocked, "promote", "v1", "--reason", "the old one") == "champion is now v1\n"
    assert [(event["why"], event["who"]) for event in read_audit(stocked)[3:]] == [
        ("returns went up", current_user()),
        ("the old one", current_user()),
    ]


def test_a_move_without_a_reason_is_refused(stocked: Lake) -> None:
    for given in ([], ["--reason", ""], ["--reason", "  "]):
        assert CliRunner().invoke(app, ["rollback", "--lake", stocked.uri, *given]).exit_code == 2
    assert champion_of(stocked) == "v3"


def test_errors_of_the_command_are_one_line_and_their_exit_code(stocked: Lake) -> None:
    command = [sys.executable, "-m", "pipelines.registry", "promote", "v9", "--reason", "-", "--lake", stocked.uri]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stderr == f"error: there is no bundle 'v9' in {stocked.uri}/registry; there are: v1, v2, v3\n"
