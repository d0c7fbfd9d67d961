"""What a challenger is held against, from a registry that may be old, damaged, or of another shop."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inference.manifest import Manifest, read_manifest
from pipelines.edge import this_python
from pipelines.lake import Lake
from pipelines.registry.bundles import register
from pipelines.registry.champion import Champion
from pipelines.steps.challenge import days_behind, held_against, objection
from tests.inference.tiny_bundle import write_bundle

IDS = [f"{number:010d}" for number in range(40)]
REAL = {"kind": "folder", "uri": "./purchases"}
MADE_UP = {"kind": "synthetic", "uri": "synthetic://?customers=2000&seed=7"}


def bundle(folder: Path, version: str, source: dict[str, Any], **facts: Any) -> Manifest:
    facts = {"source": source, "cutoff_date": "2020-09-16", **facts}
    return read_manifest(write_bundle(folder / version, version=version, facts=facts))


def champion(lake: Lake, folder: Path, source: dict[str, Any], article_ids: list[str] = IDS) -> Champion:
    """Register v1 as a champion that was trained on these articles."""
    manifest = bundle(folder, "v1", source)
    evaluated = folder / "evaluated"
    evaluated.mkdir()
    (evaluated / "model.onnx").write_bytes(b"never run here")
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
    found = objection(folder_lake, "v1", challenger, IDS, tmp_path)
    assert found is not None
    assert found.startswith("champion v1 cannot be compared (")
    command = f"{this_python()} -m pipelines.registry promote v2 --lake {folder_lake.uri} --reason '…'"
    assert found.endswith(f"promote by hand: {command}")


def test_a_champion_whose_evaluated_model_is_damaged_stops_no_training(folder_lake: Lake, tmp_path: Path) -> None:
    champion(folder_lake, tmp_path, REAL)
    (key,) = [key for key in folder_lake.list("registry/") if key.endswith("article_ids.npy") and "evalu" in key]
    folder_lake.write_bytes(key, b"damaged")
    found = objection(folder_lake, "v1", bundle(tmp_path, "v2", REAL), IDS, tmp_path)
    assert found is not None
    assert "is missing or damaged" in found
    assert f"promote by hand: {this_python()} -m pipelines.registry promote v2 --lake {folder_lake.uri} " in found


def test_the_first_model_of_a_lake_meets_no_objection(folder_lake: Lake, tmp_path: Path) -> None:
    challenger = bundle(tmp_path, "v2", REAL)
    assert held_against(folder_lake, None, challenger) is None
    assert objection(folder_lake, None, challenger, IDS, tmp_path) is None


def test_newer_data_of_the_same_shop_meet_no_objection(folder_lake: Lake, tmp_path: Path) -> None:
    assert held_against(folder_lake, champion(folder_lake, tmp_path, REAL), bundle(tmp_path, "v2", REAL)) == "v1"
    moved = bundle(tmp_path, "v3", {"kind": "s3", "uri": "s3://shop/purchases"}, cutoff_date="2020-09-23")
    assert objection(folder_lake, "v1", moved, [*IDS[30:], "0999999999"], tmp_path) is None
    assert (tmp_path / "champion/article_ids.npy").exists()
    assert days_behind(folder_lake, "v1", moved) == 7


def test_a_look_back_replaces_no_champion(folder_lake: Lake, tmp_path: Path) -> None:
    champion(folder_lake, tmp_path, REAL)
    found = objection(folder_lake, "v1", bundle(tmp_path, "v2", REAL, cutoff_date="2020-09-09"), IDS, tmp_path)
    assert found is not None
    assert "it was fitted on the label week from 2020-09-09" in found


def test_made_up_purchases_never_replace_real_ones(folder_lake: Lake, tmp_path: Path) -> None:
    challenger = bundle(tmp_path, "v2", MADE_UP)
    assert held_against(folder_lake, champion(folder_lake, tmp_path, REAL), challenger) == "v1"
    found = objection(folder_lake, "v1", challenger, IDS, tmp_path)
    assert found is not None
    assert found.endswith("give the --source of the real ones, or another --lake")


def test_a_champion_of_made_up_purchases_is_no_bar_for_real_ones(folder_lake: Lake, tmp_path: Path) -> None:
    demo = champion(folder_lake, tmp_path, MADE_UP)
    assert held_against(folder_lake, demo, bundle(tmp_path, "v2", REAL)) is None
    assert held_against(folder_lake, demo, bundle(tmp_path, "v3", MADE_UP)) == "v1"


def test_another_shop_replaces_no_champion(folder_lake: Lake, tmp_path: Path) -> None:
    champion(folder_lake, tmp_path, REAL)
    others = [f"{number:010d}" for number in range(37, 90)]
    found = objection(folder_lake, "v1", bundle(tmp_path, "v2", REAL), others, tmp_path)
    assert found is not None
    assert "is of another shop: of its articles 8% are in this articles table" in found
