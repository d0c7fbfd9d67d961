"""What the root Application brings about: one repository, one sync policy, projects, pinned charts."""

import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

TREE = Path(__file__).parents[2] / "gitops"
Document = dict[str, Any]
APPLICATION_SETS = ("ml-recommendation-inference", "ml-training-workflow-circle")


@cache
def bootstrap() -> dict[tuple[str, str], Document]:
    command = [Path(sys.executable).with_name("kubectl"), "kustomize", TREE / "bootstrap"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return {(d["kind"], d["metadata"]["name"]): d for d in yaml.safe_load_all(done.stdout)}


def applications() -> dict[str, Document]:
    return {name: document for (kind, name), document in bootstrap().items() if kind == "Application"}


def policy(name: str) -> Document:
    documents = yaml.safe_load_all((TREE / "policy/sync-policy.yaml").read_text())
    [spec] = [document["spec"] for document in documents if document["metadata"]["name"] == name]
    return dict(spec)


def test_root_manages_itself_as_it_was_applied_by_hand() -> None:
    by_hand = yaml.safe_load((TREE / "argocd-root/root-application.yaml").read_text())
    assert applications()["gitops-root"] == by_hand
    assert TREE.parent / by_hand["spec"]["source"]["path"] == TREE / "bootstrap"
    assert by_hand["metadata"]["annotations"]["argocd.argoproj.io/sync-options"] == "Prune=false"


def test_applications_get_the_sync_policy_of_policy() -> None:
    for name in APPLICATION_SETS:
        template = bootstrap()["ApplicationSet", name]["spec"]["template"]
        assert template["spec"]["syncPolicy"] == policy("applications")
    for name, application in applications().items():
        if name != "gitops-root":
            assert application["spec"]["syncPolicy"] == policy("platform"), name


@pytest.mark.parametrize("name", APPLICATION_SETS)
def test_adding_an_overlay_adds_an_environment(name: str) -> None:
    spec = bootstrap()["ApplicationSet", name]["spec"]
    [generator] = spec["generators"]
    assert generator["git"]["directories"] == [{"path": f"gitops/apps/{name}/overlays/*"}]
    assert spec["goTemplateOptions"] == ["missingkey=error"]
    assert "{{" not in spec["template"]["spec"]["project"]
    # a generator that finds nothing for a moment must not remove production
    assert spec["syncPolicy"]["applicationsSync"] == "create-update"


@pytest.mark.parametrize(
    ("project", "namespace"), [("ml-inference", "ml-inference-prod"), ("ml-training", "ml-training-prod")]
)
def test_production_rests_at_weekends_and_staging_does_not(project: str, namespace: str) -> None:
    [window] = bootstrap()["AppProject", project]["spec"]["syncWindows"]
    assert (window["kind"], window["namespaces"]) == ("deny", [namespace])
    assert (window["schedule"], window["duration"], window["timeZone"]) == ("0 18 * * 5", "60h", "UTC")
    assert window["manualSync"] is True


def test_projects_name_repositories_and_kinds_one_by_one() -> None:
    projects = [document["spec"] for (kind, _), document in bootstrap().items() if kind == "AppProject"]
    assert len(projects) == 3
    for spec in projects:
        assert not any("*" in repository for repository in spec["sourceRepos"])
        kinds = spec["clusterResourceWhitelist"] + spec["namespaceResourceWhitelist"]
        assert not any("*" in kind["kind"] or "*" in kind["group"] for kind in kinds)
        assert all(destination["namespace"] != "*" for destination in spec["destinations"])


def test_charts_are_pinned_by_version() -> None:
    sources = [
        source
        for application in applications().values()
        for source in application["spec"].get("sources", [application["spec"].get("source")])
        if "chart" in source
    ]
    assert {source["chart"] for source in sources} == {"external-secrets", "fluent-bit", "kube-prometheus-stack"}
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", source["targetRevision"]) for source in sources)


def test_projects_and_policies_come_before_what_they_are_for() -> None:
    waves = {
        key: int(document["metadata"].get("annotations", {}).get("argocd.argoproj.io/sync-wave", "0"))
        for key, document in bootstrap().items()
    }
    first = [wave for (kind, _), wave in waves.items() if kind in ("AppProject", "ValidatingAdmissionPolicy")]
    platform = [wave for (kind, name), wave in waves.items() if kind == "Application" and name != "gitops-root"]
    assert max(first) < min(platform)
    assert waves["Application", "external-secrets-platform"] < waves["Application", "monitoring-platform"]
    assert all(wave > max(platform) for (kind, _), wave in waves.items() if kind == "ApplicationSet")
