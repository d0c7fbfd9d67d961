"""What is off by default does what it says once it is listed under `components:`."""

import fnmatch
import re
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from inference.settings import Settings
from pipelines.gitops.components import build_components
from pipelines.gitops.tree import Document, Rendered, Tree

TREE = Path(__file__).parents[2] / "gitops"
SERVICE, TRAINING = "ml-recommendation-inference", "ml-training-workflow-circle"
WORKFLOWS = Path(__file__).parents[2] / ".github/workflows"


@cache
def switched_on() -> dict[str, Rendered]:
    rendered, findings = build_components(Tree(TREE))
    assert findings == []
    return {str(r.folder.relative_to(TREE)): r for r in rendered}


def component(path: str) -> Rendered:
    return switched_on()[path]


def one(rendered: Rendered, kind: str, name: str = "") -> Document:
    [document] = [d for d in rendered.of_kind(kind) if d["metadata"]["name"].startswith(name)]
    return document


def test_larger_nodes_get_two_replicas_and_rollouts_without_a_gap() -> None:
    rendered = component(f"apps/{SERVICE}/components/larger-nodes")
    deployment = one(rendered, "Deployment")["spec"]
    assert deployment["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    assert "replicas" not in deployment, "Argo CD would put the number back that the autoscaler has changed"
    scaler = one(rendered, "HorizontalPodAutoscaler")["spec"]
    assert scaler["minReplicas"] == 2
    pods = int(one(rendered, "ResourceQuota")["spec"]["hard"]["pods"])
    assert pods > 2 * scaler["maxReplicas"], "a rollout at full size needs a pod more, beside the old ones that end"


def test_token_file_is_mounted_where_the_server_looks() -> None:
    rendered = component(f"apps/{SERVICE}/components/api-tokens")
    pod = one(rendered, "Deployment")["spec"]["template"]["spec"]
    [container] = pod["containers"]
    [variable] = container["env"]
    assert variable["name"].lower() in Settings.model_fields
    file = Path(variable["value"])
    [mount] = [m for m in container["volumeMounts"] if m["mountPath"] == str(file.parent)]
    [volume] = [v for v in pod["volumes"] if v["name"] == mount["name"]]
    secret = one(rendered, "ExternalSecret")["spec"]
    assert secret["target"]["name"] == volume["secret"]["secretName"]
    assert [entry["secretKey"] for entry in secret["data"]] == [file.name]


@pytest.mark.parametrize(
    ("application", "config"),
    [(SERVICE, "ml-inference-config"), (TRAINING, "ml-training-config")],
    ids=["service", "training"],
)
def test_other_s3_server_is_named_and_reached(application: str, config: str) -> None:
    rendered = component(f"apps/{application}/components/s3-server")
    endpoint = urlsplit(one(rendered, "ConfigMap", config)["data"]["AWS_ENDPOINT_URL"])
    [rule] = one(rendered, "NetworkPolicy", "allow-s3-server")["spec"]["egress"]
    assert [port["port"] for port in rule["ports"]] == [endpoint.port]


def test_only_images_of_this_repository_s_workflows_count_as_signed() -> None:
    rendered = component("policy/signed-images")
    policy = one(rendered, "ImageValidatingPolicy")["spec"]
    [identity] = policy["attestors"][0]["cosign"]["keyless"]["identities"]
    workflow = next(path.name for path in WORKFLOWS.glob("*.yaml") if "cosign sign" in path.read_text())
    ours = f"https://github.com/your-org/fashion-recommender/.github/workflows/{workflow}@refs/heads/main"
    assert re.search(identity["subjectRegExp"], ours)
    for other in (ours.replace("your-org", "another"), ours.replace("heads/main", "heads/topic"), f"{ours}x"):
        assert not re.search(identity["subjectRegExp"], other)


def test_signatures_are_asked_of_the_images_that_the_overlays_deploy() -> None:
    policy = one(component("policy/signed-images"), "ImageValidatingPolicy")["spec"]
    globs = [reference["glob"] for reference in policy["matchImageReferences"]]
    deployment = one(component(f"apps/{SERVICE}/components/larger-nodes"), "Deployment")
    template = one(component(f"apps/{TRAINING}/components/s3-server"), "WorkflowTemplate")
    images = {deployment["spec"]["template"]["spec"]["containers"][0]["image"]}
    images |= {t["container"]["image"] for t in template["spec"]["templates"] if "container" in t}
    assert len(images) == 2
    assert all(any(fnmatch.fnmatchcase(image, glob) for glob in globs) for image in images)
