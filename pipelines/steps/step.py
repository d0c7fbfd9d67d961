"""Run a step once: the same inputs, parameters and code are never worked on twice, and readers never see half.

Files go to `{folder}/{run_id}/…` first, the manifest comes last: a step without a manifest has not happened.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from pipelines.errors import ArtefactError, LakeConflict, LakeKeyMissing
from pipelines.lake.base import FileEntry, Lake, file_sha256
from pipelines.logs import get_logger, log_context
from pipelines.steps.fingerprint import canonical_json, step_fingerprint, text_sha256
from pipelines.steps.manifest import STEP_FOLDERS, StepManifest, index_key, manifest_key, read_manifest, step_folder

__all__ = ["STEP_FOLDERS", "StepManifest", "read_manifest", "run_step"]

UPLOAD_THREADS = 8  # hides the latency of S3 over a hundred weekly files; more gains nothing on one network card
RESERVED_NAMES = {"manifest.json", "claim.json"}

log = get_logger()


def run_step(
    lake: Lake,
    *,
    step: str,
    run_id: str,
    parameters: Mapping[str, Any],
    inputs: Mapping[str, str],
    code: Sequence[str],
    work: Callable[[Path], Mapping[str, Any]],
    libraries: Sequence[str] = (),
    force: bool = False,
) -> StepManifest:
    """Do a step's work, or recognise that it is done, and give the manifest that this run has then.

    `work` gets an empty folder, writes its files there and returns facts (JSON, no clock). `code` names the modules
    and packages, `libraries` the distributions (polars, torch) whose change makes the work different. `inputs` are
    content_sha256 of the manifests that are read. Killed anywhere, the same call starts over and ends with the same
    bytes; `force` does so although the work is done.
    """
    folder = step_folder(step, run_id)
    given = json.loads(canonical_json(dict(parameters)))
    fingerprint = step_fingerprint(step, given, inputs, code, libraries)
    started = time.monotonic()
    with log_context(step=step, run_id=run_id):
        done = None if force else _find_done(lake, step, run_id, fingerprint)
        if done is not None:
            manifest = done.model_copy(update={"run_id": run_id})
            lake.write_bytes(manifest_key(step, run_id), manifest.to_json())
            log.info("step_reused", produced_by=manifest.produced_by, seconds=_since(started))
            return manifest
        log.info("step_started", parameters=given, fingerprint=fingerprint)
        with lake.scratch() as scratch:
            output = scratch / "output"
            output.mkdir()
            facts = json.loads(canonical_json(dict(work(output))))  # as a reader will see them: tuples are lists
            worked = time.monotonic()
            files = _publish(lake, folder, output)
        manifest = StepManifest(
            step=step,
            run_id=run_id,
            produced_by=run_id,
            fingerprint=fingerprint,
            inputs=dict(inputs),
            parameters=given,
            files=files,
            facts=facts,
        )
        lake.write_bytes(manifest_key(step, run_id), manifest.to_json())
        lake.write_bytes(index_key(step, fingerprint), manifest.to_json())
        log.info(
            "step_finished",
            n_files=len(files),
            size_bytes=sum(entry.size_bytes for entry in files.values()),
            publish_seconds=_since(worked),
            seconds=_since(started),
        )
        return manifest


def _find_done(lake: Lake, step: str, run_id: str, fingerprint: str) -> StepManifest | None:
    """Find finished work of that fingerprint whose files are all there."""
    index, own = index_key(step, fingerprint), manifest_key(step, run_id)
    for key in (index, own):  # a run that was killed between the two has only its own
        try:
            manifest = StepManifest.from_json(lake.read_bytes(key), lake.uri_of(key))
        except LakeKeyMissing:
            continue
        except ArtefactError as error:
            log.warning("manifest_ignored", reason=str(error))
            continue
        if manifest.fingerprint != fingerprint:
            continue
        stored = lake.sizes(f"{step_folder(step, manifest.produced_by)}/")
        lost = sorted(name for name, file in manifest.files.items() if stored.get(file.key) != file.size_bytes)
        if not lost:
            if key == own:
                origin = manifest.model_copy(update={"run_id": manifest.produced_by})
                lake.write_bytes(index, origin.to_json())
            return manifest
        log.warning("files_lost", produced_by=manifest.produced_by, files=lost)
    return None


def _publish(lake: Lake, folder: str, output: Path) -> dict[str, FileEntry]:
    """Move what the work wrote into the lake."""
    written = (path for path in sorted(output.rglob("*")) if path.is_symlink() or not path.is_dir())
    paths = {path.relative_to(output).as_posix(): path for path in written}
    for name, path in paths.items():
        if path.is_symlink() or name in RESERVED_NAMES:
            raise ArtefactError(f"the step wrote {name!r}, which is a link or a name that the lake keeps for itself")
    with ThreadPoolExecutor(UPLOAD_THREADS) as pool:
        sha256s = dict(zip(paths, pool.map(file_sha256, paths.values()), strict=True))
        place = _claim(lake, folder, text_sha256(canonical_json(sha256s)))

        def upload(name: str) -> FileEntry:
            return lake.upload(paths[name], f"{place}/{name}", move=True, sha256=sha256s[name])

        return dict(zip(paths, pool.map(upload, paths), strict=True))


def _claim(lake: Lake, folder: str, content_sha256: str) -> str:
    """Bind the run's folder to this content; whoever comes later with other content gets a folder inside it.

    So a file that some manifest names is never overwritten with other bytes: not by a changed program under the same
    run id, and not by two programs at once.
    """
    key, claim = f"{folder}/claim.json", canonical_json({"content_sha256": content_sha256}).encode()
    try:
        lake.write_bytes(key, claim, if_absent=True)
    except LakeConflict:
        if lake.read_bytes(key) != claim:
            return f"{folder}/{content_sha256[:12]}"
    return folder


def _since(started: float) -> float:
    return round(time.monotonic() - started, 3)
