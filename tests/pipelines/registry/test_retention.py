"""Retention: what is in use stays, the rest goes whole, and a kill at any moment leaves nothing half."""

import json
import re
import subprocess
import sys
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from pipelines.errors import ArtefactError, LakeConflict, UsageError
from pipelines.lake import Lake
from pipelines.registry.__main__ import app
from pipelines.registry.bundles import check_answers, list_versions
from pipelines.registry.champion import CHAMPION_KEY, move_champion, promote, read_audit, read_champion, roll_back
from pipelines.registry.retention import plan, prune
from tests.pipelines.registry.registered import NOW, add

LATER = NOW + timedelta(days=200)  # the moves at NOW are no longer in the audit's window
BY = {"why": "storage", "who": "anna"}


def move(lake: Lake, version: str, now: datetime = NOW) -> None:
    move_champion(lake, version, read_champion(lake), action="promote", why="better", who="anna", now=now)


@pytest.fixture
def line(folder_lake: Lake, tmp_path: Path) -> Lake:
    """Nights n1 to n8, each newer data; n1, n3 and n4 were promoted, each with the champion of its night as parent."""
    for night in range(1, 9):
        add_night(folder_lake, tmp_path, night)
        if night in (1, 3, 4):
            move(folder_lake, f"n{night}")
    return folder_lake


def add_night(lake: Lake, folder: Path, night: int) -> None:
    parent = {1: None, 2: "n1", 3: "n1", 4: "n3"}.get(night, "n4")
    add(lake, folder, f"n{night}", best=night, facts={"parent": parent, "trained_through": f"2020-10-{night:02d}"})


def leftovers(lake: Lake, version: str) -> list[str]:
    folders = (f"registry/bundles/{version}/", f"registry/evaluations/{version}/", f"registry/contents/{version}.json")
    return [key for key in lake.list("registry/") if key.startswith(folders)]


def test_the_champion_its_line_and_the_newest_stay(line: Lake) -> None:
    followed = {one.version: one.reasons for one in prune(line, keep=2, now=LATER, **BY)}
    assert list(followed) == ["n8", "n7", "n6", "n5", "n4", "n3", "n2", "n1"]
    assert followed == {
        "n8": ("among the newest 2",),
        "n7": ("among the newest 2",),
        "n6": (),
        "n5": (),
        "n4": ("the champion",),
        "n3": ("parent of n4", "a rollback leads to it"),
        "n2": (),
        "n1": ("parent of n3",),
    }
    assert list_versions(line) == ["n1", "n3", "n4", "n7", "n8"]
    for gone in ("n2", "n5", "n6"):
        assert leftovers(line, gone) == []
    for kept in list_versions(line):
        check_answers(line, kept)
    assert roll_back(line, why="-", who="anna", now=LATER) == "n3"


def test_what_the_audit_names_lately_stays(line: Lake, tmp_path: Path) -> None:
    add_night(line, tmp_path, 9)
    move(line, "n2", now=LATER - timedelta(days=30))
    move(line, "n9", now=LATER - timedelta(days=20))
    kept = {one.version: one.reasons for one in plan(line, keep=1, audit_days=25, now=LATER)}
    assert kept["n2"] == ("a rollback leads to it", f"in the audit of {LATER - timedelta(days=20):%Y-%m-%d}")
    assert kept["n9"][:2] == ("among the newest 1", "the champion")
    assert kept["n5"] == ()
    kept = {one.version: one.reasons for one in plan(line, keep=1, audit_days=31, now=LATER)}
    assert f"in the audit of {LATER - timedelta(days=30):%Y-%m-%d}" in kept["n2"]


def test_of_the_same_data_the_bundles_made_last_stay(lake: Lake, tmp_path: Path) -> None:
    made = ("20201001-c", "20201001-a", "20201001-b")
    for number, version in enumerate(made):
        add(lake, tmp_path, version, best=number, facts={"trained_through": "2020-10-01"})
        time.sleep(1.1)  # S3 tells whole seconds
    listed = CliRunner().invoke(app, ["list", "--lake", lake.uri]).stdout
    assert re.findall(r"20201001-\w", listed) == list(made)
    assert [one.version for one in plan(lake, keep=1, audit_days=0, now=LATER)] == list(reversed(made))
    prune(lake, keep=2, now=LATER, **BY)
    assert list_versions(lake) == ["20201001-a", "20201001-b"]


def test_a_reason_is_said_once(line: Lake) -> None:
    for version in ("n2", "n4", "n2", "n4", "n2"):
        move(line, version)
    kept = {one.version: one.reasons for one in plan(line, keep=1, audit_days=90, now=NOW)}
    assert kept["n4"] == ("a rollback leads to it", f"in the audit of {NOW:%Y-%m-%d}")


def test_a_dry_run_deletes_nothing(line: Lake) -> None:
    before = line.sizes()
    result = CliRunner().invoke(app, ["prune", "--keep", "2", "--audit-days", "0", "--dry-run", "--lake", line.uri])
    assert result.exit_code == 0, result.output
    assert line.sizes() == before
    lines = result.stdout.splitlines()
    assert [text.split()[0] for text in lines if text.endswith("  would go")] == ["n6", "n5", "n2"]
    assert lines[-1].startswith("3 of 8 bundles would go, ")


def test_the_command_deletes_and_keeps_who_when_and_why(line: Lake) -> None:
    arguments = ["prune", "--keep", "2", "--audit-days", "0", "--reason", "disk", "--lake", line.uri]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[-1].startswith("3 of 8 bundles deleted, ")
    note = json.loads(line.read_bytes("registry/pruned/n5.json"))
    assert (note["version"], note["why"], note["is_finished"]) == ("n5", "disk", True)
    assert note["who"]
    assert datetime.fromisoformat(note["when"]).tzinfo is not None
    again = CliRunner().invoke(app, arguments)
    assert again.stdout.splitlines()[-1] == "0 of 5 bundles deleted, 0.0 MiB"


@pytest.mark.parametrize("deletions_before_death", [0, 1, 2, 12, 20])
def test_a_deletion_killed_at_any_moment_leaves_no_half_bundle(
    line: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deletions_before_death: int
) -> None:
    class Killed(BaseException):
        pass

    done, delete = 0, type(line).delete

    def dying(self: Any, key: str) -> None:
        nonlocal done
        if done == deletions_before_death:
            raise Killed
        done += 1
        delete(self, key)

    with monkeypatch.context() as patch:
        patch.setattr(type(line), "delete", dying)
        with pytest.raises(Killed):
            prune(line, keep=2, now=LATER, **BY)
    for version in list_versions(line):
        check_answers(line, version)  # whatever is listed is whole
    gone = {"n2", "n5", "n6"} - set(list_versions(line))
    for version in gone:  # trained once more meanwhile: the same name, the same content
        add_night(line, tmp_path / "again", int(version[1:]))
        check_answers(line, version)
    prune(line, keep=2, now=LATER, **BY)
    assert list_versions(line) == ["n1", "n3", "n4", "n7", "n8"]
    assert [leftovers(line, version) for version in ("n2", "n5", "n6")] == [[], [], []]


def test_a_bundle_promoted_after_a_killed_announcement_stays(line: Lake) -> None:
    line.write_bytes("registry/pruned/n5.json", b'{"version": "n5", "is_finished": false}')
    promote(line, "n5", why="best", who="anna", now=LATER)
    prune(line, keep=1, now=LATER, **BY)
    check_answers(line, "n5")
    assert not line.exists("registry/pruned/n5.json")


@pytest.mark.parametrize("has_champion", [True, False])
def test_a_bundle_that_a_prune_is_about_to_delete_does_not_become_champion(line: Lake, has_champion: bool) -> None:
    if not has_champion:
        line.delete("registry/champion.json")
    before = read_champion(line)
    note = {"version": "n5", "is_finished": False, "when": LATER.isoformat()}
    line.write_bytes("registry/pruned/n5.json", json.dumps(note).encode())
    with pytest.raises(LakeConflict, match="bundle n5 is being deleted by a prune"):
        promote(line, "n5", why="best", who="anna", now=LATER)
    after = read_champion(line)
    assert (after and after.move) == (before and before.move)
    assert read_audit(line)[-1]["to"] != "n5"
    promote(line, "n5", why="the prune was killed", who="anna", now=LATER + timedelta(hours=2))


def test_of_a_promotion_and_a_prune_at_once_one_gives_way(line: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipelines.registry import retention

    announce, before = retention.announce, read_champion(line)

    def promoting(lake: Lake, note: dict[str, Any]) -> None:
        if note["version"] == "n5":  # planned to go, and promoted before that is announced
            promote(lake, "n5", why="best", who="ben", now=LATER)
        announce(lake, note)
        if note["version"] == "n2":  # announced already
            with pytest.raises(LakeConflict, match="n2 is being deleted by a prune"):
                promote(lake, "n2", why="best", who="ben", now=LATER)

    monkeypatch.setattr(retention, "announce", promoting)
    prune(line, keep=2, now=LATER, **BY)
    champion = read_champion(line)
    assert (before and before.version, champion and champion.version) == ("n4", "n5")
    assert list_versions(line) == ["n1", "n3", "n4", "n5", "n7", "n8"]
    check_answers(line, "n5")


def test_a_bundle_that_cannot_be_read_stays_for_people_to_judge(line: Lake) -> None:
    line.write_bytes("registry/bundles/n5/manifest.json", b"{")
    followed = {one.version: one.reasons for one in prune(line, keep=2, now=LATER, **BY)}
    assert followed["n5"][0].startswith("not readable (")
    assert leftovers(line, "n5")


def test_a_lost_pointer_deletes_nothing(line: Lake) -> None:
    line.delete(CHAMPION_KEY)
    with pytest.raises(ArtefactError, match="the audit names n4 as the champion: nothing is deleted"):
        prune(line, keep=1, now=LATER, **BY)
    assert len(list_versions(line)) == 8


def test_without_a_champion_the_newest_stay(lake: Lake, tmp_path: Path) -> None:
    for night in (1, 2):
        add_night(lake, tmp_path, night)
    prune(lake, keep=1, now=LATER, **BY)
    assert list_versions(lake) == ["n2"]


@pytest.mark.parametrize(("arguments", "message"), [({"keep": 0}, "--keep 0"), ({"audit_days": -1}, "--audit-days -1")])
def test_what_would_leave_nothing_is_refused(line: Lake, arguments: dict[str, int], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        prune(line, now=LATER, **({"keep": 1} | arguments), **BY)  # type: ignore[arg-type]
    assert len(list_versions(line)) == 8


def test_a_damaged_note_is_said(line: Lake) -> None:
    line.write_bytes("registry/pruned/n5.json", b"{")
    with pytest.raises(ArtefactError, match=r"n5\.json is no note of a deletion.*delete it"):
        prune(line, keep=2, now=LATER, **BY)


def test_the_module_prints_one_line_for_a_usage_error(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pipelines.registry", "prune", "--keep", "0", "--lake", str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr.splitlines()) == (
        2,
        ["error: --keep 0 would leave no bundle to go back to; keep at least 1"],
    )
