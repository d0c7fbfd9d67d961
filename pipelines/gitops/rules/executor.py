"""May Argo's own containers in a step's pod start and report: their rights, limits, token and Role?"""

from collections.abc import Iterator, Mapping
from typing import Any

from pipelines.gitops.findings import Finding
from pipelines.gitops.rules.quotas import filled_in
from pipelines.gitops.rules.restricted import ENFORCE, RESTRICTED
from pipelines.gitops.tree import Document, Rendered, Tree, kind_of
from pipelines.gitops.workloads import WORKFLOW_KINDS, Workload, executor_containers, read_patch, workflow_spec
from pipelines.gitops.workloads import workloads_in as pods_in

Spec = Mapping[str, Any]


def check_executor(tree: Tree, rendered: Rendered) -> Iterator[Finding]:
    """Check every workflow kind of one rendered overlay that has templates."""
    for document in rendered.of_kind(*WORKFLOW_KINDS):
        file = tree.shown(rendered.file_of(document))
        path, spec = workflow_spec(document)
        if spec.get("templates"):
            yield from _patch(file, f"{path}.podSpecPatch", spec)
            for template in spec["templates"]:
                yield from _patch(file, f"{path}.templates[{template.get('name')}].podSpecPatch", template)
            yield from _account(file, path, rendered, spec)
    seen: set[str] = set()
    for workload in pods_in(rendered):
        yield from _containers(tree.shown(rendered.file_of(workload.document)), rendered, workload, seen)


def _others(spec: Spec) -> set[str]:
    """Give the containers that templates bring along beside `main`."""
    templates = [*spec.get("templates", []), spec]
    keys = ("sidecars", "initContainers")
    own = {str(c.get("name")) for template in templates for key in keys for c in template.get(key) or []}
    sets = [c for t in templates for c in (t.get("containerSet") or {}).get("containers", [])]
    return own | {str(container.get("name")) for container in sets}


def _patch(file: str, where: str, spec: Spec) -> Iterator[Finding]:
    """Check that a podSpecPatch can be read once a run's values are in it, and names containers that pods have."""
    patch, own = read_patch(str(spec.get("podSpecPatch", "{}"))), {"main"} | _others(spec)
    if patch is None:
        yield Finding(file, where, "is neither JSON nor YAML of a pod: every run fails", "correct the text")
        return
    for key, argos in (("initContainers", {"init"}), ("containers", {"wait"})):
        if not isinstance(patch.get(key, []), list):
            yield Finding(file, f"{where}.{key}", "is no list of containers: every run fails", "correct the text")
            continue
        for container in patch.get(key, []):
            name = str(container.get("name"))
            if name not in own | argos and "image" not in container:
                what = f"names container {name!r}, which no pod has: it would be added, without an image"
                yield Finding(file, f"{where}.{key}", what, f"there are: {', '.join(sorted(own | argos))}")


def _containers(file: str, rendered: Rendered, workload: Workload, seen: set[str]) -> Iterator[Finding]:
    """Check `init` and `wait` against Pod Security, and that the quota finds what they ask for."""
    pod = workload.pod.get("securityContext") or {}
    labels = [n["metadata"].get("labels", {}) for n in rendered.of_kind("Namespace")]
    is_restricted = any(one.get(ENFORCE) == RESTRICTED for one in labels)
    hard = {name for quota in rendered.of_kind("ResourceQuota") for name in quota["spec"].get("hard", {})}
    filled = filled_in(rendered)
    for path, container in executor_containers(workload):
        if path in seen:
            continue
        seen.add(path)
        own = container.get("securityContext") or {}
        wanted = (
            ("allowPrivilegeEscalation", own.get("allowPrivilegeEscalation"), False),
            ("capabilities.drop", (own.get("capabilities") or {}).get("drop"), ["ALL"]),
            ("runAsNonRoot", own.get("runAsNonRoot", pod.get("runAsNonRoot")), True),
        )
        for field, found, expected in wanted:
            if is_restricted and found != expected:
                what = f"is {found!r}, and Pod Security restricted wants {expected!r} of Argo's container, too"
                yield Finding(file, f"{path}.securityContext.{field}", what, f"set it to {expected!r}")
        for name in sorted(hard & {"requests.cpu", "requests.memory", "limits.cpu", "limits.memory"}):
            group, _, resource = name.partition(".")
            asked = (container.get("resources") or {}).get(group) or {}
            if resource not in asked and resource not in filled[group]:
                what = f"is missing, the quota counts {name}, and no LimitRange fills it in: no pod is ever made"
                yield Finding(file, f"{path}.resources.{name}", what, f"set {name}")


def _account(file: str, path: str, rendered: Rendered, spec: Spec) -> Iterator[Finding]:
    """Check that the executor has a token, and may create and patch workflowtaskresults with it."""
    own = (spec.get("executor") or {}).get("serviceAccountName")
    account = own or spec.get("serviceAccountName")
    if not account:
        what = "is missing: pods would run as the namespace's default account, which may not report results"
        yield Finding(file, f"{path}.serviceAccountName", what, "name the ServiceAccount of the steps")
        return
    given = rendered.find("ServiceAccount", account) or {}
    if not own and spec.get("automountServiceAccountToken", given.get("automountServiceAccountToken")) is False:
        what = f"{account} has no token in pods, and Argo's executor reports with it"
        mend = "leave out automountServiceAccountToken: false, or name an account under executor"
        yield Finding(file, f"{path}.serviceAccountName", what, mend)
    if lacking := {"create", "patch"} - _verbs(rendered, account):
        what = f"{account} may not {' or '.join(sorted(lacking))} workflowtaskresults.argoproj.io"
        yield Finding(
            file, f"{path}.serviceAccountName", what, "bind it to a Role that may: Argo's executor reports by them"
        )


def _verbs(rendered: Rendered, account: str) -> set[str]:
    verbs: set[str] = set()
    for binding in rendered.of_kind("RoleBinding"):
        if any(_is(subject, account) for subject in binding.get("subjects", [])):
            role: Document = rendered.find(binding["roleRef"]["kind"], binding["roleRef"]["name"]) or {}
            for rule in role.get("rules", []):
                if "workflowtaskresults" in rule.get("resources", []) and "argoproj.io" in rule.get("apiGroups", []):
                    verbs |= set(rule["verbs"])
    return verbs | ({"create", "patch"} if "*" in verbs else set())


def _is(subject: Spec, account: str) -> bool:
    return kind_of(dict(subject)) == "ServiceAccount" and subject.get("name") == account
