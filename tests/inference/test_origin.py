import os
from pathlib import Path

import pytest

from inference.errors import FetchFailed
from inference.origin import FolderOrigin


@pytest.mark.timeout(10)
@pytest.mark.parametrize("name", ["champion.json", "manifest.json"])
def test_a_pipe_in_a_registry_is_refused_and_not_read(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(FetchFailed, match="not a regular file"):
        FolderOrigin(tmp_path).read(name, 1000)
