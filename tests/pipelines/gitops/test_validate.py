import re
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.errors import UsageError
from pipelines.gitops.components import build_components
from pipelines.gitops.rules.references import check_references
from pipelines.gitops.tree import Tree
from pipelines.gitops.validate import validate
from tests.pipelines.gitops.trees import DEPLOYMENT, GITOPS, INFERENCE, PIPELINE, SERVING, ZEROS, change, copy_tree

COMMAND = [sys.executable, "-m", "pipelines.gitops.validate", "--root"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return copy_tree(tmp_path)


def test_the_committed_tree_is_clean_and_the_command_says_what_it_looked_at() -> None:
    done = subprocess.run([*COMMAND, str(GITOPS)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"(?m)^apps/ml-recommendation-inference/overlays/production +\d+ objects", done.stdout)
    assert re.search(r"(?m)^no findings in [\d.]+ s$", done.stdout)


def test_a_finding_is_exit_code_1(root: Path) -> None:
    change(root / DEPLOYMENT, "replicas: 1\n", "replicas: 1\n bad\n")
    done = subprocess.run([*COMMAND, str(root)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.splitlines()[-1].split(" in ")[0]) == (1, "1 finding")


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


def test_an_optional_component_is_checked_although_it_is_off(root: Path) -> None:
    autoscaler = root / INFERENCE / "components/larger-nodes/horizontal-pod-autoscaler.yaml"
    change(autoscaler, "    name: ml-recommendation-inference\n", "    name: inference\n")
    tree = Tree(root)
    rendered, failed = build_components(tree)
    assert failed == []
    found = [finding.field for one in rendered for finding in check_references(tree, one)]
    assert found == ["HorizontalPodAutoscaler/ml-recommendation-inference.spec.scaleTargetRef"]
