"""Submit runs to an Argo Server and wait for them, through Hera's WorkflowsService.

Hera's own wait returns while a run is still Pending, and its errors do not say what to do: both are replaced here.
"""

import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import requests
from hera.exceptions import AlreadyExists, BadRequest, Forbidden, HeraException, NotFound, NotImplemented, Unauthorized
from hera.workflows import WorkflowsService
from hera.workflows import models as argo
from pydantic import PydanticDeprecatedSince20
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_delay, wait_exponential

from pipelines.errors import PipelineError, TryAgainError, UsageError
from pipelines.workflow import TEMPLATE_NAME

_TIMEOUT_SECONDS = 30.0
_PATIENCE_SECONDS = 300.0  # how long a wait outlives a server that does not answer; the run itself goes on meanwhile
_ENDED = {"Succeeded", "Failed", "Error"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ArgoSettings:
    """Where the Argo Server is; the token never appears in a repr or a message."""

    server: str
    namespace: str
    _token: str | None

    def __repr__(self) -> str:
        return f"ArgoSettings(server={self.server!r}, namespace={self.namespace!r})"

    def service(self) -> WorkflowsService:
        return WorkflowsService(
            host=self.server, token=self._token, namespace=self.namespace, session=_SessionWithTimeout()
        )


class _SessionWithTimeout(requests.Session):
    """requests waits for ever unless told otherwise, and Hera does not tell it."""

    def request(self, *args: Any, **kwargs: Any) -> requests.Response:
        kwargs.setdefault("timeout", _TIMEOUT_SECONDS)
        return super().request(*args, **kwargs)


def argo_settings(environ: Mapping[str, str]) -> tuple[ArgoSettings | None, list[str]]:
    """Read ARGO_SERVER, ARGO_TOKEN and ARGO_NAMESPACE, as Argo's own command line names them, or say what is missing.

    A server without a scheme is https, or http when ARGO_SECURE is false.
    """
    problems: list[str] = []
    server = environ.get("ARGO_SERVER", "").strip()
    namespace = environ.get("ARGO_NAMESPACE", "").strip()
    if not server:
        problems.append(
            "ARGO_SERVER is not set; set it to the Argo Server's address, such as https://argo.example.com:2746"
            " (with ARGO_TOKEN and ARGO_NAMESPACE), or add --local to run here"
        )
    elif "://" not in server:
        server = ("http://" if environ.get("ARGO_SECURE", "").lower() == "false" else "https://") + server
    elif not server.startswith(("http://", "https://")):
        problems.append(f"ARGO_SERVER is {server!r}; it must begin with https:// or http://")
    if not namespace:
        problems.append(
            "ARGO_NAMESPACE is not set; set it to the namespace of the pipeline, such as ml-training-staging"
        )
    if problems:
        return None, problems
    # With the slash urljoin keeps a base path, as behind an ingress; without it Hera loses it.
    settings = ArgoSettings(
        server=server.rstrip("/") + "/", namespace=namespace, _token=environ.get("ARGO_TOKEN", "").strip() or None
    )
    return settings, []


def manifest(run_id: str, parameters: Mapping[str, str], namespace: str | None = None) -> dict[str, Any]:
    """Give the Workflow that a submission creates: the cluster's template with these parameters over its defaults."""
    return {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Workflow",
        "metadata": {"name": run_id} | ({"namespace": namespace} if namespace else {}),
        "spec": {
            "arguments": {"parameters": [{"name": name, "value": value} for name, value in parameters.items()]},
            "workflowTemplateRef": {"name": TEMPLATE_NAME},
        },
    }


def submit(settings: ArgoSettings, run_id: str, parameters: Mapping[str, str]) -> str:
    """Submit a run of the cluster's template and give the name that the server gave it.

    The name is chosen here: when an answer is lost, sending again meets "already exists" instead of a second run.
    """
    request = argo.WorkflowSubmitRequest(
        namespace=settings.namespace,
        resource_kind="WorkflowTemplate",
        resource_name=TEMPLATE_NAME,
        submit_options=argo.SubmitOpts(name=run_id, parameters=[f"{k}={v}" for k, v in parameters.items()]),
    )
    with settings.service() as service, _explained(settings, f"submit {TEMPLATE_NAME}"), warnings.catch_warnings():
        # Hera 7.1 writes its requests by pydantic's old method; to be removed with the Hera that does not.
        warnings.simplefilter("ignore", PydanticDeprecatedSince20)
        created = service.submit_workflow(request)
    return created.metadata.name or run_id


def wait(
    settings: ArgoSettings,
    name: str,
    *,
    on_poll: Callable[[argo.Workflow], None],
    on_trouble: Callable[[str], None],
    poll_seconds: float = 5.0,
) -> argo.Workflow:
    """Poll until the run has ended; a run without a phase, Pending or Running goes on.

    A server that does not answer for a while is waited for, and `on_trouble` hears about it.
    """

    def say(state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        on_trouble(f"{error}; asking again")

    patient = Retrying(
        retry=retry_if_exception_type(TryAgainError),
        wait=wait_exponential(multiplier=min(1.0, poll_seconds), max=30),
        stop=stop_after_delay(_PATIENCE_SECONDS),
        before_sleep=say,
        reraise=True,
    )
    with settings.service() as service:
        while True:
            for attempt in patient:
                with attempt, _explained(settings, f"get run {name}"):
                    workflow: argo.Workflow = service.get_workflow(name)
            on_poll(workflow)
            if phase(workflow) in _ENDED:
                return workflow
            time.sleep(poll_seconds)


def phase(workflow: argo.Workflow) -> str:
    """Give the run's phase; a fresh run has none yet and counts as Pending."""
    return (workflow.status.phase if workflow.status else None) or "Pending"


def seconds_by_step(workflow: argo.Workflow) -> dict[str, float]:
    """Give each finished step's seconds, retries and the pauses between them included."""
    seconds: dict[str, float] = {}
    for node in _nodes(workflow):
        if node.type in ("Pod", "Retry") and node.template_name and node.started_at and node.finished_at:
            spent = (node.finished_at.root - node.started_at.root).total_seconds()
            seconds[node.template_name] = max(spent, seconds.get(node.template_name, 0.0))
    return seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a run on the cluster did not succeed."""

    step: str | None
    message: str
    exit_code: int
    """the failed step's own, where the pod left one; else 1"""


def failure(workflow: argo.Workflow) -> Failure:
    """Find the pod that failed first among the last attempts; without one the run's own message has to do."""
    failed = [node for node in _nodes(workflow) if node.type == "Pod" and node.phase in ("Failed", "Error")]
    failed.sort(key=lambda node: str(node.finished_at.root) if node.finished_at else "")
    whole = (workflow.status.message if workflow.status else None) or f"the run ended as {phase(workflow)}"
    if not failed:
        return Failure(step=None, message=whole, exit_code=1)
    first = failed[0].template_name
    last_attempt = [node for node in failed if node.template_name == first][-1]
    code = last_attempt.outputs.exit_code if last_attempt.outputs else None
    return Failure(
        step=first,
        message=last_attempt.message or whole,
        exit_code=int(code) if code and code.isdecimal() and int(code) else 1,
    )


def _nodes(workflow: argo.Workflow) -> list[argo.NodeStatus]:
    return list((workflow.status.nodes or {}).values()) if workflow.status else []


@contextmanager
def _explained(settings: ArgoSettings, task: str) -> Iterator[None]:
    """Turn what Hera and requests raise into what people can act on."""
    where = f"cannot {task} in namespace {settings.namespace!r} at {settings.server}"
    try:
        yield
    except PipelineError:
        raise
    except Unauthorized as error:
        raise UsageError(f"{where}: not logged in; set ARGO_TOKEN to a valid token ({_said(error)})") from None
    except Forbidden as error:
        raise UsageError(
            f"{where}: the token has no right to; ask for create and get on workflows there, or correct"
            f" ARGO_NAMESPACE ({_said(error)})"
        ) from None
    except NotFound as error:
        raise UsageError(
            f"{where}: not found; check ARGO_NAMESPACE, and that the template was applied there ({_said(error)})"
        ) from None
    except AlreadyExists as error:
        raise UsageError(f"{where}: the run exists already, so it was submitted before ({_said(error)})") from None
    except (BadRequest, NotImplemented) as error:
        raise UsageError(f"{where}: refused by the server ({_said(error)})") from None
    except HeraException as error:  # 5xx, 429 and whatever a proxy invents
        raise TryAgainError(f"{where}: the server has trouble ({_said(error)})") from None
    except requests.exceptions.SSLError as error:
        raise UsageError(
            f"{where}: its certificate is not trusted; set REQUESTS_CA_BUNDLE to a file with its authority ({error})"
        ) from None
    except requests.exceptions.JSONDecodeError as error:
        raise UsageError(f"{where}: the answer is not JSON; is ARGO_SERVER the Argo Server? ({error})") from None
    except (requests.ConnectionError, requests.Timeout) as error:
        raise TryAgainError(f"{where}: no connection; check ARGO_SERVER and the network ({error})") from None
    except (ValueError, TypeError, KeyError) as error:
        raise UsageError(f"{where}: the answer is not an Argo Server's ({error!r}); check ARGO_SERVER") from None


def _said(error: HeraException) -> str:
    return str(error).removeprefix("Server returned ")
