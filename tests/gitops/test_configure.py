"""The quick start: three edits by hand, or one command, and nothing of ours is left in what a cluster gets."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.errors import UsageError
from pipelines.gitops.configure import planned_edits

TREE = Path(__file__).parents[2] / "gitops"
KUBECTL = Path(sys.executable).with_name("kubectl")
OVERLAYS = [str(path.relative_to(TREE)) for path in sorted(TREE.glob("apps/*/overlays/*"))]
APPLIED = ["bootstrap", "manifests/monitoring", "manifests/logging", *OVERLAYS]
# as the tree comes
OURS = ("your-org", "123456789012", "ap-southeast-2", "fashion-recommender-production", "fashion-recommender-staging")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    shutil.copytree(TREE, tmp_path / "gitops")
    return tmp_path / "gitops"


def configure(tree: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "pipelines.gitops.configure", "--root", str(tree), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def rendered(tree: Path) -> dict[str, str]:
    texts = {}
    for folder in APPLIED:
        done = subprocess.run([KUBECTL, "kustomize", tree / folder], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        texts[folder] = done.stdout
    return texts


def assert_reached_everywhere(tree: Path) -> None:
    texts = rendered(tree)
    assert {ours: [f for f, text in texts.items() if ours in text] for ours in OURS} == {ours: [] for ours in OURS}
    # root, two platform Applications, three projects, and two places in each of two ApplicationSets
    assert texts["bootstrap"].count("https://git.example.org/acme/shop.git") == 10
    for overlay in OVERLAYS:
        environment = overlay.rsplit("/", 1)[1]
        image = "inference" if "inference" in overlay else "training"
        assert f"image: 210987654321.dkr.ecr.eu-central-1.amazonaws.com/acme/{image}:" in texts[overlay]
        assert "role-arn: arn:aws:iam::210987654321:role/ml-" in texts[overlay]
        assert f"acme-{environment}" in texts[overlay]
        assert "AWS_DEFAULT_REGION: eu-central-1" in texts[overlay]


def test_one_command_reaches_everything_that_is_applied(tree: Path) -> None:
    done = configure(
        tree,
        *("--repo", "https://git.example.org/acme/shop.git", "--account", "210987654321", "--region", "eu-central-1"),
        *("--registry", "210987654321.dkr.ecr.eu-central-1.amazonaws.com/acme", "--bucket", "acme"),
    )
    assert done.returncode == 0, done.stderr
    assert_reached_everywhere(tree)
    assert "gitops/argocd-root/root-application.yaml  spec.source.repoURL: https://github.com/your-org" in done.stdout


def test_three_edits_by_hand_do_the_same(tree: Path) -> None:
    root = tree / "argocd-root/root-application.yaml"
    root.write_text(
        root.read_text().replace(
            "https://github.com/your-org/fashion-recommender.git", "https://git.example.org/acme/shop.git"
        )
    )
    registry = tree / "config/defaults/image-registry.yaml"
    registry.write_text(
        registry.read_text()
        .replace("baseURL: 123456789012.dkr.ecr.ap-southeast-2", "baseURL: 210987654321.dkr.ecr.eu-central-1")
        .replace("repoPrefix: ml-fashion-recommender", "repoPrefix: acme")
    )
    for name in ("production", "staging"):
        environment = tree / f"config/environments/{name}.yaml"
        environment.write_text(
            environment.read_text()
            .replace("123456789012", "210987654321")
            .replace("ap-southeast-2", "eu-central-1")
            .replace(f"bucket: fashion-recommender-{name}", f"bucket: acme-{name}")
        )
    assert_reached_everywhere(tree)


def test_only_the_value_changes_in_a_file(tree: Path) -> None:
    path = tree / "config/environments/staging.yaml"
    before = path.read_text()
    assert configure(tree, "--account", "210987654321").returncode == 0
    assert path.read_text() == before.replace('"123456789012"', '"210987654321"')


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"account": "12345"}, "12 digits"),
        ({"repo": "acme/shop"}, "REPO='acme/shop'"),
        ({"registry": "https://registry.example.org"}, "without https://"),
        ({"region": "Frankfurt"}, "eu-central-1"),
        ({"bucket": "Acme"}, "lower-case"),
        ({"bucket": "a" * 60}, "71 characters"),
    ],
)
def test_value_that_cannot_be_right_is_refused(given: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        planned_edits(TREE, **given)


def test_nothing_is_written_when_one_of_the_values_is_wrong(tree: Path) -> None:
    before = {path: path.read_bytes() for path in tree.rglob("*.yaml")}
    done = configure(tree, "--account", "12", "--region", "eu-central-1")
    assert done.returncode == 2
    assert "ACCOUNT='12'" in done.stderr
    assert {path: path.read_bytes() for path in tree.rglob("*.yaml")} == before


def test_ends_of_lines_stay_as_they_are(tree: Path) -> None:
    path = tree / "config/environments/staging.yaml"
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    before = path.read_bytes()
    assert configure(tree, "--account", "210987654321").returncode == 0
    assert path.read_bytes() == before.replace(b'"123456789012"', b'"210987654321"')


def test_a_file_that_is_broken_is_named_without_a_traceback(tree: Path) -> None:
    (tree / "config/environments/staging.yaml").write_text("aws: [\n")
    done = configure(tree, "--account", "210987654321")
    assert done.returncode == 2
    assert "staging.yaml is not YAML: " in done.stderr
    assert "Traceback" not in done.stderr


def test_a_registry_without_a_prefix_keeps_the_one_that_is_there_and_says_so(tree: Path) -> None:
    done = configure(tree, "--registry", "registry.example.org")
    assert "repoPrefix stays: registry.example.org/ml-fashion-recommender/inference" in done.stdout
    assert "repoPrefix stays" not in configure(tree, "--registry", "registry.example.org/acme").stdout


def test_signatures_need_an_address_that_names_the_signer(tree: Path) -> None:
    address = "git@github.com:acme/shop.git"
    assert planned_edits(tree, repo=address)
    bootstrap = tree / "bootstrap/kustomization.yaml"
    bootstrap.write_text(bootstrap.read_text() + "components: [../policy/signed-images]\n")
    with pytest.raises(UsageError, match="no OWNER/REPO of a signer"):
        planned_edits(tree, repo=address)
    assert planned_edits(tree, repo="https://github.com/acme/shop.git")
