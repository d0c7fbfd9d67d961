"""The champion: one winner of every race, a rollback that goes back, an audit that is only added to."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipelines.errors import ArtefactError, LakeConflict, UsageError
from pipelines.lake import Lake
from pipelines.registry.__main__ import app
from pipelines.registry.champion import (
    CHAMPION_KEY,
    current_user,
    move_champion,
    promote,
    read_audit,
    read_champion,
    roll_back,
)
from tests.pipelines.registry.registered import BY_HAND, NOW, add, champion_of, move, race, tamper


def test_a_bundle_under_another_name_is_not_promoted(stocked: Lake) -> None:
    for key in stocked.list("registry/bundles/v1/"):
        stocked.write_bytes(key.replace("v1", "v9"), stocked.read_bytes(key))
    with pytest.raises(ArtefactError, match=r"bundles/v9/manifest\.json is the manifest of 'v1'"):
        promote(stocked, "v9", **BY_HAND)  # type: ignore[arg-type]
    assert champion_of(stocked) == "v3"


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


def test_a_user_without_a_name_is_noted_by_number(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.getuid", lambda: 4_000_123)
    assert current_user().startswith("uid 4000123@")


def test_a_workflow_is_noted_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARGO_WORKFLOW_NAME", "ml-training-daily-x7")
    assert current_user() == "workflow ml-training-daily-x7"
