import re
from pathlib import Path

import pytest

from pipelines.errors import UsageError
from pipelines.gitops.components import build_components
from pipelines.gitops.rules.references import check_references
from pipelines.gitops.tree import Tree
from pipelines.gitops.validate import app, validate
from tests.pipelines.gitops.trees import (
    DEPLOYMENT,
    GITOPS,
    INFERENCE,
    PIPELINE,
    SERVING,
    TRAINING,
    WORKFLOW,
    ZEROS,
    change,
    copy_tree,
    edited,
    template_of,
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return copy_tree(tmp_path)


def test_the_committed_tree_is_clean_and_the_command_says_what_it_looked_at(capsys: pytest.CaptureFixture[str]) -> None:
    code = app(["--root", str(GITOPS)], standalone_mode=False)
    printed = capsys.readouterr().out
    assert code == 0, printed
    assert re.search(r"(?m)^apps/ml-recommendation-inference/overlays/production +\d+ objects", printed)
    assert re.search(r"(?m)^no findings in [\d.]+ s$", printed)


def test_a_finding_is_exit_code_1(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change(root / DEPLOYMENT, "replicas: 1\n", "replicas: 1\n bad\n")
    assert app(["--root", str(root)], standalone_mode=False) == 1
    assert capsys.readouterr().out.splitlines()[-1].startswith("1 finding in ")


def test_a_folder_that_is_no_tree_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has no folder apps, bootstrap"):
        validate(tmp_path, None)


def test_a_digest_that_two_images_share_is_found(root: Path) -> None:
    digest = f"sha256:{'1a' * 32}"
    for overlay in (SERVING, PIPELINE):
        change(root / overlay / "kustomization.yaml", f"main-{ZEROS}", f"main-1a2b3c4\n    digest: {digest}")
    [finding] = validate(root, None, (SERVING, PIPELINE)).findings
    assert finding.file == f"gitops/{PIPELINE}/kustomization.yaml"
    assert finding.what == f"is the digest of inference:main-1a2b3c4 in gitops/{SERVING}/kustomization.yaml"


def test_a_secret_from_a_store_that_is_not_there_is_found(tmp_path: Path) -> None:
    root = copy_tree(tmp_path)
    change(
        root / "manifests/monitoring/secrets.yaml",
        "  name: aws-secrets-manager\n  annotations",
        "  name: aws\n  annotations",
    )
    findings = validate(root, None).findings
    found = {finding.field for finding in findings if "names ClusterSecretStore/aws-secrets-manager" in finding.what}
    names = ("alertmanager-webhooks", "grafana-admin", "ml-inference-api-tokens")
    assert found == {f"ExternalSecret/{name}.spec.secretStoreRef" for name in names}


def test_what_is_null_is_taken_as_not_there(root: Path) -> None:
    change(root / DEPLOYMENT, "          ports:\n", "          env: null\n          ports:\n")
    change(root / DEPLOYMENT, "      enableServiceLinks: false\n", "      initContainers: null\n")
    assert validate(root, None, [SERVING]).findings == []


def test_a_step_s_own_patch_adds_to_that_of_the_workflow(root: Path) -> None:
    patch = '{"containers": [{"name": "wait", "resources": {"requests": {"cpu": "10m", "memory": "1Gi"}}}]}'
    edited(WORKFLOW, lambda d: template_of(d, "train").update(podSpecPatch=patch))(root)
    assert validate(root, None, [PIPELINE]).findings == []
    change(root / f"{TRAINING}/base/quota.yaml", "requests.memory: 17Gi", "requests.memory: 7Gi")
    [finding] = validate(root, None, [PIPELINE]).findings
    assert "ask for 8256Mi" in finding.what  # 2 + 5 GiB, and 64 MiB and 1 GiB of Argo's containers


def test_an_optional_component_is_checked_although_it_is_off(root: Path) -> None:
    autoscaler = root / INFERENCE / "components/larger-nodes/horizontal-pod-autoscaler.yaml"
    change(autoscaler, "    name: ml-recommendation-inference\n", "    name: inference\n")
    tree = Tree(root)
    rendered, failed = build_components(tree)
    assert failed == []
    found = [finding.field for one in rendered for finding in check_references(tree, one)]
    assert found == ["HorizontalPodAutoscaler/ml-recommendation-inference.spec.scaleTargetRef"]
