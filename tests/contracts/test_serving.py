"""The service's code against the manifests that run it: routes, ports, settings, memory, time to drain."""

import asyncio
import json
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import pytest

from inference import __main__ as server
from inference.app import create_service
from inference.reasons import ABOUT_CUSTOMER, SIGNALS_SAID
from inference.settings import Settings
from pipelines.gitops.quantities import MIB, memory_bytes
from pipelines.gitops.rules.pods import T3_MICRO_ALLOCATABLE_MIB, T3_MICRO_DAEMONS_MIB
from pipelines.gitops.tree import Document, documents_of
from pipelines.recommender.model import SIGNAL_GROUPS
from tests.contracts.overlays import ENVIRONMENTS, GITOPS, configuration, only, overlay

REPOSITORY = GITOPS.parent
APPLICATION = "ml-recommendation-inference"
PROBES = ("startupProbe", "readinessProbe", "livenessProbe")
HEADROOM = 1.3  # of what was measured: a second model in memory during a swap, and a month of fragmentation
# Read by boto3 and the AWS SDK, not by us.
OF_AWS = re.compile(r"AWS_[A-Z_]+")


@pytest.fixture(params=ENVIRONMENTS)
def environment(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def pod(environment: str) -> Document:
    spec: Document = only(overlay(APPLICATION, environment), "Deployment")["spec"]["template"]["spec"]
    return spec


@pytest.fixture
def container(pod: Document) -> Document:
    [container] = pod["containers"]
    return dict(container)


@pytest.fixture
def variables(environment: str, container: Document) -> dict[str, str]:
    """Give the environment that the container starts with."""
    rendered = overlay(APPLICATION, environment)
    found: dict[str, str] = {}
    for source in [source for source in container.get("envFrom", []) if "configMapRef" in source]:
        found |= (rendered.find("ConfigMap", source["configMapRef"]["name"]) or {})["data"]
    return found | {variable["name"]: variable["value"] for variable in container.get("env", [])}


@pytest.fixture
def settings(variables: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name in [field.upper() for field in Settings.model_fields]:
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return Settings()


def answers_to(path: str) -> int:
    """Ask the real application, started as uvicorn starts it and without a model; 404 is a route that it has not."""
    service = create_service(Settings(model_uri="./no-lake"))
    started = asyncio.Event()

    async def ask() -> int:
        messages: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

        async def send(message: Any) -> None:
            if message["type"] == "lifespan.startup.complete":
                started.set()

        scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}
        running = asyncio.create_task(service(scope, messages.get, send))  # type: ignore[arg-type]
        messages.put_nowait({"type": "lifespan.startup"})
        await asyncio.wait_for(started.wait(), 20)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=service), base_url="http://pod") as client:
            status = (await client.get(path)).status_code
        messages.put_nowait({"type": "lifespan.shutdown"})
        await running
        return status

    return asyncio.run(ask())


def test_every_probe_asks_a_route_that_the_service_has(container: Document) -> None:
    paths = {container[probe]["httpGet"]["path"] for probe in PROBES}
    assert {path: answers_to(path) for path in paths if answers_to(path) == 404} == {}
    assert answers_to("/health/live") == 404  # what a probe of the original asked: the test can fail


def test_only_readiness_waits_for_a_model(container: Document) -> None:
    """A pod without a model gets no requests, and is not restarted for it: a new lake has no champion for hours."""
    assert answers_to(container["readinessProbe"]["httpGet"]["path"]) == 503
    assert answers_to(container["livenessProbe"]["httpGet"]["path"]) == 200
    assert answers_to(container["startupProbe"]["httpGet"]["path"]) == 200


def test_container_starts_the_server_that_exists(container: Document) -> None:
    assert container["command"] == ["python", "-m", "inference"]
    assert container.get("args", []) == []
    assert find_spec("inference.__main__") is not None


def test_every_variable_is_a_setting(variables: dict[str, str]) -> None:
    known = {field.upper() for field in Settings.model_fields}
    assert [name for name in variables if name not in known and not OF_AWS.fullmatch(name)] == []


def test_what_a_pod_cannot_do_without_is_set(
    settings: Settings, variables: dict[str, str], container: Document, pod: Document, environment: str
) -> None:
    assert settings.api_host == "0.0.0.0", "127.0.0.1, the default, is reached by no probe"
    assert settings.model_uri == f"s3://{configuration(environment)['lake']['bucket']}/registry"
    assert variables["AWS_DEFAULT_REGION"] == configuration(environment)["aws"]["region"]
    mounts = {Path(mount["mountPath"]): mount["name"] for mount in container["volumeMounts"]}
    [volume] = [v for v in pod["volumes"] if v["name"] == mounts.get(settings.model_cache)]
    assert "emptyDir" in volume, "bundles are copied to MODEL_CACHE, and the root is read-only"


def test_ports_are_those_that_the_server_opens(settings: Settings, container: Document, environment: str) -> None:
    opened = {port["name"]: port["containerPort"] for port in container["ports"]}
    expected = {"http": settings.api_port}
    if settings.metrics_port is not None:
        expected["metrics"] = settings.metrics_port
    assert opened == expected
    service = only(overlay(APPLICATION, environment), "Service")
    assert {port["targetPort"] for port in service["spec"]["ports"]} <= set(opened)


def test_prometheus_asks_a_route_and_a_port_of_the_service(environment: str) -> None:
    service = only(overlay(APPLICATION, environment), "Service")
    monitors = documents_of(GITOPS / "manifests/monitoring/monitors.yaml")
    wanted = [
        m
        for m in monitors
        if m["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
        and m["kind"] == "ServiceMonitor"
    ]
    assert len(wanted) == 1
    for endpoint in wanted[0]["spec"]["endpoints"]:
        assert endpoint["port"] in {port["name"] for port in service["spec"]["ports"]}
        assert answers_to(endpoint["path"]) == 200


def test_grace_is_longer_than_all_that_happens_in_it(settings: Settings, pod: Document, container: Document) -> None:
    sleeps = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    assert pod["terminationGracePeriodSeconds"] > sleeps + settings.drain_seconds + server.DRAIN_S


def test_image_runs_as_the_user_and_on_the_port_of_the_manifest(pod: Document, container: Document) -> None:
    dockerfile = (REPOSITORY / "Dockerfile.inference").read_text()
    user, group = re.findall(r"(?m)^USER (\d+):(\d+)$", dockerfile)[-1]
    assert (pod["securityContext"]["runAsUser"], pod["securityContext"]["runAsGroup"]) == (int(user), int(group))
    assert re.findall(r"(?m)^EXPOSE (\d+)$", dockerfile) == [str(container["ports"][0]["containerPort"])]


def test_memory_limit_has_headroom_over_what_was_measured_and_fits_the_node(container: Document) -> None:
    measured = json.loads((REPOSITORY / "benchmarks/measured.json").read_text())["serving"]["working_set_mib"]
    limit = memory_bytes(container["resources"]["limits"]["memory"]) / MIB
    assert limit >= HEADROOM * measured
    assert limit <= T3_MICRO_ALLOCATABLE_MIB - T3_MICRO_DAEMONS_MIB
    assert memory_bytes(container["resources"]["requests"]["memory"]) / MIB >= measured


def test_cache_of_models_holds_three_bundles(pod: Document) -> None:
    """The kubelet evicts a pod whose emptyDir outgrows its limit."""
    bundle = json.loads((REPOSITORY / "benchmarks/measured.json").read_text())["serving"]["bundle_mib"]
    [limit] = [volume["emptyDir"]["sizeLimit"] for volume in pod["volumes"] if volume["name"] == "models"]
    assert memory_bytes(limit) / MIB >= 3 * bundle


def test_resources_are_those_of_the_configuration(container: Document, environment: str) -> None:
    assert container["resources"] == configuration(environment)["inference"]["resources"]


def test_the_role_of_the_pod_is_the_configured_one(environment: str) -> None:
    account = only(overlay(APPLICATION, environment), "ServiceAccount")
    settings = configuration(environment)
    assert account["metadata"]["name"] == "ml-inference-sa"
    role = f"arn:aws:iam::{settings['aws']['accountId']}:role/{settings['inference']['role']}"
    assert account["metadata"]["annotations"]["eks.amazonaws.com/role-arn"] == role


def test_every_signal_that_reasons_speak_of_is_one_of_the_models() -> None:
    assert set(SIGNALS_SAID) <= set(SIGNAL_GROUPS)
    assert set(ABOUT_CUSTOMER) <= set(SIGNALS_SAID)
