"""The admission policies, evaluated by a CEL interpreter: what we deploy passes, and each fault is refused by name."""

import copy
import json
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import celpy
import pytest
import yaml
from celpy import celtypes, json_to_cel

TREE = Path(__file__).parents[2] / "gitops"
POLICIES = {
    document["metadata"]["name"]: document["spec"]
    for path in sorted((TREE / "policy/admission").glob("*.yaml"))
    for document in yaml.safe_load_all(path.read_text())
    if document["kind"] == "ValidatingAdmissionPolicy"
}
BINDINGS = [
    document["spec"]
    for path in sorted((TREE / "policy/admission").glob("*.yaml"))
    for document in yaml.safe_load_all(path.read_text())
    if document["kind"] == "ValidatingAdmissionPolicyBinding"
]
OVERLAYS = sorted(path for path in TREE.glob("apps/*/overlays/*") if path.is_dir())
ENVIRONMENT = celpy.Environment()
DIGEST = f"sha256:{'a' * 64}"

Object = dict[str, Any]


def refusals(target: Object) -> list[str]:
    """Give the messages of all policies that refuse an object, as the API server would."""
    messages = []
    for spec in POLICIES.values():
        activation: dict[str, Any] = {"object": json_to_cel(target), "variables": celtypes.MapType({})}
        for variable in spec.get("variables", []):
            activation["variables"][celtypes.StringType(variable["name"])] = evaluate(
                variable["expression"], activation
            )
        messages += [v["message"] for v in spec["validations"] if not evaluate(v["expression"], activation)]
    return messages


def evaluate(expression: str, activation: dict[str, Any]) -> Any:
    return _program(expression).evaluate(activation)


@cache
def _program(expression: str) -> Any:
    return ENVIRONMENT.program(ENVIRONMENT.compile(expression))


def rendered(overlay: Path) -> list[Object]:
    command = [Path(sys.executable).with_name("kubectl"), "kustomize", overlay]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return list(yaml.safe_load_all(done.stdout))


def workflow_pods(template: Object) -> list[Object]:
    """Give the pods that Argo makes of a template: the step beside its own containers, as podSpecPatch has them."""
    spec = template["spec"]
    patch = json.loads(spec["podSpecPatch"])
    own = {"image": "quay.io/argoproj/argoexec:v4.1.2"}
    return [
        {
            "kind": "Pod",
            "spec": {
                "securityContext": spec["securityContext"],
                "initContainers": [container | own for container in patch["initContainers"]],
                "containers": [
                    *(container | own for container in patch["containers"]),
                    {"name": "main"} | leaf["container"],
                ],
            },
        }
        for leaf in spec["templates"]
        if "container" in leaf
    ]


@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda path: f"{path.parent.parent.name}-{path.name}")
def test_what_is_deployed_passes(overlay: Path) -> None:
    documents = rendered(overlay)
    targets = [document for document in documents if document["kind"] == "Deployment"]
    targets += [pod for d in documents if d["kind"] == "WorkflowTemplate" for pod in workflow_pods(d)]
    assert targets
    assert [refusals(target) for target in targets] == [[]] * len(targets)


@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda path: f"{path.parent.parent.name}-{path.name}")
def test_policies_are_bound_to_the_namespaces_of_the_overlays(overlay: Path) -> None:
    (namespace,) = [document for document in rendered(overlay) if document["kind"] == "Namespace"]
    assert {binding["policyName"] for binding in BINDINGS} == set(POLICIES)
    for binding in BINDINGS:
        selector = binding["matchResources"]["namespaceSelector"]["matchLabels"]
        assert selector.items() <= namespace["metadata"]["labels"].items()
        assert "Deny" in binding["validationActions"]


GOOD: Object = {
    "kind": "Pod",
    "spec": {
        "securityContext": {"runAsNonRoot": True, "runAsUser": 10001},
        "containers": [
            {
                "name": "main",
                "image": f"registry.example:5000/acme/inference:main-1a2b3c4@{DIGEST}",
                "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": "32Mi"}},
            }
        ],
    },
}


def changed(change: Callable[[Object], Any]) -> Object:
    pod = copy.deepcopy(GOOD)
    change(pod["spec"])
    return pod


def with_image(image: str) -> Object:
    return changed(lambda spec: spec["containers"][0].update(image=image))


@pytest.mark.parametrize(
    "image",
    [
        f"registry.example/acme/inference:develop-{'0' * 40}",
        "inference:main-1a2b3c4",
        "quay.io/argoproj/argoexec:v4.1.2",
        f"registry.example:5000/other@{DIGEST}",
    ],
)
def test_image_that_never_moves_passes(image: str) -> None:
    assert refusals(with_image(image)) == []


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ("registry.example/other", "neither tag nor digest"),
        ("registry.example:5000/other", "neither tag nor digest"),
        ("registry.example/other:latest", "a tag that moves"),
        ("registry.example/other:develop", "a tag that moves"),
        ("registry.example/acme/inference:1.2.3", "main-<sha> or develop-<sha>"),
        ("registry.example/acme/training:main-release", "main-<sha> or develop-<sha>"),
        (f"registry.example/acme/training@{DIGEST}", "main-<sha> or develop-<sha>"),
    ],
)
def test_image_that_may_move_is_refused(image: str, message: str) -> None:
    (refusal,) = refusals(with_image(image))
    assert message in refusal


def test_init_and_ephemeral_containers_are_looked_at_too() -> None:
    for field in ("initContainers", "ephemeralContainers"):
        moving = GOOD["spec"]["containers"][0] | {"image": "busybox:latest"}
        assert "a tag that moves" in refusals(changed(lambda spec, f=field, c=moving: spec.update({f: [c]})))[0]
    rooted = GOOD["spec"]["containers"][0] | {"securityContext": {"runAsUser": 0}}
    assert "no user id" in refusals(changed(lambda spec: spec.update(initContainers=[rooted])))[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda spec: spec["containers"][0]["resources"].pop("limits"), "no memory limit"),
        (lambda spec: spec["containers"][0]["resources"].update(limits={"cpu": "1"}), "no memory limit"),
        (lambda spec: spec["containers"][0]["resources"]["requests"].pop("cpu"), "does not say what it needs"),
        (lambda spec: spec["securityContext"].update(runAsNonRoot=False), "may run as root"),
        (lambda spec: spec["securityContext"].pop("runAsNonRoot"), "may run as root"),
        (lambda spec: spec["securityContext"].pop("runAsUser"), "no user id"),
        (lambda spec: spec["containers"][0].update(securityContext={"runAsNonRoot": False}), "may run as root"),
        (lambda spec: spec["containers"][0].update(securityContext={"runAsUser": 0}), "no user id"),
    ],
)  # fmt: skip
def test_pod_without_limits_or_with_root_is_refused(change: Callable[[Object], Any], message: str) -> None:
    (refusal,) = refusals(changed(change))
    assert message in refusal


def test_container_s_own_setting_wins_over_the_pod_s() -> None:
    own = {"runAsNonRoot": True, "runAsUser": 1}
    pod = changed(lambda spec: spec.pop("securityContext") and spec["containers"][0].update(securityContext=own))
    assert refusals(pod) == []


def test_deployment_is_judged_by_its_pods() -> None:
    deployment = {"kind": "Deployment", "spec": {"template": with_image("registry.example/other:latest")}}
    assert "a tag that moves" in refusals(deployment)[0]
