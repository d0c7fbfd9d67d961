"""Nothing in config/ only decorates: some kustomization reads each value; and the environments are alike."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.gitops.quantities import MIB, memory_bytes

TREE = Path(__file__).parents[2] / "gitops"
FILES = sorted(path for path in TREE.glob("config/*/*.yaml") if path.name != "kustomization.yaml")


def leaves(value: Any, path: str = "") -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves(inner, f"{path}.{key}" if path else key)
    else:
        yield path


def read_paths(kind: str, name: str) -> set[str]:
    """Give the fields of an object that any kustomization of the tree copies from."""
    found = set()
    for path in TREE.rglob("kustomization.yaml"):
        for replacement in yaml.safe_load(path.read_text()).get("replacements", []):
            source = replacement["source"]
            if (source["kind"], source["name"]) == (kind, name):
                found.add(source["fieldPath"])
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_value_is_the_source_of_something(path: Path) -> None:
    document = yaml.safe_load(path.read_text())
    own = {key: value for key, value in document.items() if key not in ("apiVersion", "kind", "metadata")}
    read = read_paths(document["kind"], document["metadata"]["name"])
    unread = [leaf for leaf in leaves(own) if not any(leaf == p or leaf.startswith(f"{p}.") for p in read)]
    assert unread == []


def test_environments_are_configured_alike() -> None:
    production, staging = (
        yaml.safe_load((TREE / f"config/environments/{name}.yaml").read_text()) for name in ("production", "staging")
    )
    # the platform runs once, and is configured in production's file
    assert set(leaves(production)) - set(leaves(staging)) == {"platform.loggingRole", "platform.secretsRole"}
    assert set(leaves(staging)) <= set(leaves(production))


@pytest.mark.parametrize("application", ["ml-recommendation-inference", "ml-training-workflow-circle"])
def test_overlays_differ_only_in_their_environment(application: str) -> None:
    """Parity: what staging proves is what production gets."""

    def read(environment: str) -> str:
        text = (TREE / f"apps/{application}/overlays/{environment}/kustomization.yaml").read_text()
        return text.split("\n", 1)[1]  # the first line says what the overlay is

    staging = read("staging").replace("name: staging", "name: production")
    staging = staging.replace("-staging\n", "-prod\n")
    pins = [line for line in staging.splitlines() if line.strip().startswith(("newTag:", "digest:"))]
    assert pins
    differing = set(staging.splitlines()) ^ set(read("production").splitlines())
    assert all(line.strip().startswith(("newTag:", "digest:")) for line in differing), differing


def test_production_has_room_over_what_was_measured_at_full_size() -> None:
    measured = json.loads((TREE.parent / "benchmarks/measured.json").read_text())["training"]["full_size"]
    configured = yaml.safe_load((TREE / "config/environments/production.yaml").read_text())["training"]["resources"]
    text = (TREE / "docs/POD_OPTIMIZATION.md").read_text()
    for step, resources in configured.items():
        request, limit = resources["requests"]["memory"], resources["limits"]["memory"]
        peak = measured["peak_rss_mib"][step]
        assert memory_bytes(limit) / MIB >= 1.3 * peak, step
        assert memory_bytes(request) / MIB >= peak, step
        assert f"| {step} | {peak:,} MiB | {request} | {limit} |" in text


@pytest.mark.parametrize("environment", ["production", "staging"])
def test_steps_have_room_over_what_was_measured(environment: str) -> None:
    measured = json.loads((TREE.parent / "benchmarks/measured.json").read_text())["training"]["peak_rss_mib"]
    configured = yaml.safe_load((TREE / f"config/environments/{environment}.yaml").read_text())["training"]["resources"]
    limits = {step: memory_bytes(resources["limits"]["memory"]) / MIB for step, resources in configured.items()}
    assert limits.keys() == measured.keys()
    assert {step: limit for step, limit in limits.items() if limit < 1.3 * measured[step]} == {}
