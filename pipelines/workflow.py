"""The pipeline as one table of steps, and its Argo form through Hera: what the cluster and a local run execute."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hera.workflows import (
    DAG,
    ConfigMapEnv,
    Container,
    CronWorkflow,
    EmptyDirVolume,
    Parameter,
    Resources,
    RetryStrategy,
    SecretEnvFrom,
    Task,
    WorkflowTemplate,
)
from hera.workflows import models as argo

from pipelines.argo_models import exact
from pipelines.parameters import PARAMETERS
from pipelines.workflow_end import FINISH_NAME, finish_template, run_metrics, step_metrics

TEMPLATE_NAME = "ml-training-pipeline"
CRON_NAME = "ml-training-daily"
CONFIG_NAME = "ml-training-config"
SERVICE_ACCOUNT = "ml-training-sa"
# Kustomize puts registry and tag in its place; on its own it names nothing that could be pulled.
IMAGE = "training"
USER_ID = 10001

# The environment of every step, as the ConfigMap of the base gives it. An overlay sets the bucket: empty here, so that
# an unfinished overlay fails with a message instead of reaching for somebody's bucket.
CONFIG: dict[str, str] = {"S3_DATA_LAKE_BUCKET": "", "METRIC_THRESHOLD": "0.0", "LOG_LEVEL": "INFO"}
# For S3 servers other than AWS: where it is, and a Secret with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY. Absent on
# EKS, where IRSA provides region and credentials.
OPTIONAL_CONFIG: tuple[str, ...] = ("AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION")
CREDENTIALS_NAME = "lake-credentials"

_APP_LABELS = {"app.kubernetes.io/name": TEMPLATE_NAME, "app.kubernetes.io/part-of": "fashion-recommender"}
_MINUTE, _HOUR, _DAY = 60, 3600, 86400
# For a run with all its retries: it has ended, or failed, before the next night's is due.
RUN_DEADLINE_SECONDS = 20 * _HOUR
# A t3.micro has one slot for pods that are not the node's own, and the service is for it.
_OFF_T3_MICRO: dict[str, Any] = {
    "requiredDuringSchedulingIgnoredDuringExecution": {
        "nodeSelectorTerms": [
            {
                "matchExpressions": [
                    {"key": "node.kubernetes.io/instance-type", "operator": "NotIn", "values": ["t3.micro"]}
                ]
            }
        ]
    }
}

_UNPRIVILEGED: dict[str, Any] = {
    "allowPrivilegeEscalation": False,
    "runAsNonRoot": True,
    "capabilities": {"drop": ["ALL"]},
}
# Argo's own containers in a step's pod. The controller leaves them open unless its ConfigMap says otherwise, and Pod
# Security `restricted` then refuses the pod. A controller with `initlessPod` has neither of them: remove this there.
_EXECUTOR: dict[str, Any] = {
    "resources": {"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}},
    # not readOnlyRootFilesystem: Argo itself leaves it off for these two (argoproj/argo-workflows#10787)
    "securityContext": _UNPRIVILEGED,
}
_EXECUTOR_PATCH = {
    "initContainers": [{"name": "init", **_EXECUTOR}],
    "containers": [{"name": "wait", **_EXECUTOR}],
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryRule:
    """When a failed attempt is tried again: "try again" exits and lost infrastructure, never a refused gate."""

    exit_codes: tuple[int, ...] = (75, 143)  # 143: SIGTERM, a drained or reclaimed node taking its pod along
    limit: int = 3
    backoff_seconds: int = 30
    factor: int = 2

    @property
    def expression(self) -> str:
        """The rule in Argo's expression language, where an exit code is text and -1 when the pod left none."""
        codes = ", ".join(str(code) for code in self.exit_codes)
        # A pod that ran into its deadline is killed with SIGTERM too, and would only run into it again.
        return (
            f'lastRetry.status == "Error" || (asInt(lastRetry.exitCode) in [{codes}]'
            ' && !(lastRetry.message contains "deadline"))'
        )

    def allows(self, *, status: str, exit_code: int, message: str) -> bool:
        """Answer as the expression does; status is Argo's, "Failed" or "Error"."""
        return status == "Error" or (exit_code in self.exit_codes and "deadline" not in message)


RETRY = RetryRule()


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step of the pipeline: `python -m {module}` with the run's id and the named parameters."""

    name: str
    module: str
    after: tuple[str, ...]
    parameters: tuple[str, ...]
    cpu_request: str
    memory_request: str
    memory_limit: str
    scratch_limit: str
    """size of the emptyDir on /tmp, the only place where the pod can write"""
    deadline_seconds: int
    """for one attempt"""

    @property
    def command(self) -> list[str]:
        return ["python", "-m", self.module]

    @property
    def args(self) -> list[str]:
        run = ["--lake", "{{workflow.parameters.lake}}", "--run-id", "{{workflow.name}}"]
        own = [text for name in self.parameters for text in (f"--{name}", f"{{{{workflow.parameters.{name}}}}}")]
        return run + own


# Memory: 1.3 times the peaks at 20,000 customers, as benchmarks/measured.json has them. Overlays set it for their own
# size of shop.
STEPS: tuple[Step, ...] = (
    Step(
        name="ingest",
        module="pipelines.steps.ingest",
        after=(),
        parameters=("source", "data-version", "max-rejected-share"),
        cpu_request="500m",
        memory_request="256Mi",
        memory_limit="512Mi",
        scratch_limit="10Gi",
        deadline_seconds=1 * _HOUR,
    ),
    Step(
        name="process",
        module="pipelines.steps.process",
        after=("ingest",),
        parameters=("cutoff-date", "horizon-days", "accept-gates"),
        cpu_request="500m",
        memory_request="256Mi",
        memory_limit="512Mi",
        scratch_limit="10Gi",
        deadline_seconds=1 * _HOUR,
    ),
    Step(
        name="eda",
        module="pipelines.steps.eda",
        after=("process",),
        parameters=(),
        cpu_request="500m",
        memory_request="384Mi",
        memory_limit="768Mi",
        scratch_limit="5Gi",
        deadline_seconds=30 * _MINUTE,
    ),
    Step(
        name="train",
        module="pipelines.steps.train",
        after=("process",),
        parameters=("hyperparameters", "model-version", "backtest", "metric-ceiling"),
        cpu_request="1500m",
        memory_request="2560Mi",
        memory_limit="3584Mi",
        scratch_limit="10Gi",
        deadline_seconds=6 * _HOUR,
    ),
)


def workflow_template(steps: Sequence[Step] = STEPS, retry: RetryRule = RETRY) -> dict[str, Any]:
    """Build the WorkflowTemplate, as the plain document that is rendered, run locally and referenced by runs."""
    with WorkflowTemplate(
        name=TEMPLATE_NAME,
        labels=_APP_LABELS,
        annotations={
            "argocd.argoproj.io/sync-wave": "0",  # before the CronWorkflow, which is refused without its template
            "workflows.argoproj.io/description": "Purchases in, bundle out: ingest, process, then eda beside train.",
        },
        entrypoint="main",
        on_exit=FINISH_NAME,
        arguments=[Parameter(name=p.name, value=p.default, description=p.description) for p in PARAMETERS],
        service_account_name=SERVICE_ACCOUNT,
        pod_metadata=exact(argo.Metadata, labels=_APP_LABELS),
        security_context=exact(
            argo.PodSecurityContext,
            runAsNonRoot=True,
            runAsUser=USER_ID,
            runAsGroup=USER_ID,
            fsGroup=USER_ID,
            seccompProfile={"type": "RuntimeDefault"},
        ),
        pod_spec_patch=json.dumps(_EXECUTOR_PATCH),
        affinity=exact(argo.Affinity, nodeAffinity=_OFF_T3_MICRO),
        active_deadline_seconds=RUN_DEADLINE_SECONDS,
        metrics=run_metrics(),
        # One run at a time, the nightly one and people's own alike: a second waits instead of fighting for the nodes.
        synchronization=exact(argo.Synchronization, mutexes=[{"name": TEMPLATE_NAME}]),
        # A failed pod stays until the run's time is over: its log is what people come for.
        pod_gc=exact(argo.PodGC, strategy="OnPodSuccess", deleteDelayDuration="600s"),
        ttl_strategy=exact(argo.TTLStrategy, secondsAfterSuccess=3 * _DAY, secondsAfterFailure=14 * _DAY),
    ) as template:
        for step in steps:
            _container(step, retry)
        with DAG(name="main"):
            for step in steps:
                Task(name=step.name, template=step.name, depends=" && ".join(step.after) or None)
        finish_template(_common(retry))
    document: dict[str, Any] = template.to_dict()
    argo.WorkflowTemplate.model_validate(document, extra="forbid")
    return document


def cron_workflow() -> dict[str, Any]:
    """Build the nightly CronWorkflow, which runs the template with its defaults; overlays patch its arguments."""
    cron = CronWorkflow(
        name=CRON_NAME,
        labels=_APP_LABELS,
        annotations={"argocd.argoproj.io/sync-wave": "1"},
        schedules=["0 2 * * *"],
        timezone="UTC",
        concurrency_policy="Forbid",
        starting_deadline_seconds=1 * _HOUR,  # a controller that was away at 02:00 starts the run until 03:00
        successful_jobs_history_limit=3,
        failed_jobs_history_limit=5,
        workflow_template_ref=exact(argo.WorkflowTemplateRef, name=TEMPLATE_NAME),
    )
    document: dict[str, Any] = cron.to_dict()
    argo.CronWorkflow.model_validate(document, extra="forbid")
    return document


def config_map() -> dict[str, Any]:
    """Build the ConfigMap that the steps' environment comes from."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": CONFIG_NAME,
            "annotations": {"argocd.argoproj.io/sync-wave": "-1"},
            "labels": dict(_APP_LABELS),
        },
        "data": dict(CONFIG),
    }


def _container(step: Step, retry: RetryRule) -> Container:
    return Container(
        name=step.name,
        command=step.command,
        args=step.args,
        resources=Resources(
            cpu_request=step.cpu_request, memory_request=step.memory_request, memory_limit=step.memory_limit
        ),
        volumes=[EmptyDirVolume(name="scratch", mount_path="/tmp", size_limit=argo.Quantity(root=step.scratch_limit))],
        active_deadline_seconds=step.deadline_seconds,
        metrics=step_metrics(step.name),
        **_common(retry),
    )


def _common(retry: RetryRule) -> dict[str, Any]:
    """What every pod of a run has: image, environment, rights, and when it is tried again."""
    required = [ConfigMapEnv(name=key, config_map_name=CONFIG_NAME, config_map_key=key) for key in CONFIG]
    optional = [
        ConfigMapEnv(name=key, config_map_name=CONFIG_NAME, config_map_key=key, optional=True)
        for key in OPTIONAL_CONFIG
    ]
    return {
        "image": IMAGE,
        "image_pull_policy": "IfNotPresent",
        "env": [*required, *optional],
        "env_from": [SecretEnvFrom(name=CREDENTIALS_NAME, optional=True)],
        "security_context": exact(argo.SecurityContext, readOnlyRootFilesystem=True, **_UNPRIVILEGED),
        "retry_strategy": RetryStrategy(
            limit=retry.limit,
            retry_policy="Always",
            expression=retry.expression,
            # No maxDuration: Argo counts it from the first attempt's start, so a long step would never be retried.
            backoff=exact(argo.Backoff, duration=f"{retry.backoff_seconds}s", factor=retry.factor),
        ),
    }
