"""Copies of the real tree with one fault seeded: what the validation and the promotion are tried on."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from pipelines.gitops.validate import SIBLING, validate

GITOPS = Path(__file__).resolve().parents[3] / "gitops"
INFERENCE = "apps/ml-recommendation-inference"
TRAINING = "apps/ml-training-workflow-circle"
SERVING = f"{INFERENCE}/overlays/production"
PIPELINE = f"{TRAINING}/overlays/production"
DEPLOYMENT = f"{INFERENCE}/base/deployment.yaml"
WORKFLOW = f"{TRAINING}/base/workflow-template.yaml"
CRON = f"{TRAINING}/base/cron-workflow.yaml"
CONTAINER = "Deployment/ml-recommendation-inference.spec.template.spec.containers[inference]"
TEMPLATE = "WorkflowTemplate/ml-training-pipeline.spec.templates"
ZEROS = "0" * 40
"""stands for the commit of an image that is not there yet"""

CRD_SCHEMAS = Path(os.environ.get("CRD_SCHEMAS") or SIBLING)
needs_schemas = pytest.mark.skipif(
    not CRD_SCHEMAS.is_dir(), reason="no schemas of custom kinds: set CRD_SCHEMAS to a folder, or have ../shared/crds"
)

Seed = Callable[[Path], Any]


class Fault(NamedTuple):
    """What is seeded, which folders are then rendered, and words of the finding that must come of it."""

    seed: Seed
    folders: str
    file: str
    field: str
    what: str
    mend: str


def copy_tree(folder: Path) -> Path:
    """Copy gitops/ as it is committed."""
    root = folder / "gitops"
    shutil.copytree(GITOPS, root)
    return root


def change(path: Path, old: str, new: str) -> None:
    """Replace text that must be there, so that a seeded fault is really seeded."""
    text = path.read_text(encoding="utf-8")
    assert old in text, f"{path} has no {old!r} to change"
    path.write_text(text.replace(old, new), encoding="utf-8")


def edit(path: str, old: str, new: str) -> Seed:
    return lambda root: change(root / path, old, new)


def edited(path: str, work: Callable[[list[dict[str, Any]]], None]) -> Seed:
    """Change the documents of a file."""

    def seed(root: Path) -> None:
        documents = list(yaml.safe_load_all((root / path).read_text()))
        work(documents)
        (root / path).write_text(yaml.safe_dump_all(documents, sort_keys=False))

    return seed


def template_of(documents: list[dict[str, Any]], name: str) -> dict[str, Any]:
    return next(t for t in documents[0]["spec"]["templates"] if t["name"] == name)


def assert_found(fault: Fault, folder: Path) -> None:
    """Seed a fault into a copy and validate that."""
    root = copy_tree(folder)
    fault.seed(root)
    findings = validate(root, CRD_SCHEMAS if CRD_SCHEMAS.is_dir() else None, fault.folders.split()).findings
    assert any(
        finding.file == f"gitops/{fault.file}"
        and fault.field in finding.field
        and fault.what in finding.what
        and fault.mend in finding.mend
        for finding in findings
    ), "\n".join(map(str, findings)) or "nothing was found"
