"""Faults of Applications and projects, each seeded into a copy of the tree."""

from pathlib import Path

import pytest

from tests.pipelines.gitops.trees import (
    CRON,
    INFERENCE,
    PIPELINE,
    SERVING,
    Fault,
    assert_found,
    edit,
    edited,
    needs_schemas,
)

LOGGING, PROJECT = "bootstrap/platform/logging-app.yaml", "bootstrap/projects/ml-inference.yaml"
APPLICATIONS = "bootstrap/apps/ml-recommendation-inference.yaml"

FAULTS = {
    "repository that the project forbids": Fault(
        edit("bootstrap/projects/ml-platform.yaml", "    - https://fluent.github.io/helm-charts\n", ""),
        "bootstrap",
        "bootstrap/platform/logging-app.yaml",
        "source.repoURL",
        "which project ml-platform does not allow",
        "sourceRepos",
    ),
    "sync option that there is not": Fault(
        edit("policy/sync-policy.yaml", "- PruneLast=true", "- PruneLate=true"),
        "bootstrap",
        "bootstrap/apps/ml-recommendation-inference.yaml",
        "syncPolicy.syncOptions",
        "PruneLate=true is no option",
        "PruneLast",
    ),
    "namespace after what goes into it": Fault(
        edit(f"{INFERENCE}/base/namespace.yaml", 'sync-wave: "-2"', 'sync-wave: "3"'),
        SERVING,
        f"{INFERENCE}/base/service.yaml",
        "Service/ml-recommendation-inference",
        "is before its namespace's 3",
        "lowest",
    ),
    "bucket of another environment": Fault(
        edit("config/environments/staging.yaml", "fashion-recommender-staging", "fashion-recommender-production"),
        SERVING,
        "config/environments/staging.yaml",
        "lake.bucket",
        "is that of production, too",
        "of its own",
    ),
    "value that nothing was put in the place of": Fault(
        edit("bootstrap/kustomization.yaml", "          - spec.generators.0.git.repoURL\n", ""),
        "bootstrap",
        "bootstrap/apps/ml-recommendation-inference.yaml",
        "repoURL",
        "is still 'repository'",
        "replacements",
    ),
    "kind that the project forbids": Fault(
        edited(
            f"{INFERENCE}/base/service.yaml",
            lambda d: d.append(
                {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "api"}, "spec": {}}
            ),
        ),
        f"{SERVING} bootstrap",
        f"{INFERENCE}/base/service.yaml",
        "Ingress/api",
        "not allowed by project ml-inference",
        "AppProject",
    ),
    "namespace that the project forbids": Fault(
        edit(
            "bootstrap/projects/ml-inference.yaml", "      namespace: ml-inference-*\n", "      namespace: inference\n"
        ),
        f"{SERVING} bootstrap",
        f"{SERVING}/kustomization.yaml",
        "namespace",
        "is no destination of any AppProject",
        "destinations",
    ),
    "project that does not exist": Fault(
        edit("bootstrap/apps/ml-recommendation-inference.yaml", "project: ml-inference", "project: ml-inferense"),
        "bootstrap",
        "bootstrap/apps/ml-recommendation-inference.yaml",
        "project",
        "names AppProject 'ml-inferense'",
        "there are:",
    ),
    "generator that finds nothing": Fault(
        edit("bootstrap/apps/ml-recommendation-inference.yaml", "/overlays/*", "/overlay/*"),
        "bootstrap",
        "bootstrap/apps/ml-recommendation-inference.yaml",
        "generators[0].git.directories",
        "finds no folder",
        "overlays",
    ),
    "misspelled keys that render as nothing": Fault(
        edit("bootstrap/apps/ml-recommendation-inference.yaml", "missingkey=error", "missingkey=default"),
        "bootstrap",
        "bootstrap/apps/ml-recommendation-inference.yaml",
        "goTemplateOptions",
        "misspelled key",
        "missingkey=error",
    ),
    "path that does not exist": Fault(
        edit("bootstrap/platform/logging-app.yaml", "path: gitops/manifests/logging", "path: gitops/manifests/logs"),
        "bootstrap",
        "bootstrap/platform/logging-app.yaml",
        "source.path",
        "does not exist",
        "name a folder",
    ),
    "platform application that deploys nothing": Fault(
        lambda root: (root / "manifests/logging/kustomization.yaml").write_text("resources: [../../config/defaults]\n"),
        "bootstrap manifests/logging",
        "bootstrap/platform/logging-app.yaml",
        "source.path",
        "the Application is empty",
        "put manifests there",
    ),
    "Application where Argo CD does not look": Fault(
        edit(LOGGING, "namespace: argocd", "namespace: logging"),
        "bootstrap",
        LOGGING,
        "metadata.namespace",
        "is logging, where Argo CD does not look",
        "write argocd",
    ),
    "destination that is given twice": Fault(
        edit(LOGGING, "    server: https", "    name: in-cluster\n    server: https"),
        "bootstrap",
        LOGGING,
        "spec.destination",
        "has server and name",
        "keep server",
    ),
    "values of no source": Fault(
        edit(LOGGING, "$values/gitops", "$value/gitops"),
        "bootstrap",
        LOGGING,
        "helm.valueFiles",
        "begins with no ref of a source",
        "there are: $values",
    ),
    "values that do not exist": Fault(
        edit(LOGGING, "logging/values.yaml", "logging/value.yaml"),
        "bootstrap",
        LOGGING,
        "helm.valueFiles",
        "names gitops/manifests/logging/value.yaml, which does not exist",
        "name a file",
    ),
    "project of every kind": Fault(
        edited(PROJECT, lambda d: d[0]["spec"].update(namespaceResourceWhitelist=[{"group": "*", "kind": "*"}])),
        "bootstrap",
        PROJECT,
        "spec.namespaceResourceWhitelist",
        "allows every kind",
        "list exactly",
    ),
    "one name for every Application": Fault(
        edit(APPLICATIONS, "ml-recommendation-{{ .path.basename }}-inference", "ml-recommendation-inference"),
        "bootstrap",
        APPLICATIONS,
        "template.metadata.name",
        "only one Application is made",
        "{{ .path.basename }}",
    ),
    "folder that takes its Application along": Fault(
        edit(APPLICATIONS, "    applicationsSync: create-update\n", ""),
        "bootstrap",
        APPLICATIONS,
        "syncPolicy.applicationsSync",
        "takes the Application and all of its objects with it",
        "create-update",
    ),
    "namespace that goes with its file": Fault(
        edit(f"{INFERENCE}/base/namespace.yaml", "Prune=confirm,", ""),
        SERVING,
        f"{INFERENCE}/base/namespace.yaml",
        "sync-options",
        "does not say Prune=confirm",
        "add Prune=confirm",
    ),
    "option of an object that there is not": Fault(
        edit(f"{INFERENCE}/base/namespace.yaml", "Delete=confirm", "Delet=confirm"),
        SERVING,
        f"{INFERENCE}/base/namespace.yaml",
        "sync-options",
        "Delet=confirm is no option",
        "Delete",
    ),
    "policy that is bound by another name": Fault(
        edit("policy/admission/limits-set.yaml", "policyName: fashion-recommender-", "policyName: "),
        "bootstrap",
        "policy/admission/limits-set.yaml",
        "ValidatingAdmissionPolicy/fashion-recommender-limits-set",
        "is bound to nothing",
        "policyName: fashion-recommender-limits-set",
    ),
    "policy that only writes down": Fault(
        edit("policy/admission/limits-set.yaml", "    - Deny\n", ""),
        "bootstrap",
        "policy/admission/limits-set.yaml",
        "spec.validationActions",
        "has no Deny",
        "add Deny",
    ),
    "policy that fails open": Fault(
        edit("policy/admission/limits-set.yaml", "failurePolicy: Fail", "failurePolicy: Ignore"),
        "bootstrap",
        "policy/admission/limits-set.yaml",
        "spec.failurePolicy",
        "lets everything in",
        "set it to Fail",
    ),
    "window whose length cannot be read": Fault(
        edit("bootstrap/projects/ml-inference.yaml", "duration: 60h", "duration: 60hours"),
        "bootstrap",
        "bootstrap/projects/ml-inference.yaml",
        "syncWindows[0].duration",
        "'60hours' is no duration",
        "60h",
    ),
    "window at an hour that there is not": Fault(
        edit("bootstrap/projects/ml-inference.yaml", "0 18 * * 5", "0 25 * * 5"),
        "bootstrap",
        "bootstrap/projects/ml-inference.yaml",
        "syncWindows[0].schedule",
        "has hour 25",
        "correct the field",
    ),
    "window in a zone that there is not": Fault(
        edit("bootstrap/projects/ml-inference.yaml", "timeZone: UTC", "timeZone: Mars"),
        "bootstrap",
        "bootstrap/projects/ml-inference.yaml",
        "syncWindows[0].timeZone",
        "'Mars' is no time zone",
        "Europe/Berlin",
    ),
    "window of nothing": Fault(
        edit("bootstrap/projects/ml-inference.yaml", "      namespaces:\n        - ml-inference-prod\n", ""),
        "bootstrap",
        "bootstrap/projects/ml-inference.yaml",
        "syncWindows[0]",
        "does nothing",
        "name the namespaces",
    ),
    "pause that is no duration": Fault(
        edit("policy/sync-policy.yaml", "duration: 10s", "duration: 10 s"),
        "bootstrap",
        APPLICATIONS,
        "syncPolicy.retry.backoff.duration",
        "'10 s' is no duration",
        "10s",
    ),
    "key that no generator gives": Fault(
        edit(APPLICATIONS, "ml-recommendation-{{ .path.basename }}", "ml-recommendation-{{ .path.basenam }}"),
        "bootstrap",
        APPLICATIONS,
        "spec.template.metadata.name",
        "reads .path.basenam, which no generator gives",
        ".path.basename",
    ),
    "template of the time before Go": Fault(
        edit(APPLICATIONS, 'path: "{{ .path.path }}"', 'path: "{{path}}"'),
        "bootstrap",
        APPLICATIONS,
        "source.path",
        "has path without a dot",
        "write .path",
    ),
    "template that is not closed": Fault(
        edit(APPLICATIONS, 'path: "{{ .path.path }}"', 'path: "{{ .path.path }"'),
        "bootstrap",
        APPLICATIONS,
        "source.path",
        "has an action that is not closed",
        "in pairs",
    ),
    "templated namespace that the project forbids": Fault(
        edit(APPLICATIONS, "'ml-inference-{{ if", "'inference-{{ if"),
        "bootstrap",
        APPLICATIONS,
        "destination.namespace",
        "is no destination of project ml-inference",
        "ml-inference-*",
    ),
    "chart that is not pinned": Fault(
        edit("bootstrap/platform/logging-app.yaml", "targetRevision: 0.", "targetRevision: '>=0.1' # "),
        "bootstrap",
        "bootstrap/platform/logging-app.yaml",
        "targetRevision",
        "is no version of chart fluent-bit",
        "pin the chart",
    ),
}
OF_SCHEMAS = {
    "Application with invented fields": Fault(
        edited(
            "bootstrap/platform/logging-app.yaml", lambda d: d[0]["spec"].update(healthChecks=[{"kind": "Deployment"}])
        ),
        "bootstrap",
        "bootstrap/platform/logging-app.yaml",
        "Application/logging-platform.spec.healthChecks",
        "is not a field of this kind",
        "remove it",
    ),
    "field of an Application, misspelled": Fault(
        edited("bootstrap/platform/logging-app.yaml", lambda d: d[0]["spec"].update(revisionHistoryLimits=3)),
        "bootstrap",
        "bootstrap/platform/logging-app.yaml",
        "spec.revisionHistoryLimits",
        "is not a field of this kind",
        "did you mean revisionHistoryLimit?",
    ),
    "version of Argo's kinds that there is not": Fault(
        edit(CRON, "argoproj.io/v1alpha1", "argoproj.io/v1"),
        PIPELINE,
        CRON,
        "CronWorkflow/ml-training-daily.apiVersion",
        "is argoproj.io/v1, and CronWorkflow is of argoproj.io/v1alpha1",
        "write argoproj.io/v1alpha1",
    ),
    "schedule of a cron that is none": Fault(
        edited(CRON, lambda d: d[0]["spec"].update(concurrencyPolicy="Never")),
        PIPELINE,
        CRON,
        "spec.concurrencyPolicy",
        "is not one of",
        "correct the field",
    ),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_fault_is_found(fault: Fault, tmp_path: Path) -> None:
    assert_found(fault, tmp_path)


@needs_schemas
@pytest.mark.parametrize("fault", OF_SCHEMAS.values(), ids=OF_SCHEMAS)
def test_fault_is_found_by_the_schema_of_a_custom_kind(fault: Fault, tmp_path: Path) -> None:
    assert_found(fault, tmp_path)
