"""What the monitoring Application applies comes in an order in which its first sync can end."""

import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import yaml

MONITORING = Path(__file__).parents[2] / "gitops/manifests/monitoring"
CHART_WAVE = 0  # the chart's objects have no annotation
WAVE = "argocd.argoproj.io/sync-wave"
# Kinds of which the chart brings the definition.
OF_THE_CHART = {"ServiceMonitor", "PodMonitor", "PrometheusRule"}

Document = dict[str, Any]


@cache
def rendered() -> tuple[Document, ...]:
    command = [Path(sys.executable).with_name("kubectl"), "kustomize", MONITORING]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return tuple(yaml.safe_load_all(done.stdout))


def wave(document: Document) -> int:
    return int(document["metadata"]["annotations"][WAVE])


def waves_of(kind: str) -> dict[str, int]:
    return {d["metadata"]["name"]: wave(d) for d in rendered() if d["kind"] == kind}


def test_secrets_that_the_chart_names_are_made_before_it() -> None:
    """Grafana is not ready without its Secret, and Argo CD starts no wave before the last one is healthy."""
    named = set(re.findall(r"(?:existingSecret|secretName): (\S+)", (MONITORING / "values.yaml").read_text()))
    made = {d["spec"]["target"]["name"]: wave(d) for d in rendered() if d["kind"] == "ExternalSecret"}
    assert named == made.keys()
    assert max(made.values()) < CHART_WAVE


def test_store_is_there_before_what_is_fetched_through_it() -> None:
    fetched = waves_of("ExternalSecret").values()
    assert max(waves_of("ClusterSecretStore").values()) < min(fetched)
    assert waves_of("ServiceAccount")["secrets-reader"] < min(fetched)


def test_kinds_of_the_chart_come_after_it() -> None:
    waves = {(d["kind"], d["metadata"]["name"]): wave(d) for d in rendered() if d["kind"] in OF_THE_CHART}
    assert {kind for kind, _ in waves} == OF_THE_CHART
    assert {key: number for key, number in waves.items() if number <= CHART_WAVE} == {}


def test_no_object_stops_a_dry_run_for_want_of_its_kind() -> None:
    options = {d["metadata"]["annotations"].get("argocd.argoproj.io/sync-options") for d in rendered()}
    assert options == {"SkipDryRunOnMissingResource=true"}
