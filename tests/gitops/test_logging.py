"""The log pipeline against the lines that service and training really write."""

import datetime as dt
import json
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from inference.service import ROUTES

LOGGING = Path(__file__).parents[2] / "gitops/manifests/logging"
PIPELINE: dict[str, Any] = yaml.safe_load((LOGGING / "fluent-bit.yaml").read_text())
VALUES: dict[str, Any] = yaml.safe_load((LOGGING / "values.yaml").read_text())
FILTERS = PIPELINE["pipeline"]["filters"]

SERVICE = """
from inference.telemetry import configure_logging, get_logger
configure_logging("info")
get_logger().info("request", request_id="5bfa2272ef8e1128", route="/predict", status=200)
"""
STEP = """
from pipelines.logs import configure_logging, get_logger, log_context
configure_logging("info")
with log_context(run_id="run-1", step="train"):
    get_logger().info("step_finished")
"""


@cache
def written(code: str) -> dict[str, Any]:
    """Run code in a process of its own, as a pod would, and read the one line that it logs."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    [line] = done.stderr.splitlines()
    record: dict[str, Any] = json.loads(line)
    return record


def test_lines_are_json_with_the_ids_that_searches_go_by() -> None:
    assert written(SERVICE).items() >= {"event": "request", "request_id": "5bfa2272ef8e1128"}.items()
    assert written(STEP).items() >= {"event": "step_finished", "run_id": "run-1", "step": "train"}.items()


def test_parser_reads_the_time_that_both_write() -> None:
    [parser] = PIPELINE["parsers"]
    assert {f["parser"] for f in FILTERS if f["name"] == "parser"} == {parser["name"]}
    # Fluent Bit's %L is the fraction of a second, which strptime calls %f
    time_format = parser["time_format"].replace("%L", "%f")
    for code in (SERVICE, STEP):
        written_at = dt.datetime.strptime(written(code)[parser["time_key"]], time_format).replace(tzinfo=dt.UTC)
        assert abs(dt.datetime.now(dt.UTC) - written_at) < dt.timedelta(minutes=5)


def test_probes_and_scrapes_are_left_out_and_nothing_else() -> None:
    [rule] = [f["exclude"] for f in FILTERS if f["name"] == "grep"]
    field, pattern = rule.split(" ", 1)
    assert field in written(SERVICE)
    assert {route for route in ROUTES | {"other"} if re.search(pattern, route)} == {"/healthz", "/livez", "/metrics"}


def test_containers_that_are_read_are_those_of_the_manifests() -> None:
    [source] = PIPELINE["pipeline"]["inputs"]
    patterns = [Path(path).name for path in source["path"].split(",")]
    # the kubelet's names: POD_NAMESPACE_CONTAINER-ID.log
    of_service, of_step, of_executor = (
        f"{name}-{'a' * 64}.log"
        for name in (
            "ml-recommendation-inference-7d9_ml-inference-prod_inference",
            "ml-training-daily-1-train-2_ml-training-staging_main",
            "ml-training-daily-1-train-2_ml-training-staging_wait",
        )
    )
    assert any(Path(of_service).match(pattern) for pattern in patterns)
    assert any(Path(of_step).match(pattern) for pattern in patterns)
    assert not any(Path(of_executor).match(pattern) for pattern in patterns)


def test_pipeline_is_the_one_that_the_chart_mounts_and_starts() -> None:
    kustomization = yaml.safe_load((LOGGING / "kustomization.yaml").read_text())
    [generator] = kustomization["configMapGenerator"]
    assert VALUES["existingConfigMap"] == generator["name"]
    assert f"--config=/fluent-bit/etc/conf/{generator['files'][0]}" in VALUES["args"]
    assert kustomization["generatorOptions"]["disableNameSuffixHash"] is True
