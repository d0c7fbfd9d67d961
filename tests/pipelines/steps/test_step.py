"""A step is worked on once, and its readers see all of it or nothing; on a folder and on a real S3 server."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipelines.errors import ArtefactError, DataGateError, LakeDamaged, UsageError
from pipelines.lake import Lake
from pipelines.steps.step import StepManifest, read_manifest, run_step


class Work:
    """Write some files and count how often that was asked for."""

    def __init__(self, files: dict[str, str] | None = None, facts: dict[str, Any] | None = None) -> None:
        self.files = {"a.txt": "A", "week=2020-09-14/part.txt": "B"} if files is None else files
        self.facts = {"n_rows": 2} if facts is None else facts
        self.n_calls = 0

    def __call__(self, folder: Path) -> dict[str, Any]:
        self.n_calls += 1
        assert list(folder.iterdir()) == []
        for name, text in self.files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
        return self.facts


def run(lake: Lake, work: Callable[[Path], dict[str, Any]], **changes: Any) -> StepManifest:
    given: dict[str, Any] = {
        "step": "ingest",
        "run_id": "r1",
        "parameters": {"source": "folder"},
        "inputs": {},
        "code": ["pipelines.errors"],
    }
    return run_step(lake, work=work, **(given | changes))


def texts(lake: Lake, manifest: StepManifest) -> dict[str, str]:
    with lake.scratch() as scratch:
        return {name: lake.fetch(entry, scratch).read_text() for name, entry in manifest.files.items()}


def test_files_facts_and_manifest_are_published(lake: Lake) -> None:
    work = Work()
    manifest = run(lake, work, inputs={"raw": "0" * 64})
    assert manifest == read_manifest(lake, "ingest", "r1")
    assert texts(lake, manifest) == work.files
    assert manifest.files["a.txt"].key == "raw/r1/a.txt"
    assert manifest.facts == {"n_rows": 2}
    assert (manifest.produced_by, manifest.inputs) == ("r1", {"raw": "0" * 64})


def test_the_same_run_again_does_no_work(lake: Lake) -> None:
    work = Work()
    first = run(lake, work)
    assert run(lake, work) == first
    assert work.n_calls == 1


def test_another_run_refers_to_the_work_that_is_done(lake: Lake) -> None:
    work = Work()
    first = run(lake, work)
    second = run(lake, work, run_id="r2")
    assert work.n_calls == 1
    assert (second.run_id, second.produced_by) == ("r2", "r1")
    assert second.files == first.files
    assert second.content_sha256 == first.content_sha256
    assert read_manifest(lake, "ingest", "r2") == second
    assert lake.list("raw/r2/") == ["raw/r2/manifest.json"]
    assert run(lake, work, run_id="r3").produced_by == "r1"  # not r2, which did nothing


@pytest.mark.parametrize(
    "change",
    [
        {"parameters": {"source": "other"}},
        {"parameters": {"source": "folder", "more": 1}},
        {"inputs": {"raw": "1" * 64}},
        {"code": ["pipelines.logs"]},
        {"libraries": ["polars"]},
        {"step": "process"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_other_inputs_parameters_or_code_are_other_work(folder_lake: Lake, change: dict[str, Any]) -> None:
    work = Work()
    run(folder_lake, work)
    assert run(folder_lake, work, run_id="r2", **change).produced_by == "r2"
    assert work.n_calls == 2


def test_the_order_of_parameters_makes_no_difference(folder_lake: Lake) -> None:
    work = Work()
    run(folder_lake, work, parameters={"a": 1, "b": (1, 2)})
    run(folder_lake, work, parameters={"b": [1, 2], "a": 1})
    assert work.n_calls == 1


def test_force_works_again(lake: Lake) -> None:
    work = Work()
    first = run(lake, work)
    assert run(lake, work, force=True) == first
    assert work.n_calls == 2


def test_lost_files_are_made_again_where_they_were(lake: Lake) -> None:
    work = Work()
    first = run(lake, work)
    run(lake, work, run_id="r2")
    lake.delete("raw/r1/a.txt")
    assert run(lake, work) == first
    assert work.n_calls == 2
    assert texts(lake, read_manifest(lake, "ingest", "r2")) == work.files  # who refers to them is healed too


def test_a_cut_off_file_is_made_again(lake: Lake) -> None:
    work = Work(files={"a.txt": "long content"})
    run(lake, work)
    lake.write_bytes("raw/r1/a.txt", b"long")
    assert texts(lake, run(lake, work)) == work.files


def test_a_damaged_file_is_found_by_its_reader_and_mended_as_the_message_says(lake: Lake) -> None:
    work = Work()
    first = run(lake, work)
    lake.write_bytes("raw/r1/a.txt", b"X")
    with pytest.raises(
        LakeDamaged, match=r"raw/r1/a\.txt has sha256 .*; delete it and run the step that wrote it again"
    ):
        texts(lake, first)
    lake.delete("raw/r1/a.txt")
    assert texts(lake, run(lake, work)) == work.files


def test_without_its_index_a_run_still_knows_its_own_work(lake: Lake) -> None:
    work = Work()
    first = run(lake, work)
    for key in lake.list("index/"):
        lake.delete(key)
    assert run(lake, work) == first
    assert work.n_calls == 1


def test_a_damaged_index_costs_work_and_nothing_else(lake: Lake) -> None:
    work = Work()
    run(lake, work)
    (index,) = lake.list("index/")
    lake.write_bytes(index, b'{"half')
    assert run(lake, work, run_id="r2").produced_by == "r2"
    assert run(lake, work, run_id="r3").produced_by == "r2"


def test_changed_work_under_the_same_run_id_overwrites_no_file_that_others_read(lake: Lake) -> None:
    old, new = Work(files={"a.txt": "old"}), Work(files={"a.txt": "new"})
    first = run(lake, old)
    other = run(lake, old, run_id="r2")
    second = run(lake, new, parameters={"source": "other"})
    assert read_manifest(lake, "ingest", "r1") == second
    assert texts(lake, second) == {"a.txt": "new"}
    assert texts(lake, first) == texts(lake, other) == {"a.txt": "old"}
    assert second.files["a.txt"].key.startswith("raw/r1/")
    again = run(lake, old)  # and back: the old files are there
    assert (old.n_calls, texts(lake, again)) == (1, {"a.txt": "old"})


def test_failed_work_leaves_nothing(lake: Lake) -> None:
    def work(folder: Path) -> dict[str, Any]:
        (folder / "half.txt").write_text("x")
        raise DataGateError("too few rows")

    with pytest.raises(DataGateError, match="too few rows"):
        run(lake, work)
    assert lake.list() == []
    with pytest.raises(ArtefactError, match="no finished ingest step"):
        read_manifest(lake, "ingest", "r1")


@pytest.mark.parametrize("name", ["manifest.json", "claim.json"])
def test_names_of_the_step_itself_are_refused(folder_lake: Lake, name: str) -> None:
    with pytest.raises(ArtefactError, match=f"the step wrote '{name}'"):
        run(folder_lake, Work(files={name: "{}"}))
    assert folder_lake.list() == []


@pytest.mark.parametrize("target", ["/etc/passwd", "/etc"], ids=["file", "folder"])
def test_links_are_refused(folder_lake: Lake, target: str) -> None:
    def work(folder: Path) -> dict[str, Any]:
        (folder / "link").symlink_to(target)
        return {}

    with pytest.raises(ArtefactError, match="the step wrote 'link', which is a link"):
        run(folder_lake, work)
    assert folder_lake.list() == []


@pytest.mark.parametrize("facts", [{"share": float("nan")}, {"day": object()}], ids=["nan", "object"])
def test_facts_that_are_not_json_are_a_bug_that_publishes_nothing(folder_lake: Lake, facts: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError)):
        run(folder_lake, Work(facts=facts))
    assert folder_lake.list() == []


def test_facts_read_are_the_facts_returned(folder_lake: Lake) -> None:
    manifest = run(folder_lake, Work(facts={"by_rule": {1: 2}, "span": ("a", "b"), "share": 0.1}))
    assert manifest.facts == {"by_rule": {"1": 2}, "span": ["a", "b"], "share": 0.1}
    assert read_manifest(folder_lake, "ingest", "r1") == manifest


@pytest.mark.parametrize("run_id", ["", "../r", "a/b", ".hidden", "a b", "x" * 129])
def test_run_ids_are_names(folder_lake: Lake, run_id: str) -> None:
    with pytest.raises(UsageError, match="run-id"):
        run(folder_lake, Work(), run_id=run_id)


def test_unknown_steps_are_answered_with_the_known_ones(folder_lake: Lake) -> None:
    with pytest.raises(UsageError, match="no step 'training'; steps are ingest, process, eda, train"):
        run(folder_lake, Work(), step="training")


def test_a_missing_manifest_says_which_step_to_run(lake: Lake) -> None:
    with pytest.raises(
        ArtefactError, match=r"first run: \S*python\S* -m pipelines\.steps\.process --run-id r1$"
    ) as caught:
        read_manifest(lake, "process", "r1")
    assert caught.value.exit_code == 4


def test_a_manifest_changed_by_hand_is_refused(folder_lake: Lake) -> None:
    run(folder_lake, Work())
    document = json.loads(folder_lake.read_bytes("raw/r1/manifest.json"))
    document["facts"]["n_rows"] = 3
    folder_lake.write_bytes("raw/r1/manifest.json", json.dumps(document).encode())
    with pytest.raises(ArtefactError, match=r"raw/r1/manifest\.json was changed by hand or damaged"):
        read_manifest(folder_lake, "ingest", "r1")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is no valid manifest"),
        ("[]", "is no valid manifest"),
        ('{"facts": ', "is no valid manifest"),
        ('{"content_sha256": "x", "step": "ingest"}', "is no valid manifest: run_id: field required"),
    ],
    ids=["empty", "list", "cut off", "fields missing"],
)
def test_a_damaged_manifest_is_refused_with_its_address(folder_lake: Lake, text: str, reason: str) -> None:
    folder_lake.write_bytes("raw/r1/manifest.json", text.encode())
    with pytest.raises(ArtefactError, match=reason) as caught:
        read_manifest(folder_lake, "ingest", "r1")
    assert folder_lake.uri_of("raw/r1/manifest.json") in str(caught.value)
