"""A t3.micro has one slot for a pod that is not the node's own: everything but the service keeps off it."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.workflow import workflow_template

TREE = Path(__file__).parents[2] / "gitops"
RULE = {"key": "node.kubernetes.io/instance-type", "operator": "NotIn", "values": ["t3.micro"]}

Values = dict[str, Any]


def chart_values(application: str) -> Values:
    """Give what the Application passes to its chart."""
    document = yaml.safe_load((TREE / application).read_text())
    values: Values = document["spec"]["source"]["helm"]["valuesObject"]
    return values


def pods() -> dict[str, Values]:
    """Give the node affinity of each of the platform's pods, by the key of its chart, and of a run's pods."""
    external_secrets = chart_values("bootstrap/platform/external-secrets-app.yaml")
    kyverno = chart_values("policy/signed-images/kyverno-app.yaml")
    logging = yaml.safe_load((TREE / "manifests/logging/values.yaml").read_text())
    monitoring = yaml.safe_load((TREE / "manifests/monitoring/values.yaml").read_text())
    by_node_affinity = {
        "kyverno": kyverno["admissionController"],
        "kyverno's migration": kyverno["crds"]["migration"],
    }
    by_affinity = {
        "external-secrets": external_secrets,
        "external-secrets' webhook": external_secrets["webhook"],
        "external-secrets' certController": external_secrets["certController"],
        "fluent-bit": logging,
        "prometheus": monitoring["prometheus"]["prometheusSpec"],
        "alertmanager": monitoring["alertmanager"]["alertmanagerSpec"],
        "grafana": monitoring["grafana"],
        "prometheus operator": monitoring["prometheusOperator"],
        "node exporter": monitoring["prometheus-node-exporter"],
        "kube-state-metrics": monitoring["kube-state-metrics"],
        "training": workflow_template()["spec"],
    }
    found = {name: values.get("affinity", {}).get("nodeAffinity", {}) for name, values in by_affinity.items()}
    return found | {name: values.get("nodeAffinity", {}) for name, values in by_node_affinity.items()}


@pytest.mark.parametrize(("name", "affinity"), pods().items(), ids=pods())
def test_only_the_service_runs_on_a_t3_micro(name: str, affinity: Values) -> None:
    terms = affinity["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert terms == [{"matchExpressions": [RULE]}], name


def test_every_chart_of_the_platform_is_looked_at() -> None:
    paths = [*TREE.glob("bootstrap/platform/*.yaml"), *TREE.glob("policy/*/*-app.yaml")]
    names = {"external-secrets-app", "kyverno-app", "logging-app", "monitoring-app"}
    assert {path.stem for path in paths} == names
