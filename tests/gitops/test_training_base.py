import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.render import BASE
from pipelines.workflow import CONFIG_NAME, CRON_NAME, SERVICE_ACCOUNT, STEPS, TEMPLATE_NAME

KUBECTL = Path(sys.executable).with_name("kubectl")

Documents = dict[tuple[str, str], dict[str, Any]]


def build(folder: Path) -> Documents:
    done = subprocess.run([KUBECTL, "kustomize", folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return {(d["kind"], d["metadata"]["name"]): d for d in yaml.safe_load_all(done.stdout)}


def test_base_builds_with_everything_that_a_run_needs() -> None:
    assert set(build(BASE)) == {
        ("ConfigMap", CONFIG_NAME),
        ("CronWorkflow", CRON_NAME),
        ("LimitRange", "ml-training"),
        ("Namespace", "ml-training"),
        ("NetworkPolicy", "allow-dns"),
        ("NetworkPolicy", "allow-s3-and-api-server"),
        ("NetworkPolicy", "default-deny"),
        ("ResourceQuota", "ml-training"),
        ("Role", "ml-training-executor"),
        ("RoleBinding", "ml-training-executor"),
        ("ServiceAccount", SERVICE_ACCOUNT),
        ("WorkflowTemplate", TEMPLATE_NAME),
    }


def test_executor_of_every_pod_may_report_its_result() -> None:
    documents = build(BASE)
    binding = documents["RoleBinding", "ml-training-executor"]
    role = documents["Role", binding["roleRef"]["name"]]
    rules = [{"apiGroups": ["argoproj.io"], "resources": ["workflowtaskresults"], "verbs": ["create", "patch"]}]
    assert role["rules"] == rules
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": SERVICE_ACCOUNT}]


@pytest.fixture
def overlay(tmp_path: Path) -> Documents:
    """Build an overlay that renames everything and sets the image."""
    # kustomize wants relative resources, and tmp_path may lie anywhere
    (tmp_path / "base").mkdir()
    for path in BASE.iterdir():
        (tmp_path / "base" / path.name).write_bytes(path.read_bytes())
    (tmp_path / "overlay").mkdir()
    (tmp_path / "overlay/kustomization.yaml").write_text(
        """
resources: [../base]
namespace: ml-training-staging
namePrefix: staging-
images:
  - {name: training, newName: registry.example/training, newTag: develop-1a2b3c4}
"""
    )
    return build(tmp_path / "overlay")


def test_image_reaches_every_step(overlay: Documents) -> None:
    templates = overlay["WorkflowTemplate", f"staging-{TEMPLATE_NAME}"]["spec"]["templates"]
    images = [template["container"]["image"] for template in templates if "container" in template]
    assert images == ["registry.example/training:develop-1a2b3c4"] * (len(STEPS) + 1)  # and the exit handler


def test_references_follow_renamed_objects(overlay: Documents) -> None:
    template = overlay["WorkflowTemplate", f"staging-{TEMPLATE_NAME}"]
    cron = overlay["CronWorkflow", f"staging-{CRON_NAME}"]
    assert cron["spec"]["workflowSpec"]["workflowTemplateRef"]["name"] == template["metadata"]["name"]
    assert template["spec"]["serviceAccountName"] == f"staging-{SERVICE_ACCOUNT}"
    env = [v for t in template["spec"]["templates"] if "container" in t for v in t["container"]["env"]]
    assert {v["valueFrom"]["configMapKeyRef"]["name"] for v in env} == {f"staging-{CONFIG_NAME}"}


def test_everything_lands_in_the_overlay_s_namespace(overlay: Documents) -> None:
    namespaced = [document for (kind, _), document in overlay.items() if kind != "Namespace"]
    assert {document["metadata"]["namespace"] for document in namespaced} == {"ml-training-staging"}
    assert [name for kind, name in overlay if kind == "Namespace"] == ["ml-training-staging"]
