"""Faults of kustomizations, files and images, each seeded into a copy of the tree."""

import shutil
from pathlib import Path

import pytest
import yaml

from tests.pipelines.gitops.trees import (
    CONTAINER,
    DEPLOYMENT,
    INFERENCE,
    PIPELINE,
    SERVING,
    TRAINING,
    WORKFLOW,
    ZEROS,
    Fault,
    assert_found,
    change,
    edit,
    edited,
)


def patch_by_index(root: Path) -> None:
    """The original repository's: resources meant for one step, on whichever step has that place in the list."""
    path = root / PIPELINE / "kustomization.yaml"
    document = yaml.safe_load(path.read_text())
    operation = "- op: replace\n  path: /spec/templates/3/container/resources/limits/memory\n  value: 16Gi\n"
    document["patches"].append(
        {"target": {"kind": "WorkflowTemplate", "name": "ml-training-pipeline"}, "patch": operation}
    )
    path.write_text(yaml.safe_dump(document, sort_keys=False))


def patch_nothing(root: Path) -> None:
    path = root / SERVING / "kustomization.yaml"
    target = {"kind": "Deployment", "name": "ml-recomendation-inference"}
    patch = {"target": target, "patch": "- op: replace\n  path: /spec/replicas\n  value: 2\n"}
    change(path, "\nreplacements:\n", f"\npatches:\n{yaml.safe_dump([patch])}replacements:\n")


def merge_patch_templates(root: Path) -> None:
    """A merge patch on a custom resource's list replaces the list: all other templates are gone."""
    path = root / PIPELINE / "kustomization.yaml"
    document = yaml.safe_load(path.read_text())
    spec = {"templates": [{"name": "train", "activeDeadlineSeconds": 60}]}
    kind = {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "WorkflowTemplate",
        "metadata": {"name": "ml-training-pipeline"},
    }
    document["patches"].append({"patch": yaml.safe_dump(kind | {"spec": spec})})
    document["replacements"] = []
    path.write_text(yaml.safe_dump(document, sort_keys=False))


FAULTS = {
    "production with a tag of develop that nobody pinned": Fault(
        edit(f"{SERVING}/kustomization.yaml", "newTag: main-" + "0" * 40, "newTag: develop-1a2b3c4"),
        SERVING,
        f"{SERVING}/kustomization.yaml",
        ".image",
        "develop-1a2b3c4 is of another branch than main",
        "promote staging production --verify",
    ),
    "image tag latest": Fault(
        edit(f"{SERVING}/kustomization.yaml", f"newTag: main-{ZEROS}", "newTag: latest"),
        SERVING,
        f"{SERVING}/kustomization.yaml",
        f"{CONTAINER}.image",
        "'latest' is a tag that moves",
        "main-<sha>",
    ),
    "digest that is none": Fault(
        edit(f"{SERVING}/kustomization.yaml", f"newTag: main-{ZEROS}", f"newTag: main-{ZEROS}\n    digest: sha256:12"),
        SERVING,
        f"{SERVING}/kustomization.yaml",
        "images[inference].digest",
        "is no digest",
        "64 hexadecimal digits",
    ),
    "image that reaches no template": Fault(
        edit(
            f"{TRAINING}/base/kustomizeconfig.yaml",
            "path: spec/templates[]/container/image",
            "path: spec/steps[]/image",
        ),
        PIPELINE,
        f"{PIPELINE}/kustomization.yaml",
        "images[training]",
        "reaches no container",
        "configurations:",
    ),
    "overlay without namespace": Fault(
        edit(f"{SERVING}/kustomization.yaml", "namespace: ml-inference-prod\n", ""),
        SERVING,
        f"{SERVING}/kustomization.yaml",
        "namespace",
        "is missing",
        "write namespace: ml-inference-prod",
    ),
    "overlay with another namespace": Fault(
        edit(f"{SERVING}/kustomization.yaml", "namespace: ml-inference-prod\n", "namespace: default\n"),
        SERVING,
        f"{SERVING}/kustomization.yaml",
        "namespace",
        "is default, documented is ml-inference-prod",
        "write",
    ),
    "missing base": Fault(
        edit(f"{SERVING}/kustomization.yaml", "  - ../../base\n", "  - ../../bases\n"),
        SERVING,
        f"{SERVING}/kustomization.yaml",
        "",
        "bases",
        "name a file or folder that exists",
    ),
    "typo in a field of the kustomization": Fault(
        edit(f"{SERVING}/kustomization.yaml", "\nreplacements:\n", "\nreplacments:\n"),
        SERVING,
        f"{SERVING}/kustomization.yaml",
        "replacments",
        "unknown field",
        "check its spelling",
    ),
    "patch that matches nothing": Fault(
        patch_nothing,
        SERVING,
        f"{SERVING}/kustomization.yaml",
        "patches[0].target",
        "matches nothing: no resource has kind Deployment, name ml-recomendation-inference",
        "there are: Deployment/ml-recommendation-inference",
    ),
    "replacement that matches nothing": Fault(
        edit(f"{SERVING}/kustomization.yaml", "          name: ml-inference-sa\n", "          name: ml-inference\n"),
        SERVING,
        f"{SERVING}/kustomization.yaml",
        "replacements[2].targets[0].select",
        "matches nothing",
        "ml-inference-sa",
    ),
    "resources patched on a step by list index": Fault(
        patch_by_index,
        PIPELINE,
        f"{PIPELINE}/kustomization.yaml",
        "patches[2]",
        "patches /spec/templates/3/container/resources/limits/memory by list index",
        "[name=…]",
    ),
    "merge patch that drops every other template": Fault(
        merge_patch_templates,
        PIPELINE,
        WORKFLOW,
        "WorkflowTemplate/ml-training-pipeline.spec.entrypoint",
        "names template 'main'",
        "there are: train",
    ),
    "environment in config and not in overlays": Fault(
        lambda root: shutil.rmtree(root / PIPELINE),
        SERVING,
        "config/environments/production.yaml",
        "",
        "environment production has no overlay of ml-training",
        "add",
    ),
    "overlay without an environment": Fault(
        lambda root: shutil.copytree(root / SERVING, root / INFERENCE / "overlays/canary"),
        SERVING,
        f"{INFERENCE}/overlays/canary",
        "",
        "overlay canary has no environment",
        "canary.yaml",
    ),
    "file that nothing names": Fault(
        lambda root: shutil.copy(root / INFERENCE / "base/service.yaml", root / INFERENCE / "base/ingress.yaml"),
        SERVING,
        f"{INFERENCE}/base/ingress.yaml",
        "",
        "it has no effect",
        "list it in",
    ),
    "YAML that is none": Fault(
        edit(DEPLOYMENT, "spec:\n  replicas: 1\n", "spec:\n  replicas: 1\n bad\n"),
        SERVING,
        DEPLOYMENT,
        "line",
        "(syntax)",
        "mend that line",
    ),
    "base from the network": Fault(
        edit(f"{SERVING}/kustomization.yaml", "  - ../../base\n", "  - ../../base\n  - https://example.org/all.yaml\n"),
        SERVING,
        f"{SERVING}/kustomization.yaml",
        "resources",
        "draws in https://example.org/all.yaml from the network",
        "keep a copy here",
    ),
    "dashboard that is no JSON": Fault(
        edit("manifests/monitoring/dashboards/fashion-recommender.json", '"panels"', '"panels'),
        "manifests/monitoring",
        "manifests/monitoring/dashboards/fashion-recommender.json",
        "",
        "(syntax)",
        "mend that line",
    ),
    "image that no node pulls": Fault(
        edit(DEPLOYMENT, "imagePullPolicy: IfNotPresent", "imagePullPolicy: Never"),
        SERVING,
        DEPLOYMENT,
        f"{CONTAINER}.imagePullPolicy",
        "is Never",
        "IfNotPresent",
    ),
    "resources that are no list": Fault(
        edit(
            f"{SERVING}/kustomization.yaml",
            "resources:\n  - ../../base\n  - ../../../",
            "resources: ../../base\ncrds:\n  - ../../../",
        ),
        SERVING,
        f"{SERVING}/kustomization.yaml",
        "",
        "cannot unmarshal string",
        "kubectl kustomize",
    ),
    "a key twice": Fault(
        edit(DEPLOYMENT, "  replicas: 1\n", "  replicas: 1\n  replicas: 2\n"),
        SERVING,
        DEPLOYMENT,
        "line",
        "key-duplicates",
        "mend that line",
    ),
    "secret in git": Fault(
        edited(
            f"{INFERENCE}/base/quota.yaml",
            lambda d: d.append(
                {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "key"}, "stringData": {"token": "hunter2"}}
            ),
        ),
        SERVING,
        f"{INFERENCE}/base/quota.yaml",
        "Secret/key.data",
        "is a secret in git",
        "ExternalSecret",
    ),
    "key of AWS in a comment": Fault(
        edit(DEPLOYMENT, "apiVersion: apps/v1\n", f"# {'AKIA' + 'IOSFODNN7EXAMPLE'}\napiVersion: apps/v1\n"),
        SERVING,
        DEPLOYMENT,
        "line 1",
        "looks like an AWS access key",
        "revoke it",
    ),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_fault_is_found(fault: Fault, tmp_path: Path) -> None:
    assert_found(fault, tmp_path)
