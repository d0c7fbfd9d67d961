"""What a challenger is held against, from a registry that may be old or damaged."""

import pytest

from pipelines.lake import Lake
from pipelines.steps.challenge import objection


@pytest.mark.parametrize("manifest", [b'{"format_version": 1}', b"{"], ids=["earlier format", "damaged"])
def test_a_champion_that_cannot_be_read_stops_no_training(folder_lake: Lake, manifest: bytes) -> None:
    folder_lake.write_bytes("registry/bundles/v1/manifest.json", manifest)
    found = objection(folder_lake, "v1", "2020-09-16")
    assert found is not None
    assert found.startswith("champion v1 cannot be compared (")
    assert found.endswith("promote by hand: python -m pipelines.registry promote VERSION --reason …")


def test_the_first_model_of_a_lake_meets_no_objection(folder_lake: Lake) -> None:
    assert objection(folder_lake, None, "2020-09-16") is None
