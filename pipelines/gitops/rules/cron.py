"""What a CronWorkflow needs beyond its schema: a short name, a schedule, an order, no second run beside the first."""

import re
from collections.abc import Iterator
from zoneinfo import available_timezones

from pipelines.gitops.findings import Finding
from pipelines.gitops.rules.names import wave_of
from pipelines.gitops.tree import Document, Rendered, label, name_of

CRON_NAME_LENGTH = 52  # a run's name adds a time stamp, and 63 is the limit of a label
FIELDS = (("minute", 0, 59), ("hour", 0, 23), ("day", 1, 31), ("month", 1, 12), ("weekday", 0, 6))
CRON = re.compile(r"^(@\w+.*|(\S+\s+){4}\S+)$")


def check_cron(file: str, rendered: Rendered, document: Document) -> Iterator[Finding]:
    where, spec = label(document), document["spec"]
    if len(name_of(document)) > CRON_NAME_LENGTH:
        what = f"has {len(name_of(document))} characters, and a CronWorkflow's name may have {CRON_NAME_LENGTH}"
        yield Finding(file, f"{where}.metadata.name", what, "shorten it")
    for schedule in spec.get("schedules", []):
        if fault := schedule_fault(schedule):
            yield Finding(file, f"{where}.spec.schedules", f"{schedule!r} {fault}", "correct the field")
    if "timezone" in spec and is_no_zone(spec["timezone"]):
        what = f"{spec['timezone']!r} is no time zone: no run is ever started"
        yield Finding(file, f"{where}.spec.timezone", what, "write a name of the tz database, such as Europe/Berlin")
    for field, why in (
        ("concurrencyPolicy", "is missing, and Allow is the default: two runs at once"),
        ("startingDeadlineSeconds", "is missing: a run that the controller missed is never made up for"),
        ("timezone", "is missing: the hour is the controller's"),
    ):
        if field not in spec:
            yield Finding(file, f"{where}.spec.{field}", why, f"set {field}")
    reference = spec.get("workflowSpec", {}).get("workflowTemplateRef")
    template = rendered.find("WorkflowTemplate", reference["name"]) if reference else None
    if template is not None and (wave_of(template) or 0) >= (wave_of(document) or 0):
        yield Finding(
            file,
            f"{where}.metadata.annotations",
            f"sync wave {wave_of(document)} is not after the template's {wave_of(template)}: it gets SpecError",
            "give the template the lower argocd.argoproj.io/sync-wave",
        )


def is_no_zone(name: str) -> bool:
    """Say whether the tz database lacks a name; no on a machine without one."""
    zones = available_timezones()
    return bool(zones) and name not in zones


def schedule_fault(schedule: str) -> str:
    """Say what is wrong with a schedule of cron, empty when nothing is.

    >>> schedule_fault("0 2 * * *"), schedule_fault("0 26 * * *")
    ('', 'has hour 26, which goes from 0 to 23')
    """
    if not CRON.match(schedule):
        return "has not five fields: minute hour day month weekday"
    fault = _out_of_range(schedule)
    return f"has {fault}" if fault else ""


def _out_of_range(schedule: str) -> str:
    """Say which field holds a number that there is not; names of months and days, and @daily, are taken as they are."""
    if schedule.startswith("@"):
        return ""
    for text, (name, low, high) in zip(schedule.split(), FIELDS, strict=True):
        for part in text.split(","):
            span, _, step = part.partition("/")
            numbers = [int(number) for number in re.findall(r"\d+", span)]
            if any(not low <= number <= high for number in numbers):
                return f"{name} {text}, which goes from {low} to {high}"
            if numbers != sorted(numbers) or (step and (not step.isdecimal() or int(step) == 0)):
                return f"{name} {text}, which is no range"
    return ""
