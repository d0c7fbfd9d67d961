"""Faults of workflows that a schema accepts, each seeded into a copy of the tree."""

from pathlib import Path

import pytest

from tests.pipelines.gitops.trees import (
    CRON,
    PIPELINE,
    TEMPLATE,
    TRAINING,
    WORKFLOW,
    Fault,
    assert_found,
    edit,
    edited,
    template_of,
)

FAULTS = {
    "typo in a field of a workflow": Fault(
        edit(WORKFLOW, "podGC:", "podGarbage:"),
        PIPELINE,
        WORKFLOW,
        "spec.podGarbage",
        "Extra inputs are not permitted",
        "correct the field",
    ),
    "key that the ConfigMap lacks": Fault(
        edit(WORKFLOW, "key: METRIC_THRESHOLD", "key: METRIC_TRESHOLD"),
        PIPELINE,
        WORKFLOW,
        f"{TEMPLATE}[train].container.env[METRIC_THRESHOLD]",
        "reads key 'METRIC_TRESHOLD'",
        "add the key",
    ),
    "ServiceAccount that does not exist": Fault(
        edit(f"{TRAINING}/base/serviceaccount.yaml", "name: ml-training-sa", "name: ml-training-account"),
        PIPELINE,
        WORKFLOW,
        "serviceAccountName",
        "names ServiceAccount ml-training-sa",
        "there are:",
    ),
    "Role that does not exist": Fault(
        edited(f"{TRAINING}/base/executor-role.yaml", lambda d: d[0]["metadata"].update(name="executor")),
        PIPELINE,
        f"{TRAINING}/base/executor-role.yaml",
        "RoleBinding/ml-training-executor.roleRef",
        "names Role",
        "there are: executor",
    ),
    "executor that may not report": Fault(
        edit(f"{TRAINING}/base/executor-role.yaml", "workflowtaskresults", "workflowtasksets"),
        PIPELINE,
        WORKFLOW,
        "serviceAccountName",
        "may not create or patch workflowtaskresults",
        "bind it to a Role",
    ),
    "volume that is not declared": Fault(
        edited(WORKFLOW, lambda d: template_of(d, "train").pop("volumes")),
        PIPELINE,
        WORKFLOW,
        f"{TEMPLATE}[train].container.volumeMounts[scratch]",
        "mounts a volume",
        "declare it under volumes",
    ),
    "parameter that is not declared": Fault(
        edit(WORKFLOW, "{{workflow.parameters.backtest}}", "{{workflow.parameters.back-test}}"),
        PIPELINE,
        WORKFLOW,
        f"{TEMPLATE}[train].container.args",
        "{{workflow.parameters.back-test}}, which is not declared",
        "backtest",
    ),
    "parameter of the cron run that the template lacks": Fault(
        edit(f"{PIPELINE}/kustomization.yaml", "- name: source\n", "- name: sources\n"),
        PIPELINE,
        CRON,
        "arguments.parameters[sources]",
        "is no parameter of the template",
        "there are:",
    ),
    "template that does not exist": Fault(
        edited(WORKFLOW, lambda d: template_of(d, "main")["dag"]["tasks"][0].update(template="read")),
        PIPELINE,
        WORKFLOW,
        f"{TEMPLATE}[main].dag.tasks[ingest].template",
        "names template 'read'",
        "there are:",
    ),
    "task that waits for none": Fault(
        edited(WORKFLOW, lambda d: template_of(d, "main")["dag"]["tasks"][1].update(depends="ingst")),
        PIPELINE,
        WORKFLOW,
        f"{TEMPLATE}[main].dag.tasks[process].depends",
        "waits for task 'ingst'",
        "there are:",
    ),
    "container without command": Fault(
        edited(WORKFLOW, lambda d: template_of(d, "eda")["container"].pop("command")),
        PIPELINE,
        WORKFLOW,
        f"{TEMPLATE}[eda].container.command",
        "is missing",
        "write the command",
    ),
    "step without deadline": Fault(
        edited(WORKFLOW, lambda d: template_of(d, "eda").pop("activeDeadlineSeconds")),
        PIPELINE,
        WORKFLOW,
        f"{TEMPLATE}[eda].activeDeadlineSeconds",
        "is missing",
        "longest time",
    ),
    "exit code compared as a number": Fault(
        edited(
            WORKFLOW, lambda d: template_of(d, "eda")["retryStrategy"].update(expression="lastRetry.exitCode == 75")
        ),
        PIPELINE,
        WORKFLOW,
        f"{TEMPLATE}[eda].retryStrategy.expression",
        "which is text",
        "asInt",
    ),
    "retry expression without policy": Fault(
        edited(WORKFLOW, lambda d: template_of(d, "eda")["retryStrategy"].pop("retryPolicy")),
        PIPELINE,
        WORKFLOW,
        f"{TEMPLATE}[eda].retryStrategy.retryPolicy",
        "is missing",
        "write the policy",
    ),
    "cron name that is too long": Fault(
        edited(CRON, lambda d: d[0]["metadata"].update(name="ml-training-" + "daily-" * 8)),
        PIPELINE,
        CRON,
        "metadata.name",
        "characters",
        "shorten it",
    ),
    "cron that is applied before its template": Fault(
        edit(CRON, "argocd.argoproj.io/sync-wave: '1'", "argocd.argoproj.io/sync-wave: '-1'"),
        PIPELINE,
        CRON,
        "metadata.annotations",
        "is not after the template's",
        "lower",
    ),
    "cron form of Argo 3": Fault(
        edited(CRON, lambda d: d[0]["spec"].update(schedule=d[0]["spec"]["schedules"][0])),
        PIPELINE,
        CRON,
        "CronWorkflow/ml-training-daily.spec.schedule",
        "was removed in Argo Workflows 4",
        "schedules:",
    ),
    "mutex form of Argo 3": Fault(
        edited(WORKFLOW, lambda d: d[0]["spec"].update(synchronization={"mutex": {"name": "one"}})),
        PIPELINE,
        WORKFLOW,
        "spec.synchronization.mutex",
        "was removed in Argo Workflows 4",
        "mutexes:",
    ),
    "cron that runs twice at once": Fault(
        edit(CRON, "  concurrencyPolicy: Forbid\n", ""),
        PIPELINE,
        CRON,
        "spec.concurrencyPolicy",
        "two runs at once",
        "set concurrencyPolicy",
    ),
    "artifacts that are collected": Fault(
        edited(WORKFLOW, lambda d: d[0]["spec"].update(artifactGC={"strategy": "OnWorkflowDeletion"})),
        PIPELINE,
        WORKFLOW,
        "spec.artifactGC.strategy",
        "models too",
        "Never",
    ),
    "binding whose role is misspelled": Fault(
        edit(f"{TRAINING}/base/executor-role.yaml", "roleRef:", "roelRef:"),
        PIPELINE,
        f"{TRAINING}/base/executor-role.yaml",
        "RoleBinding/ml-training-executor",
        "'roleRef' is a required property",
        "correct the field",
    ),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_fault_is_found(fault: Fault, tmp_path: Path) -> None:
    assert_found(fault, tmp_path)
