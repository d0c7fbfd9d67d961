"""The manifest: what a step left in the lake for one run, and how its readers know it is whole."""

import json
import re
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from pipelines.edge import this_python
from pipelines.errors import ArtefactError, LakeKeyMissing, UsageError
from pipelines.lake.base import FileEntry, Lake, Sha256
from pipelines.steps.fingerprint import canonical_json, text_sha256

STEP_FOLDERS = {"ingest": "raw", "process": "processed", "eda": "eda", "train": "artifacts"}
RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")  # a Kubernetes name is one, and it is safe in any path


class StepManifest(BaseModel):
    """A step's result for a run; `produced_by` is the run that did the work, and files keep that run's keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    step: str
    run_id: str
    produced_by: str
    fingerprint: Sha256
    schema_version: Literal[1] = 1
    inputs: dict[str, str]
    parameters: dict[str, Any]
    files: dict[str, FileEntry]
    facts: dict[str, Any]

    @property
    def content_sha256(self) -> str:
        """Identify the content for whoever reads it: file names, their sha256 and the facts, not who made it."""
        return text_sha256(
            canonical_json({"files": {name: file.sha256 for name, file in self.files.items()}, "facts": self.facts})
        )

    def to_json(self) -> bytes:
        """Write it for people and programs; it carries its own content_sha256."""
        document = self.model_dump(mode="json") | {"content_sha256": self.content_sha256}
        return (json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n").encode()

    @classmethod
    def from_json(cls, data: bytes, uri: str) -> "StepManifest":
        """Read what to_json wrote; `uri` is for the error when it is something else."""
        mend = "delete it and run the step that wrote it again"
        try:
            document = json.loads(data)
            content_sha256 = document.pop("content_sha256")
            manifest = cls.model_validate(document)
        except ValidationError as error:
            fault = error.errors()[0]
            field = ".".join(map(str, fault["loc"]))
            raise ArtefactError(f"{uri} is no valid manifest: {field}: {fault['msg'].lower()}; {mend}") from error
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise ArtefactError(f"{uri} is no valid manifest: {error}; {mend}") from error
        if manifest.content_sha256 != content_sha256:
            raise ArtefactError(f"{uri} was changed by hand or damaged: its content_sha256 does not fit; {mend}")
        return manifest


def step_folder(step: str, run_id: str) -> str:
    """Give the key prefix under which a run's files of that step lie."""
    if step not in STEP_FOLDERS:
        raise UsageError(f"there is no step {step!r}; steps are {', '.join(STEP_FOLDERS)}")
    if not RUN_ID.fullmatch(run_id):
        raise UsageError(
            f"run-id {run_id!r} is not 1 to 128 letters, digits, '.', '_' or '-', beginning with the first two"
        )
    return f"{STEP_FOLDERS[step]}/{run_id}"


def manifest_key(step: str, run_id: str) -> str:
    return f"{step_folder(step, run_id)}/manifest.json"


def index_key(step: str, fingerprint: str) -> str:
    return f"index/{step}/{fingerprint}.json"


def read_manifest(lake: Lake, step: str, run_id: str) -> StepManifest:
    """Read what a step has published for a run; ArtefactError says which step to run when it has not."""
    key = manifest_key(step, run_id)
    try:
        data = lake.read_bytes(key)
    except LakeKeyMissing:
        raise ArtefactError(
            f"run {run_id!r} has no finished {step} step: {lake.uri_of(key)} does not exist; "
            f"first run: {this_python()} -m pipelines.steps.{step} --run-id {run_id}"
        ) from None
    return StepManifest.from_json(data, lake.uri_of(key))
