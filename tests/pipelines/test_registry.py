"""The registry: immutable versions, one winner of every race, and a rollback that goes back."""

import hashlib
import json
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from inference.manifest import Manifest
from inference.manifest import read_manifest as read_bundle
from pipelines.errors import ArtefactError, LakeConflict, PipelineError, UsageError
from pipelines.lake import Lake
from pipelines.registry.__main__ import app
from pipelines.registry.bundles import (
    bound_parent,
    fetch_bundle,
    fetch_evaluated,
    list_versions,
    read_bundle_manifest,
    register,
)
from pipelines.registry.champion import (
    CHAMPION_KEY,
    current_user,
    move_champion,
    promote,
    read_audit,
    read_champion,
    roll_back,
)
from tests.inference.tiny_bundle import write_bundle

NOW = datetime(2026, 1, 5, 2, 30, tzinfo=UTC)
BY_HAND = {"why": "looked at it", "who": "anna", "now": NOW}


def add(lake: Lake, folder: Path, version: str, *, best: int = 0, facts: dict[str, Any] | None = None) -> Manifest:
    """Register a small bundle that answers."""
    bundle = write_bundle(folder / f"bundle-{version}-{best}", version=version, best=best, facts=facts)
    evaluated = folder / f"evaluated-{version}-{best}"
    evaluated.mkdir()
    (evaluated / "model.onnx").write_bytes(f"model {version} {best}".encode())
    (evaluated / "article_ids.npy").write_bytes(b"ids")
    manifest = read_bundle(bundle)
    register(lake, bundle, manifest, evaluated)
    return manifest


def move(lake: Lake, version: str, why: str = "better") -> None:
    move_champion(lake, version, read_champion(lake), action="promote", why=why, who="anna", now=NOW)


def champion_of(lake: Lake) -> str | None:
    champion = read_champion(lake)
    return champion.version if champion else None


def tamper(lake: Lake, key: str) -> None:
    data = bytearray(lake.read_bytes(key))
    data[len(data) // 2] ^= 1
    lake.write_bytes(key, bytes(data))


@pytest.fixture
def stocked(folder_lake: Lake, tmp_path: Path) -> Lake:
    """A lake with v1, v2 and v3, all of them champion once, v3 now."""
    for number, version in enumerate(("v1", "v2", "v3")):
        add(folder_lake, tmp_path, version, best=number)
        move(folder_lake, version)
    return folder_lake


def test_a_registered_bundle_comes_back_whole(lake: Lake, tmp_path: Path) -> None:
    manifest = add(lake, tmp_path, "v1")
    assert list_versions(lake) == ["v1"]
    assert read_bundle_manifest(lake, "v1") == manifest
    assert fetch_bundle(lake, "v1", tmp_path / "copy") == manifest
    (tmp_path / "evaluated").mkdir()
    fetch_evaluated(lake, "v1", tmp_path / "evaluated")
    assert (tmp_path / "evaluated/model.onnx").read_bytes() == b"model v1 0"
    assert (tmp_path / "evaluated/article_ids.npy").read_bytes() == b"ids"


def test_the_same_bundle_is_registered_once(folder_lake: Lake, tmp_path: Path) -> None:
    manifest = add(folder_lake, tmp_path, "v1")
    before = folder_lake.sizes()
    assert register(folder_lake, tmp_path / "bundle-v1-0", manifest, tmp_path / "evaluated-v1-0") is False
    assert folder_lake.sizes() == before


def test_a_version_never_changes_its_content(lake: Lake, tmp_path: Path) -> None:
    add(lake, tmp_path, "v1", best=0)
    before = {key: lake.read_bytes(key) for key in lake.list("registry/")}
    with pytest.raises(UsageError, match=r"v1.*exists with other content, and versions are immutable; choose another"):
        add(lake, tmp_path, "v1", best=1)
    assert {key: lake.read_bytes(key) for key in lake.list("registry/")} == before


def test_an_unfinished_version_is_not_mixed_with_another_run(folder_lake: Lake, tmp_path: Path) -> None:
    add(folder_lake, tmp_path, "v1", best=0)
    folder_lake.delete("registry/bundles/v1/manifest.json")  # as a run leaves it that is killed before the end
    before = {key: folder_lake.read_bytes(key) for key in folder_lake.list("registry/")}
    with pytest.raises(UsageError, match="another run took the version 'v1' for other content"):
        add(folder_lake, tmp_path, "v1", best=1)
    assert {key: folder_lake.read_bytes(key) for key in folder_lake.list("registry/")} == before
    assert list_versions(folder_lake) == []
    add(folder_lake, tmp_path / "again", "v1", best=0)  # the killed run, run again
    fetch_bundle(folder_lake, "v1", tmp_path / "copy")


def test_a_killed_registration_ends_though_another_became_champion_meanwhile(folder_lake: Lake, tmp_path: Path) -> None:
    add(folder_lake, tmp_path, "v1", facts={"parent": "v0"})
    folder_lake.delete("registry/bundles/v1/manifest.json")
    assert bound_parent(folder_lake, "v1", "another") == "v0"
    assert bound_parent(folder_lake, "v2", "another") == "another"
    add(folder_lake, tmp_path / "again", "v1", facts={"parent": bound_parent(folder_lake, "v1", "another")})
    assert read_bundle_manifest(folder_lake, "v1").parent == "v0"


def test_a_damaged_manifest_is_written_again(folder_lake: Lake, tmp_path: Path) -> None:
    manifest = add(folder_lake, tmp_path, "v1", facts={"parent": "v0"})
    key = "registry/bundles/v1/manifest.json"
    folder_lake.write_bytes(key, folder_lake.read_bytes(key)[:100])
    assert bound_parent(folder_lake, "v1", "another") == "v0"
    add(folder_lake, tmp_path / "again", "v1", facts={"parent": "v0"})
    assert read_bundle_manifest(folder_lake, "v1") == manifest


def test_a_bundle_under_another_name_is_not_promoted(stocked: Lake) -> None:
    for key in stocked.list("registry/bundles/v1/"):
        stocked.write_bytes(key.replace("v1", "v9"), stocked.read_bytes(key))
    with pytest.raises(ArtefactError, match=r"bundles/v9/manifest\.json is the manifest of 'v1'"):
        promote(stocked, "v9", **BY_HAND)  # type: ignore[arg-type]
    assert champion_of(stocked) == "v3"


def race(racers: list[Callable[[], object]]) -> list[PipelineError | None]:
    """Start all at one moment; None is a win."""
    barrier = threading.Barrier(len(racers))
    results: list[PipelineError | None] = [None] * len(racers)

    def run(number: int) -> None:
        barrier.wait()
        try:
            racers[number]()
        except PipelineError as error:
            results[number] = error

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(racers))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_different_bundles_racing_for_one_version_leave_one_whole_bundle(lake: Lake, tmp_path: Path) -> None:
    results = race([lambda best=best: add(lake, tmp_path, "v1", best=best) for best in range(4)])  # type: ignore[misc]
    assert [type(result) for result in results if result] == [UsageError] * 3
    won = results.index(None)
    fetch_bundle(lake, "v1", tmp_path / "copy")
    sealed = tmp_path / f"bundle-v1-{won}"
    assert all((tmp_path / "copy" / path.name).read_bytes() == path.read_bytes() for path in sealed.iterdir())


@pytest.mark.parametrize("has_champion", [False, True])
def test_exactly_one_of_racing_promotions_wins(lake: Lake, has_champion: bool) -> None:
    if has_champion:
        move(lake, "v0")
    expected = read_champion(lake)

    def promotion(version: str) -> Callable[[], None]:
        return lambda: move_champion(lake, version, expected, action="promote", why="better", who=version, now=NOW)

    results = race([promotion(f"r{number}") for number in range(8)])
    assert [type(result) for result in results if result] == [LakeConflict] * 7
    winner = f"r{results.index(None)}"
    assert champion_of(lake) == winner
    assert [event["to"] for event in read_audit(lake)] == ["v0"] * has_champion + [winner]


RACER = """
import sys
from datetime import UTC, datetime, timedelta
from pipelines.errors import LakeConflict
from pipelines.lake import open_lake
from pipelines.registry.champion import move_champion, read_champion
lake = open_lake(sys.argv[1])
expected = read_champion(lake)
print("ready", flush=True)
sys.stdin.readline()
try:
    move_champion(lake, sys.argv[2], expected, action="promote", why="-", who="-", now=datetime.now(UTC))
except LakeConflict:
    sys.exit(75)
"""


def test_exactly_one_of_racing_processes_wins(folder_lake: Lake) -> None:
    move(folder_lake, "v0")
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, folder_lake.uri, f"r{number}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(3)
    ]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    for racer in racers:
        racer.communicate()
    codes = [racer.returncode for racer in racers]
    assert sorted(codes) == [0, 75, 75]
    assert champion_of(folder_lake) == f"r{codes.index(0)}"


@pytest.mark.parametrize("changed", ["version", "sha256", "metrics"])
def test_a_manifest_that_was_rewritten_since_is_not_promoted(folder_lake: Lake, tmp_path: Path, changed: str) -> None:
    add(folder_lake, tmp_path, "v1")
    key = "registry/bundles/v1/manifest.json"
    manifest = json.loads(folder_lake.read_bytes(key))
    if changed == "version":
        manifest["version"] = "v2"
    elif changed == "metrics":
        manifest["metrics"] = {"map_at_12": 0.4}
    else:  # another file with its own hash, as somebody would write who wants it served
        name = sorted(manifest["files"])[0]
        data = folder_lake.read_bytes(f"registry/bundles/v1/{name}") + b" "
        folder_lake.write_bytes(f"registry/bundles/v1/{name}", data)
        manifest["files"][name] = {"sha256": hashlib.sha256(data).hexdigest(), "size_bytes": len(data)}
    folder_lake.write_bytes(key, json.dumps(manifest).encode())
    with pytest.raises(ArtefactError, match="the manifest of bundle v1 is not the one that was registered"):
        promote(folder_lake, "v1", **BY_HAND)  # type: ignore[arg-type]
    listed = CliRunner().invoke(app, ["list", "--lake", folder_lake.uri])
    assert "left out: " in listed.stderr
    assert "v1" not in listed.stdout


def test_promotion_by_hand_verifies_and_is_noted(lake: Lake, tmp_path: Path) -> None:
    add(lake, tmp_path, "v1")
    promote(lake, "v1", **BY_HAND)  # type: ignore[arg-type]
    assert json.loads(lake.read_bytes(CHAMPION_KEY)) == {
        "version": "v1",
        "number": 1,
        "action": "promote",
        "previous": None,
        "who": "anna",
        "why": "looked at it",
        "promoted_at": "2026-01-05T02:30:00+00:00",
    }
    assert read_audit(lake) == [
        {
            "number": 1,
            "action": "promote",
            "from": None,
            "to": "v1",
            "who": "anna",
            "why": "looked at it",
            "when": "2026-01-05T02:30:00+00:00",
        }
    ]
    with pytest.raises(UsageError, match="v1 is the champion already"):
        promote(lake, "v1", **BY_HAND)  # type: ignore[arg-type]


@pytest.mark.parametrize("version", ["v9", "../v1", ""])
def test_an_unknown_version_is_refused_with_the_known_ones(stocked: Lake, version: str) -> None:
    with pytest.raises(UsageError, match=r"no bundle 'v9' in .*/registry; there are: v1, v2, v3|is no key of a lake"):
        promote(stocked, version, **BY_HAND)  # type: ignore[arg-type]
    assert champion_of(stocked) == "v3"


@pytest.mark.parametrize("name", ["model.onnx", "is_live.npy", "golden.json", "articles.jsonl", "manifest.json"])
def test_a_tampered_bundle_never_becomes_champion(stocked: Lake, name: str) -> None:
    tamper(stocked, f"registry/bundles/v2/{name}")
    before = stocked.read_bytes(CHAMPION_KEY)
    with pytest.raises(ArtefactError):
        promote(stocked, "v2", **BY_HAND)  # type: ignore[arg-type]
    with pytest.raises(ArtefactError):
        roll_back(stocked, **BY_HAND)  # type: ignore[arg-type]
    assert stocked.read_bytes(CHAMPION_KEY) == before
    assert len(read_audit(stocked)) == 3


def test_a_bundle_with_a_lost_file_never_becomes_champion(stocked: Lake) -> None:
    stocked.delete("registry/bundles/v2/customer_keys.npy")
    with pytest.raises(ArtefactError, match=r"customer_keys\.npy"):
        roll_back(stocked, **BY_HAND)  # type: ignore[arg-type]
    assert champion_of(stocked) == "v3"


def test_a_tampered_evaluation_is_not_compared_with(stocked: Lake, tmp_path: Path) -> None:
    tamper(stocked, "registry/evaluations/v1/model.onnx")
    stocked.delete("registry/evaluations/v2/model.onnx")
    for version in ("v1", "v2", "v9"):
        with pytest.raises(ArtefactError, match=f"as it was evaluated is missing or damaged.*{version}"):
            fetch_evaluated(stocked, version, tmp_path)


def test_rollbacks_go_back_one_champion_each_and_end_at_the_first(stocked: Lake) -> None:
    assert roll_back(stocked, **BY_HAND) == "v2"  # type: ignore[arg-type]
    assert roll_back(stocked, **BY_HAND) == "v1"  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="no earlier champion to go back to"):
        roll_back(stocked, **BY_HAND)  # type: ignore[arg-type]
    assert champion_of(stocked) == "v1"
    assert [(event["action"], event["from"], event["to"]) for event in read_audit(stocked)] == [
        ("promote", None, "v1"),
        ("promote", "v1", "v2"),
        ("promote", "v2", "v3"),
        ("rollback", "v3", "v2"),
        ("rollback", "v2", "v1"),
    ]


def test_a_promotion_after_a_rollback_goes_back_to_where_the_rollback_led(stocked: Lake, tmp_path: Path) -> None:
    roll_back(stocked, **BY_HAND)  # type: ignore[arg-type]
    add(stocked, tmp_path, "v4", best=4)
    promote(stocked, "v4", **BY_HAND)  # type: ignore[arg-type]
    assert roll_back(stocked, **BY_HAND) == "v2"  # type: ignore[arg-type]
    promote(stocked, "v1", **BY_HAND)  # type: ignore[arg-type]
    assert roll_back(stocked, **BY_HAND) == "v2"  # type: ignore[arg-type]
    assert roll_back(stocked, **BY_HAND) == "v1"  # type: ignore[arg-type]


def test_a_promotion_killed_before_its_audit_is_noted_by_the_next_move(stocked: Lake) -> None:
    last = stocked.list("registry/audit/")[-1]
    event = stocked.read_bytes(last)
    stocked.delete(last)
    assert roll_back(stocked, **BY_HAND) == "v2"  # type: ignore[arg-type]
    assert stocked.read_bytes(last) == event
    assert [event["number"] for event in read_audit(stocked)] == [1, 2, 3, 4]


def test_a_rollback_killed_before_its_audit_is_done_when_it_is_run_again(stocked: Lake) -> None:
    assert roll_back(stocked, **BY_HAND) == "v2"  # type: ignore[arg-type]
    last = stocked.list("registry/audit/")[-1]
    event = stocked.read_bytes(last)
    stocked.delete(last)
    assert roll_back(stocked, **BY_HAND) == "v2"  # type: ignore[arg-type]
    assert stocked.read_bytes(last) == event
    assert roll_back(stocked, **BY_HAND) == "v1"  # type: ignore[arg-type]


def test_a_promotion_killed_before_its_audit_is_noted_when_it_is_run_again(stocked: Lake) -> None:
    last = stocked.list("registry/audit/")[-1]
    event = stocked.read_bytes(last)
    stocked.delete(last)
    with pytest.raises(UsageError, match="v3 is the champion already"):
        promote(stocked, "v3", **BY_HAND)  # type: ignore[arg-type]
    assert stocked.read_bytes(last) == event


def test_a_registry_without_a_champion_has_nothing_to_roll_back(folder_lake: Lake) -> None:
    with pytest.raises(UsageError, match="no earlier champion"):
        roll_back(folder_lake, **BY_HAND)  # type: ignore[arg-type]


def test_the_audit_is_only_ever_added_to(stocked: Lake) -> None:
    seen: dict[str, bytes] = {}
    steps: list[Callable[[], object]] = [
        lambda: roll_back(stocked, **BY_HAND),  # type: ignore[arg-type]
        lambda: promote(stocked, "v3", **BY_HAND),  # type: ignore[arg-type]
        lambda: promote(stocked, "v1", **BY_HAND),  # type: ignore[arg-type]
        lambda: roll_back(stocked, **BY_HAND),  # type: ignore[arg-type]
    ]
    for step in steps:  # all at the same moment of the clock
        step()
        now = {key: stocked.read_bytes(key) for key in stocked.list("registry/audit/")}
        assert seen.items() <= now.items()
        assert len(now) == max(len(seen), 3) + 1
        seen = now


@pytest.mark.parametrize(
    "text",
    [b"", b"{", b"[]", b"null", b'"v3"', b'{"version": 3}', b'{"version": "../v1"}', b'{"name": "v3"}', b"\xff"]
    + [b'{"version": "v3", "number": %s}' % number for number in (b'"two"', b"null", b"-1", b"0.5")],
)
def test_a_damaged_pointer_is_said_and_mended_by_promote(stocked: Lake, text: bytes) -> None:
    stocked.write_bytes(CHAMPION_KEY, text)
    with pytest.raises(ArtefactError, match=r"champion\.json.*python -m pipelines\.registry promote VERSION --reason"):
        read_champion(stocked)
    with pytest.raises(ArtefactError):
        roll_back(stocked, **BY_HAND)  # type: ignore[arg-type]
    assert stocked.read_bytes(CHAMPION_KEY) == text
    promote(stocked, "v3", **BY_HAND)  # type: ignore[arg-type]
    assert champion_of(stocked) == "v3"
    assert [event["number"] for event in read_audit(stocked)] == [1, 2, 3, 4]
    assert roll_back(stocked, **BY_HAND) == "v2"  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text",
    [
        b"{",
        b"[]",
        b'{"number": 1}',
        b'{"number": "x", "action": "promote", "to": "v1"}',
        b'{"number": Infinity, "action": "promote", "to": "v1"}',
    ],
)
def test_a_damaged_audit_is_said(stocked: Lake, text: bytes) -> None:
    key = stocked.list("registry/audit/")[1]
    stocked.write_bytes(key, text)
    with pytest.raises(ArtefactError, match=r"000002-v2\.json is no event of the audit"):
        roll_back(stocked, **BY_HAND)  # type: ignore[arg-type]
    assert champion_of(stocked) == "v3"


def test_numbers_written_as_text_are_in_order_too(stocked: Lake) -> None:
    key = stocked.list("registry/audit/")[1]
    stocked.write_bytes(key, stocked.read_bytes(key).replace(b'"number": 2', b'"number": "2"'))
    assert [event["number"] for event in read_audit(stocked)] == [1, 2, 3]


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


def test_a_user_without_a_name_is_noted_by_number(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.getuid", lambda: 4_000_123)
    assert current_user().startswith("uid 4000123@")


def test_a_workflow_is_noted_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARGO_WORKFLOW_NAME", "ml-training-daily-x7")
    assert current_user() == "workflow ml-training-daily-x7"
