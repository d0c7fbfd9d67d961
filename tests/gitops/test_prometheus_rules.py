"""promtool and amtool on what Prometheus and Alertmanager will read; and every metric named is one that is exported."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.workflow import workflow_template
from tests.inference.conftest import Server, server, tiny_bundle

__all__ = ["server", "tiny_bundle"]  # fixtures: a real server with a small bundle

MONITORING = Path(__file__).parents[2] / "gitops/manifests/monitoring"
RULES = sorted((MONITORING / "rules").glob("*.yaml"))
RULE_TESTS = sorted((MONITORING / "rules/tests").glob("*_test.yaml"))
DASHBOARD = json.loads((MONITORING / "dashboards/fashion-recommender.json").read_text())

# What others export, by who does: nothing else may be named in a rule or on the dashboard.
OTHERS = {
    "prometheus": {"up"},
    "kube-state-metrics": {
        "kube_deployment_spec_replicas",
        "kube_deployment_status_replicas_available",
        "kube_pod_container_status_restarts_total",
        "kube_pod_status_phase",
    },
    "argo-cd": {"argocd_app_info", "argocd_app_sync_total"},
    "fluent-bit": {"fluentbit_output_dropped_records_total", "fluentbit_output_retries_failed_total"},
}
FUNCTIONS_AND_WORDS = {
    *("abs", "absent", "and", "by", "changes", "delta", "group_left", "histogram_quantile", "ignoring", "increase"),
    *("label_replace", "label_values", "max", "max_over_time", "min", "on", "or", "rate", "resets", "sum", "time"),
    *("unless", "without"),
}


@pytest.fixture(scope="session")
def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("promtool is not here (Debian: apt-get install --no-install-recommends prometheus)")
    return found


@pytest.fixture(scope="session")
def plain_rules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder with each PrometheusRule's spec as the plain file that promtool reads, beside the tests."""
    folder = tmp_path_factory.mktemp("rules")
    for path in RULES:
        (folder / path.name).write_text(yaml.safe_dump(yaml.safe_load(path.read_text())["spec"]))
    for path in RULE_TESTS:
        (folder / path.name).write_text(path.read_text())
    return folder


@pytest.mark.parametrize("path", RULES, ids=lambda path: path.stem)
def test_rules_are_ones_that_prometheus_loads(path: Path, promtool: str, plain_rules: Path) -> None:
    done = subprocess.run(
        [promtool, "check", "rules", "--lint-fatal", plain_rules / path.name], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", RULE_TESTS, ids=lambda path: path.stem)
def test_alerts_fire_when_they_should_and_only_then(path: Path, promtool: str, plain_rules: Path) -> None:
    done = subprocess.run([promtool, "test", "rules", path.name], cwd=plain_rules, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_a_case_in_which_it_fires() -> None:
    alerts = {rule["alert"] for path in RULES for group in _groups(path) for rule in group["rules"] if "alert" in rule}
    fired = {
        case["alertname"]
        for path in RULE_TESTS
        for test in yaml.safe_load(path.read_text())["tests"]
        for case in test.get("alert_rule_test", [])
        if case["exp_alerts"]
    }
    assert alerts - fired == set()


def test_alertmanager_accepts_its_configuration(tmp_path: Path) -> None:
    amtool = shutil.which("amtool")
    if amtool is None:
        pytest.skip("amtool is not here (Debian: apt-get install --no-install-recommends prometheus-alertmanager)")
    config = tmp_path / "alertmanager.yaml"
    config.write_text(
        yaml.safe_dump(yaml.safe_load((MONITORING / "values.yaml").read_text())["alertmanager"]["config"])
    )
    done = subprocess.run([amtool, "check-config", config], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    routed = [amtool, "config", "routes", "test", "--config.file", config]
    for labels, receiver in (
        ("severity=critical", "on-call"),
        ("severity=warning", "team"),
        ("severity=info", "nobody"),
    ):
        done = subprocess.run([*routed, labels], capture_output=True, text=True)
        assert done.stdout.strip() == receiver, labels


def test_every_metric_named_is_exported(server: Server) -> None:
    assert server.predict({"customer_id": "nobody"}).status_code in (200, 422)
    known = (
        _exported_by_the_service(server.get("/metrics").text) | _exported_by_argo() | _recorded() | _from_cron_status()
    )
    known |= set().union(*OTHERS.values())
    named = {name: where for where, expression in _expressions() for name in _names(expression)}
    assert {name: where for name, where in named.items() if name not in known} == {}


def test_dashboard_shows_requests_model_fallbacks_and_training() -> None:
    shown = {name for where, expression in _expressions() if where.startswith("panel") for name in _names(expression)}
    assert {
        "http_requests_total",
        "http_request_duration_seconds_bucket",
        "model_info",
        "model_age_seconds",
        "recommendations_total",
        "argo_workflows_fashion_training_map_at_12",
        "argo_workflows_fashion_training_step_seconds",
    } <= shown


def _groups(path: Path) -> list[dict[str, Any]]:
    groups: list[dict[str, Any]] = yaml.safe_load(path.read_text())["spec"]["groups"]
    return groups


def _expressions() -> Iterator[tuple[str, str]]:
    for path in RULES:
        for group in _groups(path):
            for rule in group["rules"]:
                yield f"{path.name} {rule.get('alert', rule.get('record'))}", rule["expr"]
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", []):
            yield f"panel {panel['title']}", target["expr"]
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] == "query":
            yield f"variable {variable['name']}", variable["definition"].rsplit(",", 1)[0]
    for annotation in DASHBOARD["annotations"]["list"]:
        yield f"annotation {annotation['name']}", annotation["expr"]


def _names(expression: str) -> set[str]:
    """Give the metrics that an expression reads: its words, without strings, labels and functions."""
    bare = re.sub(r'"[^"]*"', "", expression)
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]", "", bare)
    bare = re.sub(r"\b(by|on|without|ignoring|group_left)\s*\([^)]*\)", "", bare)
    return set(re.findall(r"[a-zA-Z_:][a-zA-Z0-9_:]*", bare)) - FUNCTIONS_AND_WORDS


def _exported_by_the_service(text: str) -> set[str]:
    return set(re.findall(r"(?m)^([a-z_]+)(?:\{| )", text))


def _exported_by_argo() -> set[str]:
    spec = workflow_template()["spec"]
    defined = [spec, *spec["templates"]]
    return {f"argo_workflows_{m['name']}" for part in defined for m in part.get("metrics", {}).get("prometheus", [])}


def _recorded() -> set[str]:
    return {rule["record"] for path in RULES for group in _groups(path) for rule in group["rules"] if "record" in rule}


def _from_cron_status() -> set[str]:
    values = yaml.safe_load((MONITORING / "values.yaml").read_text())["kube-state-metrics"]["customResourceState"]
    resources = values["config"]["spec"]["resources"]
    return {f"{r['metricNamePrefix']}_{metric['name']}" for r in resources for metric in r["metrics"]}
