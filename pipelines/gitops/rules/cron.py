"""What a CronWorkflow needs beyond its schema: a short name, a schedule, an order, no second run beside the first."""

import re
from collections.abc import Iterator

from pipelines.gitops.findings import Finding
from pipelines.gitops.tree import Document, Rendered, label, name_of

CRON_NAME_LENGTH = 52  # a run's name adds a time stamp, and 63 is the limit of a label
CRON = re.compile(r"^(@\w+.*|(\S+\s+){4}\S+)$")


def check_cron(file: str, rendered: Rendered, document: Document) -> Iterator[Finding]:
    where, spec = label(document), document["spec"]
    if len(name_of(document)) > CRON_NAME_LENGTH:
        what = f"has {len(name_of(document))} characters, and a CronWorkflow's name may have {CRON_NAME_LENGTH}"
        yield Finding(file, f"{where}.metadata.name", what, "shorten it")
    for schedule in spec.get("schedules", []):
        if not CRON.match(schedule):
            yield Finding(
                file,
                f"{where}.spec.schedules",
                f"{schedule!r} has not five fields",
                "write minute hour day month weekday",
            )
    for field, why in (
        ("concurrencyPolicy", "is missing, and Allow is the default: two runs at once"),
        ("startingDeadlineSeconds", "is missing: a run that the controller missed is never made up for"),
        ("timezone", "is missing: the hour is the controller's"),
    ):
        if field not in spec:
            yield Finding(file, f"{where}.spec.{field}", why, f"set {field}")
    reference = spec.get("workflowSpec", {}).get("workflowTemplateRef")
    template = rendered.find("WorkflowTemplate", reference["name"]) if reference else None
    if template is not None and _wave(template) >= _wave(document):
        yield Finding(
            file,
            f"{where}.metadata.annotations",
            f"sync wave {_wave(document)} is not after the template's {_wave(template)}: it gets SpecError",
            "give the template the lower argocd.argoproj.io/sync-wave",
        )


def _wave(document: Document) -> int:
    return int(document["metadata"].get("annotations", {}).get("argocd.argoproj.io/sync-wave", 0))
