"""Faults of a workflow's `{{…}}`, each seeded into a copy of the tree: Argo leaves what it does not know as it is."""

from pathlib import Path

import pytest

from tests.pipelines.gitops.trees import (
    PIPELINE,
    TEMPLATE,
    WORKFLOW,
    Fault,
    Seed,
    assert_found,
    edit,
    edited,
    template_of,
)


def argument(template: str, text: str) -> Seed:
    return edited(WORKFLOW, lambda d: template_of(d, template)["container"]["args"].append(text))


def fault(seed: Seed, field: str, what: str, mend: str) -> Fault:
    return Fault(seed, PIPELINE, WORKFLOW, field, what, mend)


FAULTS = {
    "name of a workflow, misspelled": fault(
        edit(WORKFLOW, "{{workflow.name}}", "{{workflow.nmae}}"),
        f"{TEMPLATE}[train].container.args",
        "{{workflow.nmae}} is no variable of Argo",
        "did you mean workflow.name?",
    ),
    "scope that there is not": fault(
        argument("eda", "{{workfow.uid}}"), f"{TEMPLATE}[eda]", "{{workfow.uid}} is no variable", "workflow.uid?"
    ),
    "in an expression": fault(
        argument("eda", "{{=sprig.upper(workflow.nam)}}"),
        f"{TEMPLATE}[eda]",
        "{{workflow.nam}} is no",
        "workflow.name?",
    ),
    "outcome before there is one": fault(
        argument("eda", "{{workflow.status}}"),
        f"{TEMPLATE}[eda]",
        "only when a run has ended",
        "the template of onExit",
    ),
    "failures before there are any": fault(
        argument("ingest", "{{workflow.failures}}"), f"{TEMPLATE}[ingest]", "only when a run has ended", "onExit"
    ),
    "item of no loop": fault(
        argument("ingest", "{{item.day}}"), f"{TEMPLATE}[ingest]", "without withItems", "give the task a loop"
    ),
    "output that the metric does not have": fault(
        edit(WORKFLOW, "value: '{{outputs.parameters.promoted}}'", "value: '{{outputs.parameters.promotd}}'"),
        f"{TEMPLATE}[finish].metrics.prometheus[fashion_training_promoted]",
        "{{outputs.parameters.promotd}}, which is not declared",
        "map_at_12, promoted",
    ),
    "parameter that the patch of pods does not have": fault(
        edit(WORKFLOW, '"10m"', '"{{workflow.parameters.cpus}}"'),
        "spec.podSpecPatch",
        "{{workflow.parameters.cpus}}, which is not declared",
        "horizon-days",
    ),
    "duration outside of a metric": fault(
        argument("eda", "{{duration}}"), f"{TEMPLATE}[eda]", "{{duration}} is no variable", "workflow.duration"
    ),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_fault_is_found(fault: Fault, tmp_path: Path) -> None:
    assert_found(fault, tmp_path)
