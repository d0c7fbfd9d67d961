"""The end of a run on a cluster: the exit handler's template, and what Argo's controller exports for Prometheus.

The controller puts `argo_workflows_` before each name. Its series are of the newest run and start anew with the
controller; what must outlast it (when a run last started, how many failed) is in the CronWorkflow's own status.
"""

from typing import Any

from hera.workflows import Container, EmptyDirVolume, Parameter, Resources
from hera.workflows import models as argo

from pipelines.argo_models import exact
from pipelines.finish import FIGURES

FINISH_NAME = "finish"
FINISH_MODULE = "pipelines.finish"
OUTPUTS_FOLDER = "/tmp/outputs"
METRIC_PREFIX = "fashion_training_"
NOT_TOLD = "NaN"  # a figure that the run did not get to; Prometheus' own word for it

_NAMESPACE = {"key": "namespace", "value": "{{workflow.namespace}}"}


def finish_template(common: dict[str, Any]) -> Container:
    """Build the exit handler: it runs last, whatever became of the run, and says what came of it.

    `common` is what every pod of a run has: image, environment, rights, retries.
    """
    return Container(
        name=FINISH_NAME,
        command=["python", "-m", FINISH_MODULE],
        args=[
            *("--lake", "{{workflow.parameters.lake}}", "--run-id", "{{workflow.name}}"),
            *("--status", "{{workflow.status}}", "--seconds", "{{workflow.duration}}"),
            *("--failures", "{{workflow.failures}}", "--outputs", OUTPUTS_FOLDER),
        ],
        outputs=[
            Parameter(name=name, value_from=argo.ValueFrom(path=f"{OUTPUTS_FOLDER}/{name}", default=NOT_TOLD))
            for name in FIGURES
        ],
        resources=Resources(cpu_request="100m", memory_request="128Mi", memory_limit="512Mi"),
        volumes=[EmptyDirVolume(name="scratch", mount_path="/tmp", size_limit=argo.Quantity(root="64Mi"))],
        active_deadline_seconds=600,
        metrics=exact(
            argo.Metrics,
            prometheus=[
                {
                    "name": f"{METRIC_PREFIX}{name}",
                    "help": meaning,
                    "labels": [_NAMESPACE],
                    "when": f"{{{{outputs.parameters.{name}}}}} != {NOT_TOLD}",
                    "gauge": {"value": f"{{{{outputs.parameters.{name}}}}}", "realtime": False},
                }
                for name, meaning in FIGURES.items()
            ],
        ),
        **common,
    )


def run_metrics() -> argo.Metrics:
    """Export how long the newest run of each status took."""
    return exact(argo.Metrics, prometheus=[_seconds("run_seconds", "workflow.", "How long the newest run took.")])


def step_metrics(step: str) -> argo.Metrics:
    """Export how long the newest attempt of a step took, by how it ended."""
    gauge = _seconds("step_seconds", "", "How long the newest attempt of a step took.")
    gauge["labels"].append({"key": "step", "value": step})
    return exact(argo.Metrics, prometheus=[gauge])


def _seconds(name: str, scope: str, meaning: str) -> dict[str, Any]:
    return {
        "name": f"{METRIC_PREFIX}{name}",
        "help": meaning,
        "labels": [_NAMESPACE, {"key": "status", "value": f"{{{{{scope}status}}}}"}],
        "gauge": {"value": f"{{{{{scope}duration}}}}", "realtime": False},
    }
