"""What a training run has finished so far, kept in the lake until its step is published.

A run that is killed and started again finds it by the fingerprint of the work, which covers data, parameters, code and
libraries; so whatever is found was made by the same program from the same data.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Mapping
from typing import Any

from pipelines.errors import LakeKeyMissing
from pipelines.lake import Lake
from pipelines.logs import get_logger

FOLDER = "checkpoints"

log = get_logger()


class Checkpoints:
    """Named states of one piece of work: tensors, numbers, text, and lists and dictionaries of them.

    Without a lake nothing is kept and nothing found.
    """

    def __init__(self, lake: Lake | None = None, fingerprint: str = "") -> None:
        self._lake = lake
        self._folder = f"{FOLDER}/{fingerprint}"

    def save(self, name: str, state: Mapping[str, Any]) -> None:
        """Keep a state whole, over any earlier one of that name."""
        if self._lake:
            import torch  # not above: a step that is reused answers at once

            buffer = io.BytesIO()
            torch.save({"key": self._key(name), "state": dict(state)}, buffer)
            self._lake.write_bytes(self._key(name), buffer.getvalue())

    def load(self, name: str) -> dict[str, Any] | None:
        """Give the state of that name; None when there is none, or none that can be read. Runs no code from it."""
        if not self._lake:
            return None
        try:
            content = self._lake.read_bytes(self._key(name))
        except LakeKeyMissing:
            return None
        import torch

        try:
            if not zipfile.is_zipfile(io.BytesIO(content)):  # torch would try older formats, and pickle
                raise ValueError("it is no archive of torch.save, or half of one")
            if damaged := zipfile.ZipFile(io.BytesIO(content)).testzip():  # torch does not look at the checksums
                raise ValueError(f"the checksum of {damaged} in it is wrong")
            kept = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
            if not isinstance(kept, dict) or kept.get("key") != self._key(name):
                raise ValueError("it was written as another one")
            state: dict[str, Any] = kept["state"]
        except (RuntimeError, pickle.UnpicklingError, EOFError, ValueError, zipfile.BadZipFile) as error:
            log.warning("checkpoint_ignored", key=self._key(name), reason=str(error).splitlines()[0])
            return None
        log.info("checkpoint_found", name=name)
        return state

    def clear(self) -> None:
        """Remove every state: the work is published, or is to be done anew."""
        if self._lake:
            for key in self._lake.list(f"{self._folder}/"):
                self._lake.delete(key)

    def _key(self, name: str) -> str:
        return f"{self._folder}/{name}.pt"
