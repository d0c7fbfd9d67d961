"""Bundles: immutable versions, whole or invisible, whatever was killed."""

from pathlib import Path

import pytest

from pipelines.errors import ArtefactError, UsageError
from pipelines.lake import Lake
from pipelines.registry.bundles import (
    bound_parent,
    fetch_bundle,
    fetch_evaluated,
    list_versions,
    read_bundle_manifest,
    register,
)
from tests.pipelines.registry.registered import add, race, tamper


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


def test_different_bundles_racing_for_one_version_leave_one_whole_bundle(lake: Lake, tmp_path: Path) -> None:
    results = race([lambda best=best: add(lake, tmp_path, "v1", best=best) for best in range(4)])  # type: ignore[misc]
    assert [type(result) for result in results if result] == [UsageError] * 3
    won = results.index(None)
    fetch_bundle(lake, "v1", tmp_path / "copy")
    sealed = tmp_path / f"bundle-v1-{won}"
    assert all((tmp_path / "copy" / path.name).read_bytes() == path.read_bytes() for path in sealed.iterdir())


def test_a_tampered_evaluation_is_not_compared_with(stocked: Lake, tmp_path: Path) -> None:
    tamper(stocked, "registry/evaluations/v1/model.onnx")
    stocked.delete("registry/evaluations/v2/model.onnx")
    for version in ("v1", "v2", "v9"):
        with pytest.raises(ArtefactError, match=f"as it was evaluated is missing or damaged.*{version}"):
            fetch_evaluated(stocked, version, tmp_path)
