"""What the tests of the registry start from."""

from pathlib import Path

import pytest

from pipelines.lake import Lake
from tests.pipelines.registry.registered import add, move


@pytest.fixture
def stocked(folder_lake: Lake, tmp_path: Path) -> Lake:
    """A lake with v1, v2 and v3, all of them champion once, v3 now."""
    for number, version in enumerate(("v1", "v2", "v3")):
        add(folder_lake, tmp_path, version, best=number)
        move(folder_lake, version)
    return folder_lake
