"""What a challenger is held against, from a registry that may be old, damaged, or of another shop."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inference.bundle import customer_key
from inference.manifest import Manifest, read_manifest
from pipelines.edge import this_python
from pipelines.lake import Lake
from pipelines.registry.bundles import register
from pipelines.registry.champion import Champion
from pipelines.steps.challenge import changes, days_behind, held_against, objection
from tests.inference.tiny_bundle import customer_id, write_bundle

IDS = [f"{number:010d}" for number in range(40)]
KEYS = np.array([customer_key(customer_id(number)) for number in range(2, 9)], dtype=np.uint64)
"""Of the champion's two customers, one is there still."""
REAL = {"kind": "folder", "uri": "./purchases"}
MADE_UP = {"kind": "synthetic", "uri": "synthetic://?customers=2000&seed=7"}


NEXT_WEEK = {"cutoff_date": "2020-09-23", "trained_through": "2020-09-29"}


def bundle(folder: Path, version: str, source: dict[str, Any], **facts: Any) -> Manifest:
    facts = {"source": source, "cutoff_date": "2020-09-16", **facts}
    return read_manifest(write_bundle(folder / version, version=version, facts=facts))


def champion(lake: Lake, folder: Path, source: dict[str, Any], article_ids: list[str] = IDS) -> Champion:
    """Register v1 as a champion that was trained on these articles."""
    manifest = bundle(folder, "v1", source)
    evaluated = folder / "evaluated"
    evaluated.mkdir()
    shutil.copyfile(folder / "v1" / "model.onnx", evaluated / "model.onnx")
    np.save(evaluated / "article_ids.npy", np.array(article_ids))
    register(lake, folder / "v1", manifest, evaluated)
    return Champion("v1", "", {})


@pytest.mark.parametrize("manifest", [b'{"format_version": 1}', b"{", None], ids=["earlier format", "damaged", "gone"])
def test_a_champion_that_cannot_be_read_stops_no_training(
    folder_lake: Lake, tmp_path: Path, manifest: bytes | None
) -> None:
    if manifest is not None:
        folder_lake.write_bytes("registry/bundles/v1/manifest.json", manifest)
    challenger = bundle(tmp_path, "v2", REAL)
    assert held_against(folder_lake, Champion("v1", "", {}), challenger) == "v1"
    found = objection(folder_lake, "v1", challenger, IDS, KEYS, tmp_path)
    assert found is not None
    assert found.startswith("champion v1 cannot be compared (")
    command = f"{this_python()} -m pipelines.registry promote v2 --lake {folder_lake.uri} --reason '…'"
    assert found.endswith(f"promote by hand: {command}")


def test_a_champion_whose_evaluated_model_is_damaged_stops_no_training(folder_lake: Lake, tmp_path: Path) -> None:
    champion(folder_lake, tmp_path, REAL)
    (key,) = [key for key in folder_lake.list("registry/") if key.endswith("article_ids.npy") and "evalu" in key]
    folder_lake.write_bytes(key, b"damaged")
    found = objection(folder_lake, "v1", bundle(tmp_path, "v2", REAL), IDS, KEYS, tmp_path)
    assert found is not None
    assert "is missing or damaged" in found
    assert f"promote by hand: {this_python()} -m pipelines.registry promote v2 --lake {folder_lake.uri} " in found


def test_the_first_model_of_a_lake_meets_no_objection(folder_lake: Lake, tmp_path: Path) -> None:
    challenger = bundle(tmp_path, "v2", REAL)
    assert held_against(folder_lake, None, challenger) is None
    assert objection(folder_lake, None, challenger, IDS, KEYS, tmp_path) is None


def test_newer_data_of_the_same_shop_meet_no_objection(folder_lake: Lake, tmp_path: Path) -> None:
    assert held_against(folder_lake, champion(folder_lake, tmp_path, REAL), bundle(tmp_path, "v2", REAL)) == "v1"
    moved = bundle(tmp_path, "v3", {"kind": "s3", "uri": "s3://shop/purchases"}, **NEXT_WEEK)
    assert objection(folder_lake, "v1", moved, [*IDS[30:], "0999999999"], KEYS, tmp_path) is None
    assert (tmp_path / "champion/article_ids.npy").exists()
    assert days_behind(folder_lake, "v1", moved) == 7


def test_a_champion_that_serves_fresher_than_it_was_evaluated_is_not_beaten_by_freshness(
    folder_lake: Lake, tmp_path: Path
) -> None:
    champion(folder_lake, tmp_path, REAL)
    same_data = bundle(tmp_path, "v2", REAL, cutoff_date="2020-12-16")
    found = objection(folder_lake, "v1", same_data, IDS, KEYS, tmp_path)
    assert found is not None
    assert "v1 was evaluated 91 days before this label week, and is 0 days behind as it serves" in found


@pytest.mark.parametrize("source", [REAL, MADE_UP])
def test_a_shop_with_other_customers_replaces_no_champion(
    folder_lake: Lake, tmp_path: Path, source: dict[str, Any]
) -> None:
    champion(folder_lake, tmp_path, source)
    strangers = np.array([customer_key("somebody else")], dtype=np.uint64)
    found = objection(folder_lake, "v1", bundle(tmp_path, "v2", source), IDS, strangers, tmp_path)
    assert found is not None
    assert "is of another shop: of its customers 0% are in this customers table" in found


def test_a_champion_without_its_evaluated_model_stops_no_training(folder_lake: Lake, tmp_path: Path) -> None:
    champion(folder_lake, tmp_path, REAL)
    key = "registry/contents/v1.json"
    folder_lake.write_bytes(key, json.dumps(json.loads(folder_lake.read_bytes(key)) | {"evaluation": []}).encode())
    found = objection(folder_lake, "v1", bundle(tmp_path, "v2", REAL), IDS, KEYS, tmp_path)
    assert found is not None
    assert "names no article_ids.npy, model.onnx" in found


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("model.onnx", "as it was evaluated cannot be opened ("),
        ("article_ids.npy", "as it was evaluated cannot be read ("),
    ],
)
def test_a_champion_of_garbage_stops_no_training(folder_lake: Lake, tmp_path: Path, name: str, said: str) -> None:
    champion(folder_lake, tmp_path, REAL)
    (tmp_path / "garbage").write_bytes(b"garbage")
    entry = folder_lake.upload(tmp_path / "garbage", f"registry/evaluations/v1/{name}")
    claim = json.loads(folder_lake.read_bytes("registry/contents/v1.json"))
    kept = [one for one in claim["evaluation"] if not one["key"].endswith(name)]
    claim["evaluation"] = [*kept, entry.model_dump()]
    folder_lake.write_bytes("registry/contents/v1.json", json.dumps(claim).encode())
    found = objection(folder_lake, "v1", bundle(tmp_path, "v2", REAL), IDS, KEYS, tmp_path)
    assert found is not None
    assert found.startswith("champion v1 cannot be compared: ")
    assert said in found


def test_a_champion_that_is_gone_cannot_say_what_changes(folder_lake: Lake, tmp_path: Path) -> None:
    found = changes(folder_lake, "v1", None, None, tmp_path)  # type: ignore[arg-type]
    assert found["since"] == "v1"
    assert "there is no bundle 'v1'" in found["error"]


def test_a_look_back_replaces_no_champion(folder_lake: Lake, tmp_path: Path) -> None:
    champion(folder_lake, tmp_path, REAL)
    found = objection(folder_lake, "v1", bundle(tmp_path, "v2", REAL, cutoff_date="2020-09-09"), IDS, KEYS, tmp_path)
    assert found is not None
    assert "it was fitted on the label week from 2020-09-09" in found


def test_made_up_purchases_never_replace_real_ones(folder_lake: Lake, tmp_path: Path) -> None:
    challenger = bundle(tmp_path, "v2", MADE_UP)
    assert held_against(folder_lake, champion(folder_lake, tmp_path, REAL), challenger) == "v1"
    found = objection(folder_lake, "v1", challenger, IDS, KEYS, tmp_path)
    assert found is not None
    assert found.endswith("give the --source of the real ones, or another --lake")


def test_a_champion_of_made_up_purchases_is_no_bar_for_real_ones(folder_lake: Lake, tmp_path: Path) -> None:
    demo = champion(folder_lake, tmp_path, MADE_UP)
    assert held_against(folder_lake, demo, bundle(tmp_path, "v2", REAL)) is None
    assert held_against(folder_lake, demo, bundle(tmp_path, "v3", MADE_UP)) == "v1"


def test_another_shop_replaces_no_champion(folder_lake: Lake, tmp_path: Path) -> None:
    champion(folder_lake, tmp_path, REAL)
    others = [f"{number:010d}" for number in range(37, 90)]
    found = objection(folder_lake, "v1", bundle(tmp_path, "v2", REAL), others, KEYS, tmp_path)
    assert found is not None
    assert "is of another shop: of its articles 8% are in this articles table" in found
